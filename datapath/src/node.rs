//! What the daemon does to a node: links of ENIs, tables, rules, the nftables table, kernel settings.
//!
//! Owns bringing the kernel to the desired state and reading back what a restart needs. Touches only what carries Berth's
//! protocol number, groups, table name, and the links of ENIs that the caller names. Never decides which ENIs those are.

mod version;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

pub use self::version::{KernelVersion, TooOld, check_kernel, check_nft};
use crate::desired::{Desired, Target, unreachable};
use crate::diff::Difference;
use crate::link::{Alias, Link, LinkIndex, Mac};
use crate::names::{Numbering, Slot};
use crate::nft::{self, NftError};
use crate::sysctl::{SysctlChange, SysctlError};
use crate::wire::read::LinkState;
use crate::wire::request::{Change, Connected, LinkSetting, ReversePathFilter};
use crate::wire::{Batch, Socket, WireError};

/// Why the kernel is not in the desired state.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A netlink request failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A kernel setting could not be made.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The nftables table could not be replaced; the old one is still in force.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// What was done to reach the desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Routes and rules that were missing or left over.
    pub difference: Difference,
    /// Kernel settings that had another value.
    pub sysctls: Vec<SysctlChange>,
}

/// Brings routes, rules, settings and the nftables table to the desired state, in an order in which no packet meets half of
/// it: tables before the marks and rules that lead to them. The socket and the calling thread must be in the same namespace.
pub fn install(socket: &mut Socket, desired: &Desired) -> Result<Installed, NodeError> {
    let mut sysctls = Vec::new();
    for sysctl in &desired.sysctls {
        sysctls.extend(sysctl.apply()?);
    }
    let difference = Difference::between(desired, &socket.own_routes()?, &socket.own_rules()?);
    socket.send(difference.missing_routes.iter().map(Change::add_route).collect())?;
    socket.send(difference.missing_rules.iter().map(Change::add_rule).collect())?;
    nft::apply(&desired.nft)?;
    socket.send(difference.surplus_rules.iter().map(Change::delete_rule).collect())?;
    socket.send(difference.surplus_routes.iter().map(Change::delete_route).collect())?;
    Ok(Installed { difference, sysctls })
}

/// The link with this MAC; `None` while the device has not appeared.
pub fn find_link(socket: &mut Socket, mac: Mac) -> Result<Option<LinkState>, WireError> {
    Ok(link_of(&socket.links()?, mac).cloned())
}

/// The link with this MAC in a listing: for many ENIs one listing is enough.
pub fn link_of(links: &[LinkState], mac: Mac) -> Option<&LinkState> {
    // A VLAN or macvlan on top of an ENI has the ENI's MAC, and names its parent in the same namespace.
    links.iter().find(|link| link.mac == Some(mac) && (link.peer.is_none() || link.peer_elsewhere))
}

/// What the link of a secondary ENI gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EniLink {
    /// Which link.
    pub mac: Mac,
    /// The ENI's primary address: a link that loses its last address loses its routes, and a loose `rp_filter` is a strict
    /// one on a link without any.
    pub address: Ipv4Addr,
    /// The ENI's subnet.
    pub subnet: Ipv4Net,
    /// `AWS_VPC_ENI_MTU`.
    pub mtu: Option<u32>,
}

/// Configures the link of a secondary ENI; `None` while the device has not appeared. Repeating it changes nothing.
pub fn configure_eni(socket: &mut Socket, eni: &EniLink) -> Result<Option<Link>, WireError> {
    let Some(link) = find_link(socket, eni.mac)? else { return Ok(None) };
    configure_link(socket, &link, eni).map(Some)
}

