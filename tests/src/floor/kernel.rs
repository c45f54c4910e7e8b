//! The bare kernel work: what must be there so that packets flow, and nothing else.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{
    GROUP, TABLE, address, index, link_name, macs,
    netlink::{Batch, CREATE, open},
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const MTU: u32 = 9001;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;

const INET: u8 = 2;
const UP: u32 = 1;
const PERMANENT: u16 = 0x80;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const MAIN: u32 = 254;
const PROTOCOL_STATIC: u8 = 4;
const UNICAST: u8 = 1;

/// The link with its far end in the pod's namespace, then one batch for each side.
pub(super) fn add(number: u16, netns: &Path) -> io::Result<()> {
    let (index, address, [host_mac, pod_mac]) = (index(number), address(number), macs(number));
    let host = open()?;
    let netns = File::open(netns)?;

    let mut make = Batch::new();
    make.begin(NEW_LINK, CREATE, &link(index, UP))
        .put(IFLA_IFNAME, link_name(number).as_bytes())
        .put(IFLA_ADDRESS, &host_mac)
        .put(IFLA_MTU, &MTU.to_ne_bytes())
        .put(IFLA_GROUP, &GROUP.to_ne_bytes())
        .nest(IFLA_LINKINFO, |info| {
            info.put(INFO_KIND, b"veth").nest(INFO_DATA, |data| {
                data.nest(VETH_PEER, |peer| {
                    peer.fixed(&link(index, 0));
                    peer.put(IFLA_IFNAME, b"eth0")
                        .put(IFLA_ADDRESS, &pod_mac)
                        .put(IFLA_MTU, &MTU.to_ne_bytes())
                        .put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
                });
            });
        });
    make.send(&host)?;

    let mut outside = Batch::new();
    neighbour(&mut outside, index, address, pod_mac);
    route(&mut outside, NEW_ROUTE, CREATE, TABLE, address, 32, Via::Link(index));
    outside.send(&host)?;

    // Nothing in this process needs the host's namespace any more.
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let pod = open()?;
    let mut inside = Batch::new();
    inside.begin(NEW_LINK, 0, &link(index, UP));
    inside
        .begin(NEW_ADDRESS, CREATE, &[&[INET, 32, 0, SCOPE_UNIVERSE][..], &index.to_ne_bytes()].concat())
        .put(IFA_LOCAL, &address.octets())
        .put(IFA_ADDRESS, &address.octets());
    route(&mut inside, NEW_ROUTE, CREATE, MAIN, GATEWAY, 32, Via::Link(index));
    route(&mut inside, NEW_ROUTE, CREATE, MAIN, Ipv4Addr::UNSPECIFIED, 0, Via::Gateway(index, GATEWAY));
    neighbour(&mut inside, index, GATEWAY, host_mac);
    inside.send(&pod)
}

/// The pod's route: from here on nothing reaches it.
pub(super) fn del(number: u16) -> io::Result<()> {
    let mut batch = Batch::new();
    route(&mut batch, DELETE_ROUTE, 0, TABLE, address(number), 32, Via::Link(index(number)));
    batch.send(&open()?)
}

#[derive(Clone, Copy)]
enum Via {
    Link(u32),
    Gateway(u32, Ipv4Addr),
}

fn route(batch: &mut Batch, kind: u16, flags: u16, table: u32, destination: Ipv4Addr, length: u8, via: Via) {
    let (index, scope) = match via {
        Via::Link(index) => (index, SCOPE_LINK),
        Via::Gateway(index, _) => (index, SCOPE_UNIVERSE),
    };
    // struct rtmsg: family, lengths of destination and source, type of service, table, protocol, scope, type, flags.
    batch.begin(kind, flags, &[INET, length, 0, 0, 0, PROTOCOL_STATIC, scope, UNICAST, 0, 0, 0, 0]);
    batch.put(RTA_TABLE, &table.to_ne_bytes()).put(RTA_OIF, &index.to_ne_bytes());
    if length > 0 {
        batch.put(RTA_DST, &destination.octets());
    }
    if let Via::Gateway(_, gateway) = via {
        batch.put(RTA_GATEWAY, &gateway.octets());
    }
}

fn neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr, mac: [u8; 6]) {
    // struct ndmsg: family, padding, index, state, flags, type.
    let fixed = [&[INET, 0, 0, 0][..], &index.to_ne_bytes(), &PERMANENT.to_ne_bytes(), &[0, UNICAST]].concat();
    batch.begin(NEW_NEIGHBOUR, CREATE, &fixed).put(NDA_DST, &address.octets()).put(NDA_LLADDR, &mac);
}

/// `struct ifinfomsg`: family, type, index, flags, which flags are meant.
fn link(index: u32, flags: u32) -> Vec<u8> {
    [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &flags.to_ne_bytes()].concat()
}

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
