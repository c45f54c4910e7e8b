//! Everything that can go wrong between us and EC2: which of it surely did not happen, which may have, and that nothing is ever
//! asked twice.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use aws_credential_types::provider::{self, ProvideCredentials, error::CredentialsError, future};
use cloud::{Action, Call, Cloud, Error, Kind};
use cloud_aws::{Ec2, Settings};
use pool::{Ask, DeviceIndex};

use crate::{
    client,
    support::{Reply, Server, answer, refusal},
};

/// One of each call.
fn calls() -> Vec<Call> {
    vec![
        Call::CreateEni {
            token: "t-1".into(),
            subnet: "subnet-1".into(),
            groups: vec![],
            ask: Ask::Addresses(1),
            description: String::new(),
            tags: BTreeMap::new(),
        },
        Call::Attach { eni: "eni-0a".into(), instance: "i-1".into(), device: DeviceIndex(1) },
        Call::Protect { eni: "eni-0a".into(), attachment: "eni-attach-7".into() },
        Call::SetGroups { eni: "eni-0a".into(), groups: vec!["sg-1".into()] },
        assign(),
        Call::Unassign { eni: "eni-0a".into(), addresses: vec![Ipv4Addr::new(10, 0, 0, 9)], prefixes: vec![] },
        Call::Tag { eni: "eni-0a".into(), tags: BTreeMap::from([("key".to_owned(), "value".to_owned())]) },
        Call::Detach { eni: "eni-0a".into(), attachment: "eni-attach-7".into() },
        Call::Delete { eni: "eni-0a".into() },
        Call::Describe { eni: "eni-0a".into() },
        Call::Discover { instance: "i-1".into() },
        Call::Subnets { vpc: "vpc-1".into(), zone: "eu-central-1a".to_owned() },
        Call::Leaked { vpc: "vpc-1".into(), cluster: None },
        Call::Instances { instances: vec!["i-2".into()] },
    ]
}

fn assign() -> Call {
    Call::Assign { eni: "eni-0a".into(), ask: Ask::Prefixes(1) }
}

async fn failure(endpoint: String, call: Call) -> Error {
    client(endpoint).await.call(call).await.expect_err("the call fails")
}

#[tokio::test]
async fn every_call_reports_a_refusal_with_kind_code_and_words_after_one_request() {
    for call in calls() {
        let action = call.action();
        let server = Server::start(|_| refusal(503, "RequestLimitExceeded", "Request limit exceeded.")).await;
        let error = failure(server.url(), call).await;
        let expected = Error {
            action,
            kind: Kind::Throttled,
            code: "RequestLimitExceeded".to_owned(),
            message: "Request limit exceeded.".to_owned(),
        };
        assert_eq!(error, expected);
        server.only_request();
    }
}

#[tokio::test]
async fn every_call_is_uncertain_when_its_answer_is_lost_and_is_sent_once() {
    for call in calls() {
        let action = call.action();
        let server = Server::start(|_| Reply::Close).await;
        let error = failure(server.url(), call).await;
        assert_eq!((error.action, error.kind, error.code.as_str()), (action, Kind::Uncertain, ""), "{error}");
        assert_eq!(server.only_request().action(), action.name());
    }
}

