//! What a neighbour noticed of an attack.

use serde::Serialize;

use super::neighbour::Waits;
use super::tally::Tally;

/// What came of an attack.
#[derive(Debug, Serialize)]
pub struct Row {
    pub attack: &'static str,
    pub what: &'static str,
    /// What a neighbour noticed; `None` if the attack could not be made.
    #[serde(flatten)]
    pub noticed: Option<Noticed>,
    /// Why it could not.
    pub failed: Option<String>,
}

/// What a neighbour noticed.
#[derive(Debug, Serialize)]
pub struct Noticed {
    /// How the attackers' calls were answered; `None` if one did not come to an end.
    pub attacker: Option<Tally>,
    pub waits: Vec<Compared>,
    /// The most memory that the server had during the attack, in bytes.
    pub peak_rss: Option<u64>,
    /// What it had when it had come to rest, or 20 s later.
    pub rss_after: Option<u64>,
    /// The files of the store then, in bytes.
    pub store_bytes: u64,
}

impl Row {
    /// Which attack, if it could not be made.
    pub fn failed(&self) -> Option<&'static str> {
        self.failed.as_ref().map(|_| self.attack)
    }
}

/// What the neighbour waited for, before and during.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub what: &'static str,
    pub before: Waits,
    pub during: Waits,
    pub is_ok: bool,
}
