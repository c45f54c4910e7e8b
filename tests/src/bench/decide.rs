//! What the pool takes to decide, by itself: no EC2, no kernel, no ledger, one event after another on the state of a large instance.
//!
//! Owns the states that are measured, made as the daemon makes them, of events and answers alone. Never looks into one.

use std::{
    collections::BTreeMap,
    hint::black_box,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use pool::{
    AddRequest, Answer, BootTime, Call, DelRequest, DeviceIndex, Effect, Event, InterfaceKind, LeaseKey, Limits, Mac,
    NodeFacts, Now, Pod, Policy, Prefix, SeenAttachment, SeenEni, SeenSubnet, State, Step, Ticket, Warm,
};

use super::figure::{Figure, Samples};

/// ENIs of the instance; all of them are attached.
const ENIS: u8 = 15;
/// With 50 addresses each, their own among them, as an m5.24xlarge has them.
const LARGE: Size = Size { places: 49, prefixes: false };
/// The next ones, up to what only prefixes give.
const SIZES: [Size; 6] = [
    Size { places: 2, prefixes: false },
    Size { places: 10, prefixes: false },
    Size { places: 20, prefixes: false },
    LARGE,
    Size { places: 100, prefixes: false },
    Size { places: 31, prefixes: true },
];
const TIMES: usize = 2_000;
const TIMES_EACH: usize = 500;

/// The figures among those wanted, each told when it is there.
pub fn measure(wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(Figure)) -> Result<()> {
    if wanted("plan") {
        tell(figure("plan", 50.0, plan)?);
    }
    if wanted("allocate") {
        tell(figure("allocate", 2.0, allocate)?);
    }
    Ok(())
}

/// The large instance's time, and beside it what other sizes take. Not to grow faster than the addresses is part of the goal.
fn figure(name: &'static str, goal: f64, measure: fn(Size, usize) -> Result<Measured>) -> Result<Figure> {
    let large = measure(LARGE, TIMES)?;
    let sizes = SIZES.map(|size| Ok((size.addresses(), measure(size, TIMES_EACH)?.times.median())));
    let sizes: Vec<(u32, f64)> = sizes.into_iter().collect::<Result<_>>()?;
    let figure = Figure::absolute(name, "us", &large.times, goal);
    let largest = sizes.last().copied().unwrap_or_default();
    let linear = largest.1 / figure.median <= f64::from(largest.0) / f64::from(LARGE.addresses());
    let each: Vec<_> = sizes.iter().map(|(addresses, median)| format!("{addresses}: {median:.2}")).collect();
    let slower = if linear { "" } else { ": NOT LINEAR" };
    let remark = format!("{}; by addresses: {}{slower}", large.remark, each.join(", "));
    Ok(Figure { holds: figure.holds.map(|holds| holds && linear), ..figure }.remark(remark))
}

/// Times, and what they are of.
struct Measured {
    times: Samples,
    remark: String,
}

/// What the pool is in while it plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    /// Half of the addresses are leased, and that is what is wanted.
    Rest,
    /// So, but most of what is free is too much, and waits to be given back.
    Surplus,
    /// The same without a pod: whole ENIs wait to go.
    Empty,
    /// Half of the addresses are leased, more are wanted, and no ENI has room.
    Short,
}

const SITUATIONS: [Situation; 4] = [Situation::Rest, Situation::Surplus, Situation::Empty, Situation::Short];

/// An event that brings nothing new: all of what is held is compared with all of what is wanted. In the situation that takes longest.
fn plan(size: Size, times: usize) -> Result<Measured> {
    let mut slowest: Option<Measured> = None;
    for situation in SITUATIONS {
        let mut node = Node::new(size, situation)?;
        let ticks = (0..times).map(|_| {
            let (took, step) = node.timed(Event::Tick);
            ensure!(step == Step::default(), "there was something to do: {step:?}");
            Ok(took)
        });
        let times = Samples::micros(ticks.collect::<Result<Vec<_>>>()?);
        if slowest.as_ref().is_none_or(|slowest| slowest.times.median() < times.median()) {
            slowest = Some(Measured { times, remark: format!("{situation:?}").to_lowercase() });
        }
    }
    match slowest {
        Some(slowest) => Ok(slowest),
        None => bail!("there is no situation"),
    }
}

