//! The ledger of a simulated node.
//!
//! Owns commits: all or nothing, in the order in which the loop makes them, and what must hold of each. The store outlives the daemon.

use std::{sync::Arc, time::Duration};

use node::{Ledger, LedgerError};
use pool::{Entry, Key, Record};

use super::{trace::Invariant, world::Sim};

/// The ledger as one daemon sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) sim: Arc<Sim>,
    pub(crate) node: usize,
    pub(crate) daemon: u64,
}

/// The disk is full for at most so long.
const FULL: Duration = Duration::from_secs(20);

impl Ledger for Disk {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        Ok(self.sim.lock().machines[self.node].disk.values().cloned().collect())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let (node, now) = (self.node, self.sim.now());
        if !self.sim.step(node, self.daemon, format_args!("before a commit of {}", records.len())) {
            return Ok(());
        }
        {
            let mut guard = self.sim.lock();
            let world = &mut *guard;
            let of = world.scenario.faults.disk;
            if world.faulty && world.fates.chance(of) {
                let wait = world.fates.between(Duration::ZERO..FULL);
                world.machines[node].full_until = now.after(wait);
            }
            if world.faulty && world.machines[node].full_until > now {
                world.machines[node].was_full = Some(now);
                world.tally.unwritten += 1;
                world.say(self.sim.elapsed(), format_args!("n{node} the disk is full"));
                return Err(LedgerError { operation: "writing", message: "no space left on device".to_owned() });
            }
            for record in records {
                world.check(node, record);
                let disk = &mut world.machines[node].disk;
                match record {
                    Record::Put(entry) => drop(disk.insert(entry.key(), entry.clone())),
                    Record::Remove(key) => drop(disk.remove(key)),
                }
            }
        }
        self.sim.step(node, self.daemon, format_args!("after a commit of {}", records.len()));
        Ok(())
    }
}

impl super::world::World {
    /// A sandbox that was told its address keeps its lease.
    fn check(&mut self, node: usize, record: &Record) {
        let (key, lease) = match record {
            Record::Put(Entry::Lease(lease)) => (&lease.key, Some(lease)),
            Record::Remove(Key::Lease(key)) => (key, None),
            _ => return,
        };
        let Some(live) = self.truth.live(&(node, key.clone())) else { return };
        let kept = lease.is_some_and(|lease| {
            lease.attachments.iter().any(|attachment| attachment.addresses.contains(&live.address))
        });
        if !kept {
            let what = format!(
                "{key} was told {} at its start of {}, and the ledger gets {record:?}",
                live.address, live.started
            );
            self.broken(Invariant::Kept, what);
        }
    }
}
