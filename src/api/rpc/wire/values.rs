//! Values in the ways in which clients write them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::api::lenient::{self, Texts};

/// An object; also `[]`, which is how PHP writes an empty one, and an empty
/// text, which some clients send in place of nothing. A derived type alone
/// would take an array for its members in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => of_nothing(),
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Object<T>, E> {
                match text {
                    "" => of_nothing(),
                    text => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

fn of_nothing<'de, T: Deserialize<'de>, E: de::Error>() -> Result<Object<T>, E> {
    let nothing = std::iter::empty::<(&str, ())>();
    T::deserialize(de::value::MapDeserializer::new(nothing)).map(Object)
}

/// 0 or 1; also as a string, or a boolean.
#[derive(Clone, Copy, Debug)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient::switch(deserializer, Texts::Digits).map(Self)
    }
}

/// An id or a number of a delivery: a whole number, also as a string.
#[derive(Clone, Copy, Debug)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        lenient::whole(deserializer, Texts::Digits).map(Self)
    }
}

/// A topic, several with commas between them, or an array of topics.
#[derive(Clone, Debug)]
pub struct Topics(pub String);

impl<'de> Deserialize<'de> for Topics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopicsVisitor;
        impl<'de> Visitor<'de> for TopicsVisitor {
            type Value = Topics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic such as \"order:created\", or an array of topics")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Topics, E> {
                Ok(Topics(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Topics, A::Error> {
                let mut list = Vec::<String>::new();
                while let Some(topic) = seq.next_element()? {
                    list.push(topic);
                }
                Ok(Topics(list.join(",")))
            }
        }
        deserializer.deserialize_any(TopicsVisitor)
    }
}

/// Headers as text, one a line, or as an object of name and value.
#[derive(Clone, Debug)]
pub struct Headers(pub String);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one \"Name: value\" a line, or an object of name and value")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Headers, E> {
                Ok(Headers(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut lines = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if name.contains([':', '\r', '\n']) {
                        return Err(de::Error::custom("a header's name can't hold a colon or a line break"));
                    }
                    if value.contains(['\r', '\n']) {
                        return Err(de::Error::custom("a header's value can't hold a line break"));
                    }
                    lines.push(format!("{name}: {value}"));
                }
                Ok(Headers(lines.join("\n")))
            }

            // PHP writes an empty object as an empty array.
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(Headers(String::new())),
                    Some(_) => Err(de::Error::invalid_type(de::Unexpected::Seq, &self)),
                }
            }
        }
        deserializer.deserialize_any(HeadersVisitor)
    }
}
