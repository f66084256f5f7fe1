//! Spans of the server's own work: what a publish and its commit took, and each attempt at a
//! delivery, joined by the traces of publishers. They go to a collector by OTLP ([`export`]).
//!
//! Who makes spans holds a [`Tracer`], and asks it for one. Without a collector, and for what is not
//! sampled, there is none: that costs a comparison. Nothing here waits, or fails: a span that finds
//! no room is dropped, and counted.

mod attempt;
pub mod export;
mod publish;
mod tracer;

pub use self::attempt::Attempted;
pub use self::publish::Publishing;
pub use self::tracer::{Span, Tracer};
