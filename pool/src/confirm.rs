//! What EC2 has on an ENI, address by address and prefix by prefix.
//!
//! Owns the comparison of what is held with what EC2 shows. Presence confirms; absence makes unverified, and removes only after a second
//! read and never what a pod has. Never reads EC2 itself.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crate::{
    Address, Attachment, Block, BootTime, Effect, Eni, EniId, EniState, Generation, Key, Lease, LeaseKey, News, Path,
    Prefix, PrefixState, SeenEni, Slot, State,
    answer::blocks,
    observe::{APART, SETTLED},
    sandboxes::FOREIGN,
    state::DEPARTED,
};

impl State {
    /// What EC2 shows is confirmed; what it does not show is not leased anew.
    pub(crate) fn compare_blocks(&mut self, now: BootTime, id: &EniId, seen: &SeenEni) {
        if !self.enis.get(id).is_some_and(Eni::holds_pods) {
            return;
        }
        let shown: BTreeSet<Block> = blocks(seen.secondary.clone(), seen.prefixes.clone()).collect();
        let mut shadows = 0;
        for block in &shown {
            match self.departed.get(&(id.clone(), *block)) {
                // Stale, or EC2 gave it to us again and the answer was lost: a read after the stale ones have ended tells.
                Some(departed) if !self.enis.get(id).is_some_and(|eni| has(eni, *block)) => {
                    shadows += 1;
                    let after = departed.after(DEPARTED + APART);
                    let at = self.read_again.entry(id.clone()).or_insert(after);
                    *at = after.min(*at);
                }
                // On another ENI by a newer answer: this read is stale. One that is being deleted had it before.
                _ if self.elsewhere(id, *block).is_some_and(|other| !self.is_deleted(&other)) => {}
                _ => match block {
                    Block::Address(address) => self.confirm(now, id, *address),
                    Block::Prefix(prefix) => self.confirm_prefix(now, id, *prefix),
                },
            }
        }
        // They may be there: no more is asked for than fits beside them.
        self.shadows.insert(id.clone(), shadows);
        self.doubt_blocks(now, id, &shown);
    }

    /// What is not among these is not leased anew, and gone if that has been so for long enough.
    pub(crate) fn doubt_blocks(&mut self, now: BootTime, id: &EniId, shown: &BTreeSet<Block>) {
        let Some(eni) = self.enis.get(id) else { return };
        let doubtful = |block: Block| !shown.contains(&block) && !self.leaving(id, block);
        let settled = |absent: BootTime| now.since(absent) >= SETTLED;
        let (mut gone, mut absent, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rests, mut vetoed) = (Vec::new(), Vec::new());
        for (address, held) in eni.addresses.singles().filter(|(address, _)| doubtful(Block::Address(*address))) {
            match held {
                Address::Unverified { absent: Some(since) } if settled(*since) => gone.push(Block::Address(address)),
                Address::Unverified { absent: None } | Address::Free { .. } => absent.push(address),
                Address::Cooling { until } => rests.push((address, *until)),
                Address::Leased(_) => vetoed.push((id.clone(), address)),
                _ => {}
            }
        }
        for (prefix, held) in eni.addresses.prefixes().filter(|(prefix, _)| doubtful(Block::Prefix(*prefix))) {
            match held.state() {
                PrefixState::Unverified { absent: Some(since) } if settled(since) && !held.is_used() => {
                    gone.push(Block::Prefix(prefix));
                }
                PrefixState::Unverified { absent: Some(since) } if !settled(since) => {}
                _ => unseen.push(prefix),
            }
        }
        self.unshown.retain(|(eni, _)| eni != id);
        self.unshown.extend(vetoed);
        for (address, until) in rests {
            self.resting.insert(address, until);
            self.touch(Key::Resting(address));
            absent.push(address);
        }
        for address in absent {
            self.hold(id, address, Some(Address::Unverified { absent: Some(now) }));
        }
        for prefix in unseen {
            self.hold_prefix(id, prefix, Some(PrefixState::Unverified { absent: Some(now) }));
        }
        for block in gone {
            match block {
                Block::Address(address) => self.hold(id, address, None),
                Block::Prefix(prefix) => self.hold_prefix(id, prefix, None),
            }
            self.effect(Effect::Say(News::Lost(id.clone(), block)));
        }
    }

    /// The other ENI that has this or a part of it.
    fn elsewhere(&self, id: &EniId, block: Block) -> Option<EniId> {
        let part = |eni: &Eni| match block {
            Block::Address(address) => eni.addresses.contains(address),
            Block::Prefix(prefix) => prefix.addresses().any(|address| eni.addresses.contains(address)),
        };
        self.enis.values().find(|eni| eni.record.id != *id && part(eni)).map(|eni| eni.record.id.clone())
    }

    /// EC2 has been asked to delete it, or will be.
    fn is_deleted(&self, id: &EniId) -> bool {
        self.enis.get(id).is_some_and(|eni| eni.record.state == EniState::Leaving)
    }

    /// EC2 says that this address is on this ENI. That it gave it away before, from another ENI, is news then, unless a pod has it.
    pub(crate) fn confirm(&mut self, now: BootTime, id: &EniId, address: Ipv4Addr) {
        if !self.leave_elsewhere(now, id, Block::Address(address)) {
            return;
        }
        let leaving = self.leaving(id, Block::Address(address));
        let Some(eni) = self.enis.get(id) else { return };
        match eni.addresses.get(address) {
            None => {}
            Some(Address::Unverified { .. }) if !leaving && !eni.addresses.in_prefix(address) => {}
            Some(_) => return,
        }
        let slot = eni.record.slot;
        self.arrive(id, Block::Address(address));
        let held = self.first_state(now, id, slot, address).unwrap_or(Address::Free { since: now });
        self.hold(id, address, Some(held));
    }

