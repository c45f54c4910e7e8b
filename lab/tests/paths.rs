//! The claims about paths hold on a node wired by hand as Berth wires one, and each fails without the lines it stands on.

mod handwired;

use handwired::Handwired;
use lab::teeth::{Onprem, bite, of_berth};

fn every_claim_has_teeth(test: &str, onprem: Onprem) {
    let nodes = Handwired::new(test, onprem);
    let table = bite(&nodes.fabric.witness(), &of_berth(&nodes.layout)).expect("every claim holds on a whole node");
    println!("{table}");
    assert_eq!(table.toothless().count(), 0, "claims that hold without a line they should need:\n{table}");
}

#[test]
fn every_claim_holds_and_fails_without_each_of_its_lines() {
    every_claim_has_teeth("teeth", Onprem::Translated);
}

#[test]
fn the_same_with_the_network_outside_excluded_from_translation() {
    every_claim_has_teeth("excluded", Onprem::Excluded);
}
