//! `lab fault`: orders to the proxy of a running lab, over its admin path.

mod shown;

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    lab::EC2_ADDRESS,
    netns::Netns,
    node,
    proxy::admin::{
        BucketOrder, FaultKind, FaultOrder, FaultTime, LatencyOrder, MetadataOrder, PATH, ReachableOrder, StormOrder,
    },
    trouble::{Omitted, Spread},
};

/// What is to happen.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Order {
    /// EC2 answers with an error
    Refuse {
        /// The action, as `AssignPrivateIpAddresses`, or `any`
        action: String,
        /// The error code, as `RequestLimitExceeded`
        code: String,
        /// The error message
        #[arg(long)]
        message: Option<String>,
        #[command(flatten)]
        which: Calls,
        #[command(flatten)]
        when: When,
    },
    /// The connection ends without an answer
    Lose {
        /// The action, or `any`
        action: String,
        #[command(flatten)]
        which: Calls,
        #[command(flatten)]
        when: When,
    },
    /// No answer comes, and the connection stays open
    Hang {
        /// The action, or `any`
        action: String,
        #[command(flatten)]
        which: Calls,
        #[command(flatten)]
        when: When,
    },
    /// The answer takes longer
    Delay {
        /// The action, or `any`
        action: String,
        /// How much longer
        #[arg(value_parser = humantime::parse_duration)]
        time: Duration,
        #[command(flatten)]
        which: Calls,
    },
    /// A read is answered as it was a while ago
    Stale {
        /// The action, as `DescribeNetworkInterfaces`, or `any`
        action: String,
        /// How long ago, a minute at most
        #[arg(value_parser = humantime::parse_duration)]
        age: Duration,
        #[command(flatten)]
        which: Calls,
    },
    /// Everything above at moderate rates, until `clear`; also latencies with a long tail, and throttling
    Storm {
        /// Same seed, same storm
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// How long calls take from now on
    Latency {
        /// The action, or `any`
        action: String,
        /// `50ms`, `10ms..90ms` (each as likely) or `50ms~1s` (a long tail: median and 99th percentile)
        spread: Spread,
    },
    /// Throttle: an empty bucket refuses with RequestLimitExceeded. One for all nodes
    Bucket {
        /// The action, or `any`: a bucket for each that has none
        action: String,
        /// So many calls at once
        #[arg(long)]
        burst: u32,
        /// How long until one more may come
        #[arg(long, value_parser = humantime::parse_duration)]
        refill: Duration,
    },
    /// Trouble with instance metadata, on every node
    #[command(subcommand)]
    Metadata(OfMetadata),
    /// Show everything that goes wrong, each as the order that makes it so
    List,
    /// Back to how the lab began
    Clear,
    /// Show how many calls there were, by action
    Calls,
    /// Show the latest calls and what each was told
    Log,
    /// Show every ENI as it really is
    State,
    /// Cut EC2 off, or connect it again
    Reachable {
        /// `true` or `false`
        #[arg(action = clap::ArgAction::Set)]
        reachable: bool,
    },
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Lines,
    /// For programs.
    Json,
}

/// What metadata does.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OfMetadata {
    /// It is behind EC2
    Lag {
        /// How far, a minute at most
        #[arg(value_parser = humantime::parse_duration)]
        time: Duration,
    },
    /// It takes its time
    Latency {
        /// As of `lab fault latency`
        spread: Spread,
    },
    /// It leaves out an ENI or an address that it has
    Omit {
        /// The ENI's id, or the address
        what: Omitted,
        /// From so many readings of the list that has it
        #[arg(long, conflicts_with = "time")]
        reads: Option<u32>,
        /// Everywhere, for that long; without either it is one reading
        #[arg(long = "for", value_parser = humantime::parse_duration)]
        time: Option<Duration>,
    },
    /// Cut it off, or connect it again
    Reachable {
        /// `true` or `false`
        #[arg(action = clap::ArgAction::Set)]
        reachable: bool,
    },
}

/// Which calls of the action.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Calls {
    /// Let so many pass first
    #[arg(long, default_value_t = 0)]
    skip: u32,
    /// How many calls; 0: all that follow
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// The probability for each of them
    #[arg(long, default_value_t = 1.0)]
    chance: f64,
}

/// Whether they do what was asked all the same.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct When {
    /// The call does what was asked, but the caller is not told
    #[arg(long)]
    after_effect: bool,
}

