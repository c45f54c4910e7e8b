//! What must hold between any two events.
//!
//! Owns the invariants of the state, for tests and for a daemon that wants to know. Never repairs.

use std::collections::BTreeMap;

use crate::{Address, Path, State};

impl State {
    /// Every invariant that does not hold, in words; empty when all is well.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut seen = BTreeMap::new();
        for eni in self.enis.values() {
            for (address, held) in eni.addresses.iter() {
                if let Some(other) = seen.insert(address, &eni.record.id) {
                    wrong.push(format!("{address} is on {other} and on {}", eni.record.id));
                }
                if let Address::Leased(key) = held {
                    let leased = self.leases.get(key).is_some_and(|lease| {
                        lease.attachments.iter().any(|attachment| attachment.addresses.contains(&address))
                    });
                    if !leased {
                        wrong.push(format!("{address} is held for {key}, which has no lease on it"));
                    }
                }
            }
            if eni.addresses != eni.addresses.recounted() {
                wrong.push(format!("{}: the counts do not fit the addresses", eni.record.id));
            }
            if eni.attached() && eni.holds_pods() && eni.record.slot.is_none() && !eni.addresses.is_empty() {
                wrong.push(format!("{} is attached and has no slot", eni.record.id));
            }
        }
        let mut holders = BTreeMap::new();
        for lease in self.leases.values() {
            for attachment in &lease.attachments {
                let Path::Pooled { eni, .. } = &attachment.path;
                for address in &attachment.addresses {
                    if let Some(other) = holders.insert(*address, &lease.key) {
                        wrong.push(format!("{address} is leased to {other} and to {}", lease.key));
                    }
                    let held = self.enis.get(eni).and_then(|eni| eni.addresses.get(*address));
                    if held != Some(&Address::Leased(lease.key.clone())) {
                        wrong.push(format!("{} leases {address} of {eni}, which is {held:?}", lease.key));
                    }
                }
            }
        }
        let slots: Vec<_> = self.enis.values().filter_map(|eni| eni.record.slot).collect();
        if slots.iter().collect::<std::collections::BTreeSet<_>>().len() != slots.len() {
            wrong.push(format!("two ENIs have the same slot: {slots:?}"));
        }
        if let Some(limits) = self.facts.as_ref().and_then(|facts| facts.limits) {
            let (places, allowed) = (|eni: &crate::Eni| eni.addresses.places(), limits.secondary());
            for eni in self.enis.values().filter(|eni| places(eni) > allowed) {
                let (id, places) = (&eni.record.id, places(eni));
                wrong.push(format!("{id} has {places} addresses and prefixes, the type allows {allowed}"));
            }
        }
        wrong
    }
}
