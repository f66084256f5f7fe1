//! What is wrong with a body that is no JSON in UTF-8, and where.

use std::fmt::Display;

/// What some systems write in front of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A body without the byte-order mark that may stand in front of it.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// A body as text. Fails with what is wrong, in a sentence.
pub fn as_utf8(body: &[u8]) -> Result<&str, String> {
    if is_utf16(body) {
        return Err("The body is UTF-16; send it in UTF-8.".to_owned());
    }
    str::from_utf8(body).map_err(|cause| {
        let (before, rest) = body.split_at(cause.valid_up_to());
        let before = str::from_utf8(before).expect("it is valid up to there");
        let (place, met) = (Place::behind(before), rest.first().copied().unwrap_or_default());
        format!(
            "The body is no UTF-8: at {place} stands the byte 0x{met:02X}. Was it written in another encoding, such as Latin-1?"
        )
    })
}

/// What is said of a text that `cause` found to be no JSON.
pub fn no_json(text: &str, cause: &serde_json::Error) -> String {
    let words = cause.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    if cause.is_eof() {
        return format!("The body is no JSON: {words} at {}, where it ends.", Place::of_last(text));
    }
    // It counts lines and columns in bytes, from 1; the byte that it did not take is the last counted.
    let line = text.split_inclusive('\n').take(cause.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let met = (line + cause.column()).saturating_sub(1).min(text.len());
    let met = (0..=met).rev().find(|index| text.is_char_boundary(*index)).unwrap_or_default();
    // Where a control character stands in a string, it may name the place before it.
    let skipped = if words.starts_with("control") { text[met..].find(char::is_control) } else { None };
    let (before, rest) = text.split_at(met + skipped.unwrap_or_default());
    let met = rest.chars().next().map_or_else(|| "it ends".to_owned(), |met| format!("{met:?} stands"));
    format!("The body is no JSON: {words} at {}, where {met}.", Place::behind(before))
}

/// A place in a text for people: both from 1, the column in characters.
struct Place {
    line: usize,
    column: usize,
}

impl Place {
    /// Where the character behind a text stands.
    fn behind(text: &str) -> Self {
        let line = text.rsplit('\n').next().unwrap_or_default();
        Self { line: text.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }

    /// Where the last character of a text stands.
    fn of_last(text: &str) -> Self {
        let last = text.char_indices().next_back().map_or(0, |(index, _)| index);
        Self::behind(&text[..last])
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// With a mark of its own, or with an ASCII character in front, as JSON and
/// XML have: of that one byte is zero.
fn is_utf16(body: &[u8]) -> bool {
    matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..])
}
