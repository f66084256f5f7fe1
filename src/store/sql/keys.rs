//! Reading by several keys in one statement.

use super::db::{Db, Dialect, Value};
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// Some keys, as a statement asks for them. A group of several is filled up with
/// its last key, so that there are two texts of each statement to keep prepared.
pub struct Asked<'a> {
    /// What of a WHERE says that a row has one of them.
    pub condition: String,
    /// The values of the statement.
    pub values: Vec<Value<'a>>,
}

impl Asked<'_> {
    /// Keys that stand in these columns, behind other values of the statement.
    /// There is at least one key, and no more than may be asked for at once.
    pub fn of<'a, const N: usize>(
        dialect: Dialect,
        others: &[Value<'a>],
        columns: [&str; N],
        keys: impl IntoIterator<Item = [Value<'a>; N]>,
    ) -> Asked<'a> {
        let mut values = others.to_vec();
        keys.into_iter().for_each(|key| values.extend(key));
        if values.len() > others.len() + N {
            while values.len() < others.len() + N * dialect.keys_at_once() {
                values.push(values[values.len() - N]);
            }
        }
        let count = (values.len() - others.len()) / N;
        Asked { condition: condition(columns, others.len() + 1, count), values }
    }
}

fn condition<const N: usize>(columns: [&str; N], first: usize, count: usize) -> String {
    let of_key = |key: usize| {
        let one = |(place, column): (usize, &&str)| format!("{column} = ${}", first + key * N + place);
        columns.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    };
    if N == 1 && count > 1 {
        let numbers: Vec<_> = (first..first + count).map(|number| format!("${number}")).collect();
        return format!("{} IN ({})", columns[0], numbers.join(", "));
    }
    format!("({})", (0..count).map(of_key).collect::<Vec<_>>().join(" OR "))
}

/// Reads what belongs to keys, as many at once as may be asked for: what there is,
/// in their order, and nothing where there is none. `read` gives what it finds,
/// each with its key.
pub fn each<K: Copy + PartialEq, T: Clone>(
    db: &mut dyn Db,
    keys: &[K],
    mut read: impl FnMut(&mut dyn Db, &[K]) -> Result<Vec<(K, T)>>,
) -> Result<Vec<Option<T>>> {
    let mut found = Vec::with_capacity(keys.len());
    for group in keys.chunks(db.dialect().keys_at_once()) {
        found.extend(placed(group, read(db, group)?));
    }
    Ok(found)
}

/// The same until it weighs `bytes_max`, and for one key at least. `weigh` says
/// what is stored for keys, so that no more of it is read than that; `read` gives
/// what it finds with what it really weighs.
pub fn bounded<K: Copy + PartialEq, T: Clone>(
    db: &mut dyn Db,
    keys: &[K],
    bytes_max: usize,
    mut weigh: impl FnMut(&mut dyn Db, &[K]) -> Result<Vec<(K, usize)>>,
    mut read: impl FnMut(&mut dyn Db, &[K]) -> Result<Vec<(K, (T, usize))>>,
) -> Result<Vec<Option<T>>> {
    let (at_once, mut found, mut bytes) = (db.dialect().keys_at_once(), Vec::new(), 0);
    let mut rest = keys;
    while !rest.is_empty() && (bytes < bytes_max || found.is_empty()) {
        let mut group = &rest[..rest.len().min(at_once)];
        if group.len() > 1 {
            let weights = placed(group, weigh(db, group)?);
            group = &group[..fitting(&weights, bytes_max - bytes)];
        }
        for one in placed(group, read(db, group)?) {
            if bytes >= bytes_max && !found.is_empty() {
                return Ok(found);
            }
            bytes += one.as_ref().map_or(0, |(_, weight)| *weight);
            found.push(one.map(|(one, _)| one));
        }
        rest = &rest[group.len()..];
    }
    Ok(found)
}

/// How many of them weigh so much together, the last one included.
fn fitting(weights: &[Option<usize>], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let is_within = |weight: &&Option<usize>| {
        let was = bytes;
        bytes += weight.unwrap_or(0);
        was < bytes_max
    };
    weights.iter().take_while(is_within).count().max(1)
}

/// Rows in the order of the keys, which may be there several times.
fn placed<K: PartialEq, T: Clone>(keys: &[K], mut rows: Vec<(K, T)>) -> Vec<Option<T>> {
    let row = |(place, key): (usize, &K)| {
        let at = rows.iter().position(|(own, _)| own == key)?;
        let comes_again = keys[place + 1..].contains(key);
        Some(if comes_again { rows[at].1.clone() } else { rows.swap_remove(at).1 })
    };
    keys.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::db::values;

    #[test]
    fn a_group_of_several_keys_is_filled_up() {
        let numbers = |asked: &Asked<'_>| asked.values.iter().filter_map(number).collect::<Vec<_>>();
        fn number(value: &Value<'_>) -> Option<i64> {
            match value {
                Value::Int(value) => *value,
                _ => None,
            }
        }
        let keys = |count: i64| (1..=count).map(|key| [Value::from(key), Value::from(-key)]);
        let one = Asked::of(Dialect::Postgres, values![7_i64], ["a", "b"], keys(1));
        assert_eq!((one.condition.as_str(), numbers(&one)), ("(a = $2 AND b = $3)", vec![7, 1, -1]));
        let some = Asked::of(Dialect::Postgres, &[], ["a", "b"], keys(2));
        assert!(some.condition.starts_with("(a = $1 AND b = $2 OR a = $3 AND b = $4 OR "), "{}", some.condition);
        assert!(some.condition.ends_with(" OR a = $31 AND b = $32)"), "{}", some.condition);
        assert_eq!(numbers(&some)[..6], [1, -1, 2, -2, 2, -2]);
        assert_eq!(some.values.len(), 32);
        let ids = Asked::of(Dialect::Postgres, values![7_i64], ["a"], keys(2).map(|[key, _]| [key]));
        assert!(ids.condition.starts_with("a IN ($2, $3, ") && ids.condition.ends_with(", $17)"), "{}", ids.condition);
    }

    #[test]
    fn what_weighs_too_much_is_not_read_and_each_key_has_its_place() {
        let weights = [Some(3), None, Some(4), Some(1)];
        let fit = |bytes_max| fitting(&weights, bytes_max);
        assert_eq!([0, 1, 3, 4, 7, 8, 9].map(fit), [1, 1, 1, 3, 3, 4, 4]);
        assert_eq!(placed(&[1, 2, 1, 3], vec![(3, 'c'), (1, 'a')]), [Some('a'), None, Some('a'), Some('c')]);
    }
}
