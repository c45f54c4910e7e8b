//! What to give back, and when.
//!
//! Owns surplus: noticed, waited for, then given back, whole ENIs before single addresses. Never touches an address that is leased or
//! cools, nor the primary ENI, nor an ENI that we did not create.

use std::net::Ipv4Addr;

use crate::{
    Address, Block, BootTime, Call, Effect, EniId, EniState, Key, Now, State, Warm,
    grow::{count, empty},
    pause::Scope,
};

impl State {
    /// Gives surplus back once it has been there for long enough.
    pub(crate) fn plan_shrink(&mut self, now: Now) {
        let enis = self.spare_enis(now.at);
        let addresses = self.spare_addresses(now.at, &enis);
        if enis.is_empty() && addresses.is_empty() {
            self.surplus = None;
            return;
        }
        let wait = now.jittered(self.policy.shrink_after);
        let (since, wait) = *self.surplus.get_or_insert((now.at, wait));
        let growing = self.grown_at.is_some_and(|grown| now.at.since(grown) < self.policy.shrink_after);
        if now.at.since(since) < wait || growing {
            return;
        }
        self.surplus = None;
        for id in enis {
            self.drain(&id);
        }
        for (eni, addresses) in addresses {
            self.give_back(now.at, eni, addresses);
        }
    }

    /// ENIs that can go without the pool falling short, the emptiest and newest first.
    fn spare_enis(&self, now: BootTime) -> Vec<EniId> {
        let mut candidates: Vec<_> = self
            .enis
            .values()
            .filter(|eni| {
                eni.record.created
                    && eni.record.device_index() != Some(0)
                    && matches!(eni.record.state, EniState::AttachedUnprotected | EniState::Ready)
                    && eni.link_ready
                    && empty(eni)
                    && !self.intents.values().any(|intent| intent.call.eni() == Some(&eni.record.id))
                    && !self.pauses.active(&Scope::Eni(eni.record.id.clone()), now)
            })
            .collect();
        candidates.sort_by_key(|eni| (eni.addresses.len(), std::cmp::Reverse(eni.record.slot)));
        let mut spare = Vec::new();
        for eni in candidates {
            spare.push(eni.record.id.clone());
            let rest = self.numbers_without(now, &spare);
            let enough = match self.policy.warm {
                Warm::Addresses { .. } | Warm::Demand | Warm::Prefixes(_) => {
                    let (warm, minimum) = self.policy.warm.addresses().unwrap_or_default();
                    rest.supply >= warm + rest.waiting && rest.total + rest.pending >= minimum
                }
                Warm::Enis(_) => rest.supply >= self.warm_eni_addresses() + rest.waiting,
            };
            if !enough {
                spare.pop();
            }
        }
        spare
    }

    /// Free addresses beyond the targets, from the ENIs with the fewest leases, so that those empty. With `WARM_ENI_TARGET` only whole
    /// ENIs are given back.
    fn spare_addresses(&self, now: BootTime, without: &[EniId]) -> Vec<(EniId, Vec<Ipv4Addr>)> {
        if matches!(self.policy.warm, Warm::Enis(_)) {
            return Vec::new();
        }
        let numbers = self.numbers_without(now, without);
        // What is not free now cannot be given back now.
        let mut over = numbers.over.min((numbers.free + numbers.coming).saturating_sub(self.warm_free()));
        let mut enis: Vec<_> = self
            .enis
            .values()
            .filter(|eni| {
                eni.serves()
                    && !without.contains(&eni.record.id)
                    && !self.intents.values().any(|intent| intent.call.eni() == Some(&eni.record.id))
                    && !self.pauses.active(&Scope::Eni(eni.record.id.clone()), now)
            })
            .collect();
        enis.sort_by_key(|eni| (eni.leased(), std::cmp::Reverse(eni.record.slot)));
        let mut spare = Vec::new();
        for eni in enis {
            let addresses: Vec<_> = eni
                .addresses
                .iter()
                .rev()
                .filter(|(_, held)| matches!(held, Address::Free { .. }))
                .map(|(address, _)| *address)
                .take(over as usize)
                .collect();
            if !addresses.is_empty() {
                over -= count(addresses.len());
                spare.push((eni.record.id.clone(), addresses));
            }
        }
        spare
    }

    /// Free addresses that stay even while others cool: a pod that comes now does not wait for a cooling one.
    fn warm_free(&self) -> u32 {
        self.policy.warm.addresses().map_or(0, |(warm, _)| warm)
    }

    fn drain(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.record.state = EniState::Draining;
        let addresses: Vec<_> = eni.addresses.keys().copied().map(Block::Address).collect();
        self.touch(Key::Eni(id.clone()));
        self.effect(Effect::Withdraw(addresses));
    }

    fn give_back(&mut self, now: BootTime, eni: EniId, addresses: Vec<Ipv4Addr>) {
        for address in &addresses {
            self.hold(&eni, *address, Some(Address::Unverified { absent: None }));
        }
        self.effect(Effect::Withdraw(addresses.iter().copied().map(Block::Address).collect()));
        self.call(now, Call::Unassign { eni, addresses, prefixes: Vec::new() });
    }
}
