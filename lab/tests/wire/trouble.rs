//! Faults, latency and being cut off, ordered over the admin path as another process does it.

use std::time::{Duration, Instant};

use lab::{
    proxy::Outcome,
    trouble::{Latency, Service},
};
use sim::Action;

use crate::client::Lab;

async fn create(lab: &Lab) -> Option<crate::client::Answer> {
    lab.try_call(&[("Action", "CreateNetworkInterface"), ("SubnetId", &lab.subnet)]).await
}

fn enis(lab: &Lab) -> usize {
    lab.world.vpc(|vpc| vpc.enis().len())
}

#[tokio::test]
async fn a_refusal_comes_with_or_without_the_effect() {
    let lab = Lab::start().await;
    lab.fault(r#"{"action": "CreateNetworkInterface", "kind": "refuse", "code": "RequestLimitExceeded"}"#).await;
    let answer = create(&lab).await.expect("an answer");
    assert_eq!((answer.status, answer.code().as_str(), enis(&lab)), (503, "RequestLimitExceeded", 0));

    lab.fault(
        r#"{"action": "CreateNetworkInterface", "kind": "refuse", "when": "after",
            "code": "InternalError", "message": "sorry", "status": 500}"#,
    )
    .await;
    let answer = create(&lab).await.expect("an answer");
    assert_eq!((answer.status, answer.element("Message").as_str(), enis(&lab)), (500, "sorry", 1));

    assert_eq!(create(&lab).await.expect("an answer").status, 200, "each fault was for one call");
}

