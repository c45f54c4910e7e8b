//! One pass over the kernel: what is wanted, what is there, the difference.
//!
//! Owns which ENIs the kernel carries. Never waits and never tries again by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use datapath::{
    desired::{self, Desired, NodeFacts},
    diff::Difference,
    link::{Link, Mac},
    names::Slot,
    nft,
    node::{self, EniLink, NodeError},
    wire::{Batch, Socket, read::LinkState, request::Change},
};
use ipnet::Ipv4Net;
use pool::{EniId, Event, WantedEni};
use tracing::{debug, info};

use super::{Network, Plan, Wanted};
use crate::convert;

/// What the kernel carries.
#[derive(Debug)]
pub(super) struct Carry {
    plan: Plan,
    socket: Socket,
    wanted: Arc<Wanted>,
    network: Option<Network>,
    carried: BTreeMap<EniId, Carried>,
    /// Addresses that others route to: nothing of ours stops packets to them.
    foreign: BTreeSet<Ipv4Addr>,
    /// The table in force, if it is ours.
    table: Option<nft::Table>,
    /// An order came since the last good pass: all that is carried is told again.
    announce: bool,
    /// ENIs whose subnet nobody has told yet, said once.
    unknown_subnets: BTreeSet<EniId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Carried {
    mac: Mac,
    link: Link,
}

/// What a pass led to.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// For the pool.
    pub(super) events: Vec<Event>,
    /// All links, when they have changed.
    pub(super) links: Option<BTreeMap<EniId, String>>,
    /// Something is not as it should be.
    pub(super) failed: Option<NodeError>,
}

impl Carry {
    pub(super) fn new(plan: Plan, socket: Socket, wanted: Arc<Wanted>, foreign: BTreeSet<Ipv4Addr>) -> Self {
        Self {
            plan,
            socket,
            wanted,
            network: None,
            carried: BTreeMap::new(),
            foreign,
            table: None,
            announce: false,
            unknown_subnets: BTreeSet::new(),
        }
    }

    pub(super) fn announce(&mut self) {
        self.announce = true;
    }

    /// Whether anything follows from it.
    pub(super) fn set_network(&mut self, network: Network) -> bool {
        let news = self.network.as_ref() != Some(&network);
        self.network = Some(network);
        news
    }

    /// Whether anything follows from it.
    pub(super) fn set_foreign(&mut self, foreign: &BTreeSet<Ipv4Addr>) -> bool {
        let news = self.foreign != *foreign;
        self.foreign.clone_from(foreign);
        news
    }

    /// Is this address in a subnet of the node's ENIs?
    pub(super) fn is_of_an_eni(&self, address: Ipv4Addr) -> bool {
        self.network.as_ref().is_some_and(|network| network.subnets.values().any(|subnet| subnet.contains(&address)))
    }

    /// A link appeared or changed: is it an ENI's, and not as it was when it was configured?
    pub(super) fn concerns(&self, link: &LinkState) -> bool {
        let Some(mac) = link.mac else { return false };
        let known = self
            .carried
            .values()
            .any(|carried| carried.mac == mac && carried.link.index == link.index && carried.link.name == link.name);
        if known { !link.up } else { self.wanted.lock().iter().any(|eni| eni.mac.0 == mac.0) }
    }

    /// A link went: was it an ENI's?
    pub(super) fn carried(&self, link: &LinkState) -> bool {
        self.carried.values().any(|carried| carried.link.index == link.index)
    }

    /// Brings the kernel to what is wanted, as far as it can.
    pub(super) fn pass(&mut self) -> Pass {
        let mut pass = Pass::default();
        let before = self.carried.clone();
        let wanted = self.wanted.lock().clone();
        let installed = self.reconcile(&wanted, &mut pass.failed);
        for id in before.keys().filter(|id| !self.carried.contains_key(*id)) {
            info!(eni = %id, "the kernel carries the ENI no more");
            pass.events.push(Event::LinkGone(id.clone()));
        }
        if installed {
            for (id, carried) in &self.carried {
                let new = before.get(id) != Some(carried);
                if new {
                    info!(eni = %id, link = carried.link.name, mac = %carried.mac, "the kernel carries the ENI");
                }
                if new || self.announce {
                    pass.events.push(Event::LinkReady(id.clone()));
                }
            }
            self.announce = false;
        } else {
            // What is new was not finished: the next pass tells of it.
            self.carried.retain(|id, carried| before.get(id) == Some(carried));
        }
        if self.carried != before {
            let links = self.carried.iter().map(|(id, carried)| (id.clone(), carried.link.name.clone()));
            pass.links = Some(links.collect());
        }
        pass
    }

