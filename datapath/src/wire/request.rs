//! The changes that Berth asks the kernel for, as netlink messages.
//!
//! Owns their encoding: which attribute carries what, and which refusals mean that nothing was left to do. Never sends.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InetDevConf, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::desired::{Route, Rule, Selector, Target};
use crate::link::{Link, LinkIndex, Mac};
use crate::names::PROTOCOL;
use crate::netns::Netns;

/// `IFLA_IFALIAS`.
const IFLA_IFALIAS: u16 = 20;

/// One request that changes something.
#[derive(Debug)]
pub struct Change {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
    pub(super) what: String,
    pub(super) tolerated: &'static [Errno],
}

/// A veth pair whose far end is made directly inside another namespace: moving it there would wait for the kernel's RCU.
#[derive(Debug)]
pub struct VethPair<'a> {
    /// The end in the namespace of the socket. It is up from the start.
    pub host: Link,
    /// Its MAC.
    pub host_mac: Mac,
    /// Its group.
    pub group: u32,
    /// The end in the other namespace. It is down: `IFF_UP` on it in this message costs ENOTCONN and 16 ms.
    pub pod: Link,
    /// Its MAC.
    pub pod_mac: Mac,
    /// The other namespace.
    pub netns: &'a Netns,
    /// Of both ends; the kernel's default (1500) if none.
    pub mtu: Option<u32>,
}

impl Change {
    /// Makes a veth pair in one message. EEXIST: a name or the host's index is taken; EBUSY: an index is.
    pub fn create_veth(pair: &VethPair<'_>) -> Self {
        let mut peer = LinkMessage::default();
        peer.header.index = pair.pod.index;
        peer.attributes = vec![
            LinkAttribute::IfName(pair.pod.name.clone()),
            LinkAttribute::Address(pair.pod_mac.0.to_vec()),
            LinkAttribute::NetNsFd(std::os::fd::AsFd::as_fd(pair.netns).as_raw_fd()),
        ];
        let mut host = LinkMessage::default();
        host.header.index = pair.host.index;
        host.header.flags = LinkFlags::Up;
        host.header.change_mask = LinkFlags::Up;
        host.attributes = vec![
            LinkAttribute::IfName(pair.host.name.clone()),
            LinkAttribute::Address(pair.host_mac.0.to_vec()),
            LinkAttribute::Group(pair.group),
        ];
        if let Some(mtu) = pair.mtu {
            peer.attributes.push(LinkAttribute::Mtu(mtu));
            host.attributes.push(LinkAttribute::Mtu(mtu));
        }
        host.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        Self {
            message: RouteNetlinkMessage::NewLink(host),
            flags: NLM_F_CREATE | NLM_F_EXCL,
            what: format!("making link {}", pair.host.name),
            tolerated: &[],
        }
    }

