//! The storm: pods come and go on every node, daemons are killed at random moments, EC2 is unwell; and afterwards everything
//! must agree.
//!
//! Owns the order of a storm: calm, storm, steady, audit, empty, audit. The same seed gives the same schedule; what comes of
//! it depends on the machine. Real processes, real namespaces; never a daemon that it did not start.

mod audit;
mod books;
mod churn;
mod evidence;
mod killer;
mod record;
mod schedule;
mod talk;
mod watch;
mod weather;

use std::{
    net::SocketAddrV4,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::evidence::{any_seed, show};
pub use self::{
    audit::{above_minimum, audit},
    evidence::run,
    record::{Figures, Told},
};
use self::{
    churn::Worker,
    record::{Over, Record},
    schedule::Schedule,
};
use crate::{
    lab::Lab,
    node::Ipamd,
    pods::Pod,
    settings::LabSettings,
    traffic::{Echo, Question, Transport},
    trouble::{Latency, Spread},
    wait,
};

/// How long an address stays unused after a DEL.
const COOLING: Duration = Duration::from_secs(1);

/// Spare addresses per node.
const SPARE: usize = 2;

/// How long everything may take to agree once the storm is over: a call that hangs, its doubt, a detach.
const STEADY: Duration = Duration::from_secs(60);

/// The same where addresses come back: one that EC2 gave out again in a call whose answer was lost is believed when no read can
/// be as old as its departure.
const STEADY_CROWDED: Duration = Duration::from_secs(400);

/// A storm to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The lab; [`Settings::new`] has one that fits.
    pub lab: LabSettings,
    /// What decides the schedule.
    pub seed: u64,
    /// How often a daemon is killed, over all nodes.
    pub kills: usize,
    /// How many pods there may be at once, over all nodes.
    pub pods: usize,
    /// How many of them, once there, stay until the end.
    pub residents: usize,
    /// The daemons' settings beyond the lab's.
    pub environment: Vec<(String, String)>,
    /// How long everything may take to agree once the storm is over.
    pub steady: Duration,
}

impl Settings {
    /// Two m5.xlarge in a subnet so large that EC2 gives no address out again.
    pub fn new(prefix: &str, seed: u64) -> Self {
        let mut lab = LabSettings::with_prefix(prefix).with_nodes(&["m5.xlarge", "m5.xlarge"]);
        lab.subnet = "10.0.0.0/20".parse().expect("a CIDR");
        let milliseconds = Duration::from_millis;
        lab.world.seed = seed;
        lab.trouble.latency = usual_latency();
        let times = &mut lab.world.ec2.times;
        times.create = milliseconds(50);
        (times.attach, times.device) = (milliseconds(150), milliseconds(200));
        (times.detach, times.unplug) = (milliseconds(250), milliseconds(100));
        let environment = [
            ("WARM_IP_TARGET", SPARE.to_string()),
            ("IP_COOLDOWN_PERIOD", COOLING.as_secs().to_string()),
            ("BERTH_SHRINK_AFTER", "100ms".to_owned()),
            ("BERTH_RECLAIM_AFTER", "2s".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { lab, seed, kills: 50, pods: 60, residents: 4, environment, steady: STEADY }
    }

    /// The same in a subnet so small that an address that was given back is given out at once, to whichever node asks first.
    #[must_use]
    pub fn crowded(mut self) -> Self {
        self.lab.subnet = "10.0.0.0/25".parse().expect("a CIDR");
        self.lab.world.ec2.address_order = sim::AddressOrder::FirstFit;
        self.steady = STEADY_CROWDED;
        self
    }
}

/// How long EC2 takes when it is well.
fn usual_latency() -> Latency {
    let usual = Spread::Uniform(Duration::from_millis(5)..=Duration::from_millis(40));
    Latency { usual, ..Latency::default() }
}

/// A storm that rages.
struct Storm<'a> {
    lab: &'a Lab,
    settings: &'a Settings,
    schedule: Schedule,
    record: &'a Record,
    /// Pods and EC2: calm from here on.
    over: &'a Over,
    /// Kills that are left.
    kills: AtomicUsize,
    /// Never told: whoever waits for nothing but time.
    halted: Over,
    /// Calls of the plugin that are under way, by node.
    under_way: Vec<AtomicUsize>,
    /// Who answers packets, and on which node.
    servers: Mutex<Vec<(usize, SocketAddrV4)>>,
}

impl Storm<'_> {
    fn take_a_kill(&self) -> bool {
        self.kills.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn serve(&self, node: usize, at: SocketAddrV4) {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push((node, at));
    }

    /// Servers on other nodes.
    fn servers_beside(&self, node: usize) -> Vec<SocketAddrV4> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().filter(|(at, _)| *at != node).map(|(_, server)| *server).collect()
    }
}

