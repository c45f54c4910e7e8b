//! The whole of a node's pool, and the one way to change it.
//!
//! Owns [`State`]: what is held, and how an event becomes a step. The rules themselves are in `lease` (allocate, release, waiting),
//! `answer` (what EC2 said), `observe` (what EC2 shows), `grow`, `shrink` and `lifecycle` (what to ask for next).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use crate::{
    AddRequest, Address, Block, BootTime, Call, CallId, Effect, Eni, EniId, Event, FoundLease, Intent, Key,
    KnownSubnet, Lease, LeaseKey, NodeFacts, Now, Pod, Policy, Prefix, PrefixState, Refusal, Slot, Step, SubnetId,
    WantedEni, budget::Budgets, leaked::Search, pause::Pauses,
};

/// How long a DEL refuses ADDs that started before it.
const TOMBSTONE: Duration = Duration::from_mins(10);
/// How long a stale read may still show an address that went back to EC2.
pub(crate) const DEPARTED: Duration = Duration::from_mins(5);

/// A node's pool.
#[derive(Debug)]
pub struct State {
    pub(crate) policy: Policy,
    pub(crate) facts: Option<NodeFacts>,
    pub(crate) facts_missing: Option<Refusal>,
    pub(crate) enis: BTreeMap<EniId, Eni>,
    pub(crate) leases: BTreeMap<LeaseKey, Lease>,
    pub(crate) tombstones: BTreeMap<LeaseKey, BootTime>,
    /// By the ENI that it left: a stale read shows it there and nowhere else.
    pub(crate) departed: BTreeMap<(EniId, Block), BootTime>,
    pub(crate) intents: BTreeMap<CallId, Intent>,
    pub(crate) found: BTreeMap<Ipv4Addr, FoundLease>,
    /// Addresses of found leases that ended before EC2 confirmed them: until when they cool.
    pub(crate) resting: BTreeMap<Ipv4Addr, BootTime>,
    pub(crate) serial: u64,

    // Below: not kept, told or learnt anew after a restart.
    pub(crate) reads: BTreeMap<CallId, Call>,
    reads_made: u64,
    pub(crate) waiting: VecDeque<AddRequest>,
    pub(crate) pauses: Pauses,
    pub(crate) budgets: Budgets,
    /// All ENIs of the instance have been read since the start.
    pub(crate) discovered: bool,
    pub(crate) discovered_at: BootTime,
    /// ENIs to be read by id, since a list left them out or an answer did not fit: when the last read was without them.
    pub(crate) suspects: BTreeMap<EniId, Option<BootTime>>,
    /// The most to ask for at once, of addresses (false) or prefixes (true), after a subnet had fewer.
    pub(crate) ask_at_most: BTreeMap<(SubnetId, bool), u32>,
    /// EC2 refused more ENIs than this.
    pub(crate) learnt_enis: Option<u32>,
    /// ENIs to be read at this time, once stale reads have ended.
    pub(crate) read_again: BTreeMap<EniId, BootTime>,
    /// What the last read showed of ENIs that had departed from there.
    pub(crate) shadows: BTreeMap<EniId, u32>,
    pub(crate) attach_failures: BTreeMap<EniId, u32>,
    /// Leased addresses that the last read of their ENI did not show: confirmed again before anybody else gets them.
    pub(crate) unshown: BTreeSet<(EniId, Ipv4Addr)>,
    pub(crate) subnets: BTreeMap<SubnetId, KnownSubnet>,
    pub(crate) subnets_read: Option<BootTime>,
    /// It matters which subnet has how much.
    pub(crate) subnets_wanted: bool,
    pub(crate) search: Search,
    /// Addresses that something else uses.
    pub(crate) foreign: BTreeSet<Ipv4Addr>,
    /// Leases without a link in the kernel: since when. Kept: a daemon that dies again and again must see it, too.
    pub(crate) missing: BTreeMap<LeaseKey, BootTime>,
    /// Pods that are bound to the node.
    pub(crate) demand: BTreeSet<Pod>,
    /// The node takes no new pods.
    pub(crate) draining: bool,
    pub(crate) reused_early: u64,
    /// Since when the pool is short and nothing was asked for yet.
    pub(crate) short_since: Option<BootTime>,
    /// Since when there is surplus, and how long it may stay.
    pub(crate) surplus: Option<(BootTime, Duration)>,
    pub(crate) grown_at: Option<BootTime>,
    /// Why the pool cannot be what it should be.
    pub(crate) held: Option<Refusal>,
    pub(crate) stopping: bool,
    /// When the last event was applied, and the luck that came with it.
    pub(crate) applied: BootTime,
    luck: u128,
    /// When the next tombstone or departure is forgotten, at the earliest.
    forget_at: BootTime,

