//! How the calls of an attack were answered.

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// How the calls of an attack were answered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Tally {
    /// Those that did what was asked.
    pub done: u64,
    /// Those that were answered with a fault, or a status that is no success.
    pub refused: u64,
    /// Connections that could not be had, or were closed.
    pub cut: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { done: self.done + other.done, refused: self.refused + other.refused, cut: self.cut + other.cut }
    }
}
