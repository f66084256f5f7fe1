//! What every part of a store stands on: its name, the line before its writer,
//! and what it tells of its commits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::feed::Feed;
use super::ledger::queue::{Cost, Queue, Refused};
use super::ledger::queued::{Claim, Queued, claimed, queued};
use super::ledger::{BUSY_RETRY_AFTER, Change};
use super::mailbox::Waits;
use crate::domain::id::StoreId;
use crate::store::error::StoreError;
use crate::work::Account;

/// What every part of a store stands on.
pub trait Base: Send + Sync + 'static {
    /// The store's name, part of every `webhook-id`.
    fn store_id(&self) -> &StoreId;

    /// What waits for the one who writes.
    fn queue(&self) -> &Queue<Queued>;

    /// How long a change may wait for its turn before it is refused with nothing done;
    /// `None`: it waits.
    fn patience(&self) -> Option<Duration>;

    /// For callers who wait until something has been committed.
    fn waits(&self) -> &Waits;

    /// For callers who follow all that is committed.
    fn feed(&self) -> &Arc<Feed>;
}

/// Has a small change made, and waits until it is on disk.
pub async fn change<S: Base + ?Sized, C: Change>(
    store: &S,
    account: impl Into<Account>,
    change: C,
) -> Result<C::Answer, StoreError> {
    change_much(store, account, Cost::SMALL, change).await
}

/// The same with one that costs so much.
pub async fn change_much<S: Base + ?Sized, C: Change>(
    store: &S,
    account: impl Into<Account>,
    cost: Cost,
    change: C,
) -> Result<C::Answer, StoreError> {
    let (reply, mut answer) = oneshot::channel();
    let claim = Arc::<Claim>::default();
    // Whoever asked may have gone; the change stands all the same.
    let change = claimed(change, Arc::clone(&claim), move |result| drop(reply.send(result)));
    store.queue().push(account.into(), cost, change).map_err(refused)?;
    let Some(patience) = store.patience() else { return answered(answer).await };
    match timeout(patience, &mut answer).await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(writer_is_gone())),
        Err(_) if claim.take() => Err(StoreError::unavailable("the change has waited too long for its turn")),
        // It is being made: what has become of it shows soon.
        Err(_) => answered(answer).await,
    }
}

/// The same with one that goes before all others.
pub async fn change_first<S: Base + ?Sized, C: Change>(
    store: &S,
    cost: Cost,
    change: C,
) -> Result<C::Answer, StoreError> {
    let (reply, answer) = oneshot::channel();
    let change = queued(change, move |result| drop(reply.send(result)));
    store.queue().push_first(cost, change).map_err(refused)?;
    answered(answer).await
}

fn refused(why: Refused) -> StoreError {
    match why {
        Refused::Full => StoreError::Busy { retry_after: BUSY_RETRY_AFTER },
        Refused::Closed => StoreError::ShuttingDown,
        Refused::Abandoned => writer_is_gone(),
    }
}

fn writer_is_gone() -> StoreError {
    StoreError::failed("the writer thread is gone")
}

async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(writer_is_gone()))
}