    /// Changes a link that exists.
    pub fn set_link(index: LinkIndex, settings: impl IntoIterator<Item = LinkSetting>) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mut what = format!("setting link {index}:");
        for setting in settings {
            setting.describe(&mut what);
            match setting {
                LinkSetting::Up => {
                    message.header.flags |= LinkFlags::Up;
                    message.header.change_mask |= LinkFlags::Up;
                }
                LinkSetting::Down => message.header.change_mask |= LinkFlags::Up,
                LinkSetting::Name(name) => message.attributes.push(LinkAttribute::IfName(name)),
                // Without a terminating zero: with one the kernel takes a byte less.
                LinkSetting::Alias(alias) => {
                    message.attributes.push(LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, alias.into_bytes())));
                }
                LinkSetting::Group(group) => message.attributes.push(LinkAttribute::Group(group)),
                LinkSetting::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(mtu)),
                LinkSetting::ReversePathFilter(filter) => {
                    let mut conf = InetDevConf::default();
                    conf.rp_filter = filter as i32;
                    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
                        AfSpecInet::DevConfRequest(conf),
                    ])]));
                }
            }
        }
        Self { message: RouteNetlinkMessage::SetLink(message), flags: 0, what, tolerated: &[] }
    }

    /// Deletes a link, and with it the other end, its routes and its neighbours. Waits about 20 ms for the kernel's RCU.
    pub fn delete_link(index: LinkIndex) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = index;
        Self {
            message: RouteNetlinkMessage::DelLink(message),
            flags: 0,
            what: format!("deleting link {index}"),
            tolerated: &[Errno::NODEV],
        }
    }

    /// Deletes all links of a group in one go: the waits for RCU are shared.
    pub fn delete_group(group: u32) -> Self {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        Self {
            message: RouteNetlinkMessage::DelLink(message),
            flags: 0,
            what: format!("deleting link group {group}"),
            tolerated: &[Errno::NODEV],
        }
    }

    /// Gives a link an address; nothing happens when it has it. `Connected::No`: without the route to its subnet.
    pub fn add_address(index: LinkIndex, address: IpNet, connected: Connected) -> Self {
        let mut message = address_message(index, address);
        let mut flags = AddressFlags::Permanent;
        if connected == Connected::No {
            flags |= AddressFlags::Noprefixroute;
        }
        if address.addr().is_ipv6() {
            // Else it stays tentative until the neighbours had their say.
            flags |= AddressFlags::Nodad;
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        Self {
            message: RouteNetlinkMessage::NewAddress(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: format!("adding address {address} to link {index}"),
            tolerated: &[],
        }
    }

    /// Takes an address away.
    pub fn delete_address(index: LinkIndex, address: IpNet) -> Self {
        Self {
            message: RouteNetlinkMessage::DelAddress(address_message(index, address)),
            flags: 0,
            what: format!("deleting address {address} from link {index}"),
            tolerated: &[Errno::ADDRNOTAVAIL, Errno::NODEV],
        }
    }

    /// Adds a route, in place of one with the same destination, table and metric.
    pub fn add_route(route: &Route) -> Self {
        Self {
            message: RouteNetlinkMessage::NewRoute(route_message(route)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: format!("adding route {route}"),
            tolerated: &[],
        }
    }

    /// Deletes a route, if it leads where this one says.
    pub fn delete_route(route: &Route) -> Self {
        Self {
            message: RouteNetlinkMessage::DelRoute(route_message(route)),
            flags: 0,
            what: format!("deleting route {route}"),
            tolerated: &[Errno::SRCH, Errno::NODEV],
        }
    }

    /// Deletes the kernel's own route to the subnet of an address.
    pub fn delete_connected_route(index: LinkIndex, address: IpNet) -> Self {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address.addr());
        message.header.destination_prefix_length = address.prefix_len();
        message.header.protocol = RouteProtocol::Kernel;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.header.table = 254;
        message.attributes = vec![RouteAttribute::Destination(address.network().into()), RouteAttribute::Oif(index)];
        Self {
            message: RouteNetlinkMessage::DelRoute(message),
            flags: 0,
            what: format!("deleting the connected route {} of link {index}", address.trunc()),
            tolerated: &[Errno::SRCH],
        }
    }

    /// Adds a rule; nothing happens when it is there.
    pub fn add_rule(rule: &Rule) -> Self {
        Self {
            message: RouteNetlinkMessage::NewRule(rule_message(rule)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
            what: format!("adding rule {rule}"),
            tolerated: &[Errno::EXIST],
        }
    }

    /// Deletes a rule.
    pub fn delete_rule(rule: &Rule) -> Self {
        Self {
            message: RouteNetlinkMessage::DelRule(rule_message(rule)),
            flags: 0,
            what: format!("deleting rule {rule}"),
            tolerated: &[Errno::NOENT],
        }
    }

    /// Deletes a rule of somebody else's, whatever protocol number it carries.
    pub fn delete_foreign_rule(rule: &Rule) -> Self {
        let mut message = rule_message(rule);
        message.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Protocol(_)));
        Self { message: RouteNetlinkMessage::DelRule(message), ..Self::delete_rule(rule) }
    }

    /// A permanent neighbour: nobody has to answer for it.
    pub fn add_neighbour(index: LinkIndex, address: IpAddr, mac: Mac) -> Self {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            }),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        Self {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: format!("adding neighbour {address} on link {index}"),
            tolerated: &[],
        }
    }
}

/// One setting of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkSetting {
    /// `IFF_UP`.
    Up,
    /// Not `IFF_UP`.
    Down,
    /// Another name. EBUSY for a link that is up, on kernels before 6.2.
    Name(String),
    /// `IFLA_IFALIAS`, at most 255 bytes. Cannot be set in the message that makes the link.
    Alias(String),
    /// `IFLA_GROUP`.
    Group(u32),
    /// Bytes.
    Mtu(u32),
    /// `rp_filter`, as the sysctl of the same name would set it, without a way through `/proc`.
    ReversePathFilter(ReversePathFilter),
}

impl LinkSetting {
    fn describe(&self, what: &mut String) {
        what.push_str(match self {
            Self::Up => " up",
            Self::Down => " down",
            Self::Name(_) => " name",
            Self::Alias(_) => " alias",
            Self::Group(_) => " group",
            Self::Mtu(_) => " mtu",
            Self::ReversePathFilter(_) => " rp_filter",
        });
        if let Self::Name(name) = self {
            what.push(' ');
            what.push_str(name);
        }
    }
}

/// Which sources a link accepts (`Documentation/networking/ip-sysctl.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversePathFilter {
    /// Only those to which the way back leads through this link.
    Strict = 1,
    /// Only those to which there is a way back.
    Loose = 2,
}

/// Does an address bring a route to its subnet?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connected {
    /// As usual.
    Yes,
    /// `IFA_F_NOPREFIXROUTE`.
    No,
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address_message(index: LinkIndex, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.attributes.push(RouteAttribute::Table(route.table));
    if route.destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(route.destination.network().into()));
    }
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(source) = route.source {
        message.attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    match route.target {
        Target::Unreachable => message.header.kind = RouteType::Unreachable,
        Target::Link { index, via } => {
            message.header.kind = RouteType::Unicast;
            message.attributes.push(RouteAttribute::Oif(index));
            match via {
                // The subnet's gateway need not be in the table: the connected route of an ENI is not there.
                Some(gateway) => {
                    message.header.flags = RouteFlags::Onlink;
                    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
                }
                None => message.header.scope = RouteScope::Link,
            }
        }
    }
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
    ];
    match rule.selector {
        Selector::All => {}
        Selector::From(net) => {
            message.header.family = family(net.addr());
            message.header.src_len = net.prefix_len();
            message.attributes.push(RuleAttribute::Source(net.network()));
        }
        Selector::To(net) => {
            message.header.family = family(net.addr());
            message.header.dst_len = net.prefix_len();
            message.attributes.push(RuleAttribute::Destination(net.network()));
        }
        Selector::Mark { mark, mask } => {
            message.attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
    }
    message
}
