//! The moment an event happens at.
//!
//! Owns the shapes of time and luck. Never reads a clock and never draws a random number: the shell does both and passes them in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What the shell knows about the moment in which it applies an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_BOOTTIME: clock jumps do not exist.
    pub at: BootTime,
    /// Wall clock, seconds since 1970: only for tags and people, never for decisions.
    pub wall: u64,
    /// 128 fresh random bits: client tokens and jitter are made of them.
    pub luck: u128,
}

impl Now {
    /// Some part of `whole`, so that a fleet does not ask at the same moment.
    pub(crate) fn share(&self, whole: Duration) -> Duration {
        let share = u32::try_from(self.luck >> 16 & 0xffff).unwrap_or(0);
        whole / 0xffff * share
    }

    /// `base` stretched by up to half of itself, so that a fleet does not march in step.
    pub(crate) fn jittered(&self, base: Duration) -> Duration {
        let share = u32::try_from(self.luck & 0xffff).unwrap_or(0);
        base + base / 2 * share / 0xffff
    }
}

/// Time since the node booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct BootTime(pub Duration);

impl BootTime {
    /// The time this much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// How long ago `earlier` was; zero when it is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
