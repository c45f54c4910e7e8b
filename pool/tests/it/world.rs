//! A small EC2 and a ledger around one pool: answers when told to, loses answers when told to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    time::Duration,
};

use pool::{
    AddRequest, Answer, Ask, BootTime, Call, CallId, DelRequest, DeviceIndex, Effect, Entry, Event, Fault,
    InterfaceKind, Key, Kind, Lease, LeaseKey, Limits, Mac, News, NodeFacts, Now, Pod, Policy, Prefix, Record, Refusal,
    SeenAttachment, SeenEni, SeenSubnet, State, Ticket, WantedEni,
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
    /// Free addresses in the subnet.
    pub subnet_free: u32,
    /// Free /28s, in any subnet.
    pub prefixes_free: u32,
    /// The zone's subnets as EC2 describes them.
    pub subnets: Vec<SeenSubnet>,
    /// Instances that are not terminated.
    pub instances: Vec<pool::InstanceId>,
    pub news: Vec<News>,
    pub wall: u64,
    pub links: BTreeSet<String>,
    /// What the kernel was last told to carry.
    pub carried: Vec<WantedEni>,
    /// How often it was told.
    pub reconciled: u32,
    tokens: BTreeMap<String, String>,
    policy: Policy,
    serial: u32,
    ticket: u64,
}

impl World {
    /// A fresh m5.large, facts known, nothing answered yet.
    pub fn new(policy: Policy) -> Self {
        Self::of_type(policy, Limits { enis: 3, addresses_per_eni: 10 })
    }

    pub fn of_type(policy: Policy, limits: Limits) -> Self {
        let primary = SeenEni {
            id: PRIMARY.into(),
            mac: Mac([2, 0, 0, 0, 0, 0]),
            subnet: SUBNET.into(),
            primary: Ipv4Addr::new(10, 0, 0, 10),
            secondary: Vec::new(),
            prefixes: Vec::new(),
            description: String::new(),
            tags: BTreeMap::new(),
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
            subnet_free: 10_000,
            prefixes_free: 1_000,
            subnets: vec![SeenSubnet { id: SUBNET.into(), free: 10_000, tags: BTreeMap::new() }],
            instances: vec![INSTANCE.into()],
            news: Vec::new(),
            wall: 1_700_000_000,
            links: BTreeSet::new(),
            carried: Vec::new(),
            reconciled: 0,
            tokens: BTreeMap::new(),
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
            groups: vec!["sg-1".into()],
            limits: self.limits,
        };
        self.event(Event::Facts(facts));
    }

    pub fn now(&self) -> BootTime {
        BootTime(self.at)
    }

