//! DELs that the plugin left because no daemon answered.
//!
//! Owns their replay. A file is removed once its release is in the ledger, so that no DEL is lost and none is done twice to a later
//! lease: what was started before the lease does not touch it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use datapath::spool::{self, Left};
use node::Handle;
use pool::{BootTime, LeaseKey};
use tracing::{info, warn};

use crate::{host::chain, metrics::Metrics};

/// How often the directory is looked at: an address in it is free a second later.
const LOOK: Duration = Duration::from_secs(1);

/// The spool of one boot.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    boot: String,
    /// Files that nobody can read, said once each and left for a person.
    unreadable: BTreeSet<PathBuf>,
}

impl Spool {
    /// The spool below the run directory.
    pub fn new(run_dir: &Path, boot: &str) -> Self {
        Self { directory: run_dir.join("spool"), boot: boot.to_owned(), unreadable: BTreeSet::new() }
    }

    /// Looks again and again; never ends.
    pub async fn keep(mut self, handle: Handle, metrics: Arc<Metrics>) {
        loop {
            self.replay(&handle, &metrics).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn replay(&mut self, handle: &Handle, metrics: &Metrics) {
        let left = match spool::read(&self.directory) {
            Ok(left) => left,
            Err(error) => {
                warn!(error = %chain(&error), "could not read the spool");
                return;
            }
        };
        for left in left {
            self.replay_one(left, handle, metrics).await;
        }
    }

    async fn replay_one(&mut self, left: Left, handle: &Handle, metrics: &Metrics) {
        let entry = match &left.entry {
            Ok(entry) => entry,
            Err(error) => {
                if self.unreadable.insert(left.path.clone()) {
                    warn!(%error, file = %left.path.display(), "left a file of the spool that cannot be read");
                }
                return;
            }
        };
        if entry.boot_id == self.boot {
            let key = LeaseKey { container: entry.key.container_id.clone(), ifname: entry.key.ifname.clone() };
            let started = BootTime(Duration::from_nanos(entry.started_boottime_ns));
            match handle.release(key, started).await {
                Ok(lease) => {
                    metrics.replayed();
                    info!(key = %entry.key, released = lease.is_some(), "replayed a DEL from the spool");
                }
                Err(why) => {
                    warn!(key = %entry.key, reason = why.name(), "could not replay a DEL from the spool; trying again");
                    return;
                }
            }
        }
        if let Err(error) = spool::remove(&left) {
            warn!(error = %chain(&error), "could not remove a file of the spool");
        }
    }
}
