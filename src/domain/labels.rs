//! Labels: short pairs that say for whom a webhook or an event is.

use std::collections::BTreeMap;
use std::fmt;

use super::fault::Violation;

/// The most labels of one webhook or event.
pub const LABELS_MAX: usize = 16;
/// The longest name of a label, in characters.
pub const LABEL_NAME_CHARS_MAX: usize = 64;
/// The longest value of a label, in characters.
pub const LABEL_VALUE_CHARS_MAX: usize = 128;

/// One pair, such as `customer=42`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: String,
    value: String,
}

impl Label {
    /// Accepts a name of 1 to [`LABEL_NAME_CHARS_MAX`] letters, digits and `_ . - /`, and a value of
    /// 1 to [`LABEL_VALUE_CHARS_MAX`] characters, none of which is a control character.
    pub fn try_new(name: &str, value: &str) -> Result<Self, Violation> {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "_.-/".contains(char);
        let wrong = |problem: String| Err(Violation::new("labels", problem));
        if name.is_empty() || name.len() > LABEL_NAME_CHARS_MAX || !name.chars().all(is_plain) {
            return wrong(format!(
                "has a name that is none; one has 1 to {LABEL_NAME_CHARS_MAX} letters, digits and _ . - /, such as customer."
            ));
        }
        let chars = value.chars().count();
        if !(1..=LABEL_VALUE_CHARS_MAX).contains(&chars) {
            return wrong(format!("has {chars} characters as the value of {name}; use 1 to {LABEL_VALUE_CHARS_MAX}."));
        }
        if value.chars().any(char::is_control) {
            return wrong(format!("has a control character in the value of {name}."));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// `customer=42`
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Labels, each name once, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// Accepts up to [`LABELS_MAX`] pairs, each as [`Label::try_new`] does.
    pub fn try_new(pairs: BTreeMap<String, String>) -> Result<Self, Violation> {
        if pairs.len() > LABELS_MAX {
            let problem = format!("has {} pairs; up to {LABELS_MAX} are allowed.", pairs.len());
            return Err(Violation::new("labels", problem));
        }
        pairs.iter().map(|(name, value)| Label::try_new(name, value)).collect::<Result<_, _>>().map(Self)
    }

    /// Each of them.
    pub fn list(&self) -> &[Label] {
        &self.0
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|label| label.name == name).map(Label::value)
    }

    /// True if that pair is among them.
    pub fn has(&self, label: &Label) -> bool {
        self.get(&label.name) == Some(&label.value)
    }

    /// True if all of them are among the others. Then an event with the others reaches a webhook
    /// with these.
    pub fn are_all_in(&self, others: &Self) -> bool {
        self.0.iter().all(|label| others.has(label))
    }

    /// These and that pair. Fails if the name has another value, or there would be too many.
    pub fn with(mut self, label: &Label) -> Result<Self, Violation> {
        match self.get(&label.name) {
            Some(value) if value == label.value => Ok(self),
            Some(_) => Err(Violation::new("labels", format!("has another {} than {label}.", label.name))),
            None if self.0.len() == LABELS_MAX => {
                Err(Violation::new("labels", format!("has {LABELS_MAX} pairs; with {label} there would be too many.")))
            }
            None => {
                let place = self.0.partition_point(|other| other.name < label.name);
                self.0.insert(place, label.clone());
                Ok(self)
            }
        }
    }

    /// How long they are, in bytes.
    pub fn weight(&self) -> usize {
        self.0.iter().map(|label| label.name.len() + label.value.len()).sum()
    }

    /// By name, for those who keep them.
    pub fn owned_pairs(self) -> BTreeMap<String, String> {
        self.0.into_iter().map(|label| (label.name, label.value)).collect()
    }

    /// By name.
    pub fn pairs(&self) -> BTreeMap<&str, &str> {
        self.0.iter().map(|label| (label.name(), label.value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Labels::try_new(pairs.collect()).unwrap()
    }

    #[test]
    fn labels_are_short_pairs() {
        for (name, value) in [("customer", "42"), ("a/b.c-d_e", "Zoë & Søn"), (&"n".repeat(64), &"é".repeat(128))] {
            assert!(Label::try_new(name, value).is_ok(), "{name}");
        }
        for (name, value) in [
            ("", "42"),
            ("cust omer", "42"),
            ("customer", ""),
            ("customer", "4\n2"),
            (&"n".repeat(65), "42"),
            ("customer", &"é".repeat(129)),
        ] {
            assert_eq!(Label::try_new(name, value).unwrap_err().field, "labels", "{name}");
        }
        let many = (0..=LABELS_MAX).map(|n| (n.to_string(), "x".to_owned())).collect();
        assert!(Labels::try_new(many).unwrap_err().problem.contains("17 pairs"));
    }

    #[test]
    fn an_event_reaches_those_whose_labels_it_has() {
        let (none, one, both) = (labels(&[]), labels(&[("c", "42")]), labels(&[("c", "42"), ("env", "prod")]));
        let other = labels(&[("c", "43")]);
        assert!(none.are_all_in(&none) && none.are_all_in(&both) && one.are_all_in(&both) && both.are_all_in(&both));
        assert!(!one.are_all_in(&none) && !both.are_all_in(&one) && !one.are_all_in(&other));
    }

    #[test]
    fn a_pair_that_has_to_be_there_is_added_or_contradicted() {
        let label = Label::try_new("c", "42").unwrap();
        assert_eq!(
            labels(&[("a", "1"), ("d", "2")]).with(&label).unwrap(),
            labels(&[("a", "1"), ("c", "42"), ("d", "2")])
        );
        assert_eq!(labels(&[("c", "42")]).with(&label).unwrap(), labels(&[("c", "42")]));
        assert!(labels(&[("c", "43")]).with(&label).unwrap_err().problem.contains("c=42"));
        let full = Labels::try_new((0..LABELS_MAX).map(|n| (n.to_string(), "x".to_owned())).collect()).unwrap();
        assert!(full.with(&label).is_err());
    }
}
