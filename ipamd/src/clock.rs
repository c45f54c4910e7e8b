//! The node's clocks and its luck.
//!
//! Owns the reading of CLOCK_BOOTTIME, of the wall clock, of random bits and of the boot's id. Never waits.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pool::BootTime;
use rand::TryRng as _;
use rustix::time::{ClockId, clock_gettime};

/// The real clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeClock;

impl NodeClock {
    /// CLOCK_BOOTTIME.
    pub fn boottime() -> BootTime {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        BootTime(Duration::new(seconds, nanos))
    }
}

impl node::Clock for NodeClock {
    fn now(&self) -> BootTime {
        Self::boottime()
    }

    fn wall(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn luck(&mut self) -> u128 {
        let mut bytes = [0; 16];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).expect("getrandom(2) works on every kernel that runs this");
        u128::from_ne_bytes(bytes)
    }
}

/// The id of this boot: leases do not outlive it.
pub fn boot_id() -> std::io::Result<String> {
    let id = std::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use node::Clock as _;

    use super::*;

    #[test]
    fn time_goes_on_and_luck_differs() {
        let (first, second) = (NodeClock::boottime(), NodeClock::boottime());
        assert!(second >= first && first > BootTime::default());
        assert_ne!(NodeClock.luck(), NodeClock.luck());
        assert_eq!(boot_id().expect("a boot").len(), 36);
    }
}