    /// EC2 says that this prefix is on this ENI.
    pub(crate) fn confirm_prefix(&mut self, now: BootTime, id: &EniId, prefix: Prefix) {
        if !self.leave_elsewhere(now, id, Block::Prefix(prefix)) {
            return;
        }
        let leaving = self.leaving(id, Block::Prefix(prefix));
        let Some(eni) = self.enis.get(id) else { return };
        match eni.addresses.prefix(prefix).map(crate::HeldPrefix::state) {
            None => {}
            Some(PrefixState::Unverified { .. }) if !leaving => {}
            Some(_) => return,
        }
        let slot = eni.record.slot;
        self.arrive(id, Block::Prefix(prefix));
        self.hold_prefix(id, prefix, Some(PrefixState::Usable { since: now }));
        for address in prefix.addresses() {
            let unused =
                self.enis.get(id).is_some_and(|eni| matches!(eni.addresses.get(address), Some(Address::Free { .. })));
            if unused && let Some(held) = self.first_state(now, id, slot, address) {
                self.hold(id, address, Some(held));
            }
        }
    }

    /// EC2 gave it to this ENI: it has not departed from there.
    pub(crate) fn arrive(&mut self, id: &EniId, block: Block) {
        if self.departed.remove(&(id.clone(), block)).is_some() {
            self.touch(Key::Departed(id.clone(), block));
        }
    }

    /// Whatever another ENI has of this has departed there; false, and nothing done, if that cannot be: a pod has it, or had it a
    /// moment ago.
    fn leave_elsewhere(&mut self, now: BootTime, id: &EniId, block: Block) -> bool {
        while let Some(other) = self.elsewhere(id, block) {
            let Some(eni) = self.enis.get(&other) else { return false };
            let part: Vec<Block> = match block {
                Block::Address(address) if eni.addresses.in_prefix(address) => {
                    vec![Block::Prefix(Prefix::around(address))]
                }
                Block::Address(_) => vec![block],
                Block::Prefix(prefix) if eni.addresses.prefix(prefix).is_some() => vec![block],
                Block::Prefix(prefix) => {
                    prefix.addresses().filter(|a| eni.addresses.contains(*a)).map(Block::Address).collect()
                }
            };
            let idle = |block: &Block| match block {
                Block::Address(address) => {
                    matches!(eni.addresses.get(*address), Some(Address::Unverified { .. } | Address::Free { .. }))
                }
                Block::Prefix(prefix) => eni.addresses.prefix(*prefix).is_some_and(|held| !held.is_used()),
            };
            if !part.iter().all(idle) {
                return false;
            }
            for block in part {
                self.depart(now, &other, block);
            }
        }
        true
    }

    /// What becomes of an address that EC2 has just confirmed, if not free: a running pod's, or something else's.
    fn first_state(&mut self, now: BootTime, eni: &EniId, slot: Option<Slot>, address: Ipv4Addr) -> Option<Address> {
        if let Some(lease) = self.holder(now, eni, slot, address) {
            return Some(Address::Leased(lease));
        }
        if self.foreign.contains(&address) {
            return Some(Address::Quarantined(FOREIGN.to_owned()));
        }
        let until = self.resting.remove(&address)?;
        self.touch(Key::Resting(address));
        (until > now).then_some(Address::Cooling { until })
    }

    /// The lease that a running pod has on this address.
    pub(crate) fn holder(
        &mut self,
        now: BootTime,
        eni: &EniId,
        slot: Option<Slot>,
        address: Ipv4Addr,
    ) -> Option<LeaseKey> {
        let held = |lease: &&Lease| lease.attachments.iter().any(|attachment| attachment.addresses.contains(&address));
        if let Some(lease) = self.leases.values().find(held) {
            return Some(lease.key.clone());
        }
        let slot = slot?;
        let found = self.found.remove(&address)?;
        self.touch(Key::Found(address));
        let lease = Lease {
            key: found.key.clone(),
            generation: Generation(self.count()),
            pod: found.pod,
            origin: found.origin,
            started: BootTime::default(),
            made: now,
            netns: String::new(),
            attachments: vec![Attachment {
                ifname: found.key.ifname.clone(),
                link: found.link,
                path: Path::Pooled { eni: eni.clone(), slot },
                addresses: vec![address],
            }],
        };
        self.leases.insert(lease.key.clone(), lease);
        self.touch(Key::Lease(found.key.clone()));
        Some(found.key)
    }

    /// EC2 took this back.
    pub(crate) fn depart(&mut self, now: BootTime, id: &EniId, block: Block) {
        match block {
            Block::Address(address) => self.hold(id, address, None),
            Block::Prefix(prefix) => self.hold_prefix(id, prefix, None),
        }
        self.departed.insert((id.clone(), block), now);
        self.touch(Key::Departed(id.clone(), block));
    }

    /// It was to be given back, and was not.
    pub(crate) fn keep(&mut self, now: BootTime, id: &EniId, block: Block) {
        match block {
            Block::Address(address) => {
                let held = self.unless_foreign(address, Address::Free { since: now });
                self.hold(id, address, Some(held));
            }
            Block::Prefix(prefix) => self.hold_prefix(id, prefix, Some(PrefixState::Usable { since: now })),
        }
    }
}

pub(crate) fn has(eni: &Eni, block: Block) -> bool {
    match block {
        Block::Address(address) => eni.addresses.contains(address),
        Block::Prefix(prefix) => eni.addresses.prefix(prefix).is_some(),
    }
}
