//! The demo, as people run it.

use std::process::Command;

use lab::Programs;

#[test]
fn every_claim_of_the_demo_happens() {
    let program = Programs::beside_this_one().path("lab").expect("the lab is built");
    let shown = Command::new(program).arg("demo").output().expect("the lab runs");
    let (said, complained) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{}\n{said}\n{complained}", shown.status);
}
