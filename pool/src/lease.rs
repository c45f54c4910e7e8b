//! Who gets which address, who waits, and who is told no.
//!
//! Owns allocate, release and the queue of waiting requests. Never asks EC2 for anything.

use std::net::Ipv4Addr;

use crate::{
    Action, AddRequest, Address, Attachment, BootTime, Call, DelRequest, Effect, EniId, EniState, Generation, Key,
    Lease, News, Origin, Path, Refusal, State, pause::Scope,
};

impl State {
    /// How many [`Self::allocate`] calls in a row would succeed now.
    pub fn available(&self) -> usize {
        let pressed = self.pressed();
        let early = |eni: &crate::Eni| if pressed { eni.addresses.cooling().count() } else { 0 };
        self.enis.values().filter(|eni| self.hands_out(eni)).map(|eni| eni.tally().free as usize + early(eni)).sum()
    }

    /// New leases are made there: what a list of EC2's left out is read by id first.
    fn hands_out(&self, eni: &crate::Eni) -> bool {
        eni.serves() && !self.suspects.contains_key(&eni.record.id)
    }

    /// Nothing else can be had, and the operator allows cooling addresses to be used before their time.
    fn pressed(&self) -> bool {
        let growing = self
            .intents
            .values()
            .any(|intent| matches!(intent.call, Call::CreateEni { .. } | Call::Attach { .. } | Call::Assign { .. }));
        let held = self.held.as_ref().is_some_and(|held| !matches!(held, Refusal::PrefixFragmented { .. }));
        self.policy.early_reuse && held && !growing
    }

    /// How many cooling addresses were leased before their time since the start.
    pub fn reused_early(&self) -> u64 {
        self.reused_early
    }

    pub(crate) fn add(&mut self, request: AddRequest) {
        let deleted_later = self.tombstones.get(&request.key).is_some_and(|deleted| *deleted >= request.started);
        if deleted_later {
            self.effect(Effect::Reply(request.ticket, Err(Refusal::SandboxGone)));
        } else if let Some(lease) = self.renew(&request) {
            self.effect(Effect::Reply(request.ticket, Ok(lease)));
        } else if self.stopping {
            self.effect(Effect::Reply(request.ticket, Err(Refusal::Stopping)));
        } else {
            self.waiting.push_back(request);
        }
    }

    /// The lease that the sandbox has. A later ADD for it, of a container id that came back, makes it that ADD's: a DEL that started in
    /// between does not end it.
    fn renew(&mut self, request: &AddRequest) -> Option<Lease> {
        self.not_missing(&request.key);
        let lease = self.leases.get_mut(&request.key)?;
        if request.started > lease.started {
            lease.started = request.started;
            lease.netns.clone_from(&request.netns);
            self.touch(Key::Lease(request.key.clone()));
        }
        self.leases.get(&request.key).cloned()
    }

