//! What a node that does not send for a merchant leaves to the one that does: rows,
//! committed with the change that they are about, which that one takes out. Unlike a
//! hint none is lost, and each is heeded once.
//!
//! Publishing leaves none: whoever looks sees by the last event that there is
//! something new.

use tokio_postgres::types::Type;

use super::session::Session;
use super::values::Parameter;
use crate::domain::id::{IncrementId, WebhookId};
use crate::domain::node::Bucket;
use crate::store::error::StoreError;

/// Something for the one who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// There are new numbers, though maybe no new event.
    Look,
    /// Deliveries of a webhook from that number on are no longer as they were.
    Reread(WebhookId, IncrementId),
    /// A delivery is to be sent now.
    Now(WebhookId, IncrementId),
    /// More of a webhook's numbers have ended.
    Settled(WebhookId),
}

/// Leaves them.
pub const LEAVE: &str = "INSERT INTO note (bucket, word) SELECT * FROM unnest($1, $2)";

impl Note {
    fn word(self) -> String {
        match self {
            Self::Look => "g".to_owned(),
            Self::Reread(id, number) => format!("r{id}:{number}"),
            Self::Now(id, number) => format!("n{id}:{number}"),
            Self::Settled(id) => format!("s{id}"),
        }
    }

    /// As it was left; what can't be read is passed over, for a newer node may have
    /// more to say.
    pub fn read(word: &str) -> Option<Self> {
        let (kind, rest) = word.split_at_checked(1)?;
        let number = || {
            let (id, number) = rest.split_once(':')?;
            Some((WebhookId(id.parse().ok()?), IncrementId(number.parse().ok()?)))
        };
        match kind {
            "g" => Some(Self::Look),
            "r" => number().map(|(id, number)| Self::Reread(id, number)),
            "n" => number().map(|(id, number)| Self::Now(id, number)),
            "s" => rest.parse().ok().map(|id| Self::Settled(WebhookId(id))),
            _ => None,
        }
    }
}

/// Leaves notes, with the transaction that is open.
pub async fn leave(session: &Session, notes: &[(Bucket, Note)]) -> Result<(), StoreError> {
    if notes.is_empty() {
        return Ok(());
    }
    let (buckets, words): (Vec<i64>, Vec<String>) =
        notes.iter().map(|(bucket, note)| (i64::from(bucket.0), note.word())).unzip();
    let values: [Parameter<'_>; 2] = [(&buckets, Type::INT8_ARRAY), (&words, Type::TEXT_ARRAY)];
    session.tell(LEAVE, &values).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read() {
        let (id, number) = (WebhookId(7), IncrementId(9));
        for note in [Note::Look, Note::Reread(id, number), Note::Now(id, number), Note::Settled(id)] {
            assert_eq!(Note::read(&note.word()), Some(note));
        }
        for word in ["", "x1:2", "r1", "n:1", "s", "ä"] {
            assert_eq!(Note::read(word), None, "{word}");
        }
    }
}
