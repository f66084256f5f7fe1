//! Parts of lists.

use super::fault::Violation;

/// In which direction a list is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The smallest first.
    #[default]
    Ascending,
    /// The greatest first.
    Descending,
}

/// A part of a list whose order never changes under its reader: what comes
/// behind an item, however much was added or taken away in between.
#[derive(Clone, Debug)]
pub struct Slice<K> {
    /// The last item of the part before; `None`: from the beginning.
    pub after: Option<K>,
    /// In which order.
    pub order: Order,
    /// At most so many.
    pub limit: u32,
}

/// Reads what to sort by: one of `keys`, with a `-` in front for the greatest
/// first. Without one, it is the first key, ascending.
pub fn read_sort<'k>(text: Option<&str>, keys: &[&'k str]) -> Result<(&'k str, Order), Violation> {
    let Some(text) = text else { return Ok((keys[0], Order::Ascending)) };
    let (name, order) = match text.strip_prefix('-') {
        Some(name) => (name, Order::Descending),
        None => (text, Order::Ascending),
    };
    let known = || keys.iter().flat_map(|key| [(*key).to_owned(), format!("-{key}")]).collect::<Vec<_>>().join(", ");
    let key = keys.iter().find(|key| **key == name);
    key.map(|key| (*key, order)).ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        Violation::new("sort", format!("{shown:?} is nothing to sort by; there are {}.", known()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_is_read() {
        let keys = ["webhook_id", "url"];
        assert_eq!(read_sort(None, &keys), Ok(("webhook_id", Order::Ascending)));
        assert_eq!(read_sort(Some("url"), &keys), Ok(("url", Order::Ascending)));
        assert_eq!(read_sort(Some("-webhook_id"), &keys), Ok(("webhook_id", Order::Descending)));
        for bad in ["", "-", "--url", "URL", "url,webhook_id"] {
            let problem = read_sort(Some(bad), &keys).unwrap_err().problem;
            assert!(problem.ends_with("there are webhook_id, -webhook_id, url, -url."), "{problem}");
        }
    }
}
