//! Ctrl-C: whatever was being made is unmade.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::{lab::sweep, netns::Netns, wait};

/// Set once the program is going down: from then on no namespace is made.
static ENDING: AtomicBool = AtomicBool::new(false);

/// How long taking everything down may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Is the program going down?
pub(crate) fn ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// SIGINT and SIGTERM, from the moment this is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Inside a runtime.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Resolves at the next one, with the exit status that tells of it.
    pub(crate) async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(130),
            _ = self.terminate.recv() => ExitCode::from(143),
        }
    }
}

/// Runs `work`, which makes things with this prefix, on a thread of its own. At a signal it is abandoned, and what it
/// made is removed.
pub(crate) fn guarded(prefix: &str, work: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let (done, result) = oneshot::channel();
        // The receiver is gone only when a signal came first.
        thread::Builder::new().name("work".to_owned()).spawn(move || done.send(work()).ok())?;
        let code = tokio::select! {
            worked = result => return worked.unwrap_or_else(|_| Err(anyhow!("it panicked"))),
            code = signals.next() => code,
        };
        eprintln!("interrupted: taking {prefix} down");
        take_down(prefix)?;
        Ok(code)
    })
}

/// Removes everything with this prefix, also what another thread is making right now.
fn take_down(prefix: &str) -> Result<()> {
    ENDING.store(true, Ordering::Relaxed);
    let mut last = Ok(());
    let gone = wait::until(PATIENCE, || {
        last = sweep(prefix);
        (last.is_ok() && Netns::with_prefix(&format!("{prefix}-")).is_empty()).then_some(())
    });
    match gone {
        Some(()) => Ok(()),
        None => last.and(Err(anyhow!("{prefix} is not gone after {PATIENCE:?}"))),
    }
}
