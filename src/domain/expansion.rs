//! Expansions: which parts of a message go out to one webhook.
//!
//! The members of a message that are objects or arrays are what makes it long.
//! An expansion names those that a receiver wants; the others are left out.
//! Texts, numbers and the like always go out.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::event::{Event, Message};
use super::fault::Violation;
use super::topic::{PATTERNS_MAX, Topic};

/// The longest expansion, in characters.
pub const EXPANSION_CHARS_MAX: usize = 1_000;
/// The most topics for which one webhook may have expansions.
pub const EXPANSIONS_MAX: usize = PATTERNS_MAX;

/// The names of the objects and arrays of a message that go out, with commas
/// between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expansion(Box<str>);

impl Expansion {
    /// Accepts up to [`EXPANSION_CHARS_MAX`] characters, and a name at least.
    pub fn try_new(text: &str) -> Result<Self, Violation> {
        let chars = text.chars().count();
        if chars > EXPANSION_CHARS_MAX {
            let problem = format!("has {chars} characters; up to {EXPANSION_CHARS_MAX} are allowed.");
            return Err(Violation::new("expansions", problem));
        }
        let expansion = Self(text.into());
        if expansion.names().next().is_none() {
            return Err(Violation::new("expansions", "is empty; name what goes out, such as billing,items."));
        }
        Ok(expansion)
    }

    /// What a store gives back: it went in through [`Self::try_new`].
    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    /// As the owner wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name may go on with a dot, for a part of what it names: all of that
    /// goes out.
    fn names(&self) -> impl Iterator<Item = &str> {
        let whole = |name: &str| name.split_once('.').map_or(name.len(), |(whole, _)| whole.len());
        self.0.split(',').map(str::trim).map(move |name| &name[..whole(name)]).filter(|name| !name.is_empty())
    }

    /// The message without what is not named. What stays keeps its order and,
    /// byte for byte, its names and values.
    pub fn apply(&self, message: &Message) -> Message {
        let names: HashSet<&str> = self.names().collect();
        // Half of a surrogate pair is no name that could be meant.
        let is_named = |name: &RawValue| match serde_json::from_str::<&str>(name.get()) {
            Ok(plain) => names.contains(plain),
            // It has escapes.
            Err(_) => serde_json::from_str::<String>(name.get()).is_ok_and(|name| names.contains(name.as_str())),
        };
        let goes_out = |member: &&Member<'_>| !member.value.get().starts_with(['{', '[']) || is_named(member.name);
        let members = members(message);
        let left: Vec<_> = members.iter().filter(goes_out).collect();
        if left.len() == members.len() {
            return message.clone();
        }
        let mut text = String::from("{");
        for (place, member) in left.into_iter().enumerate() {
            if place > 0 {
                text.push(',');
            }
            text += member.name.get();
            text.push(':');
            text += member.value.get();
        }
        text.push('}');
        Message::from_store(&text)
    }
}

/// The event as it goes out with an expansion, or without one.
pub fn expanded(event: &Arc<Event>, expansion: Option<&Expansion>) -> Arc<Event> {
    let Some(expansion) = expansion else { return Arc::clone(event) };
    Arc::new(Event { message: expansion.apply(&event.message), ..Event::clone(event) })
}

/// A member of a message, as it stands there.
#[derive(Clone, Copy, Debug)]
pub struct Member<'m> {
    /// Its name, in quotes.
    pub name: &'m RawValue,
    /// Its value.
    pub value: &'m RawValue,
}

/// The members of a message in their order; those of one name are all there.
pub fn members(message: &Message) -> Vec<Member<'_>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry()? {
                members.push(Member { name, value });
            }
            Ok(members)
        }
    }
    let read = serde_json::Deserializer::from_str(message.as_str()).deserialize_map(Members);
    read.expect("a message is an object, of which nothing is read here but where its members begin and end")
}

/// The expansions of a webhook, by topic. Messages of other topics go out whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansions(Vec<(Topic, Expansion)>);