/// What choosing an address takes; beside it what the whole of an ADD takes that is served at once, with its lease, records and reply.
fn allocate(size: Size, times: usize) -> Result<Measured> {
    let mut node = Node::new(size, Situation::Rest)?;
    let (mut chosen, mut adds, mut ticks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let begun = Instant::now();
        let free = black_box(node.state.allocate());
        chosen.push(begun.elapsed());
        ticks.push(node.timed(Event::Tick).0);
        let request = node.request();
        let key = request.key.clone();
        let (took, step) = node.timed(Event::Add(request));
        let given = match step.effects.as_slice() {
            [Effect::Reply(_, Ok(lease))] => lease.attachments.first().and_then(|one| one.addresses.first().copied()),
            other => bail!("an ADD was not served at once: {other:?}"),
        };
        ensure!(free.map(|(_, address)| address) == given, "the ADD did not get the address that was chosen");
        adds.push(took);
        let started = node.now.at;
        node.timed(Event::Del(DelRequest { ticket: None, key, started }));
    }
    let [whole, tick] = [adds, ticks].map(|times| Samples::micros(times).median());
    let remark = format!("a whole ADD {whole:.1}, {:.1} of it planning", tick.min(whole));
    Ok(Measured { times: Samples::micros(chosen), remark })
}

/// How much an instance holds.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// On each ENI.
    places: u8,
    /// Each place holds a prefix.
    prefixes: bool,
}

impl Size {
    fn addresses(self) -> u32 {
        u32::from(ENIS) * u32::from(self.places) * if self.prefixes { Prefix::SIZE } else { 1 }
    }
}

/// A node without anything around it.
struct Node {
    state: State,
    now: Now,
    tickets: u64,
    facts: NodeFacts,
    enis: Vec<SeenEni>,
}

impl Node {
    /// Started on an instance whose ENIs are full.
    fn new(size: Size, situation: Situation) -> Result<Self> {
        let warm = match situation {
            Situation::Rest => Warm::Addresses { warm: 5, minimum: size.addresses() },
            Situation::Surplus | Situation::Empty => Warm::Addresses { warm: 5, minimum: 0 },
            Situation::Short => Warm::Addresses { warm: size.addresses(), minimum: 0 },
        };
        // What a DEL gives back is there for the next ADD, and nothing is due while it is measured.
        let policy = Policy {
            warm,
            prefixes: size.prefixes,
            cooling: Duration::ZERO,
            shrink_after: Duration::from_hours(24),
            clean_leaked: false,
            ..Policy::default()
        };
        let facts = NodeFacts {
            instance: "i-0123456789abcdef0".into(),
            primary: eni_id(0).as_str().into(),
            address: own_address(0),
            subnet: SUBNET.into(),
            vpc: "vpc-0123456789abcdef0".into(),
            zone: "us-west-2a".to_owned(),
            groups: vec!["sg-0123456789abcdef0".into()],
            limits: Some(Limits { enis: u32::from(ENIS), addresses_per_eni: u32::from(size.places) + 1 }),
        };
        let now = Now { at: BootTime(Duration::from_secs(100)), wall: 1_700_000_000, luck: 0 };
        let enis = (0..ENIS).map(|number| seen(&facts, size, number)).collect();
        let mut node = Self { state: State::new(policy), now, tickets: 0, facts, enis };
        node.event(Event::Facts(node.facts.clone()))?;
        for eni in node.state.wanted() {
            node.event(Event::LinkReady(eni.eni))?;
        }
        let pods = if situation == Situation::Empty { 0 } else { size.addresses() / 2 };
        for _ in 0..pods {
            let request = node.request();
            node.event(Event::Add(request))?;
        }
        ensure!(
            node.state.leases().count() == pods as usize,
            "{pods} pods have {} leases",
            node.state.leases().count()
        );
        let free = size.addresses() - pods;
        ensure!(node.state.available() == free as usize, "{} instead of {free} are free", node.state.available());
        Ok(node)
    }

