//! What amazon-vpc-cni left in the kernel for pods that still run: host routes, rules, links.
//!
//! Owns reading it, and taking one pod's part of it away. Never touches what carries Berth's marks, nor a pod that is not named, nor
//! the tables of its ENIs. (Names and numbers: amazon-vpc-cni-k8s 1.23, `cmd/routed-eni-cni-plugin/driver` and `pkg/networkutils`.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::desired::{Route, Rule, Selector, Target};
use crate::link::{Alias, Link, LinkIndex};
use crate::names::{MAIN_TABLE, link_hash};
use crate::pod::peer_of;
use crate::wire::read::LinkState;
use crate::wire::request::Change;
use crate::wire::{Batch, Socket, WireError};

/// Priority of `to POD lookup main`.
const TO_POD: u32 = 512;
/// Priority of `from POD lookup TABLE`, for pods of secondary ENIs.
const FROM_POD: u32 = 1536;

/// All that routes to single addresses and is not ours, whoever made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    routes: BTreeMap<Ipv4Addr, BTreeSet<Link>>,
    rules: Vec<(Ipv4Addr, Rule)>,
}

impl Traces {
    /// Reads them; `links` are all of the namespace.
    pub fn read(socket: &mut Socket, links: &[LinkState]) -> Result<Self, WireError> {
        let names: BTreeMap<LinkIndex, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
        // A route to one address out of an interface of the node is a gateway's, not a pod's.
        let interfaces = socket.links_in_a_network()?;
        let mut routes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for route in socket.foreign_routes()? {
            if let Some((address, index)) = to_one_address(&route)
                && !interfaces.contains(&index)
            {
                let name = names.get(&index).copied().unwrap_or_default().to_owned();
                routes.entry(address).or_default().insert(Link { name, index });
            }
        }
        Ok(Self { routes, rules: rules(socket)? })
    }

    /// The addresses that belong to somebody else: a host route leads to a link, or a rule still speaks of them and would lead astray
    /// whoever got them next.
    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.routes.keys().chain(self.rules.iter().map(|(address, _)| address)).copied().collect()
    }

    /// Does a host route lead to this address by the link of this name?
    pub fn leads_to(&self, address: Ipv4Addr, link: &str) -> bool {
        self.links_to(address).any(|found| found.name == link)
    }

    /// The links by which host routes lead to this address.
    pub fn links_to(&self, address: Ipv4Addr) -> impl Iterator<Item = &Link> {
        self.routes.get(&address).into_iter().flatten()
    }

    /// The names of the links that host routes lead to.
    pub fn links(&self) -> BTreeSet<&str> {
        self.routes.values().flatten().map(|link| link.name.as_str()).collect()
    }

    /// Addresses that only rules speak of: their pods' links are gone, or never came. amazon-vpc-cni makes the route first and removes
    /// it last.
    pub fn orphans(&self) -> BTreeSet<Ipv4Addr> {
        let orphans = self.rules.iter().filter(|(address, _)| !self.routes.contains_key(address));
        orphans.map(|(address, _)| *address).collect()
    }
}

/// Removes amazon-vpc-cni's rules for these addresses, unless a host route leads to them by now; how many went.
pub fn clear_rules(socket: &mut Socket, addresses: &BTreeSet<Ipv4Addr>) -> Result<usize, WireError> {
    let routes = socket.foreign_routes()?;
    let routed: BTreeSet<_> = routes.iter().filter_map(to_one_address).map(|(address, _)| address).collect();
    let dead: Vec<_> = rules(socket)?
        .into_iter()
        .filter(|(address, _)| addresses.contains(address) && !routed.contains(address))
        .collect();
    socket.send(dead.iter().map(|(_, rule)| Change::delete_foreign_rule(rule)).collect())?;
    Ok(dead.len())
}

/// The host's end of the link that amazon-vpc-cni made for a pod; `name` is what it is called with the prefix as it is set now. With
/// the sandbox's namespace at hand only the peer of its interface counts, whatever prefix it has; without it, the link by its name.
/// Either way a host route that is not ours must lead to it, and no alias of ours be on it.
pub fn find(
    host: &mut Socket,
    pod: Option<&mut Socket>,
    ifname: &str,
    name: &str,
) -> Result<Option<LinkState>, WireError> {
    let found = match pod {
        Some(pod) => match pod.link_by_name(ifname)? {
            Some(inside) => peer_of(host, &inside)?.filter(|link| link_hash(&link.name) == link_hash(name)),
            None => None,
        },
        None => host.link_by_name(name)?,
    };
    let Some(link) = found.filter(|link| link.veth && !is_berths(link)) else { return Ok(None) };
    let routed = !addresses_of(host, link.index)?.is_empty();
    Ok(routed.then_some(link))
}

/// Takes away what amazon-vpc-cni made for the pod of this link: its rules, and the link with its routes. The addresses that it had.
pub fn clear(host: &mut Socket, link: LinkIndex) -> Result<BTreeSet<Ipv4Addr>, WireError> {
    let addresses = addresses_of(host, link)?;
    let rules = rules(host)?.into_iter().filter(|(address, _)| addresses.contains(address));
    let mut batch: Batch = rules.map(|(_, rule)| Change::delete_foreign_rule(&rule)).collect();
    batch.push(Change::delete_link(link));
    host.send(batch)?;
    Ok(addresses)
}

/// Its rules that speak of one pod each.
fn rules(socket: &mut Socket) -> Result<Vec<(Ipv4Addr, Rule)>, WireError> {
    Ok(socket.foreign_rules()?.into_iter().filter_map(|rule| Some((pod_of(&rule)?, rule))).collect())
}

fn pod_of(rule: &Rule) -> Option<Ipv4Addr> {
    let net = match (rule.priority, rule.selector) {
        (TO_POD, Selector::To(net)) if rule.table == MAIN_TABLE => net,
        (FROM_POD, Selector::From(net)) => net,
        _ => return None,
    };
    match net.addr() {
        IpAddr::V4(address) if net.prefix_len() == 32 => Some(address),
        _ => None,
    }
}

fn addresses_of(socket: &mut Socket, link: LinkIndex) -> Result<BTreeSet<Ipv4Addr>, WireError> {
    let routes = socket.foreign_routes()?;
    Ok(routes
        .iter()
        .filter_map(to_one_address)
        .filter(|(_, index)| *index == link)
        .map(|(address, _)| address)
        .collect())
}

/// A host route: to one address of a link, by no router.
fn to_one_address(route: &Route) -> Option<(Ipv4Addr, LinkIndex)> {
    match (route.destination.addr(), route.destination.prefix_len(), route.target) {
        (IpAddr::V4(address), 32, Target::Link { index, via: None }) if !address.is_link_local() => {
            Some((address, index))
        }
        _ => None,
    }
}

fn is_berths(link: &LinkState) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.parse::<Alias>().is_ok())
}
