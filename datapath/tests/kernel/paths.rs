//! Which way packets go, and what the other side sees.

use std::net::{Ipv4Addr, SocketAddr};

use datapath::desired::{Snat, SnatPorts, Target};
use datapath::node;
use datapath::wire::Batch;
use datapath::wire::request::{Change, Connected};

use crate::topology::{INSIDE, NODE, OUTSIDE, SECOND, Vpc, deliver, host, net};

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    (address, port).into()
}

#[test]
fn pods_of_one_node_reach_each_other_with_their_own_addresses() {
    let mut vpc = Vpc::installed();
    let (a, b) = (vpc.pod(1, NEIGHBOUR), vpc.pod(2, POD));
    let (client, server) = (a.place.udp(NEIGHBOUR, 1000), b.place.udp(POD, 80));
    assert_eq!(deliver(&client, at(POD, 80), &server), at(NEIGHBOUR, 1000));
    assert_eq!(deliver(&server, at(NEIGHBOUR, 1000), &client), at(POD, 80));
}

#[test]
fn the_node_speaks_to_its_pods_from_its_primary_address() {
    let mut vpc = Vpc::installed();
    // A link that was made first, with an address that must not be chosen.
    vpc.node.change([Change::add_address(1, host(Ipv4Addr::new(10, 0, 0, 5)), Connected::Yes)]);
    let pod = vpc.pod(2, POD);
    let (probe, server) = (vpc.node.udp(Ipv4Addr::UNSPECIFIED, 1000), pod.place.udp(POD, 80));
    assert_eq!(deliver(&probe, at(POD, 80), &server), at(NODE, 1000));
}

#[test]
fn a_pod_reaches_the_vpc_by_its_own_eni_with_its_own_address() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    let (client, server) = (pod.place.udp(POD, 1000), vpc.router.udp(INSIDE, 80));
    let before = vpc.node.sent_by("eth1");
    assert_eq!(deliver(&client, at(INSIDE, 80), &server), at(POD, 1000));
    assert!(vpc.node.sent_by("eth1") > before, "eth1 did not carry it");
}

#[test]
fn a_pod_on_a_secondary_eni_reaches_the_world_by_the_primary_as_the_node() {
    for ports in [SnatPorts::FullyRandom, SnatPorts::Random, SnatPorts::Kept] {
        let mut vpc = Vpc::new();
        vpc.facts.snat = Snat::Primary(ports);
        vpc.install();
        let pod = vpc.pod(2, POD);
        let (client, server) = (pod.place.udp(POD, 1000), vpc.router.udp(OUTSIDE, 80));
        let before = vpc.node.sent_by("eth0");
        let seen = deliver(&client, at(OUTSIDE, 80), &server);
        assert_eq!(seen.ip(), NODE, "{ports:?}");
        assert_eq!(seen.port() == 1000, ports == SnatPorts::Kept, "{ports:?} saw {seen}");
        assert!(vpc.node.sent_by("eth0") > before, "eth0 did not carry it");
        assert_eq!(deliver(&server, seen, &client), at(OUTSIDE, 80));
    }
}

#[test]
fn with_external_snat_a_pod_reaches_the_world_by_its_own_eni_as_itself() {
    let mut vpc = Vpc::new();
    vpc.facts.snat = Snat::External;
    vpc.install();
    let pod = vpc.pod(2, POD);
    let (client, server) = (pod.place.udp(POD, 1000), vpc.router.udp(OUTSIDE, 80));
    let before = vpc.node.sent_by("eth1");
    assert_eq!(deliver(&client, at(OUTSIDE, 80), &server), at(POD, 1000));
    assert!(vpc.node.sent_by("eth1") > before, "eth1 did not carry it");
}

#[test]
fn an_excluded_network_is_reached_without_nat_by_the_pods_own_eni() {
    let mut vpc = Vpc::new();
    vpc.facts.excluded = vec![net("203.0.113.0/24")];
    vpc.install();
    let pod = vpc.pod(2, POD);
    let (client, server) = (pod.place.udp(POD, 1000), vpc.router.udp(OUTSIDE, 80));
    let before = vpc.node.sent_by("eth1");
    assert_eq!(deliver(&client, at(OUTSIDE, 80), &server), at(POD, 1000));
    assert!(vpc.node.sent_by("eth1") > before, "eth1 did not carry it");
}