/// The whole course. What must not be is in the record, or an error.
fn rage(lab: &Lab, settings: &Settings, record: &Record, over: &Over) -> Result<()> {
    ensure!(lab.nodes().len() >= 2, "a storm needs two nodes");
    let storm = Storm {
        lab,
        settings,
        schedule: Schedule::new(settings.seed),
        record,
        over,
        kills: AtomicUsize::new(settings.kills),
        halted: Over::default(),
        under_way: lab.nodes().iter().map(|_| AtomicUsize::new(0)).collect(),
        servers: Mutex::default(),
    };
    let took = |part: &'static str, begun: Instant| record.count(|figures| figures.took.push((part, begun.elapsed())));

    let begun = Instant::now();
    let first = |(number, node)| killer::start(&storm, node, Schedule::first_mode(number));
    let mut daemons: Vec<Ipamd> = lab.nodes().iter().enumerate().map(first).collect::<Result<_>>()?;
    for daemon in &mut daemons {
        daemon.wait_ready(STEADY)?;
    }
    agree(&storm, "before the storm", || audit(lab, &[]))?;
    took("calm", begun);

    let begun = Instant::now();
    let hosts: Vec<Echo> =
        lab.nodes().iter().map(|node| Echo::start(node.host(), Transport::Udp)).collect::<Result<_>>()?;
    for (node, host) in hosts.iter().enumerate() {
        storm.serve(node, host.at());
    }
    let (daemons, mut living) = unleash(&storm, daemons)?;
    drop(hosts);
    took("storm", begun);

    let begun = Instant::now();
    record.note(format_args!("the storm is over, {} pods live", living.len()));
    agree(&storm, "after the storm", || audit(lab, &living))?;
    for pod in &living {
        if let Err(error) = reaches(lab, pod) {
            record.complain(format!("{} is not on the network: {error:#}", pod.label()));
        }
    }
    took("agreement", begun);

    let begun = Instant::now();
    empty(&storm, &living);
    living.clear();
    agree(&storm, "without pods", || minimum(lab, &living))?;
    for daemon in daemons {
        let status = daemon.stop()?;
        ensure!(status.success(), "ipamd ended with {status} at SIGTERM");
    }
    weather::note_calls(&storm);
    took("emptying", begun);
    Ok(())
}

/// The storm itself: ends when all kills are given. What is left are daemons that are ready, and the pods that live.
fn unleash(storm: &Storm<'_>, daemons: Vec<Ipamd>) -> Result<(Vec<Ipamd>, Vec<Pod>)> {
    thread::scope(|scope| {
        let workers: Vec<ScopedJoinHandle<'_, _>> =
            (0..storm.settings.pods).map(|number| scope.spawn(move || Worker::new(storm, number).work())).collect();
        scope.spawn(|| watch::keep(storm));
        let weather = scope.spawn(|| weather::blow(storm));
        let killers: Vec<_> = daemons
            .into_iter()
            .enumerate()
            .map(|(number, daemon)| scope.spawn(move || killer::harass(storm, number, daemon)))
            .collect();
        let daemons: Vec<Result<Ipamd>> = killers.into_iter().map(joined).collect();
        storm.over.set();
        let living = workers.into_iter().filter_map(joined).collect();
        joined(weather);
        let daemons = daemons.into_iter().collect::<Result<_>>()?;
        Ok((daemons, living))
    })
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits until nothing is wrong any more, and says what is when that does not come.
fn agree(storm: &Storm<'_>, when: &str, mut wrong: impl FnMut() -> Vec<String>) -> Result<()> {
    let begun = Instant::now();
    let mut last = Vec::new();
    let steady = storm.settings.steady;
    let agreed = wait::until(steady, || {
        let now = wrong();
        if now != last {
            storm.record.note(format_args!("{when}: {} things do not agree: {now:#?}", now.len()));
        }
        last = now;
        last.is_empty().then_some(())
    });
    if agreed.is_none() {
        bail!("{when} these do not agree, {steady:?} later:\n  {}", last.join("\n  "));
    }
    storm.record.note(format_args!("{when} all agrees, after {:.1?}", begun.elapsed()));
    Ok(())
}

fn minimum(lab: &Lab, pods: &[Pod]) -> Vec<String> {
    let mut wrong = above_minimum(lab, SPARE);
    wrong.extend(audit(lab, pods));
    wrong
}

/// The pod reaches another node, and is reached from there.
fn reaches(lab: &Lab, pod: &Pod) -> Result<()> {
    let other = lab.nodes().iter().find(|node| node.name() != pod.node().name()).context("another node")?.host();
    let host = pod.host()?;
    for (from, to) in [(&host, other), (other, &host)] {
        let echo = Echo::start(to, Transport::Udp)?;
        let answer = Question::new(from, echo.at(), Transport::Udp).ask();
        let answer = answer.with_context(|| format!("from {} to {}", from.name, to.name))?;
        ensure!(*answer.seen.source.ip() == from.address, "{} was seen as {}", from.name, answer.seen.source);
    }
    Ok(())
}

/// Every pod is deleted, all at once.
fn empty(storm: &Storm<'_>, living: &[Pod]) {
    thread::scope(|scope| {
        for pod in living {
            scope.spawn(|| {
                if let Err(error) = churn::delete(storm, pod, true) {
                    storm.record.complain(format!("{error:#}"));
                }
            });
        }
    });
}
