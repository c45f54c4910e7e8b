//! What the kernel has, read into plain types.
//!
//! Owns the listings: links, addresses, routes, rules, neighbours. Never changes anything.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Socket, WireError};
use crate::desired::{Route, Rule, Selector, Target};
use crate::link::{LinkIndex, Mac};
use crate::names::PROTOCOL;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Its index.
    pub index: LinkIndex,
    /// Its name.
    pub name: String,
    /// Its MAC; none on a loopback of zeros or a link of another kind.
    pub mac: Option<Mac>,
    /// Its alias.
    pub alias: Option<String>,
    /// Its group.
    pub group: u32,
    /// Bytes.
    pub mtu: u32,
    /// `IFF_UP`.
    pub up: bool,
    /// Is it a veth?
    pub veth: bool,
    /// Index of the other end.
    pub peer: Option<LinkIndex>,
    /// The other end is in another namespace (`IFLA_LINK_NETNSID` is present).
    pub peer_elsewhere: bool,
    /// `rp_filter` of the link alone; `conf.all` may be stricter.
    pub reverse_path_filter: Option<i32>,
}

impl Socket {
    /// All links of the namespace. Others that add links meanwhile interrupt it: never on the way of a pod.
    pub fn links(&mut self) -> Result<Vec<LinkState>, WireError> {
        let message = RouteNetlinkMessage::GetLink(link_request());
        Ok(self.dump("links", &message)?.into_iter().filter_map(link_state).collect())
    }

    /// One link by its index.
    pub fn link_by_index(&mut self, index: LinkIndex) -> Result<Option<LinkState>, WireError> {
        let mut message = link_request();
        message.header.index = index;
        let what = format!("reading link {index}");
        Ok(self.get(&what, RouteNetlinkMessage::GetLink(message))?.and_then(link_state))
    }

    /// One link by its name.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<LinkState>, WireError> {
        let mut message = link_request();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let what = format!("reading link {name}");
        Ok(self.get(&what, RouteNetlinkMessage::GetLink(message))?.and_then(link_state))
    }

    /// The addresses of a link, of both families.
    pub fn addresses(&mut self, index: LinkIndex) -> Result<Vec<IpNet>, WireError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let found = self.dump("addresses", &RouteNetlinkMessage::GetAddress(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                // An older kernel does not filter by itself.
                RouteNetlinkMessage::NewAddress(message) if message.header.index == index => address(&message),
                _ => None,
            })
            .collect())
    }

    /// Berth's own IPv4 routes, in all tables.
    pub fn own_routes(&mut self) -> Result<Vec<Route>, WireError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.protocol = RouteProtocol::from(PROTOCOL);
        self.routes(message, None)
    }

    /// The IPv4 routes of one table, whoever made them. Routes of a shape that Berth never makes are left out.
    pub fn routes_of_table(&mut self, table: u32) -> Result<Vec<Route>, WireError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.attributes.push(RouteAttribute::Table(table));
        self.routes(message, Some(table))
    }

    /// Berth's IPv4 routes that lead to a link.
    pub fn own_routes_to(&mut self, index: LinkIndex) -> Result<Vec<Route>, WireError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.protocol = RouteProtocol::from(PROTOCOL);
        message.attributes.push(RouteAttribute::Oif(index));
        let routes = self.routes(message, None)?;
        let leads_here = |route: &Route| matches!(route.target, Target::Link { index: found, .. } if found == index);
        Ok(routes.into_iter().filter(leads_here).collect())
    }

    /// All IPv4 routes out of a link that do not carry Berth's protocol number, in all tables. Routes by a nexthop object or by several
    /// links are left out.
    pub fn foreign_routes(&mut self) -> Result<Vec<Route>, WireError> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        let found = self.dump("routes", &RouteNetlinkMessage::GetRoute(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message)
                    if message.header.protocol != RouteProtocol::from(PROTOCOL)
                        && message.header.kind == RouteType::Unicast =>
                {
                    route(&message)
                }
                _ => None,
            })
            .collect())
    }

    /// All links with an IPv4 address of a network, and not only one of its own: the node's interfaces, and no pod's.
    pub fn links_in_a_network(&mut self) -> Result<BTreeSet<LinkIndex>, WireError> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let found = self.dump("addresses", &RouteNetlinkMessage::GetAddress(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) if message.header.prefix_len < 32 => {
                    Some(message.header.index)
                }
                _ => None,
            })
            .collect())
    }

    fn routes(&mut self, message: RouteMessage, table: Option<u32>) -> Result<Vec<Route>, WireError> {
        let protocol = message.header.protocol;
        let found = self.dump("routes", &RouteNetlinkMessage::GetRoute(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message)
                    if protocol == RouteProtocol::Unspec || message.header.protocol == protocol =>
                {
                    route(&message)
                }
                _ => None,
            })
            .filter(|route| table.is_none_or(|table| route.table == table))
            .collect())
    }

    /// Berth's own IPv4 rules.
    pub fn own_rules(&mut self) -> Result<Vec<Rule>, WireError> {
        Ok(self.rules()?.iter().filter(|message| is_our_rule(message)).filter_map(rule).collect())
    }

    /// The IPv4 rules of others that ask for one source or one destination, and for nothing else.
    pub fn foreign_rules(&mut self) -> Result<Vec<Rule>, WireError> {
        let rules = self.rules()?;
        let theirs = rules.iter().filter(|message| !is_our_rule(message) && asks_for_one_network(message));
        Ok(theirs.filter_map(rule).collect())
    }

    fn rules(&mut self) -> Result<Vec<RuleMessage>, WireError> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let found = self.dump("rules", &RouteNetlinkMessage::GetRule(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRule(message) => Some(message),
                _ => None,
            })
            .collect())
    }

    /// The permanent neighbours of a link.
    pub fn permanent_neighbours(&mut self, index: LinkIndex) -> Result<Vec<(IpAddr, Mac)>, WireError> {
        let mut message = NeighbourMessage::default();
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        let found = self.dump("neighbours", &RouteNetlinkMessage::GetNeighbour(message))?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(message) if message.header.ifindex == index => neighbour(&message),
                _ => None,
            })
            .collect())
    }
}