    /// Applies an event: the ledger first, then the effects.
    pub fn event(&mut self, event: Event) {
        let moment = Now { at: self.now(), wall: self.wall, luck: u128::from(self.serial) << 64 | 0x8000_0000 };
        let step = self.state.apply(moment, event);
        for record in step.records {
            match record {
                Record::Put(entry) => drop(self.ledger.insert(entry.key(), entry)),
                Record::Remove(key) => drop(self.ledger.remove(&key)),
            }
        }
        let mut looks = Vec::new();
        for effect in step.effects {
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
                Effect::Released(..) | Effect::Withdraw(_) => {}
            }
        }
        let wrong = self.state.check();
        assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}", self.state);
        assert_eq!(self.carried, self.state.wanted(), "the kernel was not told");
        self.no_lease_without_an_address();
        // What is looked at besides is answered at once.
        for (id, look) in looks {
            let outcome = self.ec2(&look);
            self.looks.push(look);
            self.event(Event::Answered(id, outcome));
        }
    }

    fn no_lease_without_an_address(&self) {
        for lease in self.state.leases() {
            for attachment in &lease.attachments {
                let pool::Path::Pooled { eni, .. } = &attachment.path;
                for address in &attachment.addresses {
                    let there = self.enis.get(eni.as_str()).is_some_and(|eni| holds(eni, *address));
                    assert!(there, "{} holds {address}, which EC2 does not have on {eni}", lease.key);
                }
            }
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
            self.calls.iter().rev().take(9)
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

    pub fn add(&mut self, name: &str) -> Ticket {
        self.add_until(name, Duration::from_secs(45))
    }

    pub fn add_until(&mut self, name: &str, wait: Duration) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.event(Event::Add(AddRequest {
            ticket,
            key: key(name),
            pod: Pod { namespace: "default".to_owned(), name: name.to_owned(), uid: String::new() },
            link: format!("eni-{name}"),
            netns: format!("/run/netns/{name}"),
            started: self.now(),
            deadline: self.now().after(wait),
        }));
        ticket
    }

    pub fn del(&mut self, name: &str) {
        let started = self.now();
        self.event(Event::Del(DelRequest { ticket: None, key: key(name), started }));
    }

    pub fn address(&self, ticket: Ticket) -> Option<Ipv4Addr> {
        let lease = self.replies.get(&ticket)?.as_ref().ok()?;
        lease.attachments.first()?.addresses.first().copied()
    }

    pub fn refusal(&self, ticket: Ticket) -> Option<&Refusal> {
        self.replies.get(&ticket)?.as_ref().err()
    }

    pub fn later(&mut self, wait: Duration) {
        self.at += wait;
        self.event(Event::Tick);
    }

    fn ec2(&mut self, call: &Call) -> Result<Answer, Fault> {
        match call {
            Call::CreateEni { token, subnet, ask, description, tags, .. } => {
                if let Some(id) = self.tokens.get(token.as_str()) {
                    return Ok(Answer::Created(self.enis[id].clone()));
                }
                let (secondary, prefixes) = self.take(*ask, 1)?;
                self.serial += 1;
                let id = format!("eni-{}", self.serial);
                self.tokens.insert(token.to_string(), id.clone());
                let [_, _, c, d] = self.serial.to_be_bytes();
                let seen = SeenEni {
                    id: id.as_str().into(),
                    mac: Mac([2, 0, 0, 1, c, d]),
                    subnet: subnet.clone(),
                    primary: Ipv4Addr::new(10, 1, c, d),
                    secondary,
                    prefixes,
                    description: description.clone(),
                    tags: tags.clone(),
                    kind: InterfaceKind::Interface,
                    attachment: None,
                };
                self.enis.insert(id, seen.clone());
                Ok(Answer::Created(seen))
            }
            Call::Attach { eni, instance, device } => {
                let attached = self.enis.values().filter(|eni| eni.attachment.is_some()).count();
                if attached >= self.limits.enis as usize {
                    return Err(fault(Kind::InstanceEniLimit));
                }
                let taken =
                    self.enis.values().any(|eni| eni.attachment.as_ref().is_some_and(|at| at.device == *device));
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if taken || seen.attachment.is_some() {
                    return Err(fault(Kind::Conflict));
                }
                let id = format!("eni-attach-{eni}");
                seen.attachment = Some(SeenAttachment {
                    id: id.as_str().into(),
                    instance: Some(instance.clone()),
                    device: *device,
                    card: 0,
                    attached: true,
                    delete_on_termination: false,
                });
                Ok(Answer::Attached(id.into()))
            }
            Call::Protect { eni, .. } => {
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if let Some(attachment) = &mut seen.attachment {
                    attachment.delete_on_termination = true;
                }
                Ok(Answer::Done)
            }
            Call::Assign { eni, ask } => {
                let seen = self.enis.get(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                let held = seen.secondary.len() + seen.prefixes.len();
                if held + ask.places() as usize > self.limits.secondary() as usize {
                    return Err(fault(Kind::AddressLimit));
                }
                let (addresses, prefixes) = self.take(*ask, 0)?;
                let seen = self.enis.get_mut(eni.as_str()).expect("looked up above");
                seen.secondary.extend(&addresses);
                seen.prefixes.extend(&prefixes);
                Ok(Answer::Assigned { addresses, prefixes })
            }
            Call::Unassign { eni, addresses, prefixes } => {
                for lease in self.state.leases() {
                    let held = lease.attachments.iter().flat_map(|attachment| &attachment.addresses);
                    let goes =
                        |held: &Ipv4Addr| addresses.contains(held) || prefixes.iter().any(|one| one.contains(*held));
                    assert!(!held.into_iter().any(goes), "{} loses its address", lease.key);
                }
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                let before = (seen.secondary.len(), seen.prefixes.len());
                seen.secondary.retain(|address| !addresses.contains(address));
                seen.prefixes.retain(|prefix| !prefixes.contains(prefix));
                let gone = (before.0 - seen.secondary.len(), before.1 - seen.prefixes.len());
                self.subnet_free += u32::try_from(gone.0).expect("few");
                self.prefixes_free += u32::try_from(gone.1).expect("few");
                if gone == (addresses.len(), prefixes.len()) { Ok(Answer::Done) } else { Err(fault(Kind::Invalid)) }
            }
            Call::Detach { eni, .. } => {
                let leased = self.state.enis().find(|known| known.record.id == *eni).map_or(0, pool::Eni::leased);
                assert_eq!(leased, 0, "{eni} is detached under running pods");
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if seen.attachment.take().is_none() {
                    return Err(fault(Kind::Gone));
                }
                self.links.remove(eni.as_str());
                Ok(Answer::Done)
            }
            Call::Delete { eni } => {
                let seen = self.enis.get(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if seen.attachment.is_some() {
                    return Err(fault(Kind::Conflict));
                }
                self.subnet_free += u32::try_from(seen.secondary.len()).expect("few") + 1;
                self.prefixes_free += u32::try_from(seen.prefixes.len()).expect("few");
                self.enis.remove(eni.as_str());
                Ok(Answer::Done)
            }
            Call::Tag { eni, tags } => {
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                seen.tags.extend(tags.clone());
                Ok(Answer::Done)
            }
            Call::Subnets { .. } => Ok(Answer::Subnets(self.subnets.clone())),
            Call::Leaked { .. } => {
                let tag = "node.k8s.amazonaws.com/instance_id";
                let left = self.enis.values().filter(|eni| eni.attachment.is_none() && eni.tags.contains_key(tag));
                Ok(Answer::Leaked(left.cloned().collect()))
            }
            Call::Instances { instances } => {
                let there = instances.iter().filter(|instance| self.instances.contains(instance));
                Ok(Answer::Instances(there.cloned().collect()))
            }
            Call::Describe { eni } => Ok(Answer::Described(self.enis.get(eni.as_str()).cloned())),
            Call::Discover { .. } => {
                Ok(Answer::Discovered(self.enis.values().filter(|eni| eni.attachment.is_some()).cloned().collect()))
            }
        }
    }

    fn take(&mut self, ask: Ask, more: u32) -> Result<(Vec<Ipv4Addr>, Vec<Prefix>), Fault> {
        let (count, prefixes) = match ask {
            Ask::Addresses(count) => (count, 0),
            Ask::Prefixes(prefixes) => (0, prefixes),
        };
        if self.subnet_free < count + more {
            return Err(fault(Kind::NoFreeAddresses));
        }
        if self.prefixes_free < prefixes {
            return Err(fault(Kind::NoFreePrefix));
        }
        self.subnet_free -= count + more;
        self.prefixes_free -= prefixes;
        let used: BTreeSet<_> = self.enis.values().flat_map(|eni| eni.secondary.clone()).collect();
        // The lowest free ones, as EC2 tends to: what one ENI gives back another gets soon.
        let free = (0x0a00_0064_u32..).map(Ipv4Addr::from).filter(|address| !used.contains(address));
        let used: BTreeSet<_> = self.enis.values().flat_map(|eni| eni.prefixes.clone()).collect();
        let whole = (0x0a08_0000_u32..).step_by(16).filter_map(|first| Prefix::new(first.into()));
        let whole = whole.filter(|prefix| !used.contains(prefix));
        Ok((free.take(count as usize).collect(), whole.take(prefixes as usize).collect()))
    }
}

fn holds(eni: &SeenEni, address: Ipv4Addr) -> bool {
    eni.secondary.contains(&address) || eni.prefixes.iter().any(|prefix| prefix.contains(address))
}

pub fn fault(kind: Kind) -> Fault {
    Fault { kind, code: format!("{kind:?}"), message: String::new() }
}

pub fn key(name: &str) -> LeaseKey {
    LeaseKey { container: name.to_owned(), ifname: "eth0".to_owned() }
}