impl Order {
    /// Sends it, to a lab or to the proxy at an address, and prints the answer.
    pub(crate) fn send(&self, prefix: &str, at: Option<SocketAddr>, form: Form) -> Result<ExitCode> {
        let (method, path, body) = self.request();
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {PATH}{path} HTTP/1.1\r\nHost: {EC2_ADDRESS}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = if let Some(address) = at {
            node::exchange(TcpStream::connect(address), address, &request)?
        } else {
            // Every node reaches the same EC2.
            let netns = Netns::named(format!("{prefix}-a"));
            ensure!(netns.exists(), "no lab with the prefix {prefix} is up");
            node::request(&netns, EC2_ADDRESS, &request)?
        };
        ensure!((200..300).contains(&status), "{method} {PATH}{path}: {status} {answer}");
        let said = match (form, self) {
            (Form::Lines, Self::List) => shown::list(&answer)?,
            (Form::Lines, Self::Calls) => shown::calls(&answer)?,
            (Form::Lines, Self::Log) => shown::log(&answer)?,
            (Form::Lines, Self::State) => shown::state(&answer)?,
            _ => answer,
        };
        if !said.is_empty() {
            // A closed pipe is nobody's problem.
            drop(writeln!(io::stdout(), "{said}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> Request {
        match self {
            Self::Refuse { action, code, message, which, when } => {
                let fault = order(FaultKind::Refuse, action, which);
                let (code, message) = (Some(code.clone()), message.clone());
                post("faults", &FaultOrder { code, message, when: when.into(), ..fault })
            }
            Self::Lose { action, which, when } => {
                post("faults", &FaultOrder { when: when.into(), ..order(FaultKind::Lose, action, which) })
            }
            Self::Hang { action, which, when } => {
                post("faults", &FaultOrder { when: when.into(), ..order(FaultKind::Hang, action, which) })
            }
            Self::Delay { action, time, which } => {
                post("faults", &FaultOrder { delay_ms: Some(ms(*time)), ..order(FaultKind::Delay, action, which) })
            }
            Self::Stale { action, age, which } => {
                post("faults", &FaultOrder { age_ms: Some(ms(*age)), ..order(FaultKind::Stale, action, which) })
            }
            Self::Storm { seed } => post("storm", &StormOrder { seed: *seed }),
            Self::Latency { action, spread } => {
                post("latency", &LatencyOrder { action: named(action), spread: spread.to_string() })
            }
            Self::Bucket { action, burst, refill } => {
                post("buckets", &BucketOrder { action: named(action), burst: *burst, refill_ms: ms(*refill) })
            }
            Self::Metadata(OfMetadata::Reachable { reachable }) => {
                post("reachable", &ReachableOrder { metadata: Some(*reachable), ec2: None })
            }
            Self::Metadata(order) => post("metadata", &MetadataOrder::from(order)),
            Self::Reachable { reachable } => {
                post("reachable", &ReachableOrder { ec2: Some(*reachable), metadata: None })
            }
            Self::List => ("GET", "faults", None),
            Self::Clear => ("DELETE", "faults", None),
            Self::Calls => ("GET", "calls", None),
            Self::Log => ("GET", "log", None),
            Self::State => ("GET", "state", None),
        }
    }
}

/// Method, path below the admin path, and body.
type Request = (&'static str, &'static str, Option<String>);

fn post(path: &'static str, order: &impl Serialize) -> Request {
    let body = serde_json::to_string(order).expect("orders have string keys and no failing parts");
    ("POST", path, Some(body))
}

fn order(kind: FaultKind, action: &str, which: &Calls) -> FaultOrder {
    let Calls { skip, count, chance } = *which;
    FaultOrder { action: named(action), skip, count, chance, ..FaultOrder::of(kind) }
}

fn named(action: &str) -> Option<String> {
    (action != "any").then(|| action.to_owned())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<&When> for FaultTime {
    fn from(when: &When) -> Self {
        if when.after_effect { Self::After } else { Self::Before }
    }
}

impl From<&OfMetadata> for MetadataOrder {
    fn from(order: &OfMetadata) -> Self {
        let none = Self::default();
        match order {
            OfMetadata::Lag { time } => Self { lag_ms: Some(ms(*time)), ..none },
            OfMetadata::Latency { spread } => Self { latency: Some(spread.to_string()), ..none },
            OfMetadata::Omit { what, reads, time } => {
                Self { omit: Some(what.to_string()), reads: *reads, for_ms: time.map(ms), ..none }
            }
            // Another order.
            OfMetadata::Reachable { .. } => none,
        }
    }
}