    /// Applies it; what is asked of EC2 is answered at once.
    fn event(&mut self, event: Event) -> Result<()> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in self.timed(event).1.effects {
                let Effect::Call(id, call) = effect else { continue };
                let answer = match call {
                    Call::Discover { .. } => Answer::Discovered(self.enis.clone()),
                    Call::Subnets { .. } => {
                        Answer::Subnets(vec![SeenSubnet { id: SUBNET.into(), free: 0, tags: BTreeMap::new() }])
                    }
                    other => bail!("an instance that is full was to {other:?}"),
                };
                events.push(Event::Answered(id, Ok(answer)));
            }
        }
        Ok(())
    }

    fn timed(&mut self, event: Event) -> (Duration, Step) {
        self.now.at = self.now.at.after(Duration::from_micros(10));
        let begun = Instant::now();
        let step = black_box(self.state.apply(self.now, black_box(event)));
        (begun.elapsed(), step)
    }

    fn request(&mut self) -> AddRequest {
        self.tickets += 1;
        let name = format!("pod-{}", self.tickets);
        AddRequest {
            ticket: Ticket(self.tickets),
            key: LeaseKey { container: format!("{:064x}", self.tickets), ifname: "eth0".to_owned() },
            link: format!("eni{:011x}", self.tickets),
            netns: format!("/run/netns/cni-{:032x}", self.tickets),
            pod: Pod { namespace: "default".to_owned(), uid: format!("{:036x}", self.tickets), name },
            started: self.now.at,
            deadline: self.now.at.after(Duration::from_mins(1)),
        }
    }
}

const SUBNET: &str = "subnet-0123456789abcdef0";

fn eni_id(number: u8) -> String {
    format!("eni-0123456789abcde{number:02x}")
}

fn own_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 10 + number)
}

/// An ENI of ours, full.
fn seen(facts: &NodeFacts, size: Size, number: u8) -> SeenEni {
    // Each ENI has a /20 to itself.
    let first = Ipv4Addr::new(10, 1 + number, 0, 0).to_bits();
    let (singles, prefixes) = if size.prefixes { (0, size.places) } else { (size.places, 0) };
    let place = |at: u8, step: u32| Ipv4Addr::from_bits(first + u32::from(at) * step);
    SeenEni {
        id: eni_id(number).into(),
        mac: Mac([2, 0, 0, 0, 0, number]),
        subnet: facts.subnet.clone(),
        primary: own_address(number),
        secondary: (0..singles).map(|at| place(at, 1)).collect(),
        prefixes: (0..prefixes).filter_map(|at| Prefix::new(place(at, Prefix::SIZE))).collect(),
        description: if number == 0 { String::new() } else { format!("aws-K8S-{}", facts.instance) },
        tags: BTreeMap::from([("node.k8s.amazonaws.com/instance_id".to_owned(), facts.instance.to_string())]),
        groups: facts.groups.iter().cloned().collect(),
        kind: InterfaceKind::Interface,
        attachment: Some(SeenAttachment {
            id: format!("eni-attach-0123456789abcde{number:02x}").into(),
            instance: Some(facts.instance.clone()),
            device: DeviceIndex(u32::from(number)),
            card: 0,
            attached: true,
            delete_on_termination: true,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking(power: i32, size: Size) -> Measured {
        let times = Samples::new([f64::from(size.addresses()).powi(power) / 1e6]);
        Measured { times, remark: String::new() }
    }

    #[test]
    fn what_grows_faster_than_the_addresses_misses_its_goal() -> Result<()> {
        assert_eq!(figure("plan", 50.0, |size, _| Ok(taking(1, size)))?.holds, Some(true));
        let quadratic = figure("plan", 50.0, |size, _| Ok(taking(2, size)))?;
        assert_eq!(quadratic.holds, Some(false), "{quadratic:?}");
        Ok(())
    }

    #[test]
    fn every_situation_can_be_measured_with_addresses_and_with_prefixes() -> Result<()> {
        for prefixes in [false, true] {
            let size = Size { places: 2, prefixes };
            plan(size, 2)?;
            allocate(size, 2)?;
        }
        Ok(())
    }
}
