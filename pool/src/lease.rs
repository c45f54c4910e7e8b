//! Who gets which address, who waits, and who is told no.
//!
//! Owns allocate, release and the queue of waiting requests. Never asks EC2 for anything.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    Action, AddRequest, Address, Attachment, BootTime, DelRequest, Effect, EniId, EniState, Generation, Key, Lease,
    Origin, Path, Refusal, State, pause::Scope,
};

impl State {
    /// How many [`Self::allocate`] calls in a row would succeed now.
    pub fn available(&self) -> usize {
        self.enis
            .values()
            .filter(|eni| eni.serves())
            .flat_map(|eni| eni.addresses.values())
            .filter(|held| matches!(held, Address::Free { .. }))
            .count()
    }

    pub(crate) fn add(&mut self, request: AddRequest) {
        let deleted_later = self.tombstones.get(&request.key).is_some_and(|deleted| *deleted >= request.started);
        if let Some(lease) = self.leases.get(&request.key) {
            let lease = lease.clone();
            self.effect(Effect::Reply(request.ticket, Ok(lease)));
        } else if deleted_later {
            self.effect(Effect::Reply(request.ticket, Err(Refusal::SandboxGone)));
        } else if self.stopping {
            self.effect(Effect::Reply(request.ticket, Err(Refusal::Stopping)));
        } else {
            self.waiting.push_back(request);
        }
    }

    pub(crate) fn del(&mut self, now: BootTime, request: DelRequest) {
        let DelRequest { ticket, key, started } = request;
        let tombstone = self.tombstones.get(&key).map_or(started, |earlier| started.max(*earlier));
        self.tombstones.insert(key.clone(), tombstone);
        self.touch(Key::Tombstone(key.clone()));
        self.found.retain(|_, found| found.key != key);

        let (gone, still): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.key == key && waiting.started <= started);
        self.waiting.extend(still);
        for waiting in gone {
            self.effect(Effect::Reply(waiting.ticket, Err(Refusal::SandboxGone)));
        }

