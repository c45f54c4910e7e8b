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
    AddRequest, Address, BootTime, Call, CallId, Effect, Eni, EniId, Entry, Event, FoundLease, Intent, Key, Lease,
    LeaseKey, NodeFacts, Now, Policy, Record, Refusal, Slot, Step, SubnetId, WantedEni,
    pause::{Pauses, Scope},
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
    pub(crate) departed: BTreeMap<Ipv4Addr, BootTime>,
    pub(crate) intents: BTreeMap<CallId, Intent>,
    pub(crate) serial: u64,

    // Below: not kept, derived or learnt anew after a restart.
    pub(crate) reads: BTreeMap<CallId, Call>,
    pub(crate) found: BTreeMap<Ipv4Addr, FoundLease>,
    pub(crate) waiting: VecDeque<AddRequest>,
    pub(crate) pauses: Pauses,
    /// All ENIs of the instance have been read since the start.
    pub(crate) discovered: bool,
    /// ENIs to be read by id, since a list left them out or an answer did not fit: when the last read was without them.
    pub(crate) suspects: BTreeMap<EniId, Option<BootTime>>,
    /// The most addresses to ask for at once, after a subnet had fewer.
    pub(crate) ask_at_most: BTreeMap<SubnetId, u32>,
    /// EC2 refused more ENIs than this.
    pub(crate) learnt_enis: Option<u32>,
    /// ENIs to be read at this time, once stale reads have ended.
    pub(crate) read_again: BTreeMap<EniId, BootTime>,
    pub(crate) attach_failures: BTreeMap<EniId, u32>,
    /// Since when the pool is short and nothing was asked for yet.
    pub(crate) short_since: Option<BootTime>,
    /// Since when there is surplus, and how long it may stay.
    pub(crate) surplus: Option<(BootTime, Duration)>,
    pub(crate) grown_at: Option<BootTime>,
    /// Why the pool cannot be what it should be.
    pub(crate) held: Option<Refusal>,
    pub(crate) stopping: bool,
    /// When the last event was applied.
    applied: BootTime,

    dirty: BTreeSet<Key>,
    effects: Vec<Effect>,
    reconcile: bool,
}

