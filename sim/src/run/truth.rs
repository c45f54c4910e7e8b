//! What is true, whatever the pool believes: who was told which address, and since when nobody uses it.
//!
//! Owns the books of sandboxes. Never asks the pool.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use pool::{BootTime, EniId, LeaseKey, Slot};

use super::trace::{Invariant, Violation};

/// A sandbox interface on a node.
pub(crate) type Holder = (usize, LeaseKey);

/// A sandbox that was told an address and whose DEL has not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) address: Ipv4Addr,
    pub(crate) eni: EniId,
    pub(crate) slot: Slot,
    /// When its ADD started.
    pub(crate) started: BootTime,
}

/// An address that a sandbox had.
#[derive(Clone, Debug)]
struct Left {
    node: usize,
    key: LeaseKey,
    /// When its DEL began.
    began: BootTime,
    /// When its DEL was answered, or left in the spool; none while it is under way.
    ended: Option<BootTime>,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    live: BTreeMap<Holder, Live>,
    holders: BTreeMap<Ipv4Addr, Holder>,
    left: BTreeMap<Ipv4Addr, Left>,
    /// The latest start of a DEL that was begun.
    begun: BTreeMap<Holder, BootTime>,
    /// The latest start of a DEL that was answered.
    answered: BTreeMap<Holder, BootTime>,
}

fn broken(invariant: Invariant, what: String) -> Violation {
    Violation { invariant, what }
}

impl Truth {
    /// An ADD that started then was answered with this address. Was its DEL begun already, the sandbox is none any more.
    pub(crate) fn told(
        &mut self,
        now: BootTime,
        holder: &Holder,
        told: Live,
        cooling: Option<Duration>,
    ) -> Result<(), Violation> {
        let address = told.address;
        if let Some(deleted) = self.answered.get(holder).filter(|deleted| **deleted >= told.started) {
            let what = format!(
                "{} started at {} got {address}; its DEL of {deleted} was answered before",
                holder.1, told.started
            );
            return Err(broken(Invariant::Tombstone, what));
        }
        if let Some(other) = self.holders.get(&address).filter(|other| *other != holder) {
            let what = format!("{} gets {address}, which {} has", name(holder), name(other));
            return Err(broken(Invariant::OneHolder, what));
        }
        if let Some(live) = self.live.get(holder).filter(|live| live.address != address) {
            return Err(broken(Invariant::SameAnswer, format!("{} had {} and gets {address}", holder.1, live.address)));
        }
        if let Some(left) = self.left.get(&address).filter(|_| !self.live.contains_key(holder)) {
            // The sandbox came back before its DEL was through, and has the same address again.
            let same = left.node == holder.0 && left.key == holder.1;
            let Some(ended) = left.ended.or(same.then_some(left.began)) else {
                let what = format!("{} gets {address}, and the DEL of {} is not through", name(holder), left.key);
                return Err(broken(Invariant::OneHolder, what));
            };
            if let Some(cooling) = cooling.filter(|cooling| !same && now.since(ended) < *cooling) {
                let what = format!(
                    "{} gets {address} {:?} after the DEL of {}; it cools {cooling:?}",
                    name(holder),
                    now.since(ended),
                    left.key
                );
                return Err(broken(Invariant::Cooled, what));
            }
        }
        if self.begun.get(holder).is_none_or(|begun| *begun < told.started) {
            self.left.remove(&address);
            self.holders.insert(address, holder.clone());
            self.live.insert(holder.clone(), told);
        }
        Ok(())
    }

    /// A DEL begins: the sandbox's interface is gone from here on.
    pub(crate) fn leaves(&mut self, holder: &Holder, started: BootTime) {
        let latest = self.begun.entry(holder.clone()).or_insert(started);
        *latest = started.max(*latest);
        if self.live.get(holder).is_some_and(|live| live.started <= started)
            && let Some(live) = self.live.remove(holder)
        {
            self.holders.remove(&live.address);
            let left = Left { node: holder.0, key: holder.1.clone(), began: started, ended: None };
            self.left.insert(live.address, left);
        }
    }

    /// A sandbox is gone, and nobody says so.
    pub(crate) fn vanishes(&mut self, now: BootTime, holder: &Holder) {
        if let Some(live) = self.live.remove(holder) {
            self.holders.remove(&live.address);
            let left = Left { node: holder.0, key: holder.1.clone(), began: now, ended: Some(now) };
            self.left.insert(live.address, left);
        }
    }

    /// The node's ledger is lost: which addresses cool, and which sandboxes were deleted, nobody can know any more.
    pub(crate) fn forget(&mut self, node: usize) {
        self.left.retain(|_, left| left.node != node);
        self.answered.retain(|(on, _), _| *on != node);
    }

    /// A DEL that started then was answered, or left in the spool.
    pub(crate) fn left(&mut self, now: BootTime, holder: &Holder, started: BootTime, how: Ended) {
        if how == Ended::Answered {
            let latest = self.answered.entry(holder.clone()).or_insert(started);
            *latest = started.max(*latest);
        }
        for left in self.left.values_mut() {
            if left.node == holder.0 && left.key == holder.1 && left.began <= started && left.ended.is_none() {
                // In the spool: it may have been done before the daemon died.
                left.ended = Some(if how == Ended::Answered { now } else { left.began });
            }
        }
    }

    /// An address among these that a sandbox has now, or whose cooling time is not over, and why.
    pub(crate) fn used(
        &self,
        now: BootTime,
        cooling: Duration,
        among: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<(Ipv4Addr, String)> {
        if let Some((address, holder)) = self.holders.iter().find(|(address, _)| among(**address)) {
            return Some((*address, format!("{} has it", name(holder))));
        }
        self.left.iter().filter(|(address, _)| among(**address)).find_map(|(address, left)| match left.ended {
            None => Some((*address, format!("the DEL of {} is not through", left.key))),
            Some(ended) if now.since(ended) < cooling => {
                Some((*address, format!("{} had it until {:?} ago", left.key, now.since(ended))))
            }
            Some(_) => None,
        })
    }

    pub(crate) fn live(&self, holder: &Holder) -> Option<&Live> {
        self.live.get(holder)
    }

    /// Sandboxes of this node that have an address.
    pub(crate) fn on(&self, node: usize) -> impl Iterator<Item = (&LeaseKey, &Live)> {
        self.live.iter().filter(move |((on, _), _)| *on == node).map(|((_, key), live)| (key, live))
    }

    /// The latest start of a DEL of this sandbox that has begun.
    pub(crate) fn deleted(&self, holder: &Holder) -> Option<BootTime> {
        self.begun.get(holder).copied()
    }
}

/// How a DEL ended for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The daemon answered.
    Answered,
    /// It is in the spool.
    Spooled,
}

fn name((node, key): &Holder) -> String {
    format!("{key} on node {node}")
}
