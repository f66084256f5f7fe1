//! Whoever pulls.

use super::{Told, World, by};
use crate::domain::id::WebhookId;
use crate::store::ledger::queue::Cost;
use crate::store::ledger::webhooks::HandOut;
use crate::store::{Pulled, StoreError};

impl World {
    pub fn acknowledged(&mut self, id: WebhookId, result: Result<(), StoreError>) {
        let Some(puller) = self.pullers.get_mut(&id) else { return };
        puller.is_waiting = false;
        match result {
            Ok(()) => self.read_for_puller(id),
            Err(StoreError::NotPulled { through }) => panic!("{id} was given {:?}, and not {through}", puller.after),
            Err(_) => {}
        }
    }

    /// The next page is read, and noted before it is handed out.
    pub fn read_for_puller(&mut self, id: WebhookId) {
        let count = self.rng.usize(1..6);
        let Some(puller) = self.pullers.get_mut(&id) else { return };
        let page = self.memory.pull(id, puller.after, count);
        let Some(through) = page.last().map(|last| last.increment_id) else { return };
        puller.is_waiting = true;
        let merchant = self.memory.tables.hooks.get(&id).map(|hook| hook.webhook.merchant_id);
        let by = by(merchant.expect("it is there"));
        let change = HandOut { by: by.clone(), webhook_id: id, through };
        self.push(by.merchant, Cost::SMALL, change, move |result| Told::HandedOut(id, page, result));
    }

    pub fn handed_out(&mut self, id: WebhookId, page: &[Pulled], result: Result<(), StoreError>) {
        let Some(puller) = self.pullers.get_mut(&id) else { return };
        puller.is_waiting = false;
        if let (Ok(()), Some(last)) = (result, page.last()) {
            self.outside.pull(id, puller.after, page);
            puller.after = last.increment_id;
        }
    }
}
