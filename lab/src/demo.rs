//! `lab demo`: everything that Berth does today, shown once, each claim checked as it is made.

use std::{
    fmt::Display,
    io::{IsTerminal, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    Backend,
    claims::{self, Outcome},
    cli, fabric,
    fabric::Witness,
    interrupt,
    lab::Lab,
    node::{Ipamd, Node},
    pods::{Pod, at_once},
    settings::LabSettings,
    teeth::Side,
    traffic::Transport,
    wait,
};

/// Spare addresses per node: small, so that the pool has to grow while pods wait.
const WARM_ADDRESSES: usize = 2;

/// How the daemons are set for the demo, beyond the defaults.
const ENVIRONMENT: [(&str, &str); 3] =
    [("WARM_IP_TARGET", "2"), ("BERTH_SHRINK_AFTER", "3s"), ("IP_COOLDOWN_PERIOD", "1")];

/// How long the pool may take to shrink: the surplus has to last, the address to cool, EC2 to detach.
const SHRINK: Duration = Duration::from_secs(40);

/// Runs the demo; the exit status says whether everything that it claims happened.
pub(crate) fn run(settings: LabSettings, pods: usize) -> Result<ExitCode> {
    for program in ["ipamd", "berth-cni", "ipamctl"] {
        settings.programs.path(program)?;
    }
    ensure!(settings.nodes.len() >= 2, "the demo shows traffic between nodes: it needs two");
    let prefix = settings.prefix.clone();
    interrupt::guarded(&prefix, move || {
        let mut show = Show::new();
        perform(settings, pods, &mut show)?;
        Ok(show.verdict())
    })
}

fn perform(settings: LabSettings, count: usize, show: &mut Show) -> Result<()> {
    let (latency, device) = (settings.trouble.latency.usual.to_string(), settings.world.ec2.times.device);
    let with = match &settings.backend {
        Backend::Embedded => "",
        Backend::LocalStack(_) | Backend::Running(_) => ", with LocalStack as its EC2",
    };
    show.step(format!("bringing up a VPC on this machine{with}"));
    let lab = Lab::start(settings)?;
    line(format!(
        "VPC {}, subnet {}: {}",
        lab.settings().vpc,
        lab.settings().subnet,
        cli::names(&lab.settings().nodes)
    ));
    line(format!("EC2 takes {latency} a call; an attached ENI appears in its instance after {device:?}"));
    line(format!(
        "outside: an internet host {}, an on-premises host {}",
        fabric::INTERNET_ADDRESS,
        fabric::ONPREM_ADDRESS
    ));

    let settings: Vec<String> = ENVIRONMENT.iter().map(|(name, value)| format!("{name}={value}")).collect();
    show.step(format!("starting ipamd on every node, with {}", settings.join(" ")));
    let daemons: Vec<Ipamd> = lab.nodes().iter().map(|node| node.start_ipamd(&ENVIRONMENT)).collect::<Result<_>>()?;
    for node in lab.nodes() {
        line(format!("node {} is {} at {}", node.name(), node.instance(), node.host().address));
    }

    show.step(format!(
        "starting {count} pods at once: more than the first ENIs hold, so ENIs are attached while pods wait"
    ));
    let mut pods = (0..count).map(|index| {
        let node = &lab.nodes()[index % lab.nodes().len()];
        node.pod(&format!("pod-{:02}", index + 1))
    });
    let mut pods: Vec<Pod> = pods.by_ref().collect::<Result<_>>()?;
    let begun = Instant::now();
    add_all(&lab, &mut pods)?;
    let enis: usize = lab.nodes().iter().map(|node| lab.witness().enis_of(node.netns()).len()).sum();
    line(format!("all {count} pods have addresses after {:.1?}, on {enis} ENIs", begun.elapsed()));

    show.step("who talks to whom, what the far side sees, and which ENIs the packets cross");
    let [node, other, ..] = lab.nodes() else { bail!("the demo needs two nodes") };
    let witness = lab.witness();
    let side = |node| Side::of(&witness, node, &pods).context("pods on second ENIs are needed: start more of them");
    let (near, far) = (side(node)?, side(other)?);
    for outcome in paths(&witness, &near, &far) {
        show.outcome(&witness, &outcome);
    }

    show.step("what the pool of node a says");
    let pool = node.ipamctl(&["pool"])?;
    print!("{}", String::from_utf8_lossy(&pool.stdout));
    show.claim(pool.status.success(), "ipamctl pool answers", String::from_utf8_lossy(&pool.stderr).trim());

    show.step(format!("deleting the pods; the pool gives back what is more than {WARM_ADDRESSES} spare addresses"));
    let begun = Instant::now();
    for result in at_once(&mut pods, Pod::del) {
        result?;
    }
    line(format!("all {count} pods are deleted after {:.1?}", begun.elapsed()));
    let outcome = claims::gone(&lab.witness(), &far.node, near.on_secondary.address);
    show.outcome(&lab.witness(), &outcome);
    drop(pods);
    shrink(&lab, show);

    show.step("stopping the daemons and taking everything down");
    for daemon in daemons {
        let status = daemon.stop()?;
        show.claim(status.success(), "ipamd ends by itself at SIGTERM", status);
    }
    lab.stop()
}

fn add_all(lab: &Lab, pods: &mut [Pod]) -> Result<()> {
    let results = at_once(pods, |pod| {
        let label = pod.label();
        let added = pod.add().cloned();
        match &added {
            Ok(added) => {
                let eni = claims::eni_of(&lab.witness(), added.address);
                line(format!("{label}  {:<15}  {eni}  after {:.2?}", added.address, added.took));
            }
            Err(error) => line(format!("{label}  {error:#}")),
        }
        added
    });
    for result in results {
        result?;
    }
    Ok(())
}

fn paths(witness: &Witness, near: &Side, far: &Side) -> Vec<Outcome> {
    let (tcp, udp) = (Transport::Tcp, Transport::Udp);
    let (first, second) = (&near.on_primary, &near.on_secondary);
    vec![
        claims::same_node(witness, first, second, tcp),
        claims::across(witness, first, &far.on_primary, tcp),
        claims::across(witness, first, &far.on_secondary, udp),
        claims::across(witness, second, &far.on_primary, tcp),
        claims::across(witness, second, &far.on_secondary, udp),
        claims::same_node(witness, &near.node, second, tcp),
        claims::to_internet(witness, &near.node, first, tcp),
        claims::to_internet(witness, &near.node, second, tcp),
        claims::from_onprem(witness, second, tcp),
        claims::by_node_port(witness, &near.node, second, tcp),
        claims::node_by_eni(witness, &near.node, near.second_eni.address, tcp),
        claims::spoofed(witness, second, first.address, &far.on_primary),
    ]
}

fn shrink(lab: &Lab, show: &mut Show) {
    let begun = Instant::now();
    let mut last = String::new();
    let minimum = wait::until(SHRINK, || {
        let pools: Vec<(usize, usize)> = lab.nodes().iter().map(|node| pool_of(lab, node)).collect();
        let words: Vec<String> = lab
            .nodes()
            .iter()
            .zip(&pools)
            .map(|(node, (enis, addresses))| format!("node {}: {enis} ENIs, {addresses} addresses", node.name()))
            .collect();
        let now = words.join("; ");
        if now != last {
            line(format!("{now}  after {:.1?}", begun.elapsed()));
            last = now;
        }
        pools.iter().all(|pool| *pool == (1, WARM_ADDRESSES)).then_some(())
    });
    show.claim(minimum.is_some(), "the pools are at their minimum: one ENI and the spare addresses", &last);
}

/// ENIs, and addresses for pods, that EC2 has on a node.
fn pool_of(lab: &Lab, node: &Node) -> (usize, usize) {
    let attached = lab.truth().attached(node.instance());
    let addresses: usize = attached.iter().map(|eni| eni.addresses.len().saturating_sub(1)).sum();
    (attached.len(), addresses)
}

/// What is printed, and whether everything was so.
struct Show {
    begun: Instant,
    color: bool,
    claims: usize,
    failed: Vec<String>,
}

impl Show {
    fn new() -> Self {
        let color = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { begun: Instant::now(), color, claims: 0, failed: Vec::new() }
    }

    fn step(&self, what: impl Display) {
        println!(
            "\n{}[{:5.1}s] {what}{}",
            self.paint("\x1b[1m"),
            self.begun.elapsed().as_secs_f32(),
            self.paint("\x1b[0m")
        );
    }

    fn claim(&mut self, happened: bool, what: impl Display, otherwise: impl Display) {
        if interrupt::ending() {
            return;
        }
        self.claims += 1;
        if happened {
            println!("  {}yes{}  {what}", self.paint("\x1b[32m"), self.paint("\x1b[0m"));
        } else {
            println!("  {}NO {}  {what}: {otherwise}", self.paint("\x1b[31m"), self.paint("\x1b[0m"));
            self.failed.push(what.to_string());
        }
    }

    fn outcome(&mut self, witness: &Witness, outcome: &Outcome) {
        self.claim(outcome.holds(), outcome.summary(witness), outcome.problems.join("; "));
    }

    fn paint(&self, code: &'static str) -> &'static str {
        if self.color { code } else { "" }
    }

    fn verdict(&self) -> ExitCode {
        let took = self.begun.elapsed().as_secs_f32();
        if self.failed.is_empty() {
            println!("\nAll {} claims happened, in {took:.1} s. Nothing is left on the machine.", self.claims);
            ExitCode::SUCCESS
        } else {
            println!("\n{} of {} claims did not happen:", self.failed.len(), self.claims);
            for claim in &self.failed {
                println!("  {claim}");
            }
            ExitCode::FAILURE
        }
    }
}

fn line(what: impl Display) {
    // What is being abandoned has nothing more to say.
    if !interrupt::ending() {
        println!("  {what}");
    }
}
