//! What a pod gets: one link with its peer made inside the pod's namespace, one batch for the host side, one for the pod's.
//!
//! Owns wiring, verifying and finding the link of a sandbox interface. Recognises a link by its alias or by the MAC that
//! follows from its key, never by its name alone, and never takes the link of another sandbox away.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::desired::{Route, Target};
use crate::link::{Alias, Link, LinkIndex, Mac, SandboxKey};
use crate::names::{POD_GATEWAY, POD_GATEWAY_V6, fallback_link_name};
use crate::netns::Netns;
use crate::wire::read::LinkState;
use crate::wire::request::{Change, Connected, LinkSetting, ReversePathFilter, VethPair};
use crate::wire::{Batch, Errno, Socket, WireError};

/// How often another index, or another name, is tried.
const ATTEMPTS: u8 = 4;

/// What a sandbox interface is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// Whose it is.
    pub key: SandboxKey,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The canonical name of the host's end.
    pub link_name: String,
    /// The pod's addresses, as /32 and /128.
    pub addresses: Vec<IpNet>,
    /// The group of the host's end: which ENI the pod belongs to.
    pub group: u32,
    /// The table of the pods' routes.
    pub table: u32,
    /// Source of packets from the node itself to the pod.
    pub source: Option<IpAddr>,
    /// Bytes; the kernel's default if none.
    pub mtu: Option<u32>,
}

impl Wiring {
    /// The pod's routes on the host.
    pub fn host_routes(&self, link: LinkIndex) -> impl Iterator<Item = Route> + '_ {
        self.addresses.iter().map(move |&destination| Route {
            table: self.table,
            destination,
            target: Target::Link { index: link, via: None },
            source: self.source.filter(|source| source.is_ipv4() == destination.addr().is_ipv4()),
            metric: 0,
        })
    }

    /// The pod's own routes: to the gateway, and by it to everything.
    fn pod_routes(&self, link: LinkIndex) -> Vec<Route> {
        let mut routes = Vec::new();
        for gateway in self.gateways() {
            let on_link = |destination, via| Route {
                table: crate::names::MAIN_TABLE,
                destination,
                target: Target::Link { index: link, via },
                source: None,
                metric: 0,
            };
            let everywhere = IpNet::new_assert(if gateway.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
            routes.push(on_link(IpNet::from(gateway), None));
            routes.push(on_link(everywhere, Some(gateway)));
        }
        routes
    }

    /// The on-link routers that the pod's default routes name, one per family.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let mut gateways: Vec<_> = self.addresses.iter().map(|net| gateway_of(net.addr())).collect();
        gateways.sort();
        gateways.dedup();
        gateways
    }

    fn alias(&self) -> Alias {
        Alias { key: self.key.clone(), namespace: self.namespace.clone(), pod: self.pod.clone() }
    }
}

/// The link of a sandbox interface, both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The host's end.
    pub host: Link,
    /// Its MAC.
    pub host_mac: Mac,
    /// The pod's end: `CNI_IFNAME`.
    pub pod: Link,
    /// Its MAC.
    pub pod_mac: Mac,
}

/// What already carries the wanted name inside the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// The link of this very sandbox interface.
    Ours(PodLink),
    /// Something else.
    Foreign,
}

/// Why a pod could not be wired. Nothing is left of the attempt, unless undoing it failed too.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The interface name is taken inside the pod.
    #[error("interface name {0} is taken in the sandbox")]
    IfnameTaken(String),
    /// Neither the canonical name nor the fallback is free on the host, or no index is.
    #[error("no free link name or index for {key} after {ATTEMPTS} attempts, last {name}")]
    NothingFree {
        /// Whose link.
        key: SandboxKey,
        /// The last name tried.
        name: String,
    },
    /// The kernel refused.
    #[error("wiring {key}")]
    Kernel {
        /// Whose link.
        key: SandboxKey,
        /// What it refused.
        #[source]
        source: WireError,
        /// Why undoing it failed, if it did.
        undo: Option<Box<WireError>>,
    },
}

/// Is there a link by that name in the pod, and is it this sandbox interface's?
pub fn presence(host: &mut Socket, pod: &mut Socket, key: &SandboxKey) -> Result<Presence, WireError> {
    let Some(inside) = pod.link_by_name(&key.ifname)? else { return Ok(Presence::Absent) };
    let Some(outside) = peer_of(host, &inside)?.filter(|link| belongs_to(link, key)) else {
        return Ok(Presence::Foreign);
    };
    let (Some(host_mac), Some(pod_mac)) = (outside.mac, inside.mac) else { return Ok(Presence::Foreign) };
    Ok(Presence::Ours(PodLink {
        host: Link { name: outside.name, index: outside.index },
        host_mac,
        pod: Link { name: inside.name, index: inside.index },
        pod_mac,
    }))
}

/// Makes the link and everything on it. On failure what was made is deleted again.
pub fn wire(host: &mut Socket, pod: &mut Socket, netns: &Netns, wiring: &Wiring) -> Result<PodLink, WiringError> {
    let link = create(host, pod, netns, wiring)?;
    complete(host, pod, wiring, &link).map_err(|source| WiringError::Kernel {
        key: wiring.key.clone(),
        source,
        undo: delete(host, link.host.index).err().map(Box::new),
    })?;
    Ok(link)
}

