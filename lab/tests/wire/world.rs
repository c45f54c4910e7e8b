//! Following a world: no change is missed, none is made up.

use std::{future::Future, time::Duration};

use sim::{Request, Times};

use crate::client::{Lab, PATIENCE};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

#[tokio::test]
async fn whoever_waits_is_told_of_a_call() {
    let lab = Lab::start().await;
    let waiting = tokio::spawn({
        let world = lab.world.clone();
        async move {
            let mut changes = world.changes();
            changes.next().await;
            world.vpc(|vpc| vpc.enis().len())
        }
    });
    let made = async {
        // The task may not have begun to wait yet; it then sees the next of these.
        while !waiting.is_finished() {
            lab.create_eni().await;
        }
    };
    within("the change is seen", made).await;
    assert!(waiting.await.expect("no panic") > 0);
}

#[tokio::test]
async fn a_change_between_two_looks_is_not_missed() {
    let lab = Lab::start().await;
    let mut changes = lab.world.changes();
    lab.launch();
    within("the launch is seen", changes.next()).await;
    let nothing = tokio::time::timeout(Duration::ZERO, changes.next()).await;
    nothing.expect_err("nothing has changed since");
}

#[tokio::test]
async fn whoever_waits_is_told_of_what_time_does() {
    let device = Duration::from_millis(150);
    let lab = Lab::with(Times { device, ..Times::INSTANT }).await;
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    lab.attach(&eni, &instance).await;
    let visible = || lab.world.attached(&instance).iter().filter(|one| one.device_visible).count();
    assert_eq!(visible(), 1);
    within("the device comes", lab.world.changed()).await;
    assert_eq!(visible(), 2);
}

#[tokio::test]
async fn looking_changes_nothing() {
    let lab = Lab::start().await;
    let mut changes = lab.world.changes();
    lab.call(&[("Action", "DescribeVpcs")]).await;
    lab.call(&[("Action", "DeleteNetworkInterface"), ("NetworkInterfaceId", "eni-0")]).await;
    let nothing = tokio::time::timeout(Duration::ZERO, changes.next()).await;
    nothing.expect_err("neither a describe nor a refusal is a change");
}

#[tokio::test]
async fn what_the_builder_of_the_world_does_is_not_counted() {
    let lab = Lab::start().await;
    lab.launch();
    lab.world.make(Request::DeleteNetworkInterface { eni: "eni-0".into() }).expect_err("there is none");
    assert!(lab.proxy.calls().is_empty() && lab.proxy.log().is_empty());
}
