//! From a publish to a receiver, through the public doors of both.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tools/mod.rs"]
mod tools;

mod asymmetric;
mod batch;
mod egress;
mod faults;
mod formats;
mod mutual;
mod oauth2;
mod raw;
mod resend;
mod retention;
mod secure;
mod sending;
mod shares;
mod spans;
mod traced;
mod unannounced;