#[tokio::test]
async fn an_answer_is_lost_with_or_without_the_effect() {
    let lab = Lab::start().await;
    lab.fault(r#"{"action": "CreateNetworkInterface", "kind": "lose"}"#).await;
    assert!(create(&lab).await.is_none());
    assert_eq!(enis(&lab), 0);
    lab.fault(r#"{"action": "CreateNetworkInterface", "kind": "lose", "when": "after"}"#).await;
    assert!(create(&lab).await.is_none());
    assert_eq!(enis(&lab), 1);
    let outcomes: Vec<_> = lab.proxy.log().into_iter().map(|logged| logged.outcome).collect();
    assert_eq!(outcomes, [Outcome::Lost, Outcome::Lost]);
}

#[tokio::test]
async fn a_call_hangs_until_its_caller_gives_up() {
    let lab = Lab::start().await;
    lab.fault(r#"{"action": "CreateNetworkInterface", "kind": "hang", "when": "after"}"#).await;
    let mut hanging = std::pin::pin!(create(&lab));
    let others = async {
        while enis(&lab) == 0 {
            tokio::task::yield_now().await;
        }
        // Whoever asks after it is answered before it.
        for _ in 0..10 {
            lab.call(&[("Action", "DescribeVpcs")]).await;
        }
    };
    tokio::select! {
        biased;
        answer = &mut hanging => panic!("it did not hang: {answer:?}"),
        () = others => {}
    }
    assert_eq!(enis(&lab), 1);
    assert_eq!(create(&lab).await.expect("an answer").status, 200, "the server is as good as before");
}

#[tokio::test]
async fn faults_skip_count_and_choose_their_action() {
    let lab = Lab::start().await;
    lab.fault(
        r#"{"action": "CreateNetworkInterface", "skip": 1, "count": 2, "kind": "refuse", "code": "InternalError"}"#,
    )
    .await;
    let describe = [("Action", "DescribeVpcs")];
    let mut statuses = Vec::new();
    for _ in 0..4 {
        assert_eq!(lab.call(&describe).await.status, 200, "another action");
        statuses.push(create(&lab).await.expect("an answer").status);
    }
    assert_eq!(statuses, [200, 500, 500, 200]);
    assert_eq!(lab.faults.injections(), []);

    lab.fault(r#"{"count": 0, "kind": "refuse", "code": "InternalError"}"#).await;
    for _ in 0..3 {
        assert_eq!(lab.call(&describe).await.status, 500, "any action, for ever");
    }
    let listed = lab.admin("GET", "/_lab/faults", "").await.expect("the admin path answers");
    assert!(listed.body.contains("InternalError"), "{listed:?}");
    lab.admin("DELETE", "/_lab/faults", "").await.expect("the admin path answers");
    assert_eq!(lab.call(&describe).await.status, 200);
}

#[tokio::test]
async fn a_delay_and_a_latency_take_their_time() {
    let lab = Lab::start().await;
    lab.faults.set_latency(Latency::fixed(Duration::from_millis(80)));
    lab.fault(r#"{"action": "CreateNetworkInterface", "kind": "delay", "delay_ms": 150}"#).await;
    let started = Instant::now();
    assert_eq!(create(&lab).await.expect("an answer").status, 200);
    assert!(started.elapsed() >= Duration::from_millis(230), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_chance_hits_some_calls_and_the_same_ones_again() {
    async fn answered(interrupt: bool) -> Vec<bool> {
        let lab = Lab::start().await;
        lab.fault(r#"{"action": "DescribeVpcs", "kind": "lose", "count": 0, "chance": 0.4}"#).await;
        let mut answered = Vec::new();
        for _ in 0..50 {
            if interrupt {
                create(&lab).await;
            }
            answered.push(lab.try_call(&[("Action", "DescribeVpcs")]).await.is_some());
        }
        answered
    }
    let first = answered(false).await;
    let hit = first.iter().filter(|answered| !**answered).count();
    assert!((5..=40).contains(&hit), "{hit} of 50");
    assert_eq!(answered(true).await, first, "whatever else is called in between");
}

#[tokio::test]
async fn a_caller_that_gives_up_early_may_or_may_not_have_had_its_way() {
    let lab = Lab::start().await;
    lab.faults.set_latency(Latency::fixed(Duration::from_secs(1)));
    tokio::time::timeout(Duration::from_millis(50), create(&lab)).await.expect_err("no answer so soon");
    let calls = || lab.proxy.calls().values().sum::<u64>();
    let effect = async {
        while calls() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = effect => {}
        answer = create(&lab) => panic!("the effect comes before the answer: {answer:?}"),
    }
    assert_eq!((enis(&lab), calls()), (1, 1), "who gave up before the effect had none");
}

#[tokio::test]
async fn the_answer_of_a_loss_is_a_closed_connection_and_the_next_one_works() {
    let lab = Lab::start().await;
    lab.fault(r#"{"kind": "lose", "when": "after", "count": 3}"#).await;
    for _ in 0..3 {
        assert!(create(&lab).await.is_none());
    }
    assert_eq!((create(&lab).await.expect("an answer").status, enis(&lab)), (200, 4));
}

#[tokio::test]
async fn who_is_cut_off_gets_no_answer_no_effect_and_no_entry_in_the_log() {
    let lab = Lab::start().await;
    let instance = lab.launch();
    let metadata = lab.metadata(&instance).await;
    let token = || {
        crate::client::request(
            metadata,
            "PUT",
            "/latest/api/token",
            &[("X-aws-ec2-metadata-token-ttl-seconds", "60")],
            "",
        )
    };
    lab.faults.set_reachable(Service::Ec2, false);
    assert!(create(&lab).await.is_none());
    assert!(lab.try_call(&[("Action", "Nonsense")]).await.is_none(), "not even an error is told");
    assert!(token().await.is_some(), "metadata is another service");
    let truth = lab.admin("GET", "/_lab/state", "").await.expect("whoever runs the lab is not cut off");
    assert_eq!(truth.status, 200);
    lab.order("reachable", r#"{"ec2": true, "metadata": false}"#).await;
    assert!(token().await.is_none());
    assert_eq!((enis(&lab), lab.proxy.calls().len()), (1, 0));
    assert_eq!(create(&lab).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn calls_are_counted_and_logged_with_what_was_asked() {
    let lab = Lab::start().await;
    create(&lab).await;
    create(&lab).await;
    lab.call(&[("Action", "DetachNetworkInterface"), ("AttachmentId", "eni-attach-0")]).await;
    let calls = lab.proxy.calls();
    assert_eq!(calls[&Action::CreateNetworkInterface], 2);
    assert_eq!(calls.values().sum::<u64>(), 3, "{calls:?}");
    let last = lab.proxy.log().pop().expect("three calls");
    assert_eq!(last.outcome, Outcome::Refused("InvalidAttachmentID.NotFound".into()));
    let counted = lab.admin("GET", "/_lab/calls", "").await.expect("the admin path answers");
    assert_eq!(counted.body, r#"{"CreateNetworkInterface":2,"DetachNetworkInterface":1}"#);
    let log = lab.admin("GET", "/_lab/log", "").await.expect("the admin path answers");
    assert!(log.body.contains(&lab.subnet), "{log:?}");
    lab.admin("DELETE", "/_lab/calls", "").await.expect("the admin path answers");
    assert!(lab.proxy.calls().is_empty());
}

#[tokio::test]
async fn the_admin_path_tells_the_truth_about_enis() {
    let lab = Lab::start().await;
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    lab.attach(&eni, &instance).await;
    let answer = lab.admin("GET", "/_lab/state", "").await.expect("the admin path answers");
    let state: Vec<lab::ec2::admin::EniState> = serde_json::from_str(&answer.body).expect("JSON");
    let found = state.iter().find(|one| one.eni == eni).expect("it is there");
    assert_eq!((found.instance.as_ref(), found.device_index), (Some(&instance), Some(1)));
    assert!(found.device_visible);
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_the_reason() {
    let lab = Lab::start().await;
    for (order, reason) in [
        ("", "EOF"),
        ("{}", "kind"),
        (r#"{"kind": "explode"}"#, "explode"),
        (r#"{"kind": "refuse"}"#, "code"),
        (r#"{"kind": "refuse", "code": "X", "status": 200}"#, "200"),
        (r#"{"kind": "delay"}"#, "delay_ms"),
        (r#"{"kind": "stale"}"#, "age_ms"),
        (r#"{"kind": "lose", "chance": 1.5}"#, "1.5"),
        (r#"{"kind": "lose", "action": "Nothing"}"#, "Nothing"),
        (r#"{"kind": "lose", "acton": "DescribeVpcs"}"#, "acton"),
    ] {
        let answer = lab.admin("POST", "/_lab/faults", order).await.expect("the admin path answers");
        assert_eq!(answer.status, 400, "{order}");
        assert!(answer.body.contains(reason), "{order}: {answer:?}");
    }
    assert_eq!(lab.faults.injections(), []);
}