    dirty: BTreeSet<Key>,
    effects: Vec<Effect>,
    reconcile: bool,
}

impl State {
    /// Applies one event: the records to write first, then the effects to have.
    pub fn apply(&mut self, now: Now, event: Event) -> Step {
        self.applied = now.at;
        self.luck = now.luck;
        match event {
            Event::Facts(facts) => self.learn(facts),
            Event::FactsMissing(refusal) => self.facts_missing = Some(refusal),
            Event::Found(leases) => self.find(now.at, leases),
            Event::Foreign(addresses) => self.keep_off(now.at, addresses),
            Event::Sandboxes(there) => self.sweep_sandboxes(now.at, &there),
            Event::Demand(pods) => self.demand = pods,
            Event::Draining(draining) => self.draining = draining,
            Event::Add(request) => self.add(request),
            Event::Del(request) => self.del(now.at, request),
            Event::Abandoned(ticket) => self.waiting.retain(|request| request.ticket != ticket),
            Event::Answered(call, outcome) => self.answered(now, call, outcome),
            Event::LinkReady(eni) => self.link(&eni, true),
            Event::LinkGone(eni) => self.link(&eni, false),
            Event::Tick => {}
            Event::Stopping => self.stopping = true,
        }
        self.mature(now.at);
        self.serve_waiting(now.at);
        self.budgets.plan_anew();
        self.plan(now);
        // Planning has said whether anything else can be had: a cooling address may be.
        self.serve_waiting(now.at);
        self.refuse_hopeless(now.at);
        self.finish()
    }

    /// An empty pool: nothing is known yet.
    pub fn new(policy: Policy) -> Self {
        let budgets = Budgets::new(policy.budgets.clone());
        Self {
            policy,
            facts: None,
            facts_missing: None,
            enis: BTreeMap::new(),
            leases: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            departed: BTreeMap::new(),
            intents: BTreeMap::new(),
            found: BTreeMap::new(),
            resting: BTreeMap::new(),
            serial: 0,
            reads: BTreeMap::new(),
            reads_made: 0,
            waiting: VecDeque::new(),
            pauses: Pauses::default(),
            budgets,
            discovered: false,
            discovered_at: BootTime::default(),
            suspects: BTreeMap::new(),
            ask_at_most: BTreeMap::new(),
            learnt_enis: None,
            read_again: BTreeMap::new(),
            shadows: BTreeMap::new(),
            attach_failures: BTreeMap::new(),
            unshown: BTreeSet::new(),
            subnets: BTreeMap::new(),
            subnets_read: None,
            subnets_wanted: false,
            search: Search::default(),
            foreign: BTreeSet::new(),
            missing: BTreeMap::new(),
            demand: BTreeSet::new(),
            draining: false,
            reused_early: 0,
            short_since: None,
            surplus: None,
            grown_at: None,
            held: None,
            stopping: false,
            applied: BootTime::default(),
            luck: 0,
            forget_at: BootTime::default(),
            dirty: BTreeSet::new(),
            effects: Vec::new(),
            reconcile: false,
        }
    }

