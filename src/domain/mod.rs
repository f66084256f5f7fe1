//! The words of the trade and their rules: no I/O, no wire format.
//!
//! Nothing here can be serialised; the floors above translate.

pub mod address;
pub mod audit;
pub mod by;
pub mod catalogue;
pub mod cluster;
pub mod delivery;
pub mod event;
pub mod expansion;
pub mod fault;
pub mod fingerprint;
#[cfg(test)]
pub mod fuzz;
pub mod headers;
pub mod id;
pub mod identity;
pub mod job;
pub mod labels;
pub mod merchant;
pub mod message_schema;
pub mod nearest;
pub mod node;
pub mod oauth2;
pub mod page;
pub mod pause;
pub mod policy;
pub mod rate;
pub mod request_id;
pub mod retry;
pub mod secret;
pub mod signature;
pub mod signing;
pub mod standing;
pub mod stats;
pub mod subscription;
pub mod survey;
pub mod target;
pub mod time;
pub mod token;
pub mod topic;
pub mod trace;
pub mod user;
pub mod webhook;
