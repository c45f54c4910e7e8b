//! The VPC's network: a router namespace with one port for every attached ENI, and two hosts outside.
//!
//! Owns the namespaces `PREFIX-vpc`, `PREFIX-inet` and `PREFIX-onprem` and every link between them and the nodes. It
//! delivers only what a VPC delivers. It never configures a node: an ENI appears there as a real one does, a link with
//! its MAC, down and without an address.
//!
//! How a VPC is made of a Linux router: the subnet's gateway address on every port, unnumbered, with proxy ARP for the
//! rest of the subnet; a host route and a permanent neighbour for every assigned address (the mapping service: secondary
//! addresses are on no link of the node, nobody there would answer ARP); everything else in the VPC's CIDRs goes nowhere.

mod orders;
mod rules;
mod tap;
mod witness;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::Result;
use ipnet::Ipv4Net;

use crate::{host::Host, iproute, netns::Netns};
use orders::{Port, orders};

pub use rules::Checks;
pub use tap::{Crossing, Direction, Tap};
pub use witness::Witness;

/// The internet host.
pub const INTERNET_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// A host reached over a transit gateway: every address of the VPC talks to it, both ways, without translation.
pub const ONPREM_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
/// The network that the on-premises host is in.
pub const ONPREM_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 100, 0), 24);

/// The internet host's port, as a [`Crossing`] names it.
pub const INTERNET: &str = "inet";
/// The on-premises host's port, as a [`Crossing`] names it.
pub const ONPREM: &str = "onprem";

const INTERNET_GATEWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const ONPREM_GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
const INTERNET_MAC: &str = "02:00:00:00:ff:01";
const ONPREM_MAC: &str = "02:00:00:00:ff:02";

/// Reverse path filtering of links yet to come. Distributions make the links of a machine's network cards strict, so ENIs
/// get that here, and nothing else does: what needs it otherwise, either way, has to say so.
const NEW_LINKS_FILTER: &str = "net/ipv4/conf/default/rp_filter";
const STRICT: &str = "1";
const OFF: &str = "0";

/// An attached ENI whose device the instance already sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// `eni-...`
    pub id: String,
    /// Hardware address, lower case with colons.
    pub mac: String,
    /// Device index of the attachment; the order in which links get their names when several appear at once.
    pub device_index: u32,
    /// The subnet's CIDR.
    pub subnet: Ipv4Net,
    /// The subnet's gateway: its first address.
    pub gateway: Ipv4Addr,
    /// Assigned addresses, the primary first.
    pub addresses: Vec<Ipv4Addr>,
}

/// Where an ENI is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugged {
    /// The ENI as the fabric carries it now.
    pub eni: Eni,
    /// The node's namespace.
    pub node: Netns,
    /// The link's name there.
    pub link: String,
}

/// The running network of one VPC.
#[derive(Debug)]
pub struct Fabric {
    router: Netns,
    internet: Host,
    onprem: Host,
    ports: BTreeMap<String, Port>,
    checks: Checks,
}

impl Fabric {
    /// Makes the router and the two hosts outside. Fails when the namespaces exist: the caller clears leftovers first.
    pub fn build(prefix: &str, vpc: &[Ipv4Net]) -> Result<Self> {
        let router = Netns::create(format!("{prefix}-vpc"))?;
        router.sysctl(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
            ("net/ipv4/conf/default/proxy_arp", "1"),
            ("net/ipv6/conf/all/disable_ipv6", "1"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
        ])?;
        let internet = outside(&router, prefix, INTERNET, INTERNET_MAC, INTERNET_ADDRESS, INTERNET_GATEWAY)?;
        let onprem = outside(&router, prefix, ONPREM, ONPREM_MAC, ONPREM_ADDRESS, ONPREM_GATEWAY)?;
        let nowhere: Vec<String> = vpc.iter().map(|cidr| format!("route add blackhole {cidr}\n")).collect();
        iproute::ip(&router, &nowhere.concat())?;
        let checks = Checks::default();
        iproute::nft(&router, &rules::table(checks))?;
        Ok(Self { router, internet, onprem, ports: BTreeMap::new(), checks })
    }

