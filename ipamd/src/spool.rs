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

#[cfg(test)]
mod tests {
    use datapath::{link::SandboxKey, spool::Entry};
    use node::Allocation;
    use pool::Pod;

    use super::*;
    use crate::{clock::NodeClock, fake};

    fn entry(boot: &str, started: BootTime) -> Entry {
        Entry {
            key: SandboxKey { container_id: "c1".to_owned(), ifname: "eth0".to_owned() },
            namespace: String::new(),
            pod: String::new(),
            address: String::new(),
            started_boottime_ns: u64::try_from(started.0.as_nanos()).expect("a small time"),
            boot_id: boot.to_owned(),
        }
    }

    async fn leases(handle: &Handle) -> Option<usize> {
        handle.read(|state, _| state.leases().count()).await
    }

    #[tokio::test]
    async fn a_del_in_the_spool_ends_an_earlier_lease_of_this_boot_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let (handle, _node) = fake::node();
        handle.send(fake::facts());
        let before = NodeClock::boottime();
        let allocation = Allocation {
            key: LeaseKey { container: "c1".to_owned(), ifname: "eth0".to_owned() },
            pod: Pod::default(),
            link: "eni1".to_owned(),
            netns: String::new(),
            started: NodeClock::boottime(),
            deadline: NodeClock::boottime().after(Duration::from_secs(10)),
        };
        handle.allocate(allocation).await.expect("an address");
        let metrics = Metrics::default();
        let mut spool = Spool::new(dir.path(), "boot-1");
        let directory = dir.path().join("spool");

        for kept in [entry("boot-0", NodeClock::boottime()), entry("boot-1", before)] {
            spool::leave(&directory, &kept).expect("left");
            spool.replay(&handle, &metrics).await;
            assert_eq!(leases(&handle).await, Some(1), "{kept:?}");
            assert!(spool::read(&directory).expect("readable").is_empty(), "{kept:?} is done with");
        }
        spool::leave(&directory, &entry("boot-1", NodeClock::boottime())).expect("left");
        spool.replay(&handle, &metrics).await;
        assert_eq!(leases(&handle).await, Some(0));
        assert!(spool::read(&directory).expect("readable").is_empty());
    }

    #[tokio::test]
    async fn a_file_that_nobody_can_read_stays_and_keeps_no_other_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let (handle, _node) = fake::node();
        let mut spool = Spool::new(dir.path(), "boot-1");
        let directory = dir.path().join("spool");
        spool::leave(&directory, &entry("boot-1", NodeClock::boottime())).expect("left");
        std::fs::write(directory.join("00.json"), "{").expect("garbage");
        spool.replay(&handle, &Metrics::default()).await;
        let left = spool::read(&directory).expect("readable");
        assert_eq!(left.iter().map(|left| left.path.clone()).collect::<Vec<_>>(), [directory.join("00.json")]);
    }

    #[tokio::test]
    async fn a_del_stays_in_the_spool_while_the_node_cannot_take_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let (handle, node) = fake::node();
        handle.stop();
        node.await.expect("no panic").expect("a good end");
        let mut spool = Spool::new(dir.path(), "boot-1");
        let directory = dir.path().join("spool");
        spool::leave(&directory, &entry("boot-1", NodeClock::boottime())).expect("left");
        spool.replay(&handle, &Metrics::default()).await;
        assert_eq!(spool::read(&directory).expect("readable").len(), 1);
    }
}
