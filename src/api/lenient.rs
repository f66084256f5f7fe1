//! Numbers and switches in the ways in which clients write them, whichever
//! dialect they speak.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Which texts stand for a number or a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// Digits alone: `"7"`, and `"0"` or `"1"` for a switch.
    Digits,
    /// Also with space around it, and a switch as `"True"`.
    Words,
}

/// A whole number, also as a text or as `69.0`.
pub fn whole<'de, D: Deserializer<'de>>(deserializer: D, texts: Texts) -> Result<i64, D::Error> {
    deserializer.deserialize_any(Whole(texts))
}

/// A switch: true or false, 1 or 0, also as a text.
pub fn switch<'de, D: Deserializer<'de>>(deserializer: D, texts: Texts) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch(texts))
}

struct Whole(Texts);

impl Visitor<'_> for Whole {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<i64, E> {
        /// Up to here a float holds every whole number.
        const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
        match value.fract() == 0.0 && value.abs() <= WHOLE_MAX {
            true => Ok(value as i64),
            false => Err(E::invalid_value(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<i64, E> {
        let text = if self.0 == Texts::Words { value.trim() } else { value };
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
    }
}

struct Switch(Texts);

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == Texts::Words { "true or false" } else { "0 or 1" })
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
        match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<bool, E> {
        match value {
            0.0 => Ok(false),
            1.0 => Ok(true),
            _ => Err(E::invalid_value(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
        let word = if self.0 == Texts::Words { value.trim().to_ascii_lowercase() } else { value.to_owned() };
        match word.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            "false" if self.0 == Texts::Words => Ok(false),
            "true" if self.0 == Texts::Words => Ok(true),
            _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn whole(value: Value, texts: Texts) -> Option<i64> {
        super::whole(value, texts).ok()
    }

    fn switch(value: Value, texts: Texts) -> Option<bool> {
        super::switch(value, texts).ok()
    }

    #[test]
    fn what_is_a_number_in_json_is_one_however_it_is_written() {
        for texts in [Texts::Digits, Texts::Words] {
            for seven in [json!(7), json!(7.0), json!("7")] {
                assert_eq!(whole(seven, texts), Some(7));
            }
            for bad in [json!(7.5), json!(1e300), json!(u64::MAX), json!("x"), json!(""), json!(null), json!(true)] {
                assert_eq!(whole(bad.clone(), texts), None, "{bad}");
            }
            for (on, off) in [(json!(1), json!(0)), (json!(1.0), json!(0.0)), (json!("1"), json!("0"))] {
                assert_eq!((switch(on, texts), switch(off, texts)), (Some(true), Some(false)));
            }
            for bad in [json!(2), json!(-1), json!(0.5), json!("on"), json!(""), json!(null)] {
                assert_eq!(switch(bad.clone(), texts), None, "{bad}");
            }
        }
    }

    #[test]
    fn words_and_spaces_are_read_where_clients_write_them() {
        assert_eq!((whole(json!(" 7 "), Texts::Words), whole(json!(" 7 "), Texts::Digits)), (Some(7), None));
        assert_eq!((switch(json!("True"), Texts::Words), switch(json!("True"), Texts::Digits)), (Some(true), None));
        assert_eq!(
            (switch(json!(" false"), Texts::Words), switch(json!(false), Texts::Digits)),
            (Some(false), Some(false))
        );
    }
}
