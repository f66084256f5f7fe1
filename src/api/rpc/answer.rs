//! Answers, in pieces: what is long is never copied from one text to another,
//! and what is the same for everybody is there once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::list::{ListText, text_of};
use crate::domain::fault::{Fault, FaultCode};
use crate::metrics::{Limit, Metrics};
use crate::work::Account;
use crate::work::budget::Reservation;

/// Results below this become part of the text around them, in bytes.
const PIECE_MIN: usize = 4_096;

/// A list takes room for its answer in steps of so many bytes.
const ROOM_STEP: usize = 64 * 1_024;
/// When to try again where too many answers wait to be sent.
const UNTAKEN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Room for an answer that is being made: it is counted as it grows, lest many
/// be begun at once that find none when they are done.
#[derive(Clone, Debug)]
pub struct Room {
    held: Arc<Reservation>,
    metrics: Arc<Metrics>,
    /// What was made before, as part of the same answer.
    before: usize,
}

impl Room {
    /// An answer that is counted so; that there is no more room is counted in
    /// `metrics`.
    pub fn new(held: Reservation, metrics: Arc<Metrics>) -> Self {
        Self { held: Arc::new(held), metrics, before: 0 }
    }

    /// For what comes behind so many bytes of the answer.
    pub fn behind(&self, bytes: usize) -> Self {
        Self { before: bytes, ..self.clone() }
    }

    /// Counts so many bytes. Fails with fault 120 if there is no room for them.
    pub fn count(&self, bytes: usize) -> Result<(), Fault> {
        if self.held.try_resize(self.before + bytes) { Ok(()) } else { Err(untaken(&self.metrics)) }
    }

    /// Counts so many bytes that are there, whether there is room or not.
    pub fn is(&self, bytes: usize) {
        self.held.resize(self.before + bytes);
    }

    /// Counts what was made until it has been sent.
    pub fn around(self, made: Bytes) -> Bytes {
        Reservation::around(self.held, made)
    }
}

/// Why a call is refused whose caller leaves too many answers untaken.
pub fn untaken(metrics: &Metrics) -> Fault {
    metrics.refused(Limit::UnsentBytes);
    Fault::new(FaultCode::TooManyCalls)
        .detail("Too much of what you asked for waits to be sent. Read the answers, and try again.")
        .retry_after(UNTAKEN_RETRY_AFTER)
}

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
    pub payer: Option<Account>,
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
    room: Room,
    /// So much of it is counted.
    counted: usize,
}

impl ListWriter {
    /// Of up to so many bytes, or one item.
    pub fn new(bytes_max: usize, room: Room) -> Self {
        Self { text: ListText::begin("[", ",", bytes_max), last: None, room, counted: 0 }
    }

    /// Writes an item that has this key. False if the list would be too long,
    /// which it never is with the first. Fails with fault 120 if the caller
    /// leaves too much untaken.
    pub fn write(&mut self, item: &impl Serialize, key: impl Into<Value>) -> Result<bool, Fault> {
        self.write_text(&text_of(item)?, key)
    }

    /// The same for an item whose text is there already.
    pub fn write_text(&mut self, text: &[u8], key: impl Into<Value>) -> Result<bool, Fault> {
        if !self.text.has_room(text) {
            return Ok(false);
        }
        let len = self.text.len() + 1 + text.len();
        if len > self.counted {
            self.counted = len.next_multiple_of(ROOM_STEP);
            self.room.count(self.counted)?;
        }
        self.last = Some(key.into());
        Ok(self.text.write(text))
    }

    /// The key of the last item that was written.
    pub fn last(&self) -> Option<&Value> {
        self.last.as_ref()
    }

    /// Lets others have their turn, if much was written.
    pub async fn pause(&mut self) {
        self.text.pause().await;
    }

    /// The list, whole.
    pub fn whole<T>(self) -> Listed<T> {
        Listed { text: self.text.end(b"]"), cut: None, _of: PhantomData }
    }

    /// The list, which goes on behind what has this key, be it shown or not, by
    /// this option.
    pub fn cut_behind<T>(self, option: &'static str, last: impl Into<Value>) -> Listed<T> {
        Self { last: Some(last.into()), ..self }.cut(option)
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
    payer: Option<Account>,
    retry_after: Option<Duration>,
    /// Calls that were none, or of methods that there are not: nobody was asked
    /// who makes them.
    strange: u32,
}

impl Answer {
    /// How many calls nobody was found to have made.
    pub fn strange(&self) -> u32 {
        self.strange
    }

    /// Notes one more of them.
    pub fn note_strange(&mut self) {
        self.strange += 1;
    }

    /// To whose account its own texts are put down: whoever made a call of it,
    /// or else this one.
    pub fn payer(&self, stranger: Account) -> Account {
        self.payer.unwrap_or(stranger)
    }

    /// Notes who made a call of it.
    pub fn put_down_to(&mut self, payer: Option<Account>) {
        self.payer = payer.or(self.payer);
    }

    /// When trying again makes sense, if it is a refusal that says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The same answer, which says when to try again.
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
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

    /// Its pieces. Its texts are held by `hold`; results are held already, or
    /// shared.
    pub fn into_pieces(mut self, hold: impl Fn(Bytes) -> Bytes) -> VecDeque<Bytes> {
        self.flush();
        let pieces = self.pieces.into_iter().zip(self.is_text);
        pieces.map(|(piece, is_text)| if is_text { hold(piece) } else { piece }).collect()
    }

    /// As a body, held likewise.
    pub fn into_body(self, hold: impl Fn(Bytes) -> Bytes) -> Body {
        let left = self.len as u64;
        Body::new(Pieces { left, pieces: self.into_pieces(hold) })
    }

    /// All of it in one text.
    #[cfg(test)]
    pub fn into_text(self) -> String {
        let pieces: Vec<_> = self.into_pieces(|text| text).into();
        String::from_utf8(pieces.concat()).unwrap()
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
    use crate::work::budget::Budget;

    fn room(bytes: usize) -> Room {
        Room::new(Budget::new(bytes).hold(Account::Server, 0), Arc::default())
    }

    #[test]
    fn a_list_for_which_there_is_no_room_is_refused() {
        let budget = Budget::for_everybody(4 * ROOM_STEP);
        let other = budget.hold(Account::Server, 2 * ROOM_STEP);
        let mut list = ListWriter::new(usize::MAX, Room::new(budget.hold(Account::Server, 0), Arc::default()));
        let item = "x".repeat(ROOM_STEP);
        assert_eq!(list.write(&item, 1).unwrap_err().code, FaultCode::TooManyCalls);
        drop(other);
        assert_eq!((list.write(&item, 1), list.write(&item, 2)), (Ok(true), Ok(true)));
    }

    #[test]
    fn a_list_is_cut_before_the_item_that_is_too_much() {
        let mut writer = ListWriter::new(20, room(1));
        let written: Vec<_> = (1..5).map(|key| writer.write(&"\u{1}", key).unwrap()).collect();
        assert_eq!(written, [true, true, false, false], "as it is written it has six bytes more");
        let reply = Reply::from(writer.cut::<String>("after_x"));
        assert_eq!(reply.result, r#"["\u0001","\u0001"]"#);
        assert_eq!(reply.cut.unwrap().text(), r#"{"after_x":2}"#);
        let mut writer = ListWriter::new(1, room(1));
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
        let text = answer.into_text();
        assert!(text.starts_with("abxx") && text.ends_with("xc"));
    }
}
