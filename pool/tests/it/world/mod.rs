//! A small EC2 and a ledger around one pool: answers when told to, loses answers when told to.

mod ec2;
mod promises;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use pool::{
    Action, AddRequest, Block, BootTime, Call, CallId, DelRequest, DeviceIndex, Effect, Entry, Event, Fault,
    InterfaceKind, Key, Kind, Lease, LeaseKey, Limits, Mac, News, NodeFacts, Now, Pod, Policy, Record, Refusal,
    SeenAttachment, SeenEni, State, Ticket, WantedEni,
};

pub const INSTANCE: &str = "i-1";
pub const SUBNET: &str = "subnet-1";
pub const PRIMARY: &str = "eni-0";

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It happens and is answered.
    Answered,
    /// It happens, and the answer is lost.
    LostAfter,
    /// It does not happen, and nobody knows.
    LostBefore,
    /// It is refused.
    Refused(Kind),
}

/// A subnet of the zone.
#[derive(Debug, Clone)]
pub struct Subnet {
    /// Free addresses.
    pub free: u32,
    /// Free /28s.
    pub prefixes: u32,
    pub tags: BTreeMap<String, String>,
}

impl Default for Subnet {
    fn default() -> Self {
        Self { free: 10_000, prefixes: 1_000, tags: BTreeMap::new() }
    }
}

#[derive(Debug)]
pub struct World {
    pub state: State,
    pub at: Duration,
    pub ledger: BTreeMap<Key, Entry>,
    /// Calls made and not answered.
    pub open: VecDeque<(CallId, Call)>,
    pub replies: BTreeMap<Ticket, Result<Lease, Refusal>>,
    pub calls: Vec<Call>,
    /// Reads of subnets, and of what nodes left behind.
    pub looks: Vec<Call>,
    pub enis: BTreeMap<String, SeenEni>,
    pub limits: Limits,
    /// The primary ENI's security groups, as metadata has them.
    pub groups: Vec<pool::SecurityGroupId>,
    /// How many ENIs EC2 lets the instance have, whatever the facts say.
    pub enis_allowed: u32,
    /// How often EC2 said that the instance or an ENI has enough.
    pub over_limit: u32,
    /// The zone's subnets.
    pub subnets: BTreeMap<String, Subnet>,
    /// Actions that EC2 refuses, and how.
    pub refusing: BTreeMap<Action, Kind>,
    /// Instances that are not terminated.
    pub instances: Vec<pool::InstanceId>,
    pub news: Vec<News>,
    pub wall: u64,
    /// Its lowest 16 bits stretch waits, the next 16 choose a moment in the hour.
    pub luck: u64,
    pub links: BTreeSet<String>,
    /// What the kernel was last told to carry.
    pub carried: Vec<WantedEni>,
    /// How often it was told.
    pub reconciled: u32,
    tokens: BTreeMap<String, String>,
    leased: BTreeSet<Ipv4Addr>,
    /// When each address was last released.
    released: BTreeMap<Ipv4Addr, BootTime>,
    pub policy: Policy,
    serial: u32,
    ticket: u64,
}

impl World {
    /// A fresh m5.large, facts known, nothing answered yet.
    pub fn new(policy: Policy) -> Self {
        Self::of_type(policy, Limits { enis: 3, addresses_per_eni: 10 })
    }

    pub fn of_type(policy: Policy, limits: Limits) -> Self {
        Self::in_zone(policy, limits, BTreeMap::from([(SUBNET.to_owned(), Subnet::default())]))
    }

