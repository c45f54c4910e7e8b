//! The daemon as a program: configuration, one per node, health.

use std::process::Command;

use crate::node::{self, eventually};

#[test]
fn bad_configuration_ends_with_64_and_names_every_mistake() {
    let lab = node::lab("config", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut command = Command::new(node.program("ipamd").expect("built"));
    command
        .env("WARM_IP_TARGET", "many")
        .env("MAX_ENI", "-x")
        .env("ENABLE_IPv6", "true")
        .env("IP_COOLDOWN_PERIOD", "soon");
    let ended = node.run(&mut command).expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(64), "{said}");
    for name in ["WARM_IP_TARGET", "many", "MAX_ENI", "-x", "ENABLE_IPv6", "IP_COOLDOWN_PERIOD", "soon"] {
        assert!(said.contains(name), "{name} is not in:\n{said}");
    }
}

#[test]
fn the_effective_configuration_is_shown() {
    let lab = node::lab("effective", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut command = Command::new(node.program("ipamd").expect("built"));
    command.arg("--check-config").env("WARM_IP_TARGET", "7");
    let shown = node.run(&mut command).expect("it runs");
    assert!(shown.status.success());
    assert!(String::from_utf8_lossy(&shown.stdout).contains('7'), "{shown:?}");
}

#[test]
fn a_second_daemon_on_a_node_is_kept_out() {
    let lab = node::lab("second", &["m5.large"]);
    let node = &lab.nodes()[0];
    let daemon = node.start_ipamd(&[]).expect("a daemon");
    let second = node.run(&mut Command::new(node.program("ipamd").expect("built"))).expect("it runs and ends");
    let said = format!("{}{}", String::from_utf8_lossy(&second.stderr), String::from_utf8_lossy(&second.stdout));
    assert!(!second.status.success(), "{said}");
    assert!(said.contains(&daemon.pid().to_string()), "it names the other one's pid {}:\n{said}", daemon.pid());
    node.pod("p").expect("a sandbox").add().expect("the first one still serves");
}

#[test]
fn health_metrics_and_readiness_are_served() {
    let lab = node::lab("health", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pod = node.pod("p").expect("a sandbox");
    pod.add().expect("an address");
    assert_eq!(node.get("/livez").expect("answered").0, 200);
    let metrics = eventually("metrics", node, || node.get("/metrics").ok()).1;
    for line in [
        "berth_addresses{",
        "berth_ec2_calls_total{",
        "berth_allocate_seconds_count",
        "berth_ledger_commit_seconds_count",
        "berth_build_info",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert!(!metrics.contains(&pod.added().expect("added").address.to_string()), "no address is a label");
    assert!(node.run_dir().join("ready-once").is_file());
}
