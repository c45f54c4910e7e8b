//! The addresses for pods that one ENI holds, single ones and those of prefixes.
//!
//! Owns their states and what is counted of them. Of a prefix only the addresses that have been used are stored: the others are as the
//! prefix is. Never decides a transition and never writes to the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use crate::{Address, BootTime, Prefix, PrefixState, Tally};

/// A prefix and what is counted of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPrefix {
    state: PrefixState,
    unused: Address,
    /// Its addresses that have been used, by state; a free one of an unverified prefix counts as free here.
    used: Tally,
    /// Its used addresses that are free, the longest free first.
    free: BTreeSet<(BootTime, Ipv4Addr)>,
}

impl HeldPrefix {
    fn new(state: PrefixState) -> Self {
        Self { state, unused: state.unused(), used: Tally::default(), free: BTreeSet::new() }
    }

    /// Its state.
    pub fn state(&self) -> PrefixState {
        self.state
    }

    /// Its sixteen addresses, by state.
    pub fn tally(&self) -> Tally {
        let mut tally = self.used;
        *tally.of(&self.unused) += Prefix::SIZE - self.used.total();
        if matches!(self.state, PrefixState::Unverified { .. }) {
            tally.unverified += std::mem::take(&mut tally.free);
        }
        tally
    }

    /// A pod has one of its addresses, had one a moment ago, or something else is the matter with one.
    pub fn is_used(&self) -> bool {
        self.used.total() > self.used.free
    }

    /// Every address of it can be leased: it can be given back.
    pub fn is_free(&self) -> bool {
        matches!(self.state, PrefixState::Usable { .. }) && !self.is_used()
    }
}

/// What one ENI holds for pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    known: BTreeMap<Ipv4Addr, Address>,
    prefixes: BTreeMap<Prefix, HeldPrefix>,
    /// Single ones that are free, the longest free first.
    free: BTreeSet<(BootTime, Ipv4Addr)>,
    cooling: BTreeSet<(BootTime, Ipv4Addr)>,
    singles: Tally,
    members: Tally,
}

