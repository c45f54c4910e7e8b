//! Metadata that is behind EC2.

use std::time::{Duration, Instant};

use crate::{
    client::{Lab, PATIENCE},
    imds::Metadata,
};

#[tokio::test]
async fn metadata_tells_what_was_true_a_lag_ago() {
    let lab = Lab::start().await;
    let lag = Duration::from_millis(600);
    lab.faults.set_metadata_lag(lag);
    let instance = lab.launch();
    let metadata = Metadata::of(&lab, &instance).await;
    assert_eq!(metadata.get("meta-data/instance-id").await, instance, "an instance always knows itself");
    let attached = Instant::now();
    lab.attach(&lab.create_eni().await, &instance).await;
    let macs = || async { metadata.get("meta-data/network/interfaces/macs/").await.lines().count() };
    let seen = async {
        while macs().await < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the lag ends");
    assert!(attached.elapsed() >= lag, "{:?}", attached.elapsed());
}

#[tokio::test]
async fn a_lag_that_is_switched_on_hides_only_what_comes_after() {
    let lab = Lab::start().await;
    let instance = lab.launch();
    let metadata = Metadata::of(&lab, &instance).await;
    lab.attach(&lab.create_eni().await, &instance).await;
    lab.faults.set_metadata_lag(Duration::from_hours(1));
    let macs = "meta-data/network/interfaces/macs/";
    assert_eq!(metadata.get(macs).await.lines().count(), 2);
    let eni = lab.world.attached(&instance)[1].clone();
    let call = [
        ("Action", "AssignPrivateIpAddresses"),
        ("NetworkInterfaceId", eni.eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "2"),
    ];
    lab.call(&call).await;
    let path = format!("{macs}{}/local-ipv4s", eni.mac);
    assert_eq!(metadata.get(&path).await.lines().count(), 1);
    lab.faults.set_metadata_lag(Duration::ZERO);
    assert_eq!(metadata.get(&path).await.lines().count(), 3);
}
