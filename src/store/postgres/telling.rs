//! What a commit has for others: what is written with it, so that it is not lost, and
//! the hints that follow.

use std::collections::BTreeSet;

use super::hints::Hint;
use super::journal::{self, Entry};
use super::notes::{self, Note};
use super::session::Session;
use crate::domain::id::{MerchantId, WebhookId};
use crate::domain::node::Bucket;
use crate::store::error::StoreError;
use crate::store::ledger::book::Book;
use crate::store::ledger::commit::committed;
use crate::store::ledger::news::Announcement;
use crate::store::tending::Tending;

/// What is written with a commit for others.
#[derive(Default)]
pub struct ForOthers {
    /// For those who watch.
    pub journal: Vec<(MerchantId, Entry)>,
    /// For those who send.
    notes: Vec<(Bucket, Note)>,
}

impl ForOthers {
    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.journal.is_empty() && self.notes.is_empty()
    }
}

/// What a commit with this news is to leave, of whose merchants these are watched.
pub fn left(news: &[Announcement], book: &Book, tending: &Tending, watched: &[MerchantId]) -> ForOthers {
    let journal = match watched.is_empty() {
        true => Vec::new(),
        false => journal::entries(committed(news, book), watched),
    };
    ForOthers { journal, notes: notes(news, book, tending) }
}

/// For those who send for merchants to whom this node does not send. An event that
/// was published they see without.
fn notes(news: &[Announcement], book: &Book, tending: &Tending) -> Vec<(Bucket, Note)> {
    let elsewhere = |id: &WebhookId| {
        let merchant = book.entry(*id)?.webhook.merchant_id;
        (!tending.has(merchant)).then_some(Bucket::of(merchant))
    };
    let (mut notes, mut looks, mut is_published) = (Vec::new(), BTreeSet::new(), false);
    for item in news {
        let (id, note) = match item {
            Announcement::Published(_) => {
                is_published = true;
                continue;
            }
            Announcement::Through(id, _) | Announcement::Parcel(id, _) => {
                looks.extend(elsewhere(id));
                continue;
            }
            Announcement::Test(id, parcel) => (id, Note::Now(*id, parcel.increment_id)),
            Announcement::Now(id, number) => (id, Note::Now(*id, *number)),
            Announcement::Reread(id, from) => (id, Note::Reread(*id, *from)),
            Announcement::Settled(id) => (id, Note::Settled(*id)),
            Announcement::Webhook(..)
            | Announcement::Learned(..)
            | Announcement::Found(..)
            | Announcement::Attempted(..)
            | Announcement::Changed(..)
            | Announcement::Paused(..)
            | Announcement::LearnedPaused(..)
            | Announcement::LeaseLost(_) => continue,
        };
        notes.extend(elsewhere(id).map(|bucket| (bucket, note)));
    }
    if !is_published {
        notes.extend(looks.into_iter().map(|bucket| (bucket, Note::Look)));
    }
    notes
}

/// Writes it, with the transaction that is open.
pub async fn write(session: &Session, left: &ForOthers) -> Result<(), StoreError> {
    notes::leave(session, &left.notes).await?;
    journal::write(session, &left.journal).await
}

/// What others may want to look at: who sends for a merchant, what was left to him;
/// and everybody, which numbers there are, for receivers that wait for them, and of
/// whom there is something in the journal.
pub fn hints(news: &[Announcement], left: &ForOthers) -> Vec<Hint> {
    let hint = |item: &Announcement| match item {
        Announcement::Webhook(..) | Announcement::Paused(..) => Some(Hint::Webhooks),
        Announcement::Through(id, number) => Some(Hint::Through(*id, *number)),
        Announcement::Parcel(id, parcel) | Announcement::Test(id, parcel) => {
            Some(Hint::Through(*id, parcel.increment_id))
        }
        Announcement::Learned(..)
        | Announcement::Found(..)
        | Announcement::Now(..)
        | Announcement::Reread(..)
        | Announcement::Settled(_)
        | Announcement::Attempted(..)
        | Announcement::Changed(..)
        | Announcement::LeaseLost(_)
        | Announcement::LearnedPaused(..)
        | Announcement::Published(_) => None,
    };
    let of_journal = left.journal.iter().map(|(merchant, _)| Hint::Journal(*merchant));
    let of_notes = left.notes.iter().map(|(bucket, _)| Hint::Notes(*bucket));
    news.iter().filter_map(hint).chain(of_journal).chain(of_notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IncrementId;

    /// Whoever begins to send tells nobody of what he finds.
    #[test]
    fn what_was_found_or_heard_is_no_news_for_others() {
        let (id, number) = (WebhookId(7), IncrementId(9));
        let found = [Announcement::Learned(id, None), Announcement::Found(id, number)];
        assert_eq!(hints(&found, &ForOthers::default()), []);
        let made = [Announcement::Webhook(id, None), Announcement::Through(id, number)];
        assert_eq!(hints(&made, &ForOthers::default()), [Hint::Webhooks, Hint::Through(id, number)]);
    }
}
