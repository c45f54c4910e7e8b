//! ADD and DEL: the whole plugin process against the floor, the same number at a time, in turns.
//!
//! The plugin talks to a real daemon on a node whose addresses are all there, so no EC2 call is in the way. The floor has a
//! node like it, on which no daemon listens: what the daemon does about a new link is Berth's cost. Sandboxes are made once
//! and used again: a namespace that the kernel takes apart would disturb what comes after.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use datapath::wire::{Batch, Socket, request::Change};
use lab::{cni, netns::Netns, wait};
use serde_json::Value;
use sim::Times;

use super::{
    figure::{Figure, Samples},
    node::{Bed, CAPACITY, PATIENCE, PREFIX},
    server::FloorServer,
    spawn::{Program, Ran, run_all},
};
use crate::floor::{Call, Floor, GROUP, Work};

/// How the plugin is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Load {
    at_a_time: usize,
    pods: usize,
    rounds: usize,
}

const ONE: Load = Load { at_a_time: 1, pods: 20, rounds: 25 };
const EIGHT: Load = Load { at_a_time: 8, pods: 32, rounds: 12 };
const THIRTY_TWO: Load = Load { at_a_time: 32, pods: 64, rounds: 10 };

/// At most this many times the floor.
const GOAL: f64 = 1.5;

/// The figures among those wanted, each told as soon as it is there.
pub fn measure(wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(Figure)) -> Result<()> {
    let loads = [(ONE, ["cni_add", "cni_del"].as_slice()), (EIGHT, &["cni_add_x8"]), (THIRTY_TWO, &["cni_add_x32"])];
    if !loads.iter().any(|(_, names)| names.iter().any(|name| wanted(name))) {
        return Ok(());
    }
    let bench = Bench::start()?;
    for (load, names) in loads {
        if names.iter().any(|name| wanted(name)) {
            let times = bench.run(load)?;
            for name in names.iter().filter(|name| wanted(name)) {
                let (times, against) =
                    if *name == "cni_del" { (&times.del, "floor_del") } else { (&times.add, "floor_add") };
                tell(times.figure(name, against));
            }
        }
    }
    bench.stop()
}

/// Where it is measured.
#[derive(Debug)]
struct Bench {
    bed: Bed,
    server: FloorServer,
    socket: PathBuf,
    plugin: PathBuf,
    floor: PathBuf,
}

/// Who is measured, in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Plugin,
    Floor,
    Raw,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Floor => "floor",
            Self::Raw => "raw",
        }
    }
}

const ALL: [Who; 3] = [Who::Plugin, Who::Floor, Who::Raw];

/// Everybody's times for the same work.
#[derive(Debug, Default)]
struct Times3 {
    plugin: Vec<Duration>,
    floor: Vec<Duration>,
    raw: Vec<Duration>,
}

#[derive(Debug, Default)]
struct Measured {
    add: Times3,
    del: Times3,
}

impl Times3 {
    fn of(&mut self, who: Who) -> &mut Vec<Duration> {
        match who {
            Who::Plugin => &mut self.plugin,
            Who::Floor => &mut self.floor,
            Who::Raw => &mut self.raw,
        }
    }

    fn figure(&self, name: &'static str, against: &'static str) -> Figure {
        let [plugin, floor, raw] =
            [&self.plugin, &self.floor, &self.raw].map(|times| Samples::millis(times.iter().copied()));
        let with_a_raw_socket = plugin.median() / raw.median();
        Figure::relative(name, "ms", &plugin, (against, &floor), GOAL)
            .remark(format!("{with_a_raw_socket:.2} x a floor with a raw socket ({:.3})", raw.median()))
    }
}

impl Bench {
    fn start() -> Result<Self> {
        // All addresses from the start: none is ever missing, and the daemon has no reason to call EC2.
        let minimum = CAPACITY.to_string();
        let environment =
            [("MINIMUM_IP_TARGET", minimum.as_str()), ("WARM_IP_TARGET", "1"), ("IP_COOLDOWN_PERIOD", "0")];
        let bed = Bed::start(Duration::ZERO, Times::INSTANT, &environment, |_| Ok(()))?;
        bed.free(CAPACITY)?;
        let socket = bed.lab().settings().directory().join("floor.sock");
        let server = FloorServer::start(&socket)?;
        let [plugin, floor] = ["berth-cni", "floor"].map(|name| bed.node().program(name));
        // As on every node that has pods.
        bed.bare().netns().enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        Ok(Self { bed, server, socket, plugin: plugin?, floor: floor? })
    }

    fn stop(self) -> Result<()> {
        drop(self.server);
        self.bed.stop()
    }

    fn run(&self, load: Load) -> Result<Measured> {
        let sandboxes = Sandboxes::make(load.pods)?;
        let mut measured = Measured::default();
        // The first round is not counted: everything is cold.
        for round in 0..=load.rounds {
            let mut turns = ALL;
            turns.rotate_left(round % ALL.len());
            let mut results = Vec::new();
            for who in turns {
                let ran = self.block(who, load, &self.adds(who, &sandboxes, round))?;
                if who == Who::Plugin {
                    results = results_of(&ran)?;
                }
                if round > 0 {
                    measured.add.of(who).extend(ran.iter().map(|ran| ran.took));
                }
            }
            let calls = self.bed.calls();
            for who in turns {
                let ran = self.block(who, load, &self.dels(who, &sandboxes, round, &results))?;
                if round > 0 {
                    measured.del.of(who).extend(ran.iter().map(|ran| ran.took));
                }
                // What the daemon does after a DEL must not disturb who is next.
                if who == Who::Plugin {
                    gone(&sandboxes, who)?;
                    self.bed.free(CAPACITY)?;
                }
            }
            self.clear(&sandboxes)?;
            ensure!(self.bed.calls() == calls, "the daemon called EC2 meanwhile: {}", self.bed.calls_by_action());
        }
        sandboxes.remove()?;
        Ok(measured)
    }