    /// With these subnets, the primary ENI's among them.
    pub fn in_zone(policy: Policy, limits: Limits, subnets: BTreeMap<String, Subnet>) -> Self {
        let primary = SeenEni {
            id: PRIMARY.into(),
            mac: Mac([2, 0, 0, 0, 0, 0]),
            subnet: SUBNET.into(),
            primary: Ipv4Addr::new(10, 0, 0, 10),
            secondary: Vec::new(),
            prefixes: Vec::new(),
            description: String::new(),
            tags: BTreeMap::new(),
            groups: BTreeSet::from(["sg-1".into()]),
            kind: InterfaceKind::Interface,
            attachment: Some(SeenAttachment {
                id: "eni-attach-0".into(),
                instance: Some(INSTANCE.into()),
                device: DeviceIndex(0),
                card: 0,
                attached: true,
                delete_on_termination: true,
            }),
        };
        let mut world = Self {
            state: State::new(policy.clone()),
            at: Duration::from_secs(100),
            ledger: BTreeMap::new(),
            open: VecDeque::new(),
            replies: BTreeMap::new(),
            calls: Vec::new(),
            looks: Vec::new(),
            enis: BTreeMap::from([(PRIMARY.to_owned(), primary)]),
            limits,
            groups: vec!["sg-1".into()],
            enis_allowed: limits.enis,
            over_limit: 0,
            subnets,
            refusing: BTreeMap::new(),
            instances: vec![INSTANCE.into()],
            news: Vec::new(),
            wall: 1_700_000_000,
            luck: 0x8000_0000,
            links: BTreeSet::new(),
            carried: Vec::new(),
            reconciled: 0,
            tokens: BTreeMap::new(),
            leased: BTreeSet::new(),
            released: BTreeMap::new(),
            policy,
            serial: 0,
            ticket: 0,
        };
        world.facts();
        world
    }

    pub fn facts(&mut self) {
        let facts = NodeFacts {
            instance: INSTANCE.into(),
            primary: PRIMARY.into(),
            address: Ipv4Addr::new(10, 0, 0, 10),
            subnet: SUBNET.into(),
            vpc: "vpc-1".into(),
            zone: "us-west-2a".to_owned(),
            groups: self.groups.clone(),
            limits: Some(self.limits),
        };
        self.event(Event::Facts(facts));
    }

    pub fn now(&self) -> BootTime {
        BootTime(self.at)
    }

    /// Applies an event: the ledger first, then the effects.
    pub fn event(&mut self, event: Event) {
        let moment =
            Now { at: self.now(), wall: self.wall, luck: u128::from(self.serial) << 64 | u128::from(self.luck) };
        let step = self.state.apply(moment, event);
        for record in step.records {
            match record {
                Record::Put(entry) => drop(self.ledger.insert(entry.key(), entry)),
                Record::Remove(key) => drop(self.ledger.remove(&key)),
            }
        }
        let mut looks = Vec::new();
        let mut withdrawn = BTreeSet::new();
        for effect in step.effects {
            assert!(gives_back_only(&effect, &withdrawn), "{effect:?} before the kernel was told");
            match effect {
                Effect::Reply(ticket, outcome) => {
                    assert!(self.replies.insert(ticket, outcome).is_none(), "{ticket:?} was answered twice");
                }
                Effect::Call(id, look @ (Call::Subnets { .. } | Call::Leaked { .. } | Call::Instances { .. })) => {
                    looks.push((id, look));
                }
                Effect::Call(id, call) => {
                    self.calls.push(call.clone());
                    self.open.push_back((id, call));
                }
                Effect::Reconcile => {
                    self.reconciled += 1;
                    self.carried = self.state.wanted();
                }
                Effect::Say(news) => self.news.push(news),
                Effect::Withdraw(blocks) => withdrawn.extend(blocks),
                Effect::Released(..) => {}
            }
        }
        self.hold_promises();
        // What is looked at besides is answered at once.
        for (id, look) in looks {
            let outcome = self.ec2(&look);
            self.looks.push(look);
            self.event(Event::Answered(id, outcome));
        }
    }