#[test]
fn a_pod_on_the_primary_reaches_the_vpc_and_excluded_networks_as_itself_and_the_world_as_the_node() {
    for (excluded, seen_as) in [("203.0.113.0/24", NEIGHBOUR), ("192.168.0.0/16", NODE)] {
        let mut vpc = Vpc::new();
        vpc.facts.excluded = vec![net(excluded)];
        vpc.install();
        let pod = vpc.pod(1, NEIGHBOUR);
        let (client, inside) = (pod.place.udp(NEIGHBOUR, 1000), vpc.router.udp(INSIDE, 80));
        assert_eq!(deliver(&client, at(INSIDE, 80), &inside), at(NEIGHBOUR, 1000));
        let outside = vpc.router.udp(OUTSIDE, 80);
        assert_eq!(deliver(&client, at(OUTSIDE, 80), &outside).ip(), seen_as, "{excluded} excluded");
    }
}

#[test]
fn a_reply_leaves_by_the_eni_where_the_connection_came_in() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    let (client, server) = (vpc.router.udp(OUTSIDE, 1000), pod.place.udp(POD, 80));
    assert_eq!(deliver(&client, at(POD, 80), &server), at(OUTSIDE, 1000));
    let (primary, second) = (vpc.node.sent_by("eth0"), vpc.node.sent_by("eth1"));
    assert_eq!(deliver(&server, at(OUTSIDE, 1000), &client), at(POD, 80));
    assert!(vpc.node.sent_by("eth1") > second, "eth1 did not carry the reply");
    assert_eq!(vpc.node.sent_by("eth0"), primary, "eth0 carried something");
}

#[test]
fn a_node_ports_reply_leaves_by_the_primary_where_it_came_in_whatever_the_pods_eni() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    vpc.node.tool(
        "nft",
        &[
            "add table ip proxy; add chain ip proxy dnat4 { type nat hook prerouting priority -100; };
             add rule ip proxy dnat4 ip daddr 10.0.0.10 udp dport 30080 meta mark set meta mark or 0x4000 dnat to 10.0.0.21:80",
        ],
    );
    let (client, server) = (vpc.router.udp(OUTSIDE, 1000), pod.place.udp(POD, 80));
    assert_eq!(deliver(&client, at(NODE, 30080), &server), at(OUTSIDE, 1000));
    let (primary, second) = (vpc.node.sent_by("eth0"), vpc.node.sent_by("eth1"));
    assert_eq!(deliver(&server, at(OUTSIDE, 1000), &client), at(NODE, 30080));
    assert!(vpc.node.sent_by("eth0") > primary, "eth0 did not carry the reply");
    assert_eq!(vpc.node.sent_by("eth1"), second, "eth1 carried something");
}

#[test]
fn the_nodes_own_processes_speak_from_an_enis_primary_address_by_that_eni() {
    let vpc = Vpc::installed();
    let (client, server) = (vpc.node.udp(SECOND, 1000), vpc.router.udp(OUTSIDE, 80));
    let before = vpc.node.sent_by("eth1");
    assert_eq!(deliver(&client, at(OUTSIDE, 80), &server), at(SECOND, 1000));
    assert!(vpc.node.sent_by("eth1") > before, "eth1 did not carry it");
}

#[test]
fn an_external_service_is_reached_by_the_main_table() {
    let mut vpc = Vpc::new();
    vpc.facts.external_services = vec![net("10.0.9.0/24")];
    vpc.install();
    let pod = vpc.pod(2, POD);
    let (client, server) = (pod.place.udp(POD, 1000), vpc.router.udp(INSIDE, 80));
    let before = vpc.node.sent_by("eth0");
    assert_eq!(deliver(&client, at(INSIDE, 80), &server), at(POD, 1000));
    assert!(vpc.node.sent_by("eth0") > before, "eth0 did not carry it");
}

#[test]
fn a_pod_sends_only_from_its_own_address() {
    let mut vpc = Vpc::installed();
    let mut pod = vpc.pod(2, POD);
    let stolen = Ipv4Addr::new(10, 0, 0, 77);
    pod.place.change([Change::add_address(pod.link.pod.index, host(stolen), Connected::Yes)]);
    let server = vpc.router.udp(INSIDE, 80);
    let (honest, spoofing) = (pod.place.udp(POD, 1000), pod.place.udp(stolen, 1000));
    assert_eq!(deliver(&honest, at(INSIDE, 80), &server), at(POD, 1000));
    spoofing.send_to(b"spoofed", (INSIDE, 80)).expect("the pod may try");
    // The honest one takes the same way afterwards: had the other passed, it would be here first.
    assert_eq!(deliver(&honest, at(INSIDE, 80), &server), at(POD, 1000));
}

