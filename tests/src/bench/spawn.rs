//! Programs as a container runtime starts them: from a namespace, with an environment of their own, a pipe for each stream.
//!
//! What is timed is the whole process: from before it is started until it has ended and its output was read.

use std::{
    ffi::OsString,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Barrier, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lab::netns::Netns;

/// A program and all that it is given.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Without its name.
    pub arguments: Vec<OsString>,
    /// And nothing else.
    pub environment: Vec<(&'static str, OsString)>,
    /// What it may read: less than a pipe holds (64 KiB).
    pub stdin: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// From before the start until after the end.
    pub took: Duration,
    /// What it wrote.
    pub stdout: String,
}

impl Program {
    /// Runs it to its end in the calling thread's namespace. Standard error goes where the benchmark's goes.
    fn run(&self) -> Result<Ran> {
        let (reader, mut writer) = io::pipe()?;
        writer.write_all(self.stdin.as_bytes())?;
        drop(writer);
        let mut command = Command::new(&self.path);
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).env_clear().envs(environment).stdin(reader).stdout(Stdio::piped());
        let mut stdout = String::with_capacity(4096);
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {}", self.path.display()))?;
        let output = child.stdout.take().map(|mut output| output.read_to_string(&mut stdout));
        let status = child.wait()?;
        let took = begun.elapsed();
        output.transpose().with_context(|| format!("reading what {} says", self.path.display()))?;
        ensure!(status.success(), "{} ended with {status}: {}", self.path.display(), stdout.trim());
        Ok(Ran { took, stdout })
    }
}

/// Runs them all in a namespace, so many at a time; the results in their order.
pub fn run_all(netns: &Netns, programs: &[Program], at_a_time: usize) -> Result<Vec<Ran>> {
    let (next, begin) = (AtomicUsize::new(0), Barrier::new(at_a_time));
    let results = Mutex::new(Vec::with_capacity(programs.len()));
    let work = || {
        begin.wait();
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(program) = programs.get(position) else { return };
            let ran = program.run();
            results.lock().unwrap_or_else(PoisonError::into_inner).push((position, ran));
        }
    };
    // Threads are born into the namespace of the thread that starts them.
    netns.enter(|| {
        thread::scope(|scope| {
            for _ in 0..at_a_time {
                scope.spawn(work);
            }
        });
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(position, _)| *position);
    results.into_iter().map(|(_, ran)| ran).collect()
}
