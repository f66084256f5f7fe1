//! JSON-RPC over a WebSocket: the same calls, and subscriptions.

mod common;
mod disk;

#[path = "ws/calls.rs"]
mod calls;
#[path = "ws/connection.rs"]
mod connection;
#[path = "ws/deliveries.rs"]
mod deliveries;
#[path = "ws/events.rs"]
mod events;
#[path = "ws/slow.rs"]
mod slow;
