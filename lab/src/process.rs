//! A process that outlives whoever started it: found again by what its file says, its pid and when it started, because pids come
//! again.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process that lives, or lived when it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: Pid,
    started: u64,
}

impl Process {
    /// This one.
    pub(crate) fn this() -> Self {
        let pid = rustix::process::getpid();
        Self { pid, started: started(pid).unwrap_or_default() }
    }

    /// A child, which has not been waited for.
    pub(crate) fn of(child: &std::process::Child) -> Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        Ok(Self { pid, started: started(pid).unwrap_or_default() })
    }

    /// The one that a file tells of, if it is alive.
    pub(crate) fn in_file(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, written) = text.trim().split_once(' ')?;
        let pid = Pid::from_raw(pid.parse().ok()?)?;
        let written: u64 = written.parse().ok()?;
        (started(pid)? == written).then_some(Self { pid, started: written })
    }

    /// Writes it down.
    pub(crate) fn write(self, path: &Path) -> Result<()> {
        fs::write(path, format!("{} {}\n", self.pid.as_raw_nonzero(), self.started))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Its number, for people.
    pub(crate) fn number(self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Is it the one that was started then?
    pub(crate) fn lives(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Sends a signal.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("sending {signal:?} to process {}", self.number()))
    }
}

/// When a living process started, in clock ticks since boot: the 22nd field of `/proc/PID/stat` (proc(5)); the second one,
/// the program's name, may hold anything.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}
