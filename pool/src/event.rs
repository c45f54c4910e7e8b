//! What goes into the pool and what comes out.
//!
//! Owns the closed sets of events and effects. Never applies them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    Answer, Block, BootTime, Call, CallId, DeviceIndex, EniId, Fault, Lease, LeaseKey, Mac, News, NodeFacts, Origin,
    Pod, Prefix, Record, Refusal, Slot, SubnetId, Ticket,
};

/// Everything that can happen to a node's pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node's facts are known, or have changed.
    Facts(NodeFacts),
    /// The facts cannot be had, for now.
    FactsMissing(Refusal),
    /// Leases that a lost ledger's pods still hold, found in the kernel.
    Found(Vec<FoundLease>),
    /// Addresses that the kernel routes to something that is not ours, all of them: never leased, whatever anything else says. One that
    /// is not in the next such set any more cools and is free.
    Foreign(BTreeSet<Ipv4Addr>),
    /// The sandbox interfaces whose host links are in the kernel now, all of them.
    Sandboxes(BTreeSet<LeaseKey>),
    /// The pods that are bound to this node and want an address of the VPC, all of them, whether they have one or not.
    Demand(BTreeSet<Pod>),
    /// The node takes no new pods (true), or takes them again.
    Draining(bool),
    /// ADD: a sandbox interface wants an address.
    Add(AddRequest),
    /// DEL: a sandbox interface gives its address back.
    Del(DelRequest),
    /// The caller of this request went away.
    Abandoned(Ticket),
    /// A call came back.
    Answered(CallId, Result<Answer, Fault>),
    /// The ENI's link is in the node and carries traffic: routes, rules and the nftables table know it.
    LinkReady(EniId),
    /// The ENI's link has left the node.
    LinkGone(EniId),
    /// Time has passed.
    Tick,
    /// No new leases; what is in flight may finish.
    Stopping,
}

/// An ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddRequest {
    /// Where the reply goes.
    pub ticket: Ticket,
    /// The sandbox interface.
    pub key: LeaseKey,
    /// Its pod.
    pub pod: Pod,
    /// Name that the host side of the link should get.
    pub link: String,
    /// The sandbox's network namespace, for people and for reclaiming.
    pub netns: String,
    /// When the plugin started.
    pub started: BootTime,
    /// When the plugin stops waiting.
    pub deadline: BootTime,
}

/// A DEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelRequest {
    /// Where the reply goes; none for replays from the spool.
    pub ticket: Option<Ticket>,
    /// The sandbox interface.
    pub key: LeaseKey,
    /// When the plugin started: a lease whose ADD started later is not touched.
    pub started: BootTime,
}

/// A lease that is in the kernel and not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundLease {
    /// The sandbox interface.
    pub key: LeaseKey,
    /// Its pod.
    pub pod: Pod,
    /// The host side's name.
    pub link: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Rebuilt from our own link, or taken over.
    pub origin: Origin,
}

/// What one event led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// To be written, all or nothing, before any effect.
    pub records: Vec<Record>,
    /// To be done, in this order.
    pub effects: Vec<Effect>,
}

/// Something to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer an ADD.
    Reply(Ticket, Result<Lease, Refusal>),
    /// Answer a DEL: the lease that ended; `None` when there was none, which is success.
    Released(Ticket, Option<Lease>),
    /// Take the `unreachable` routes of these away, before EC2 may give them to others.
    Withdraw(Vec<Block>),
    /// Call EC2.
    Call(CallId, Call),
    /// What the kernel should hold ([`crate::State::wanted`]) has changed.
    Reconcile,
    /// Something that people want to know.
    Say(News),
}

/// An ENI as the node's kernel should have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedEni {
    /// The ENI.
    pub eni: EniId,
    /// Its slot.
    pub slot: Slot,
    /// How its link is found.
    pub mac: Mac,
    /// Position, 0 is the primary.
    pub device: DeviceIndex,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its own address.
    pub primary: Ipv4Addr,
    /// Addresses for pods that EC2 confirmed, sorted. Those inside `prefixes` are not named.
    pub addresses: Vec<Ipv4Addr>,
    /// Prefixes for pods that EC2 confirmed, sorted.
    pub prefixes: Vec<Prefix>,
}
