//! The nftables table: rendered whole, replaced in one transaction.
//!
//! Owns which chains and sets follow from the facts about a node, and their JSON for `nft -j -f -`. Never reads a ruleset
//! back: what `nft` prints is not an interface.

mod apply;
mod render;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub use self::apply::{NftError, apply, remove};
use crate::desired::{NodeFacts, Snat, SnatPorts};
use crate::names::{Numbering, Slot};

/// What the table depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    numbering: Numbering,
    /// Link name of each ENI whose incoming connections are recorded.
    recorded: Vec<(Slot, String)>,
    /// Slots of the secondary ENIs.
    secondaries: Vec<Slot>,
    primary_link: String,
    primary_address: Ipv4Addr,
    vpc: Vec<Ipv4Net>,
    excluded: Vec<Ipv4Net>,
    snat: Option<SnatPorts>,
}

impl Table {
    /// What follows from the facts.
    pub fn of(facts: &NodeFacts) -> Self {
        let mut recorded: Vec<_> = facts.secondaries.iter().map(|eni| (eni.slot, eni.link.name.clone())).collect();
        if facts.node_ports {
            recorded.push((facts.primary.slot, facts.primary.link.name.clone()));
        }
        recorded.sort();
        let mut secondaries: Vec<_> = facts.secondaries.iter().map(|eni| eni.slot).collect();
        secondaries.sort();
        Self {
            numbering: facts.numbering.clone(),
            recorded,
            secondaries,
            primary_link: facts.primary.link.name.clone(),
            primary_address: facts.primary.address,
            // Intervals of one set must not overlap.
            vpc: Ipv4Net::aggregate(&facts.vpc),
            excluded: Ipv4Net::aggregate(&facts.excluded),
            snat: match facts.snat {
                Snat::External => None,
                Snat::Primary(ports) => Some(ports),
            },
        }
    }

    /// The whole transaction as `nft -j` reads it: make the table if it is not there, delete it, make it anew.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&render::transaction(self)).expect("a ruleset of plain structs serialises")
    }
}
