//! The container runtime's side of CNI: one call of the plugin, as a runtime makes it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{netns::Netns, node::Node};

/// One call. Every field can be set wrong on purpose.
#[derive(Debug, Clone)]
pub struct Call {
    /// `CNI_COMMAND`
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`
    pub netns: PathBuf,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// What the plugin reads.
    pub stdin: String,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Exit status 0: the result, null when the plugin printed nothing.
    Done(Value),
    /// An error object.
    Refused(Refusal),
    /// Neither: a plugin must never do this.
    Nonsense {
        /// Exit status.
        status: Option<i32>,
        /// Standard output.
        stdout: String,
        /// Standard error.
        stderr: String,
    },
}

/// CNI's error object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("the plugin refused with code {code}: {msg}{}", if details.is_empty() { String::new() } else { format!(" ({details})") })]
pub struct Refusal {
    /// 11: try again later.
    pub code: u32,
    /// The sentence.
    pub msg: String,
    /// More of it.
    #[serde(default)]
    pub details: String,
}

impl Call {
    /// A well-formed call for a pod `namespace/name`.
    pub fn new(command: &str, container_id: &str, netns: &Path, pod: (&str, &str)) -> Self {
        let (namespace, name) = pod;
        Self {
            command: command.to_owned(),
            container_id: container_id.to_owned(),
            netns: netns.to_owned(),
            ifname: "eth0".to_owned(),
            args: format!(
                "K8S_POD_INFRA_CONTAINER_ID={container_id};IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID=uid-{name}"
            ),
            stdin: String::new(),
        }
    }

    /// With the network configuration of a node, and the result of the ADD if there was one.
    #[must_use]
    pub fn configured(self, node: &Node, version: &str, previous: Option<&Value>) -> Self {
        self.in_run_dir(&node.run_dir(), version, previous)
    }

    /// The same for a daemon's run directory.
    #[must_use]
    pub(crate) fn in_run_dir(mut self, run_dir: &Path, version: &str, previous: Option<&Value>) -> Self {
        let mut configuration = json!({
            "cniVersion": version,
            "name": "berth",
            "type": "berth-cni",
            "runDir": run_dir,
        });
        if let Some(previous) = previous {
            configuration["prevResult"] = previous.clone();
        }
        self.stdin = configuration.to_string();
        self
    }

    /// Runs the plugin in the node, with this environment and nothing else.
    pub fn run(&self, node: &Node) -> Result<Reply> {
        self.run_in(node.netns(), &node.program("berth-cni")?)
    }

    pub(crate) fn run_in(&self, node: &Netns, plugin: &Path) -> Result<Reply> {
        let mut command = Command::new(plugin);
        command
            .env_clear()
            .env("CNI_COMMAND", &self.command)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", &self.ifname)
            .env("CNI_ARGS", &self.args)
            .env("CNI_PATH", plugin.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = node
            .enter(|| {
                let mut child = command.spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    // A plugin may answer without reading everything.
                    let _ = stdin.write_all(self.stdin.as_bytes());
                }
                child.wait_with_output()
            })?
            .context("running berth-cni")?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let nonsense = |stdout: String| Reply::Nonsense {
            status: output.status.code(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        Ok(if output.status.success() {
            match stdout.trim() {
                "" => Reply::Done(Value::Null),
                text => serde_json::from_str(text).map_or_else(|_| nonsense(stdout.clone()), Reply::Done),
            }
        } else {
            serde_json::from_str(&stdout).map_or_else(|_| nonsense(stdout.clone()), Reply::Refused)
        })
    }
}

impl Reply {
    /// The result, or why there is none.
    pub fn done(self) -> Result<Value> {
        match self {
            Self::Done(result) => Ok(result),
            Self::Refused(refusal) => Err(refusal.into()),
            nonsense @ Self::Nonsense { .. } => Err(anyhow::anyhow!("the plugin answered nonsense: {nonsense:?}")),
        }
    }
}
