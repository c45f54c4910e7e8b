//! A daemon's own books, as `ipamctl -o json` tells them.
//!
//! Owns the few fields that an audit compares. Fields that it does not know are ignored.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use crate::node::Node;

/// What a daemon believes.
#[derive(Debug)]
pub(super) struct Books {
    pub pool: Pool,
    /// By container id.
    pub leases: BTreeMap<String, Lease>,
}

/// Its pool.
#[derive(Debug, Deserialize)]
pub(super) struct Pool {
    pub counts: Counts,
    pub waiting: u32,
    pub enis: Vec<Eni>,
}

/// Addresses in states that pass.
#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    pub unverified: usize,
    pub quarantined: usize,
}

/// An ENI.
#[derive(Debug, Deserialize)]
pub(super) struct Eni {
    #[serde(rename = "eni_id")]
    pub id: String,
    pub state: String,
    pub slot: u8,
    pub addresses: Vec<Address>,
}

/// An address.
#[derive(Debug, Deserialize)]
pub(super) struct Address {
    pub address: Ipv4Addr,
    pub state: String,
}

/// A lease.
#[derive(Debug)]
pub(super) struct Lease {
    pub pod: String,
    pub address: Ipv4Addr,
    pub eni: String,
    pub link: String,
}

#[derive(Deserialize)]
struct Told {
    pod: String,
    container_id: String,
    attachments: Vec<Attachment>,
}

#[derive(Deserialize)]
struct Attachment {
    addresses: Vec<String>,
    eni_id: String,
    link: String,
}

impl Books {
    /// Asks the node's daemon.
    pub(super) fn of(node: &Node) -> Result<Self> {
        let told: Vec<Told> = ask(node, "leases")?;
        let lease = |told: Told| {
            let first = told.attachments.into_iter().next().context("a lease has an attachment")?;
            let address = first.addresses.first().and_then(|text| text.split('/').next()?.parse().ok());
            let address = address.context("a lease has an address")?;
            Ok((told.container_id, Lease { pod: told.pod, address, eni: first.eni_id, link: first.link }))
        };
        Ok(Self { pool: ask(node, "pool")?, leases: told.into_iter().map(lease).collect::<Result<_>>()? })
    }

    /// The ENI and the state of every address of the pool.
    pub(super) fn addresses(&self) -> BTreeMap<Ipv4Addr, (&str, &str)> {
        let all = self.pool.enis.iter().flat_map(|eni| {
            eni.addresses.iter().map(move |address| (address.address, (eni.id.as_str(), address.state.as_str())))
        });
        all.collect()
    }
}

fn ask<T: DeserializeOwned>(node: &Node, what: &str) -> Result<T> {
    let output = node.ipamctl(&[what, "-o", "json"])?;
    // 1: the answer is bad news, and an answer all the same.
    let answered = matches!(output.status.code(), Some(0 | 1));
    ensure!(answered, "ipamctl {what} on {}: {}", node.name(), String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).with_context(|| format!("what ipamctl {what} said on {}", node.name()))
}
