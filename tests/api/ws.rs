//! JSON-RPC over a WebSocket: the same calls, and subscriptions.

mod calls;
mod connection;
mod deliveries;
mod events;
mod slow;
