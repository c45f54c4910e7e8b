//! Bringing a node to the desired state, and reading back what it holds.

use std::net::{IpAddr, Ipv4Addr};

use datapath::desired::{Desired, Route, Rule, Selector, Target};
use datapath::link::Alias;
use datapath::names::MAIN_TABLE;
use datapath::node;
use datapath::wire::request::Change;

use crate::topology::{NODE, Vpc, host, net, slot};

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);

fn nft(vpc: &Vpc, arguments: &[&str]) -> String {
    vpc.node.tool("nft", arguments)
}

fn ip(vpc: &Vpc, arguments: &[&str]) -> String {
    vpc.node.tool("ip", arguments)
}

#[test]
fn installing_twice_changes_nothing_the_second_time() {
    let mut vpc = Vpc::new();
    let first = vpc.install();
    assert!(!first.difference.is_empty());
    assert!(first.sysctls.iter().any(|change| change.name == "net/ipv4/ip_forward"), "{first:?}");
    assert_eq!(vpc.install(), node::Installed::default());
    for link in ["eth0", "eth1"] {
        assert_eq!(vpc.node.read_sysctl(&format!("net/ipv4/conf/{link}/rp_filter")), "2");
    }
}

#[test]
fn leftovers_of_ours_go_and_what_is_not_ours_stays() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    let left_rule = Rule { priority: 1536, selector: Selector::Mark { mark: 9, mask: 0x7f }, table: 7009 };
    let left_route = Route {
        table: 7009,
        destination: "10.9.0.0/16".parse().expect("a network"),
        target: Target::Link { index: 10, via: Some(IpAddr::from([10, 0, 0, 1])) },
        source: None,
        metric: 0,
    };
    vpc.node.change([Change::add_rule(&left_rule), Change::add_route(&left_route)]);
    ip(&vpc, &["rule", "add", "from", "10.8.0.0/16", "lookup", "7002", "prio", "1536"]);
    ip(&vpc, &["route", "add", "10.8.0.0/16", "via", "10.0.0.1", "dev", "eth1", "onlink", "table", "7002"]);
    // And one of ours is missing.
    let missing = Rule { priority: 512, selector: Selector::All, table: 7000 };
    vpc.node.change([Change::delete_rule(&missing)]);

    let done = vpc.install();
    assert_eq!(done.difference.surplus_rules, [left_rule]);
    assert_eq!(done.difference.surplus_routes, [left_route]);
    assert_eq!(done.difference.missing_rules, [missing]);
    assert_eq!(done.difference.missing_routes, []);
    let routes = vpc.node.socket.own_routes_to(pod.link.host.index).expect("listed");
    assert_eq!(routes, pod.wiring.host_routes(pod.link.host.index).collect::<Vec<_>>());
    assert!(ip(&vpc, &["rule"]).contains("from 10.8.0.0/16 lookup 7002"));
    assert!(ip(&vpc, &["route", "show", "table", "7002"]).contains("10.8.0.0/16"));
}

#[test]
fn the_rules_are_the_documented_ones() {
    let mut vpc = Vpc::new();
    vpc.facts.external_services = vec![net("198.18.0.0/15")];
    let rules: Vec<_> = Desired::of(&vpc.facts).rules.iter().map(ToString::to_string).collect();
    vpc.install();
    let mut actual = vpc.node.socket.own_rules().expect("listed");
    actual.sort();
    assert_eq!(actual.iter().map(ToString::to_string).collect::<Vec<_>>(), rules);
    expect_test::expect![[r#"
        512: from all lookup 7000
        1530: to 198.18.0.0/15 lookup 254
        1535: fwmark 0x42/0x7f lookup 7102
        1536: fwmark 0x2/0x7f lookup 7002
        32765: from 10.0.0.20/32 lookup 7102"#]]
    .assert_eq(&rules.join("\n"));
}

#[test]
fn a_refused_table_leaves_the_old_one_in_force() {
    let mut vpc = Vpc::installed();
    let before = nft(&vpc, &["list", "table", "ip", "berth"]);
    assert!(before.contains("chain reply2"), "{before}");
    // A link name that nft cannot take.
    vpc.facts.primary.link.name = "a name that is much too long for a link".to_owned();
    let table = datapath::nft::Table::of(&vpc.facts);
    let error = vpc.node.run(|| datapath::nft::apply(&table)).expect_err("refused");
    assert!(matches!(error, datapath::nft::NftError::Refused(_)), "{error:?}");
    assert_eq!(nft(&vpc, &["list", "table", "ip", "berth"]), before);
}

#[test]
fn a_new_table_takes_the_place_of_the_old_one() {
    let mut vpc = Vpc::installed();
    vpc.facts.vpc.push(net("100.64.0.0/16"));
    // Overlaps are one interval.
    vpc.facts.vpc.push(net("10.0.4.0/24"));
    vpc.facts.secondaries.clear();
    vpc.install();
    let table = nft(&vpc, &["list", "table", "ip", "berth"]);
    assert!(table.contains("100.64.0.0/16") && !table.contains("10.0.4.0/24"), "{table}");
    assert!(!table.contains("slot2") && !table.contains("reply2"), "{table}");
}

#[test]
fn removing_takes_all_of_ours_but_the_pods() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    node::stop_unused(&mut vpc.node.socket, &vpc.facts.numbering, &[net("10.0.0.30/32")]).expect("added");
    let socket = &mut vpc.node.socket;
    vpc.node.netns.run(|| node::remove(socket)).expect("entered").expect("removed");
    assert_eq!(vpc.node.socket.own_rules().expect("listed"), []);
    let left = vpc.node.socket.own_routes().expect("listed");
    assert_eq!(left, pod.wiring.host_routes(pod.link.host.index).collect::<Vec<_>>());
    assert!(!nft(&vpc, &["list", "tables"]).contains("berth"));
    let socket = &mut vpc.node.socket;
    vpc.node.netns.run(|| node::remove(socket)).expect("entered").expect("removing nothing is fine");
    assert!(!vpc.node.socket.routes_of_table(MAIN_TABLE).expect("listed").is_empty());
}

#[test]
fn a_restart_finds_the_pods_by_their_links() {
    let mut vpc = Vpc::installed();
    let pod = vpc.pod(2, POD);
    let found = node::pods(&mut vpc.node.socket, &vpc.facts.numbering).expect("listed");
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((found.slot, found.link.clone()), (slot(2), pod.link.host.clone()));
    assert_eq!(found.addresses, [IpAddr::V4(POD)]);
    let alias = Alias { key: pod.wiring.key.clone(), namespace: "default".to_owned(), pod: pod.wiring.pod.clone() };
    assert_eq!(found.alias.as_ref(), Some(&alias));
}

#[test]
fn doomed_links_go_together_and_the_living_stay() {
    let mut vpc = Vpc::installed();
    let (a, b) = (vpc.pod(2, POD), vpc.pod(2, Ipv4Addr::new(10, 0, 0, 22)));
    let numbering = vpc.facts.numbering.clone();
    node::delete_doomed(&mut vpc.node.socket, numbering.doomed_group()).expect("nothing is doomed, which is fine");
    datapath::pod::doom(&mut vpc.node.socket, a.link.host.index, numbering.doomed_group()).expect("doomed");
    node::delete_doomed(&mut vpc.node.socket, numbering.doomed_group()).expect("deleted");
    assert_eq!(vpc.node.socket.link_by_index(a.link.host.index).expect("read"), None);
    assert!(vpc.node.socket.link_by_index(b.link.host.index).expect("read").is_some());
    let _ = (host(NODE), &a.place, &b.place);
}
