//! A node with three ENIs.

use std::collections::BTreeSet;

use datapath::desired::{Eni, NodeFacts, Snat, SnatPorts};
use datapath::link::Link;
use datapath::names::{Numbering, Slot};

pub(crate) fn eni(number: u8, confirmed: &[&str]) -> Eni {
    Eni {
        slot: Slot::new(number).expect("1..=62"),
        link: Link { name: format!("eth{}", number - 1), index: u32::from(number) + 1 },
        address: [10, 0, number, 10].into(),
        subnet: format!("10.0.{number}.0/24").parse().expect("a subnet"),
        confirmed: confirmed.iter().map(|net| net.parse().expect("a network")).collect::<BTreeSet<_>>(),
    }
}

pub(crate) fn facts() -> NodeFacts {
    NodeFacts {
        numbering: Numbering::default(),
        primary: eni(1, &["10.0.1.11/32"]),
        secondaries: vec![eni(2, &["10.0.2.11/32", "10.0.2.16/28"]), eni(3, &[])],
        vpc: vec!["10.0.0.0/16".parse().expect("a network")],
        excluded: vec!["192.168.0.0/16".parse().expect("a network")],
        external_services: vec!["198.18.0.0/15".parse().expect("a network")],
        snat: Snat::Primary(SnatPorts::FullyRandom),
        node_ports: true,
    }
}
