//! The state a node should have, as pure data, from the facts about it.
//!
//! Owns which routes, rules, sysctls and nftables table follow from which facts. Never reads or changes the kernel.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::link::{Link, LinkIndex};
use crate::names::{MAIN_TABLE, Numbering, PRIMARY_ADDRESS_PRIORITY, Slot, UNREACHABLE_METRIC};
use crate::nft::Table;
use crate::sysctl::Sysctl;

/// What is known about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Where marks, tables and rules begin.
    pub numbering: Numbering,
    /// The primary ENI; its slot is [`Slot::PRIMARY`].
    pub primary: Eni,
    /// The other ENIs whose links are there.
    pub secondaries: Vec<Eni>,
    /// The VPC's IPv4 CIDRs.
    pub vpc: Vec<Ipv4Net>,
    /// `AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`: not SNATed, and routed by the pod's own ENI.
    pub excluded: Vec<Ipv4Net>,
    /// `AWS_EXTERNAL_SERVICE_CIDRS`: reached by `main`, whichever pod asks.
    pub external_services: Vec<Ipv4Net>,
    /// What happens to packets that leave the VPC.
    pub snat: Snat,
    /// `AWS_VPC_CNI_NODE_PORT_SUPPORT`: replies to connections that came in by the primary leave by it.
    pub node_ports: bool,
}

/// An ENI with a link on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// Its slot: group, mark and tables derive from it.
    pub slot: Slot,
    /// Its link.
    pub link: Link,
    /// Its primary address.
    pub address: Ipv4Addr,
    /// Its subnet; the gateway is the first address after the network's.
    pub subnet: Ipv4Net,
    /// Secondary addresses and prefixes that EC2 confirmed: unreachable while no pod has them.
    pub confirmed: BTreeSet<Ipv4Net>,
}

impl Eni {
    /// The subnet's router: base + 1 (VPC User Guide, "Subnet CIDR blocks").
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()).wrapping_add(1))
    }
}

/// What happens to packets of pods that leave the VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snat {
    /// `AWS_VPC_K8S_CNI_EXTERNALSNAT=true`: nothing; they leave by the pod's own ENI.
    External,
    /// They leave by the primary ENI, from its primary address.
    Primary(SnatPorts),
}

/// `AWS_VPC_K8S_CNI_RANDOMIZESNAT`: how source ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnatPorts {
    /// `prng`: nftables `fully-random`.
    FullyRandom,
    /// `hashrandom`: nftables `random`.
    Random,
    /// `none`: the kernel keeps the port when it can.
    Kept,
}

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The table.
    pub table: u32,
    /// To where.
    pub destination: IpNet,
    /// By what.
    pub target: Target,
    /// The source of packets that the node itself sends there.
    pub source: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Nowhere, and the sender is told.
    Unreachable,
    /// Out of a link, by a router on it or to a neighbour.
    Link {
        /// The link.
        index: LinkIndex,
        /// The router.
        via: Option<IpAddr>,
    },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        match self.target {
            Target::Unreachable => f.write_str(" unreachable")?,
            Target::Link { index, via: Some(gateway) } => write!(f, " via {gateway} on link {index}")?,
            Target::Link { index, via: None } => write!(f, " on link {index}")?,
        }
        write!(f, " in table {}", self.table)
    }
}

/// A rule of ours: packets that match look into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Lower comes first.
    pub priority: u32,
    /// Which packets.
    pub selector: Selector,
    /// The table.
    pub table: u32,
}

/// Which packets a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// All.
    All,
    /// By source.
    From(IpNet),
    /// By destination.
    To(IpNet),
    /// By packet mark.
    Mark {
        /// The value.
        mark: u32,
        /// The bits that count.
        mask: u32,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        match self.selector {
            Selector::All => f.write_str(" from all")?,
            Selector::From(net) => write!(f, " from {net}")?,
            Selector::To(net) => write!(f, " to {net}")?,
            Selector::Mark { mark, mask } => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
        }
        write!(f, " lookup {}", self.table)
    }
}