    /// When to apply [`Event::Tick`] if nothing else happens. It may have passed already: whatever was due by the last event was looked
    /// at then, and nothing that became due since is forgotten.
    pub fn next_wake(&self) -> Option<BootTime> {
        let deadlines = self.waiting.iter().map(|request| request.deadline);
        let refill = self.short_since.map(|since| since.after(crate::COALESCE));
        let doubts = self.intents.values().filter_map(|intent| intent.doubt.as_ref().and_then(|doubt| doubt.next));
        let shrink = self.surplus.map(|(since, wait)| since.after(wait));
        let quiet = self.surplus.and(self.grown_at).map(|grown| grown.after(self.policy.shrink_after));
        let cooling = self.enis.values().filter_map(|eni| eni.addresses.next_cooled()).map(|(until, _)| until);
        let search = self.search.next().filter(|_| self.policy.clean_leaked && self.waiting.is_empty());
        deadlines
            .chain(refill)
            .chain(doubts)
            .chain(shrink)
            .chain(quiet)
            .chain(cooling)
            .chain(self.pauses.ends())
            .chain(self.budgets.wanted().map(|(_, at)| at))
            .chain(search)
            .chain(self.next_reads())
            .filter(|at| *at > self.applied)
            .min()
    }

    /// The ENIs that the node's kernel should carry, by slot.
    pub fn wanted(&self) -> Vec<WantedEni> {
        let mut wanted: Vec<_> = self
            .enis
            .values()
            .filter(|eni| eni.holds_pods() && eni.attached())
            .filter_map(|eni| {
                let record = &eni.record;
                Some(WantedEni {
                    eni: record.id.clone(),
                    slot: record.slot?,
                    mac: record.mac,
                    device: record.attachment.as_ref()?.device,
                    subnet: record.subnet.clone(),
                    primary: record.primary,
                    addresses: eni
                        .addresses
                        .stored()
                        .map(|(address, _)| address)
                        .filter(|address| eni.carries(*address))
                        .collect(),
                    prefixes: eni
                        .addresses
                        .prefixes()
                        .map(|(prefix, _)| prefix)
                        .filter(|prefix| eni.carries_prefix(*prefix))
                        .collect(),
                })
            })
            .collect();
        wanted.sort_by_key(|eni| eni.slot);
        wanted
    }

    /// Can leases be made, or why not.
    pub fn serving(&self) -> Result<(), Refusal> {
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        if !self.enis.is_empty() {
            return Ok(());
        }
        if let (None, Some(missing)) = (&self.facts, &self.facts_missing) {
            return Err(missing.clone());
        }
        Err(self.held.clone().unwrap_or(Refusal::WarmingUp))
    }

    /// The settings.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The node's facts, once known.
    pub fn facts(&self) -> Option<&NodeFacts> {
        self.facts.as_ref()
    }

    /// All ENIs, also those that are not ours.
    pub fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.enis.values()
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// The lease of a sandbox interface.
    pub fn lease(&self, key: &LeaseKey) -> Option<&Lease> {
        self.leases.get(key)
    }

