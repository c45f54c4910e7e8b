//! The demo, as people run it.

use std::{path::PathBuf, process::Command};

use lab::{Programs, localstack::PYTHON};

use crate::backends;

#[test]
fn every_claim_of_the_demo_happens() {
    every_claim_happens(Command::new(program()).arg("demo"));
}

#[test]
fn every_claim_of_the_demo_happens_with_localstack() {
    let mut demo = Command::new(program());
    demo.args(["demo", "--backend=localstack", "--prefix=berth-lsdemo"]);
    every_claim_happens(demo.env(PYTHON, backends::python().path()));
}

fn program() -> PathBuf {
    Programs::beside_this_one().path("lab").expect("the lab is built")
}

fn every_claim_happens(demo: &mut Command) {
    let shown = demo.output().expect("the lab runs");
    let (said, complained) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(shown.status.success(), "{}\n{said}\n{complained}", shown.status);
}
