//! Virtual time and drawn luck for the loop.
//!
//! Owns the count of events: the loop asks for luck exactly once for each event that it applies.

use std::sync::Arc;

use node::Clock;
use pool::BootTime;
use rand::Rng as _;

use super::{scenario::Luck, world::Sim};

/// A daemon's clock.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    pub(crate) sim: Arc<Sim>,
    pub(crate) node: usize,
    pub(crate) luck: Luck,
}

impl Clock for VirtualClock {
    fn now(&self) -> BootTime {
        self.sim.now()
    }

    fn wall(&self) -> u64 {
        1_700_000_000 + self.sim.elapsed().as_secs()
    }

    fn luck(&mut self) -> u128 {
        self.sim.count(self.node);
        u128::from(self.luck.0.next_u64()) << 64 | u128::from(self.luck.0.next_u64())
    }
}
