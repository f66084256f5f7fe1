//! Clients at work against a live server: the packages for them, and those of
//! others.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tools/mod.rs"]
mod tools;

mod sdk;
mod stock_clients;
