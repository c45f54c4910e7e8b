//! What is simulated: the node, its settings, its pods and everything that goes wrong.
//!
//! Owns the shapes and how a scenario is drawn from a seed. Never looks at what comes of it.

use std::{ops::Range, time::Duration};

use ipnet::Ipv4Net;
use pool::{Policy, Warm};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::Times;

/// Everything that decides a run: the same scenario gives the same [`super::Trace`].
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Nodes in one subnet, 1 or 2: what one gives back the other one may get.
    pub nodes: usize,
    /// E.g. `m5.large`.
    pub instance_type: &'static str,
    /// The subnet; a small one runs out of addresses.
    pub subnet: Ipv4Net,
    /// Another subnet of the zone, tagged for pods.
    pub second_subnet: Option<Ipv4Net>,
    /// Addresses of the subnet that others hold, here and there.
    pub neighbours: usize,
    /// Settings of every node.
    pub policy: Policy,
    /// The node comes back with these settings from some of its restarts, and then with the first ones again.
    pub other_policy: Option<Policy>,
    /// Kubernetes says which pods are bound to a node.
    pub kubernetes: bool,
    /// How long EC2's transitions take.
    pub times: Times,
    /// Pods that come and go.
    pub churn: Churn,
    /// What goes wrong until the pods have had their events.
    pub faults: Faults,
    /// When a daemon dies.
    pub crash: Crash,
    /// Pods come and go until so many events have happened; then faults stop and the run is brought to its end.
    pub events: u64,
}

/// How pods come and go.
#[derive(Clone, Debug)]
pub struct Churn {
    /// Pods on a node that the schedule tends to.
    pub pods: usize,
    /// Pods that come at once, at most.
    pub burst: usize,
    /// Between two happenings of the schedule.
    pub pause: Range<Duration>,
    /// How long a plugin waits for an address.
    pub patience: Duration,
    /// Of 1,000 ADDs: those whose DEL does not wait for their end.
    pub overtaken: u32,
    /// Of 1,000 pods: those whose container id comes back.
    pub reborn: u32,
    /// Of 1,000 happenings: an ADD is repeated.
    pub repeated: u32,
    /// Of 1,000 happenings: a sandbox vanishes without a DEL.
    pub vanishing: u32,
}

/// What goes wrong. All zero: nothing.
#[derive(Clone, Debug)]
pub struct Faults {
    /// From the call to its effect, and from the effect to the answer.
    pub latency: Range<Duration>,
    /// Of 1,000 calls: the request is lost.
    pub lost_before: u32,
    /// Of 1,000 calls: the answer is lost.
    pub lost_after: u32,
    /// Of 1,000 calls: the answer comes after the caller has given up.
    pub hangs: u32,
    /// Of 1,000 calls: nobody listens.
    pub unreachable: u32,
    /// Of 1,000 calls: EC2 says no for a reason of its own.
    pub refused: u32,
    /// Token bucket of every action: size and refill per second.
    pub throttle: Option<(f64, f64)>,
    /// A read may be this old.
    pub stale: Duration,
    /// Of 1,000 reads: from this one on EC2 leaves out an attached ENI for a while.
    pub omits: u32,
    /// Of 1,000 commits: the disk is full for a while, from this one on.
    pub disk: u32,
    /// Metadata does not tell the node's facts at first.
    pub late_facts: bool,
    /// Of 1,000 starts: the ledger is lost.
    pub forgets: u32,
    /// ENIs that others attach to the node and take away.
    pub foreign: usize,
    /// Of 1,000 happenings: something that is not ours uses an address of the node, or stops to.
    pub strange_routes: u32,
}

/// When a daemon dies. A step is a commit, an effect or an answer; each has a before and an after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It does not.
    Never,
    /// At so many of 10,000 steps, by luck.
    Sometimes(u32),
    /// At this step.
    At(u64),
}

