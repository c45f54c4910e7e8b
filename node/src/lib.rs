//! The event loop around the pool. (Being written: `loop`, `handle`.)

use std::net::Ipv4Addr;

use pool::{BootTime, Entry, Record, WantedEni};

/// Where the pool's records are kept.
pub trait Ledger: Send + 'static {
    /// Everything that was kept, in any order.
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError>;
    /// Writes all of it or nothing.
    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError>;
}

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{operation} the ledger: {message}")]
pub struct LedgerError {
    /// "reading", "writing".
    pub operation: &'static str,
    /// What the store said.
    pub message: String,
}

/// The node's kernel, as far as the pool's decisions reach it.
pub trait Host: Send + 'static {
    /// Takes the `unreachable` routes of these addresses away. At once: EC2 may give them to others when this returns.
    fn withdraw(&mut self, addresses: &[Ipv4Addr]);
    /// The ENIs that the kernel should carry. Returns at once; `Event::LinkReady` says when an ENI is carried.
    fn reconcile(&mut self, wanted: Vec<WantedEni>);
}

/// Time, as the node reads it.
pub trait Clock: Send + 'static {
    /// CLOCK_BOOTTIME.
    fn now(&self) -> BootTime;
    /// Wall clock, seconds since 1970.
    fn wall(&self) -> u64;
}
