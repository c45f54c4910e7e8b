//! What reading EC2 shows, and what may be concluded from it.
//!
//! Owns the merging of descriptions. Presence is evidence; absence in one read never is: reads are stale for seconds to minutes. A
//! lease is a veto, whatever any read says.

use std::{net::Ipv4Addr, time::Duration};

use crate::{
    Action, Address, Answer, Attached, Attachment, BootTime, Call, DeviceIndex, Eni, EniId, EniRecord, EniState,
    Generation, InterfaceKind, Key, Lease, Now, Path, Role, SeenAttachment, SeenEni, Slot, State, pause::Scope,
    state::DEPARTED,
};

/// Two reads without a thing must be this far apart,
const APART: Duration = Duration::from_secs(5);
/// and the second this long after the call, before the thing counts as not being there.
const SETTLED: Duration = Duration::from_secs(15);
/// Why an ENI is quarantined.
const NOT_SHOWN: &str = "EC2 does not show this ENI, and pods use it";

impl State {
    /// Asks EC2 for what is in doubt.
    pub(crate) fn plan_reads(&mut self, now: Now) {
        let Some(instance) = self.facts.as_ref().map(|facts| facts.instance.clone()) else { return };
        let scope = Scope::Action(Action::DescribeNetworkInterfaces);
        if self.pauses.active(&scope, now.at) {
            return;
        }
        if !self.discovered && !self.reads.values().any(|read| matches!(read, Call::Discover { .. })) {
            self.call(now.at, Call::Discover { instance });
        }
        for eni in self.due_reads(now.at) {
            if self.read_again.get(&eni).is_some_and(|at| *at <= now.at) {
                self.read_again.remove(&eni);
            }
            self.call(now.at, Call::Describe { eni });
        }
    }

    fn due_reads(&self, now: BootTime) -> Vec<EniId> {
        let mut due: Vec<EniId> = self
            .read_times()
            .filter(|(_, at)| *at <= now)
            .map(|(eni, _)| eni)
            .filter(|eni| !self.reads.values().any(|read| read.eni() == Some(eni)))
            .collect();
        due.sort();
        due.dedup();
        due
    }

    /// When the next read of something in doubt is due.
    pub(crate) fn next_reads(&self) -> impl Iterator<Item = BootTime> {
        self.read_times().map(|(_, at)| at)
    }

    fn read_times(&self) -> impl Iterator<Item = (EniId, BootTime)> {
        let doubts = self.intents.values().filter_map(|intent| {
            let eni = intent.call.eni()?;
            intent.doubt.as_ref().and_then(|doubt| doubt.next).map(|next| (eni.clone(), next))
        });
        let suspects = self
            .suspects
            .iter()
            .map(|(eni, absent)| (eni.clone(), absent.map_or(BootTime::default(), |absent| absent.after(SETTLED))));
        let addresses = self.enis.values().flat_map(|eni| {
            eni.addresses.iter().filter_map(|(address, held)| match held {
                Address::Unverified { absent } if !self.leaving(&eni.record.id, *address) => {
                    Some((eni.record.id.clone(), absent.map_or(BootTime::default(), |absent| absent.after(SETTLED))))
                }
                _ => None,
            })
        });
        let again = self.read_again.iter().map(|(eni, at)| (eni.clone(), *at));
        doubts.chain(suspects).chain(addresses).chain(again)
    }

    /// An open call gives this address back, or its ENI goes.
    pub(crate) fn leaving(&self, id: &EniId, address: Ipv4Addr) -> bool {
        let gone = self
            .enis
            .get(id)
            .is_none_or(|eni| matches!(eni.record.state, EniState::Draining | EniState::Detaching | EniState::Leaving));
        gone || self.intents.values().any(|intent| match &intent.call {
            Call::Unassign { eni, addresses, .. } => eni == id && addresses.contains(&address),
            _ => false,
        })
    }

    /// A read came back.
    pub(crate) fn read(&mut self, now: BootTime, read: &Call, answer: Answer) {
        match (read, answer) {
            (Call::Discover { .. }, Answer::Discovered(seen)) => {
                self.discovered = true;
                let missing: Vec<_> = self
                    .enis
                    .values()
                    .filter(|eni| eni.attached() && !seen.iter().any(|seen| seen.id == eni.record.id))
                    .map(|eni| eni.record.id.clone())
                    .collect();
                for eni in missing {
                    self.suspects.entry(eni).or_default();
                }
                for seen in seen {
                    self.observe(now, seen);
                }
            }
            (Call::Describe { .. }, Answer::Described(Some(seen))) => self.observe(now, seen),
            (Call::Describe { eni }, Answer::Described(None)) => self.missed(now, &eni.clone(), Shown::Nothing),
            _ => {}
        }
    }

