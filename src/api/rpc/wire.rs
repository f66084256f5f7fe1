//! Values as clients write them, and what is written for clients.

mod audit;
mod breaker;
mod carried;
mod delivery;
mod event;
mod job;
mod live;
mod merchant;
mod node;
mod policy;
pub mod schema;
mod stats;
mod topic;
mod values;
mod webhook;

pub use self::audit::AuditItem;
pub use self::carried::{ExportedItem, ImportFault, ImportedItem};
pub use self::delivery::{AttemptItem, DeliveryItem, PulledItem, TestedItem};
pub use self::event::{EventItem, EventSummaryItem, ExplanationItem, ReceiptItem};
pub use self::job::{BackfillItem, JobItem, ReplayItem};
pub use self::live::{DeliveryNewsItem, EventNewsItem};
pub use self::merchant::{MerchantItem, QuotaData, UsedItem};
pub use self::node::ClusterItem;
pub use self::policy::{Basic, Batch, Rate, Retry, Times, TokenGrant, nullable};
pub use self::stats::StatsItem;
pub use self::topic::{TopicData, TopicItem};
pub use self::values::{Flag, Headers, Object, Topics, Whole};
pub use self::webhook::{Shown, WebhookDetail, WebhookItem};
