//! Stores that could not be used.
//!
//! Owns their names and how many of them are kept. Never deletes what it did not name itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{info, warn};

use super::Unusable;

/// So many are kept for people to look at; each is as large as a ledger, a few hundred KiB.
const KEPT: usize = 3;

/// Gives a store a name that says why it is not used, and lets go of the oldest such ones.
pub(super) fn set_aside(path: &Path, why: &Unusable) -> io::Result<PathBuf> {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // After those that are there, also when the clock was set back: otherwise the newest would be the first to go.
    let last = all(path).last().map(|aside| aside.age);
    let (second, again) = last.filter(|last| last.0 >= second).map_or((second, 0), |last| (last.0, last.1 + 1));
    let again = if again == 0 { String::new() } else { format!("-{again}") };
    let at = path.with_file_name(format!("ledger.redb.{}-{second}{again}", why.word()));
    fs::rename(path, &at)?;
    // A directory or the like that lay at the ledger's place is somebody's.
    for oldest in all(path).iter().filter(|aside| aside.is_file).rev().skip(KEPT) {
        let file = oldest.path.display();
        match fs::remove_file(&oldest.path) {
            Ok(()) => info!(%file, "removed the oldest ledger that was set aside"),
            Err(error) => warn!(%file, %error, "could not remove a ledger that was set aside"),
        }
    }
    Ok(at)
}

/// The second, and which one of that second.
type Age = (u64, u32);

struct Aside {
    age: Age,
    path: PathBuf,
    is_file: bool,
}

/// What was set aside, oldest first.
fn all(path: &Path) -> Vec<Aside> {
    let files = path.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
    let aside = |file: fs::DirEntry| {
        let age = age(file.file_name().to_str()?)?;
        Some(Aside { age, path: file.path(), is_file: file.file_type().is_ok_and(|kind| kind.is_file()) })
    };
    let mut all: Vec<_> = files.filter_map(aside).collect();
    all.sort_by_key(|aside| aside.age);
    all
}

/// The time in the name that [`set_aside`] gave, and which one of that second it is.
fn age(name: &str) -> Option<Age> {
    let name = name.strip_prefix("ledger.redb.")?;
    let stamp = Unusable::WORDS.iter().find_map(|word| name.strip_prefix(word)?.strip_prefix('-'))?;
    let (second, again) = stamp.split_once('-').unwrap_or((stamp, "0"));
    Some((second.parse().ok()?, again.parse().ok()?))
}
