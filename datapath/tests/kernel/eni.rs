//! The link of a secondary ENI.

use std::net::{IpAddr, Ipv4Addr};

use datapath::desired::{Route, Target};
use datapath::link::{Link, Mac};
use datapath::names::MAIN_TABLE;
use datapath::node::{self, EniLink};
use datapath::wire::request::{Change, Connected, LinkSetting, VethPair};
use ipnet::IpNet;

use crate::topology::{Place, net};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0x55]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 3, 4);

fn eni() -> EniLink {
    EniLink { mac: MAC, address: ADDRESS, subnet: net("10.0.3.0/24"), mtu: Some(9001) }
}

fn attach(node: &mut Place, fabric: &Place) {
    node.change([Change::create_veth(&VethPair {
        host: Link { name: "eth7".to_owned(), index: 70 },
        host_mac: MAC,
        group: 0,
        pod: Link { name: "port".to_owned(), index: 70 },
        pod_mac: Mac([2, 0, 0, 0, 0, 0x56]),
        netns: &fabric.netns,
        mtu: None,
    })]);
}

fn connected(node: &mut Place) -> Vec<Route> {
    let mut routes = node.socket.routes_of_table(MAIN_TABLE).expect("listed");
    routes.retain(|route| matches!(route.target, Target::Link { index: 70, .. }));
    routes
}

#[test]
fn an_eni_whose_device_has_not_appeared_is_not_there_yet() {
    let mut node = Place::new();
    assert_eq!(node::configure_eni(&mut node.socket, &eni()).expect("listed"), None);
}

#[test]
fn an_eni_gets_its_address_its_mtu_a_loose_filter_and_no_connected_route() {
    let (mut node, fabric) = (Place::new(), Place::new());
    attach(&mut node, &fabric);
    for _ in 0..2 {
        let link = node::configure_eni(&mut node.socket, &eni()).expect("configured").expect("there");
        assert_eq!(link, Link { name: "eth7".to_owned(), index: 70 });
        let state = node.socket.link_by_index(70).expect("read").expect("there");
        assert_eq!((state.mtu, state.up, state.reverse_path_filter), (9001, true, Some(2)));
        let addresses = node.socket.addresses(70).expect("listed");
        assert!(addresses.contains(&IpNet::new_assert(IpAddr::V4(ADDRESS), 24)), "{addresses:?}");
        assert_eq!(connected(&mut node), []);
    }
}

#[test]
fn the_connected_route_of_an_address_that_somebody_else_gave_is_deleted() {
    let (mut node, fabric) = (Place::new(), Place::new());
    attach(&mut node, &fabric);
    node.change([
        Change::set_link(70, [LinkSetting::Up]),
        Change::add_address(70, IpNet::new_assert(ADDRESS.into(), 24), Connected::Yes),
    ]);
    assert_eq!(connected(&mut node).len(), 1);
    node::configure_eni(&mut node.socket, &eni()).expect("configured").expect("there");
    assert_eq!(connected(&mut node), []);
}
