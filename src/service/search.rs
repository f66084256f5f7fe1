//! Finding events by a value in their messages, which have no index for that:
//! they are read, some at a time, and as many as one call may have read.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::caller::Caller;
use super::event::{EventPage, EventSelection, SORT_KEYS};
use super::{Failures, Service};
use crate::domain::event::{EventFilter, EventSummary};
use crate::domain::fault::{Fault, FaultCode, Violation};
use crate::domain::id::EventId;
use crate::domain::page::{Order, read_sort};
use crate::domain::user::Permission;

/// The most bytes of messages that one call has read, and one message.
const BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What a message must hold to be found, as a caller says it.
#[derive(Clone, Debug)]
pub struct MemberValue {
    /// Where: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What stands there.
    pub value: Value,
}

/// A search that has begun.
#[derive(Debug)]
pub struct EventSearch {
    filter: EventFilter,
    wanted: Arc<MemberValue>,
    order: Order,
    /// All events up to this one, in that order, have been looked into.
    after: Option<EventId>,
    found: VecDeque<EventSummary>,
    is_last: bool,
    looked_at: usize,
    bytes: usize,
}

/// What a search comes upon next.
#[derive(Clone, Debug)]
pub enum Sought {
    /// An event that holds what is looked for.
    Found(EventSummary),
    /// It has looked as far as it may: up to this event.
    Far(EventId),
    /// There are no more events.
    End,
}

impl Service {
    /// Begins to look for events of a selection whose messages hold a value.
    /// Fails with fault 111.
    pub async fn search_events(
        &self,
        caller: &Caller,
        selection: EventSelection,
        page: &EventPage,
        wanted: MemberValue,
    ) -> Result<EventSearch, Fault> {
        caller.check(Permission::WebhookRead)?;
        let checked = check(&wanted).and_then(|()| read_sort(page.sort.as_deref(), &SORT_KEYS));
        let (_, order) = checked.map_err(|violation| violation.into_fault(FaultCode::InvalidSelection))?;
        let filter = self.selected_events(caller, selection).await?;
        let after = page.after_event_id.map(EventId);
        let (wanted, found) = (Arc::new(wanted), VecDeque::new());
        Ok(EventSearch { filter, wanted, order, after, found, is_last: false, looked_at: 0, bytes: 0 })
    }

    /// The next event that is found. Messages are read in pieces, and judged
    /// apart. Fails with fault 120 if too much of the caller's waits for that.
    pub async fn next_found(&self, caller: &Caller, search: &mut EventSearch) -> Result<Sought, Fault> {
        loop {
            if let Some(found) = search.found.pop_front() {
                return Ok(Sought::Found(found));
            }
            match search.after {
                _ if search.is_last => return Ok(Sought::End),
                Some(after) if search.looked_at >= self.config.filter_events_max as usize => {
                    return Ok(Sought::Far(after));
                }
                Some(after) if search.bytes >= BYTES_MAX => return Ok(Sought::Far(after)),
                _ => {}
            }
            let (filter, order, after) = (search.filter.clone(), search.order, search.after);
            let looked = self.store.look_into(caller.everywhere()?, filter, order, after).await;
            let looked = looked.map_err(|cause| Failures::LOOK_UP.fault(cause))?;
            (search.is_last, search.after) = (looked.next.is_none(), looked.next.or(search.after));
            search.looked_at += looked.events.len();
            search.bytes += looked.events.iter().map(|(_, message)| message.as_str().len()).sum::<usize>();
            let wanted = Arc::clone(&search.wanted);
            let judge = move || {
                let events = looked.events.into_iter();
                events.filter(|(_, message)| holds(message.as_str(), &wanted)).map(|(event, _)| event).collect()
            };
            search.found = self.apart(caller, judge).await?;
        }
    }
}

fn check(wanted: &MemberValue) -> Result<(), Violation> {
    if !wanted.pointer.is_empty() && !wanted.pointer.starts_with('/') {
        return Err(Violation::new("pointer", "is no JSON pointer; write one such as /order_id or /items/0/sku."));
    }
    if wanted.value.is_array() || wanted.value.is_object() {
        return Err(Violation::new("value", "is looked for as a whole: give a text, a number, true, false or null."));
    }
    Ok(())
}

/// True of a message that has the value in that place. Numbers are one whatever
/// their spelling.
fn holds(message: &str, wanted: &MemberValue) -> bool {
    let message: Value = serde_json::from_str(message).unwrap_or_default();
    let found = message.pointer(&wanted.pointer);
    found.is_some_and(|found| *found == wanted.value || (found.is_number() && found.as_f64() == wanted.value.as_f64()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_found_in_its_place() {
        let message =
            r#"{"id": 54321, "text": "54321", "a/b": {"~": [true, null, 1.50]}, "big": 12345678901234567890}"#;
        for (pointer, value, expected) in [
            ("/id", json!(54321), true),
            ("/id", json!(54321.0), true),
            ("/id", json!("54321"), false),
            ("/text", json!("54321"), true),
            ("/a~1b/~0/0", json!(true), true),
            ("/a~1b/~0/1", json!(null), true),
            ("/a~1b/~0/2", json!(1.5), true),
            ("/a~1b/~0/3", json!(null), false),
            ("/a~1b", json!(null), false),
            ("/big", json!(12_345_678_901_234_567_890_u64), true),
            ("/none", json!(1), false),
            ("", json!(1), false),
        ] {
            let wanted = MemberValue { pointer: pointer.to_owned(), value: value.clone() };
            assert!(check(&wanted).is_ok());
            assert_eq!(holds(message, &wanted), expected, "{pointer} {value}");
        }
        for (pointer, value) in [("id", json!(1)), ("/id", json!([1])), ("/id", json!({}))] {
            assert!(check(&MemberValue { pointer: pointer.to_owned(), value }).is_err());
        }
    }
}
