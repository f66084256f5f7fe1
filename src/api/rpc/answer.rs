//! Answers, in pieces: what is long is never copied from one text to another,
//! and what is the same for everybody is there once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::list::{ListText, text_of};
use crate::api::unsent::Payer;
use crate::domain::fault::Fault;

/// Results below this become part of the text around them, in bytes.
const PIECE_MIN: usize = 4_096;

/// What a method returns, written.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The JSON of the result.
    pub result: Bytes,
    /// Where a list was cut off.
    pub cut: Option<Cut>,
    /// True of what is there once for everybody.
    pub is_shared: bool,
    /// To whose account it is put down, if that is known.
    pub payer: Option<Payer>,
}

/// Where a list was cut off since it became too long: the option to go on
/// with, and its value.
#[derive(Clone, Debug)]
pub struct Cut {
    option: &'static str,
    last: Value,
}

impl Cut {
    /// As the answer shows it.
    pub fn text(&self) -> String {
        let Self { option, last } = self;
        format!("{{\"{option}\":{last}}}")
    }
}

impl From<Box<RawValue>> for Reply {
    fn from(result: Box<RawValue>) -> Self {
        let text: Box<str> = result.into();
        Self { result: String::from(text).into(), cut: None, is_shared: false, payer: None }
    }
}

impl Reply {
    /// What is there once.
    pub fn shared(result: Bytes) -> Self {
        Self { result, cut: None, is_shared: true, payer: None }
    }
}

/// A list as an answer, which may have been cut off.
pub struct Listed<T> {
    text: Vec<u8>,
    cut: Option<Cut>,
    _of: PhantomData<fn(&T)>,
}

impl<T> From<Listed<T>> for Reply {
    fn from(listed: Listed<T>) -> Self {
        Self { result: listed.text.into(), cut: listed.cut, is_shared: false, payer: None }
    }
}

/// Writes a list up to a bound of bytes.
pub struct ListWriter {
    text: ListText,
    last: Option<Value>,
}

impl ListWriter {
    /// Of up to so many bytes, or one item.
    pub fn new(bytes_max: usize) -> Self {
        Self { text: ListText::begin("[", ",", bytes_max), last: None }
    }

    /// Writes an item that has this key. False if there was no room for it,
    /// which there always is for the first.
    pub fn write(&mut self, item: &impl Serialize, key: impl Into<Value>) -> Result<bool, Fault> {
        Ok(self.write_text(&text_of(item)?, key))
    }

    /// The same for an item whose text is there already.
    pub fn write_text(&mut self, text: &[u8], key: impl Into<Value>) -> bool {
        let is_written = self.text.write(text);
        if is_written {
            self.last = Some(key.into());
        }
        is_written
    }

    /// Lets others have their turn, if much was written.
    pub async fn pause(&mut self) {
        self.text.pause().await;
    }

    /// The list, whole.
    pub fn whole<T>(self) -> Listed<T> {
        Listed { text: self.text.end(b"]"), cut: None, _of: PhantomData }
    }

    /// The list, which goes on behind the last item, by this option.
    pub fn cut<T>(mut self, option: &'static str) -> Listed<T> {
        let cut = self.last.take().map(|last| Cut { option, last });
        Listed { cut, ..self.whole() }
    }
}

/// In how many steps a list is read from the store: so much is in memory at
/// once besides what was written.
pub struct Steps {
    limit: i64,
    max: i64,
    step: i64,
    asked: i64,
}

impl Steps {
    /// A list of `limit` items, which may be up to `max`, so many at a time.
    pub fn new(limit: i64, max: u32, step: u32) -> Self {
        let max = i64::from(max);
        Self { limit, max, step: i64::from(step).min(max), asked: 0 }
    }

    /// All there is, so many at a time, of which one page may have `max`.
    pub fn endless(max: u32, step: u32) -> Self {
        Self { limit: i64::MAX, max: i64::MAX, step: step.min(max).into(), asked: 0 }
    }

    /// How many to ask for now. A limit that is none is handed on as it is, to
    /// be refused.
    pub fn next(&mut self) -> i64 {
        self.asked = if self.limit < 1 || self.limit > self.max { self.limit } else { self.limit.min(self.step) };
        self.asked
    }

