//! What must survive the daemon.
//!
//! Owns the shapes of the ledger's entries and their keys. Never reads or writes a store.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Address, BootTime, CallId, EniId, EniRecord, Intent, Lease, LeaseKey, NodeFacts};

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
    /// An address on an ENI.
    Address(EniId, Ipv4Addr, Address),
    /// A lease.
    Lease(Lease),
    /// A DEL, so that an ADD that started before it is refused.
    Tombstone(LeaseKey, BootTime),
    /// A call whose outcome is not known yet.
    Intent(Intent),
    /// An address given back to EC2, which a stale read may still show.
    Departed(Ipv4Addr, BootTime),
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
    Lease(LeaseKey),
    Tombstone(LeaseKey),
    Intent(CallId),
    Departed(Ipv4Addr),
    Serial,
}

impl Entry {
    /// The entry's key.
    pub fn key(&self) -> Key {
        match self {
            Self::Facts(_) => Key::Facts,
            Self::Eni(eni) => Key::Eni(eni.id.clone()),
            Self::Address(eni, address, _) => Key::Address(eni.clone(), *address),
            Self::Lease(lease) => Key::Lease(lease.key.clone()),
            Self::Tombstone(key, _) => Key::Tombstone(key.clone()),
            Self::Intent(intent) => Key::Intent(intent.id),
            Self::Departed(address, _) => Key::Departed(*address),
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
            Self::Lease(key) => write!(f, "lease/{key}"),
            Self::Tombstone(key) => write!(f, "tombstone/{key}"),
            Self::Intent(id) => write!(f, "intent/{}", id.0),
            Self::Departed(address) => write!(f, "departed/{address}"),
            Self::Serial => f.write_str("serial"),
        }
    }
}
