//! What the pool was told and the ledger does not have.
//!
//! Owns what must be said again when the pool goes back to its ledger. Never decides what it means.

use std::collections::BTreeMap;

use pool::{Event, FoundLease, LeaseKey};

/// The last word on each matter, in the order in which the pool needs them.
#[derive(Debug, Default)]
pub(crate) struct Said {
    found: BTreeMap<LeaseKey, FoundLease>,
    foreign: Option<Event>,
    sandboxes: Option<Event>,
    draining: Option<Event>,
    stopping: Option<Event>,
    demand: Option<Event>,
    facts: Option<Event>,
}

impl Said {
    /// Remembers what lasts of an event.
    pub(crate) fn hear(&mut self, event: &Event) {
        let place = match event {
            Event::Found(leases) => {
                self.found.extend(leases.iter().map(|lease| (lease.key.clone(), lease.clone())));
                return;
            }
            Event::Facts(_) | Event::FactsMissing(_) => &mut self.facts,
            Event::Foreign(_) => &mut self.foreign,
            Event::Sandboxes(_) => &mut self.sandboxes,
            Event::Demand(_) => &mut self.demand,
            Event::Draining(_) => &mut self.draining,
            Event::Stopping => &mut self.stopping,
            Event::Add(_)
            | Event::Del(_)
            | Event::Abandoned(_)
            | Event::Answered(..)
            | Event::LinkReady(_)
            | Event::LinkGone(_)
            | Event::Tick => return,
        };
        *place = Some(event.clone());
    }

    /// The DEL of a pod that was found is in the ledger.
    pub(crate) fn forget(&mut self, key: &LeaseKey) {
        self.found.remove(key);
    }

    /// All of it.
    pub(crate) fn again(&self) -> Vec<Event> {
        let found = (!self.found.is_empty()).then(|| Event::Found(self.found.values().cloned().collect()));
        let rest = [&self.foreign, &self.sandboxes, &self.draining, &self.stopping, &self.demand, &self.facts];
        found.into_iter().chain(rest.into_iter().flatten().cloned()).collect()
    }
}
