//! Pods that amazon-vpc-cni wired, beside ours.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use datapath::names::Numbering;
use datapath::node;
use datapath::vpc_cni::{self, Traces};
use datapath::wire::request::Change;

use crate::topology::{Place, Vpc, deliver};

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 31);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 32);

struct Old {
    place: Place,
    name: String,
    link: u32,
}

/// As amazon-vpc-cni wires a pod of its second ENI.
fn old_pod(node: &mut Place, pod: &str, address: Ipv4Addr) -> Old {
    let place = Place::new();
    let name = Numbering::default().link_name("default", pod);
    let index = 500 + u32::from(address.octets()[3]);
    node.change([Change::create_veth(&datapath::wire::request::VethPair {
        host: datapath::link::Link { name: name.clone(), index },
        host_mac: datapath::link::Mac([6, 0, 0, 0, 0, address.octets()[3]]),
        group: 0,
        pod: datapath::link::Link { name: "eth0".to_owned(), index: 3 },
        pod_mac: datapath::link::Mac([6, 0, 0, 0, 1, address.octets()[3]]),
        netns: &place.netns,
        mtu: None,
    })]);
    let address = address.to_string();
    let host_mac = format!("06:00:00:00:00:{:02x}", index - 500);
    for line in [
        format!("addr add {address}/32 dev eth0"),
        "link set eth0 up".to_owned(),
        "route add 169.254.1.1 dev eth0 scope link".to_owned(),
        "route add default via 169.254.1.1 dev eth0".to_owned(),
        format!("neigh add 169.254.1.1 lladdr {host_mac} dev eth0 nud permanent"),
    ] {
        place.tool("ip", &line.split(' ').collect::<Vec<_>>());
    }
    for line in [
        format!("route add {address}/32 dev {name} scope link"),
        format!("rule add to {address} lookup main pref 512"),
        format!("rule add from {address} lookup 2 pref 1536"),
    ] {
        node.tool("ip", &line.split(' ').collect::<Vec<_>>());
    }
    Old { place, name, link: index }
}

fn traces(node: &mut Place) -> Traces {
    let links = node.socket.links().expect("listed");
    Traces::read(&mut node.socket, &links).expect("read")
}

fn find(node: &mut Place, old: &mut Old, pod: &str) -> Option<u32> {
    let name = Numbering::default().link_name("default", pod);
    let found = vpc_cni::find(&mut node.socket, Some(&mut old.place.socket), "eth0", &name);
    found.expect("read").map(|link| link.index)
}

#[test]
fn what_routes_to_a_single_address_is_seen_and_ours_is_not() {
    let mut vpc = Vpc::installed();
    let _ours = vpc.pod(2, Ipv4Addr::new(10, 0, 0, 21));
    // As DHCP routes to a gateway; as ours stops what nobody has.
    vpc.node.tool("ip", &["route", "add", "10.0.0.1", "dev", "eth0", "scope", "link"]);
    node::stop_unused(&mut vpc.node.socket, &vpc.facts.numbering, &["10.0.0.22/32".parse().expect("a network")])
        .expect("added");
    assert_eq!(traces(&mut vpc.node), Traces::default());

    let old = old_pod(&mut vpc.node, "one", ONE);
    // Rules that only look like its own.
    for rule in [
        "from 10.8.0.9 lookup 9 pref 1500",
        "from 10.8.0.0/16 lookup 2 pref 1536",
        "not to 10.8.0.9 lookup main pref 512",
    ] {
        vpc.node.tool("ip", &[&["rule", "add"], rule.split(' ').collect::<Vec<_>>().as_slice()].concat());
    }
    let seen = traces(&mut vpc.node);
    assert_eq!(seen.addresses(), BTreeSet::from([ONE]));
    assert!(seen.leads_to(ONE, &old.name) && !seen.leads_to(TWO, &old.name));
    assert_eq!(seen.links(), BTreeSet::from([old.name.as_str()]));
    assert_eq!(seen.orphans(), BTreeSet::new());
    vpc.node.change([Change::delete_link(old.link)]);
    assert_eq!(traces(&mut vpc.node).orphans(), BTreeSet::from([ONE]));
}

