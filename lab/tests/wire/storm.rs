//! The storm, as a caller lives through it.

use std::collections::BTreeMap;

use lab::{
    proxy::Outcome,
    trouble::{Buckets, Disturbance, Latency, Trouble},
};

use crate::client::Lab;

/// The storm for somebody in a hurry: nothing takes time, and who would hang is let go.
fn fast(seed: u64) -> Trouble {
    let mut storm = Trouble::storm(seed);
    (storm.latency, storm.buckets) = (Latency::default(), Buckets::default());
    for injection in &mut storm.injections {
        match injection.disturbance {
            Disturbance::Hang(when) => injection.disturbance = Disturbance::Lose(when),
            Disturbance::Delay(ref mut time) => *time = std::time::Duration::ZERO,
            _ => {}
        }
    }
    storm
}

/// What each of so many reads was told.
async fn weather(seed: u64, calls: usize) -> Vec<String> {
    let lab = Lab::start().await;
    lab.faults.set(fast(seed));
    for _ in 0..calls {
        lab.try_call(&[("Action", "DescribeNetworkInterfaces")]).await;
    }
    lab.proxy
        .log()
        .into_iter()
        .map(|call| match call.outcome {
            Outcome::Accepted => "accepted".into(),
            Outcome::Lost => "lost".into(),
            Outcome::Refused(code) => code,
        })
        .collect()
}

#[tokio::test]
async fn a_storm_hits_one_call_of_six_and_its_seed_brings_it_again() {
    let first = weather(7, 300).await;
    assert_eq!(first.len(), 300);
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in &first {
        *told.entry(outcome).or_default() += 1;
    }
    assert!((225..=290).contains(&told["accepted"]), "{told:?}");
    for outcome in ["lost", "RequestLimitExceeded", "InternalError"] {
        assert!(told.contains_key(outcome), "{outcome}: {told:?}");
    }
    assert_eq!(weather(7, 300).await, first);
    assert_ne!(weather(8, 300).await, first);
}

#[tokio::test]
async fn a_storm_is_ordered_shown_and_over() {
    let lab = Lab::start().await;
    lab.order("storm", r#"{"seed": 3}"#).await;
    assert_eq!(lab.faults.trouble(), Trouble::storm(3));
    let listed = lab.admin("GET", "/_lab/faults", "").await.expect("the admin path answers");
    let listing: lab::proxy::admin::Listing = serde_json::from_str(&listed.body).expect("JSON");
    assert_eq!((listing.seed, listing.faults.len()), (3, Trouble::storm(3).injections.len()));
    lab.admin("DELETE", "/_lab/faults", "").await.expect("the admin path answers");
    assert_eq!(lab.faults.trouble(), Trouble::default());
}