    /// Links of attached ENIs come up, calls are answered and time passes, until nothing is left to do for a minute.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            if self.step() {
                continue;
            }
            let soon = self.now().after(Duration::from_mins(1));
            match self.state.next_wake() {
                Some(wake) if wake <= soon => {
                    self.at = wake.0;
                    self.event(Event::Tick);
                }
                _ => return,
            }
        }
        panic!(
            "the pool does not come to rest: {:#?}\n{:?}",
            self.state.explain(self.now()),
            self.calls.iter().rev().take(9).collect::<Vec<_>>()
        );
    }

    /// Everything that happens without time passing; false when nothing does.
    pub fn step(&mut self) -> bool {
        let waiting: Vec<WantedEni> =
            self.state.wanted().into_iter().filter(|eni| !self.links.contains(eni.eni.as_str())).collect();
        for eni in &waiting {
            self.links.insert(eni.eni.to_string());
            self.event(Event::LinkReady(eni.eni.clone()));
        }
        if self.open.is_empty() {
            return !waiting.is_empty();
        }
        self.answer(Fate::Answered);
        true
    }

    /// The oldest open call meets its fate.
    pub fn answer(&mut self, fate: Fate) {
        let Some((id, call)) = self.open.pop_front() else { return };
        let uncertain = Fault { kind: Kind::Uncertain, code: String::new(), message: "no answer".to_owned() };
        let outcome = match fate {
            Fate::Answered => self.ec2(&call),
            Fate::LostAfter => {
                drop(self.ec2(&call));
                Err(uncertain)
            }
            Fate::LostBefore => Err(uncertain),
            // EC2 looks at the token first: what happened once is answered again.
            Fate::Refused(Kind::NoFreeAddresses | Kind::NoFreePrefix | Kind::Conflict | Kind::Invalid)
                if self.happened(&call) =>
            {
                self.ec2(&call)
            }
            Fate::Refused(kind) => Err(fault(kind)),
        };
        self.event(Event::Answered(id, outcome));
    }

    fn happened(&self, call: &Call) -> bool {
        matches!(call, Call::CreateEni { token, .. } if self.tokens.contains_key(token.as_str()))
    }

    /// kill -9 and start again.
    pub fn crash(&mut self) {
        self.open.clear();
        self.links.clear();
        self.state = State::restore(self.policy.clone(), self.now(), self.ledger.values().cloned());
        self.carried = self.state.wanted();
        let wrong = self.state.check();
        assert!(wrong.is_empty(), "after a restart: {wrong:#?}");
        self.facts();
    }

    /// The same, where nobody tells the daemon the type's limits: it may have them in its ledger.
    pub fn crash_without_limits(&mut self) {
        self.open.clear();
        self.links.clear();
        let facts = self.state.facts().cloned();
        self.state = State::restore(self.policy.clone(), self.now(), self.ledger.values().cloned());
        self.carried = self.state.wanted();
        if let Some(facts) = facts {
            self.event(Event::Facts(NodeFacts { limits: None, ..facts }));
        }
    }

    /// The same with other settings.
    pub fn crash_into(&mut self, policy: Policy) {
        self.policy = policy;
        self.crash();
    }

    /// The ledger is lost on top of it.
    pub fn crash_without_ledger(&mut self) {
        self.ledger.clear();
        self.crash();
    }

    /// Somebody else attaches an ENI to the instance.
    pub fn attached_by_hand(&mut self, id: &str, device: u32) -> &mut SeenEni {
        let mut seen = self.enis[PRIMARY].clone();
        let number = u8::try_from(device).expect("few");
        seen.id = id.into();
        seen.mac = Mac([2, 9, 9, 9, 9, number]);
        seen.primary = Ipv4Addr::new(10, 0, 9, number);
        (seen.secondary, seen.prefixes) = (Vec::new(), Vec::new());
        let attachment = seen.attachment.as_mut().expect("the primary is attached");
        (attachment.device, attachment.id) = (DeviceIndex(device), format!("eni-attach-{id}").as_str().into());
        attachment.delete_on_termination = false;
        self.enis.entry(id.to_owned()).or_insert(seen)
    }

    pub fn add(&mut self, name: &str) -> Ticket {
        self.add_until(name, Duration::from_secs(45))
    }

    pub fn add_until(&mut self, name: &str, wait: Duration) -> Ticket {
        self.add_started(name, self.now(), wait)
    }

    pub fn add_started(&mut self, name: &str, started: BootTime, wait: Duration) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.event(Event::Add(AddRequest {
            ticket,
            key: key(name),
            pod: pod(name),
            link: format!("eni-{name}"),
            netns: format!("/run/netns/{name}"),
            started,
            deadline: self.now().after(wait),
        }));
        ticket
    }

    pub fn del(&mut self, name: &str) {
        self.del_started(name, self.now());
    }

    pub fn del_started(&mut self, name: &str, started: BootTime) {
        self.event(Event::Del(DelRequest { ticket: None, key: key(name), started }));
    }

    /// Pods `0..count`, each with its own request.
    pub fn add_many(&mut self, count: u32) -> Vec<Ticket> {
        (0..count).map(|n| self.add(&format!("p{n}"))).collect()
    }

    pub fn del_many(&mut self, pods: std::ops::Range<u32>) {
        for n in pods {
            self.del(&format!("p{n}"));
        }
    }

    /// Settles, and lets so many minutes pass, a minute at a time.
    pub fn minutes(&mut self, minutes: u32) {
        self.settle();
        for _ in 0..minutes {
            self.later(Duration::from_mins(1));
            self.settle();
        }
    }

    /// What EC2 has for pods: ENIs, single addresses, prefixes.
    pub fn holds(&self) -> (usize, usize, usize) {
        let enis = || self.enis.values().filter(|eni| eni.attachment.is_some());
        (enis().count(), enis().map(|eni| eni.secondary.len()).sum(), enis().map(|eni| eni.prefixes.len()).sum())
    }

    pub fn subnet(&mut self, id: &str) -> &mut Subnet {
        self.subnets.entry(id.to_owned()).or_default()
    }

    /// The names of all news since the start.
    pub fn told(&self) -> Vec<&'static str> {
        self.news.iter().map(News::name).collect()
    }

    /// How many calls were made that fit.
    pub fn made(&self, what: impl Fn(&Call) -> bool) -> usize {
        self.calls.iter().filter(|call| what(call)).count()
    }

    pub fn address(&self, ticket: Ticket) -> Option<Ipv4Addr> {
        let lease = self.replies.get(&ticket)?.as_ref().ok()?;
        lease.attachments.first()?.addresses.first().copied()
    }

    pub fn refusal(&self, ticket: Ticket) -> Option<&Refusal> {
        self.replies.get(&ticket)?.as_ref().err()
    }

    /// How long ago that was.
    pub fn since(&self, begun: Duration) -> Duration {
        self.at.saturating_sub(begun)
    }

    pub fn later(&mut self, wait: Duration) {
        self.at += wait;
        self.event(Event::Tick);
    }
}

pub fn fault(kind: Kind) -> Fault {
    Fault { kind, code: format!("{kind:?}"), message: String::new() }
}

pub fn key(name: &str) -> LeaseKey {
    LeaseKey { container: name.to_owned(), ifname: "eth0".to_owned() }
}

pub fn pod(name: &str) -> Pod {
    Pod { namespace: "default".to_owned(), name: name.to_owned(), uid: String::new() }
}

/// What a call gives back to EC2 has been taken away from the kernel before, in the same step.
fn gives_back_only(effect: &Effect, withdrawn: &BTreeSet<Block>) -> bool {
    let Effect::Call(_, Call::Unassign { addresses, prefixes, .. }) = effect else { return true };
    addresses.iter().all(|address| withdrawn.contains(&Block::Address(*address)))
        && prefixes.iter().all(|prefix| withdrawn.contains(&Block::Prefix(*prefix)))
}
