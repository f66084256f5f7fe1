//! The interface through the public door: JSON-RPC over HTTP and WebSockets,
//! the REST dialects, who gets in, and that its documents and examples are true.

#[path = "../common/mod.rs"]
mod common;
#[path = "../disk/mod.rs"]
mod disk;
#[path = "../examples/mod.rs"]
mod examples;
#[path = "../tools/mod.rs"]
mod tools;

mod auth;
mod http;
mod load;
mod logs;
mod openrpc;
mod ops;
mod proxied;
mod request_ids;
mod rest;
mod rest_documents;
mod rpc;
mod rpc_examples;
mod tls;
mod ws;
