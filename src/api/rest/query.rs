//! A small language for choosing, ordering and cutting rows of an answer:
//! `filter=createdAt ge 2026-01-01T00:00:00Z and name contains shop`,
//! `sort=-createdAt`, `select=name,url`.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::Refusal;
use crate::domain::time::Timestamp;

/// What a field holds, which decides how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Text,
    Flag,
    Time,
}

/// A field of a row, by its name in the answer.
pub type Field = (&'static str, Kind);

/// A row of an answer.
pub type Row = Map<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Contains,
}

const OPERATORS: [(&str, Operator); 7] = [
    ("eq", Operator::Eq),
    ("ne", Operator::Ne),
    ("gt", Operator::Gt),
    ("ge", Operator::Ge),
    ("lt", Operator::Lt),
    ("le", Operator::Le),
    ("contains", Operator::Contains),
];

/// Something that can be compared.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Operand {
    Nothing,
    Number(f64),
    Text(String),
    Flag(bool),
    Time(i64),
}

impl Operand {
    /// What a row holds.
    fn of(value: Option<&Value>, kind: Kind) -> Self {
        let found = match (kind, value) {
            (Kind::Number, Some(Value::Number(number))) => number.as_f64().map(Self::Number),
            (Kind::Text, Some(Value::String(text))) => Some(Self::Text(text.clone())),
            (Kind::Flag, Some(Value::Bool(flag))) => Some(Self::Flag(*flag)),
            (Kind::Time, Some(Value::String(text))) => Timestamp::parse_rfc3339(text).map(|time| Self::Time(time.0)),
            _ => None,
        };
        found.unwrap_or(Self::Nothing)
    }

    /// What a filter says; quotes are there for texts with spaces.
    fn read(text: &str, kind: Kind) -> Result<Self, String> {
        let quoted = ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
        let wrong = |expected: &str| format!("{text:?} is no {expected}");
        match kind {
            _ if text == "null" => Ok(Self::Nothing),
            Kind::Text => Ok(Self::Text(quoted.unwrap_or(text).to_owned())),
            Kind::Number => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Self::Number).ok_or_else(|| wrong("number"))
            }
            Kind::Flag => text.to_ascii_lowercase().parse().map(Self::Flag).map_err(|_| wrong("true or false")),
            Kind::Time => Timestamp::parse_bound(quoted.unwrap_or(text))
                .map(|time| Self::Time(time.0))
                .ok_or_else(|| wrong("time such as 2026-11-22T03:04:05Z")),
        }
    }
}

#[derive(Clone, Debug)]
struct Condition {
    field: Field,
    operator: Operator,
    operand: Operand,
}

/// Which rows are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Condition>);

