//! `lab pod`: one pod more in a lab that is up, or one less, by hand.

use std::{process::ExitCode, result};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::{
    cni::{Call, Reply},
    netns::Netns,
    settings::{LabSettings, Programs, node_directory},
};

/// What to do with a pod.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Order {
    /// A sandbox wired by the plugin; prints the plugin's answer
    Add(Which),
    /// Unwired and removed
    Del(Which),
}

/// Which pod.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The node: a, b, ...
    node: String,
    /// The pod's name
    #[arg(value_parser = plain)]
    pod: String,
}

impl Order {
    /// Does it; the answer is what the plugin said.
    pub(crate) fn carry_out(&self, prefix: &str) -> Result<ExitCode> {
        let (command, which) = match self {
            Self::Add(which) => ("ADD", which),
            Self::Del(which) => ("DEL", which),
        };
        let Which { node, pod } = which;
        let machine = Netns::named(format!("{prefix}-{node}"));
        ensure!(machine.exists(), "no lab with the prefix {prefix} and a node {node} is up");
        let name = format!("{prefix}-{node}-{pod}");
        let netns = if command == "ADD" { Netns::create(&name)? } else { Netns::named(&name) };
        let call = Call::new(command, &name, &netns.path(), ("default", pod)).in_run_dir(
            &node_directory(prefix, node),
            "1.0.0",
            None,
        );
        let plugin = Programs::beside_this_one().path("berth-cni")?;
        let reply = call.run_in(&machine, &plugin)?;
        let refused = matches!(reply, Reply::Refused(_) | Reply::Nonsense { .. });
        if refused == (command == "ADD") {
            netns.remove().context("removing the pod's namespace")?;
        }
        let result = reply.done()?;
        if !result.is_null() {
            println!("{result:#}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A pod's name becomes part of a namespace's.
fn plain(name: &str) -> result::Result<String, String> {
    if LabSettings::is_plain(name) { Ok(name.to_owned()) } else { Err("letters, digits and hyphens".to_owned()) }
}
