//! One daemon, killed and started again: the kubelet and its worst enemy in one.
//!
//! Owns when a daemon dies. Expects that it never ends by itself.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Storm,
    schedule::{Mode, Moment},
};
use crate::{
    node::{Ipamd, Node},
    wait,
};

/// How long a daemon may take to be ready when nobody kills it.
const READY: Duration = Duration::from_secs(60);

/// A moment that is counted in calls may not come.
const NO_CHANGES: Duration = Duration::from_millis(1_600);

/// Kills the daemon again and again while there are kills to give, each time for one in another mode. The last one is ended in
/// good order; what is left is a daemon that takes addresses one by one, and is ready.
pub(super) fn harass(storm: &Storm<'_>, number: usize, first: Ipamd) -> Result<Ipamd> {
    let node = &storm.lab.nodes()[number];
    let mut daemon = first;
    for turn in 0.. {
        if !storm.take_a_kill() {
            break;
        }
        let blow = storm.schedule.blow(number, turn);
        await_moment(storm, &blow.moment);
        if let Some(status) = daemon.ended() {
            storm.record.complain(format!("ipamd on {} ended by itself: {status}", node.name()));
        }
        let pid = daemon.pid();
        let under_way = storm.under_way[number].load(Ordering::Relaxed);
        daemon.kill()?;
        storm.record.note(format_args!(
            "ipamd {pid} on {} was killed ({:?}), {under_way} calls of the plugin under way; away {:?}",
            node.name(),
            blow.moment,
            blow.absence
        ));
        storm.record.count(|figures| {
            figures.kills += 1;
            figures.kills_in_flight += usize::from(under_way > 0);
        });
        storm.halted.within(blow.absence);
        daemon = start(storm, node, blow.mode)?;
    }
    daemon.wait_ready(READY)?;
    let status = daemon.stop()?;
    if !status.success() {
        storm.record.complain(format!("ipamd on {} ended with {status} at SIGTERM", node.name()));
    }
    let mut daemon = start(storm, node, Mode::Addresses)?;
    daemon.wait_ready(READY)?;
    Ok(daemon)
}

/// Starts a daemon, ready or not.
pub(super) fn start(storm: &Storm<'_>, node: &Node, mode: Mode) -> Result<Ipamd> {
    let mut environment: Vec<(&str, &str)> =
        storm.settings.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if mode == Mode::Prefixes {
        environment.push(("ENABLE_PREFIX_DELEGATION", "true"));
    }
    let daemon = node.spawn_ipamd(&environment)?;
    storm.record.note(format_args!("ipamd {} on {} was started ({mode:?})", daemon.pid(), node.name()));
    Ok(daemon)
}

fn await_moment(storm: &Storm<'_>, moment: &Moment) {
    match *moment {
        Moment::After(time) => drop(storm.halted.within(time)),
        Moment::Changes(wanted, then) => {
            let begun = Instant::now();
            let (mut last, mut seen) = (changes(storm), 0);
            wait::until(NO_CHANGES, || {
                let now = changes(storm);
                // Who counts the calls starts anew now and then.
                seen += now.saturating_sub(last);
                last = now;
                (seen >= wanted).then_some(())
            });
            storm
                .record
                .note(format_args!("{seen} of {wanted} calls that change something in {:.0?}", begun.elapsed()));
            storm.halted.within(then);
        }
    }
}

/// Calls that change something, since they were counted last.
fn changes(storm: &Storm<'_>) -> u64 {
    let calls = storm.lab.ec2().calls();
    calls.iter().filter(|(action, _)| !action.reads_only()).map(|(_, count)| count).sum()
}
