//! Routes and rules.

use datapath::desired::{Desired, NodeFacts, Snat};
use datapath::names::Numbering;
use expect_test::expect;

use crate::facts::facts;

fn shown(facts: &NodeFacts) -> String {
    let desired = Desired::of(facts);
    let routes = desired.routes.iter().map(ToString::to_string);
    let rules = desired.rules.iter().map(ToString::to_string);
    routes.chain(rules).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_secondary_eni_has_two_tables_and_three_rules_and_the_primary_none() {
    expect![[r#"
        10.0.1.11/32 unreachable in table 7000
        10.0.2.11/32 unreachable in table 7000
        10.0.2.16/28 unreachable in table 7000
        10.0.0.0/16 via 10.0.2.1 on link 3 in table 7002
        192.168.0.0/16 via 10.0.2.1 on link 3 in table 7002
        10.0.0.0/16 via 10.0.3.1 on link 4 in table 7003
        192.168.0.0/16 via 10.0.3.1 on link 4 in table 7003
        0.0.0.0/0 via 10.0.2.1 on link 3 in table 7102
        0.0.0.0/0 via 10.0.3.1 on link 4 in table 7103
        512: from all lookup 7000
        1530: to 198.18.0.0/15 lookup 254
        1535: fwmark 0x42/0x7f lookup 7102
        1535: fwmark 0x43/0x7f lookup 7103
        1536: fwmark 0x2/0x7f lookup 7002
        1536: fwmark 0x3/0x7f lookup 7003
        32765: from 10.0.2.10/32 lookup 7102
        32765: from 10.0.3.10/32 lookup 7103"#]]
    .assert_eq(&shown(&facts()));
}

#[test]
fn with_external_snat_pods_have_a_default_route_by_their_own_eni() {
    let mut external = facts();
    external.snat = Snat::External;
    let (before, after) = (Desired::of(&facts()), Desired::of(&external));
    let added: Vec<_> = after.routes.difference(&before.routes).map(ToString::to_string).collect();
    expect![[r#"
        0.0.0.0/0 via 10.0.2.1 on link 3 in table 7002
        0.0.0.0/0 via 10.0.3.1 on link 4 in table 7003"#]]
    .assert_eq(&added.join("\n"));
    assert!(before.routes.is_subset(&after.routes));
    assert_eq!(before.rules, after.rules);
}

#[test]
fn a_node_with_one_eni_has_one_rule_and_stops_packets_to_unused_addresses() {
    let mut alone = facts();
    alone.secondaries.clear();
    alone.external_services.clear();
    expect![[r#"
        10.0.1.11/32 unreachable in table 7000
        512: from all lookup 7000"#]]
    .assert_eq(&shown(&alone));
}

#[test]
fn every_number_moves_with_its_base() {
    let mut moved = facts();
    moved.numbering = Numbering::default()
        .with_mark_shift(8)
        .and_then(|numbering| numbering.with_table_base(9000))
        .and_then(|numbering| numbering.with_priority_base(1000))
        .expect("settings that work");
    expect![[r#"
        10.0.1.11/32 unreachable in table 9000
        10.0.2.11/32 unreachable in table 9000
        10.0.2.16/28 unreachable in table 9000
        10.0.0.0/16 via 10.0.2.1 on link 3 in table 9002
        192.168.0.0/16 via 10.0.2.1 on link 3 in table 9002
        10.0.0.0/16 via 10.0.3.1 on link 4 in table 9003
        192.168.0.0/16 via 10.0.3.1 on link 4 in table 9003
        0.0.0.0/0 via 10.0.2.1 on link 3 in table 9102
        0.0.0.0/0 via 10.0.3.1 on link 4 in table 9103
        1000: from all lookup 9000
        2018: to 198.18.0.0/15 lookup 254
        2023: fwmark 0x4200/0x7f00 lookup 9102
        2023: fwmark 0x4300/0x7f00 lookup 9103
        2024: fwmark 0x200/0x7f00 lookup 9002
        2024: fwmark 0x300/0x7f00 lookup 9003
        32765: from 10.0.2.10/32 lookup 9102
        32765: from 10.0.3.10/32 lookup 9103"#]]
    .assert_eq(&shown(&moved));
}
