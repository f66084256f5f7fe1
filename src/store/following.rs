//! Asks whoever follows what others commit, who share the store, to follow what is a
//! merchant's, too.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot};

use super::error::StoreError;
use crate::domain::id::MerchantId;

/// What whoever follows is asked.
pub enum Wish {
    /// To have the feed hear of all that is a merchant's.
    Hear(MerchantId, oneshot::Sender<Result<(), StoreError>>),
    /// To be gone.
    End,
}

/// For those who ask.
#[derive(Clone)]
pub struct Following {
    wishes: mpsc::UnboundedSender<Wish>,
    news: Arc<Notify>,
}

/// For the one who follows.
pub struct Asked {
    /// What is wished.
    pub wishes: mpsc::UnboundedReceiver<Wish>,
    /// There may be something new.
    pub news: Arc<Notify>,
}

impl Following {
    /// With the other end.
    pub fn new() -> (Self, Asked) {
        let ((wishes, asked), news) = (mpsc::unbounded_channel(), Arc::new(Notify::new()));
        (Self { wishes, news: Arc::clone(&news) }, Asked { wishes: asked, news })
    }

    /// Has the feed hear of all that is committed of a merchant from now on, whoever
    /// commits it, as long as it has watchers of his. Fails if the store does.
    pub async fn hear(&self, merchant: MerchantId) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.wish(Wish::Hear(merchant, reply));
        answer.await.unwrap_or(Err(StoreError::ShuttingDown))
    }

    /// Says that there may be something new.
    pub fn look(&self) {
        self.news.notify_one();
    }

    /// Ends it.
    pub fn end(&self) {
        self.wish(Wish::End);
    }

    fn wish(&self, wish: Wish) {
        // Whoever is gone follows nothing, and nobody waits for it.
        let _ = self.wishes.send(wish);
    }
}