#[tokio::test]
async fn every_call_is_unreachable_when_nobody_listens() {
    let nobody = Server::nobody();
    for call in calls() {
        let error = failure(nobody.clone(), call).await;
        assert_eq!(error.kind, Kind::Unreachable, "{error}");
        assert!(error.message.contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn refusals_have_the_kinds_of_the_table() {
    for (status, code, message, kind) in [
        (400, "InsufficientFreeAddressesInSubnet", "The specified subnet does not have enough", Kind::NoFreeAddresses),
        (
            400,
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks",
            Kind::NoFreePrefix,
        ),
        (400, "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.", Kind::AddressLimit),
        (400, "AttachmentLimitExceeded", "Interface count 4 exceeds the limit for m5.large", Kind::InstanceEniLimit),
        (400, "NetworkInterfaceLimitExceeded", "You've reached the limit", Kind::AccountEniQuota),
        (400, "InvalidParameterValue", "Network interface 'eni-0a' is currently in use.", Kind::Conflict),
        (400, "InvalidParameterValue", "Value (x) for parameter y is <invalid> & wrong.", Kind::Invalid),
        (400, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID 'eni-0a' does not exist", Kind::Gone),
        (400, "IdempotentParameterMismatch", "The request uses the same client token", Kind::TokenMismatch),
        (403, "UnauthorizedOperation", "You are not authorized to perform this operation.", Kind::Denied),
        (401, "AuthFailure", "AWS was not able to validate the provided access credentials", Kind::Credentials),
        (400, "RequestExpired", "Request has expired.", Kind::Credentials),
        (500, "InternalError", "An internal error has occurred", Kind::Uncertain),
        (503, "Unavailable", "The server is overloaded", Kind::Uncertain),
        (500, "SomethingNew", "EC2 says that it is its own fault", Kind::Uncertain),
        (400, "SomethingNew", "EC2 says that it is ours", Kind::Invalid),
    ] {
        let server = Server::start(move |_| refusal(status, code, message)).await;
        let error = failure(server.url(), assign()).await;
        assert_eq!((error.kind, error.code.as_str(), error.message.as_str()), (kind, code, message));
        server.only_request();
    }
}

#[tokio::test]
async fn an_answer_that_is_not_ec2s_is_uncertain() {
    for (status, body) in [
        (200, "<html>welcome to the hotel</html>"),
        (200, "not even XML"),
        (200, ""),
        (502, "<html>bad gateway</html>"),
        (503, ""),
        (400, "<html>no such page</html>"),
    ] {
        let server = Server::start(move |_| Reply::Say(status, body.to_owned())).await;
        let error = failure(server.url(), assign()).await;
        assert_eq!((error.kind, error.code.as_str()), (Kind::Uncertain, ""), "{status} {body}: {error}");
        server.only_request();
    }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_uncertain() {
    let server = Server::start(|_| Reply::Cut("<AssignPrivateIpAddressesResponse><assignedPrivate".to_owned())).await;
    let error = failure(server.url(), assign()).await;
    assert_eq!(error.kind, Kind::Uncertain, "{error}");
    server.only_request();
}

#[tokio::test]
async fn an_answer_without_what_it_is_for_is_uncertain_and_named() {
    for (call, fields, word) in [
        (assign(), "<return>true</return>", "assignedPrivateIpAddressesSet"),
        (
            assign(),
            "<assignedPrivateIpAddressesSet><item><privateIpAddress>10.0.0.300</privateIpAddress></item></assignedPrivateIpAddressesSet>",
            "10.0.0.300",
        ),
        (calls().swap_remove(0), "", "networkInterface"),
        (
            calls().swap_remove(0),
            "<networkInterface><subnetId>subnet-1</subnetId></networkInterface>",
            "networkInterfaceId",
        ),
        (
            calls().swap_remove(0),
            "<networkInterface><networkInterfaceId>eni-0a</networkInterfaceId><privateIpAddress>10.0.0.9</privateIpAddress></networkInterface>",
            "eni-0a has no macAddress",
        ),
        (
            calls().swap_remove(0),
            "<networkInterface><networkInterfaceId>eni-0a</networkInterfaceId><macAddress>02:00:0a:00:00:0c</macAddress></networkInterface>",
            "eni-0a has no privateIpAddress",
        ),
        (calls().swap_remove(1), "<networkCardIndex>0</networkCardIndex>", "attachmentId"),
    ] {
        let server = Server::start(move |request| answer(request.action(), fields)).await;
        let error = failure(server.url(), call).await;
        assert_eq!(error.kind, Kind::Uncertain, "{error}");
        assert!(error.message.contains(word), "{error} does not say {word}");
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_uncertain_after_its_time() {
    let server = Server::start(|_| Reply::Hang).await;
    let begun = Instant::now();
    let error = failure(server.url(), assign()).await;
    assert_eq!(error.kind, Kind::Uncertain, "{error}");
    assert!((Duration::from_millis(1900)..Duration::from_secs(10)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.only_request();
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unreachable() {
    let error = failure("http://ec2.nowhere.invalid".to_owned(), assign()).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
}

#[tokio::test]
async fn without_tls_nothing_is_sent() {
    // It reads the client's greeting as a request that never ends its first line, so the handshake hangs; or it hangs up.
    let silent = Server::start(|_| Reply::Hang).await;
    let error = failure(silent.https(), assign()).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let hanging_up = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = failure(format!("https://{address}"), assign()).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    hanging_up.abort();
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_unreachable() {
    let error = failure("not a url".to_owned(), assign()).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
}

#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("none here")))
    }
}

#[derive(Debug)]
struct SlowCredentials;

impl ProvideCredentials for SlowCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending::<provider::Result>())
    }
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = Server::start(|request| answer(request.action(), "")).await;
    let settings = Settings {
        endpoint: Some(server.url()),
        call_timeout: Duration::from_millis(300),
        ..Settings::new("eu-central-1")
    };
    let without = Ec2::with_credentials(&settings, NoCredentials).await;
    let error = without.call(assign()).await.expect_err("no credentials");
    assert_eq!((error.kind, error.action), (Kind::Credentials, Action::AssignPrivateIpAddresses), "{error}");
    assert!(error.message.contains("none here"), "{error}");
    let slow = Ec2::with_credentials(&settings, SlowCredentials).await;
    let error = slow.call(assign()).await.expect_err("no credentials in time");
    assert_eq!(error.kind, Kind::Credentials, "{error}");
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn a_client_that_failed_works_again() {
    let server = Server::start({
        let first = std::sync::atomic::AtomicBool::new(true);
        move |request| {
            if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                return Reply::Close;
            }
            answer(request.action(), "<return>true</return>")
        }
    })
    .await;
    let client = client(server.url()).await;
    let delete = || Call::Delete { eni: "eni-0a".into() };
    assert_eq!(client.call(delete()).await.map_err(|error| error.kind), Err(Kind::Uncertain));
    assert_eq!(client.call(delete()).await, Ok(cloud::Answer::Done));
    assert_eq!(server.seen().len(), 2);
}
