//! What the pool holds and what it should hold, in numbers.
//!
//! Owns the arithmetic of the targets: amazon-vpc-cni's for WARM_* and MINIMUM, and demand on top of it. Every count anywhere derives
//! from here. Never changes anything.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Ask, BootTime, Call, Eni, EniId, Prefix, State, Warm, pause::Scope};

/// Cooling addresses due within this time count as supply, else churn would assign and unassign for ever.
const SOON: Duration = Duration::from_secs(5);

/// What the pool holds and what it should hold, in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// On ENIs that carry pods and are not on their way out.
    pub total: u32,
    /// Of those: can be leased now.
    pub free: u32,
    /// Free, on an ENI that does not serve yet.
    pub coming: u32,
    /// Leased.
    pub leased: u32,
    /// Released a short while ago.
    pub cooling: u32,
    /// Cooling ones that count as supply.
    pub cooling_soon: u32,
    /// Not confirmed by EC2.
    pub unverified: u32,
    /// Unexplained.
    pub quarantined: u32,
    /// Of those that are not leased: single ones although prefixes are wanted, or the reverse. They are leased, and do not count.
    pub misfit: u32,
    /// Prefixes.
    pub prefixes: u32,
    /// Prefixes of which nothing is used, those asked for included.
    pub free_prefixes: u32,
    /// Asked for, not answered yet.
    pub pending: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Pods that are bound to the node and have no address yet; waiting ones are among them as soon as Kubernetes says so.
    pub demand: u32,
    /// What the supply should be: the warm target, and what is wanted now.
    pub target: u32,
    /// Can be had soon without asking for more: free, coming, pending, unverified and soon cooled.
    pub supply: u32,
    /// Missing.
    pub short: u32,
    /// Of the missing, in whole prefixes; 0 without prefix delegation.
    pub short_prefixes: u32,
    /// Too many; whole ENIs only with `WARM_ENI_TARGET`, whole prefixes only with prefix delegation.
    pub over: u32,
}

impl Numbers {
    /// Pods that want an address now.
    pub(crate) fn wanted(&self) -> u32 {
        self.waiting.max(self.demand)
    }
}

impl State {
    /// What the pool holds and what it should hold.
    pub fn numbers(&self, now: BootTime) -> Numbers {
        self.numbers_without(now, &[])
    }

    /// The same as if these ENIs were not there.
    pub(crate) fn numbers_without(&self, now: BootTime, without: &[EniId]) -> Numbers {
        // The same ADD may be asked several times: one address is enough.
        let waiting: BTreeSet<_> = self.waiting.iter().map(|request| &request.key).collect();
        let mut n = Numbers { waiting: count(waiting.len()), demand: self.demand_open(), ..Numbers::default() };
        let counted = |eni: &&Eni| eni.grows() && !without.contains(&eni.record.id);
        let mut fit_total = 0;
        for eni in self.enis.values().filter(counted) {
            let (singles, members) = (eni.addresses.single_tally(), eni.addresses.member_tally());
            let serves = eni.serves();
            for (tally, fits) in [(singles, self.single_fits(eni, now)), (members, self.policy.prefixes)] {
                n.total += tally.total();
                n.leased += tally.leased;
                n.cooling += tally.cooling;
                n.quarantined += tally.quarantined;
                n.unverified += tally.unverified;
                *if serves { &mut n.free } else { &mut n.coming } += tally.free;
                let idle = tally.free + tally.unverified;
                n.misfit += if fits { 0 } else { idle };
                fit_total += tally.total() - if fits { 0 } else { idle };
            }
            let by = if n.wanted() == 0 { BootTime(Duration::MAX) } else { now.after(SOON) };
            n.cooling_soon += count(eni.addresses.cooling_until(by));
            n.prefixes += count(eni.addresses.prefixes().count());
            n.free_prefixes += count(eni.addresses.prefixes().filter(|(_, held)| held.is_free()).count());
        }
        for intent in self.intents.values() {
            match &intent.call {
                Call::CreateEni { ask, .. } | Call::Assign { ask, .. } => {
                    n.pending += ask.addresses();
                    if let Ask::Prefixes(prefixes) = ask {
                        n.free_prefixes += prefixes;
                    }
                }
                Call::Unassign { eni, addresses, prefixes } => {
                    let Some(eni) = self.enis.get(eni).filter(counted) else { continue };
                    let leaving = leaving(eni, addresses, prefixes);
                    n.total = n.total.saturating_sub(leaving);
                    n.unverified = n.unverified.saturating_sub(leaving);
                    let fits = if prefixes.is_empty() { self.single_fits(eni, now) } else { self.policy.prefixes };
                    n.misfit = n.misfit.saturating_sub(if fits { 0 } else { leaving });
                    fit_total = u32::saturating_sub(fit_total, if fits { leaving } else { 0 });
                }
                _ => {}
            }
        }
        n.supply = (n.free + n.coming + n.unverified).saturating_sub(n.misfit) + n.pending + n.cooling_soon;
        let held = fit_total + n.pending;
        self.compare(&mut n, held);
        n
    }

