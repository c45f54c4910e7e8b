//! Pods that come and go, as a container runtime makes them.
//!
//! Owns what a runtime does: an ADD that fails is followed by a DEL, a DEL is repeated until it succeeds, and the next attempt
//! has a new sandbox. Every answer of a plugin goes into the record.

use std::{net::SocketAddrV4, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Error, Result};

use super::{
    Storm,
    record::{Record, Tenant},
    schedule::{Ending, Life, Schedule},
    talk::Talk,
};
use crate::{
    cni::Refusal,
    pods::Pod,
    traffic::{Echo, Transport},
    wait,
};

/// How long a DEL may go on failing.
const DELETE: Duration = Duration::from_secs(20);

/// Those who stay come first, so that later ENIs can go again.
const FIRST_WAVE: Duration = Duration::from_millis(200);

/// CNI: try again later.
const TRY_AGAIN: u32 = 11;

/// A worker's last pod, when it still lives at the end.
pub(super) type Survivor = Option<Pod>;

/// One worker: one pod after the other on one node.
pub(super) struct Worker<'a> {
    storm: &'a Storm<'a>,
    number: usize,
    node: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(storm: &'a Storm<'a>, number: usize) -> Self {
        Self { storm, number, node: number % storm.lab.nodes().len() }
    }

    /// Until the storm is over.
    pub(super) fn work(&self) -> Survivor {
        let Storm { over, schedule, record, .. } = self.storm;
        for turn in 0.. {
            let life = schedule.life(self.number, turn);
            let rest = if self.stays(turn) { Duration::ZERO } else { FIRST_WAVE.max(life.rest) };
            if over.within(rest) || !self.high_water() {
                break;
            }
            match self.live(&life, turn) {
                Ok(None) => {}
                Ok(survivor) => return survivor,
                Err(error) => record.complain(format!("worker {}: {error:#}", self.number)),
            }
        }
        None
    }

    /// This pod stays to the end.
    fn stays(&self, turn: usize) -> bool {
        self.number < self.storm.settings.residents && turn == 0
    }

    /// Waits for it; no when the storm ended first.
    fn high_water(&self) -> bool {
        let Storm { over, record, .. } = self.storm;
        while Schedule::is_dry(self.number, record.elapsed()) {
            if over.within(Duration::from_millis(50)) {
                return false;
            }
        }
        true
    }

    fn live(&self, life: &Life, turn: usize) -> Result<Survivor> {
        let Storm { over, record, .. } = self.storm;
        let Some(pod) = self.added()? else { return Ok(None) };
        if self.stays(turn) {
            self.reside(&pod)?;
        } else if life.talks {
            self.talk(&pod, turn, Some(life.hold))?;
        } else {
            over.within(life.hold);
        }
        if over.is_set() {
            return Ok(Some(pod));
        }
        record.note(format_args!("{} goes: {:?} ({})", pod.label(), life.ending, pod.container_id()));
        self.end(&pod, life)?;
        Ok(None)
    }

    fn end(&self, pod: &Pod, life: &Life) -> Result<()> {
        if life.ending != Ending::Deleted {
            // From here on its address may be given to others, once the daemon has noticed.
            leaves(self.storm.record, pod);
            pod.netns().remove()?;
        }
        if life.ending == Ending::Vanished {
            self.storm.record.vanished(pod.added().map(|added| added.address), pod.container_id());
            return Ok(());
        }
        self.delete(pod, life.remembered, life.twice)
    }

    /// A pod with an address, however many sandboxes it takes; none when the storm ended first.
    fn added(&self) -> Result<Option<Pod>> {
        let Storm { over, record, lab, .. } = self.storm;
        let gauge = &self.storm.under_way[self.node];
        while !over.is_set() {
            let mut pod = lab.nodes()[self.node].pod(&format!("p{}", self.number))?;
            gauge.fetch_add(1, Ordering::Relaxed);
            let added = pod.add().map(|added| added.address);
            gauge.fetch_sub(1, Ordering::Relaxed);
            match added {
                Ok(address) => {
                    let tenant = Tenant {
                        label: pod.label(),
                        container_id: pod.container_id().to_owned(),
                        node: self.node,
                        netns: pod.netns().clone(),
                        leaving: false,
                    };
                    record.moved_in(address, tenant);
                    return Ok(Some(pod));
                }
                Err(error) => {
                    self.refused(&pod, &error);
                    self.delete(&pod, false, false)?;
                }
            }
            over.within(Duration::from_millis(100));
        }
        Ok(None)
    }

    fn refused(&self, pod: &Pod, error: &Error) {
        let record = &self.storm.record;
        record.note(format_args!("{error:#} ({})", pod.container_id()));
        let reason = match error.downcast_ref::<Refusal>() {
            Some(refusal) if refusal.code == TRY_AGAIN => refusal.msg.split(':').next().unwrap_or_default().to_owned(),
            // In this storm nothing happens that trying again would not help against.
            Some(refusal) => {
                record.complain(format!("{}: {refusal}", pod.label()));
                format!("code {}", refusal.code)
            }
            None => {
                record.complain(format!("{}: {error:#}", pod.label()));
                "nonsense".to_owned()
            }
        };
        record.count(|figures| *figures.refusals.entry(reason).or_default() += 1);
    }

    fn delete(&self, pod: &Pod, remembered: bool, twice: bool) -> Result<()> {
        let gauge = &self.storm.under_way[self.node];
        gauge.fetch_add(1, Ordering::Relaxed);
        let deleted = delete(self.storm, pod, remembered);
        gauge.fetch_sub(1, Ordering::Relaxed);
        deleted?;
        if twice {
            pod.call("DEL", None)?.done().with_context(|| format!("deleting {} again", pod.label()))?;
        }
        Ok(())
    }

    /// Stays until the end, asks the other node, and answers pods of the other node.
    fn reside(&self, pod: &Pod) -> Result<()> {
        let echo = Echo::start(&pod.host()?, Transport::Udp)?;
        self.storm.serve(self.node, echo.at());
        self.talk(pod, 0, None)
    }

    fn talk(&self, pod: &Pod, turn: usize, time: Option<Duration>) -> Result<()> {
        let servers: Vec<SocketAddrV4> = self.storm.servers_beside(self.node);
        let to = servers.get((self.number + turn) % servers.len().max(1)).context("the other node answers")?;
        Talk::open(self.storm.record, self.storm.over, pod.host()?, *to)?.last(time);
        Ok(())
    }
}

fn leaves(record: &Record, pod: &Pod) {
    if let Some(added) = pod.added() {
        record.leaves(added.address, pod.container_id());
    }
}

/// DEL until it succeeds.
pub(super) fn delete(storm: &Storm<'_>, pod: &Pod, remembered: bool) -> Result<()> {
    let record = &storm.record;
    let address = pod.added().map(|added| added.address);
    let previous = pod.added().filter(|_| remembered).map(|added| &added.result);
    leaves(record, pod);
    let mut last = None;
    let deleted = wait::until(DELETE, || match pod.call("DEL", previous).and_then(crate::cni::Reply::done) {
        Ok(_) => Some(()),
        Err(error) => {
            record.note(format_args!("deleting {}: {error:#} ({})", pod.label(), pod.container_id()));
            record.count(|figures| figures.dels_repeated += 1);
            last = Some(error);
            None
        }
    });
    match (deleted, last) {
        (None, Some(error)) => return Err(error.context(format!("{} cannot be deleted", pod.label()))),
        _ => record.left(address, pod.container_id(), &pod.label(), pod.netns()),
    }
    Ok(())
}
