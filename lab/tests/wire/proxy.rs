//! The proxy and the server behind it: what is passed on, and what becomes of calls when that server or a caller goes away.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::any,
};
use lab::proxy::{Outcome, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

use crate::client::{Lab, PATIENCE, listen, request};

const CALL: &str = "Action=AttachNetworkInterface&InstanceId=i-1";

/// A proxy in front of a backend.
async fn proxy(backend: SocketAddr) -> (Arc<Proxy>, SocketAddr) {
    let proxy = Proxy::new(backend, Arc::default());
    let (listener, address) = listen().await;
    tokio::spawn(Arc::clone(&proxy).serve(listener));
    (proxy, address)
}

#[tokio::test]
async fn a_request_and_its_answer_pass_as_they_are() {
    async fn echo(uri: Uri, headers: HeaderMap, body: String) -> (StatusCode, [(&'static str, String); 1], String) {
        let own = headers.get("x-own").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (StatusCode::IM_A_TEAPOT, [("x-answer", own)], format!("{uri} {body}"))
    }
    let (listener, backend) = listen().await;
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(echo))).await });
    let (proxy, address) = proxy(backend).await;
    for path in ["/?a=b", "/_health/x"] {
        let answer = request(address, "POST", path, &[("X-Own", "mine")], CALL).await.expect("an answer");
        assert_eq!((answer.status, answer.body), (418, format!("{path} {CALL}")));
        assert!(answer.headers.contains("x-answer: mine"), "{}", answer.headers);
    }
    let logged = proxy.log().pop().expect("both were calls");
    assert_eq!((logged.action.as_str(), logged.outcome), ("AttachNetworkInterface", Outcome::Refused("418".into())));
    assert_eq!(request(address, "GET", "/_lab/else", &[], "").await.expect("an answer").body, "/_lab/else ");
    assert_eq!(proxy.log().len(), 2, "what names no action is no call");
}

#[tokio::test]
async fn a_call_of_an_action_that_the_model_does_not_know_is_disturbed_as_any() {
    let lab = Lab::start().await;
    let unknown = [("Action", "RebootInstances")];
    assert_eq!(lab.call(&unknown).await.code(), "InvalidAction");
    lab.fault(r#"{"kind": "refuse", "code": "Unavailable"}"#).await;
    let answer = lab.call(&unknown).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "Unavailable"));
    assert!(lab.proxy.calls().is_empty());
    assert_eq!(lab.proxy.log().len(), 2);
}

#[tokio::test]
async fn what_is_on_its_way_happens_and_is_logged_though_the_caller_is_gone() {
    async fn slow(State((arrived, go)): State<(Arc<Notify>, Arc<Notify>)>) -> &'static str {
        arrived.notify_one();
        go.notified().await;
        "<done/>"
    }
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (listener, backend) = listen().await;
    let app = Router::new().fallback(any(slow)).with_state((Arc::clone(&arrived), Arc::clone(&go)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let (proxy, address) = proxy(backend).await;
    let caller = tokio::spawn(async move { request(address, "POST", "/", &[], CALL).await });
    timeout(PATIENCE, arrived.notified()).await.expect("it arrives");
    caller.abort();
    caller.await.expect_err("the caller is gone");
    // Whoever asks now is told nothing of it, and its connection is seen to be closed.
    let nothing = timeout(Duration::from_millis(100), request(address, "POST", "/", &[], "Action=DescribeVpcs")).await;
    nothing.expect_err("this backend lets everybody wait");
    assert_eq!(proxy.log(), []);
    go.notify_one();
    go.notify_one();
    let logged = async {
        while proxy.log().is_empty() {
            tokio::task::yield_now().await;
            go.notify_one();
        }
    };
    timeout(PATIENCE, logged).await.expect("the call is logged");
    assert_eq!(proxy.log()[0].outcome, Outcome::Accepted);
}

/// Reads a request, with its short body.
async fn read(stream: &mut TcpStream) -> bool {
    let mut asked = [0; 4096];
    stream.read(&mut asked).await.is_ok_and(|read| String::from_utf8_lossy(&asked[..read]).ends_with(CALL))
}

#[tokio::test]
async fn a_call_that_may_have_arrived_is_never_sent_again() {
    let (listener, backend) = listen().await;
    let arrived = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&arrived);
    tokio::spawn(async move {
        // Answers the first call on each connection, and ends it at the second.
        while let Ok((mut stream, _)) = listener.accept().await {
            if read(&mut stream).await {
                count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<A/>").await.expect("it is read");
            }
            if read(&mut stream).await {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let (proxy, address) = proxy(backend).await;
    let mut answered = Vec::new();
    for _ in 0..4 {
        answered.push(request(address, "POST", "/", &[], CALL).await.is_some());
    }
    assert_eq!(answered, [true, false, true, false]);
    assert_eq!(arrived.load(Ordering::Relaxed), 4);
    let outcomes: Vec<_> = proxy.log().into_iter().map(|call| call.outcome).collect();
    assert_eq!(outcomes, [Outcome::Accepted, Outcome::Lost, Outcome::Accepted, Outcome::Lost]);
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_meanwhile_is_replaced() {
    let (listener, backend) = listen().await;
    let closed = Arc::new(Notify::new());
    let told = Arc::clone(&closed);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if read(&mut stream).await {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<A/>").await.expect("it is read");
            }
            stream.shutdown().await.expect("it can be closed");
            // The other side has seen it: it closes too.
            while stream.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {}
            told.notify_one();
        }
    });
    let (_proxy, address) = proxy(backend).await;
    for _ in 0..3 {
        let answer = request(address, "POST", "/", &[], CALL).await.expect("an answer");
        assert_eq!(answer.body, "<A/>");
        timeout(PATIENCE, closed.notified()).await.expect("the proxy lets go of it");
    }
}

#[tokio::test]
async fn without_a_backend_there_is_no_answer() {
    let (listener, backend) = listen().await;
    drop(listener);
    let (proxy, address) = proxy(backend).await;
    assert!(request(address, "POST", "/", &[], CALL).await.is_none());
    assert_eq!(proxy.log()[0].outcome, Outcome::Lost);
}
