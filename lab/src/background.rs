//! `lab up`, `lab down`, `lab exec`: a lab that outlives the command that made it.
//!
//! The world lives in a process of its own, `lab hold`. Everything about it is found by the prefix: its pid, its log, its
//! namespaces.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, setsid};

use crate::{
    cli,
    interrupt::Signals,
    lab::{Lab, sweep},
    netns::Netns,
    node,
    process::Process,
    settings::{LabSettings, directory_of},
    wait,
};

/// How long a lab may take to come up, ipamd on every node and perhaps LocalStack included.
const UP: Duration = Duration::from_mins(3);

/// How long it may take to go down.
const PATIENCE: Duration = Duration::from_mins(1);

/// Starts `lab hold` with these words and waits until the lab is up.
pub(crate) fn up(settings: &LabSettings, words: &[String]) -> Result<ExitCode> {
    let prefix = &settings.prefix;
    if let Some(holder) = holder(prefix) {
        bail!("a lab with the prefix {prefix} is up already (process {}); lab down ends it", holder.number());
    }
    sweep(prefix)?;
    let log_path = log_of(prefix);
    let log = File::create(&log_path).with_context(|| format!("making {}", log_path.display()))?;
    let mut words = words.to_vec();
    words.push(format!("--prefix={prefix}"));
    let mut holder = Command::new(std::env::current_exe().context("finding this program")?)
        .args(&words)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting lab hold")?;
    let up = wait::until(UP, || match holder.try_wait() {
        Ok(None) => ready_of(prefix).exists().then_some(Ok(())),
        Ok(Some(status)) => Some(Err(anyhow::anyhow!("{status}"))),
        Err(error) => Some(Err(error.into())),
    });
    let log = || format!("the lab did not come up:\n{}", fs::read_to_string(&log_path).unwrap_or_default().trim());
    let Some(up) = up else {
        holder.kill()?;
        sweep(prefix)?;
        bail!(log());
    };
    up.with_context(log)?;
    let prefixed = if prefix == "berth-lab" { String::new() } else { format!("--prefix {prefix} ") };
    let said = [
        format!("{prefix} is up: {}", cli::names(&settings.nodes)),
        format!("  lab exec {prefixed}a -- ip -br addr"),
        format!("  lab exec {prefixed}a -- ipamctl pool"),
        format!("  lab pod {prefixed}add a web"),
        format!("  lab exec {prefixed}a-web -- ip route"),
        format!("  lab fault {prefixed}refuse AssignPrivateIpAddresses RequestLimitExceeded"),
        format!("  lab fault {prefixed}storm --seed 7, until lab fault {prefixed}clear"),
        format!("  lab down {prefixed}").trim_end().to_owned(),
    ];
    // The lab is up, whether anybody reads this or not.
    drop(writeln!(io::stdout(), "{}", said.join("\n")));
    Ok(ExitCode::SUCCESS)
}

/// The process behind `lab up`.
pub(crate) fn hold(settings: LabSettings, bare: bool) -> Result<ExitCode> {
    // Not of the session of whoever said `lab up`. EPERM: it leads one already.
    let _ = setsid();
    let prefix = settings.prefix.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let lab = Lab::start(settings)?;
    Process::this().write(&pid_of(&prefix))?;
    let mut daemons = Vec::new();
    for node in lab.nodes() {
        if !bare && lab.settings().programs.has("ipamd") {
            daemons.push(node.start_ipamd(&[])?);
        }
    }
    fs::write(ready_of(&prefix), "").context("saying that the lab is up")?;
    runtime.block_on(signals.next());
    for daemon in daemons {
        if let Err(error) = daemon.stop() {
            tracing::warn!(error = format!("{error:#}"), "ipamd did not stop by itself");
        }
    }
    lab.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// Ends the process that holds the lab, and removes what is left.
pub(crate) fn down(prefix: &str) -> Result<ExitCode> {
    if let Some(holder) = holder(prefix) {
        holder.signal(Signal::TERM).context("ending lab hold")?;
        if wait::until(PATIENCE, || (!holder.lives()).then_some(())).is_none() {
            holder.signal(Signal::KILL).context("killing lab hold")?;
        }
    }
    sweep(prefix)?;
    match fs::remove_file(log_of(prefix)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("removing the lab's log"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Becomes a program inside a node. Returns only when that fails.
pub(crate) fn exec(prefix: &str, name: &str, program: &[OsString]) -> Result<ExitCode> {
    let netns = Netns::named(format!("{prefix}-{name}"));
    ensure!(netns.exists(), "no lab with the prefix {prefix} and a node {name} is up");
    let (program, args) = program.split_first().context("a program is needed")?;
    let mut command = Command::new(program);
    command.args(args).envs(node::environment(prefix, name, &sim::Settings::default().region));
    // Berth's programs are found without a path: they are where this one is.
    if let Some(folder) = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.to_path_buf())) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).context("building PATH")?);
    }
    netns.move_this_thread()?;
    Err(command.exec()).with_context(|| format!("running {}", program.display()))
}

/// The process that holds the lab of this prefix, if it is alive.
fn holder(prefix: &str) -> Option<Process> {
    Process::in_file(&pid_of(prefix))
}

fn pid_of(prefix: &str) -> PathBuf {
    directory_of(prefix).join("hold.pid")
}

fn ready_of(prefix: &str) -> PathBuf {
    directory_of(prefix).join("ready")
}

/// Beside the folder, which every start clears.
fn log_of(prefix: &str) -> PathBuf {
    directory_of(prefix).with_extension("log")
}
