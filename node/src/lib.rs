//! The event loop around the pool.
//!
//! Owns one task that holds a [`pool::State`]: it takes everything that happened, applies it, commits once, then has the effects done.
//! EC2 calls run in tasks of their own and come back as events, so a slow one never delays a pod. Generic over EC2, the ledger, the
//! kernel and time, so that a simulation runs this very loop. Never names gRPC, an SDK, netlink or Kubernetes.

mod handle;
mod run;
mod said;

use pool::{Block, BootTime, Entry, Record, WantedEni};

pub use handle::{Allocation, Handle};
pub use run::{Node, Started, start};

/// Where the pool's records are kept.
pub trait Ledger: Send + 'static {
    /// Everything that was kept, in any order.
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError>;
    /// Writes all of it or nothing.
    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError>;
}

/// The ledger could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} the ledger: {message}")]
pub struct LedgerError {
    /// "reading", "writing".
    pub operation: &'static str,
    /// What the store said.
    pub message: String,
}

/// The node's kernel, as far as the pool's decisions reach it.
pub trait Host: Send + 'static {
    /// Takes the `unreachable` routes of these away. At once: EC2 may give them to others when this returns.
    fn withdraw(&mut self, blocks: &[Block]);
    /// The ENIs that the kernel should carry. Returns at once. `Event::LinkReady` says when an ENI is carried, once after every
    /// call for every ENI in it, also for those that were carried before.
    fn reconcile(&mut self, wanted: Vec<WantedEni>);
}

/// Time and luck, as the node has them.
pub trait Clock: Send + 'static {
    /// CLOCK_BOOTTIME. It advances with tokio's clock, by which the node sleeps.
    fn now(&self) -> BootTime;
    /// Wall clock, seconds since 1970.
    fn wall(&self) -> u64;
    /// 128 random bits.
    fn luck(&mut self) -> u128;
}
