//! When, and in which boot.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME` in nanoseconds: it counts on in suspend and never jumps.
pub(crate) fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), u64::from(now.tv_nsec.unsigned_abs() as u32));
    seconds * 1_000_000_000 + nanoseconds
}

/// This boot's id; empty where `/proc` does not tell.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
