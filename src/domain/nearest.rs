//! The name that somebody who mistyped may have meant.

/// How much of what was typed is worth repeating, in characters. No name is as
/// long.
const SHOWN_CHARS_MAX: usize = 100;
/// However long a name is, one that is further away is another.
const DISTANCE_MAX: usize = 3;

/// The beginning of a name that was typed, to be repeated.
pub fn shortened(name: &str) -> &str {
    name.char_indices().nth(SHOWN_CHARS_MAX).map_or(name, |(end, _)| &name[..end])
}

/// The closest of the known names, if one is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // To measure one takes its length times the others'.
    if shortened(name).len() < name.len() {
        return None;
    }
    // A resource that both have says nothing of how close two of its methods are.
    let parts = |name: &str| {
        let name = name.to_ascii_lowercase();
        let (resource, own) = name.split_once(['.', '/', ':']).unwrap_or(("", &name));
        [resource.to_owned(), own.to_owned()]
    };
    let typed = parts(name);
    let measured = known.into_iter().filter_map(|known| {
        let distances = typed.iter().zip(parts(known)).map(|(typed, known)| {
            let distance = distance(typed, &known);
            (distance <= distance_max(typed)).then_some(distance)
        });
        Some((distances.sum::<Option<usize>>()?, known))
    });
    measured.min().map(|(_, known)| known)
}

/// How far another may be from a name to be close.
pub fn distance_max(name: &str) -> usize {
    (name.len() / 3).clamp(1, DISTANCE_MAX)
}

/// How many characters must be added, dropped or changed (Levenshtein).
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_is_meant() {
        let known = ["webhook.list", "webhook.get", "event.list"];
        for (typed, meant) in [
            ("webhook.lst", Some("webhook.list")),
            ("webhooks.list", Some("webhook.list")),
            ("Webhook.List", Some("webhook.list")),
            ("webhook.gett", Some("webhook.get")),
            ("webhook.show", None),
            ("vent.lst", Some("event.list")),
            ("elephant.list", None),
            ("even.lit", Some("event.list")),
            ("webhook.paint", None),
            ("webhook.", None),
            ("", None),
            (&"webhook.list".repeat(9), None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
