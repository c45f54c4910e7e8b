//! Somewhere traffic starts or ends.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::netns::Netns;

/// A pod, a node, the internet: a namespace and the address it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// For people.
    pub name: String,
    /// Where its sockets are opened.
    pub netns: Netns,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Host {
    /// A port at this host.
    pub fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }
}
