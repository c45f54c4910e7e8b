//! Everything that can go wrong between us and EC2: which of it surely did not happen, which may have, and that nothing is ever
//! asked twice.

use std::time::{Duration, Instant};

use cloud::{Call, Cloud, Error, Kind};

use crate::{
    client,
    support::{Reply, Server, answer, refusal, sites::Site},
};

async fn failure(endpoint: String, site: Site) -> Error {
    site.sample().run(&client(endpoint).await).await.expect_err("the call fails")
}

#[tokio::test]
async fn every_call_reports_a_refusal_with_kind_code_and_words_after_one_request() {
    for site in Site::ALL {
        let action = site.sample().action();
        let server = Server::start(|_| refusal(503, "RequestLimitExceeded", "Request limit exceeded.")).await;
        let error = failure(server.url(), *site).await;
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
    for site in Site::ALL {
        let action = site.sample().action();
        let server = Server::start(|_| Reply::Close).await;
        let error = failure(server.url(), *site).await;
        assert_eq!((error.action, error.kind, error.code.as_str()), (action, Kind::Uncertain, ""), "{error}");
        assert_eq!(server.only_request().action(), action.name());
    }
}

#[tokio::test]
async fn every_call_is_unreachable_when_nobody_listens() {
    let nobody = Server::nobody();
    for site in Site::ALL {
        let error = failure(nobody.clone(), *site).await;
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
        let error = failure(server.url(), Site::Assign).await;
        assert_eq!((error.kind, error.code.as_str()), (kind, code));
        // Advice may follow.
        assert!(error.message.starts_with(message), "{error}");
        server.only_request();
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_uncertain_after_its_time() {
    let server = Server::start(|_| Reply::Hang).await;
    let begun = Instant::now();
    let error = failure(server.url(), Site::Assign).await;
    assert_eq!(error.kind, Kind::Uncertain, "{error}");
    assert!((Duration::from_millis(1900)..Duration::from_secs(10)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.only_request();
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unreachable() {
    let error = failure("http://ec2.nowhere.invalid".to_owned(), Site::Assign).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
}

#[tokio::test]
async fn without_tls_nothing_is_sent() {
    // It reads the client's greeting as a request that never ends its first line, so the handshake hangs; or it hangs up.
    let silent = Server::start(|_| Reply::Hang).await;
    let error = failure(silent.https(), Site::Assign).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let hanging_up = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = failure(format!("https://{address}"), Site::Assign).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    hanging_up.abort();
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_unreachable() {
    let error = failure("not a url".to_owned(), Site::Assign).await;
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
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
