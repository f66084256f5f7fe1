//! TLS sessions that are kept to be resumed, which spares a receiver's
//! certificates being read and judged again.
//!
//! A ticket of TLS 1.3 is good for one connection (RFC 8446 §C.4). Rustls's own
//! store keeps eight for a name: too few for a receiver that closes each
//! connection after its answer, to which hundreds are opened at once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// What rustls's store is told for 512 names.
const NAMES_SIZE: usize = 4_096;
/// Tickets that are kept, each with its receiver's certificates: some kilobytes.
const TICKETS_MAX: usize = 4_096;
/// The same of one name: as many as a webhook has deliveries in flight by default,
/// which may all end and begin together.
const NAME_TICKETS_MAX: usize = 1_024;

/// Keeps sessions by name; the tickets that came first give way.
pub struct Sessions {
    /// One of TLS 1.2 a name, and how it agrees on keys.
    names: ClientSessionMemoryCache,
    tickets: Mutex<Tickets<Tls13ClientSessionValue>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { names: ClientSessionMemoryCache::new(NAMES_SIZE), tickets: Mutex::default() }
    }
}

impl Sessions {
    fn tickets(&self) -> MutexGuard<'_, Tickets<Tls13ClientSessionValue>> {
        self.tickets.lock().expect("nothing panics while it holds the tickets")
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What a session holds is secret.
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.names.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.names.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.names.set_tls12_session(name, session);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.names.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.names.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.tickets().insert(name, ticket);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets().take(name)
    }
}

struct Tickets<T> {
    /// By the order in which they came.
    all: BTreeMap<u64, (ServerName<'static>, T)>,
    /// Which of them each name has, in that order; none has an empty list.
    named: HashMap<ServerName<'static>, VecDeque<u64>>,
    next: u64,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), named: HashMap::new(), next: 0 }
    }
}

impl<T> Tickets<T> {
    fn insert(&mut self, name: ServerName<'static>, ticket: T) {
        let own = self.named.get(&name).filter(|own| own.len() >= NAME_TICKETS_MAX);
        let oldest = match own.and_then(VecDeque::front) {
            Some(oldest) => Some(*oldest),
            None if self.all.len() >= TICKETS_MAX => self.all.keys().next().copied(),
            None => None,
        };
        if let Some(oldest) = oldest {
            self.drop_oldest(oldest);
        }
        self.named.entry(name.clone()).or_default().push_back(self.next);
        self.all.insert(self.next, (name, ticket));
        self.next += 1;
    }

    /// The one that came last, for it lives the longest.
    fn take(&mut self, name: &ServerName<'static>) -> Option<T> {
        let own = self.named.get_mut(name)?;
        let number = own.pop_back()?;
        if own.is_empty() {
            self.named.remove(name);
        }
        self.all.remove(&number).map(|(_, ticket)| ticket)
    }

    /// Drops the oldest of all, or of its name, which is its name's oldest in both cases.
    fn drop_oldest(&mut self, number: u64) {
        let Some((name, _)) = self.all.remove(&number) else { return };
        if let Some(own) = self.named.get_mut(&name) {
            own.pop_front();
            if own.is_empty() {
                self.named.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ServerName<'static> {
        format!("h{number}.test").try_into().unwrap()
    }

    #[test]
    fn a_ticket_is_given_once_and_the_last_one_first() {
        let mut tickets = Tickets::default();
        for ticket in 1..=3 {
            tickets.insert(name(1), ticket);
        }
        tickets.insert(name(2), 4);
        let taken: Vec<_> = std::iter::from_fn(|| tickets.take(&name(1))).collect();
        assert_eq!(taken, [3, 2, 1]);
        assert_eq!((tickets.take(&name(2)), tickets.take(&name(2))), (Some(4), None));
        assert!(tickets.all.is_empty() && tickets.named.is_empty());
    }

    #[test]
    fn those_that_came_first_give_way() {
        let mut tickets = Tickets::default();
        for ticket in 0..NAME_TICKETS_MAX + 10 {
            tickets.insert(name(0), ticket);
        }
        assert_eq!(tickets.all.len(), NAME_TICKETS_MAX, "a name takes up no more");
        let others = TICKETS_MAX - 5;
        for other in 1..=others {
            tickets.insert(name(other), other);
        }
        assert_eq!((tickets.all.len(), tickets.named.len()), (TICKETS_MAX, others + 1));
        let left: Vec<_> = std::iter::from_fn(|| tickets.take(&name(0))).collect();
        assert_eq!(left, (NAME_TICKETS_MAX + 5..NAME_TICKETS_MAX + 10).rev().collect::<Vec<_>>());
        assert_eq!(tickets.named.len(), others);
    }
}
