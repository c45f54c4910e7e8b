//! Network namespaces of the lab: made by name, entered for a moment by a thread of their own, removed.
//!
//! Owns nothing but names below `/run/netns`. No thread of a runtime ever changes namespace: [`Netns::enter`] starts a
//! thread, and what it opens (a socket, a child process) stays in the namespace after the thread is gone.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::interrupt;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A network namespace, by name. Cheap to clone; dropping it removes nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// The namespace of this name, whether it exists or not.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Makes the namespace, with its loopback up.
    pub fn create(name: impl Into<String>) -> Result<Self> {
        let netns = Self::named(name);
        ensure!(!interrupt::ending(), "not making {}: everything is being taken down", netns.name);
        succeed(Command::new("ip").args(["netns", "add", &netns.name]))?;
        succeed(Command::new("ip").args(["-n", &netns.name, "link", "set", "lo", "up"]))?;
        Ok(netns)
    }

    /// Removes the name; the kernel removes the namespace when its last process or socket is gone. Absent is success.
    pub fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        let removed = succeed(Command::new("ip").args(["netns", "del", &self.name]));
        // Somebody else may have been faster.
        if self.exists() { removed } else { Ok(()) }
    }

    /// Names in `/run/netns` that begin with `prefix`.
    pub fn with_prefix(prefix: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(NAMES) else { return Vec::new() };
        let mut found: Vec<Self> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .map(Self::named)
            .collect();
        found.sort();
        found
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path that CNI calls the sandbox's namespace by.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Is there a namespace of this name?
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(datapath::netns::Netns::open(self.path())?.run(work)?)
    }

    /// Moves the calling thread for good: for a process that is about to become another program.
    pub(crate) fn move_this_thread(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("opening the network namespace {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering the network namespace {}", self.name))
    }

    /// Runs a program inside the namespace to its end. The mount namespace stays the machine's, so paths mean the same.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.enter(|| command.stdin(Stdio::null()).output())?
            .with_context(|| format!("running {command:?} in {}", self.name))
    }

    /// Writes sysctls (`net.ipv4.ip_forward` as `net/ipv4/ip_forward`): `/proc/sys/net` is the reading thread's.
    pub(crate) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.enter(|| {
            for (key, value) in settings {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("setting {key} to {value}"))?;
            }
            Ok(())
        })?
    }

    /// Reads a sysctl of this namespace.
    pub(crate) fn read_sysctl(&self, key: &str) -> Result<String> {
        self.enter(|| fs::read_to_string(Path::new("/proc/sys").join(key)))?
            .map(|value| value.trim().to_owned())
            .with_context(|| format!("reading {key}"))
    }

    /// Ends the processes whose main thread lives in this namespace. They can only be ours: the namespace is.
    pub(crate) fn kill_processes(&self) {
        let Ok(inode) = fs::metadata(self.path()).map(|netns| netns.ino()) else { return };
        let Ok(processes) = fs::read_dir("/proc") else { return };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let lives_here = fs::metadata(process.path().join("ns/net")).is_ok_and(|netns| netns.ino() == inode);
            if lives_here && kill_process(pid, Signal::KILL).is_ok() {
                tracing::debug!(pid = pid.as_raw_nonzero(), netns = self.name, "killed a process left in a namespace");
            }
        }
    }
}

/// Runs a program that says nothing when all is well.
fn succeed(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
