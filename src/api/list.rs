//! Lists, written an item at a time and up to a bound.

use serde::Serialize;

use crate::domain::fault::{Fault, FaultCode};

/// After so many bytes or items of a list others have their turn.
const TURN_BYTES: usize = 256 * 1_024;
const TURN_ITEMS: usize = 250;

/// The text of an item of a list.
pub fn text_of(item: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(item).map_err(|cause| {
        tracing::error!(%cause, "an item of a list could not be written");
        FaultCode::Internal.into()
    })
}

/// The text of a list that is being written.
pub struct ListText {
    text: Vec<u8>,
    separator: &'static str,
    bytes_max: usize,
    count: usize,
    /// How much there was when others last had their turn.
    turn_from: (usize, usize),
}

impl ListText {
    /// Begins a text of up to so many bytes, or one item.
    pub fn begin(text: impl Into<Vec<u8>>, separator: &'static str, bytes_max: usize) -> Self {
        let text = text.into();
        Self { turn_from: (text.len(), 0), text, separator, bytes_max, count: 0 }
    }

    /// Writes an item. False if there was no room for it, which there always is
    /// for the first.
    pub fn write(&mut self, item: &[u8]) -> bool {
        if !self.has_room(item) {
            return false;
        }
        if self.count > 0 {
            self.text.extend_from_slice(self.separator.as_bytes());
        }
        self.text.extend_from_slice(item);
        self.count += 1;
        true
    }

    /// True if there is room for an item.
    pub fn has_room(&self, item: &[u8]) -> bool {
        self.count == 0 || self.text.len() + self.separator.len() + item.len() < self.bytes_max
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// How many items there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Lets others have their turn, if much was written.
    pub async fn pause(&mut self) {
        let (bytes, items) = self.turn_from;
        if self.text.len() - bytes >= TURN_BYTES || self.count - items >= TURN_ITEMS {
            self.turn_from = (self.text.len(), self.count);
            tokio::task::yield_now().await;
        }
    }

    /// The whole text, with what stands behind the last item.
    pub fn end(mut self, text: &[u8]) -> Vec<u8> {
        self.text.extend_from_slice(text);
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_item_always_has_room() {
        let mut list = ListText::begin("<", "", 6);
        assert!(list.write(b"a long one") && !list.write(b"b"));
        assert_eq!((list.count(), list.end(b">")), (1, b"<a long one>".to_vec()));
        let mut list = ListText::begin("[", ",", 6);
        assert_eq!(["aa", "b", "c"].map(|item| list.write(item.as_bytes())), [true, true, false]);
        assert_eq!(list.end(b"]"), b"[aa,b]");
    }
}