impl Faults {
    /// EC2 at its best.
    pub fn none() -> Self {
        Self {
            latency: ms(20)..ms(300),
            lost_before: 0,
            lost_after: 0,
            hangs: 0,
            unreachable: 0,
            refused: 0,
            throttle: None,
            stale: Duration::ZERO,
            omits: 0,
            disk: 0,
            late_facts: false,
            forgets: 0,
            foreign: 0,
            strange_routes: 0,
        }
    }

    /// Reads that are not older than what the pool waits for before it believes that something is not there.
    pub fn settles(&self) -> bool {
        self.omits == 0 && (self.stale <= SETTLES || (self.hangs == 0 && self.stale <= SETTLES * 3))
    }
}

/// The pool believes an absence after reads that are at least 15 s younger than the call. A request takes at most 10 s of them.
pub(crate) const SETTLES: Duration = Duration::from_secs(4);
/// A request has its effect within this time, or never.
pub(crate) const ARRIVES: Duration = Duration::from_secs(10);
/// The caller gives up.
pub(crate) const GIVES_UP: Duration = Duration::from_secs(15);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Scenario {
    /// The scenario of a seed: settings, sizes and faults, each of them often nothing special.
    pub fn drawn(seed: u64) -> Self {
        let mut luck = Luck::new(seed, "scenario");
        let instance_type = *luck.one_of(&["t3.nano", "t3.small", "m5.large", "m5.large", "m5.xlarge", "m5.4xlarge"]);
        let subnet = *luck.one_of(&["10.0.0.0/27", "10.0.0.0/26", "10.0.0.0/24", "10.0.0.0/22", "10.0.0.0/22"]);
        let times = if luck.chance(200) {
            Times::INSTANT
        } else {
            let (attach, device) = (luck.between(ms(100)..ms(4_000)), luck.between(ms(50)..ms(9_000)));
            Times { attach, device, ..Times::default() }
        };
        let policy = policy(&mut luck);
        let second = *luck.one_of(&["10.0.64.0/28", "10.0.64.0/24"]);
        let drawn = Self {
            seed,
            nodes: if luck.chance(300) { 2 } else { 1 },
            instance_type,
            subnet: subnet.parse().expect("one of the above"),
            second_subnet: luck.chance(300).then(|| second.parse().expect("one of the above")),
            neighbours: if luck.chance(300) { luck.index(20) } else { 0 },
            other_policy: luck.chance(200).then(|| Policy { prefixes: !policy.prefixes, ..policy.clone() }),
            policy,
            kubernetes: luck.chance(400),
            times,
            churn: churn(&mut luck),
            faults: faults(&mut luck),
            crash: match luck.below(3) {
                0 => Crash::Never,
                _ => Crash::Sometimes(luck.below(200)),
            },
            events: 400,
        };
        if luck.chance(150) { drawn.giving_back() } else { drawn }
    }

    /// A node that gives back whatever it can at once, dies often, and reads at each start what was a moment ago.
    fn giving_back(mut self) -> Self {
        let Policy { warm, cooling, shrink_after, .. } = &mut self.policy;
        (*warm, *cooling, *shrink_after) = (Warm::Addresses { warm: 1, minimum: 0 }, Duration::ZERO, Duration::ZERO);
        self.other_policy = None;
        self.crash = Crash::Sometimes(200);
        self.faults.stale = if self.faults.hangs > 0 { SETTLES } else { SETTLES * 3 };
        self.faults.forgets = 0;
        self
    }

    /// A scenario whose daemon dies at most once, at a step to be chosen; short, since it is run once for every step.
    pub fn short(seed: u64) -> Self {
        let drawn = Self::drawn(seed);
        let instance_type = if drawn.instance_type == "m5.4xlarge" { "m5.large" } else { drawn.instance_type };
        Self { crash: Crash::Never, nodes: 1, events: 100, instance_type, ..drawn }
    }
}

