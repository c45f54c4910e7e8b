//! A node with nothing but the daemon on it, and one like it without, for measuring.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lab::{
    Lab, LabSettings,
    node::{Ipamd, Node},
    trouble::Latency,
    wait,
};
use sim::Times;

/// What every namespace's name begins with.
pub const PREFIX: &str = "bben";

/// 8 ENIs with 30 addresses each.
pub const INSTANCE_TYPE: &str = "m5.4xlarge";

/// Addresses for pods on it.
pub const CAPACITY: usize = 8 * 29;

/// How long anything of the lab may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A VPC with two nodes. The daemon runs on one of them.
#[derive(Debug)]
pub struct Bed {
    // Dropped first: the lab takes its namespace away. None while it is being started again.
    ipamd: Option<Ipamd>,
    node: Node,
    bare: Node,
    lab: Lab,
}

impl Bed {
    /// Starts all of it. `prepare` sees the VPC before the daemon does.
    pub fn start(
        latency: Duration,
        times: Times,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        Self::of_type(INSTANCE_TYPE, latency, times, environment, prepare)
    }

    /// The same on another instance type.
    pub fn of_type(
        instance_type: &str,
        latency: Duration,
        times: Times,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<Self> {
        let mut settings = LabSettings::with_prefix(PREFIX).with_nodes(&[instance_type, instance_type]);
        settings.trouble.latency = Latency::fixed(latency);
        settings.world.ec2.times = times;
        let lab = Lab::start(settings).context("starting a lab")?;
        prepare(&lab)?;
        lab.ec2().forget_calls();
        let [node, bare] = lab.nodes() else { bail!("the lab has {} nodes", lab.nodes().len()) };
        let (node, bare) = (node.clone(), bare.clone());
        let ipamd = node.start_ipamd(environment)?;
        Ok(Self { ipamd: Some(ipamd), node, bare, lab })
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node without the daemon.
    pub fn bare(&self) -> &Node {
        &self.bare
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// EC2 calls of the daemon, since it started.
    pub fn calls(&self) -> u64 {
        self.lab.ec2().calls().values().sum()
    }

    /// Each action and how often, for a remark.
    pub fn calls_by_action(&self) -> String {
        let calls = self.lab.ec2().calls();
        calls.iter().map(|(action, count)| format!("{action} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// Waits until the daemon has not called EC2 for that long.
    pub fn quiet(&self, time: Duration) -> Result<()> {
        let begun = self.lab.ec2().now();
        let calm = || {
            let ec2 = self.lab.ec2();
            let last = ec2.log().last().map_or(begun, |call| call.at.max(begun));
            (ec2.now().saturating_sub(last) >= time).then_some(())
        };
        wait::until(PATIENCE, calm)
            .with_context(|| format!("the daemon went on calling EC2 for {PATIENCE:?}: {}", self.calls_by_action()))
    }

    /// Waits until so many addresses can be handed out.
    pub fn free(&self, wanted: usize) -> Result<()> {
        self.addresses("Free", wanted)
    }

    /// Waits until at least so many addresses are in this state.
    pub fn addresses(&self, state: &str, wanted: usize) -> Result<()> {
        let name = format!("berth_addresses{{state=\"{state}\",family=\"ipv4\"}} ");
        let mut seen = String::new();
        let enough = || {
            let (_, text) = self.node.get("/metrics").ok()?;
            let held = text.lines().find_map(|line| line.strip_prefix(&name));
            held.unwrap_or("no such line").clone_into(&mut seen);
            held.and_then(|held| held.parse::<usize>().ok()).filter(|held| *held >= wanted)
        };
        match wait::until(PATIENCE, enough) {
            Some(_) => Ok(()),
            None => bail!(
                "{wanted} addresses were not {state} within {PATIENCE:?} ({seen} were)\n{}",
                self.node.log_tail(20)
            ),
        }
    }

    /// Ends the daemon as a crash does, starts it again, and says how long it took from there until `work` was done.
    pub fn restart(&mut self, environment: &[(&str, &str)], work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        if let Some(ipamd) = self.ipamd.take() {
            ipamd.kill()?;
        }
        let begun = Instant::now();
        self.ipamd = Some(self.node.spawn_ipamd(environment)?);
        work()?;
        Ok(begun.elapsed())
    }

    /// VmRSS of the daemon, in MiB.
    pub fn resident(&self) -> Result<f64> {
        let pid = self.ipamd.as_ref().context("the daemon runs")?.pid();
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a VmRSS")?;
        let kib: u32 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is a number of kB")?;
        Ok(f64::from(kib) / 1024.0)
    }

    /// Takes it all down, in order.
    pub fn stop(self) -> Result<()> {
        let begun = Instant::now();
        if let Some(ipamd) = self.ipamd {
            ipamd.stop()?;
        }
        tracing::debug!(seconds = begun.elapsed().as_secs_f64(), "stopped the daemon");
        drop((self.node, self.bare));
        self.lab.stop()
    }
}