impl Filter {
    /// Reads up to `max` conditions, joined by ` and `.
    pub fn read(text: Option<&str>, fields: &[Field], max: usize) -> Result<Self, Refusal> {
        let parts = text.map(split_at_and).unwrap_or_default();
        if parts.len() > max {
            let count = parts.len();
            return Err(Refusal::bad(format!("filter: {count} conditions are too many; up to {max} are looked at.")));
        }
        let read = |part: &str| read_condition(part.trim(), fields);
        parts.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// True if every row is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a condition is on one of these.
    pub fn asks_for(&self, names: &[&str]) -> bool {
        self.0.iter().any(|condition| names.contains(&condition.field.0))
    }

    /// The first and the last whole number that the conditions on a field
    /// leave, both included.
    pub fn whole_range(&self, name: &str) -> (i64, i64) {
        let (mut first, mut last) = (i64::MIN, i64::MAX);
        for condition in self.0.iter().filter(|condition| condition.field.0 == name) {
            let Operand::Number(number) = condition.operand else { continue };
            let (floor, ceil) = (number.floor() as i64, number.ceil() as i64);
            match condition.operator {
                Operator::Eq => (first, last) = (first.max(ceil), last.min(floor)),
                Operator::Gt => first = first.max(floor.saturating_add(1)),
                Operator::Ge => first = first.max(ceil),
                Operator::Lt => last = last.min(ceil.saturating_sub(1)),
                Operator::Le => last = last.min(floor),
                Operator::Ne | Operator::Contains => {}
            }
        }
        (first, last)
    }

    /// From when on the conditions on a time admit anything, and before when,
    /// in milliseconds since 1970.
    pub fn time_range(&self, name: &str) -> (Option<i64>, Option<i64>) {
        let (mut since, mut until) = (None::<i64>, None::<i64>);
        for condition in self.0.iter().filter(|condition| condition.field.0 == name) {
            let Operand::Time(time) = condition.operand else { continue };
            let mut from = |time: i64| since = since.max(Some(time));
            let mut to = |time: i64| until = Some(until.map_or(time, |until| until.min(time)));
            match condition.operator {
                Operator::Eq => {
                    from(time);
                    to(time.saturating_add(1));
                }
                Operator::Gt => from(time.saturating_add(1)),
                Operator::Ge => from(time),
                Operator::Lt => to(time),
                Operator::Le => to(time.saturating_add(1)),
                Operator::Ne | Operator::Contains => {}
            }
        }
        (since, until)
    }

    /// True if the row fulfils every condition.
    pub fn admits(&self, row: &Row) -> bool {
        self.0.iter().all(|condition| condition.is_met(row))
    }
}

impl Condition {
    fn is_met(&self, row: &Row) -> bool {
        let (name, kind) = self.field;
        let held = Operand::of(row.get(name), kind);
        if self.operator == Operator::Contains {
            return match (&held, &self.operand) {
                (Operand::Text(held), Operand::Text(part)) => held.contains(part.as_str()),
                _ => false,
            };
        }
        let is_nothing = held == Operand::Nothing || self.operand == Operand::Nothing;
        let order = held.partial_cmp(&self.operand);
        match self.operator {
            Operator::Eq => held == self.operand,
            Operator::Ne => held != self.operand,
            // Nothing is neither more nor less than anything.
            _ if is_nothing => false,
            Operator::Gt => order == Some(Ordering::Greater),
            Operator::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Operator::Lt => order == Some(Ordering::Less),
            Operator::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Operator::Contains => false,
        }
    }
}

/// Splits at each `and` that stands between spaces and outside quotes, which
/// open at the beginning of a word only.
fn split_at_and(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut quote, mut before) = (Vec::new(), 0, None, ' ');
    for (place, character) in text.char_indices() {
        let is_at_word = std::mem::replace(&mut before, character) == ' ';
        match quote {
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if is_at_word && matches!(character, '\'' | '"') => quote = Some(character),
            None if place >= start
                && text.get(place..place + 5).is_some_and(|word| word.eq_ignore_ascii_case(" and ")) =>
            {
                parts.push(&text[start..place]);
                start = place + 5;
            }
            None => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn read_condition(text: &str, fields: &[Field]) -> Result<Condition, Refusal> {
    let grammar = || {
        let operators = OPERATORS.map(|(name, _)| name).join(", ");
        Refusal::bad(format!("filter: {text:?} is none; write FIELD OPERATOR VALUE, with one of {operators}."))
    };
    let word = |text: &'_ str| text.trim_start().split_once(' ').map(|(word, rest)| (word.to_owned(), rest.to_owned()));
    let (field, rest) = word(text).ok_or_else(grammar)?;
    let (operator, value) = word(&rest).ok_or_else(grammar)?;
    let (field, operator) = (field.as_str(), operator.as_str());
    let field = find(field, fields, "filter")?;
    let found = OPERATORS.iter().find(|(name, _)| operator.eq_ignore_ascii_case(name));
    let (_, operator) = *found.ok_or_else(grammar)?;
    if operator == Operator::Contains && field.1 != Kind::Text {
        return Err(Refusal::bad(format!("filter: {} is no text, so it contains nothing.", field.0)));
    }
    let operand =
        Operand::read(value.trim(), field.1).map_err(|problem| Refusal::bad(format!("filter: {problem}.")))?;
    Ok(Condition { field, operator, operand })
}

/// The field of that name, in any case.
fn find(name: &str, fields: &[Field], place: &str) -> Result<Field, Refusal> {
    let found = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name.trim()));
    found.copied().ok_or_else(|| {
        let known: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        Refusal::bad(format!("{place}: {:?} is no field; there are {}.", name.trim(), known.join(", ")))
    })
}

/// What to order rows by.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    field: Field,
    is_descending: bool,
}

