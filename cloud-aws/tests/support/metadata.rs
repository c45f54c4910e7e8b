//! Metadata of one instance, version 2: a token first, then paths.

use std::collections::BTreeMap;

use crate::support::{Reply, Request};

/// Every path that an instance has, under `/latest/meta-data/`.
pub fn paths() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("instance-id", "i-0123"),
        ("instance-type", "m5.large"),
        ("placement/region", "eu-central-1"),
        ("placement/availability-zone", "eu-central-1a"),
        ("mac", "02:00:0a:00:00:0c"),
        ("local-ipv4", "10.0.0.12"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/interface-id", "eni-0a"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/vpc-id", "vpc-1"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/subnet-id", "subnet-1"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/subnet-ipv4-cidr-block", "10.0.0.0/24"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/vpc-ipv4-cidr-blocks", "10.0.0.0/16\n100.64.0.0/16"),
        ("network/interfaces/macs/02:00:0a:00:00:0c/security-group-ids", "sg-1\nsg-2"),
        ("network/interfaces/macs/02:00:0a:00:01:0d/subnet-ipv4-cidr-block", "10.0.1.0/24"),
    ])
}

/// What the metadata service says.
pub fn reply(paths: &BTreeMap<&'static str, &'static str>, request: &Request) -> Reply {
    if request.method == "PUT" && request.path == "/latest/api/token" {
        return Reply::Say(200, "a-token".to_owned());
    }
    if request.headers.get("x-aws-ec2-metadata-token").map(String::as_str) != Some("a-token") {
        return Reply::Say(401, "no token".to_owned());
    }
    let path = request.path.strip_prefix("/latest/meta-data/").unwrap_or_default();
    match paths.get(path) {
        Some(value) => Reply::Say(200, (*value).to_owned()),
        None => Reply::Say(404, "<html>not found</html>".to_owned()),
    }
}