    fn block(&self, who: Who, load: Load, programs: &[Program]) -> Result<Vec<Ran>> {
        let netns = match who {
            Who::Plugin => self.bed.node().netns(),
            Who::Floor | Who::Raw => self.bed.bare().netns(),
        };
        run_all(netns, programs, load.at_a_time).with_context(|| format!("{who:?}, {} at a time", load.at_a_time))
    }

    fn adds(&self, who: Who, sandboxes: &Sandboxes, round: usize) -> Vec<Program> {
        let netns = sandboxes.of(who).iter().enumerate();
        match who {
            Who::Plugin => netns.map(|(at, netns)| self.plugin("ADD", netns, (round, at), None)).collect(),
            Who::Floor | Who::Raw => {
                netns.map(|(at, netns)| self.floor(who, Work::Add { netns: netns.path() }, at)).collect()
            }
        }
    }

    fn dels(&self, who: Who, sandboxes: &Sandboxes, round: usize, results: &[Value]) -> Vec<Program> {
        let netns = sandboxes.of(who).iter().enumerate();
        match who {
            Who::Plugin => {
                netns.map(|(at, netns)| self.plugin("DEL", netns, (round, at), Some(&results[at]))).collect()
            }
            Who::Floor | Who::Raw => netns.map(|(at, _)| self.floor(who, Work::Del, at)).collect(),
        }
    }

    fn plugin(&self, command: &str, netns: &Netns, (round, at): (usize, usize), previous: Option<&Value>) -> Program {
        let container_id = format!("{:016x}{round:024x}{at:024x}", std::process::id());
        let call = cni::Call::new(command, &container_id, &netns.path(), ("default", &format!("pod-{at}"))).configured(
            self.bed.node(),
            "1.0.0",
            previous,
        );
        let folder = self.plugin.parent().map(OsString::from).unwrap_or_default();
        Program {
            path: self.plugin.clone(),
            arguments: Vec::new(),
            environment: vec![
                ("CNI_COMMAND", call.command.into()),
                ("CNI_CONTAINERID", call.container_id.into()),
                ("CNI_NETNS", call.netns.into()),
                ("CNI_IFNAME", call.ifname.into()),
                ("CNI_ARGS", call.args.into()),
                ("CNI_PATH", folder),
            ],
            stdin: call.stdin,
        }
    }

    fn floor(&self, who: Who, work: Work, at: usize) -> Program {
        let call = if who == Who::Raw { Call::Raw } else { Call::Tonic };
        // Both floors share a namespace.
        let number = u16::try_from(at * 2 + usize::from(who == Who::Raw)).expect("there are a few dozen pods");
        let floor = Floor { work, call, socket: self.socket.clone(), number };
        Program { path: self.floor.clone(), arguments: floor.arguments(), ..Program::default() }
    }

    /// The floor leaves its links to us.
    fn clear(&self, sandboxes: &Sandboxes) -> Result<()> {
        self.bed.bare().netns().enter(|| Socket::open()?.send(Batch::from_iter([Change::delete_group(GROUP)])))??;
        gone(sandboxes, Who::Floor)?;
        gone(sandboxes, Who::Raw)
    }
}

/// Waits until the links are gone.
fn gone(sandboxes: &Sandboxes, who: Who) -> Result<()> {
    let none = || sandboxes.of(who).iter().all(|netns| matches!(has_link(netns), Ok(false))).then_some(());
    wait::until(PATIENCE, none)
        .with_context(|| format!("links of the {} were still there after {PATIENCE:?}", who.name()))
}

/// Is there an `eth0`?
fn has_link(netns: &Netns) -> Result<bool> {
    netns.enter(|| Ok(Socket::open()?.link_by_name("eth0")?.is_some()))?
}

fn results_of(ran: &[Ran]) -> Result<Vec<Value>> {
    let parse =
        |ran: &Ran| serde_json::from_str(&ran.stdout).with_context(|| format!("the plugin said {:?}", ran.stdout));
    ran.iter().map(parse).collect()
}

/// The pods' namespaces, for each who is measured.
#[derive(Debug)]
struct Sandboxes([Vec<Netns>; 3]);

impl Sandboxes {
    fn make(pods: usize) -> Result<Self> {
        let make = |who: Who| -> Result<Vec<Netns>> {
            (0..pods).map(|at| Netns::create(format!("{PREFIX}-{}-{at}", who.name()))).collect()
        };
        let [plugin, floor, raw] = ALL.map(make);
        Ok(Self([plugin?, floor?, raw?]))
    }

    fn of(&self, who: Who) -> &[Netns] {
        &self.0[who as usize]
    }

    fn remove(self) -> Result<()> {
        self.0.iter().flatten().try_for_each(Netns::remove)
    }
}