impl Expansions {
    /// Accepts up to [`EXPANSIONS_MAX`], each topic once.
    pub fn try_new(mut expansions: Vec<(Topic, Expansion)>) -> Result<Self, Violation> {
        if expansions.len() > EXPANSIONS_MAX {
            let problem = format!("{} are too many; a webhook takes up to {EXPANSIONS_MAX}.", expansions.len());
            return Err(Violation::new("expansions", problem));
        }
        expansions.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        if let Some(twice) = expansions.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Violation::new("expansions", format!("{} is there twice.", twice[0].0)));
        }
        Ok(Self(expansions))
    }

    /// Takes topics with their expansions.
    pub fn of_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, Violation> {
        let read = |(topic, text): (String, String)| {
            let topic = Topic::try_new(&topic).map_err(|violation| Violation { field: "expansions", ..violation })?;
            Ok((topic, Expansion::try_new(&text)?))
        };
        Self::try_new(pairs.into_iter().map(read).collect::<Result<_, _>>()?)
    }

    /// In the order of the topics.
    pub fn list(&self) -> &[(Topic, Expansion)] {
        &self.0
    }

    /// What goes out of a message of that topic; `None`: all of it.
    pub fn of(&self, topic: &Topic) -> Option<&Expansion> {
        self.0.iter().find(|(own, _)| own == topic).map(|(_, expansion)| expansion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(expansion: &str, message: &str) -> String {
        let expansion = Expansion::try_new(expansion).unwrap();
        expansion.apply(&Message::try_new(message).unwrap()).as_str().to_owned()
    }

    #[test]
    fn what_is_not_named_is_left_out_and_the_rest_is_as_it_was() {
        let message = r#"{ "id":1.0, "items" : [ {"a": 1} ], "é\n": "x", "billing": {"b": "}"}, "none": null }"#;
        assert_eq!(applied("items, other", message), r#"{"id":1.0,"items":[ {"a": 1} ],"é\n":"x","none":null}"#);
        assert_eq!(applied("billing.city", message), r#"{"id":1.0,"é\n":"x","billing":{"b": "}"},"none":null}"#);
        assert_eq!(applied("other", r#"{"a": []}"#), "{}");
    }

    #[test]
    fn a_message_of_which_nothing_is_left_out_stays_to_the_byte() {
        let message = r#"{ "id" : 1, "items":[], "id" : 2 }"#;
        assert_eq!(applied("items", message), message);
        assert_eq!(applied("x", r#"{"a":1,"a":{},"a":2}"#), r#"{"a":1,"a":2}"#);
    }

    #[test]
    fn names_that_are_no_text_are_of_nothing_that_goes_out() {
        assert_eq!(applied("a", r#"{"\ud800":1,"\ud801":{},"\u0061":[1],"b":[]}"#), r#"{"\ud800":1,"\u0061":[1]}"#);
        let deep = format!(r#"{{"a":{}{},"b":[]}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(applied("b", &deep), r#"{"b":[]}"#);
    }

    #[test]
    fn expansions_have_bounds() {
        for bad in ["", " , ,", "x".repeat(EXPANSION_CHARS_MAX + 1).as_str()] {
            assert_eq!(Expansion::try_new(bad).unwrap_err().field, "expansions", "{bad}");
        }
        let one = |n: usize| (Topic::try_new(&format!("a:{n}")).unwrap(), Expansion::try_new("x").unwrap());
        assert!(Expansions::try_new(vec![one(1), one(2), one(1)]).is_err());
        assert!(Expansions::try_new((0..=EXPANSIONS_MAX).map(one).collect()).is_err());
        let expansions = Expansions::try_new((0..EXPANSIONS_MAX).map(one).collect()).unwrap();
        assert!(expansions.of(&one(5).0).is_some());
        assert_eq!(expansions.of(&Topic::try_new("b:5").unwrap()), None);
    }
}
