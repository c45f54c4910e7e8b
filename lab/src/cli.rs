//! The command line of `lab`.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    Backend, background, demo, fault,
    interrupt::Signals,
    localstack::{self, Python},
    play, proxy,
    settings::{LabSettings, NodeSettings},
    storm,
    trouble::{Faults, Latency, Trouble},
};

/// Bad usage (sysexits.h).
const USAGE: u8 = 64;

/// A VPC on one machine: EC2's API, instance metadata, and ENIs that are real links between network namespaces.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up a VPC with nodes and leave it running
    Up {
        #[command(flatten)]
        shape: Shape,
        /// Do not start ipamd on the nodes
        #[arg(long)]
        bare: bool,
    },
    /// Take it down again, whatever state it is in
    Down {
        #[command(flatten)]
        which: Which,
    },
    /// Run a program inside a node (`a`) or a pod (`a-NAME`), with Berth's environment
    Exec {
        #[command(flatten)]
        which: Which,
        /// The node: a, b, ...
        node: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Add a pod to a node of a running lab, or delete one
    Pod {
        #[command(flatten)]
        which: Which,
        #[command(subcommand)]
        order: play::Order,
    },
    /// Serve EC2 alone, without nodes, or make trouble in front of another EC2
    Ec2 {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:4566")]
        listen: SocketAddr,
        /// The other EC2, as 127.0.0.1:4567
        #[arg(long)]
        backend: Option<SocketAddr>,
    },
    /// Show everything once: pods on two nodes, every path between them, and the pool shrinking afterwards
    Demo {
        #[command(flatten)]
        shape: Shape,
        /// Pods, over all nodes
        #[arg(long, default_value_t = 30)]
        pods: usize,
    },
    /// Pods in churn, daemons killed at random moments, EC2 unwell; afterwards everything has to agree
    Storm {
        /// What its namespaces' names begin with
        #[arg(long, default_value = "berth-storm")]
        prefix: String,
        /// How often a daemon is killed
        #[arg(long, default_value_t = 50)]
        kills: usize,
        /// How many pods there may be at once, over both nodes
        #[arg(long, default_value_t = 60)]
        pods: usize,
        /// What decides the schedule [default: another one each time]
        #[arg(long)]
        seed: Option<u64>,
        /// A subnet so small that addresses soon come to the other node; may take minutes to agree afterwards
        #[arg(long)]
        crowded: bool,
        #[command(flatten)]
        ec2: Ec2,
    },
    /// Make trouble in a running lab: between its nodes and EC2, and with their metadata
    Fault {
        #[command(flatten)]
        which: Which,
        /// Not the lab's EC2, but one that `lab ec2` serves here, as 127.0.0.1:4566
        #[arg(long)]
        at: Option<SocketAddr>,
        /// Print what is asked for as JSON
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        fault: fault::Order,
    },
    /// What `up` leaves running
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        shape: Shape,
        #[arg(long)]
        bare: bool,
    },
}

/// Which lab.
#[derive(Debug, Clone, Args)]
struct Which {
    /// What its namespaces' names begin with
    #[arg(long, default_value = "berth-lab")]
    prefix: String,
}

/// What a new lab looks like.
#[derive(Debug, Clone, Args)]
struct Shape {
    /// What its namespaces' names begin with [default: berth-lab, of the demo berth-demo]
    #[arg(long)]
    prefix: Option<String>,
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=26))]
    nodes: u8,
    /// Their instance type
    #[arg(long, default_value = "m5.large")]
    instance_type: String,
    /// How long an EC2 call takes
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    call_latency: Duration,
    /// How long after an attach the instance sees the device
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    device_delay: Duration,
    #[command(flatten)]
    ec2: Ec2,
}

/// Which EC2 a new lab has.
#[derive(Debug, Clone, Args)]
struct Ec2 {
    /// Which EC2 it has
    #[arg(long, value_enum, default_value_t)]
    backend: BackendName,
    /// The python that has LocalStack, as localstack/venv.sh prints it
    #[arg(long, env = localstack::PYTHON, value_name = "PATH")]
    localstack_python: Option<PathBuf>,
}

/// An EC2 by its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// The lab's own
    #[default]
    Embedded,
    /// A LocalStack of the lab's own
    Localstack,
}