/// Gives an existing link everything that it should have. Repeating it changes nothing.
pub fn complete(host: &mut Socket, pod: &mut Socket, wiring: &Wiring, link: &PodLink) -> Result<(), WireError> {
    host.send(host_side(wiring, link))?;
    pod.send(pod_side(wiring, link))
}

/// The on-link router for a pod with this address.
pub fn gateway_of(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { IpAddr::V4(POD_GATEWAY) } else { IpAddr::V6(POD_GATEWAY_V6) }
}

/// What is wrong with an existing link; empty when nothing is.
pub fn verify(host: &mut Socket, pod: &mut Socket, wiring: &Wiring, link: &PodLink) -> Result<Vec<Fault>, WireError> {
    let mut faults = Vec::new();
    for (socket, end) in [(&mut *host, &link.host), (&mut *pod, &link.pod)] {
        if !socket.link_by_index(end.index)?.is_some_and(|state| state.up) {
            faults.push(Fault(format!("link {} is not up", end.name)));
        }
    }
    if let Some(state) = host.link_by_index(link.host.index)? {
        if state.group != wiring.group {
            faults.push(Fault(format!("link {} is in group {}, not {}", state.name, state.group, wiring.group)));
        }
        if state.reverse_path_filter != Some(ReversePathFilter::Strict as i32) {
            faults.push(Fault(format!("link {} does not filter sources", state.name)));
        }
        if state.alias.as_deref() != Some(wiring.alias().to_string().as_str()) {
            faults.push(Fault(format!("link {} has another alias", state.name)));
        }
    }
    let addresses = pod.addresses(link.pod.index)?;
    for address in &wiring.addresses {
        if !addresses.contains(address) {
            faults.push(Fault(format!("address {address} is missing on {}", link.pod.name)));
        }
    }
    let routes = pod.routes_of_table(crate::names::MAIN_TABLE)?;
    for route in wiring.pod_routes(link.pod.index) {
        if !routes.contains(&route) {
            faults.push(Fault(format!("route {route} is missing in the sandbox")));
        }
    }
    let neighbours = pod.permanent_neighbours(link.pod.index)?;
    for gateway in wiring.gateways() {
        if !neighbours.contains(&(gateway, link.host_mac)) {
            faults.push(Fault(format!("neighbour {gateway} is missing in the sandbox")));
        }
    }
    let neighbours = host.permanent_neighbours(link.host.index)?;
    for address in &wiring.addresses {
        if !neighbours.contains(&(address.addr(), link.pod_mac)) {
            faults.push(Fault(format!("neighbour {} is missing on the node", address.addr())));
        }
    }
    let routes = host.own_routes_to(link.host.index)?;
    for route in wiring.host_routes(link.host.index) {
        if !routes.contains(&route) {
            faults.push(Fault(format!("route {route} is missing on the node")));
        }
    }
    Ok(faults)
}

