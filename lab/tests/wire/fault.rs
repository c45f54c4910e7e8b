//! `lab fault`, the program, against a proxy that runs elsewhere.

use std::{net::SocketAddr, process::Output};

use lab::{
    proxy::admin::{FaultKind, FaultTime, Listing, LogLine},
    trouble::{Service, Trouble},
};

use crate::client::Lab;

async fn fault(at: SocketAddr, words: &str) -> Output {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"));
    program.arg("fault").arg(format!("--at={at}")).args(words.split(' '));
    program.output().await.expect("it runs")
}

async fn told(at: SocketAddr, words: &str) -> String {
    let output = fault(at, words).await;
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn listing(at: SocketAddr) -> Listing {
    serde_json::from_str(&told(at, "--json list").await).expect("JSON")
}

#[tokio::test]
async fn every_kind_of_fault_is_ordered_by_a_command() {
    let lab = Lab::start().await;
    let at = lab.ec2;
    for words in [
        "refuse AssignPrivateIpAddresses RequestLimitExceeded --skip 1 --count 2",
        "refuse any InternalError --message sorry --after-effect --chance 0.5 --count 0",
        "lose AttachNetworkInterface --after-effect",
        "hang any",
        "delay DetachNetworkInterface 3s",
        "stale DescribeNetworkInterfaces 20s --count 5",
        "latency any 10ms..90ms",
        "latency AttachNetworkInterface 50ms~1s",
        "bucket any --burst 20 --refill 200ms",
        "bucket AssignPrivateIpAddresses --burst 5 --refill 1s",
        "metadata lag 5s",
        "metadata latency 100ms",
        "metadata omit eni-1",
        "metadata omit 10.0.0.7 --for 1h",
        "metadata reachable false",
        "reachable false",
    ] {
        assert_eq!(told(at, words).await, "", "{words}");
    }
    let listing = listing(at).await;
    let faults: Vec<_> = listing.faults.iter().map(|order| (order.kind, order.when, order.count)).collect();
    assert_eq!(
        faults,
        [
            (FaultKind::Refuse, FaultTime::Before, 2),
            (FaultKind::Refuse, FaultTime::After, 0),
            (FaultKind::Lose, FaultTime::After, 1),
            (FaultKind::Hang, FaultTime::Before, 1),
            (FaultKind::Delay, FaultTime::Before, 1),
            (FaultKind::Stale, FaultTime::Before, 5),
        ]
    );
    assert_eq!((listing.faults[0].skip, listing.faults[0].status), (1, Some(503)));
    assert_eq!((listing.faults[1].action.as_deref(), listing.faults[1].message.as_deref()), (None, Some("sorry")));
    assert_eq!(listing.faults[4].delay_ms, Some(3_000));
    assert_eq!(listing.faults[5].age_ms, Some(20_000));
    let spreads: Vec<_> = listing.latency.iter().map(|order| order.spread.as_str()).collect();
    assert_eq!(spreads, ["10ms..90ms", "50ms~1s"]);
    let buckets: Vec<_> = listing.buckets.iter().map(|order| (order.burst, order.refill_ms)).collect();
    assert_eq!(buckets, [(20, 200), (5, 1_000)]);
    let metadata = &listing.metadata;
    assert_eq!((metadata[0].lag_ms, metadata[0].latency.as_deref()), (Some(5_000), Some("100ms")));
    assert_eq!((metadata[1].omit.as_deref(), metadata[1].reads), (Some("eni-1"), Some(1)));
    assert_eq!((metadata[2].omit.as_deref(), metadata[2].for_ms), (Some("10.0.0.7"), Some(3_600_000)));
    assert_eq!((listing.reachable.ec2, listing.reachable.metadata), (Some(false), Some(false)));

    assert_eq!(told(at, "clear").await, "");
    assert_eq!(lab.faults.trouble(), Trouble::default());
    assert!(lab.faults.reachable(Service::Ec2) && lab.faults.reachable(Service::Metadata));
    assert_eq!(told(at, "storm --seed 5").await, "");
    assert_eq!(lab.faults.trouble(), Trouble::storm(5));
}

#[tokio::test]
async fn calls_log_and_state_are_shown_by_commands() {
    let lab = Lab::start().await;
    let eni = lab.create_eni().await;
    assert_eq!(told(lab.ec2, "--json calls").await.trim(), r#"{"CreateNetworkInterface":1}"#);
    let log: Vec<LogLine> = serde_json::from_str(&told(lab.ec2, "--json log").await).expect("JSON");
    assert_eq!((log.len(), log[0].outcome.as_str(), &log[0].request["SubnetId"]), (1, "accepted", &lab.subnet));
    assert!(told(lab.ec2, "state").await.contains(&eni), "the EC2 behind the proxy tells it");
    assert_eq!(told(lab.ec2, "calls").await.trim(), "1  CreateNetworkInterface");
    let line = told(lab.ec2, "log").await;
    let subnet = format!("SubnetId={}", lab.subnet);
    assert!(line.contains("CreateNetworkInterface  accepted") && line.contains(&subnet), "{line}");
}

#[tokio::test]
async fn what_goes_wrong_is_listed_as_the_orders_that_make_it_so() {
    let orders = "latency any 10ms..90ms
latency AttachNetworkInterface 50ms~1s
bucket any --burst 20 --refill 200ms
refuse AssignPrivateIpAddresses RequestLimitExceeded --message \"Request limit exceeded.\" --skip 1 --count 2
lose any --chance 0.5 --after-effect
stale DescribeNetworkInterfaces 20s
metadata lag 5s
metadata omit eni-1 --reads 2
reachable false
metadata reachable false
";
    let lab = Lab::start().await;
    for order in orders.lines() {
        // A message of several words is for a shell.
        assert_eq!(told(lab.ec2, &order.replace(" --message \"Request limit exceeded.\"", "")).await, "", "{order}");
    }
    assert_eq!(told(lab.ec2, "list").await, orders);
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_by_a_command() {
    let lab = Lab::start().await;
    for (words, reason) in [
        ("lose Nothing", "Nothing"),
        ("latency any soon", "soon"),
        ("metadata omit eth0", "eth0"),
        ("metadata omit eni-1 --reads 1 --for 1s", "--for"),
        ("hang any --chance 2", "2 is no probability"),
    ] {
        let output = fault(lab.ec2, words).await;
        assert!(!output.status.success(), "{words}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(reason), "{words}: {said}");
    }
    assert_eq!(lab.faults.trouble(), Trouble::default());
}
