//! Sandboxes that end without a DEL: noticed from the kernel, after a grace period, and nobody else loses an address.

use std::net::Ipv4Addr;

use lab::{claims, node::Node, pods::Pod, traffic::Transport};
use proto::v1::{AllocateRequest, LeaseKey, ipam_client::IpamClient};
use tonic::transport::Endpoint;

use crate::node::{self, books_agree, eventually, leases};

/// The address that the daemon gives a sandbox whose plugin has come no further than asking.
fn ask_for(node: &Node, pod: &Pod) -> Ipv4Addr {
    let request = AllocateRequest {
        key: Some(LeaseKey { container_id: pod.container_id().to_owned(), ifname: "eth0".to_owned() }),
        pod: Some(proto::v1::Pod { namespace: "default".to_owned(), name: pod.name().to_owned(), uid: String::new() }),
        ..AllocateRequest::default()
    };
    let socket = format!("unix:{}", node.socket().display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = runtime.block_on(async move {
        let endpoint = Endpoint::from_shared(socket).expect("a socket");
        let channel = endpoint.connect().await.expect("a daemon");
        IpamClient::new(channel).allocate(request).await.expect("an address").into_inner()
    });
    let cidr = &answer.attachments[0].addresses[0].cidr;
    cidr.split('/').next().unwrap_or_default().parse().expect("an address")
}

#[test]
fn a_sandbox_that_vanished_gives_its_address_back_and_nobody_else_does() {
    let lab = node::lab("vanished", &["m5.large", "m5.large"]);
    let node = &lab.nodes()[0];
    let settings = [("BERTH_RECLAIM_AFTER", "4s"), ("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "1")];
    let daemon = node.start_ipamd(&settings).expect("a daemon");
    let mut pods: Vec<Pod> = ["runs", "first", "second"].map(|name| node.pod(name).expect("a sandbox")).into();
    for pod in &mut pods {
        pod.add().expect("an address");
    }
    let has = |pod: &Pod| leases(node).contains_key(pod.container_id());
    let reclaimed = |pod: &Pod| {
        let log = node.log();
        log.lines().any(|line| line.contains("SandboxReclaimed") && line.contains(pod.container_id()))
    };
    pods[1].netns().remove().expect("ended");
    eventually("the first one's lease ends", node, || (!has(&pods[1])).then_some(()));
    assert!(reclaimed(&pods[1]), "{}", node.log_tail(10));

    // By now the second one's lease is old; one that is younger is somebody's whose plugin is still at work.
    pods[2].netns().remove().expect("ended");
    let mut young = node.pod("young").expect("a sandbox");
    let promised = ask_for(node, &young);
    eventually("the second one's lease ends", node, || (!has(&pods[2])).then_some(()));
    assert!(reclaimed(&pods[2]), "{}", node.log_tail(10));
    assert!(has(&young), "{}", node.log_tail(10));
    assert_eq!(young.add().expect("the rest of its ADD").address, promised);
    assert!(!reclaimed(&pods[0]) && !reclaimed(&young));
    eventually("the addresses are free again", node, || {
        (node::ask(node, "pool")["counts"]["cooling"].as_u64() == Some(0)).then_some(())
    });

    // A daemon that starts again has not seen anything yet.
    drop(daemon);
    let _daemon = node.start_ipamd(&settings).expect("a daemon");
    pods.truncate(1);
    pods.push(young);
    books_agree(&lab, node, &pods);
    for pod in &pods {
        let outcome =
            claims::across(&lab.witness(), &pod.host().expect("wired"), lab.nodes()[1].host(), Transport::Tcp);
        outcome.into_result().expect("it runs");
    }
}