fn link_request() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// A link message, of an answer or of an event.
pub(crate) fn link_state(message: RouteNetlinkMessage) -> Option<LinkState> {
    let (RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) = message else { return None };
    let mut link = LinkState {
        index: message.header.index,
        name: String::new(),
        mac: None,
        alias: None,
        group: 0,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        veth: false,
        peer: None,
        peer_elsewhere: false,
        reverse_path_filter: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = Mac::from_slice(&bytes),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::LinkInfo(parts) => {
                link.veth = parts.iter().any(|part| matches!(part, LinkInfo::Kind(InfoKind::Veth)));
            }
            LinkAttribute::AfSpecUnspec(families) => link.reverse_path_filter = reverse_path_filter(&families),
            _ => {}
        }
    }
    Some(link)
}

fn reverse_path_filter(families: &[AfSpecUnspec]) -> Option<i32> {
    families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet(settings) => settings.iter().find_map(|setting| match setting {
            AfSpecInet::DevConf(conf) => Some(conf.rp_filter),
            _ => None,
        }),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let found = found.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    IpNet::new(found, message.header.prefix_len).ok()
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let (mut destination, mut table, mut metric) = (any, u32::from(message.header.table), 0);
    let (mut source, mut index, mut via) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(number) => index = Some(*number),
            RouteAttribute::Gateway(address) => via = ip(address),
            _ => {}
        }
    }
    let target = match message.header.kind {
        RouteType::Unreachable => Target::Unreachable,
        RouteType::Unicast => Target::Link { index: index?, via },
        _ => return None,
    };
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route { table, destination, target, source, metric })
}

fn rule(message: &RuleMessage) -> Option<Rule> {
    if message.header.action != RuleAction::ToTable {
        return None;
    }
    let (mut priority, mut table) = (0, u32::from(message.header.table));
    let (mut selector, mut mark, mut mask) = (Selector::All, None, u32::MAX);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Source(address) => {
                selector = Selector::From(IpNet::new(*address, message.header.src_len).ok()?);
            }
            RuleAttribute::Destination(address) => {
                selector = Selector::To(IpNet::new(*address, message.header.dst_len).ok()?);
            }
            RuleAttribute::FwMark(number) => mark = Some(*number),
            RuleAttribute::FwMask(number) => mask = *number,
            _ => {}
        }
    }
    if let Some(mark) = mark {
        selector = Selector::Mark { mark, mask };
    }
    Some(Rule { priority, selector, table })
}

fn is_our_rule(message: &RuleMessage) -> bool {
    let ours = |attribute: &RuleAttribute| matches!(attribute, RuleAttribute::Protocol(protocol) if u8::from(*protocol) == PROTOCOL);
    message.attributes.iter().any(ours)
}

/// A rule with any other condition is not described by a [`Selector`]: taking it for the plain one would delete the wrong rule.
fn asks_for_one_network(message: &RuleMessage) -> bool {
    /// What the kernel says of a rule that suppresses nothing.
    const NOTHING: u32 = u32::MAX;
    let mut networks = 0;
    let plain = message.attributes.iter().all(|attribute| match attribute {
        RuleAttribute::Source(_) | RuleAttribute::Destination(_) => {
            networks += 1;
            true
        }
        RuleAttribute::SuppressPrefixLen(length) => *length == NOTHING,
        RuleAttribute::SuppressIfGroup(group) => *group == NOTHING,
        RuleAttribute::Priority(_) | RuleAttribute::Table(_) | RuleAttribute::Protocol(_) => true,
        _ => false,
    });
    plain && networks == 1 && message.header.tos == 0 && !message.header.flags.contains(RuleFlags::Invert)
}

fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => address = Some(IpAddr::V4(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => address = Some(IpAddr::V6(*found)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_slice(bytes),
            _ => {}
        }
    }
    Some((address?, mac?))
}
