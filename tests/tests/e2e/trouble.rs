//! EC2, metadata and the daemon fail; a pod that cannot be served is told why.

use std::time::{Duration, Instant};

use crate::node::{self, PATIENCE, eventually, refusal};
use lab::trouble::Service;

#[test]
fn without_metadata_and_a_ledger_it_keeps_trying_and_adds_fail_with_the_reason() {
    let lab = node::lab("nometa", &["m5.large"]);
    let node = &lab.nodes()[0];
    lab.faults().set_reachable(Service::Metadata, false);
    let mut daemon = node.spawn_ipamd(&[]).expect("spawned");
    eventually("not ready, and it says why", node, || {
        node.get("/readyz").ok().filter(|(status, body)| *status == 503 && body.contains("metadata"))
    });
    let mut pod = node.pod("p").expect("a sandbox");
    let refused = eventually("the reason", node, || match pod.call("ADD", None).ok()? {
        lab::cni::Reply::Refused(refused) if refused.msg.contains("metadata") => Some(refused),
        _ => None,
    });
    assert_eq!(refused.code, 11, "{refused}");
    lab.faults().set_reachable(Service::Metadata, true);
    daemon.wait_ready(Duration::from_secs(60)).expect("ready once metadata answers");
    pod.add().expect("an address");
}

#[test]
fn without_ec2_and_a_ledger_adds_fail_with_the_reason_until_it_answers() {
    let lab = node::lab("noec2", &["m5.large"]);
    let node = &lab.nodes()[0];
    lab.faults().set_reachable(Service::Ec2, false);
    let mut daemon = node.spawn_ipamd(&[]).expect("spawned");
    let mut pod = node.pod("p").expect("a sandbox");
    let refused = eventually("the reason", node, || match pod.call("ADD", None).ok()? {
        lab::cni::Reply::Refused(refused) if refused.msg.contains("was not answered") => Some(refused),
        _ => None,
    });
    assert_eq!(refused.code, 11, "{refused}");
    lab.faults().set_reachable(Service::Ec2, true);
    daemon.wait_ready(Duration::from_secs(60)).expect("ready once EC2 answers");
    // It is ready with what the instance has; the type's limits are asked for as soon as anything is answered.
    let begun = Instant::now();
    eventually("an address", node, || pod.add().map(|_| ()).ok());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn an_add_waits_for_a_daemon_that_restarts() {
    let lab = node::lab("wait", &["m5.large"]);
    let node = &lab.nodes()[0];
    let daemon = node.start_ipamd(&[]).expect("a daemon");
    daemon.kill().expect("killed");
    let mut pod = node.pod("p").expect("a sandbox");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| pod.add().map(|_| ()));
        let _daemon = node.start_ipamd(&[]).expect("a daemon");
        add.join().expect("no panic").expect("an address");
    });
}

#[test]
fn without_a_daemon_an_add_says_so_after_five_seconds() {
    let lab = node::lab("nodaemon", &["m5.large"]);
    let node = &lab.nodes()[0];
    let pod = node.pod("p").expect("a sandbox");
    let begun = Instant::now();
    let refused = refusal(pod.call("ADD", None).expect("the plugin runs"));
    let took = begun.elapsed();
    assert_eq!(refused.code, 11, "{refused}");
    assert!(format!("{refused}").contains("DaemonUnreachable"), "{refused}");
    assert!((Duration::from_secs(4)..PATIENCE).contains(&took), "{took:?}");
    assert!(node::pod_links(node).is_empty());
}