#[test]
fn clearing_one_pod_leaves_the_others_and_bringing_the_node_up_leaves_all() {
    let mut vpc = Vpc::new();
    let (mut one, mut two) = (old_pod(&mut vpc.node, "one", ONE), old_pod(&mut vpc.node, "two", TWO));
    // A route is down with its link until the kernel has noticed that the other end is up.
    let routes = |node: &Place| node.tool("ip", &["route", "show", "table", "main"]).replace(" linkdown", "");
    let before = (vpc.node.tool("ip", &["rule"]), routes(&vpc.node));
    vpc.install();
    let after = vpc.node.tool("ip", &["rule"]);
    assert!(before.0.lines().all(|rule| after.contains(rule)), "{before:?}\n{after}");
    let after = routes(&vpc.node);
    assert!(before.1.lines().all(|route| after.contains(route.trim_end())), "{before:?}\n{after}");
    let (from, to) = (one.place.udp(ONE, 4000), two.place.udp(TWO, 4001));
    assert_eq!(deliver(&from, (TWO, 4001).into(), &to).ip(), ONE);

    assert_eq!(find(&mut vpc.node, &mut one, "one"), Some(one.link));
    assert_eq!(find(&mut vpc.node, &mut one, "two"), None, "another pod's name");
    assert_eq!(vpc_cni::clear(&mut vpc.node.socket, one.link).expect("cleared"), BTreeSet::from([ONE]));
    assert_eq!(find(&mut vpc.node, &mut one, "one"), None);
    assert_eq!(vpc.node.socket.link_by_index(one.link).expect("read"), None);
    let left = vpc.node.tool("ip", &["rule"]);
    assert!(!left.contains("10.0.0.31") && left.matches("10.0.0.32").count() == 2, "{left}");
    assert_eq!(traces(&mut vpc.node).addresses(), BTreeSet::from([TWO]));
    assert_eq!(find(&mut vpc.node, &mut two, "two"), Some(two.link));
}

#[test]
fn a_link_of_ours_is_never_taken_for_an_old_one() {
    let mut vpc = Vpc::installed();
    let mut pod = vpc.pod(2, ONE);
    let name = pod.link.host.name.clone();
    // Even if somebody made a route beside ours.
    vpc.node.tool("ip", &["route", "add", "10.0.0.31", "dev", &name, "scope", "link"]);
    let inside = vpc_cni::find(&mut vpc.node.socket, Some(&mut pod.place.socket), "eth0", &name).expect("read");
    assert_eq!(inside, None);
    assert_eq!(vpc_cni::find(&mut vpc.node.socket, None, "eth0", &name).expect("read"), None);
}

#[test]
fn a_link_whose_prefix_was_another_is_found_from_inside_its_pod_only() {
    let mut vpc = Vpc::new();
    let mut old = old_pod(&mut vpc.node, "one", ONE);
    let name = Numbering::default().with_veth_prefix("veth").expect("a prefix").link_name("default", "one");
    let socket = &mut vpc.node.socket;
    let inside = vpc_cni::find(socket, Some(&mut old.place.socket), "eth0", &name).expect("read");
    assert_eq!(inside.map(|link| link.index), Some(old.link));
    assert_eq!(vpc_cni::find(socket, None, "eth0", &name).expect("read"), None);
    assert_eq!(vpc_cni::find(socket, None, "eth0", &old.name).expect("read").map(|link| link.index), Some(old.link));
}

#[test]
fn rules_go_only_when_no_route_leads_to_their_address() {
    let mut vpc = Vpc::new();
    let (one, _two) = (old_pod(&mut vpc.node, "one", ONE), old_pod(&mut vpc.node, "two", TWO));
    let both = BTreeSet::from([ONE, TWO]);
    // A second rule of the same kind goes as well, and one that only looks like it stays.
    vpc.node.tool("ip", &["rule", "add", "from", "10.0.0.31", "lookup", "3", "pref", "1536"]);
    vpc.node.tool("ip", &["rule", "add", "from", "10.0.0.31", "iif", "lo", "lookup", "3", "pref", "1536"]);
    let socket = &mut vpc.node.socket;
    assert_eq!(vpc_cni::clear_rules(socket, &both).expect("asked"), 0);
    socket.send([Change::delete_link(one.link)].into_iter().collect()).expect("deleted");
    assert_eq!(vpc_cni::clear_rules(socket, &BTreeSet::from([TWO])).expect("asked"), 0);
    assert_eq!(vpc_cni::clear_rules(socket, &both).expect("cleared"), 3);
    assert_eq!(vpc_cni::clear_rules(socket, &both).expect("again"), 0);
    let left = vpc.node.tool("ip", &["rule"]);
    assert_eq!(left.matches("10.0.0.31").count(), 1, "{left}");
    assert!(left.contains("from 10.0.0.31 iif lo"), "{left}");
}
