//! What must survive the daemon.
//!
//! Owns the shapes of the ledger's entries and their keys. Never reads or writes a store.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    Address, Block, BootTime, CallId, EniId, EniRecord, FoundLease, Intent, Lease, LeaseKey, NodeFacts, Prefix,
    PrefixState,
};

/// A change to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Write, in place of whatever has the same key.
    Put(Entry),
    /// Remove.
    Remove(Key),
}

impl Record {
    /// What the record is about.
    pub fn key(&self) -> Key {
        match self {
            Self::Put(entry) => entry.key(),
            Self::Remove(key) => key.clone(),
        }
    }
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The node's facts when they were last read.
    Facts(NodeFacts),
    /// An ENI without its addresses.
    Eni(EniRecord),
    /// An address on an ENI: a single one, or one of a prefix that has been used.
    Address(EniId, Ipv4Addr, Address),
    /// A prefix on an ENI.
    Prefix(EniId, Prefix, PrefixState),
    /// A lease.
    Lease(Lease),
    /// A DEL, so that an ADD that started before it is refused.
    Tombstone(LeaseKey, BootTime),
    /// Since when the kernel has no link for a lease.
    Missing(LeaseKey, BootTime),
    /// A call whose outcome is not known yet.
    Intent(Intent),
    /// What left this ENI, and a stale read may still show there.
    Departed(EniId, Block, BootTime),
    /// A lease that is in the kernel, on an address that EC2 has not confirmed yet.
    Found(FoundLease),
    /// An address that a found lease had until its DEL, not usable before this time.
    Resting(Ipv4Addr, BootTime),
    /// The next number of a call and of a lease.
    Serial(u64),
}

/// What an entry is found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the entries' own names")]
pub enum Key {
    Facts,
    Eni(EniId),
    Address(EniId, Ipv4Addr),
    Prefix(EniId, Prefix),
    Lease(LeaseKey),
    Tombstone(LeaseKey),
    Missing(LeaseKey),
    Intent(CallId),
    Departed(EniId, Block),
    Found(Ipv4Addr),
    Resting(Ipv4Addr),
    Serial,
}

impl Entry {
    /// The entry's key.
    pub fn key(&self) -> Key {
        match self {
            Self::Facts(_) => Key::Facts,
            Self::Eni(eni) => Key::Eni(eni.id.clone()),
            Self::Address(eni, address, _) => Key::Address(eni.clone(), *address),
            Self::Prefix(eni, prefix, _) => Key::Prefix(eni.clone(), *prefix),
            Self::Lease(lease) => Key::Lease(lease.key.clone()),
            Self::Tombstone(key, _) => Key::Tombstone(key.clone()),
            Self::Missing(key, _) => Key::Missing(key.clone()),
            Self::Intent(intent) => Key::Intent(intent.id),
            Self::Departed(eni, block, _) => Key::Departed(eni.clone(), *block),
            Self::Found(found) => Key::Found(found.address),
            Self::Resting(address, _) => Key::Resting(*address),
            Self::Serial(_) => Key::Serial,
        }
    }
}

impl fmt::Display for Key {
    /// The key as the store has it: a path that a person can read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Facts => f.write_str("facts"),
            Self::Eni(eni) => write!(f, "eni/{eni}"),
            Self::Address(eni, address) => write!(f, "address/{eni}/{address}"),
            Self::Prefix(eni, prefix) => write!(f, "prefix/{eni}/{prefix}"),
            Self::Lease(key) => write!(f, "lease/{key}"),
            Self::Tombstone(key) => write!(f, "tombstone/{key}"),
            Self::Missing(key) => write!(f, "missing/{key}"),
            Self::Intent(id) => write!(f, "intent/{}", id.0),
            Self::Departed(eni, block) => write!(f, "departed/{eni}/{block}"),
            Self::Found(address) => write!(f, "found/{address}"),
            Self::Resting(address) => write!(f, "resting/{address}"),
            Self::Serial => f.write_str("serial"),
        }
    }
}
