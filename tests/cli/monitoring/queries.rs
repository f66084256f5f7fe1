//! Which metrics and labels an expression of PromQL names, as far as the files of
//! examples/monitoring use the language.

use std::collections::{BTreeMap, BTreeSet};

/// A metric, and what the expression says of its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    /// Each label with the values that it is compared with, patterns taken apart.
    pub labels: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub selectors: Vec<Selector>,
    /// Labels by which values are brought together.
    pub grouped_by: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

fn tokens(expression: &str) -> Vec<Token> {
    let (mut tokens, mut chars) = (Vec::new(), expression.chars().peekable());
    while let Some(first) = chars.next() {
        let is_word = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':' | '.');
        match first {
            '"' => tokens.push(Token::Text(chars.by_ref().take_while(|char| *char != '"').collect())),
            '[' => drop(chars.by_ref().find(|char| *char == ']')),
            _ if is_word(&first) => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(is_word) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token::Sign(first)),
        }
    }
    tokens
}

/// What it names.
pub fn named(expression: &str) -> Named {
    const GROUPING: [&str; 5] = ["by", "on", "without", "ignoring", "group_left"];
    const OPERATORS: [&str; 3] = ["and", "or", "unless"];
    let (mut named, all) = (Named::default(), tokens(expression));
    let mut rest = all.as_slice();
    while let [first, behind @ ..] = rest {
        rest = behind;
        let Token::Word(word) = first else { continue };
        let is_number = word.starts_with(|char: char| char.is_ascii_digit());
        if is_number || OPERATORS.contains(&word.as_str()) {
            continue;
        }
        let next = behind.first();
        if GROUPING.contains(&word.as_str()) {
            let end = until(behind, ')');
            named.grouped_by.extend(behind[..end].iter().filter_map(word_of));
            rest = &behind[end..];
        } else if next == Some(&Token::Sign('{')) {
            let end = until(behind, '}');
            named.selectors.push(Selector { metric: word.clone(), labels: matchers(&behind[1..end]) });
            rest = &behind[end..];
        } else if next != Some(&Token::Sign('(')) && next.and_then(word_of).is_none_or(|word| word != "by") {
            named.selectors.push(Selector { metric: word.clone(), labels: BTreeMap::new() });
        }
    }
    named
}

fn until(tokens: &[Token], sign: char) -> usize {
    tokens.iter().position(|token| *token == Token::Sign(sign)).expect("what is opened is closed")
}

fn word_of(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word.clone()),
        _ => None,
    }
}

fn matchers(tokens: &[Token]) -> BTreeMap<String, Vec<String>> {
    let mut labels = BTreeMap::new();
    for one in tokens.split(|token| *token == Token::Sign(',')) {
        let (Some(Token::Word(label)), Some(Token::Text(value))) = (one.first(), one.last()) else {
            panic!("{one:?} compares nothing")
        };
        labels.insert(label.clone(), value.split('|').map(str::to_owned).collect());
    }
    labels
}

#[test]
fn names_are_told_from_functions_and_labels() {
    let found = named(
        r#"histogram_quantile(0.9, sum by (le, job) (rate(a_bucket{job="x", part!~"b|c"}[5m]))) > 1e3
            or on (instance) topk(3, max by (instance) (d:e)) / f == 0 and time() - g > 5"#,
    );
    let selector = |metric: &str, labels: &[(&str, &[&str])]| Selector {
        metric: metric.to_owned(),
        labels: labels
            .iter()
            .map(|(label, values)| ((*label).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect(),
    };
    assert_eq!(
        found.selectors,
        [
            selector("a_bucket", &[("job", &["x"]), ("part", &["b", "c"])]),
            selector("d:e", &[]),
            selector("f", &[]),
            selector("g", &[]),
        ]
    );
    assert_eq!(found.grouped_by.into_iter().collect::<Vec<_>>(), ["instance", "job", "le"]);
}