/// Parses and does; the exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // A closed pipe is nobody's problem.
            let _ = error.print();
            return if usage { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> Result<ExitCode> {
        match self {
            Self::Up { shape, bare } => background::up(&shape.settings("berth-lab")?, &shape.words(bare)),
            Self::Hold { shape, bare } => background::hold(shape.settings("berth-lab")?, bare),
            Self::Down { which } => background::down(&which.prefix),
            Self::Exec { which, node, program } => background::exec(&which.prefix, &node, &program),
            Self::Pod { which, order } => order.carry_out(&which.prefix),
            Self::Ec2 { listen, backend } => serve_ec2(listen, backend),
            Self::Demo { shape, pods } => demo::run(shape.settings("berth-demo")?, pods),
            Self::Storm { prefix, kills, pods, seed, crowded, ec2 } => {
                let mut settings = storm::Settings::new(&prefix, seed.unwrap_or_else(storm::any_seed));
                settings.lab.backend = ec2.backend()?;
                let settings = if crowded { settings.crowded() } else { settings };
                storm::show(storm::Settings { kills, pods, ..settings })
            }
            Self::Fault { which, at, json, fault } => {
                fault.send(&which.prefix, at, if json { fault::Form::Json } else { fault::Form::Lines })
            }
        }
    }
}

impl Shape {
    fn settings(&self, prefix: &str) -> Result<LabSettings> {
        let prefix = self.prefix.clone().unwrap_or_else(|| prefix.to_owned());
        let types: Vec<&str> = (0..self.nodes).map(|_| self.instance_type.as_str()).collect();
        let mut settings = LabSettings::with_prefix(prefix).with_nodes(&types);
        settings.trouble.latency = Latency::fixed(self.call_latency);
        settings.world.ec2.times.device = self.device_delay;
        settings.backend = self.ec2.backend()?;
        Ok(settings)
    }

    /// The same on a command line.
    fn words(&self, bare: bool) -> Vec<String> {
        let Self { prefix: _, nodes, instance_type, call_latency, device_delay, ec2 } = self;
        let mut words = vec![
            "hold".to_owned(),
            format!("--nodes={nodes}"),
            format!("--instance-type={instance_type}"),
            format!("--call-latency={}", humantime::format_duration(*call_latency)),
            format!("--device-delay={}", humantime::format_duration(*device_delay)),
        ];
        words.extend(ec2.words());
        words.extend(bare.then(|| "--bare".to_owned()));
        words
    }
}

impl Ec2 {
    fn backend(&self) -> Result<Backend> {
        Ok(match (self.backend, &self.localstack_python) {
            (BackendName::Embedded, _) => Backend::Embedded,
            (BackendName::Localstack, Some(python)) => Backend::LocalStack(Python::at(python)?),
            (BackendName::Localstack, None) => Backend::LocalStack(Python::of_the_environment()?),
        })
    }

    /// The same on a command line.
    fn words(&self) -> Vec<String> {
        let backend = self.backend.to_possible_value().expect("no name is hidden");
        let python = self.localstack_python.as_ref().map(|path| format!("--localstack-python={}", path.display()));
        [format!("--backend={}", backend.get_name())].into_iter().chain(python).collect()
    }
}

fn serve_ec2(listen: SocketAddr, backend: Option<SocketAddr>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match backend {
        None => eprintln!("EC2 at http://{listen}, region us-west-2, empty: make a VPC first. Ctrl-C ends it."),
        Some(backend) => eprintln!("The EC2 of http://{backend} at http://{listen}. Ctrl-C ends it."),
    }
    let LabSettings { world, trouble, .. } = LabSettings::default();
    let trouble = if backend.is_some() { Trouble::default() } else { trouble };
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let served = proxy::run(listen, backend, world, Faults::new(trouble));
        tokio::select! {
            served = served => served.map(|()| ExitCode::SUCCESS).map_err(Into::into),
            _ = signals.next() => Ok(ExitCode::SUCCESS),
        }
    })
}

/// For people: `a (m5.large), b (m5.large)`.
pub(crate) fn names(nodes: &[NodeSettings]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("{} ({})", node.name, node.instance_type)).collect();
    names.join(", ")
}
