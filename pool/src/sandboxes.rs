//! What the kernel and Kubernetes say about pods, besides ADD and DEL.
//!
//! Owns leases found in the kernel, addresses that something else uses, sandboxes that vanished without a DEL, and the demand of pods
//! that have no address yet. Never ends a lease by one look: a sandbox must be gone for a while.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{Address, BootTime, Effect, EniId, FoundLease, Key, LeaseKey, News, Pod, State};

/// Why an address is quarantined: the kernel routes it to something that Berth did not set up.
pub(crate) const FOREIGN: &str = "the kernel routes this address to something that is not ours";

impl State {
    /// Leases that pods still hold according to the kernel, and the ledger does not know.
    pub(crate) fn find(&mut self, now: BootTime, found: Vec<FoundLease>) {
        for found in found {
            let known = self.leases.contains_key(&found.key) || self.tombstones.contains_key(&found.key);
            let taken = self
                .leases
                .values()
                .any(|lease| lease.attachments.iter().any(|attachment| attachment.addresses.contains(&found.address)));
            if known || taken {
                continue;
            }
            let address = found.address;
            self.touch(Key::Found(address));
            self.found.insert(address, found);
            let here = self.enis.values().find_map(|eni| {
                let idle = matches!(eni.addresses.get(address)?, Address::Free { .. } | Address::Cooling { .. });
                idle.then(|| (eni.record.id.clone(), eni.record.slot))
            });
            if let Some((eni, slot)) = here
                && let Some(lease) = self.holder(now, &eni, slot, address)
            {
                self.hold(&eni, address, Some(Address::Leased(lease)));
            }
        }
    }

    /// The addresses that something else uses, all of them.
    pub(crate) fn keep_off(&mut self, now: BootTime, foreign: BTreeSet<Ipv4Addr>) {
        let until = now.after(self.policy.cooling);
        let mut changes: Vec<(EniId, Ipv4Addr, Address)> = Vec::new();
        let mut begun = 0;
        for eni in self.enis.values() {
            for (address, held) in eni.addresses.stored() {
                if *held == Address::Quarantined(FOREIGN.to_owned()) && !foreign.contains(&address) {
                    changes.push((eni.record.id.clone(), address, Address::Cooling { until }));
                }
            }
            for address in &foreign {
                if let Some(Address::Free { .. } | Address::Cooling { .. }) = eni.addresses.get(*address) {
                    begun += 1;
                    changes.push((eni.record.id.clone(), *address, Address::Quarantined(FOREIGN.to_owned())));
                }
            }
        }
        for (eni, address, held) in changes {
            self.hold(&eni, address, Some(held));
        }
        if begun > 0 {
            self.effect(Effect::Say(News::ForeignAddresses(begun)));
        }
        self.foreign = foreign;
    }

    /// This state, unless something else uses the address.
    pub(crate) fn unless_foreign(&self, address: Ipv4Addr, held: Address) -> Address {
        if self.foreign.contains(&address) { Address::Quarantined(FOREIGN.to_owned()) } else { held }
    }

    /// The sandbox interfaces whose host links the kernel has, all of them. A lease whose link is missing in two looks far enough apart
    /// ends; one that is young is left alone, since its ADD may still be under way.
    pub(crate) fn sweep_sandboxes(&mut self, now: BootTime, there: &BTreeSet<LeaseKey>) {
        let grace = self.policy.reclaim_after;
        let missing: Vec<LeaseKey> = self
            .leases
            .values()
            .filter(|lease| !there.contains(&lease.key) && now.since(lease.made) >= grace * 2)
            .map(|lease| lease.key.clone())
            .collect();
        let back: Vec<_> = self.missing.keys().filter(|key| !missing.contains(key)).cloned().collect();
        for key in back {
            self.not_missing(&key);
        }
        for key in missing {
            let Some(since) = self.missing.get(&key) else {
                self.touch(Key::Missing(key.clone()));
                self.missing.insert(key, now);
                continue;
            };
            if now.since(*since) < grace {
                continue;
            }
            self.not_missing(&key);
            if let Some(lease) = self.leases.remove(&key) {
                self.touch(Key::Lease(key));
                self.cool(now, &lease);
                self.effect(Effect::Say(News::Reclaimed(lease)));
            }
        }
    }

    /// The kernel has its link, or the lease has ended.
    pub(crate) fn not_missing(&mut self, key: &LeaseKey) {
        if self.missing.remove(key).is_some() {
            self.touch(Key::Missing(key.clone()));
        }
    }

    /// Pods that are bound to the node and have no address yet.
    pub(crate) fn demand_open(&self) -> u32 {
        if self.demand.is_empty() {
            return 0;
        }
        let served: BTreeSet<_> = self.leases.values().map(|lease| name(&lease.pod)).collect();
        let open = self.demand.iter().filter(|pod| !served.contains(&name(pod))).count();
        crate::numbers::count(open)
    }
}

fn name(pod: &Pod) -> (&str, &str) {
    (&pod.namespace, &pod.name)
}
