//! What everything in a run shares: EC2, the nodes' disks and kernels, the truth about pods, the trace.
//!
//! Owns the steps at which a daemon may die. What a dead daemon still does, until its loop is taken away, has no effect.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use node::Handle;
use pool::{Block, BootTime, Entry, InstanceId, Key, LeaseKey, Limits, NodeFacts, Pod, Policy, WantedEni};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    scenario::{Crash, Luck, Scenario},
    trace::{Invariant, Tally, Trace, Violation},
    truth::Truth,
};
use crate::Vpc;

/// The node booted this long before the run.
const BOOTED: Duration = Duration::from_secs(100);
/// A run whose events pass its own number by so much does not come to rest.
const TOO_MANY: u64 = 10_000;

/// A node and everything that outlives its daemon.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) instance: InstanceId,
    pub(crate) facts: NodeFacts,
    pub(crate) policy: Policy,
    /// The ledger's entries, as committed.
    pub(crate) disk: BTreeMap<Key, Entry>,
    /// The disk is full until then.
    pub(crate) full_until: BootTime,
    /// The disk was full at some time after this.
    pub(crate) was_full: Option<BootTime>,
    /// DELs that no daemon answered.
    pub(crate) spool: Vec<(LeaseKey, BootTime)>,
    /// What the daemon last asked of the kernel.
    pub(crate) wanted: Vec<WantedEni>,
    /// ENIs whose links the daemon has told of.
    pub(crate) carried: BTreeSet<String>,
    /// `unreachable` routes in the kernel.
    pub(crate) routes: BTreeSet<Block>,
    /// Sandbox interfaces whose host links are in the kernel.
    pub(crate) links: BTreeSet<LeaseKey>,
    /// Pods that are bound to the node.
    pub(crate) bound: BTreeSet<Pod>,
    /// Addresses that something else uses.
    pub(crate) strange: BTreeSet<Ipv4Addr>,
    /// Those of them that the pool was told of before anybody got them.
    pub(crate) kept_off: BTreeSet<Ipv4Addr>,
    /// The ledger was lost in this daemon's time or before.
    pub(crate) forgot: bool,
    /// It does not have all pods again: every start looks for them in the kernel.
    pub(crate) unsettled: bool,
    /// Calls but those that are made once an hour, by action.
    pub(crate) asked: BTreeMap<&'static str, u64>,
    /// Times that EC2 said no.
    pub(crate) denials: u64,
    /// Metadata has been read since the daemon started.
    pub(crate) network: bool,
    /// All that is carried is told again.
    pub(crate) announce: bool,
    /// The daemon was told to stop.
    pub(crate) stopping: bool,
    /// Counts the daemons.
    pub(crate) daemon: u64,
    /// It died, and its loop is about to be taken away.
    pub(crate) dead: bool,
    /// Talks to the daemon, while there is one.
    pub(crate) handle: Option<Handle>,
    /// When reasons for refusals were last seen.
    pub(crate) reasons: BTreeMap<&'static str, BootTime>,
}

impl Machine {
    /// What its type allows.
    pub(crate) fn limits(&self) -> Limits {
        self.facts.limits.expect("a scenario knows its types")
    }
}

/// Everything but time.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) vpc: Vpc,
    pub(crate) ids: Luck,
    pub(crate) fates: Luck,
    pub(crate) machines: Vec<Machine>,
    pub(crate) truth: Truth,
    /// Things go wrong. False: the end has begun.
    pub(crate) faulty: bool,
    pub(crate) buckets: BTreeMap<&'static str, (f64, Duration)>,
    /// Arguments by client token.
    pub(crate) tokens: BTreeMap<String, String>,
    pub(crate) foreign: Vec<String>,
    /// An ENI that reads leave out until then.
    pub(crate) omitted: Option<(String, Duration)>,
    /// ADDs under way.
    pub(crate) adding: usize,
    /// Others have changed the node's ENIs, so that its plan may be wrong.
    pub(crate) meddled: bool,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    /// Steps before faults stopped.
    pub(crate) busy: u64,
    pub(crate) tally: Tally,
    pub(crate) lines: Vec<String>,
    pub(crate) violation: Option<Violation>,
    tasks: Vec<AbortHandle>,
}

/// A run, for everybody in it.
#[derive(Debug)]
pub(crate) struct Sim {
    world: Mutex<World>,
    began: Instant,
    /// Something was done: the states are looked at.
    pub(crate) changed: Vec<Notify>,
    /// A daemon died.
    pub(crate) deaths: Vec<Notify>,
    /// EC2 was asked for something.
    pub(crate) ec2_changed: Notify,
    /// The run is over.
    pub(crate) over: Notify,
}

