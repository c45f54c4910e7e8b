//! What goes wrong with instance metadata.

use std::{fmt, net::Ipv4Addr, str::FromStr, time::Duration};

use thiserror::Error;

use super::Spread;

/// Of every node's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataTrouble {
    /// How far metadata is behind EC2. What it knew when the lag began it goes on knowing. The lab's EC2 remembers a minute:
    /// more is a minute.
    pub lag: Duration,
    /// How long an answer takes.
    pub latency: Spread,
    /// What it leaves out.
    pub omissions: Vec<Omission>,
}

/// Metadata leaves out something that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Omission {
    /// What.
    pub what: Omitted,
    /// How often or how long.
    pub extent: Extent,
}

/// What metadata can leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Omitted {
    /// An ENI, by its id.
    Eni(String),
    /// An address of an ENI.
    Address(Ipv4Addr),
}

/// How often or how long something is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// From so many readings of the list that has it: the MACs of an instance, the addresses of an ENI. What is below an ENI's
    /// MAC stays.
    Reads(u32),
    /// From all paths for that long, from the moment when the trouble begins.
    For(Duration),
}

/// Neither the id of an ENI nor an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is neither the id of an ENI nor an IPv4 address")]
pub struct NotOmittable(pub String);

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eni(id) => f.write_str(id),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Omitted {
    type Err = NotOmittable;

    fn from_str(text: &str) -> Result<Self, NotOmittable> {
        if text.starts_with("eni-") {
            return Ok(Self::Eni(text.to_owned()));
        }
        text.parse().map(Self::Address).map_err(|_| NotOmittable(text.to_owned()))
    }
}
