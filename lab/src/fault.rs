//! `lab fault`: orders to the EC2 of a running lab, over its own HTTP path.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{lab::EC2_ADDRESS, netns::Netns, node};

/// What is to happen.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Order {
    /// EC2 answers with an error
    Refuse {
        /// The action, as `AssignPrivateIpAddresses`
        action: String,
        /// The error code, as `RequestLimitExceeded`
        code: String,
        #[command(flatten)]
        how: How,
    },
    /// The connection ends without an answer
    Lose {
        /// The action
        action: String,
        #[command(flatten)]
        how: How,
    },
    /// No answer comes, and the connection stays open
    Hang {
        /// The action
        action: String,
        #[command(flatten)]
        how: How,
    },
    /// The answer takes longer
    Delay {
        /// The action
        action: String,
        /// How much longer
        #[arg(value_parser = humantime::parse_duration)]
        time: Duration,
        /// How many calls; 0: all
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
    /// Show what is still to be disturbed
    List,
    /// Disturb nothing any more
    Clear,
    /// Show how many calls there were, by action
    Calls,
    /// Show every ENI as it really is
    State,
    /// Cut EC2 off, or connect it again
    Reachable {
        /// `true` or `false`
        #[arg(action = clap::ArgAction::Set)]
        reachable: bool,
    },
}

/// How many calls, and whether they do what was asked all the same.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct How {
    /// How many calls; 0: all that follow
    #[arg(long, default_value_t = 1)]
    count: u32,
    /// The call does what was asked, but the caller is not told
    #[arg(long)]
    after_effect: bool,
}

impl Order {
    /// Sends it, and prints the answer.
    pub(crate) fn send(&self, prefix: &str) -> Result<ExitCode> {
        let (method, path, body) = self.request();
        // Every node reaches the same EC2.
        let netns = Netns::named(format!("{prefix}-a"));
        ensure!(netns.exists(), "no lab with the prefix {prefix} is up");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {EC2_ADDRESS}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = node::request(&netns, EC2_ADDRESS, &request)?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        if !answer.is_empty() {
            println!("{answer}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> (&'static str, &'static str, Option<Value>) {
        let faults = "/_lab/faults";
        let order = |kind: &str, action: &str, how: &How| {
            json!({
                "action": action, "kind": kind, "count": how.count,
                "when": if how.after_effect { "after" } else { "before" },
            })
        };
        match self {
            Self::Refuse { action, code, how } => {
                let mut body = order("refuse", action, how);
                body["code"] = json!(code);
                ("POST", faults, Some(body))
            }
            Self::Lose { action, how } => ("POST", faults, Some(order("lose", action, how))),
            Self::Hang { action, how } => ("POST", faults, Some(order("hang", action, how))),
            Self::Delay { action, time, count } => {
                let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let body = json!({ "action": action, "kind": "delay", "count": count, "delay_ms": milliseconds });
                ("POST", faults, Some(body))
            }
            Self::List => ("GET", faults, None),
            Self::Clear => ("DELETE", faults, None),
            Self::Calls => ("GET", "/_lab/calls", None),
            Self::State => ("GET", "/_lab/state", None),
            Self::Reachable { reachable } => ("PATCH", "/_lab/settings", Some(json!({ "ec2_reachable": reachable }))),
        }
    }
}