    /// True when all that is carried now has its routes, rules and marks. An ENI that cannot be configured keeps no other one waiting.
    fn reconcile(&mut self, wanted: &[WantedEni], failed: &mut Option<NodeError>) -> bool {
        self.carried.retain(|id, _| wanted.iter().any(|eni| eni.eni == *id));
        // Before metadata has told of the VPC nothing can be said about routes; what an earlier daemon left stays in force.
        let Some(network) = self.network.clone() else { return false };
        let links = match self.socket.links() {
            Ok(links) => links,
            Err(error) => {
                *failed = Some(error.into());
                return false;
            }
        };
        let mut enis = Vec::new();
        for eni in wanted {
            let link = match self.configure(eni, &network, &links) {
                Ok(link) => link,
                Err(error) => {
                    failed.get_or_insert(error);
                    // One that was carried keeps what it has.
                    self.carried.get(&eni.eni).map(|carried| carried.link.clone())
                }
            };
            match link {
                Some(link) => {
                    self.carried.insert(eni.eni.clone(), Carried { mac: Mac(eni.mac.0), link: link.clone() });
                    enis.push((eni.eni.clone(), desired_eni(eni, link, &network)));
                }
                None => drop(self.carried.remove(&eni.eni)),
            }
        }
        let Some(at) = enis.iter().position(|(_, eni)| eni.slot == Slot::PRIMARY) else {
            self.carried.clear();
            return false;
        };
        let primary = enis.remove(at);
        match self.install(network.vpc, primary, enis) {
            Ok(()) => true,
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        }
    }

    /// The ENI's link as it should be; `None` while the kernel or metadata does not have it.
    fn configure(
        &mut self,
        eni: &WantedEni,
        network: &Network,
        links: &[LinkState],
    ) -> Result<Option<Link>, NodeError> {
        let Some(subnet) = network.subnets.get(&eni.subnet) else {
            if self.unknown_subnets.insert(eni.eni.clone()) {
                debug!(eni = %eni.eni, subnet = %eni.subnet, "metadata has not told the ENI's subnet yet");
            }
            return Ok(None);
        };
        let mac = Mac(eni.mac.0);
        let Some(link) = node::link_of(links, mac) else { return Ok(None) };
        let mtu = self.plan.eni_mtu;
        if convert::slot(eni.slot) == Slot::PRIMARY {
            if link.mtu != mtu {
                node::set_mtu(&mut self.socket, link.index, mtu)?;
                info!(link = link.name, was = link.mtu, is = mtu, "changed the MTU of the primary ENI's link");
            }
            return Ok(Some(Link { name: link.name.clone(), index: link.index }));
        }
        let wanted = EniLink { mac, address: eni.primary, subnet: *subnet, mtu: Some(mtu) };
        Ok(Some(node::configure_link(&mut self.socket, link, &wanted)?))
    }

