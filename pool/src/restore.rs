//! A pool from what was written down, and what is written down of it.
//!
//! Owns the way from entries to a state and back. Never reads or writes a store.

use crate::{Addresses, BootTime, Eni, Entry, Key, Policy, Record, State};

impl State {
    /// The pool as the ledger of this boot has it. Calls that were open may or may not have happened; free addresses beside them are
    /// not leased before EC2 confirms them.
    pub fn restore(policy: Policy, now: BootTime, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut state = Self::new(policy);
        state.applied = now;
        let (mut addresses, mut prefixes) = (Vec::new(), Vec::new());
        for entry in entries {
            match entry {
                Entry::Facts(facts) => state.facts = Some(facts),
                Entry::Eni(record) => {
                    let eni = Eni { record, addresses: Addresses::default(), link_ready: false };
                    state.enis.insert(eni.record.id.clone(), eni);
                }
                Entry::Address(eni, address, held) => addresses.push((eni, address, held)),
                Entry::Prefix(eni, prefix, held) => prefixes.push((eni, prefix, held)),
                Entry::Lease(lease) => {
                    state.leases.insert(lease.key.clone(), lease);
                }
                Entry::Tombstone(key, at) => {
                    state.tombstones.insert(key, at);
                }
                Entry::Missing(key, since) => {
                    state.missing.insert(key, since);
                }
                Entry::Intent(intent) => {
                    state.intents.insert(intent.id, intent);
                }
                Entry::Departed(eni, block, at) => {
                    state.departed.insert((eni, block), at);
                }
                Entry::Resting(address, until) => {
                    state.resting.insert(address, until);
                }
                Entry::Found(found) => {
                    state.found.insert(found.address, found);
                }
                Entry::Serial(serial) => state.serial = serial,
            }
        }
        for (eni, prefix, held) in prefixes {
            if let Some(eni) = state.enis.get_mut(&eni) {
                eni.addresses.set_prefix(prefix, Some(held));
            }
        }
        for (eni, address, held) in addresses {
            if let Some(eni) = state.enis.get_mut(&eni) {
                eni.addresses.set(address, Some(held));
            }
        }
        state.doubt_open_calls(now);
        state
    }

    /// The entry as it is now, or that it is no more.
    pub(crate) fn record(&self, key: Key) -> Record {
        let entry = match &key {
            Key::Facts => self.facts.clone().map(Entry::Facts),
            Key::Eni(id) => self.enis.get(id).map(|eni| Entry::Eni(eni.record.clone())),
            Key::Address(id, address) => self
                .enis
                .get(id)
                .and_then(|eni| eni.addresses.get_stored(*address))
                .map(|held| Entry::Address(id.clone(), *address, held.clone())),
            Key::Prefix(id, prefix) => self
                .enis
                .get(id)
                .and_then(|eni| eni.addresses.prefix(*prefix))
                .map(|held| Entry::Prefix(id.clone(), *prefix, held.state())),
            Key::Resting(address) => self.resting.get(address).map(|until| Entry::Resting(*address, *until)),
            Key::Found(address) => self.found.get(address).cloned().map(Entry::Found),
            Key::Lease(lease) => self.leases.get(lease).cloned().map(Entry::Lease),
            Key::Tombstone(lease) => self.tombstones.get(lease).map(|at| Entry::Tombstone(lease.clone(), *at)),
            Key::Missing(lease) => self.missing.get(lease).map(|since| Entry::Missing(lease.clone(), *since)),
            Key::Intent(id) => self.intents.get(id).cloned().map(Entry::Intent),
            Key::Departed(eni, block) => {
                self.departed.get(&(eni.clone(), *block)).map(|at| Entry::Departed(eni.clone(), *block, *at))
            }
            Key::Serial => Some(Entry::Serial(self.serial)),
        };
        entry.map_or(Record::Remove(key), Record::Put)
    }
}
