//! The boundary as a whole: all that a store does for the floors above.

use super::accounts::Accounts;
use super::attempt_log::AttemptLog;
use super::audit::AuditLog;
use super::catalogue::Catalogue;
use super::deliveries::Deliveries;
#[cfg(doc)]
use super::error::StoreError;
use super::events::Events;
use super::merchants::Merchants;
use super::nodes::Nodes;
use super::outbox::Outbox;
use super::resending::Resending;
use super::surveyed::Surveyed;
use super::tokens::Tokens;
use super::watched::Watched;
use super::webhooks::Webhooks;

/// What the floors above need to know and to have changed. Every caller's
/// look-up happens within a merchant, so nobody sees another's data.
///
/// Any method fails with [`StoreError::Failed`] if the store can't be read or
/// written, with [`StoreError::Unavailable`] if the database can't be reached, with
/// [`StoreError::Busy`] if too much waits in its line, and with
/// [`StoreError::ShuttingDown`]. Those that change something fail with
/// [`StoreError::DiskFull`], [`StoreError::TakenAway`] and [`StoreError::Unconfirmed`]
/// besides. `Busy`, `Held`, `Unavailable`, `ShuttingDown` and `DiskFull` say that
/// nothing was done. When one that changes something has answered, the change is on
/// disk.
pub trait Store:
    Accounts
    + Tokens
    + Merchants
    + Webhooks
    + Catalogue
    + Events
    + Deliveries
    + Resending
    + AttemptLog
    + AuditLog
    + Outbox
    + Watched
    + Nodes
    + Surveyed
{
}

impl<T> Store for T where
    T: Accounts
        + Tokens
        + Merchants
        + Webhooks
        + Catalogue
        + Events
        + Deliveries
        + Resending
        + AttemptLog
        + AuditLog
        + Outbox
        + Watched
        + Nodes
        + Surveyed
{
}