/// What a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// All routes of ours except those to pods, which belong to their leases.
    pub routes: BTreeSet<Route>,
    /// All rules of ours.
    pub rules: BTreeSet<Rule>,
    /// Kernel settings, in the order in which they are made.
    pub sysctls: Vec<Sysctl>,
    /// The nftables table, replaced as a whole.
    pub nft: Table,
    /// The table of pods: its routes to links are not ours to remove.
    pub pods_table: u32,
}

impl Desired {
    /// What follows from the facts.
    pub fn of(facts: &NodeFacts) -> Self {
        Self {
            routes: routes(facts),
            rules: rules(facts),
            sysctls: sysctls(facts),
            nft: Table::of(facts),
            pods_table: facts.numbering.pods_table(),
        }
    }
}

/// The route that stops packets to an address of ours that no pod has: without it they leave for the VPC, come back, and
/// loop until their TTL ends.
pub fn unreachable(numbering: &Numbering, net: Ipv4Net) -> Route {
    Route {
        table: numbering.pods_table(),
        destination: IpNet::V4(net),
        target: Target::Unreachable,
        source: None,
        metric: UNREACHABLE_METRIC,
    }
}

fn routes(facts: &NodeFacts) -> BTreeSet<Route> {
    let names = &facts.numbering;
    let everywhere = Ipv4Net::default();
    let mut routes = BTreeSet::new();
    for eni in std::iter::once(&facts.primary).chain(&facts.secondaries) {
        routes.extend(eni.confirmed.iter().map(|&net| unreachable(names, net)));
    }
    for eni in &facts.secondaries {
        let by_this_eni = |table, destination: Ipv4Net| Route {
            table,
            destination: IpNet::V4(destination.trunc()),
            target: Target::Link { index: eni.link.index, via: Some(IpAddr::V4(eni.gateway())) },
            source: None,
            metric: 0,
        };
        let inside = facts.vpc.iter().chain(&facts.excluded);
        routes.extend(inside.map(|&net| by_this_eni(names.eni_table(eni.slot), net)));
        if facts.snat == Snat::External {
            routes.insert(by_this_eni(names.eni_table(eni.slot), everywhere));
        }
        routes.insert(by_this_eni(names.reply_table(eni.slot), everywhere));
    }
    routes
}

fn rules(facts: &NodeFacts) -> BTreeSet<Rule> {
    let names = &facts.numbering;
    let mask = names.mark_mask();
    let mut rules =
        BTreeSet::from([Rule { priority: names.pods_priority(), selector: Selector::All, table: names.pods_table() }]);
    rules.extend(facts.external_services.iter().map(|net| Rule {
        priority: names.external_service_priority(),
        selector: Selector::To(IpNet::V4(net.trunc())),
        table: MAIN_TABLE,
    }));
    for eni in &facts.secondaries {
        rules.insert(Rule {
            priority: names.reply_priority(),
            selector: Selector::Mark { mark: names.reply_mark(eni.slot), mask },
            table: names.reply_table(eni.slot),
        });
        rules.insert(Rule {
            priority: names.eni_priority(),
            selector: Selector::Mark { mark: names.mark(eni.slot), mask },
            table: names.eni_table(eni.slot),
        });
        rules.insert(Rule {
            priority: PRIMARY_ADDRESS_PRIORITY,
            selector: Selector::From(IpNet::V4(eni.address.into())),
            table: names.reply_table(eni.slot),
        });
    }
    rules
}

fn sysctls(facts: &NodeFacts) -> Vec<Sysctl> {
    let mut sysctls = vec![Sysctl::FORWARDING, Sysctl::IPVS_CONNTRACK];
    let links = std::iter::once(&facts.primary).chain(&facts.secondaries);
    sysctls.extend(links.map(|eni| Sysctl::loose_reverse_path_filter(&eni.link.name)));
    sysctls
}