impl Addresses {
    /// The state of an address; `None`: it is not here.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Address> {
        self.known.get(&address).or_else(|| Some(&self.prefixes.get(&Prefix::around(address))?.unused))
    }

    /// The state of an address as it is stored.
    pub(crate) fn get_stored(&self, address: Ipv4Addr) -> Option<&Address> {
        self.known.get(&address)
    }

    /// Is this address here.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.known.contains_key(&address) || self.prefixes.contains_key(&Prefix::around(address))
    }

    /// Every address, sorted; those of prefixes that have not been used too.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Address)> {
        let mut all: Vec<_> = self.known.iter().map(|(address, held)| (*address, held)).collect();
        for (prefix, held) in &self.prefixes {
            let unused = prefix.addresses().filter(|address| !self.known.contains_key(address));
            all.extend(unused.map(|address| (address, &held.unused)));
        }
        all.sort_by_key(|(address, _)| *address);
        all.into_iter()
    }

    /// The state of every address.
    pub fn values(&self) -> impl Iterator<Item = &Address> {
        self.iter().map(|(_, held)| held)
    }

    /// Addresses that are not of a prefix.
    pub fn singles(&self) -> impl Iterator<Item = (Ipv4Addr, &Address)> {
        self.known.iter().filter(|(address, _)| !self.in_prefix(**address)).map(|(address, held)| (*address, held))
    }

    /// Addresses whose state is stored: single ones, and those of prefixes that have been used.
    pub fn stored(&self) -> impl Iterator<Item = (Ipv4Addr, &Address)> {
        self.known.iter().map(|(address, held)| (*address, held))
    }

    /// The prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = (Prefix, &HeldPrefix)> {
        self.prefixes.iter().map(|(prefix, held)| (*prefix, held))
    }

    /// A prefix.
    pub fn prefix(&self, prefix: Prefix) -> Option<&HeldPrefix> {
        self.prefixes.get(&prefix)
    }

    /// Of a prefix that is here.
    pub fn in_prefix(&self, address: Ipv4Addr) -> bool {
        self.prefixes.contains_key(&Prefix::around(address))
    }

    /// How many of the ENI's places are taken: one by each single address, one by each prefix.
    pub fn places(&self) -> u32 {
        self.singles.total() + u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX)
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        (self.singles.total() + self.members.total()) as usize
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.prefixes.is_empty()
    }

    /// Single addresses, by state.
    pub fn single_tally(&self) -> Tally {
        self.singles
    }

    /// Addresses of prefixes, by state.
    pub fn member_tally(&self) -> Tally {
        self.members
    }

    /// Cooling ones that are due by then.
    pub fn cooling_until(&self, by: BootTime) -> usize {
        self.cooling.range(..=(by, Ipv4Addr::BROADCAST)).count()
    }

    /// The cooling one that is due first.
    pub fn next_cooled(&self) -> Option<(BootTime, Ipv4Addr)> {
        self.cooling.first().copied()
    }

    /// Cooling ones that EC2 has as far as is known, the one that is due first foremost.
    pub(crate) fn cooling(&self) -> impl Iterator<Item = (BootTime, Ipv4Addr)> {
        self.cooling.iter().copied().filter(|(_, address)| {
            let prefix = self.prefixes.get(&Prefix::around(*address));
            prefix.is_none_or(|held| matches!(held.state, PrefixState::Usable { .. }))
        })
    }

    /// The address to lease next. Packing: out of the prefix with the most leases, so that others empty. The longest free of what is
    /// left; of addresses that are as old the lowest.
    pub fn next_free(&self, packs: bool) -> Option<Ipv4Addr> {
        let singles = self.free.first().map(|(since, address)| (0, *since, *address));
        let members = self.prefixes.iter().filter_map(|(prefix, held)| {
            let PrefixState::Usable { since } = held.state else { return None };
            let unused = || prefix.addresses().find(|address| !self.known.contains_key(address));
            let fresh = (held.used.total() < Prefix::SIZE).then(unused).flatten().map(|address| (since, address));
            let (since, address) = fresh.into_iter().chain(held.free.first().copied()).min()?;
            Some((if packs { held.used.leased } else { 0 }, since, address))
        });
        let best = singles
            .into_iter()
            .chain(members)
            .min_by_key(|(leased, since, address)| (std::cmp::Reverse(*leased), *since, *address));
        best.map(|(_, _, address)| address)
    }

    /// Sets the state of an address. `None`: it is not here any more, or, of a prefix, as if it had never been used.
    pub fn set(&mut self, address: Ipv4Addr, held: Option<Address>) -> Option<Address> {
        let prefix = Prefix::around(address);
        let of_prefix = self.prefixes.contains_key(&prefix);
        self.count_out(prefix, of_prefix);
        let before = match &held {
            Some(held) => self.known.insert(address, held.clone()),
            None => self.known.remove(&address),
        };
        if let Some(before) = &before {
            self.unlist(prefix, address, before);
        }
        if let Some(held) = &held {
            self.list(prefix, address, held);
        }
        if !of_prefix {
            if let Some(before) = &before {
                *self.singles.of(before) -= 1;
            }
            if let Some(held) = &held {
                *self.singles.of(held) += 1;
            }
        }
        self.count_in(prefix, of_prefix);
        before
    }

    /// Sets the state of a prefix. `None`: it is not here any more, and neither are its addresses; those that were stored come back.
    pub fn set_prefix(&mut self, prefix: Prefix, state: Option<PrefixState>) -> Vec<Ipv4Addr> {
        let stored: Vec<_> = self.known.range(prefix.first()..=prefix.last()).map(|(address, _)| *address).collect();
        match (state, self.prefixes.contains_key(&prefix)) {
            (Some(state), true) => {
                self.count_out(prefix, true);
                if let Some(held) = self.prefixes.get_mut(&prefix) {
                    (held.state, held.unused) = (state, state.unused());
                }
                self.count_in(prefix, true);
                Vec::new()
            }
            (Some(state), false) => {
                // Addresses of it that were known before are single no more.
                let before: Vec<_> = stored.into_iter().map(|address| (address, self.set(address, None))).collect();
                self.prefixes.insert(prefix, HeldPrefix::new(state));
                self.count_in(prefix, true);
                for (address, held) in before {
                    self.set(address, held);
                }
                Vec::new()
            }
            (None, true) => {
                for address in &stored {
                    self.set(*address, None);
                }
                self.count_out(prefix, true);
                self.prefixes.remove(&prefix);
                stored
            }
            (None, false) => Vec::new(),
        }
    }

    /// Cooling addresses whose time has come are free.
    pub fn mature(&mut self, now: BootTime) {
        while let Some((until, address)) = self.cooling.first().copied().filter(|(until, _)| *until <= now) {
            self.set(address, Some(Address::Free { since: until }));
        }
    }

    fn count_out(&mut self, prefix: Prefix, of_prefix: bool) {
        if of_prefix && let Some(held) = self.prefixes.get(&prefix) {
            let t = held.tally();
            self.members.free -= t.free;
            self.members.leased -= t.leased;
            self.members.cooling -= t.cooling;
            self.members.unverified -= t.unverified;
            self.members.quarantined -= t.quarantined;
        }
    }

    fn count_in(&mut self, prefix: Prefix, of_prefix: bool) {
        if of_prefix && let Some(held) = self.prefixes.get(&prefix) {
            let t = held.tally();
            self.members.free += t.free;
            self.members.leased += t.leased;
            self.members.cooling += t.cooling;
            self.members.unverified += t.unverified;
            self.members.quarantined += t.quarantined;
        }
    }

    fn list(&mut self, prefix: Prefix, address: Ipv4Addr, held: &Address) {
        match (held, self.prefixes.get_mut(&prefix)) {
            (Address::Free { since }, Some(prefix)) => drop(prefix.free.insert((*since, address))),
            (Address::Free { since }, None) => drop(self.free.insert((*since, address))),
            (Address::Cooling { until }, _) => drop(self.cooling.insert((*until, address))),
            _ => {}
        }
        if let Some(prefix) = self.prefixes.get_mut(&prefix) {
            *prefix.used.of(held) += 1;
        }
    }

    fn unlist(&mut self, prefix: Prefix, address: Ipv4Addr, held: &Address) {
        match (held, self.prefixes.get_mut(&prefix)) {
            (Address::Free { since }, Some(prefix)) => drop(prefix.free.remove(&(*since, address))),
            (Address::Free { since }, None) => drop(self.free.remove(&(*since, address))),
            (Address::Cooling { until }, _) => drop(self.cooling.remove(&(*until, address))),
            _ => {}
        }
        if let Some(prefix) = self.prefixes.get_mut(&prefix) {
            *prefix.used.of(held) -= 1;
        }
    }

    /// The counts as they follow from the states alone: what [`crate::State::check`] compares.
    pub(crate) fn recounted(&self) -> Self {
        let mut anew = Self::default();
        for (prefix, held) in &self.prefixes {
            anew.set_prefix(*prefix, Some(held.state));
        }
        for (address, held) in &self.known {
            anew.set(*address, Some(held.clone()));
        }
        anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(std::time::Duration::from_secs(seconds))
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn key() -> crate::LeaseKey {
        crate::LeaseKey { container: "c".to_owned(), ifname: "eth0".to_owned() }
    }

    #[test]
    fn an_unused_address_of_a_prefix_is_as_the_prefix_is() {
        let mut held = Addresses::default();
        let prefix = Prefix::around(ip(20));
        held.set_prefix(prefix, Some(PrefixState::Usable { since: at(1) }));
        assert_eq!((held.len(), held.places(), held.member_tally().free), (16, 1, 16));
        assert_eq!(held.get(ip(20)), Some(&Address::Free { since: at(1) }));
        held.set(ip(20), Some(Address::Leased(key())));
        held.set_prefix(prefix, Some(PrefixState::Unverified { absent: None }));
        assert_eq!((held.member_tally().unverified, held.member_tally().leased), (15, 1));
        assert_eq!(held.next_free(false), None, "nothing of an unverified prefix is leased");
        assert_eq!(held.set_prefix(prefix, None), [ip(20)]);
        assert_eq!(held, Addresses::default());
    }

    #[test]
    fn the_longest_free_goes_first_and_packing_fills_the_fullest_prefix() {
        let mut held = Addresses::default();
        held.set(ip(9), Some(Address::Free { since: at(5) }));
        held.set_prefix(Prefix::around(ip(16)), Some(PrefixState::Usable { since: at(3) }));
        held.set_prefix(Prefix::around(ip(32)), Some(PrefixState::Usable { since: at(4) }));
        held.set(ip(40), Some(Address::Leased(key())));
        assert_eq!(held.next_free(false), Some(ip(16)));
        assert_eq!(held.next_free(true), Some(ip(32)), "the prefix with a lease");
        held.set(ip(16), Some(Address::Cooling { until: at(9) }));
        held.mature(at(9));
        assert_eq!(held.get(ip(16)), Some(&Address::Free { since: at(9) }));
        assert_eq!(held.next_free(false), Some(ip(17)), "not the one that was just used");
        assert_eq!(held, held.recounted());
    }
}
