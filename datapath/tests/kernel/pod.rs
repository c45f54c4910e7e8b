//! Wiring a pod, twice, half, and beside others.

use std::net::Ipv4Addr;

use datapath::desired::{Rule, Selector};
use datapath::link::{Link, SandboxKey};
use datapath::names::{Numbering, fallback_link_name};
use datapath::pod::{self, Presence, WiringError};
use datapath::wire::Errno;
use datapath::wire::request::{Change, Connected, LinkSetting, VethPair};

use crate::topology::{NODE, Place, host, slot, wiring};

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);

/// A node of which only the primary address matters.
fn node() -> Place {
    let mut node = Place::new();
    node.change([
        Change::add_address(1, host(NODE), Connected::Yes),
        Change::add_rule(&Rule { priority: 512, selector: Selector::All, table: 7000 }),
    ]);
    node
}

fn links(place: &mut Place) -> Vec<String> {
    place.socket.links().expect("listed").into_iter().map(|link| link.name).filter(|name| name != "lo").collect()
}

#[test]
fn a_wired_pod_has_everything_and_wiring_it_again_changes_nothing() {
    let (mut node, mut place) = (node(), Place::new());
    let wiring = wiring("web", slot(2), POD);
    let link = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
    assert_eq!(link.host.name, wiring.link_name);
    assert_eq!(pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read"), []);
    let before = node.socket.links().expect("listed");

    assert_eq!(
        pod::presence(&mut node.socket, &mut place.socket, &wiring.key).expect("read"),
        Presence::Ours(link.clone())
    );
    pod::complete(&mut node.socket, &mut place.socket, &wiring, &link).expect("again");
    assert_eq!(pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read"), []);
    assert_eq!(node.socket.links().expect("listed"), before);
    let state = before.into_iter().find(|state| state.index == link.host.index).expect("listed");
    assert_eq!((state.group, state.mtu, state.up), (7002, 9001, true));
    assert_eq!(state.alias.as_deref(), Some("sandbox-of-web eth0 default/web"));
}

#[test]
fn whatever_is_missing_is_named() {
    let (mut node, mut place) = (node(), Place::new());
    let wiring = wiring("web", slot(2), POD);
    let link = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
    let faults = |node: &mut Place, place: &mut Place| {
        let faults = pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read");
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        pod::complete(&mut node.socket, &mut place.socket, &wiring, &link).expect("mended");
        assert_eq!(pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read"), []);
        faults.join("\n")
    };
    let name = &link.host.name;

    for route in wiring.host_routes(link.host.index) {
        node.change([Change::delete_route(&route)]);
    }
    assert!(faults(&mut node, &mut place).contains("route 10.0.0.21/32"), "host route");
    node.write_sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0");
    assert_eq!(faults(&mut node, &mut place), format!("link {name} does not filter sources"));
    node.change([Change::set_link(link.host.index, [LinkSetting::Alias("else".to_owned())])]);
    assert_eq!(faults(&mut node, &mut place), format!("link {name} has another alias"));
    place.change([Change::delete_address(link.pod.index, host(POD))]);
    assert!(faults(&mut node, &mut place).contains("address 10.0.0.21/32 is missing on eth0"));
    place.change([Change::set_link(link.pod.index, [LinkSetting::Down])]);
    assert!(faults(&mut node, &mut place).contains("link eth0 is not up"));
}

#[test]
fn a_failure_leaves_nothing_in_either_namespace() {
    let (mut node, mut place) = (Place::new(), Place::new());
    // The node does not have this address: the kernel refuses a route that speaks from it, after the link was made.
    let wiring = wiring("web", slot(2), POD);
    let error = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect_err("refused");
    let WiringError::Kernel { source, undo: None, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.errno(), Some(Errno::INVAL), "{source}");
    assert_eq!((links(&mut node), links(&mut place)), (Vec::new(), Vec::new()));
    assert_eq!(node.socket.own_routes().expect("listed"), []);
}

#[test]
fn an_interface_name_that_something_else_has_is_refused_and_left_alone() {
    let (mut node, mut place) = (node(), Place::new());
    let other = Place::new();
    place.change([Change::create_veth(&VethPair {
        host: Link { name: "eth0".to_owned(), index: 7 },
        host_mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        group: 0,
        pod: Link { name: "x".to_owned(), index: 7 },
        pod_mac: "02:00:00:00:00:02".parse().expect("a MAC"),
        netns: &other.netns,
        mtu: None,
    })]);
    let wiring = wiring("web", slot(2), POD);
    assert_eq!(pod::presence(&mut node.socket, &mut place.socket, &wiring.key).expect("read"), Presence::Foreign);
    let error = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect_err("refused");
    assert!(matches!(error, WiringError::IfnameTaken(_)), "{error:?}");
    assert_eq!((links(&mut node), links(&mut place)), (Vec::new(), vec!["eth0".to_owned()]));
}

#[test]
fn a_second_sandbox_of_a_pod_gets_the_canonical_name_and_the_first_keeps_its_network() {
    let (mut node, mut old, mut new) = (node(), Place::new(), Place::new());
    let first = wiring("web", slot(2), POD);
    let mut second = wiring("web", slot(2), Ipv4Addr::new(10, 0, 0, 22));
    second.key = SandboxKey { container_id: "second".to_owned(), ifname: "eth0".to_owned() };

    let first_link = pod::wire(&mut node.socket, &mut old.socket, &old.netns, &first).expect("wired");
    let second_link = pod::wire(&mut node.socket, &mut new.socket, &new.netns, &second).expect("wired");
    assert_eq!(second_link.host.name, Numbering::default().link_name("default", "web"));
    let moved = node.socket.link_by_index(first_link.host.index).expect("read").expect("it lives");
    let expected = fallback_link_name(&first.link_name, "default", "web", "sandbox-of-web");
    assert_eq!(moved.name, expected);
    assert_eq!(pod::verify(&mut node.socket, &mut old.socket, &first, &first_link).expect("read"), []);
    let (client, server) = (node.udp(NODE, 1000), old.udp(POD, 80));
    crate::topology::deliver(&client, (POD, 80).into(), &server);

    // The first one's result still names the second one's link.
    let names = [first.link_name.clone()];
    let found = pod::find(&mut node.socket, None, &first.key, &names).expect("read").expect("found");
    assert_eq!(found.index, first_link.host.index);
    node.change([Change::delete_link(found.index)]);
    assert_eq!(pod::find(&mut node.socket, None, &first.key, &names).expect("read"), None);
    assert_eq!(pod::verify(&mut node.socket, &mut new.socket, &second, &second_link).expect("read"), []);
}

#[test]
fn a_link_that_is_no_pods_keeps_the_canonical_name() {
    let (mut node, mut place, other) = (node(), Place::new(), Place::new());
    let wiring = wiring("web", slot(2), POD);
    node.change([Change::create_veth(&VethPair {
        host: Link { name: wiring.link_name.clone(), index: 7 },
        host_mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        group: 0,
        pod: Link { name: "x".to_owned(), index: 7 },
        pod_mac: "02:00:00:00:00:02".parse().expect("a MAC"),
        netns: &other.netns,
        mtu: None,
    })]);
    let link = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
    assert_eq!(link.host.name, fallback_link_name(&wiring.link_name, "default", "web", &wiring.key.container_id));
    assert_eq!(node.socket.link_by_index(7).expect("read").expect("untouched").name, wiring.link_name);
    assert_eq!(pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read"), []);
}

#[test]
fn an_index_that_is_taken_costs_another_attempt() {
    let (mut node, mut place, other) = (node(), Place::new(), Place::new());
    let wiring = wiring("web", slot(2), POD);
    node.change([Change::create_veth(&VethPair {
        host: Link { name: "other".to_owned(), index: wiring.key.index(0) },
        host_mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        group: 0,
        pod: Link { name: "x".to_owned(), index: 7 },
        pod_mac: "02:00:00:00:00:02".parse().expect("a MAC"),
        netns: &other.netns,
        mtu: None,
    })]);
    let link = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
    assert_eq!(link.host.index, wiring.key.index(1));
    let found = pod::find(&mut node.socket, None, &wiring.key, &[]).expect("read").expect("found");
    assert_eq!(found.index, link.host.index);
}

#[test]
fn a_link_whose_making_was_cut_short_is_recognised_and_replaced() {
    let (mut node, mut place) = (node(), Place::new());
    let wiring = wiring("web", slot(2), POD);
    let elsewhere = Place::new();
    // Killed after the first message: no alias, no routes. The sandbox of the next ADD is another namespace.
    node.change([Change::create_veth(&VethPair {
        host: Link { name: wiring.link_name.clone(), index: wiring.key.index(0) },
        host_mac: wiring.key.host_mac(),
        group: 7002,
        pod: Link { name: "eth0".to_owned(), index: wiring.key.index(0) },
        pod_mac: wiring.key.pod_mac(),
        netns: &elsewhere.netns,
        mtu: None,
    })]);
    assert!(pod::find(&mut node.socket, None, &wiring.key, &[]).expect("read").is_some());
    let link = pod::wire(&mut node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
    assert_eq!(links(&mut node), std::slice::from_ref(&link.host.name));
    assert_eq!(pod::verify(&mut node.socket, &mut place.socket, &wiring, &link).expect("read"), []);
}

#[test]
fn cutting_off_removes_only_routes_that_lead_to_the_link() {
    let (mut node, mut a, mut b) = (node(), Place::new(), Place::new());
    let (one, two) = (wiring("one", slot(2), POD), wiring("two", slot(2), Ipv4Addr::new(10, 0, 0, 22)));
    let link = pod::wire(&mut node.socket, &mut a.socket, &a.netns, &one).expect("wired");
    let other = pod::wire(&mut node.socket, &mut b.socket, &b.netns, &two).expect("wired");
    assert_eq!(pod::cut_off(&mut node.socket, link.host.index).expect("cut").len(), 1);
    assert_eq!(pod::cut_off(&mut node.socket, link.host.index).expect("again").len(), 0);
    let left = node.socket.own_routes().expect("listed");
    assert_eq!(left, two.host_routes(other.host.index).collect::<Vec<_>>());
    pod::delete(&mut node.socket, link.host.index).expect("deleted");
    pod::delete(&mut node.socket, link.host.index).expect("again");
}