    /// Counts what was found; true if there is more to ask for.
    pub fn go_on(&mut self, found: usize) -> bool {
        let found = i64::try_from(found).unwrap_or(i64::MAX);
        self.limit -= found;
        found >= self.asked && self.limit > 0
    }
}

/// A whole answer.
#[derive(Debug, Default)]
pub struct Answer {
    pieces: Vec<Bytes>,
    /// Which of them are texts of our own.
    is_text: Vec<bool>,
    text: String,
    len: usize,
    payer: Option<Payer>,
}

impl Answer {
    /// To whose account its own texts are put down: whoever made a call of it,
    /// or else this one.
    pub fn payer(&self, stranger: Payer) -> Payer {
        self.payer.unwrap_or(stranger)
    }

    /// Notes who made a call of it.
    pub fn put_down_to(&mut self, payer: Option<Payer>) {
        self.payer = payer.or(self.payer);
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) {
        self.len += text.len();
        self.text.push_str(text);
    }

    /// Adds a result. Short ones are copied.
    pub fn result(&mut self, result: Bytes) {
        match std::str::from_utf8(&result[..result.len().min(PIECE_MIN)]) {
            Ok(text) if result.len() < PIECE_MIN => self.text(text),
            _ => {
                self.flush();
                self.len += result.len();
                self.pieces.push(result);
                self.is_text.push(false);
            }
        }
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(std::mem::take(&mut self.text).into());
            self.is_text.push(true);
        }
    }

    /// All of it in one text, for where that is needed. What is held stays so
    /// until the answer is dropped.
    pub fn take_text(&mut self) -> String {
        if self.pieces.is_empty() {
            return std::mem::take(&mut self.text);
        }
        self.flush();
        // All pieces are JSON that was written as such.
        String::from_utf8(self.pieces.concat()).unwrap_or_default()
    }

    /// As a body. Its texts are held by `hold`; results are held already, or
    /// shared.
    pub fn into_body(mut self, hold: impl Fn(Bytes) -> Bytes) -> Body {
        self.flush();
        for (piece, _) in self.pieces.iter_mut().zip(&self.is_text).filter(|(_, is_text)| **is_text) {
            *piece = hold(std::mem::take(piece));
        }
        Body::new(Pieces { left: self.len as u64, pieces: self.pieces.into() })
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { len: text.len(), text, ..Self::default() }
    }
}

/// A body that is written piece by piece.
struct Pieces {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front();
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_cut_before_the_item_that_is_too_much() {
        let mut writer = ListWriter::new(20);
        let written: Vec<_> = (1..5).map(|key| writer.write(&"\u{1}", key).unwrap()).collect();
        assert_eq!(written, [true, true, false, false], "as it is written it has six bytes more");
        let reply = Reply::from(writer.cut::<String>("after_x"));
        assert_eq!(reply.result, r#"["\u0001","\u0001"]"#);
        assert_eq!(reply.cut.unwrap().text(), r#"{"after_x":2}"#);
        let mut writer = ListWriter::new(1);
        assert!(writer.write(&"the first", "a").unwrap());
        assert_eq!(Reply::from(writer.whole::<String>()).result, r#"["the first"]"#);
    }

    #[test]
    fn a_long_list_is_read_in_steps() {
        let mut steps = Steps::new(40, 100, 16);
        assert_eq!((steps.next(), steps.go_on(16), steps.next(), steps.go_on(16)), (16, true, 16, true));
        assert_eq!((steps.next(), steps.go_on(8)), (8, false));
        let mut steps = Steps::new(40, 100, 16);
        assert_eq!((steps.next(), steps.go_on(15)), (16, false));
        assert_eq!(
            (Steps::new(0, 100, 16).next(), Steps::new(101, 100, 16).next(), Steps::new(9, 9, 16).next()),
            (0, 101, 9)
        );
    }

    #[test]
    fn what_is_long_is_not_copied() {
        let long = Bytes::from(vec![b'x'; PIECE_MIN]);
        let mut answer = Answer::from("a".to_owned());
        answer.result(Bytes::from_static(b"b"));
        answer.result(long.clone());
        answer.text("c");
        assert_eq!(answer.len(), PIECE_MIN + 3);
        assert_eq!(answer.pieces[1].as_ptr(), long.as_ptr());
        let text = answer.take_text();
        assert!(text.starts_with("abxx") && text.ends_with("xc"));
    }
}