    fn observe(&mut self, now: BootTime, seen: SeenEni) {
        let id = seen.id.clone();
        let ours = self.our_attachment(&seen);
        match (self.enis.contains_key(&id), ours.is_some()) {
            (false, true) => return self.adopt(now, seen),
            (false, false) => return,
            (true, true) => {
                self.suspects.remove(&id);
                self.set_state(&id, EniState::Quarantined(NOT_SHOWN.to_owned()), EniState::AttachedUnprotected);
            }
            // It exists and is not attached to us: for an ENI that we believe attached that is a read without it.
            (true, false) => {
                if self.enis.get(&id).is_some_and(Eni::attached) {
                    self.missed(now, &id, Shown::Detached);
                } else {
                    self.suspects.remove(&id);
                }
            }
        }
        if let Some(attachment) = &ours
            && let Some(eni) = self.enis.get_mut(&id)
            && attachment.attached
        {
            let known = Attached { id: attachment.id.clone(), device: attachment.device, card: attachment.card };
            if eni.record.attachment.is_none() && matches!(eni.record.state, EniState::Attaching | EniState::Detached) {
                eni.record.attachment = Some(known);
                eni.record.state =
                    if attachment.delete_on_termination { EniState::Ready } else { EniState::AttachedUnprotected };
                let slot = self.free_slot();
                if let Some(eni) = self.enis.get_mut(&id) {
                    eni.record.slot = eni.record.slot.or(slot);
                }
                self.touch(Key::Eni(id.clone()));
            }
        }
        self.settle_doubts(now, &id, &seen, ours.is_some());
        self.compare_addresses(now, &id, &seen);
    }

    /// Calls whose answer was lost: the effect shows, or it has not shown for long enough.
    fn settle_doubts(&mut self, now: BootTime, id: &EniId, seen: &SeenEni, attached: bool) {
        let known = |address: &Ipv4Addr| self.enis.get(id).is_some_and(|eni| eni.addresses.contains_key(address));
        let mut closed = Vec::new();
        let mut touched = Vec::new();
        for intent in self.intents.values() {
            if intent.call.eni() != Some(id) || intent.doubt.is_none() {
                continue;
            }
            let shows = match &intent.call {
                Call::Attach { .. } => attached,
                Call::Assign { .. } => {
                    seen.secondary.iter().any(|address| !known(address) && !self.departed.contains_key(address))
                }
                Call::Unassign { addresses, .. } => !addresses.iter().any(|address| seen.secondary.contains(address)),
                _ => continue,
            };
            if shows {
                closed.push((intent.id, true));
            } else {
                touched.push(intent.id);
            }
        }
        for id in touched {
            let Some(intent) = self.intents.get_mut(&id) else { continue };
            let (at, Some(doubt)) = (intent.at, intent.doubt.as_mut()) else { continue };
            doubt.reads += 1;
            let first = *doubt.first.get_or_insert(now);
            if doubt.reads >= 2 && now.since(first) >= APART && now.since(at) >= SETTLED {
                closed.push((id, false));
            } else {
                doubt.next = Some(first.after(APART).max(at.after(SETTLED)));
            }
            self.touch(Key::Intent(id));
        }
        for (call, happened) in closed {
            let Some(intent) = self.intents.remove(&call) else { continue };
            self.touch(Key::Intent(call));
            match (intent.call, happened) {
                (Call::Unassign { eni, addresses, .. }, true) => {
                    for address in addresses {
                        self.depart(now, &eni, address);
                    }
                }
                (Call::Attach { eni, .. }, false) => self.set_state(&eni, EniState::Attaching, EniState::Detached),
                // New addresses are taken in by the comparison; addresses that were not given back are confirmed by it.
                _ => {}
            }
        }
    }

