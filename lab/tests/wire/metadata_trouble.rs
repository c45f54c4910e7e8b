//! Metadata that leaves something out, takes its time, or is away.

use std::time::{Duration, Instant};

use lab::trouble::{Extent, Omission, Omitted, Service};

use crate::{
    client::{Lab, PATIENCE},
    imds::Metadata,
};

const MACS: &str = "meta-data/network/interfaces/macs/";

/// An instance with two ENIs, its metadata, and the second ENI's id and MAC.
async fn node(lab: &Lab) -> (Metadata, String, String) {
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    lab.attach(&eni, &instance).await;
    let mac = lab.world.attached(&instance)[1].mac.to_string();
    (Metadata::of(lab, &instance).await, eni, mac)
}

#[tokio::test]
async fn one_reading_of_the_macs_leaves_an_eni_out() {
    let lab = Lab::start().await;
    let (metadata, eni, mac) = node(&lab).await;
    lab.order("metadata", &format!(r#"{{"omit": "{eni}"}}"#)).await;
    assert_eq!(metadata.get(&format!("{MACS}{mac}/interface-id")).await, eni, "what is below the MAC stays");
    assert!(!metadata.get(MACS).await.contains(&mac));
    assert!(metadata.get(MACS).await.contains(&mac), "it was one reading");

    lab.order("metadata", &format!(r#"{{"omit": "{eni}", "reads": 2}}"#)).await;
    let mut lists = Vec::new();
    for _ in 0..3 {
        // Without the slash it is the same list.
        lists.push(metadata.get(MACS.trim_end_matches('/')).await.contains(&mac));
    }
    assert_eq!(lists, [false, false, true]);
}

#[tokio::test]
async fn for_a_while_an_eni_is_nowhere() {
    let lab = Lab::start().await;
    let (metadata, eni, mac) = node(&lab).await;
    let below = format!("{MACS}{mac}/interface-id");
    lab.order("metadata", &format!(r#"{{"omit": "{eni}", "for_ms": 3600000}}"#)).await;
    assert_eq!(metadata.try_get(&below).await.status, 404);
    assert!(!metadata.get(MACS).await.contains(&mac));
    lab.faults.clear();
    let begun = Instant::now();
    lab.order("metadata", &format!(r#"{{"omit": "{eni}", "for_ms": 700}}"#)).await;
    let back = async {
        while metadata.try_get(&below).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("it comes back");
    assert!(begun.elapsed() >= Duration::from_millis(650), "{:?}", begun.elapsed());
    assert!(metadata.get(MACS).await.contains(&mac));
    assert_eq!(lab.faults.trouble().metadata.omissions, []);
}

#[tokio::test]
async fn an_address_is_left_out_of_its_eni_and_of_nothing_else() {
    let lab = Lab::start().await;
    let (metadata, _, mac) = node(&lab).await;
    let (primary, path) = (metadata.get("meta-data/mac").await, format!("{MACS}{mac}/local-ipv4s"));
    let address = metadata.get(&path).await;
    let what = Omitted::Address(address.parse().expect("one address"));
    lab.faults.omit(Omission { what: what.clone(), extent: Extent::Reads(1) });
    assert_ne!(metadata.get(&format!("{MACS}{primary}/local-ipv4s")).await, "", "another ENI's addresses");
    assert_eq!(metadata.try_get(&path).await.body, "");
    assert_eq!(metadata.get(&path).await, address, "it was one reading");
    lab.faults.omit(Omission { what, extent: Extent::For(Duration::from_hours(1)) });
    assert_eq!(metadata.try_get(&path).await.body, "");
    assert!(metadata.get(MACS).await.contains(&mac));
    lab.faults.clear();
    assert_eq!(metadata.get(&path).await, address);
}

#[tokio::test]
async fn metadata_takes_its_time_and_ec2_does_not() {
    let lab = Lab::start().await;
    let (metadata, ..) = node(&lab).await;
    lab.order("metadata", r#"{"latency": "200ms"}"#).await;
    let begun = Instant::now();
    metadata.get("meta-data/instance-id").await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    lab.order("metadata", r#"{"latency": "1h"}"#).await;
    lab.create_eni().await;
}

#[tokio::test]
async fn metadata_is_away_and_comes_back() {
    let lab = Lab::start().await;
    let (metadata, ..) = node(&lab).await;
    lab.faults.set_reachable(Service::Metadata, false);
    assert!(metadata.answer("meta-data/instance-id").await.is_none());
    lab.order("reachable", r#"{"metadata": true}"#).await;
    metadata.get("meta-data/instance-id").await;
}

#[tokio::test]
async fn a_wrong_order_for_metadata_is_refused_with_the_reason() {
    let lab = Lab::start().await;
    for (order, reason) in [
        (r#"{"omit": "nothing"}"#, "nothing"),
        (r#"{"omit": "eni-1", "reads": 0}"#, "reads"),
        (r#"{"omit": "eni-1", "reads": 1, "for_ms": 1}"#, "either"),
        (r#"{"reads": 1}"#, "omit"),
        (r#"{"latency": "long"}"#, "long"),
    ] {
        let answer = lab.admin("POST", "/_lab/metadata", order).await.expect("the admin path answers");
        assert_eq!(answer.status, 400, "{order}");
        assert!(answer.body.contains(reason), "{order}: {answer:?}");
    }
}
