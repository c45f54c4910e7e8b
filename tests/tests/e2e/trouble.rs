//! EC2, metadata and the daemon fail; a pod that cannot be served is told why.

use std::time::{Duration, Instant};

use lab::{
    pods::at_once,
    trouble::{Disturbance, Injection, Service, When},
};
use sim::Action;

use crate::node::{self, PATIENCE, books_agree, eventually, refusal};

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
    pod.add().expect("an address");
}

#[test]
fn a_subnet_without_free_addresses_is_named() {
    let mut settings = lab::LabSettings::with_prefix("bt-full").with_nodes(&["m5.large"]);
    // Eleven addresses of a /28 are EC2's to give; the node's own is one of them.
    settings.subnet = "10.0.0.0/28".parse().expect("a CIDR");
    let lab = lab::Lab::start(settings).expect("a lab");
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[("WARM_IP_TARGET", "1")]).expect("a daemon");
    let mut pods: Vec<_> = (0..14).map(|n| node.pod(&format!("p{n}")).expect("a sandbox")).collect();
    let replies = at_once(&mut pods, |pod| pod.call("ADD", None).expect("the plugin runs"));
    let subnet = lab.world().vpc(|vpc| {
        vpc.described(node.instance()).map(|instance| instance.interfaces[0].subnet.clone()).unwrap_or_default()
    });
    let refused: Vec<_> =
        replies.into_iter().filter_map(|reply| reply.done().err()).map(|e| format!("{e:#}")).collect();
    assert!(refused.len() >= 4, "14 pods, at most 10 addresses: {refused:?}");
    for refused in refused {
        assert!(refused.contains("code 11") && refused.contains(&subnet), "{refused}");
    }
}

#[test]
fn lost_answers_lose_no_address_and_no_eni() {
    let lab = node::lab("lost-answers", &["m5.large"]);
    let node = &lab.nodes()[0];
    for action in [Action::CreateNetworkInterface, Action::AttachNetworkInterface] {
        lab.faults().inject(Injection::once(action, Disturbance::Lose(When::AfterEffect)));
    }
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pods: Vec<_> = (0..15).map(|n| node.pod(&format!("p{n}")).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address, however late");
    }
    books_agree(&lab, node, &pods);
    let enis = lab.world().vpc(|vpc| vpc.enis().len());
    eventually("no ENI is left over", node, || (lab.world().attached(node.instance()).len() == enis).then_some(()));
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