/// The same for a link that was found already.
pub fn configure_link(socket: &mut Socket, link: &LinkState, eni: &EniLink) -> Result<Link, WireError> {
    let mut settings = vec![LinkSetting::ReversePathFilter(ReversePathFilter::Loose), LinkSetting::Up];
    settings.extend(eni.mtu.filter(|&mtu| mtu != link.mtu).map(LinkSetting::Mtu));
    let mut batch = Batch::from_iter([Change::set_link(link.index, settings)]);
    let present = socket.addresses(link.index)?;
    if !present.iter().any(|net| net.addr() == IpAddr::V4(eni.address)) {
        let address = IpNet::new_assert(eni.address.into(), eni.subnet.prefix_len());
        batch.push(Change::add_address(link.index, address, Connected::No));
    }
    // Whoever gave it an address (DHCP, a network manager) brought the subnet's route into `main`, by this ENI.
    let connected = present.iter().filter(|net| net.addr().is_ipv4() && net.prefix_len() < 32);
    batch.extend(connected.map(|&net| Change::delete_connected_route(link.index, net)));
    socket.send(batch)?;
    Ok(Link { name: link.name.clone(), index: link.index })
}

/// Sets the MTU of the primary ENI's link.
pub fn set_mtu(socket: &mut Socket, link: LinkIndex, mtu: u32) -> Result<(), WireError> {
    socket.send(Batch::from_iter([Change::set_link(link, [LinkSetting::Mtu(mtu)])]))
}

/// Stops packets to addresses that EC2 has just confirmed and no pod has yet. Repeating it changes nothing.
pub fn stop_unused(socket: &mut Socket, numbering: &Numbering, nets: &[Ipv4Net]) -> Result<(), WireError> {
    socket.send(nets.iter().map(|&net| Change::add_route(&unreachable(numbering, net))).collect())
}

/// Lets packets to addresses out again: before EC2 is asked to take them away, and on quarantine.
pub fn let_go(socket: &mut Socket, numbering: &Numbering, nets: &[Ipv4Net]) -> Result<(), WireError> {
    socket.send(nets.iter().map(|&net| Change::delete_route(&unreachable(numbering, net))).collect())
}

/// A pod's link as a restart finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPod {
    /// The host's end.
    pub link: Link,
    /// Its MAC, which follows from the key of its lease.
    pub mac: Option<Mac>,
    /// Its ENI, by its group.
    pub slot: Slot,
    /// Whose it is; `None` when its making was cut short.
    pub alias: Option<Alias>,
    /// The addresses that are routed to it.
    pub addresses: Vec<IpAddr>,
}

/// The links of our pods: what leases are rebuilt from when the ledger is lost.
pub fn pods(socket: &mut Socket, numbering: &Numbering) -> Result<Vec<FoundPod>, WireError> {
    let links = socket.links()?;
    pods_among(socket, numbering, &links)
}

/// The same in a listing.
pub fn pods_among(socket: &mut Socket, numbering: &Numbering, links: &[LinkState]) -> Result<Vec<FoundPod>, WireError> {
    let routes = socket.routes_of_table(numbering.pods_table())?;
    let addresses = |index: LinkIndex| {
        let to_it = routes.iter().filter(move |route| route.target == Target::Link { index, via: None });
        to_it.map(|route| route.destination.addr()).collect()
    };
    let pods = links.iter().filter(|link| link.veth).filter_map(|link| {
        Some(FoundPod {
            mac: link.mac,
            slot: numbering.slot_of_group(link.group)?,
            alias: link.alias.as_deref().and_then(|alias| alias.parse().ok()),
            addresses: addresses(link.index),
            link: Link { name: link.name.clone(), index: link.index },
        })
    });
    Ok(pods.collect())
}

/// Deletes the links of this group in one request: thirty take 25 ms together, and 20 ms each one by one. A group without links is fine.
pub fn delete_doomed(socket: &mut Socket, group: u32) -> Result<(), WireError> {
    socket.send(Batch::from_iter([Change::delete_group(group)]))
}

/// Takes everything of Berth's out of the kernel except the pods' links and their routes.
pub fn remove(socket: &mut Socket) -> Result<(), NodeError> {
    let rules = socket.own_rules()?;
    let removed = socket.send(rules.iter().map(Change::delete_rule).collect());
    let routes = socket.own_routes()?;
    let to_pods = |target: Target| matches!(target, Target::Link { via: None, .. });
    let ours = routes.iter().filter(|route| !to_pods(route.target));
    let removed = removed.and(socket.send(ours.map(Change::delete_route).collect()));
    nft::remove()?;
    Ok(removed?)
}
