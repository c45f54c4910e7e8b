//! What is made of instance metadata, and of metadata that says nothing or nonsense.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use cloud_aws::{InstanceFacts, Metadata, MetadataError, Surroundings};

use crate::support::{
    Reply, Server,
    metadata::{paths, reply},
};

/// The service with some paths changed; `None` takes one away.
async fn service(changes: &'static [(&'static str, Option<&'static str>)]) -> Server {
    let mut paths = paths();
    for (path, value) in changes {
        match value {
            Some(value) => paths.insert(path, value),
            None => paths.remove(path),
        };
    }
    Server::start(move |request| reply(&paths, request)).await
}

fn at(server: &Server) -> Metadata {
    Metadata::at(&server.url()).expect("a URL")
}

fn cidr(text: &str) -> ipnet::Ipv4Net {
    text.parse().expect("a range")
}

#[tokio::test]
async fn facts_are_read_with_one_token() {
    let server = service(&[]).await;
    let facts = at(&server).facts().await.expect("facts");
    let expected = InstanceFacts {
        instance: "i-0123".into(),
        instance_type: "m5.large".to_owned(),
        region: "eu-central-1".to_owned(),
        zone: "eu-central-1a".to_owned(),
        vpc: "vpc-1".into(),
        primary: "eni-0a".into(),
        mac: "02:00:0a:00:00:0c".parse().expect("a mac"),
        address: Ipv4Addr::new(10, 0, 0, 12),
        subnet: "subnet-1".into(),
        subnet_cidr: cidr("10.0.0.0/24"),
        surroundings: Surroundings {
            groups: vec!["sg-1".into(), "sg-2".into()],
            vpc_cidrs: vec![cidr("10.0.0.0/16"), cidr("100.64.0.0/16")],
        },
    };
    assert_eq!(facts, expected);
    assert_eq!(server.seen().iter().filter(|request| request.method == "PUT").count(), 1);
}

#[tokio::test]
async fn an_eni_in_another_subnet_has_its_own_range() {
    let server = service(&[]).await;
    let found = at(&server).subnet_cidr("02:00:0a:00:01:0d".parse().expect("a mac")).await.expect("a range");
    assert_eq!(found, cidr("10.0.1.0/24"));
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let server = service(&[("network/interfaces/macs/02:00:0a:00:00:0c/subnet-id", None)]).await;
    let error = at(&server).facts().await.expect_err("no subnet");
    assert!(matches!(&error, MetadataError::Missing { path } if path.ends_with("/subnet-id")), "{error:?}");
    let server = service(&[("instance-id", Some(""))]).await;
    let error = at(&server).facts().await.expect_err("no id");
    assert!(matches!(&error, MetadataError::Missing { path } if path == "instance-id"), "{error:?}");
}

#[tokio::test]
async fn nonsense_is_named_with_its_path() {
    for (changes, path, nonsense) in [
        (&[("mac", Some("02:00:0a"))][..], "mac", "02:00:0a"),
        (&[("local-ipv4", Some("10.0.0.300"))], "local-ipv4", "10.0.0.300"),
        (
            &[("network/interfaces/macs/02:00:0a:00:00:0c/vpc-ipv4-cidr-blocks", Some("10.0.0.0/16\n10.1.0.0/99"))],
            "network/interfaces/macs/02:00:0a:00:00:0c/vpc-ipv4-cidr-blocks",
            "10.1.0.0/99",
        ),
        (
            &[("network/interfaces/macs/02:00:0a:00:00:0c/security-group-ids", Some("<html>"))],
            "network/interfaces/macs/02:00:0a:00:00:0c/security-group-ids",
            "<html>",
        ),
    ] {
        let server = service(changes).await;
        let error = at(&server).facts().await.expect_err("nonsense");
        let MetadataError::Unreadable { path: named, value, .. } = &error else { panic!("{error:?}") };
        assert_eq!((named.as_str(), value.as_str()), (path, nonsense));
        assert!(error.to_string().contains(nonsense), "{error}");
    }
}

#[tokio::test]
async fn metadata_that_is_switched_off_says_so() {
    let paths = paths();
    let server = Server::start(move |request| match request.method.as_str() {
        "PUT" => reply(&paths, request),
        _ => Reply::Say(403, "Forbidden".to_owned()),
    })
    .await;
    let error = at(&server).facts().await.expect_err("refused");
    assert!(matches!(&error, MetadataError::Refused { status: 403, .. }), "{error:?}");
}

#[tokio::test]
async fn metadata_that_does_not_answer_is_unreachable_soon() {
    let nobody = Metadata::at(&Server::nobody()).expect("a URL");
    let error = nobody.facts().await.expect_err("nobody there");
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error:?}");
    let server = Server::start(|_| Reply::Hang).await;
    let begun = Instant::now();
    let error = at(&server).facts().await.expect_err("no answer");
    assert!(matches!(error, MetadataError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_moment_of_trouble_is_ridden_out() {
    let paths = paths();
    let troubled = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(move |request| {
        if request.method == "GET" && troubled.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Reply::Say(500, "oops".to_owned());
        }
        reply(&paths, request)
    })
    .await;
    assert_eq!(at(&server).facts().await.expect("facts").instance.as_str(), "i-0123");
}