    /// What is missing and what is too many, with `held` addresses of the wanted kind.
    fn compare(&self, n: &mut Numbers, held: u32) {
        let wanted = n.wanted();
        let minimum = self.policy.warm.addresses().map_or(0, |(_, minimum)| minimum);
        n.target = match self.policy.warm {
            Warm::Enis(_) => self.warm_eni_addresses().saturating_add(wanted),
            // Amazon-vpc-cni: with a target of 0 the pool is too low when nothing is free.
            Warm::Prefixes(0) => wanted.max(1),
            Warm::Prefixes(prefixes) => prefixes.saturating_mul(Prefix::SIZE).saturating_add(wanted),
            Warm::Addresses { warm, .. } => warm.saturating_add(wanted),
            Warm::Demand => 1 + wanted,
        };
        n.short = n.target.saturating_sub(n.supply).max(minimum.saturating_sub(held));
        n.over = n.supply.saturating_sub(n.target).min(held.saturating_sub(minimum));
        if let Some(most) = self.policy.max_pods {
            n.short = n.short.min(most.saturating_sub(held).max(n.waiting.saturating_sub(n.supply)));
        }
        if self.draining && !self.policy.manage_unschedulable {
            n.short = 0;
        }
        if !self.policy.prefixes {
            return;
        }
        n.short_prefixes = n.short.div_ceil(Prefix::SIZE);
        if let (Warm::Prefixes(target), 1..) = (self.policy.warm, n.short) {
            n.short_prefixes = n.short_prefixes.max(target.saturating_sub(n.free_prefixes));
        }
    }

    /// WARM_ENI_TARGET in addresses; with 0, one free address still starts growth (amazon-vpc-cni: too low when nothing is free).
    pub(crate) fn warm_eni_addresses(&self) -> u32 {
        match (self.policy.warm, &self.facts) {
            (Warm::Enis(0), _) => 1,
            (Warm::Enis(enis), Some(_)) => enis.saturating_mul(self.limits().secondary()),
            _ => 0,
        }
    }

    /// Single addresses count on this ENI: they are what is wanted, or its subnet had no prefixes a while ago.
    pub(crate) fn single_fits(&self, eni: &Eni, now: BootTime) -> bool {
        !self.policy.prefixes || self.pauses.failed_lately(&Scope::Prefixes(eni.record.subnet.clone()), now)
    }
}

/// How many unconfirmed addresses an open unassign takes away.
fn leaving(eni: &Eni, addresses: &[std::net::Ipv4Addr], prefixes: &[Prefix]) -> u32 {
    let unverified =
        |address: &&std::net::Ipv4Addr| matches!(eni.addresses.get(**address), Some(crate::Address::Unverified { .. }));
    let singles = count(addresses.iter().filter(unverified).count());
    let members: u32 =
        prefixes.iter().filter_map(|prefix| eni.addresses.prefix(*prefix)).map(|held| held.tally().unverified).sum();
    singles + members
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