        let ends = self.leases.get(&key).is_some_and(|lease| lease.started <= started);
        let lease = if ends { self.leases.remove(&key) } else { None };
        if let Some(lease) = &lease {
            self.touch(Key::Lease(key));
            self.cool(now, lease);
        }
        if let Some(ticket) = ticket {
            self.effect(Effect::Released(ticket, lease));
        }
    }

    fn cool(&mut self, now: BootTime, lease: &Lease) {
        let until = now.after(self.policy.cooling);
        for attachment in &lease.attachments {
            let Path::Pooled { eni, .. } = &attachment.path;
            for address in &attachment.addresses {
                let held = self.enis.get(eni).and_then(|eni| eni.addresses.get(address));
                if held == Some(&Address::Leased(lease.key.clone())) {
                    self.hold(eni, *address, Some(Address::Cooling { until }));
                }
            }
        }
    }

    /// Serves the queue, first come first served, as far as there are addresses.
    pub(crate) fn serve_waiting(&mut self, now: BootTime) {
        while let Some(request) = self.waiting.front() {
            let lease = match self.leases.get(&request.key) {
                Some(lease) => lease.clone(),
                None => match self.allocate(now) {
                    Some((eni, address)) => self.lease_to(now, eni, address),
                    None => return,
                },
            };
            if let Some(request) = self.waiting.pop_front() {
                self.effect(Effect::Reply(request.ticket, Ok(lease)));
            }
        }
    }

    /// The address that the next request gets. With surplus, from the ENI with the most leases, so that others empty and can be given
    /// back; else from the one with the fewest: the VPC's resolver takes 1,024 packets/s per ENI. On it, the longest free.
    pub(crate) fn allocate(&self, now: BootTime) -> Option<(EniId, Ipv4Addr)> {
        let packs = self.surplus.is_some() || self.enis.values().any(|eni| eni.record.state == EniState::Draining);
        let eni = self
            .enis
            .values()
            .filter(|eni| eni.serves() && eni.addresses.values().any(|held| matches!(held, Address::Free { .. })))
            .min_by_key(|eni| {
                let leased = eni.leased();
                (if packs { usize::MAX - leased } else { leased }, eni.record.slot)
            })?;
        let (address, _) = eni
            .addresses
            .iter()
            .filter_map(|(address, held)| match held {
                Address::Free { since } => Some((*address, now.since(*since))),
                _ => None,
            })
            .max_by_key(|(address, free_for)| (*free_for, std::cmp::Reverse(*address)))?;
        Some((eni.record.id.clone(), address))
    }

    /// Leases this address to the request at the head of the queue.
    fn lease_to(&mut self, now: BootTime, eni: EniId, address: Ipv4Addr) -> Lease {
        let generation = Generation(self.count());
        let request = self.waiting.front().expect("called with a request at the head");
        let slot = self.enis[&eni].record.slot.expect("an ENI that serves has a slot");
        let lease = Lease {
            key: request.key.clone(),
            generation,
            pod: request.pod.clone(),
            origin: Origin::Allocated,
            started: request.started,
            made: now,
            netns: request.netns.clone(),
            attachments: vec![Attachment {
                ifname: request.key.ifname.clone(),
                link: request.link.clone(),
                path: Path::Pooled { eni: eni.clone(), slot },
                addresses: vec![address],
            }],
        };
        self.hold(&eni, address, Some(Address::Leased(lease.key.clone())));
        self.leases.insert(lease.key.clone(), lease.clone());
        self.touch(Key::Lease(lease.key.clone()));
        lease
    }

    /// Says no to whoever cannot be helped before its deadline.
    pub(crate) fn refuse_hopeless(&mut self, now: BootTime) {
        if self.waiting.is_empty() {
            return;
        }
        let hope = self.hope(now);
        let why = self.why_not(now);
        let (keep, refuse): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|request| {
            request.deadline > now
                && match hope {
                    Hope::InFlight => true,
                    Hope::At(at) => request.deadline > at,
                    Hope::None => false,
                }
        });
        self.waiting.extend(keep);
        for request in refuse {
            self.effect(Effect::Reply(request.ticket, Err(why.clone())));
        }
    }

    fn hope(&self, now: BootTime) -> Hope {
        if self.stopping {
            return Hope::None;
        }
        let starting = self.facts.is_none() && self.facts_missing.is_none();
        let reading = !self.reads.is_empty();
        let asking = self.intents.values().any(|intent| {
            matches!(
                intent.call.action(),
                Action::CreateNetworkInterface | Action::AttachNetworkInterface | Action::AssignPrivateIpAddresses
            )
        });
        let coming = self.enis.values().any(|eni| {
            eni.grows() && !eni.serves() && eni.addresses.values().any(|held| matches!(held, Address::Free { .. }))
        });
        if starting || reading || asking || coming || self.short_since.is_some() {
            return Hope::InFlight;
        }
        // Somebody's help is needed for the other reasons, and the runtime tries again by itself.
        let throttled = [
            Action::CreateNetworkInterface,
            Action::AttachNetworkInterface,
            Action::AssignPrivateIpAddresses,
            Action::DescribeNetworkInterfaces,
        ]
        .into_iter()
        .map(Scope::Action)
        .filter(|scope| matches!(self.pauses.reason(scope, now), Some(Refusal::Throttled { .. })))
        .filter_map(|scope| self.pauses.until(&scope, now));
        let transitions = self.enis.keys().filter_map(|eni| self.pauses.until(&Scope::Eni(eni.clone()), now));
        let cooling = self.first_cooling().map(|(until, _)| until);
        throttled.chain(transitions).chain(cooling).min().map_or(Hope::None, Hope::At)
    }

    /// The reason that a request is told when it cannot wait any longer.
    fn why_not(&self, now: BootTime) -> Refusal {
        if let Err(refusal) = self.serving() {
            return refusal;
        }
        let limited = matches!(
            self.held,
            None | Some(Refusal::EniLimit { .. } | Refusal::AddressLimit | Refusal::PolicyCap { .. })
        );
        if self.held.is_none() && self.numbers(now).unverified > 0 {
            return Refusal::Verifying;
        }
        match self.first_cooling() {
            Some((until, count)) if limited && until > now => Refusal::CoolingDown { count, until },
            _ => self.held.clone().unwrap_or(Refusal::WarmingUp),
        }
    }

    /// When the first cooling address becomes free, and how many cool.
    fn first_cooling(&self) -> Option<(BootTime, u32)> {
        let mut cooling: BTreeMap<BootTime, u32> = BTreeMap::new();
        for held in self.enis.values().filter(|eni| eni.serves()).flat_map(|eni| eni.addresses.values()) {
            if let Address::Cooling { until } = held {
                *cooling.entry(*until).or_default() += 1;
            }
        }
        let count = cooling.values().sum();
        cooling.keys().next().map(|until| (*until, count))
    }
}

/// May waiting help.
enum Hope {
    /// Something is under way whose end nobody knows.
    InFlight,
    /// Not before this time.
    At(BootTime),
    /// No.
    None,
}
