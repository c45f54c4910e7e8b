//! Links that DELs have handed over.
//!
//! Owns the thread that deletes them. One deletion waits about 20 ms for the kernel's RCU, and so does one of thirty: whatever is handed
//! over meanwhile goes with the next one. The group of a link is all that says so, and it outlives this daemon. Never touches a link
//! of another group: living pods are in those.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use datapath::{node, watch::LinkEvent, wire::Socket};
use tracing::{debug, warn};

use super::chain;

/// How long to wait after a deletion that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// Talks to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Doomed {
    group: u32,
    wake: SyncSender<()>,
}

impl Doomed {
    /// Nothing is deleted before the first [`Doomed::bury`].
    pub(super) fn start(socket: Socket, group: u32) -> io::Result<Self> {
        // One is enough: a deletion takes all that are there when it begins.
        let (wake, woken) = sync_channel(1);
        let bury = move || bury(socket, group, &woken);
        thread::Builder::new().name("doomed".to_owned()).stack_size(256 << 10).spawn(bury)?;
        Ok(Self { group, wake })
    }

    /// There may be links in the group. Returns at once.
    pub(super) fn bury(&self) {
        // One that is waiting already does it.
        let _waits_already = self.wake.try_send(());
    }

    /// A link was handed over, or may have been.
    pub(super) fn concerns(&self, event: &LinkEvent) -> bool {
        match event {
            LinkEvent::Present(link) => link.group == self.group,
            LinkEvent::Gone(_) => false,
            LinkEvent::Missed => true,
        }
    }
}

fn bury(mut socket: Socket, group: u32, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        while let Err(error) = node::delete_doomed(&mut socket, group) {
            warn!(error = %chain(&error), group, again_in = ?AGAIN, "could not delete the links of deleted pods");
            if woken.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
        debug!(group, "deleted the links of deleted pods");
    }
}
