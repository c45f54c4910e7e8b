//! A storm from outside: a lab for it, a verdict, and what is kept of one that failed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};

use super::{
    Settings, rage,
    record::{Figures, Over, Record},
};
use crate::{interrupt, lab::Lab};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Another one each time.
pub(crate) fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_micros())
}

/// `lab storm`: for people, with progress.
pub(crate) fn show(settings: Settings) -> Result<ExitCode> {
    let prefix = settings.lab.prefix.clone();
    println!(
        "a storm of {} kills over {} nodes and up to {} pods, seed {}",
        settings.kills,
        settings.lab.nodes.len(),
        settings.pods,
        settings.seed
    );
    interrupt::guarded(&prefix, move || {
        let figures = run(&settings, |now| {
            let refused: usize = now.refusals.values().sum();
            println!("  {} kills, {} ADDs ({refused} refused), {} DELs", now.kills, now.adds, now.dels);
        })?;
        println!(
            "{figures}
after it everything agreed: ledgers, EC2, kernel and pods"
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// Brings up a lab, lets the storm rage over it, and takes it down. `tell` hears the figures now and then. An error says the
/// seed, what disagreed, and where logs, ledgers and the journal are kept.
pub fn run(settings: &Settings, tell: impl Fn(&Figures) + Sync) -> Result<Figures> {
    let lab = Lab::start(settings.lab.clone())?;
    let journal = settings.lab.directory().join("journal");
    let record = Record::new(&journal)?;
    let (over, told) = (Over::default(), Over::default());
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            while !told.within(TOLD_EVERY) {
                tell(&record.figures());
            }
        });
        let ended = rage(&lab, settings, &record, &over);
        told.set();
        ended
    });
    let mut wrong = record.complaints();
    if let Err(error) = ended {
        record.note(format_args!("FAILED: {error:#}"));
        wrong.push(format!("{error:#}"));
    }
    record.flush();
    if wrong.is_empty() {
        lab.stop()?;
        return Ok(record.figures());
    }
    let kept = keep(&settings.lab.directory(), settings.seed);
    let kept =
        kept.map_or_else(|error| format!("nothing could be kept: {error:#}"), |at| format!("kept in {}", at.display()));
    lab.stop()?;
    bail!(
        "the storm with seed {} left {} things wrong ({kept}):\n  {}\n{}",
        settings.seed,
        wrong.len(),
        wrong.join("\n  "),
        record.figures()
    )
}

/// Copies the lab's directory to where it stays.
fn keep(directory: &Path, seed: u64) -> Result<PathBuf> {
    let at = std::env::temp_dir().join(format!("berth-storm-{seed}-{}", std::process::id()));
    copy(directory, &at).with_context(|| format!("copying {} to {}", directory.display(), at.display()))?;
    Ok(at)
}

/// Files and directories; a socket is no evidence.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