    /// In an order in which no packet meets half of it: tables before the marks and rules that lead to them.
    fn install(
        &mut self,
        vpc: Vec<Ipv4Net>,
        (primary_id, primary): (EniId, desired::Eni),
        secondaries: Vec<(EniId, desired::Eni)>,
    ) -> Result<(), NodeError> {
        let (ids, secondaries): (Vec<_>, Vec<_>) = secondaries.into_iter().unzip();
        let mut facts = NodeFacts {
            numbering: self.plan.numbering.clone(),
            primary,
            secondaries,
            vpc,
            excluded: self.plan.excluded.clone(),
            external_services: self.plan.external_services.clone(),
            snat: self.plan.snat,
            node_ports: self.plan.node_ports,
        };
        for sysctl in &Desired::of(&facts).sysctls {
            if let Some(change) = sysctl.apply()? {
                info!(name = change.name, was = change.was, is = change.is, "changed a kernel setting");
            }
        }
        let rules = self.socket.own_rules()?;
        let (desired, difference) = {
            // An address that is withdrawn from now on is withdrawn after this, and not put back.
            let wanted = self.wanted.lock();
            let confirmed = |id: &EniId| {
                let eni = wanted.iter().find(|eni| eni.eni == *id);
                eni.map(|eni| super::networks(eni, &self.foreign)).unwrap_or_default()
            };
            facts.primary.confirmed = confirmed(&primary_id);
            for (id, eni) in ids.iter().zip(&mut facts.secondaries) {
                eni.confirmed = confirmed(id);
            }
            let desired = Desired::of(&facts);
            let difference = Difference::between(&desired, &self.socket.own_routes()?, &rules);
            let added: Batch = difference.missing_routes.iter().map(Change::add_route).collect();
            self.socket.send(added)?;
            (desired, difference)
        };
        self.socket.send(difference.missing_rules.iter().map(Change::add_rule).collect())?;
        if self.table.as_ref() != Some(&desired.nft) {
            self.table = None;
            nft::apply(&desired.nft)?;
            self.table = Some(desired.nft);
            debug!(enis = ids.len() + 1, "replaced the nftables table");
        }
        self.socket.send(difference.surplus_rules.iter().map(Change::delete_rule).collect())?;
        self.socket.send(difference.surplus_routes.iter().map(Change::delete_route).collect())?;
        if !difference.is_empty() {
            debug!(
                routes_added = difference.missing_routes.len(),
                routes_removed = difference.surplus_routes.len(),
                rules_added = difference.missing_rules.len(),
                rules_removed = difference.surplus_rules.len(),
                "changed routes and rules"
            );
        }
        Ok(())
    }
}

fn desired_eni(eni: &WantedEni, link: Link, network: &Network) -> desired::Eni {
    desired::Eni {
        slot: convert::slot(eni.slot),
        link,
        address: eni.primary,
        subnet: network.subnets.get(&eni.subnet).copied().unwrap_or_default(),
        // Filled in under the lock.
        confirmed: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use pool::{DeviceIndex, Slot};

    use super::*;
    use crate::config;

    #[test]
    fn only_a_link_that_is_not_as_it_was_left_is_looked_at_again() {
        let wiring = config::parse(&|_| None).expect("defaults").0.wiring;
        let wanted = Arc::<Wanted>::default();
        let socket = Socket::open().expect("a socket");
        let mut carry = Carry::new(Plan::of(&wiring), socket, Arc::clone(&wanted), BTreeSet::new());
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let some = carry.socket.links().expect("a listing").swap_remove(0);
        let link = LinkState { index: 7, name: "ens6".to_owned(), mac: Some(mac), up: true, ..some };
        assert!(!carry.concerns(&link), "nobody wants it");
        wanted.lock().push(WantedEni {
            eni: "eni-1".into(),
            slot: Slot::PRIMARY,
            mac: pool::Mac(mac.0),
            device: DeviceIndex(0),
            subnet: "subnet-1".into(),
            primary: [10, 0, 0, 1].into(),
            addresses: Vec::new(),
            prefixes: Vec::new(),
        });
        assert!(carry.concerns(&link), "it is wanted and not carried");
        let known = Link { name: link.name.clone(), index: link.index };
        carry.carried.insert("eni-1".into(), Carried { mac, link: known });
        assert!(!carry.concerns(&link), "our own changes come back as events");
        assert!(carry.concerns(&LinkState { up: false, ..link.clone() }));
        assert!(carry.concerns(&LinkState { name: "other".to_owned(), ..link.clone() }));
        assert!(carry.concerns(&LinkState { index: 8, ..link.clone() }));
        assert!(carry.carried(&link) && !carry.carried(&LinkState { index: 8, ..link }));
    }
}
