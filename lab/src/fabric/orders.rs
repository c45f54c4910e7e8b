//! What has to be run to bring the router from one set of ENIs to another. Pure: text in, text out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::Ipv4Addr,
};

use super::{Eni, Plugged};
use crate::netns::Netns;

/// Jumbo frames, as inside a VPC.
const MTU: u32 = 9001;

/// A port of the router, by the ENI's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) plugged: Plugged,
    /// Name of the router's end.
    pub(super) name: String,
}

/// Scripts in the order in which they are run, and the ports afterwards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// `nft`: what is no longer accepted.
    pub(super) forbid: String,
    /// `ip -batch`, tolerant: links, routes and neighbours that may be gone already.
    pub(super) unplug: String,
    /// `ip -batch`: links, routes, neighbours.
    pub(super) links: String,
    /// `nft`: what is accepted from now on.
    pub(super) allow: String,
    pub(super) ports: BTreeMap<String, Port>,
}

impl Orders {
    pub(super) fn is_empty(&self) -> bool {
        self.forbid.is_empty() && self.unplug.is_empty() && self.links.is_empty() && self.allow.is_empty()
    }
}

pub(super) fn orders(current: &BTreeMap<String, Port>, wanted: &[(Netns, Vec<Eni>)]) -> Orders {
    let mut orders = Orders::default();
    let still_there: BTreeMap<&str, (&Netns, &Eni)> =
        wanted.iter().flat_map(|(node, enis)| enis.iter().map(move |eni| (eni.id.as_str(), (node, eni)))).collect();

    // Take away.
    for (id, port) in current {
        match still_there.get(id.as_str()) {
            Some((node, eni)) if **node == port.plugged.node => {
                for address in missing_from(&port.plugged.eni.addresses, &eni.addresses) {
                    orders.forbid(port, address);
                    write_line(&mut orders.unplug, format_args!("route del {address}/32 dev {}", port.name));
                    write_line(&mut orders.unplug, format_args!("neigh del {address} dev {}", port.name));
                }
                orders.ports.insert(id.clone(), port.clone());
            }
            _ => {
                for address in &port.plugged.eni.addresses {
                    orders.forbid(port, *address);
                }
                write_line(
                    &mut orders.forbid,
                    format_args!("delete element inet fabric ports {{ \"{}\" }}", port.name),
                );
                let mac = &port.plugged.eni.mac;
                write_line(
                    &mut orders.forbid,
                    format_args!("delete element inet fabric macs {{ \"{}\" . {mac} }}", port.name),
                );
                write_line(&mut orders.unplug, format_args!("link del {}", port.name));
            }
        }
    }

    // Put in place.
    for (node, enis) in wanted {
        let mut in_order: Vec<&Eni> = enis.iter().collect();
        in_order.sort_by_key(|eni| eni.device_index);
        for eni in in_order {
            let mut port = match orders.ports.get(&eni.id) {
                Some(port) => port.clone(),
                None => orders.plug(node, eni),
            };
            let before = std::mem::replace(&mut port.plugged.eni, eni.clone()).addresses;
            orders.ports.insert(eni.id.clone(), port.clone());
            for address in missing_from(&eni.addresses, &before) {
                orders.allow(&port, address);
            }
            let (was, is) = (before.first(), eni.addresses.first());
            if was != is
                && let Some(primary) = is
            {
                write_line(&mut orders.allow, format_args!("add element inet fabric primaries {{ {primary} }}"));
            }
        }
    }
    orders
}

impl Orders {
    fn forbid(&mut self, port: &Port, address: Ipv4Addr) {
        write_line(
            &mut self.forbid,
            format_args!("delete element inet fabric addresses {{ \"{}\" . {address} }}", port.name),
        );
        if port.plugged.eni.addresses.first() == Some(&address) {
            write_line(&mut self.forbid, format_args!("delete element inet fabric primaries {{ {address} }}"));
        }
    }

    fn allow(&mut self, port: &Port, address: Ipv4Addr) {
        let (name, mac) = (&port.name, &port.plugged.eni.mac);
        write_line(&mut self.links, format_args!("route replace {address}/32 dev {name}"));
        write_line(&mut self.links, format_args!("neigh replace {address} lladdr {mac} dev {name} nud permanent"));
        write_line(&mut self.allow, format_args!("add element inet fabric addresses {{ \"{name}\" . {address} }}"));
    }

