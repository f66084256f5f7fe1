//! Subscriptions of one WebSocket: what it has open, and how what they tell is
//! written.
//!
//! jsonrpsee has subscriptions of its own, which write their answers
//! themselves, with jsonrpsee's ids and only in its own envelope. Here
//! `….subscribe` is a method like any other. It leaves the subscription with
//! the connection, which begins to tell once it has written the answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::{AbortHandle, Abortable, BoxStream, StreamExt};
use serde::Serialize;

use super::fault::{Addressee, error_object};
use crate::domain::fault::{Fault, FaultCode};

/// What a subscription tells: some notifications at a time, written whole.
pub type Told = BoxStream<'static, Vec<String>>;

/// The subscriptions that a connection has open.
#[derive(Clone)]
pub struct Subscriptions {
    max: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    /// By their ids: what ends each, and the name of its notifications.
    entries: HashMap<u64, (AbortHandle, &'static str)>,
}

/// Takes a subscription that has ended out of those that are open.
struct Entry {
    id: u64,
    subscriptions: Subscriptions,
}

/// What a call of a WebSocket has besides: the connection's subscriptions, and
/// what those tell that it opens itself.
#[derive(Clone)]
pub struct Live {
    subscriptions: Subscriptions,
    opened: Arc<Mutex<Vec<Told>>>,
}

impl Subscriptions {
    /// None yet, and at the most `max`.
    pub fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    /// For one request.
    pub fn for_request(&self) -> Live {
        Live { subscriptions: self.clone(), opened: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nothing panics while it holds the subscriptions")
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.subscriptions.open().entries.remove(&self.id);
    }
}

impl Live {
    /// Opens a subscription to what `source` tells, whose notifications have
    /// this name, and returns its id. Fails with fault 111 if there are as
    /// many as may be.
    pub fn open<T: Serialize + 'static>(
        &self,
        notification: &'static str,
        source: BoxStream<'static, Result<Vec<T>, Fault>>,
        to: Addressee,
    ) -> Result<u64, Fault> {
        let max = self.subscriptions.max;
        let (handle, registration) = AbortHandle::new_pair();
        let mut open = self.subscriptions.open();
        if open.entries.len() >= max {
            return Err(Fault::new(FaultCode::InvalidSelection)
                .detail(format!("The connection has {max} subscriptions, the most it may. End one first.")));
        }
        open.last_id += 1;
        let id = open.last_id;
        open.entries.insert(id, (handle, notification));
        drop(open);
        // Goes with what follows, which therefore takes all of it.
        let entry = Entry { id, subscriptions: self.subscriptions.clone() };
        let told = source.map(move |page| {
            let Entry { id, .. } = &entry;
            match page {
                Ok(items) => items.iter().map(|item| written(notification, *id, "result", item)).collect(),
                Err(fault) => vec![written(notification, *id, "error", &error_object(&fault, to))],
            }
        });
        self.opened().push(Abortable::new(told, registration).boxed());
        Ok(id)
    }

    /// Ends a subscription whose notifications have this name: nothing more is
    /// told. False if there is none.
    pub fn close(&self, notification: &'static str, id: u64) -> bool {
        let mut open = self.subscriptions.open();
        if open.entries.get(&id).is_none_or(|(_, name)| *name != notification) {
            return false;
        }
        open.entries.remove(&id).inspect(|(handle, _)| handle.abort()).is_some()
    }

    /// Takes what the request has opened.
    pub fn take_opened(&self) -> Vec<Told> {
        std::mem::take(&mut *self.opened())
    }

    fn opened(&self) -> MutexGuard<'_, Vec<Told>> {
        self.opened.lock().expect("nothing panics while it holds what was opened")
    }
}

/// A notification in the shape that jsonrpsee and Ethereum's nodes have.
fn written(method: &str, id: u64, member: &str, value: &impl Serialize) -> String {
    let value = serde_json::to_string(value).expect("what is told has only string keys");
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"subscription\":{id},\"{member}\":{value}}}}}")
}
