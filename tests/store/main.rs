//! The store: what every engine must do, and what is left when the process is
//! killed or the power cut.

#[path = "../common/mod.rs"]
mod common;
#[path = "../disk/mod.rs"]
mod disk;
#[path = "../tools/mod.rs"]
mod tools;

mod cluster;
mod crash;
mod postgres;
mod power;
mod process;
mod sqlite;
mod suite;
