//! Every path that Berth promises, on two nodes wired by the real daemon and the real plugin; and each claim fails without each line
//! that it stands on.

use std::io::Write as _;

use lab::{
    pods::{Pod, at_once},
    teeth::{Layout, Onprem, Side, bite, of_berth},
};

use crate::node::{self, eventually};

fn every_claim_has_teeth(test: &str, onprem: Onprem, environment: &[(&str, &str)]) {
    let lab = node::lab(test, &["m5.large", "m5.large"]);
    let daemons: Vec<_> = lab.nodes().iter().map(|node| node.start_ipamd(environment).expect("a daemon")).collect();
    let mut pods: Vec<Pod> = (0..24).map(|n| lab.nodes()[n % 2].pod(&format!("p{n}")).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
    for node in lab.nodes() {
        eventually("the pool is warm: an address of the second ENI is free", node, || {
            Side::of(&lab.witness(), node, &pods).ok()
        });
    }
    // What is taken away stays away while it is looked at.
    for daemon in &daemons {
        daemon.pause().expect("paused");
    }
    let witness = lab.witness();
    let side = |n: usize| Side::of(&witness, &lab.nodes()[n], &pods).expect("two ENIs with pods");
    let layout = Layout { near: side(0), far: side(1), vpc: lab.settings().vpc, onprem };
    let table = bite(&witness, &of_berth(&layout)).expect("every claim holds on a whole node");
    // Not `println!`, which the test harness keeps to itself when all is well: the table is for people.
    writeln!(std::io::stdout(), "claims x lines ({test}):\n{table}").expect("stdout is open");
    assert_eq!(table.toothless().count(), 0, "claims that hold without a line they should need:\n{table}");
}

#[test]
fn every_path_holds_and_needs_each_of_its_lines() {
    every_claim_has_teeth("paths", Onprem::Translated, &[("WARM_IP_TARGET", "3")]);
}

#[test]
fn excluded_networks_are_reached_without_translation_by_the_pods_own_eni() {
    let excluded = [("WARM_IP_TARGET", "3"), ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "192.168.100.0/24")];
    every_claim_has_teeth("excluded", Onprem::Excluded, &excluded);
}