/// One thing that a sandbox interface should have and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds the host's end of a sandbox interface's link: by the peer of its name in the pod, by the index that its key
/// chooses, by the names it may have. Each candidate must be its own by alias or MAC.
pub fn find(
    host: &mut Socket,
    pod: Option<&mut Socket>,
    key: &SandboxKey,
    names: &[String],
) -> Result<Option<LinkState>, WireError> {
    if let Some(pod) = pod
        && let Some(inside) = pod.link_by_name(&key.ifname)?
        && let Some(outside) = peer_of(host, &inside)?.filter(|link| belongs_to(link, key))
    {
        return Ok(Some(outside));
    }
    for attempt in 0..ATTEMPTS {
        if let Some(link) = host.link_by_index(key.index(attempt))?.filter(|link| belongs_to(link, key)) {
            return Ok(Some(link));
        }
    }
    for name in names {
        if let Some(link) = host.link_by_name(name)?.filter(|link| belongs_to(link, key)) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Removes the routes that lead to a pod's link: from here on nothing reaches the pod. Takes microseconds.
pub fn cut_off(host: &mut Socket, link: LinkIndex) -> Result<Vec<Route>, WireError> {
    let routes = host.own_routes_to(link)?;
    host.send(routes.iter().map(Change::delete_route).collect())?;
    Ok(routes)
}

/// Moves a pod's link, cut off already, to the group of those that the daemon deletes together.
pub fn doom(host: &mut Socket, link: LinkIndex, group: u32) -> Result<(), WireError> {
    host.send(Batch::from_iter([Change::set_link(link, [LinkSetting::Group(group)])]))
}

/// Deletes a pod's link, both ends. Waits about 20 ms for the kernel's RCU.
pub fn delete(host: &mut Socket, link: LinkIndex) -> Result<(), WireError> {
    host.send(Batch::from_iter([Change::delete_link(link)]))
}

/// The link of this key: by its alias, or by its MAC if its making was cut short before it got one, or the container's id
/// was so long that the alias says nothing.
fn belongs_to(link: &LinkState, key: &SandboxKey) -> bool {
    match link.alias.as_deref().map(str::parse::<Alias>) {
        Some(Ok(alias)) => alias.key == *key,
        Some(Err(_)) | None => link.veth && link.mac == Some(key.host_mac()),
    }
}

/// The host's end of a link seen in a pod. An index alone says nothing: it counts only with a peer in another namespace.
pub(crate) fn peer_of(host: &mut Socket, inside: &LinkState) -> Result<Option<LinkState>, WireError> {
    let (true, true, Some(index)) = (inside.veth, inside.peer_elsewhere, inside.peer) else { return Ok(None) };
    Ok(host.link_by_index(index)?.filter(|outside| outside.veth && outside.peer == Some(inside.index)))
}

fn create(host: &mut Socket, pod: &mut Socket, netns: &Netns, wiring: &Wiring) -> Result<PodLink, WiringError> {
    let key = &wiring.key;
    let kernel = |source| WiringError::Kernel { key: key.clone(), source, undo: None };
    let mut name = wiring.link_name.clone();
    for attempt in 0..ATTEMPTS {
        let index = key.index(attempt);
        let pair = VethPair {
            host: Link { name: name.clone(), index },
            host_mac: key.host_mac(),
            group: wiring.group,
            pod: Link { name: key.ifname.clone(), index },
            pod_mac: key.pod_mac(),
            netns,
            mtu: wiring.mtu,
        };
        match host.send(Batch::from_iter([Change::create_veth(&pair)])) {
            Ok(()) => {
                let VethPair { host, host_mac, pod, pod_mac, .. } = pair;
                return Ok(PodLink { host, host_mac, pod, pod_mac });
            }
            Err(error) if matches!(error.errno(), Some(Errno::EXIST | Errno::BUSY)) => {}
            Err(error) => return Err(kernel(error)),
        }
        // A name or an index is taken: which? An index needs nothing but the next attempt's.
        if pod.link_by_name(&key.ifname).map_err(kernel)?.is_some() {
            return Err(WiringError::IfnameTaken(key.ifname.clone()));
        }
        for taken in [host.link_by_index(index), host.link_by_name(&name)] {
            match taken.map_err(kernel)? {
                // Left over from an attempt of our own that was cut short, for a namespace that is not the sandbox's any more.
                Some(left) if belongs_to(&left, key) => delete(host, left.index).map_err(kernel)?,
                Some(old) if old.name == name => {
                    if name != wiring.link_name {
                        return Err(WiringError::NothingFree { key: key.clone(), name });
                    }
                    if !step_aside(host, &old, wiring).map_err(kernel)? {
                        name = fallback_link_name(&wiring.link_name, &wiring.namespace, &wiring.pod, &key.container_id);
                    }
                }
                _ => {}
            }
        }
    }
    Err(WiringError::NothingFree { key: key.clone(), name })
}

/// An older sandbox of the same pod has the canonical name: its link gets another. False when it cannot: a kernel before
/// 6.2 does not rename a link that is up, and a link that is not a pod's is not ours to rename.
fn step_aside(host: &mut Socket, old: &LinkState, wiring: &Wiring) -> Result<bool, WireError> {
    let Some(alias) = old.alias.as_deref().and_then(|alias| alias.parse::<Alias>().ok()).filter(|_| old.veth) else {
        return Ok(false);
    };
    let name = fallback_link_name(&wiring.link_name, &wiring.namespace, &wiring.pod, &alias.key.container_id);
    match host.send(Batch::from_iter([Change::set_link(old.index, [LinkSetting::Name(name)])])) {
        Ok(()) => Ok(true),
        Err(error) => match error.errno() {
            Some(Errno::BUSY | Errno::EXIST) => Ok(false),
            // It went away by itself.
            Some(Errno::NODEV) => Ok(true),
            _ => Err(error),
        },
    }
}

fn host_side(wiring: &Wiring, link: &PodLink) -> Batch {
    let mut batch = Batch::new();
    batch.push(Change::set_link(
        link.host.index,
        [LinkSetting::Alias(wiring.alias().to_string()), LinkSetting::ReversePathFilter(ReversePathFilter::Strict)],
    ));
    for address in &wiring.addresses {
        batch.push(Change::add_neighbour(link.host.index, address.addr(), link.pod_mac));
    }
    batch.extend(wiring.host_routes(link.host.index).map(|route| Change::add_route(&route)));
    batch
}

fn pod_side(wiring: &Wiring, link: &PodLink) -> Batch {
    /// A network namespace's first link.
    const LOOPBACK: LinkIndex = 1;
    let mut batch = Batch::new();
    batch.push(Change::set_link(LOOPBACK, [LinkSetting::Up]));
    batch.push(Change::set_link(link.pod.index, [LinkSetting::Up]));
    for &address in &wiring.addresses {
        batch.push(Change::add_address(link.pod.index, address, Connected::Yes));
    }
    batch.extend(wiring.pod_routes(link.pod.index).iter().map(Change::add_route));
    for gateway in wiring.gateways() {
        batch.push(Change::add_neighbour(link.pod.index, gateway, link.host_mac));
    }
    batch
}
