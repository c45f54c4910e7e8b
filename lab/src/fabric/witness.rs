//! A look at the fabric at one moment: where every address is, and how to watch the packets.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};

use super::{INTERNET, INTERNET_MAC, ONPREM, ONPREM_MAC, Plugged, Tap};
use crate::{host::Host, netns::Netns};

/// The patience of a claim that is expected to hold.
const PATIENCE: Duration = Duration::from_secs(3);

/// What claims are checked against. A copy: the fabric goes on following the VPC meanwhile.
#[derive(Debug, Clone)]
pub struct Witness {
    pub(super) router: Netns,
    pub(super) internet: Host,
    pub(super) onprem: Host,
    pub(super) plugged: Vec<Plugged>,
    pub(super) patience: Duration,
}

impl Witness {
    /// The same with another patience: a short one for what is expected to fail.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long a claim waits for an answer; by default three seconds.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The ENI that holds an address.
    pub fn holder(&self, address: Ipv4Addr) -> Result<&Plugged> {
        let holder = self.plugged.iter().find(|plugged| plugged.eni.addresses.contains(&address));
        holder.with_context(|| format!("no attached ENI has {address}"))
    }

    /// A place of a [`super::Crossing`] for people: `a:eth1` for an ENI.
    pub fn place(&self, place: &str) -> String {
        self.plugged.iter().find(|plugged| plugged.eni.id == place).map_or_else(
            || place.to_owned(),
            |plugged| format!("{}:{}", plugged.node.name().rsplit('-').next().unwrap_or_default(), plugged.link),
        )
    }

    /// The ENIs of a node, by link name.
    pub fn enis_of(&self, node: &Netns) -> Vec<&Plugged> {
        let mut enis: Vec<&Plugged> = self.plugged.iter().filter(|plugged| plugged.node == *node).collect();
        enis.sort_by(|one, other| one.link.cmp(&other.link));
        enis
    }

    /// A host on the internet: reached by primary addresses only.
    pub fn internet(&self) -> &Host {
        &self.internet
    }

    /// A host in another network of the same owner: reached by every address.
    pub fn onprem(&self) -> &Host {
        &self.onprem
    }

    /// Watches every packet on every port until the tap is dropped.
    pub fn tap(&self) -> Result<Tap> {
        let mut places: BTreeMap<String, String> =
            self.plugged.iter().map(|plugged| (plugged.eni.mac.clone(), plugged.eni.id.clone())).collect();
        places.insert(INTERNET_MAC.to_owned(), INTERNET.to_owned());
        places.insert(ONPREM_MAC.to_owned(), ONPREM.to_owned());
        Tap::open(&self.router, places)
    }
}

impl Witness {
    pub(super) fn new(router: &Netns, internet: &Host, onprem: &Host, plugged: Vec<Plugged>) -> Self {
        Self { router: router.clone(), internet: internet.clone(), onprem: onprem.clone(), plugged, patience: PATIENCE }
    }
}