    fn plug(&mut self, node: &Netns, eni: &Eni) -> Port {
        let link =
            free_link_name(self.ports.values().map(|port| &port.plugged).filter(|plugged| plugged.node == *node));
        let name = port_name(&eni.id);
        let (mac, gateway) = (&eni.mac, eni.gateway);
        write_line(
            &mut self.links,
            format_args!(
                "link add {name} mtu {MTU} type veth peer name {link} address {mac} mtu {MTU} netns {}",
                node.name()
            ),
        );
        write_line(&mut self.links, format_args!("addr add {gateway}/32 dev {name}"));
        // Without this an answer by proxy waits up to 0.8 s.
        write_line(&mut self.links, format_args!("ntable change name arp_cache dev {name} proxy_delay 0"));
        write_line(&mut self.links, format_args!("link set {name} up"));
        write_line(&mut self.allow, format_args!("add element inet fabric ports {{ \"{name}\" }}"));
        write_line(&mut self.allow, format_args!("add element inet fabric macs {{ \"{name}\" . {mac} }}"));
        // Its addresses come the way all addresses come.
        Port { plugged: Plugged { eni: Eni { addresses: Vec::new(), ..eni.clone() }, node: node.clone(), link }, name }
    }
}

/// The kernel gives a new link the lowest free number.
fn free_link_name<'a>(taken: impl Iterator<Item = &'a Plugged>) -> String {
    let taken: BTreeSet<&str> = taken.map(|plugged| plugged.link.as_str()).collect();
    (0..=taken.len())
        .map(|number| format!("eth{number}"))
        .find(|name| !taken.contains(name.as_str()))
        .expect("one more number than links taken")
}

/// A link name has at most 15 bytes; the last digits of the id tell ENIs apart.
fn port_name(id: &str) -> String {
    let tail = id.len().saturating_sub(12);
    format!("p-{}", id.get(tail..).unwrap_or(id))
}

fn missing_from(these: &[Ipv4Addr], those: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    these.iter().copied().filter(|address| !those.contains(address)).collect()
}

fn write_line(script: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(script, "{line}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eni(id: &str, device_index: u32, addresses: &[&str]) -> Eni {
        Eni {
            id: id.to_owned(),
            mac: format!("02:00:00:00:00:0{device_index}"),
            device_index,
            subnet: "10.0.0.0/20".parse().expect("a CIDR"),
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        }
    }

    fn node() -> Netns {
        Netns::named("n")
    }

    #[test]
    fn the_same_enis_twice_need_nothing_the_second_time() {
        let wanted = vec![(node(), vec![eni("eni-1", 0, &["10.0.0.4", "10.0.0.5"]), eni("eni-2", 1, &["10.0.0.6"])])];
        let first = orders(&BTreeMap::new(), &wanted);
        assert!(!first.is_empty());
        assert!(orders(&first.ports, &wanted).is_empty());
    }

    #[test]
    fn links_get_the_lowest_free_name_in_device_order() {
        let all = vec![(
            node(),
            vec![eni("eni-3", 2, &["10.0.0.8"]), eni("eni-1", 0, &["10.0.0.4"]), eni("eni-2", 1, &["10.0.0.6"])],
        )];
        let ports = orders(&BTreeMap::new(), &all).ports;
        assert_eq!(
            [&ports["eni-1"], &ports["eni-2"], &ports["eni-3"]].map(|port| port.plugged.link.as_str()),
            ["eth0", "eth1", "eth2"]
        );
        let without_second = vec![(node(), vec![eni("eni-1", 0, &["10.0.0.4"]), eni("eni-3", 2, &["10.0.0.8"])])];
        let ports = orders(&ports, &without_second).ports;
        let back = vec![(
            node(),
            vec![eni("eni-1", 0, &["10.0.0.4"]), eni("eni-3", 2, &["10.0.0.8"]), eni("eni-4", 3, &["10.0.0.9"])],
        )];
        assert_eq!(orders(&ports, &back).ports["eni-4"].plugged.link, "eth1");
    }

    #[test]
    fn an_address_that_moves_is_forbidden_before_it_is_allowed() {
        let before = vec![(node(), vec![eni("eni-1", 0, &["10.0.0.4", "10.0.0.5"]), eni("eni-2", 1, &["10.0.0.6"])])];
        let after = vec![(node(), vec![eni("eni-1", 0, &["10.0.0.4"]), eni("eni-2", 1, &["10.0.0.6", "10.0.0.5"])])];
        let moved = orders(&orders(&BTreeMap::new(), &before).ports, &after);
        assert_eq!(moved.forbid, "delete element inet fabric addresses { \"p-eni-1\" . 10.0.0.5 }\n");
        assert_eq!(moved.unplug, "route del 10.0.0.5/32 dev p-eni-1\nneigh del 10.0.0.5 dev p-eni-1\n");
        assert_eq!(moved.allow, "add element inet fabric addresses { \"p-eni-2\" . 10.0.0.5 }\n");
        assert_eq!(
            moved.links,
            "route replace 10.0.0.5/32 dev p-eni-2\nneigh replace 10.0.0.5 lladdr 02:00:00:00:00:01 dev p-eni-2 nud permanent\n"
        );
    }
}
