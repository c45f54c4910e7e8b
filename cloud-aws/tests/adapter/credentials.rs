//! Credentials that are missing, late, refused or expired, and clocks that are wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use cloud::{Error, Kind};
use cloud_aws::{Ec2, Settings};

use crate::support::{Reply, Server, answer, head, refusal, refusal_document, sites::Site};

/// Gives what it is told to give, and counts how often it is asked.
#[derive(Debug, Clone)]
struct Provider {
    asked: Arc<AtomicUsize>,
    give: fn(usize) -> provider::Result,
}

impl Provider {
    fn new(give: fn(usize) -> provider::Result) -> Self {
        Self { asked: Arc::default(), give }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready((self.give)(self.asked.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Good for an hour, they say.
#[expect(clippy::unnecessary_wraps, reason = "what a provider gives")]
fn numbered(turn: usize) -> provider::Result {
    let until = SystemTime::now() + Duration::from_secs(3600);
    Ok(Credentials::new(format!("AKID{turn}"), "secret", Some("session".to_owned()), Some(until), "test"))
}

#[derive(Debug)]
struct Never;

impl ProvideCredentials for Never {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(std::future::pending::<provider::Result>())
    }
}

async fn client(server: &Server, credentials: impl ProvideCredentials + 'static) -> Ec2 {
    let settings = Settings {
        endpoint: Some(server.url()),
        call_timeout: Duration::from_millis(500),
        ..Settings::new("eu-central-1")
    };
    Ec2::with_credentials(&settings, credentials).await
}

async fn failure(site: Site, ec2: &Ec2) -> Error {
    site.sample().run(ec2).await.expect_err("no credentials")
}

#[tokio::test]
async fn without_credentials_nothing_is_sent_and_the_provider_is_named() {
    let server = Server::start(|request| answer(request.action(), "")).await;
    let without = client(&server, Provider::new(|_| Err(CredentialsError::not_loaded("none here")))).await;
    let broken = client(&server, Provider::new(|_| Err(CredentialsError::provider_error("the role is gone")))).await;
    for site in Site::ALL {
        for (ec2, words) in [(&without, "none here"), (&broken, "the role is gone")] {
            let error = failure(*site, ec2).await;
            assert_eq!((error.kind, error.action), (Kind::Credentials, site.sample().action()), "{error}");
            assert!(error.message.contains(words) && error.message.contains("instance profile"), "{error}");
        }
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn credentials_that_do_not_come_in_time_are_named_and_nothing_is_sent() {
    let server = Server::start(|request| answer(request.action(), "")).await;
    let slow = client(&server, Never).await;
    for site in [Site::Assign, Site::Discover, Site::Limits] {
        let error = failure(site, &slow).await;
        assert_eq!((error.kind, error.action), (Kind::Credentials, site.sample().action()), "{error}");
        assert!(error.message.contains("credentials could not be loaded"), "{error}");
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test]
async fn a_provider_that_failed_is_asked_again_by_the_next_call() {
    let server = Server::start(|request| answer(request.action(), "<return>true</return>")).await;
    let provider =
        Provider::new(|turn| if turn == 0 { Err(CredentialsError::not_loaded("not yet")) } else { numbered(turn) });
    let ec2 = client(&server, provider.clone()).await;
    assert_eq!(failure(Site::Delete, &ec2).await.kind, Kind::Credentials);
    assert!(Site::Delete.sample().run(&ec2).await.is_ok());
    assert!(Site::Delete.sample().run(&ec2).await.is_ok());
    assert_eq!((provider.asked(), server.seen().len()), (2, 2));
}

#[tokio::test]
async fn refused_credentials_are_loaded_anew_by_the_next_call_though_they_claim_to_be_good() {
    for site in Site::ALL {
        for (status, code) in [
            (400, "ExpiredToken"),
            (400, "RequestExpired"),
            (401, "AuthFailure"),
            (403, "InvalidClientTokenId"),
            (403, "SignatureDoesNotMatch"),
        ] {
            let fields = crate::recorded::fields(*site);
            let server = Server::start(move |request| {
                let signed = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
                if signed.contains("Credential=AKID0/") {
                    refusal(status, code, "The security token included in the request is expired")
                } else {
                    answer(request.action(), &fields)
                }
            })
            .await;
            let provider = Provider::new(numbered);
            let ec2 = client(&server, provider.clone()).await;
            let error = failure(*site, &ec2).await;
            assert_eq!((error.kind, error.code.as_str()), (Kind::Credentials, code), "{error}");
            let next = site.sample().run(&ec2).await;
            assert!(next.is_ok(), "{site:?} after {code}: {next:?}");
            assert!(site.sample().run(&ec2).await.is_ok());
            assert_eq!((provider.asked(), server.seen().len()), (2, 3), "{site:?} after {code}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_anything_else_leaves_credentials_alone() {
    for code in ["UnauthorizedOperation", "RequestLimitExceeded", "InternalError"] {
        let server = Server::start(move |_| refusal(400, code, "")).await;
        let provider = Provider::new(numbered);
        let ec2 = client(&server, provider.clone()).await;
        for _ in 0..3 {
            assert_ne!(failure(Site::Delete, &ec2).await.kind, Kind::Credentials);
        }
        assert_eq!(provider.asked(), 1, "{code}");
    }
}

/// A refusal by an EC2 whose clock is so many seconds from ours.
async fn refused_at(code: &'static str, message: &'static str, offset: Option<i64>) -> Error {
    let server = Server::start(move |_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let date = offset.map(|offset| {
            let theirs = DateTime::from_secs(i64::try_from(now).expect("before the end of time") + offset);
            format!("date: {}\r\n", theirs.fmt(DateTimeFormat::HttpDate).expect("a date"))
        });
        let body = refusal_document(code, message);
        let head = head(401, body.len());
        let head = head.replace("content-type", &format!("{}content-type", date.unwrap_or_default()));
        Reply::Raw([head.into_bytes(), body.into_bytes()].concat())
    })
    .await;
    let ec2 = client(&server, Provider::new(numbered)).await;
    failure(Site::Discover, &ec2).await
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_said() {
    for (code, message) in [
        ("RequestExpired", "Request has expired."),
        ("AuthFailure", "AWS was not able to validate the provided access credentials"),
        ("SignatureDoesNotMatch", "Signature not yet current"),
        ("InvalidSignatureException", "Signature expired"),
    ] {
        for (offset, words) in [
            (Some(3600), &["look at this machine's clock", "behind EC2's"][..]),
            (Some(-3600), &["look at this machine's clock", "ahead of EC2's"]),
            (None, &["look at this machine's clock"]),
            (Some(0), &["clock agrees with EC2's", "look at the credentials"]),
        ] {
            let error = refused_at(code, message, offset).await;
            assert_eq!((error.kind, error.code.as_str()), (Kind::Credentials, code), "{error}");
            for word in words.iter().chain([&message]) {
                assert!(error.message.contains(word), "{error} does not say {word}");
            }
        }
    }
}

#[tokio::test]
async fn a_missing_permission_says_nothing_of_clocks() {
    let error = refused_at("AuthFailure", "You are not the owner of network interface 'eni-0a'.", Some(3600)).await;
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Denied, "You are not the owner of network interface 'eni-0a'.")
    );
}
