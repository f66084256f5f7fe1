//! Names and text as languages want them.

/// `event.publish_many` and `multiCall` as `EventPublishMany` and `MultiCall`.
pub fn pascal(name: &str) -> String {
    name.split(['.', '_']).map(|word| capital(word, char::to_ascii_uppercase)).collect()
}

/// The same as `eventPublishMany` and `multiCall`.
pub fn camel(name: &str) -> String {
    capital(&pascal(name), char::to_ascii_lowercase)
}

/// The same as `event_publish_many` and `multi_call`.
pub fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(if letter == '.' { '_' } else { letter.to_ascii_lowercase() });
    }
    snake
}

fn capital(word: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| change(&first)).into_iter().chain(letters).collect()
}

/// What [`wrap`] keeps together, as a space.
pub const JOINT: char = '\u{a0}';

/// Lines of at most `width` characters, but for words that are longer.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_ascii_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| line.replace(JOINT, " ")).collect()
}

/// `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_fashion() {
        assert_eq!(pascal("event.publish_many"), "EventPublishMany");
        assert_eq!(camel("publish_many"), "publishMany");
        assert_eq!(camel("multiCall"), "multiCall");
        assert_eq!(snake("multiCall"), "multi_call");
        assert_eq!(snake("event.publish_many"), "event_publish_many");
        assert_eq!(snake("NumberRange"), "number_range");
    }

    #[test]
    fn lines_are_no_longer_than_asked() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable it is", 5), ["unbreakable", "it is"]);
        assert_eq!(wrap("one two\u{a0}2 three", 7), ["one", "two 2", "three"]);
        assert!(wrap("", 5).is_empty());
    }
}
