//! One daemon per node.
//!
//! Owns the lock file of the run directory, from whose holder every other file there may be touched. Never waits for it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Held as long as the process lives; the kernel lets go of it whatever ends the process.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// The run directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon holds it.
    #[error("another ipamd runs on this node: {holder} holds {}", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// "process 1234".
        holder: String,
    },
    /// It cannot be made or locked.
    #[error("locking {}", path.display())]
    Unusable {
        /// The lock file or its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl RunLock {
    /// Makes the run directory when it is missing and takes its lock.
    pub fn take(run_dir: &Path) -> Result<Self, LockError> {
        let path = run_dir.join("ipamd.lock");
        let unusable = |source| LockError::Unusable { path: path.clone(), source };
        std::fs::create_dir_all(run_dir).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The holder may be between locking and writing: then there is nothing to name.
                let _ = (&file).take(20).read_to_string(&mut pid);
                let pid = pid.trim();
                let holder = if pid.is_empty() { "an unnamed process".to_owned() } else { format!("process {pid}") };
                return Err(LockError::Held { path, holder });
            }
            Err(errno) => return Err(unusable(errno.into())),
        }
        // Only for people: on a full disk, the holder has no name.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_kept_out_and_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run/berth");
        let first = RunLock::take(&run).expect("the lock");
        let refused = RunLock::take(&run).expect_err("it is held").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        RunLock::take(&run).expect("the lock, once it is free");
    }

    #[test]
    fn a_run_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("a file");
        let refused = RunLock::take(&file.join("run")).expect_err("a file is no directory").to_string();
        assert!(refused.contains("file/run"), "{refused}");
    }
}
