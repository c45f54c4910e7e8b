//! The daemon from its start to its end.
//!
//! Owns the order: lock, ledger, kernel, socket, then everything that may take long. Decides nothing about addresses.

use std::{io::Write as _, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use pool::Event;
use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};
use tonic_health::server::HealthReporter;
use tracing::{error, info, warn};

use crate::{
    admin::{self, Admin},
    checkpoint,
    clock::{self, NodeClock},
    config::{self, Config, Note, Unknown},
    convert::Facing,
    facts::{Facts, LateEc2},
    grpc,
    host::{self, Told},
    ledger::{Opened, RedbLedger, RunLock},
    logging,
    metrics::{Metered, Metrics, Timed},
    signs::Signs,
    spool::Spool,
};

/// sysexits.h's EX_CONFIG would be 78; 64 (EX_USAGE) is what the command line and the environment share here.
const EXIT_CONFIG: u8 = 64;
/// How long requests in flight may take when the daemon stops; node has given up its own calls by then.
const STOP_WITHIN: Duration = Duration::from_millis(9_000);
/// How soon a ledger that could not be opened is tried again.
const LEDGER_AGAIN: Duration = Duration::from_secs(1);

/// The whole program.
pub fn main() -> ExitCode {
    let invocation = match config::invocation(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(said) => {
            // What a closed stdout or stderr makes of it is nobody's business.
            drop(said.print());
            return if said.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    let (config, notes) = match config::parse(&|variable| invocation.lookup(variable)) {
        Ok(parsed) => parsed,
        Err(mistakes) => {
            drop(writeln!(std::io::stderr(), "{mistakes}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let unknown = config::unknown(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
    if invocation.check_config {
        for unknown in &unknown {
            drop(writeln!(std::io::stderr(), "{unknown}"));
        }
        // A reader that stopped reading has seen what it wanted.
        drop(write!(std::io::stdout(), "{config}"));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::start(config.log_level) {
        drop(writeln!(std::io::stderr(), "RUST_LOG: {error}"));
        return ExitCode::from(EXIT_CONFIG);
    }
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // The EC2 client resolves names on such a thread.
        .max_blocking_threads(2)
        .thread_stack_size(512 << 10)
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(run(config, notes, unknown)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "could not go on");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config, notes: Vec<Note>, unknown: Vec<Unknown>) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let boot = clock::boot_id().context("reading the boot id")?;
    info!(version = crate::VERSION, "starting");
    for Note { variable, why } in notes {
        info!(variable, why, "a variable changes nothing");
    }
    for Unknown { variable, nearest } in unknown {
        warn!(variable, nearest, "a variable is not known");
    }
    let run_dir = config.run_dir.as_path();
    let lock = RunLock::take(run_dir)?;
    let metrics = Arc::new(Metrics::default());
    let signs = Arc::new(Signs::new(run_dir, &boot));
    let Some((mut ledger, opened)) = open_ledger(&lock, run_dir, &boot, stop.clone()).await else { return Ok(()) };
    if let Opened::SetAside { why, at } = &opened {
        warn!(%why, at = %at.display(), "set the ledger aside and began a new one");
    }
    let (mut kernel, worker, told) =
        host::start(&config.wiring, config.policy.reclaim_after).context("preparing the kernel")?;
    let mut found = Vec::new();
    if opened != Opened::Kept {
        found = kernel.leases().context("looking for pods' links")?;
        found.extend(checkpoint::leases(&config.checkpoint, kernel.traces(), &config.wiring.numbering()));
    }
    let foreign = kernel.traces().addresses();
    if let Err(error) = ledger.settle(&found) {
        warn!(%error, "the next start looks for pods' links again");
    }

    let ec2 = Arc::new(LateEc2::new(config.http_timeout));
    let cloud = Arc::new(Metered::new(Arc::clone(&ec2), Arc::clone(&metrics)));
    let ledger = Timed::new(ledger, Arc::clone(&metrics));
    let (handle, node) = node::start(cloud, ledger, kernel, NodeClock, config.policy.clone())?;
    if !found.is_empty() {
        info!(leases = found.len(), "found leases in the kernel");
        // Before anything can be handed out: what is sent first is applied first.
        handle.send(Event::Found(found));
    }
    handle.send(Event::Foreign(foreign));

    let worker = Arc::new(worker);
    let facts = Facts {
        handle: handle.clone(),
        ec2,
        kernel: Arc::clone(&worker),
        signs: Arc::clone(&signs),
        metrics: Arc::clone(&metrics),
        run_dir: run_dir.to_owned(),
        state_dir: config.state_dir.clone(),
        boot: boot.clone(),
    };
    let listener = grpc::listen(&lock, run_dir)?;
    let admin = match config.metrics {
        Some(bind) => Some(admin::listen(bind).await.with_context(|| format!("listening on {bind} for metrics"))?),
        None => None,
    };

    let mut tasks = JoinSet::new();
    tasks.spawn(forward(told, handle.clone(), Arc::clone(&signs)));
    tasks.spawn(Spool::new(run_dir, &boot).keep(handle.clone(), Arc::clone(&metrics)));
    tasks.spawn(facts.keep());
    if let Some(listener) = admin {
        let pages = Admin { handle: handle.clone(), metrics: Arc::clone(&metrics), signs: Arc::clone(&signs) };
        tasks.spawn(async move {
            if let Err(error) = admin::serve(listener, pages).await {
                error!(%error, "could not serve metrics");
            }
        });
    }
    let facing = Facing { numbering: config.wiring.numbering(), mtu: config.wiring.pod_mtu };
    let mode = config.network_policy_mode.clone();
    let context = Arc::new(grpc::Context::new(
        handle.clone(),
        facing,
        mode,
        config.add_deadline,
        Arc::clone(&metrics),
        Arc::clone(&signs),
    ));
    let mut stopping = stop.clone();
    let health = HealthReporter::new();
    tasks.spawn(signs.keep(handle.clone(), health.clone()));
    let server = tokio::spawn(grpc::serve(listener, context, until(stop), health));
    let stopper = handle.clone();
    tokio::spawn(async move {
        drop(stopping.wait_for(|stop| *stop).await);
        info!("stopping");
        stopper.stop();
    });

    tokio::select! {
        ended = node.run() => ended.context("running the node")?,
        // They end only by a panic, and a daemon that lost a part of itself is started anew.
        Some(ended) = tasks.join_next() => bail!("a part of the daemon ended: {ended:?}"),
    }
    finish(server, run_dir).await;
    tasks.shutdown().await;
    if let Some(worker) = Arc::into_inner(worker) {
        worker.stop();
    }
    info!("stopped");
    Ok(())
}

/// Waits until the disk takes the ledger; `None` when the daemon is stopped before.
async fn open_ledger(
    lock: &RunLock,
    run_dir: &Path,
    boot: &str,
    mut stop: watch::Receiver<bool>,
) -> Option<(RedbLedger, Opened)> {
    let mut said = String::new();
    loop {
        match RedbLedger::open(lock, run_dir, boot) {
            Ok(opened) => return Some(opened),
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    error!(error = why, "could not open the ledger; trying again until it can be");
                    said = why;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LEDGER_AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return None,
        }
    }
}

/// Waits for the requests in flight.
async fn finish(server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>, run_dir: &Path) {
    match tokio::time::timeout(STOP_WITHIN, server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => warn!(error = %host::chain(&error), "the server ended with an error"),
        Ok(Err(error)) => warn!(%error, "the server ended badly"),
        Err(_) => warn!("requests were still open; ended without them"),
    }
    drop(std::fs::remove_file(run_dir.join(grpc::SOCKET)));
}

/// Ends only when the kernel's thread has ended.
async fn forward(mut told: mpsc::UnboundedReceiver<Told>, handle: node::Handle, signs: Arc<Signs>) {
    while let Some(told) = told.recv().await {
        match told {
            Told::Event(event) => handle.send(event),
            Told::Links(links) => signs.set_links(links),
            Told::Seen(seen) => {
                // Every time: a lease may have ended whose address is still in use.
                handle.send(Event::Foreign(seen.foreign().clone()));
                if let Some(sandboxes) = handle.read(move |state, _| seen.sandboxes(state.leases())).await {
                    handle.send(Event::Sandboxes(sandboxes));
                }
            }
        }
    }
}

fn stop_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let (tell, stop) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    // By default a write beyond a limit on the size of files ends the process; listened for, it is an error like that of a full disk.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).context("listening for SIGXFSZ")?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(true);
        // Lives on, so that nobody takes its end for a stop.
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

async fn until(mut stop: watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
