//! Token buckets and latencies, as callers feel them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lab::{
    proxy::Outcome,
    trouble::{Bucket, Latency, Spread},
};
use sim::Action;

use crate::client::{Lab, listen, request};

const DESCRIBE: [(&str, &str); 1] = [("Action", "DescribeVpcs")];

async fn statuses(lab: &Lab, calls: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        statuses.push(lab.call(&DESCRIBE).await.status);
    }
    statuses
}

#[tokio::test]
async fn an_empty_bucket_refuses_as_ec2_does_until_a_token_is_back() {
    let lab = Lab::start().await;
    let refill = Duration::from_secs(1);
    lab.order("buckets", r#"{"action": "CreateNetworkInterface", "burst": 2, "refill_ms": 1000}"#).await;
    let create = [("Action", "CreateNetworkInterface"), ("SubnetId", lab.subnet.as_str())];
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(lab.call(&create).await.status, 200);
    }
    let mut refused = 0;
    loop {
        let answer = lab.call(&create).await;
        if answer.status == 200 {
            break;
        }
        refused += 1;
        assert_eq!((answer.status, answer.code().as_str()), (503, "RequestLimitExceeded"), "{answer:?}");
        assert_eq!(answer.element("Message"), "Request limit exceeded.");
        assert!(answer.headers.contains("text/xml") && answer.headers.contains("x-amzn-requestid"), "{answer:?}");
        assert_eq!(lab.call(&DESCRIBE).await.status, 200, "another action has no bucket");
    }
    assert!(refused > 0 && begun.elapsed() >= refill, "{refused} refused, {:?}", begun.elapsed());
    assert_eq!(lab.world.vpc(|vpc| vpc.enis().len()), 3, "what was refused had no effect");
    let throttled = Outcome::Refused("RequestLimitExceeded".into());
    let logged = lab.proxy.log().into_iter().filter(|call| call.outcome == throttled).count();
    assert_eq!(logged, refused);
}

#[tokio::test]
async fn all_nodes_draw_from_one_bucket() {
    let lab = Lab::start().await;
    let (listener, other_node) = listen().await;
    tokio::spawn(Arc::clone(&lab.proxy).serve(listener));
    lab.faults.set_bucket(None, Bucket { burst: 3, refill: Duration::from_hours(1) });
    assert_eq!(statuses(&lab, 2).await, [200, 200]);
    let answer = request(other_node, "POST", "/", &[], "Action=DescribeVpcs").await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(statuses(&lab, 1).await, [503]);
    lab.admin("DELETE", "/_lab/faults", "").await.expect("the admin path answers");
    assert_eq!(statuses(&lab, 4).await, [200; 4]);
}

#[tokio::test]
async fn latency_has_a_spread_of_its_own_for_an_action() {
    let lab = Lab::start().await;
    lab.order("latency", r#"{"action": "DescribeVpcs", "spread": "1h"}"#).await;
    lab.create_eni().await;
    lab.order("latency", r#"{"action": "DescribeVpcs", "spread": "150ms..200ms"}"#).await;
    let begun = Instant::now();
    assert_eq!(statuses(&lab, 1).await, [200]);
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_long_tail_is_mostly_short() {
    let lab = Lab::start().await;
    let usual = Spread::LongTailed { median: Duration::from_millis(4), p99: Duration::from_millis(40) };
    lab.faults.set_latency(Latency { usual, ..Latency::default() });
    let begun = Instant::now();
    statuses(&lab, 40).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(4 * 20), "half of forty calls take the median or more: {took:?}");
    assert_eq!(lab.proxy.calls()[&Action::DescribeVpcs], 40);
}

#[tokio::test]
async fn the_effect_lies_in_the_middle_of_the_latency() {
    let lab = Lab::start().await;
    lab.faults.set_latency(Latency::fixed(Duration::from_millis(600)));
    let begun = Instant::now();
    let effect = async {
        while lab.world.vpc(|vpc| vpc.enis().is_empty()) {
            tokio::task::yield_now().await;
        }
        begun.elapsed()
    };
    let call = async {
        lab.create_eni().await;
        begun.elapsed()
    };
    let (effect, answer) = tokio::join!(effect, call);
    assert!(effect >= Duration::from_millis(300) && effect < answer, "{effect:?} {answer:?}");
    assert!(answer >= Duration::from_millis(600), "{answer:?}");
}