    pub(crate) fn del(&mut self, now: BootTime, request: DelRequest) {
        let DelRequest { ticket, key, started } = request;
        let tombstone = self.tombstones.get(&key).map_or(started, |earlier| started.max(*earlier));
        self.tombstones.insert(key.clone(), tombstone);
        self.touch(Key::Tombstone(key.clone()));
        let found: Vec<_> =
            self.found.iter().filter(|(_, found)| found.key == key).map(|(address, _)| *address).collect();
        for address in found {
            self.found.remove(&address);
            self.touch(Key::Found(address));
            self.resting.insert(address, now.after(self.policy.cooling));
            self.touch(Key::Resting(address));
        }

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

    pub(crate) fn cool(&mut self, now: BootTime, lease: &Lease) {
        let until = now.after(self.policy.cooling);
        for attachment in &lease.attachments {
            let Path::Pooled { eni, .. } = &attachment.path;
            for address in &attachment.addresses {
                let held = self.enis.get(eni).and_then(|eni| eni.addresses.get(*address));
                if held == Some(&Address::Leased(lease.key.clone())) {
                    let rests = if self.unshown.contains(&(eni.clone(), *address)) {
                        self.resting.insert(*address, until);
                        self.touch(Key::Resting(*address));
                        Address::Unverified { absent: None }
                    } else {
                        self.unless_foreign(*address, Address::Cooling { until })
                    };
                    self.hold(eni, *address, Some(rests));
                }
            }
        }
    }

    /// Serves the queue, first come first served, as far as there are addresses.
    pub(crate) fn serve_waiting(&mut self, now: BootTime) {
        while let Some(request) = self.waiting.pop_front() {
            let ticket = request.ticket;
            let lease = if let Some(lease) = self.renew(&request) {
                lease
            } else {
                let free = self.allocate();
                let early = if free.is_none() { self.allocate_early() } else { None };
                let Some((eni, address)) = free.or_else(|| early.clone()) else {
                    self.waiting.push_front(request);
                    return;
                };
                let lease = self.lease_to(now, request, eni, address);
                if early.is_some() {
                    self.reused_early += 1;
                    self.effect(Effect::Say(News::ReusedEarly(lease.clone())));
                }
                lease
            };
            self.effect(Effect::Reply(ticket, Ok(lease)));
        }
    }

    /// The address that the next request gets, if it need not wait or get a cooling one; looking changes nothing. With surplus, from the
    /// ENI with the most leases, so that others empty and can be given back; else from the one with the fewest: the VPC's resolver takes
    /// 1,024 packets/s per ENI. On it, the longest free.
    pub fn allocate(&self) -> Option<(EniId, Ipv4Addr)> {
        let packs = self.surplus.is_some() || self.enis.values().any(|eni| eni.record.state == EniState::Draining);
        let rank = |eni: &crate::Eni| if packs { usize::MAX - eni.leased() } else { eni.leased() };
        let free = self.enis.values().filter(|eni| self.hands_out(eni) && eni.tally().free > 0);
        let best = free.min_by_key(|eni| (rank(eni), eni.record.slot));
        best.and_then(|eni| Some((eni.record.id.clone(), eni.addresses.next_free(packs)?)))
    }

    /// The cooling address that has cooled for longest, when nothing else can be had and the operator allows it.
    fn allocate_early(&self) -> Option<(EniId, Ipv4Addr)> {
        let serving = self.enis.values().filter(|eni| self.pressed() && self.hands_out(eni));
        let cooling = serving.filter_map(|eni| Some((eni.addresses.cooling().next()?, &eni.record.id)));
        cooling.min().map(|((_, address), eni)| (eni.clone(), address))
    }

    /// Leases this address to the request.
    fn lease_to(&mut self, now: BootTime, request: AddRequest, eni: EniId, address: Ipv4Addr) -> Lease {
        let generation = Generation(self.count());
        let slot = self.enis[&eni].record.slot.expect("an ENI that serves has a slot");
        self.hold(&eni, address, Some(Address::Leased(request.key.clone())));
        let lease = Lease {
            generation,
            pod: request.pod,
            origin: Origin::Allocated,
            started: request.started,
            made: now,
            netns: request.netns,
            attachments: vec![Attachment {
                ifname: request.key.ifname.clone(),
                link: request.link,
                path: Path::Pooled { eni, slot },
                addresses: vec![address],
            }],
            key: request.key,
        };
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
        let known = self.facts.as_ref().is_some_and(|facts| facts.limits.is_some());
        let starting = !known && matches!(self.facts_missing, None | Some(Refusal::Throttled { .. }));
        let reading = self.reads.values().any(|read| !matches!(read, Call::Leaked { .. } | Call::Instances { .. }));
        // What is being given back makes room for what can be had instead.
        let asking = self.intents.values().any(|intent| {
            matches!(
                intent.call,
                Call::CreateEni { .. } | Call::Attach { .. } | Call::Assign { .. } | Call::Unassign { .. }
            ) && !self.stalled(intent, now)
        });
        let poor = self.budgets.until(now, Action::AttachNetworkInterface).is_some();
        let kept_off = poor || self.why_detached(now).is_some();
        let comes =
            |eni: &crate::Eni| eni.grows() && !eni.serves() && !(kept_off && eni.record.state == EniState::Detached);
        let coming = self.enis.values().any(|eni| comes(eni) && eni.tally().free > 0);
        if starting || reading || asking || coming || self.short_since.is_some() {
            return Hope::InFlight;
        }
        // Somebody's help is needed for the other reasons, and the runtime tries again by itself.
        let throttled = self.budgets.wanted().filter(|(action, _)| GROWING.contains(action)).map(|(_, at)| at);
        // Lost, and told by a call that lacks nothing but a token.
        let told = self
            .intents
            .values()
            .filter(|intent| intent.doubt.is_some())
            .map(Self::told_by)
            .filter(|action| !self.pauses.active(&Scope::Action(*action), now))
            .filter_map(|action| self.budgets.until(now, action));
        // One lost answer is no reason to send pods away.
        let unreachable = GROWING
            .map(Scope::Action)
            .into_iter()
            .filter(|scope| matches!(self.pauses.reason(scope, now), Some(Refusal::CloudUnreachable { .. })))
            .filter(|scope| self.pauses.failures(scope) <= PATIENCE)
            .filter_map(|scope| self.pauses.until(&scope, now));
        let transitions = self.enis.keys().filter_map(|eni| self.pauses.until(&Scope::Eni(eni.clone()), now));
        let cooling = self.first_cooling().map(|(until, _)| until);
        throttled.chain(told).chain(unreachable).chain(transitions).chain(cooling).min().map_or(Hope::None, Hope::At)
    }

    /// Lost, and what would tell, its repetition or a read, is refused.
    pub(crate) fn stalled(&self, intent: &crate::Intent, now: BootTime) -> bool {
        intent.doubt.is_some() && self.barred(now, Self::told_by(intent)).is_some()
    }

    /// What shows whether a lost call happened.
    fn told_by(intent: &crate::Intent) -> Action {
        if intent.is_repeated() { intent.call.action() } else { Action::DescribeNetworkInterfaces }
    }

    /// Why a lost call is not repeated.
    fn why_stalled(&self, now: BootTime) -> Option<Refusal> {
        let stalled = self.intents.values().find(|intent| self.stalled(intent, now))?;
        self.barred(now, Self::told_by(stalled))
    }

    /// Why an ENI that is there is not attached, if somebody has to help.
    fn why_detached(&self, now: BootTime) -> Option<Refusal> {
        let detached = self.enis.values().any(|eni| eni.record.state == EniState::Detached);
        let held = self.pauses.reason(&Scope::Action(Action::AttachNetworkInterface), now).filter(|_| detached);
        held.filter(|held| !matches!(held, Refusal::CloudUnreachable { .. } | Refusal::EniLimit { .. })).cloned()
    }

    /// An ENI that is there is not attached yet, since EC2 or the node's budget takes no more calls for now.
    fn why_attach_waits(&self, now: BootTime) -> Option<Refusal> {
        let detached = self.enis.values().any(|eni| eni.record.state == EniState::Detached);
        self.barred(now, Action::AttachNetworkInterface).filter(|_| detached)
    }

    /// The reason that a request is told when it cannot wait any longer.
    fn why_not(&self, now: BootTime) -> Refusal {
        if let Err(refusal) = self.serving() {
            return refusal;
        }
        let limited = matches!(
            self.held,
            None | Some(
                Refusal::EniLimit { .. } | Refusal::AddressLimit | Refusal::PolicyCap { .. } | Refusal::NodeDraining
            )
        );
        if self.held.is_none() && self.numbers(now).unverified > 0 {
            return Refusal::Verifying;
        }
        match self.first_cooling() {
            Some((until, count)) if limited && until > now => Refusal::CoolingDown { count, until },
            _ => {
                let stuck =
                    || self.why_stalled(now).or_else(|| self.why_detached(now)).or_else(|| self.why_attach_waits(now));
                self.held.clone().or_else(stuck).unwrap_or(Refusal::WarmingUp)
            }
        }
    }

    /// When the first cooling address becomes free, and how many cool.
    pub(crate) fn first_cooling(&self) -> Option<(BootTime, u32)> {
        let serving = || self.enis.values().filter(|eni| eni.serves());
        let until = serving().filter_map(|eni| eni.addresses.next_cooled()).map(|(until, _)| until).min()?;
        Some((until, serving().map(|eni| eni.tally().cooling).sum()))
    }
}

/// What a pod's address may wait for.
const GROWING: [Action; 4] = [
    Action::CreateNetworkInterface,
    Action::AttachNetworkInterface,
    Action::AssignPrivateIpAddresses,
    Action::DescribeNetworkInterfaces,
];
/// So often in a row EC2 may not answer before waiting requests are told.
const PATIENCE: u32 = 2;

/// May waiting help.
enum Hope {
    /// Something is under way whose end nobody knows.
    InFlight,
    /// Not before this time.
    At(BootTime),
    /// No.
    None,
}