impl Sim {
    pub(crate) fn new(world: World) -> Arc<Self> {
        let nodes = world.machines.len();
        Arc::new(Self {
            world: Mutex::new(world),
            began: Instant::now(),
            changed: (0..nodes).map(|_| Notify::new()).collect(),
            deaths: (0..nodes).map(|_| Notify::new()).collect(),
            ec2_changed: Notify::new(),
            over: Notify::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the run began, as EC2 has it.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The nodes' CLOCK_BOOTTIME.
    pub(crate) fn now(&self) -> BootTime {
        BootTime(BOOTED + self.began.elapsed())
    }

    /// A line of the trace.
    pub(crate) fn say(&self, line: std::fmt::Arguments<'_>) {
        let at = self.elapsed();
        self.lock().say(at, line);
    }

    /// A moment at which the daemon may die. False: it is dead, and what comes after does not happen.
    pub(crate) fn step(&self, node: usize, daemon: u64, label: std::fmt::Arguments<'_>) -> bool {
        let at = self.elapsed();
        let mut world = self.lock();
        if !world.alive(node, daemon) {
            return false;
        }
        world.steps += 1;
        let dies = match world.scenario.crash {
            Crash::Never => false,
            Crash::Sometimes(of) => world.faulty && world.fates.below(10_000) < of,
            Crash::At(step) => world.steps == step,
        };
        if dies {
            let step = world.steps;
            world.say(at, format_args!("n{node} died at step {step}, {label}"));
            world.kill(node);
            self.deaths[node].notify_one();
        }
        self.changed[node].notify_one();
        !dies
    }

    /// An event is applied.
    pub(crate) fn count(&self, node: usize) {
        let mut world = self.lock();
        world.events += 1;
        if world.events > world.scenario.events + TOO_MANY && !world.machines[node].dead {
            let what = format!("{} events, and no end", world.events);
            world.broken(Invariant::Progress, what);
            world.kill(node);
            self.deaths[node].notify_one();
        }
        if world.violation.is_some() {
            self.over.notify_one();
        }
        self.changed[node].notify_one();
    }

    /// Ends with the run.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        let mut world = self.lock();
        if world.tasks.len() >= 1_024 {
            world.tasks.retain(|task| !task.is_finished());
        }
        world.tasks.push(handle);
    }

    /// Ends all tasks and takes the record.
    pub(crate) fn end(&self) -> Trace {
        let elapsed = self.elapsed();
        let mut world = self.lock();
        for task in std::mem::take(&mut world.tasks) {
            task.abort();
        }
        Trace {
            seed: world.scenario.seed,
            lines: std::mem::take(&mut world.lines),
            events: world.events,
            steps: world.steps,
            busy: world.busy,
            violation: world.violation.take(),
            tally: Tally { time: elapsed, ..world.tally },
        }
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, vpc: Vpc, ids: Luck, machines: Vec<Machine>) -> Self {
        let seed = scenario.seed;
        Self {
            vpc,
            ids,
            fates: Luck::new(seed, "fates"),
            machines,
            truth: Truth::default(),
            faulty: true,
            buckets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            foreign: Vec::new(),
            omitted: None,
            adding: 0,
            meddled: false,
            events: 0,
            steps: 0,
            busy: 0,
            tally: Tally::default(),
            lines: Vec::new(),
            violation: None,
            tasks: Vec::new(),
            scenario,
        }
    }

    pub(crate) fn alive(&self, node: usize, daemon: u64) -> bool {
        let machine = &self.machines[node];
        machine.daemon == daemon && !machine.dead && self.violation.is_none()
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.machines[node].dead = true;
        self.machines[node].handle = None;
        self.tally.crashes += 1;
    }

    pub(crate) fn say(&mut self, at: Duration, line: std::fmt::Arguments<'_>) {
        self.lines.push(format!("{:>10.3} {line}", at.as_secs_f64()));
    }

    pub(crate) fn broken(&mut self, invariant: Invariant, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what });
        }
    }

    pub(crate) fn holds(&mut self, checked: Result<(), Violation>) {
        if let Err(Violation { invariant, what }) = checked {
            self.broken(invariant, what);
        }
    }

    /// The reason for a refusal that may come later.
    pub(crate) fn reason(&mut self, node: usize, name: &'static str, now: BootTime) {
        self.machines[node].reasons.insert(name, now);
    }
}