#[test]
fn without_the_source_filter_a_spoof_would_pass() {
    let mut vpc = Vpc::installed();
    let mut pod = vpc.pod(2, POD);
    let stolen = Ipv4Addr::new(10, 0, 0, 77);
    pod.place.change([Change::add_address(pod.link.pod.index, host(stolen), Connected::Yes)]);
    vpc.node.write_sysctl(&format!("net/ipv4/conf/{}/rp_filter", pod.link.host.name), "0");
    let (server, spoofing) = (vpc.router.udp(INSIDE, 80), pod.place.udp(stolen, 1000));
    assert_eq!(deliver(&spoofing, at(INSIDE, 80), &server), at(stolen, 1000));
}

/// A VPC where the router delivers a pod's address to the node, and the pod is gone.
fn vpc_with_a_pod_gone() -> Vpc {
    let mut vpc = Vpc::installed();
    let gone = vpc.pod(2, POD);
    vpc.node.change([Change::delete_link(gone.link.host.index)]);
    for port in ["port0", "port1"] {
        // A VPC answers for every address, wherever it is asked, and its hosts are not its routers.
        vpc.router.write_sysctl(&format!("net/ipv4/conf/{port}/proxy_arp"), "1");
        vpc.router.write_sysctl(&format!("net/ipv4/neigh/{port}/proxy_delay"), "0");
        vpc.router.write_sysctl(&format!("net/ipv4/conf/{port}/accept_local"), "1");
    }
    vpc
}

#[test]
fn without_a_route_that_stops_it_a_packet_to_a_pod_that_is_gone_circles() {
    let vpc = vpc_with_a_pod_gone();
    let client = vpc.router.udp(INSIDE, 1000);
    client.connect((POD, 80)).expect("connected");
    let before = vpc.node.sent_by("eth0") + vpc.node.sent_by("eth1");
    let circled = || vpc.node.sent_by("eth0") + vpc.node.sent_by("eth1") - before;
    for _ in 0..50 {
        // An error that ICMP brought is as good as silence.
        let _ = client.send(b"hello");
        let _ = client.recv(&mut [0; 8]);
        if circled() > 20 {
            return;
        }
    }
    panic!("it went out only {} times", circled());
}

#[test]
fn a_packet_to_a_pod_that_is_gone_is_answered_and_does_not_circle() {
    let mut vpc = vpc_with_a_pod_gone();
    for _ in 0..2 {
        node::stop_unused(&mut vpc.node.socket, &vpc.facts.numbering, &[POD.into()]).expect("added");
    }
    let client = vpc.router.udp(INSIDE, 1000);
    client.connect((POD, 80)).expect("connected");
    let before = vpc.node.sent_by("eth0") + vpc.node.sent_by("eth1");
    let mut asked = 0;
    while vpc.router.told_unreachable() == 0 {
        asked += 1;
        assert!(asked < 50, "silence");
        client.send(b"hello").expect("sent");
        let _ = client.recv(&mut [0; 8]);
    }
    // An ICMP error for each, and what ARP needed.
    let sent = vpc.node.sent_by("eth0") + vpc.node.sent_by("eth1") - before;
    assert!(sent <= asked + 4, "{sent} packets for {asked}");
    for _ in 0..2 {
        node::let_go(&mut vpc.node.socket, &vpc.facts.numbering, &[POD.into()]).expect("removed");
    }
    assert!(vpc.node.socket.own_routes().expect("listed").iter().all(|route| route.target != Target::Unreachable));
}

#[test]
fn a_pod_wins_over_the_route_that_stops_packets_without_one() {
    let mut vpc = Vpc::installed();
    node::stop_unused(&mut vpc.node.socket, &vpc.facts.numbering, &[POD.into()]).expect("added");
    let pod = vpc.pod(2, POD);
    let (client, server) = (vpc.router.udp(INSIDE, 1000), pod.place.udp(POD, 80));
    assert_eq!(deliver(&client, at(POD, 80), &server), at(INSIDE, 1000));
    vpc.node.socket.send(Batch::new()).expect("an empty batch is nothing");
}
