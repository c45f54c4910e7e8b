//! What the kernel has, for comparing it with what others believe: links, routes and rules of a node, addresses of a pod.
//!
//! Owns no opinion. Never changes anything.

use std::net::IpAddr;

use anyhow::Result;
use datapath::{
    desired::{Route, Rule},
    wire::{Socket, read::LinkState},
};

use crate::netns::Netns;

/// The name of a pod's interface.
const POD_LINK: &str = "eth0";

/// What Berth has in the kernel of a node.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub links: Vec<LinkState>,
    /// Berth's own.
    pub routes: Vec<Route>,
    /// Berth's own.
    pub rules: Vec<Rule>,
}

impl Kernel {
    /// Reads it.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let mut socket = socket_in(netns)?;
        Ok(Self { links: socket.links()?, routes: socket.own_routes()?, rules: socket.own_rules()? })
    }
}

/// The IPv4 addresses of a pod's interface; none when there is no interface, or no namespace.
pub(crate) fn pod_addresses(netns: &Netns) -> Result<Vec<IpAddr>> {
    if !netns.exists() {
        return Ok(Vec::new());
    }
    let mut socket = socket_in(netns)?;
    let Some(link) = socket.link_by_name(POD_LINK)? else { return Ok(Vec::new()) };
    let found = socket.addresses(link.index)?;
    Ok(found.into_iter().map(|net| net.addr()).filter(IpAddr::is_ipv4).collect())
}

fn socket_in(netns: &Netns) -> Result<Socket> {
    Ok(Socket::open_in(&datapath::netns::Netns::open(netns.path())?)?)
}
