//! Rows by key that remember how to undo what the open transaction did.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::RangeBounds;

/// Rows of a kind.
#[derive(Debug)]
pub struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// What stood there before each change of the open transaction.
    undo: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), undo: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    /// The row of that key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Whether there is one.
    pub fn has(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// All rows, by key.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    /// Those of some keys.
    pub fn range(&self, keys: impl RangeBounds<K>) -> Range<'_, K, V> {
        self.rows.range(keys)
    }

    /// Puts a row in the place of that key.
    pub fn put(&mut self, key: K, row: V) {
        let before = self.rows.insert(key.clone(), row);
        self.undo.push((key, before));
    }

    /// Changes a row, if there is one.
    pub fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        if let Some(row) = self.rows.get_mut(key) {
            self.undo.push((key.clone(), Some(row.clone())));
            change(row);
        }
    }

    /// Removes a row, if there is one.
    pub fn remove(&mut self, key: &K) {
        if let Some(before) = self.rows.remove(key) {
            self.undo.push((key.clone(), Some(before)));
        }
    }

    /// Removes some of those that are meant, and says how many.
    pub fn remove_some(&mut self, max: u32, is_meant: impl Fn(&K, &V) -> bool) -> usize {
        let meant = self.rows.iter().filter(|(key, row)| is_meant(key, row)).take(max as usize);
        let keys: Vec<_> = meant.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.remove(key));
        keys.len()
    }

    /// How far the open transaction is here.
    pub fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Undoes what came behind a mark.
    pub fn back_to(&mut self, mark: usize) {
        while self.undo.len() > mark
            && let Some((key, before)) = self.undo.pop()
        {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }

    /// What the open transaction has touched, as it was before.
    pub fn before(&self) -> BTreeMap<K, Option<V>> {
        let mut before = BTreeMap::new();
        for (key, row) in &self.undo {
            before.entry(key.clone()).or_insert_with(|| row.clone());
        }
        before
    }

    /// What the open transaction has put, and removed again.
    pub fn passed(&self) -> BTreeMap<K, V> {
        let is_new =
            |key: &K| self.undo.iter().find(|(other, _)| other == key).is_some_and(|(_, before)| before.is_none());
        let removed = self.undo.iter().filter(|(key, _)| !self.rows.contains_key(key) && is_new(key));
        removed.filter_map(|(key, row)| Some((key.clone(), row.clone()?))).collect()
    }

    /// Keeps all that was done.
    pub fn keep(&mut self) {
        self.undo.clear();
    }
}
