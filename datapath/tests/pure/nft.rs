//! The nftables transaction, a command a line.

use datapath::desired::{NodeFacts, Snat, SnatPorts};
use datapath::names::Numbering;
use datapath::nft::Table;
use expect_test::expect;

use crate::facts::facts;

fn commands(facts: &NodeFacts) -> String {
    let transaction: serde_json::Value =
        serde_json::from_str(&Table::of(facts).to_json()).expect("what nft reads is JSON");
    let commands = transaction["nftables"].as_array().expect("a list of commands");
    // The family and the table are the same in every command.
    let shown = commands
        .iter()
        .map(|command| command.to_string().replace(r#""family":"ip","#, "").replace(r#","table":"berth""#, ""));
    shown.collect::<Vec<_>>().join("\n")
}

fn line(text: &str, wanted: &str) -> String {
    let mut lines = text.lines().filter(|line| line.contains(wanted));
    let found = lines.next().unwrap_or_else(|| panic!("no {wanted} in {text}")).to_owned();
    assert_eq!(lines.next(), None);
    found
}

#[test]
fn the_table_of_a_node_with_three_enis() {
    expect![[r#"
        {"add":{"table":{"name":"berth"}}}
        {"delete":{"table":{"name":"berth"}}}
        {"add":{"table":{"name":"berth"}}}
        {"add":{"set":{"elem":[{"prefix":{"addr":"10.0.0.0","len":16}}],"flags":["interval"],"name":"vpc","type":"ipv4_addr"}}}
        {"add":{"set":{"elem":[{"prefix":{"addr":"192.168.0.0","len":16}}],"flags":["interval"],"name":"no_snat","type":"ipv4_addr"}}}
        {"add":{"chain":{"name":"keep"}}}
        {"add":{"rule":{"chain":"keep","expr":[{"accept":{}}]}}}
        {"add":{"chain":{"name":"slot2"}}}
        {"add":{"rule":{"chain":"slot2","expr":[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},4294967168]},2]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"reply2"}}}
        {"add":{"rule":{"chain":"reply2","expr":[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},4294967168]},66]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"slot3"}}}
        {"add":{"rule":{"chain":"slot3","expr":[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},4294967168]},3]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"reply3"}}}
        {"add":{"rule":{"chain":"reply3","expr":[{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},4294967168]},67]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"in1"}}}
        {"add":{"rule":{"chain":"in1","expr":[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"|":[{"&":[{"ct":{"key":"mark"}},4294967168]},1]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"in2"}}}
        {"add":{"rule":{"chain":"in2","expr":[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"|":[{"&":[{"ct":{"key":"mark"}},4294967168]},2]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"in3"}}}
        {"add":{"rule":{"chain":"in3","expr":[{"mangle":{"key":{"ct":{"key":"mark"}},"value":{"|":[{"&":[{"ct":{"key":"mark"}},4294967168]},3]}}},{"accept":{}}]}}}
        {"add":{"chain":{"name":"reply"}}}
        {"add":{"rule":{"chain":"reply","expr":[{"vmap":{"data":{"set":[[1,{"goto":{"target":"keep"}}],[2,{"goto":{"target":"reply2"}}],[3,{"goto":{"target":"reply3"}}]]},"key":{"&":[{"ct":{"key":"mark"}},127]}}}]}}}
        {"add":{"rule":{"chain":"reply","expr":[{"vmap":{"data":{"set":[[7002,{"goto":{"target":"reply2"}}],[7003,{"goto":{"target":"reply3"}}]]},"key":{"meta":{"key":"iifgroup"}}}}]}}}
        {"add":{"chain":{"hook":"prerouting","name":"prerouting","policy":"accept","prio":-90,"type":"filter"}}}
        {"add":{"rule":{"chain":"prerouting","expr":[{"match":{"left":{"ct":{"key":"direction"}},"op":"==","right":"reply"}},{"goto":{"target":"reply"}}]}}}
        {"add":{"rule":{"chain":"prerouting","expr":[{"vmap":{"data":{"set":[[7002,{"goto":{"target":"slot2"}}],[7003,{"goto":{"target":"slot3"}}]]},"key":{"meta":{"key":"iifgroup"}}}}]}}}
        {"add":{"rule":{"chain":"prerouting","expr":[{"match":{"left":{"ct":{"key":"state"}},"op":"in","right":"new"}},{"vmap":{"data":{"set":[["eth0",{"goto":{"target":"in1"}}],["eth1",{"goto":{"target":"in2"}}],["eth2",{"goto":{"target":"in3"}}]]},"key":{"meta":{"key":"iifname"}}}}]}}}
        {"add":{"chain":{"hook":"postrouting","name":"postrouting","policy":"accept","prio":100,"type":"nat"}}}
        {"add":{"rule":{"chain":"postrouting","expr":[{"match":{"left":{"meta":{"key":"iifgroup"}},"op":"==","right":{"range":[7001,7062]}}},{"match":{"left":{"meta":{"key":"oifname"}},"op":"==","right":"eth0"}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":"@vpc"}},{"match":{"left":{"payload":{"field":"daddr","protocol":"ip"}},"op":"!=","right":"@no_snat"}},{"snat":{"addr":"10.0.1.10","flags":["fully-random"]}}]}}}
        {"add":{"chain":{"hook":"output","name":"output","policy":"accept","prio":-100,"type":"nat"}}}"#]].assert_eq(&commands(&facts()));
}

#[test]
fn source_ports_are_chosen_as_asked() {
    let mut of = facts();
    for (ports, flags) in [
        (SnatPorts::FullyRandom, r#""flags":["fully-random"]"#),
        (SnatPorts::Random, r#""flags":["random"]"#),
        (SnatPorts::Kept, r#"{"addr":"10.0.1.10"}"#),
    ] {
        of.snat = Snat::Primary(ports);
        let rule = line(&commands(&of), r#""snat":"#);
        assert!(rule.contains(flags), "{rule}");
    }
}

#[test]
fn with_external_snat_nothing_is_translated() {
    let mut external = facts();
    external.snat = Snat::External;
    let text = commands(&external);
    assert!(!text.contains("snat\":{") && !text.contains("postrouting"), "{text}");
}

#[test]
fn without_node_ports_the_primary_is_not_recorded() {
    let mut without = facts();
    without.node_ports = false;
    let text = commands(&without);
    assert!(!text.contains("in1") && text.contains("in2"), "{text}");
}

#[test]
fn the_other_bits_of_a_mark_stay_wherever_the_field_is() {
    let mut moved = facts();
    moved.numbering = Numbering::default().with_mark_shift(20).expect("it fits");
    let text = commands(&moved);
    let mask = 0x7f_u32 << 20;
    let (kept, reply) = (!mask, (2_u32 | 0x40) << 20);
    let rule = line(&text, r#""chain":"reply2","expr""#);
    assert!(rule.contains(&kept.to_string()) && rule.contains(&reply.to_string()), "{rule}");
}
