//! DELs that could not be told to the daemon, one file each, for the daemon to read when it is back.
//!
//! Owns the format and the directory's discipline: a file appears whole or not at all, is never changed, and is removed by
//! the daemon once its release is in the ledger. A file is one JSON object, [`Entry`]; fields that a reader does not know
//! are ignored, so that plugin and daemon may be one release apart.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::link::SandboxKey;

/// One DEL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose lease.
    pub key: SandboxKey,
    /// The pod's namespace; empty when the runtime did not say.
    #[serde(default)]
    pub namespace: String,
    /// The pod's name; empty when the runtime did not say.
    #[serde(default)]
    pub pod: String,
    /// The address in the runtime's cached result; empty when there was none.
    #[serde(default)]
    pub address: String,
    /// When the DEL started, `CLOCK_BOOTTIME` in nanoseconds: a lease made later is not meant.
    pub started_boottime_ns: u64,
    /// `/proc/sys/kernel/random/boot_id`: an entry of another boot means nothing any more.
    pub boot_id: String,
}

/// Why the spool could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct SpoolError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError { operation, path, source }
}

/// Leaves an entry. `directory` is made when it is not there; its name is `spool` below the run directory.
pub fn leave(directory: &Path, entry: &Entry) -> Result<PathBuf, SpoolError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("making", directory))?;
    // Readers go by the ending; the process id keeps two DELs of the same nanosecond apart.
    let stem = format!("{:020}-{}", entry.started_boottime_ns, std::process::id());
    let unfinished = directory.join(format!("{stem}.tmp"));
    let finished = directory.join(format!("{stem}.json"));
    let text = serde_json::to_vec(entry).expect("strings and numbers serialise");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&unfinished, &finished));
    if written.is_err() {
        // What is left of it would only puzzle people; the error that matters is the first one.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(failed("writing", &finished))?;
    Ok(finished)
}

/// A file of the spool.
#[derive(Debug)]
pub struct Left {
    /// Where it is.
    pub path: PathBuf,
    /// What it says; an error for a file that no plugin of ours wrote.
    pub entry: Result<Entry, io::Error>,
}

/// Everything in the spool, oldest first. A directory that is not there is an empty one.
pub fn read(directory: &Path) -> Result<Vec<Left>, SpoolError> {
    let files = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(failed("listing", directory))?,
    };
    let mut left = Vec::new();
    for file in files {
        let path = file.map_err(failed("listing", directory))?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            left.push(Left { entry: read_entry(&path), path });
        }
    }
    left.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(left)
}

/// One file; whatever else lies there is reported, and keeps nobody waiting.
fn read_entry(path: &Path) -> io::Result<Entry> {
    /// An entry is a few hundred bytes.
    const LARGEST: u64 = 64 << 10;
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if found.len() > LARGEST {
        return Err(io::Error::other(format!("{} bytes, an entry has at most {LARGEST}", found.len())));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Removes a file whose release is safe in the ledger.
pub fn remove(left: &Left) -> Result<(), SpoolError> {
    match fs::remove_file(&left.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", &left.path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(started_boottime_ns: u64) -> Entry {
        Entry {
            key: SandboxKey { container_id: "c1".to_owned(), ifname: "eth0".to_owned() },
            namespace: "default".to_owned(),
            pod: "web-0".to_owned(),
            address: "10.0.0.12".to_owned(),
            started_boottime_ns,
            boot_id: "b".to_owned(),
        }
    }

    #[test]
    fn entries_are_read_back_oldest_first_and_removed_one_by_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spool = directory.path().join("spool");
        assert!(read(&spool).expect("missing is empty").is_empty());
        leave(&spool, &entry(20)).expect("written");
        leave(&spool, &entry(3)).expect("written");
        let left = read(&spool).expect("readable");
        let times: Vec<_> =
            left.iter().map(|left| left.entry.as_ref().expect("an entry").started_boottime_ns).collect();
        assert_eq!(times, [3, 20]);
        assert_eq!(*left[0].entry.as_ref().expect("an entry"), entry(3));
        remove(&left[0]).expect("removed");
        remove(&left[0]).expect("removing twice is fine");
        assert_eq!(read(&spool).expect("readable").len(), 1);
    }

    #[test]
    fn a_file_that_is_no_entry_is_reported_and_does_not_hide_the_others() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("0.json"), "{").expect("written");
        fs::write(directory.path().join("1.tmp"), "half").expect("written");
        fs::create_dir(directory.path().join("2.json")).expect("made");
        fs::write(directory.path().join("3.json"), vec![b' '; 100_000]).expect("written");
        let fifo = directory.path().join("4.json");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("made");
        leave(directory.path(), &entry(1)).expect("written");
        let left = read(directory.path()).expect("readable");
        assert_eq!(left.iter().filter(|left| left.entry.is_ok()).count(), 1);
        assert_eq!(left.len(), 5);
    }

    #[test]
    fn the_format_is_what_the_other_release_reads() {
        expect_test::expect![[r#"{"key":{"container_id":"c1","ifname":"eth0"},"namespace":"default","pod":"web-0","address":"10.0.0.12","started_boottime_ns":7,"boot_id":"b"}"#]]
            .assert_eq(&serde_json::to_string(&entry(7)).expect("serialises"));
        let newer = r#"{"key":{"container_id":"c1","ifname":"eth0"},"started_boottime_ns":7,"boot_id":"b","later":1}"#;
        assert!(serde_json::from_str::<Entry>(newer).is_ok());
    }
}
