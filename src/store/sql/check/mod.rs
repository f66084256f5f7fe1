//! Proves what a store promises, beside a server that goes on.
//!
//! It goes through rows by their keys, a part at a time, and each part is read as
//! it was at one moment. What is compared with one another stands in one part, and
//! whatever is checked holds after every commit: so nothing that a server does
//! meanwhile looks wrong, and nothing has to be looked at twice. Between two parts
//! anything may happen. Nothing is carried from one part to the next but numbers
//! that were seen, which never go.
//!
//! A part is short, so nobody who clears up behind the server waits for it. What it
//! holds in memory does not grow with the store.
//!
//! Another kind of check is a [`Walk`], and a line in [`walks`].

mod attempts;
mod batches;
mod belonging;
mod deliveries;
mod events;
mod fanouts;
mod fault;
mod walk;
mod webhooks;

use self::attempts::Attempts;
use self::belonging::Belonging;
use self::deliveries::Deliveries;
use self::events::Events;
use self::fanouts::Fanouts;
pub use self::fault::{Fault, Kind, Place};
pub use self::walk::LookedAt;
use self::walk::{Findings, Part, Walk};
use self::webhooks::Webhooks;
use super::conn::Conn;
use crate::store::error::StoreError;

type Result<T> = std::result::Result<T, StoreError>;

/// All kinds of check, in their order.
fn walks() -> impl Iterator<Item = Box<dyn Walk>> {
    let large: [Box<dyn Walk>; 5] = [
        Box::new(Webhooks::default()),
        Box::new(Deliveries::default()),
        Box::new(Events::default()),
        Box::new(Attempts::default()),
        Box::new(Fanouts::default()),
    ];
    large.into_iter().chain(Belonging::all().map(|walk| Box::new(walk) as Box<dyn Walk>))
}

/// A connection that can't write, on which a store is looked at as it is at one
/// moment.
pub trait Moment: Send {
    /// Has something read, all of it as it is now.
    fn look(&mut self, look: &mut dyn FnMut(&mut dyn Conn) -> Result<()>) -> Result<()>;

    /// What the engine itself finds damaged of what it keeps the rows in, in its words. Some
    /// engines look after that by themselves.
    fn damages(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Someone who looks whether a store is as it has to be.
pub struct Checker {
    conn: Box<dyn Moment>,
}

/// What is told meanwhile.
pub enum News<'a> {
    /// Something is wrong.
    Fault(&'a Fault),
    /// This is gone through, and so much was looked at.
    Progress(&'static str, LookedAt),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How much was looked at.
    pub looked_at: LookedAt,
    /// How much is wrong.
    pub faults: u64,
}

impl Checker {
    /// On such a connection.
    pub fn on(conn: impl Moment + 'static) -> Self {
        Self { conn: Box::new(conn) }
    }

    /// Goes through the whole store, and tells what is wrong as it is found. Fails
    /// if the store can't be read.
    pub fn run(&mut self, mut tell: impl FnMut(News<'_>)) -> Result<Checked> {
        let (mut found, mut faults) = (Findings::default(), 0);
        tell(News::Progress("the file", found.looked_at));
        for damage in self.conn.damages()? {
            let expected = "what was written".to_owned();
            faults += 1;
            tell(News::Fault(&Fault { kind: Kind::Damaged, place: Place::File, found: damage, expected }));
        }
        for mut walk in walks() {
            let mut part = Part::More;
            while part == Part::More {
                tell(News::Progress(walk.goes_through(), found.looked_at));
                self.conn.look(&mut |conn| {
                    part = walk.part(conn, &mut found)?;
                    Ok(())
                })?;
                faults += found.faults.len() as u64;
                found.faults.drain(..).for_each(|fault| tell(News::Fault(&fault)));
            }
        }
        Ok(Checked { looked_at: found.looked_at, faults })
    }
}