fn policy(luck: &mut Luck) -> Policy {
    let prefixes = luck.chance(350);
    let warm = match luck.below(8) {
        0 => Warm::Enis(luck.below(3)),
        1 => Warm::Enis(1),
        2 => Warm::Demand,
        3 | 4 if prefixes => Warm::Prefixes(luck.below(3)),
        _ => Warm::Addresses { warm: luck.below(6), minimum: luck.below(12) },
    };
    let cooling = *luck.one_of(&[0, 1, 5, 30, 30, 60]);
    Policy {
        warm,
        prefixes,
        max_eni: luck.chance(300).then(|| 1 + luck.below(4)),
        max_pods: luck.chance(300).then(|| 1 + luck.below(40)),
        cooling: Duration::from_secs(cooling),
        early_reuse: luck.chance(150),
        shrink_after: Duration::from_secs(*luck.one_of(&[0, 5, 60, 60])),
        reclaim_after: Duration::from_secs(*luck.one_of(&[20, 60])),
        subnet_discovery: luck.chance(700),
        cluster: luck.chance(500).then(|| "berth".to_owned()),
        ..Policy::default()
    }
}

fn churn(luck: &mut Luck) -> Churn {
    let slowest = *luck.one_of(&[200, 2_000, 2_000, 20_000]);
    let burst = *luck.one_of(&[2, 5, 40]);
    Churn {
        pods: 1 + luck.index(40),
        burst: 1 + luck.index(burst),
        pause: ms(0)..ms(slowest),
        patience: Duration::from_secs(*luck.one_of(&[5, 45, 45, 90])),
        overtaken: *luck.one_of(&[0, 50, 200]),
        reborn: *luck.one_of(&[0, 100, 400]),
        repeated: *luck.one_of(&[0, 50]),
        vanishing: *luck.one_of(&[0, 0, 30]),
    }
}

fn faults(luck: &mut Luck) -> Faults {
    let clean = Faults::none();
    if luck.chance(200) {
        return clean;
    }
    let slowest = *luck.one_of(&[300, 300, 3_000]);
    let hangs = *luck.one_of(&[0, 0, 50]);
    // What the pool waits for is as long as the slowest request and the oldest read together.
    let oldest = if hangs > 0 { SETTLES } else { SETTLES * 3 };
    let stale = *luck.one_of(&[ms(0), ms(0), SETTLES, oldest, oldest]);
    Faults {
        latency: ms(5)..ms(slowest),
        lost_before: *luck.one_of(&[0, 20, 100]),
        lost_after: *luck.one_of(&[0, 20, 200]),
        hangs,
        unreachable: *luck.one_of(&[0, 0, 50]),
        refused: *luck.one_of(&[0, 0, 100]),
        throttle: luck.chance(250).then(|| (f64::from(1 + luck.below(5)), 0.2 + f64::from(luck.below(10)) / 5.0)),
        stale,
        omits: *luck.one_of(&[0, 0, 100]),
        disk: *luck.one_of(&[0, 0, 0, 10]),
        late_facts: luck.chance(200),
        // Without its ledger a daemon has no defence against reads that show what it gave back.
        forgets: if stale.is_zero() { *luck.one_of(&[0, 0, 200]) } else { 0 },
        foreign: if luck.chance(150) { 1 + luck.index(2) } else { 0 },
        strange_routes: *luck.one_of(&[0, 0, 0, 30]),
    }
}

/// Randomness for one purpose, so that more of it elsewhere changes nothing here.
#[derive(Debug)]
pub(crate) struct Luck(pub(crate) StdRng);

impl Luck {
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        for (place, byte) in bytes[8..].iter_mut().zip(purpose.bytes()) {
            *place = byte;
        }
        Self(StdRng::from_seed(bytes))
    }

    /// True for so many of 1,000.
    pub(crate) fn chance(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.0.random_range(0..1_000) < of_a_thousand
    }

    /// Less than `most`.
    pub(crate) fn below(&mut self, most: u32) -> u32 {
        if most == 0 { 0 } else { self.0.random_range(0..most) }
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        if length == 0 { 0 } else { self.0.random_range(0..length) }
    }

    pub(crate) fn between(&mut self, range: Range<Duration>) -> Duration {
        if range.is_empty() { range.start } else { self.0.random_range(range) }
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.random_range(0..all.len())]
    }
}