    /// Calls whose outcome is not known.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values()
    }

    /// Requests that wait for an address.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn learn(&mut self, facts: NodeFacts) {
        self.facts_missing = None;
        // The instance's type stays what it is while the node runs.
        let known = self.facts.as_ref().filter(|known| known.instance == facts.instance).and_then(|known| known.limits);
        let facts = NodeFacts { limits: facts.limits.or(known), ..facts };
        if self.facts.as_ref() != Some(&facts) {
            self.facts = Some(facts);
            self.touch(Key::Facts);
        }
    }

    fn link(&mut self, id: &EniId, ready: bool) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.link_ready = ready;
            if !ready && eni.attached() && !matches!(eni.record.state, crate::EniState::Quarantined(_)) {
                self.suspects.entry(id.clone()).or_default();
            }
        }
    }

    /// Cooling addresses whose time has come are free. Nothing is written: the time itself is in the ledger.
    fn mature(&mut self, now: BootTime) {
        for eni in self.enis.values_mut() {
            eni.addresses.mature(now);
        }
        if now < self.forget_at {
            return;
        }
        let tombstones = self.tombstones.iter().map(|(key, at)| (Key::Tombstone(key.clone()), at.after(TOMBSTONE)));
        let departed =
            self.departed.iter().map(|((eni, block), at)| (Key::Departed(eni.clone(), *block), at.after(DEPARTED)));
        let resting = self.resting.iter().map(|(address, until)| (Key::Resting(*address), *until));
        let (old, kept): (Vec<_>, Vec<_>) =
            tombstones.chain(departed).chain(resting).partition(|(_, until)| *until < now);
        // What comes later stays longer than the shorter of the two.
        let next = now.after(TOMBSTONE.min(DEPARTED));
        self.forget_at = kept.into_iter().map(|(_, until)| until).fold(next, BootTime::min);
        for (key, _) in old {
            match &key {
                Key::Tombstone(lease) => drop(self.tombstones.remove(lease)),
                Key::Departed(eni, block) => drop(self.departed.remove(&(eni.clone(), *block))),
                Key::Resting(address) => drop(self.resting.remove(address)),
                _ => {}
            }
            self.touch(key);
        }
    }

    fn plan(&mut self, now: Now) {
        let held = self.held.take();
        if self.stopping || self.facts.is_none() {
            return;
        }
        if let Some(why) = self.nothing_to_read_yet() {
            self.held = Some(why);
            return;
        }
        self.plan_reads(now);
        self.plan_subnets(now.at);
        if !self.discovered {
            self.held = self.barred(now.at, crate::Action::DescribeNetworkInterfaces);
            return;
        }
        self.plan_shrink(now, held.as_ref());
        self.plan_growth(now);
        self.plan_lifecycle(now);
        self.plan_groups(now.at);
        self.plan_leaked(now);
    }

    /// The next number of a call or a lease.
    pub(crate) fn count(&mut self) -> u64 {
        self.serial += 1;
        self.touch(Key::Serial);
        self.serial
    }

    /// This entry has changed: it is written, or removed if it is no more, with the step.
    pub(crate) fn touch(&mut self, key: Key) {
        if matches!(key, Key::Eni(_)) {
            self.reconcile = true;
        }
        self.dirty.insert(key);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Writes the intent down and makes the call.
    pub(crate) fn call(&mut self, now: BootTime, call: Call) {
        self.spend(now, call.action());
        let id = if call.is_read() {
            // Counted down from the end: a read is not written down, and neither is its number.
            self.reads_made += 1;
            let id = CallId(u64::MAX - self.reads_made);
            self.reads.insert(id, call.clone());
            id
        } else {
            let id = CallId(self.count());
            self.intents.insert(id, Intent { id, call: call.clone(), at: now, doubt: None });
            self.touch(Key::Intent(id));
            id
        };
        self.effect(Effect::Call(id, call));
    }

    /// A call costs a token.
    pub(crate) fn spend(&mut self, now: BootTime, action: crate::Action) {
        self.budgets.take(Now { at: now, wall: 0, luck: self.luck }, action);
    }

    /// Sets the state of an address; `None`: it is not on the ENI any more. The kernel is told when it matters there: that an address is
    /// leased or cools does not.
    pub(crate) fn hold(&mut self, id: &EniId, address: Ipv4Addr, held: Option<Address>) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        let before = eni.carries(address);
        eni.addresses.set(address, held);
        self.reconcile |= before != eni.carries(address);
        self.touch(Key::Address(id.clone(), address));
    }

    /// Sets the state of a prefix; `None`: neither it nor its addresses are on the ENI any more.
    pub(crate) fn hold_prefix(&mut self, id: &EniId, prefix: Prefix, held: Option<PrefixState>) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        let before = eni.carries_prefix(prefix);
        let gone = eni.addresses.set_prefix(prefix, held);
        self.reconcile |= before != eni.carries_prefix(prefix);
        self.touch(Key::Prefix(id.clone(), prefix));
        for address in gone {
            self.touch(Key::Address(id.clone(), address));
        }
    }

    /// The number that the next free slot has.
    pub(crate) fn free_slot(&self) -> Option<Slot> {
        let taken: BTreeSet<_> = self.enis.values().filter_map(|eni| eni.record.slot).collect();
        (Slot::PRIMARY.get() + 1..=Slot::LAST.get()).filter_map(Slot::new).find(|slot| !taken.contains(slot))
    }

    fn finish(&mut self) -> Step {
        let records = std::mem::take(&mut self.dirty).into_iter().map(|key| self.record(key)).collect();
        let mut effects = std::mem::take(&mut self.effects);
        if std::mem::take(&mut self.reconcile) {
            // Calls come last: what a call takes away is withdrawn from the kernel before.
            let at = effects.iter().position(|effect| matches!(effect, Effect::Call(..))).unwrap_or(effects.len());
            effects.insert(at, Effect::Reconcile);
        }
        Step { records, effects }
    }
}
