//! tallyhook: a webhook server that loses nothing it has accepted and numbers
//! what it sends without gaps.
//!
//! Read `ARCHITECTURE.md` for the floor plan. To follow one publish from the
//! call to its receiver: [`api::rpc`] decodes it, [`service`] checks who may
//! do it, [`store`] commits it with its numbers, [`delivery`] posts it.
//! Imports go down only, from `cli` to `domain`; a test checks it.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod metrics;
pub mod render;
pub mod service;
pub mod spans;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod work;