    /// Addresses that EC2 shows are confirmed; those that it does not show are not leased anew.
    fn compare_addresses(&mut self, now: BootTime, id: &EniId, seen: &SeenEni) {
        if !self.enis.get(id).is_some_and(Eni::holds_pods) {
            return;
        }
        for address in &seen.secondary {
            match self.departed.get(address) {
                // Stale, or EC2 gave it to us again and the answer was lost: a read after the stale ones have ended tells.
                Some(departed) if !self.enis.get(id).is_some_and(|eni| eni.addresses.contains_key(address)) => {
                    let after = departed.after(DEPARTED + APART);
                    let at = self.read_again.entry(id.clone()).or_insert(after);
                    *at = after.min(*at);
                }
                // On another ENI by a newer answer: this read is stale.
                _ if self.elsewhere(id, *address).is_some() => {}
                _ => self.confirm(now, id, *address),
            }
        }
        let Some(eni) = self.enis.get(id) else { return };
        let mut gone = Vec::new();
        let mut doubtful = Vec::new();
        for (address, held) in &eni.addresses {
            if seen.secondary.contains(address) || self.leaving(id, *address) {
                continue;
            }
            match held {
                Address::Unverified { absent: Some(absent) } if now.since(*absent) >= SETTLED => gone.push(*address),
                Address::Unverified { absent: None } | Address::Free { .. } => doubtful.push(*address),
                _ => {}
            }
        }
        for address in doubtful {
            self.hold(id, address, Some(Address::Unverified { absent: Some(now) }));
        }
        for address in gone {
            self.hold(id, address, None);
        }
    }

    /// The other ENI that this address is on.
    fn elsewhere(&self, id: &EniId, address: Ipv4Addr) -> Option<EniId> {
        let other = |eni: &&Eni| eni.record.id != *id && eni.addresses.contains_key(&address);
        self.enis.values().find(other).map(|eni| eni.record.id.clone())
    }

    /// EC2 says that this address is on this ENI. That it gave it away before, from another ENI, is news then, unless a pod has it.
    pub(crate) fn confirm(&mut self, now: BootTime, id: &EniId, address: Ipv4Addr) {
        if let Some(other) = self.elsewhere(id, address) {
            match self.enis.get(&other).and_then(|eni| eni.addresses.get(&address)) {
                Some(Address::Unverified { .. } | Address::Free { .. }) => self.depart(now, &other, address),
                _ => return,
            }
        }
        let leaving = self.leaving(id, address);
        let Some(eni) = self.enis.get(id) else { return };
        match eni.addresses.get(&address) {
            None => {}
            Some(Address::Unverified { .. }) if !leaving => {}
            Some(_) => return,
        }
        let slot = eni.record.slot;
        self.departed.remove(&address);
        self.touch(Key::Departed(address));
        let held = match self.holder(now, id, slot, address) {
            Some(lease) => Address::Leased(lease),
            None => Address::Free { since: now },
        };
        self.hold(id, address, Some(held));
    }

