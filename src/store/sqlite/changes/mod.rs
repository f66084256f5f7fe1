//! What the writer can change, each as it runs within a transaction.

pub mod batches;
pub mod choosing;
pub mod fanout;
pub mod forgetting;
pub mod jobs;
pub mod notices;
pub mod outcomes;
pub mod publishing;
pub mod resending;
pub mod sessions;
pub mod topics;
pub mod webhooks;

use crate::store::StoreError;

type Result<T> = std::result::Result<T, StoreError>;
