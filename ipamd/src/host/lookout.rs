//! Who lives on the node: pods' links, ours and those of others.
//!
//! Owns reading it, when the next look is due, and removing rules that outlived the pods they speak of. Never ends a lease: what was
//! seen goes to the pool.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use datapath::{
    link::{Mac, SandboxKey},
    names::Numbering,
    node,
    vpc_cni::{self, Traces},
    wire::{Socket, WireError},
};
use pool::{Lease, LeaseKey, Origin};
use tokio::time::Instant;
use tracing::info;

/// How long after a link has gone a look is taken: one look for many links that go together.
const SOON: Duration = Duration::from_secs(1);
/// How long rules may speak of an address without a route, at most: long enough for whoever is about to make one.
const ORPHANED: Duration = Duration::from_secs(5);
/// Looks are never further apart.
const FAR: Duration = Duration::from_secs(30);

/// What one look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Sandbox interfaces whose links say whose they are.
    keys: BTreeSet<LeaseKey>,
    /// The MACs of links of ours that do not: it follows from the key.
    macs: BTreeSet<Mac>,
    /// Links that are not ours, by name.
    others: BTreeSet<String>,
    /// What routes to single addresses and is not ours.
    foreign: BTreeSet<Ipv4Addr>,
}

impl Seen {
    /// The sandbox interfaces whose links are there; `leases` are all that there are.
    pub fn sandboxes<'a>(&self, leases: impl Iterator<Item = &'a Lease>) -> BTreeSet<LeaseKey> {
        let alive = leases.filter(|lease| self.shows(lease)).map(|lease| lease.key.clone());
        self.keys.iter().cloned().chain(alive).collect()
    }

    /// A lease whose link bears no alias of ours.
    fn shows(&self, lease: &Lease) -> bool {
        let sandbox = SandboxKey { container_id: lease.key.container.clone(), ifname: lease.key.ifname.clone() };
        let taken_over = || lease.attachments.iter().any(|attachment| self.others.contains(&attachment.link));
        self.macs.contains(&sandbox.host_mac()) || (lease.origin == Origin::Imported && taken_over())
    }

    /// The addresses that something else uses.
    pub fn foreign(&self) -> &BTreeSet<Ipv4Addr> {
        &self.foreign
    }
}

/// Takes the looks.
#[derive(Debug)]
pub(super) struct Lookout {
    socket: Socket,
    numbering: Numbering,
    every: Duration,
    orphaned: Duration,
    next: Instant,
    /// Addresses of which only rules speak, and since when.
    orphans: BTreeMap<Ipv4Addr, Instant>,
}

impl Lookout {
    /// `reclaim_after` is the time between two looks that both miss a link, before its lease ends.
    pub(super) fn new(socket: Socket, numbering: Numbering, reclaim_after: Duration) -> Self {
        let every = (reclaim_after / 2).clamp(SOON, FAR);
        let orphaned = ORPHANED.min(reclaim_after);
        Self { socket, numbering, every, orphaned, next: Instant::now(), orphans: BTreeMap::new() }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// A link has gone.
    pub(super) fn hurry(&mut self) {
        self.by(SOON);
    }

    fn by(&mut self, wait: Duration) {
        self.next = self.next.min(Instant::now() + wait);
    }

    /// Looks; rules that outlived their pods go if `ours` says that their address is one of the node's ENIs.
    pub(super) fn look(&mut self, ours: impl Fn(Ipv4Addr) -> bool) -> Result<Seen, WireError> {
        self.next = Instant::now() + self.every;
        let links = self.socket.links()?;
        let traces = Traces::read(&mut self.socket, &links)?;
        let mut seen = Seen { foreign: traces.addresses(), ..Seen::default() };
        let pods = node::pods_among(&mut self.socket, &self.numbering, &links)?;
        let pod_links: BTreeSet<_> = pods.iter().map(|pod| pod.link.index).collect();
        for pod in pods {
            match pod.alias {
                Some(alias) => {
                    let SandboxKey { container_id: container, ifname } = alias.key;
                    seen.keys.insert(LeaseKey { container, ifname });
                }
                None => seen.macs.extend(pod.mac),
            }
        }
        let others = links.into_iter().filter(|link| link.veth && !pod_links.contains(&link.index));
        seen.others = others.map(|link| link.name).collect();
        self.clear_orphans(traces.orphans(), ours)?;
        Ok(seen)
    }

    fn clear_orphans(&mut self, seen: BTreeSet<Ipv4Addr>, ours: impl Fn(Ipv4Addr) -> bool) -> Result<(), WireError> {
        let now = Instant::now();
        self.orphans.retain(|address, _| seen.contains(address));
        for address in seen {
            self.orphans.entry(address).or_insert(now);
        }
        let orphans = self.orphans.iter().filter(|(address, _)| ours(**address));
        let (old, young): (Vec<_>, Vec<_>) = orphans.partition(|(_, since)| now - **since >= self.orphaned);
        let dead: BTreeSet<_> = old.into_iter().map(|(address, _)| *address).collect();
        if !young.is_empty() {
            self.by(self.orphaned);
        }
        if !dead.is_empty() {
            let rules = vpc_cni::clear_rules(&mut self.socket, &dead)?;
            if rules > 0 {
                info!(rules, addresses = ?dead, "removed rules that amazon-vpc-cni left for addresses that no pod has");
            }
            // That they are gone is seen by the next look.
            self.hurry();
        }
        Ok(())
    }
}
