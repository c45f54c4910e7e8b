//! Reads that are answered with the past.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, routing::any};
use lab::{
    proxy::Proxy,
    trouble::{Chance, Disturbance, Faults, Injection},
};
use sim::Action;
use tokio::time::Instant;

use crate::client::{Answer, Lab, PATIENCE, listen, request};

fn count(answer: &Answer) -> usize {
    answer.body.matches("<networkInterfaceId>").count()
}

fn stale(age: Duration) -> Injection {
    Injection::sometimes(Chance::ALWAYS, Disturbance::Stale(age))
}

#[tokio::test]
async fn a_stale_read_shows_what_was_also_to_a_question_never_asked_before() {
    let lab = Lab::start().await;
    let eni = lab.create_eni().await;
    let made = Instant::now();
    lab.fault(r#"{"action": "DescribeNetworkInterfaces", "kind": "stale", "age_ms": 60000, "count": 2}"#).await;
    let by_id = [("Action", "DescribeNetworkInterfaces"), ("NetworkInterfaceId.1", eni.as_str())];
    let answer = lab.call(&by_id).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidNetworkInterfaceID.NotFound"));
    assert_eq!(count(&lab.call(&by_id[..1]).await), 0);
    lab.fault(r#"{"action": "DescribeNetworkInterfaces", "kind": "stale", "age_ms": 700, "count": 0}"#).await;
    let seen = async {
        while lab.call(&by_id).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the past passes");
    assert!(made.elapsed() >= Duration::from_millis(650), "{:?}", made.elapsed());
}

#[tokio::test]
async fn a_stale_instance_has_not_the_eni_that_was_just_attached() {
    let lab = Lab::start().await;
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    lab.attach(&eni, &instance).await;
    let by_id = [("Action", "DescribeInstances"), ("InstanceId.1", instance.as_str())];
    assert!(lab.call(&by_id).await.body.contains(&eni));
    lab.faults.inject(Injection::once(Action::DescribeInstances, Disturbance::Stale(Duration::from_mins(1))));
    let past = lab.call(&by_id).await;
    assert!(past.status != 200 || !past.body.contains(&eni), "{past:?}");
    assert!(lab.call(&by_id).await.body.contains(&eni), "it was for one call");
}

#[tokio::test]
async fn only_reads_are_stale() {
    let lab = Lab::start().await;
    lab.faults.inject(Injection { count: Some(1), ..stale(Duration::from_secs(30)) });
    let eni = lab.create_eni().await;
    assert_eq!(lab.world.vpc(|vpc| vpc.enis().len()), 1);
    let instance = lab.launch();
    lab.attach(&eni, &instance).await;
    assert_eq!(lab.world.attached(&instance).len(), 2);
    assert_eq!(lab.faults.injections().len(), 1, "it waits for a read");
    assert_eq!(count(&lab.call(&[("Action", "DescribeNetworkInterfaces")]).await), 0);
    assert_eq!(lab.faults.injections(), []);
}

/// A backend of another make: it counts its answers, and nothing else.
async fn counter() -> std::net::SocketAddr {
    async fn answer(State(answers): State<Arc<AtomicU64>>, body: String) -> String {
        assert!(body.contains("Action="), "{body}");
        format!("<Answer>{}</Answer>", answers.fetch_add(1, Ordering::Relaxed))
    }
    let (listener, address) = listen().await;
    let app = Router::new().fallback(any(answer)).with_state(Arc::default());
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn without_a_history_in_the_backend_an_earlier_answer_to_the_same_question_is_given_again() {
    let faults = Arc::new(Faults::default());
    let (listener, proxy) = listen().await;
    tokio::spawn(Proxy::new(counter().await, Arc::clone(&faults)).serve(listener));
    let ask = |form: &'static str| async move {
        request(proxy, "POST", "/", &[], form).await.expect("an answer").element("Answer")
    };
    assert_eq!(ask("Action=DescribeNetworkInterfaces&MaxResults=5").await, "0");
    assert_eq!(ask("Action=DescribeNetworkInterfaces&MaxResults=5").await, "1");
    faults.inject(stale(Duration::from_secs(50)));
    assert_eq!(
        ask("MaxResults=5&Action=DescribeNetworkInterfaces").await,
        "0",
        "the oldest; the order does not matter"
    );
    assert_eq!(ask("Action=DescribeNetworkInterfaces&MaxResults=6").await, "3", "never asked before");
    assert_eq!(ask("Action=AttachNetworkInterface").await, "4");
    assert_eq!(ask("Action=AttachNetworkInterface").await, "5", "no read");
    faults.clear();
    assert_eq!(ask("Action=DescribeNetworkInterfaces&MaxResults=5").await, "6");
    let young = Duration::from_millis(300);
    faults.inject(stale(young));
    let forgotten = async {
        while ask("Action=DescribeNetworkInterfaces&MaxResults=5").await.parse::<u64>().is_ok_and(|answer| answer <= 6)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("no answer is older than that");
}