    /// Makes the network what `wanted` says: for every node its visible ENIs. Says whether anything changed.
    pub fn follow(&mut self, wanted: &[(Netns, Vec<Eni>)]) -> Result<bool> {
        let orders = orders(&self.ports, wanted);
        if orders.is_empty() {
            return Ok(false);
        }
        let receiving: BTreeSet<&Netns> = orders
            .ports
            .iter()
            .filter(|(id, _)| !self.ports.contains_key(*id))
            .map(|(_, port)| &port.plugged.node)
            .collect();
        // Refuse first, then move, then accept: at no moment does the router take what the VPC would not.
        iproute::nft(&self.router, &orders.forbid)?;
        iproute::ip_tolerant(&self.router, &orders.unplug);
        for node in &receiving {
            node.sysctl(&[(NEW_LINKS_FILTER, STRICT)])?;
        }
        iproute::ip(&self.router, &orders.links)?;
        for node in &receiving {
            node.sysctl(&[(NEW_LINKS_FILTER, OFF)])?;
        }
        iproute::nft(&self.router, &orders.allow)?;
        for (id, port) in &orders.ports {
            if !self.ports.contains_key(id) {
                tracing::info!(
                    eni = id,
                    node = port.plugged.node.name(),
                    link = port.plugged.link,
                    "plugged in an ENI"
                );
            }
        }
        self.ports = orders.ports;
        Ok(true)
    }

    /// Switches checks off or on again. A fabric without one is no VPC: only for showing that the check is what refuses.
    pub fn check(&mut self, checks: Checks) -> Result<()> {
        iproute::nft(&self.router, &rules::chains(checks))?;
        self.checks = checks;
        Ok(())
    }

    /// The checks in force.
    pub fn checks(&self) -> Checks {
        self.checks
    }

    /// A host on the internet: reached by primary addresses only.
    pub fn internet(&self) -> &Host {
        &self.internet
    }

    /// A host in another network of the same owner: reached by every address.
    pub fn onprem(&self) -> &Host {
        &self.onprem
    }

    /// The router's namespace.
    pub fn router(&self) -> &Netns {
        &self.router
    }

    /// The ENIs in the fabric, by id.
    pub fn plugged(&self) -> impl Iterator<Item = &Plugged> {
        self.ports.values().map(|port| &port.plugged)
    }

    /// The ENI that holds an address.
    pub fn holder(&self, address: Ipv4Addr) -> Option<&Plugged> {
        self.plugged().find(|plugged| plugged.eni.addresses.contains(&address))
    }

    /// Where everything is now, for checking claims.
    pub fn witness(&self) -> Witness {
        Witness::new(&self.router, &self.internet, &self.onprem, self.plugged().cloned().collect())
    }

    /// Removes everything, going on after failures.
    pub fn remove(&self) -> Vec<anyhow::Error> {
        [&self.internet.netns, &self.onprem.netns, &self.router]
            .into_iter()
            .filter_map(|netns| netns.remove().err())
            .collect()
    }
}

/// A host outside the VPC, on a port of its own.
fn outside(router: &Netns, prefix: &str, port: &str, mac: &str, address: Ipv4Addr, gateway: Ipv4Addr) -> Result<Host> {
    let netns = Netns::create(format!("{prefix}-{port}"))?;
    let name = netns.name();
    iproute::ip(
        router,
        &format!(
            "link add {port} type veth peer name eth0 address {mac} netns {name}\naddr add {gateway}/24 dev {port}\nlink set {port} up\n"
        ),
    )?;
    router.sysctl(&[(&format!("net/ipv4/conf/{port}/proxy_arp"), "0")])?;
    iproute::ip(
        &netns,
        &format!("addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway} dev eth0\n"),
    )?;
    Ok(Host { name: port.to_owned(), netns, address })
}
