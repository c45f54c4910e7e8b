//! The storm, as a caller lives through it.

use std::{collections::BTreeMap, time::Duration};

use lab::{proxy::Outcome, trouble::Trouble};

use crate::client::Lab;

/// What each of so many creates was told; a hang is a caller that gave up.
async fn weather(seed: u64, calls: usize) -> Vec<String> {
    let lab = Lab::start().await;
    let mut storm = Trouble::storm(seed);
    // For a test the same storm in a hurry.
    storm.latency = lab::trouble::Latency::default();
    storm.buckets = lab::trouble::Buckets::default();
    lab.faults.set(storm);
    let form = [("Action", "DescribeNetworkInterfaces")];
    for _ in 0..calls {
        let _gave_up = tokio::time::timeout(Duration::from_millis(150), lab.try_call(&form)).await;
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