impl State {
    /// Applies one event: the records to write first, then the effects to have.
    pub fn apply(&mut self, now: Now, event: Event) -> Step {
        self.applied = now.at;
        match event {
            Event::Facts(facts) => self.learn(facts),
            Event::FactsMissing(refusal) => self.facts_missing = Some(refusal),
            Event::Foreign(_) | Event::Sandboxes(_) | Event::Demand(_) | Event::Draining(_) => {}
            Event::Found(leases) => self.found.extend(leases.into_iter().map(|lease| (lease.address, lease))),
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
        self.plan(now);
        self.refuse_hopeless(now.at);
        self.finish()
    }

    /// An empty pool: nothing is known yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            facts: None,
            facts_missing: None,
            enis: BTreeMap::new(),
            leases: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            departed: BTreeMap::new(),
            intents: BTreeMap::new(),
            serial: 0,
            reads: BTreeMap::new(),
            found: BTreeMap::new(),
            waiting: VecDeque::new(),
            pauses: Pauses::default(),
            discovered: false,
            suspects: BTreeMap::new(),
            ask_at_most: BTreeMap::new(),
            learnt_enis: None,
            read_again: BTreeMap::new(),
            attach_failures: BTreeMap::new(),
            short_since: None,
            surplus: None,
            grown_at: None,
            held: None,
            stopping: false,
            applied: BootTime::default(),
            dirty: BTreeSet::new(),
            effects: Vec::new(),
            reconcile: false,
        }
    }

    /// The pool as the ledger of this boot has it. Calls that were open may or may not have happened; free addresses beside them are
    /// not leased before EC2 confirms them.
    pub fn restore(policy: Policy, now: BootTime, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut state = Self::new(policy);
        state.applied = now;
        let mut addresses = Vec::new();
        for entry in entries {
            match entry {
                Entry::Facts(facts) => state.facts = Some(facts),
                Entry::Eni(record) => {
                    let eni = Eni { record, addresses: BTreeMap::new(), link_ready: false };
                    state.enis.insert(eni.record.id.clone(), eni);
                }
                Entry::Address(eni, address, held) => addresses.push((eni, address, held)),
                Entry::Lease(lease) => {
                    state.leases.insert(lease.key.clone(), lease);
                }
                Entry::Tombstone(key, at) => {
                    state.tombstones.insert(key, at);
                }
                Entry::Intent(intent) => {
                    state.intents.insert(intent.id, intent);
                }
                Entry::Departed(address, at) => {
                    state.departed.insert(address, at);
                }
                Entry::Serial(serial) => state.serial = serial,
            }
        }
        for (eni, address, held) in addresses {
            if let Some(eni) = state.enis.get_mut(&eni) {
                eni.addresses.insert(address, held);
            }
        }
        state.doubt_open_calls(now);
        state
    }

    /// When to apply [`Event::Tick`] if nothing else happens. It may have passed already: whatever was due by the last event was looked
    /// at then, and nothing that became due since is forgotten.
    pub fn next_wake(&self) -> Option<BootTime> {
        let deadlines = self.waiting.iter().map(|request| request.deadline);
        let refill = self.short_since.map(|since| since.after(crate::COALESCE));
        let doubts = self.intents.values().filter_map(|intent| intent.doubt.as_ref().and_then(|doubt| doubt.next));
        let shrink = self.surplus.map(|(since, wait)| since.after(wait));
        let quiet = self.surplus.and(self.grown_at).map(|grown| grown.after(self.policy.shrink_after));
        let cooling = self.enis.values().flat_map(|eni| eni.addresses.values()).filter_map(|address| match address {
            Address::Cooling { until } => Some(*until),
            _ => None,
        });
        deadlines
            .chain(refill)
            .chain(doubts)
            .chain(shrink)
            .chain(quiet)
            .chain(cooling)
            .chain(self.pauses.ends())
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
                        .iter()
                        .filter(|(_, held)| eni.wants(held))
                        .map(|(address, _)| *address)
                        .collect(),
                    prefixes: Vec::new(),
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
        if self.facts.as_ref() != Some(&facts) {
            self.facts = Some(facts);
            self.touch(Key::Facts);
        }
    }

    fn link(&mut self, id: &EniId, ready: bool) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.link_ready = ready;
        }
    }

    /// Cooling addresses whose time has come are free. Nothing is written: the time itself is in the ledger.
    fn mature(&mut self, now: BootTime) {
        for held in self.enis.values_mut().flat_map(|eni| eni.addresses.values_mut()) {
            if let Address::Cooling { until } = *held
                && until <= now
            {
                *held = Address::Free { since: until };
            }
        }
        let old: Vec<_> =
            self.tombstones.iter().filter(|(_, at)| now.since(**at) > TOMBSTONE).map(|(key, _)| key.clone()).collect();
        for key in old {
            self.tombstones.remove(&key);
            self.touch(Key::Tombstone(key));
        }
        let old: Vec<_> =
            self.departed.iter().filter(|(_, at)| now.since(**at) > DEPARTED).map(|(address, _)| *address).collect();
        for address in old {
            self.departed.remove(&address);
            self.touch(Key::Departed(address));
        }
    }

    fn plan(&mut self, now: Now) {
        self.held = None;
        if self.stopping || self.facts.is_none() {
            return;
        }
        self.plan_reads(now);
        if !self.discovered {
            self.held = self.pauses.reason(&Scope::Action(crate::Action::DescribeNetworkInterfaces), now.at).cloned();
            return;
        }
        self.plan_shrink(now);
        self.plan_growth(now);
        self.plan_lifecycle(now);
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
        let id = CallId(self.count());
        if call.is_read() {
            self.reads.insert(id, call.clone());
        } else {
            self.intents.insert(id, Intent { id, call: call.clone(), at: now, doubt: None });
            self.touch(Key::Intent(id));
        }
        self.effect(Effect::Call(id, call));
    }

    /// Sets the state of an address; `None`: it is not on the ENI any more. The kernel is told when it matters there: that an address is
    /// leased or cools does not.
    pub(crate) fn hold(&mut self, id: &EniId, address: Ipv4Addr, held: Option<Address>) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        let wanted = held.as_ref().is_some_and(|held| eni.wants(held));
        let before = match held {
            Some(held) => eni.addresses.insert(address, held),
            None => eni.addresses.remove(&address),
        };
        self.reconcile |= wanted != before.is_some_and(|before| eni.wants(&before));
        self.touch(Key::Address(id.clone(), address));
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

    fn record(&self, key: Key) -> Record {
        let entry = match &key {
            Key::Facts => self.facts.clone().map(Entry::Facts),
            Key::Eni(id) => self.enis.get(id).map(|eni| Entry::Eni(eni.record.clone())),
            Key::Address(id, address) => self
                .enis
                .get(id)
                .and_then(|eni| eni.addresses.get(address))
                .map(|held| Entry::Address(id.clone(), *address, held.clone())),
            Key::Lease(lease) => self.leases.get(lease).cloned().map(Entry::Lease),
            Key::Tombstone(lease) => self.tombstones.get(lease).map(|at| Entry::Tombstone(lease.clone(), *at)),
            Key::Intent(id) => self.intents.get(id).cloned().map(Entry::Intent),
            Key::Departed(address) => self.departed.get(address).map(|at| Entry::Departed(*address, *at)),
            Key::Serial => Some(Entry::Serial(self.serial)),
        };
        entry.map_or(Record::Remove(key), Record::Put)
    }
}