    /// The lease that a running pod has on this address.
    fn holder(&mut self, now: BootTime, eni: &EniId, slot: Option<Slot>, address: Ipv4Addr) -> Option<crate::LeaseKey> {
        let held = |lease: &&Lease| lease.attachments.iter().any(|attachment| attachment.addresses.contains(&address));
        if let Some(lease) = self.leases.values().find(held) {
            return Some(lease.key.clone());
        }
        let found = self.found.remove(&address)?;
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
                path: Path::Pooled { eni: eni.clone(), slot: slot? },
                addresses: vec![address],
            }],
        };
        self.leases.insert(lease.key.clone(), lease);
        self.touch(Key::Lease(found.key.clone()));
        Some(found.key)
    }

    /// EC2 took this address back.
    pub(crate) fn depart(&mut self, now: BootTime, id: &EniId, address: Ipv4Addr) {
        self.hold(id, address, None);
        self.departed.insert(address, now);
        self.touch(Key::Departed(address));
    }

    /// A read by id without the ENI. The second one, long enough after the first, is believed, unless a pod lives there.
    fn missed(&mut self, now: BootTime, id: &EniId, shown: Shown) {
        let first = *self.suspects.entry(id.clone()).or_default().get_or_insert(now);
        if now.since(first) < SETTLED {
            let free: Vec<_> = self.enis.get(id).map(free_addresses).unwrap_or_default();
            for address in free {
                self.hold(id, address, Some(Address::Unverified { absent: Some(now) }));
            }
            return;
        }
        self.suspects.remove(id);
        let open: Vec<_> =
            self.intents.values().filter(|open| open.call.eni() == Some(id)).map(|open| open.id).collect();
        for call in open {
            self.intents.remove(&call);
            self.touch(Key::Intent(call));
        }
        let Some(eni) = self.enis.get_mut(id) else { return };
        if eni.leased() == 0 && shown == Shown::Detached && eni.record.created {
            // Ours, and attached to nothing: not to be left over.
            let goes = matches!(eni.record.state, EniState::Draining | EniState::Detaching);
            eni.record.state = if goes { EniState::Leaving } else { EniState::Detached };
            eni.record.attachment = None;
            eni.link_ready = false;
            self.touch(Key::Eni(id.clone()));
        } else if eni.leased() == 0 {
            self.forget(id);
        } else {
            eni.record.state = EniState::Quarantined(NOT_SHOWN.to_owned());
            self.touch(Key::Eni(id.clone()));
            // It may come back, or its pods may go.
            self.read_again.insert(id.clone(), now.after(DEPARTED));
        }
    }

    /// Takes an ENI in that was not known: just created, found attached, or left from before the ledger was lost.
    pub(crate) fn adopt(&mut self, now: BootTime, seen: SeenEni) {
        let Some(facts) = &self.facts else { return };
        let description = format!("aws-K8S-{}", facts.instance);
        let tagged = seen.tags.get(INSTANCE_TAG).is_some_and(|tag| *tag == facts.instance.as_str());
        let untouchable = seen.tags.get(NO_MANAGE_TAG).is_some_and(|tag| tag == "true");
        let ours = self.our_attachment(&seen);
        let role = match (seen.kind, &ours) {
            (InterfaceKind::Trunk, _) => Role::Trunk,
            (InterfaceKind::EfaOnly, _) => Role::Efa,
            (InterfaceKind::Other, _) => Role::Foreign,
            _ if seen.id == facts.primary => Role::Primary,
            _ if untouchable || !(tagged || self.policy.manage_untagged) => Role::Foreign,
            // Other network cards come with multi-NIC pods.
            (InterfaceKind::Interface, Some(SeenAttachment { card: 1.., .. })) => Role::Foreign,
            (InterfaceKind::Interface, _) => Role::Pods,
        };
        let created = tagged && seen.description == description && role == Role::Pods;
        let state = match &ours {
            None => EniState::Detached,
            Some(attachment) if !attachment.attached => EniState::Detaching,
            Some(attachment) if attachment.delete_on_termination || !created => EniState::Ready,
            Some(_) => EniState::AttachedUnprotected,
        };
        let slot = match (role, &ours) {
            (Role::Primary, _) => Some(Slot::PRIMARY),
            (Role::Pods, Some(_)) => self.free_slot(),
            _ => None,
        };
        let record = EniRecord {
            id: seen.id.clone(),
            mac: seen.mac,
            subnet: seen.subnet,
            primary: seen.primary,
            role,
            created,
            state,
            attachment: ours.map(|attachment| Attached {
                id: attachment.id,
                device: attachment.device,
                card: attachment.card,
            }),
            slot,
            since: now,
        };
        let holds_pods = matches!(role, Role::Primary | Role::Pods);
        self.enis
            .insert(seen.id.clone(), Eni { record, addresses: std::collections::BTreeMap::new(), link_ready: false });
        self.touch(Key::Eni(seen.id.clone()));
        if holds_pods {
            for address in seen.secondary {
                self.confirm(now, &seen.id, address);
            }
        }
    }

    fn our_attachment(&self, seen: &SeenEni) -> Option<SeenAttachment> {
        let instance = &self.facts.as_ref()?.instance;
        seen.attachment.clone().filter(|attachment| attachment.instance.as_ref() == Some(instance))
    }

    /// Device indices of card 0 that something holds or is about to hold.
    pub(crate) fn free_device(&self) -> DeviceIndex {
        let held = self
            .enis
            .values()
            .filter_map(|eni| eni.record.attachment.as_ref())
            .filter(|at| at.card == 0)
            .map(|at| at.device);
        let asked = self.intents.values().filter_map(|intent| match &intent.call {
            Call::Attach { device, .. } => Some(*device),
            _ => None,
        });
        let taken: std::collections::BTreeSet<_> = held.chain(asked).collect();
        (1..=u32::from(u8::MAX))
            .map(DeviceIndex)
            .find(|device| !taken.contains(device))
            .unwrap_or(DeviceIndex(u32::MAX))
    }
}

/// What a read without our attachment showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// No such ENI.
    Nothing,
    /// The ENI, not attached to us.
    Detached,
}

/// Tag with the id of the instance that an ENI belongs to (amazon-vpc-cni's).
pub(crate) const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag that keeps us away from an ENI (amazon-vpc-cni's).
pub(crate) const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";

fn free_addresses(eni: &Eni) -> Vec<Ipv4Addr> {
    eni.addresses.iter().filter(|(_, held)| matches!(held, Address::Free { .. })).map(|(address, _)| *address).collect()
}