impl Sort {
    /// All it can be, as a client writes it.
    pub fn names(fields: &[Field]) -> Vec<String> {
        fields.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("-{name}")]).collect()
    }

    /// Reads `field`, or `-field` for the greatest first.
    pub fn read(text: Option<&str>, fields: &[Field]) -> Result<Option<Self>, Refusal> {
        let read = |text: &str| {
            let (name, is_descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
            find(name, fields, "sort").map(|field| Self { field, is_descending })
        };
        text.map(read).transpose()
    }

    /// True for the greatest first.
    pub fn is_descending(self) -> bool {
        self.is_descending
    }

    /// What a row is ordered by.
    pub fn key(self, row: &Row) -> SortKey {
        let (name, kind) = self.field;
        SortKey(Operand::of(row.get(name), kind))
    }

    /// Orders what has such keys; those that are equal keep their order.
    pub fn apply<T>(self, rows: &mut [(SortKey, T)]) {
        let order =
            |(one, _): &(SortKey, T), (other, _): &(SortKey, T)| one.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal);
        rows.sort_by(|one, other| if self.is_descending { order(other, one) } else { order(one, other) });
    }
}

/// What a row is ordered by.
pub struct SortKey(Operand);

impl SortKey {
    /// That of rows which stay in their order.
    pub const NONE: Self = Self(Operand::Nothing);
}

/// Which members of a row are shown; all, if nothing is said.
#[derive(Clone, Debug)]
pub struct Select(Option<Vec<&'static str>>);

impl Select {
    /// All it can be, as a regular expression.
    pub fn pattern(fields: &[Field], more: &[&str]) -> String {
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).chain(more.iter().copied()).collect();
        let name = format!("({})", names.join("|"));
        format!("^ *{name}( *, *{name})* *$")
    }

    /// Reads names with commas between them; `more` are members that are no fields.
    pub fn read(text: Option<&str>, fields: &[Field], more: &[&'static str]) -> Result<Self, Refusal> {
        let all: Vec<Field> = fields.iter().copied().chain(more.iter().map(|name| (*name, Kind::Text))).collect();
        let read = |text: &str| {
            let names = text.split(',').filter(|name| !name.trim().is_empty());
            names.map(|name| Ok(find(name, &all, "select")?.0)).collect()
        };
        text.map(read).transpose().map(Self)
    }

    /// True if one of these is shown.
    pub fn shows(&self, names: &[&str]) -> bool {
        self.0.as_ref().is_none_or(|shown| names.iter().any(|name| shown.contains(name)))
    }

    /// Takes the rest out of a row.
    pub fn apply(&self, row: &mut Row) {
        if let Self(Some(names)) = self {
            row.retain(|name, _| names.contains(&name.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[Field] =
        &[("id", Kind::Number), ("name", Kind::Text), ("isActive", Kind::Flag), ("createdAt", Kind::Time)];

    fn row(id: i64) -> Row {
        let row = json!({"id": id, "name": format!("salt and pepper {id}"), "isActive": id % 2 == 0,
            "createdAt": format!("2026-01-0{id}T00:00:00.000Z")});
        row.as_object().unwrap().clone()
    }

    fn found(filter: &str) -> Vec<i64> {
        let filter = Filter::read(Some(filter), FIELDS, 32).unwrap();
        (1..=4).filter(|id| filter.admits(&row(*id))).collect()
    }

    #[test]
    fn conditions_are_met_by_kind() {
        assert_eq!(found("id ge 3"), [3, 4]);
        assert_eq!(found("ID GT 2 and id lt 4"), [3]);
        assert_eq!(found("isActive eq True"), [2, 4]);
        assert_eq!(found("name contains 'pepper 4'"), [4]);
        assert_eq!(found("name eq \"salt and pepper 1\" and id le 3"), [1]);
        assert_eq!(found("name eq salt"), [0; 0]);
        assert_eq!(found("createdAt lt 2026-01-02T01:00:00+01:00"), [1]);
        assert_eq!(found("createdAt ne null"), [1, 2, 3, 4]);
        assert_eq!(found("id eq 2.0"), [2]);
        assert_eq!(found("id  eq   2"), [2]);
        assert_eq!(found("name ne it's and id gt 3"), [4]);
        let range = |filter: &str| Filter::read(Some(filter), FIELDS, 32).unwrap().whole_range("id");
        assert_eq!(range("id gt 2 and id le 7.5 and isActive eq true"), (3, 7));
        assert_eq!(range("id eq 2.5"), (3, 2));
        assert_eq!(range("id ne 2"), (i64::MIN, i64::MAX));
        let times = |filter: &str| Filter::read(Some(filter), FIELDS, 32).unwrap().time_range("createdAt");
        assert_eq!(
            times("createdAt ge 1970-01-01T00:00:01Z and createdAt le 1970-01-01T00:00:02Z"),
            (Some(1_000), Some(2_001))
        );
        assert_eq!(times("id gt 2"), (None, None));
        let nothing = Filter::read(Some("id gt null"), FIELDS, 32).unwrap();
        assert!(!nothing.admits(&Row::new()) && !nothing.admits(&row(1)));
        assert!(Filter::read(Some("id eq null"), FIELDS, 32).unwrap().admits(&Row::new()));
        assert!(Filter::read(None, FIELDS, 32).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (filter, problem) in [
            ("id", "write FIELD OPERATOR VALUE"),
            ("id eq", "write FIELD OPERATOR VALUE"),
            ("id is 4", "with one of eq, ne, gt, ge, lt, le, contains"),
            ("colour eq red", "\"colour\" is no field; there are id, name, isActive, createdAt"),
            ("id eq four", "\"four\" is no number"),
            ("id lt inf", "\"inf\" is no number"),
            ("createdAt eq yesterday", "is no time"),
            ("isActive eq maybe", "is no true or false"),
            ("id contains 4", "id is no text"),
            ("id eq 4 and", "\"4 and\" is no number"),
            ("", "write FIELD OPERATOR VALUE"),
            ("ä and ö", "write FIELD OPERATOR VALUE"),
        ] {
            let told = Filter::read(Some(filter), FIELDS, 32).unwrap_err().message;
            assert!(told.contains(problem), "{filter}: {told}");
        }
        assert!(Sort::read(Some("-colour"), FIELDS).is_err());
        assert!(Select::read(Some("id,colour"), FIELDS, &[]).is_err());
    }

    #[test]
    fn rows_are_ordered_and_cut() {
        let sort = Sort::read(Some("-createdAt"), FIELDS).unwrap().unwrap();
        let mut rows = [2, 1, 3].map(|id| (sort.key(&row(id)), id));
        sort.apply(&mut rows);
        assert_eq!(rows.map(|(_, id)| id), [3, 2, 1]);
        let mut row = row(3);
        Select::read(Some("ID, more"), FIELDS, &["more"]).unwrap().apply(&mut row);
        assert_eq!(row, *json!({"id": 3}).as_object().unwrap());
    }
}
