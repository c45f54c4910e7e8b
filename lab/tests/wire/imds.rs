//! Instance metadata, as a VPC CNI and the SDK read it.

use std::net::SocketAddr;

use expect_test::expect;
use sim::Times;

use crate::client::{Answer, Lab, PATIENCE, request};

const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";

/// A node's view of its metadata.
pub(crate) struct Metadata {
    server: SocketAddr,
    token: String,
}

impl Metadata {
    pub(crate) async fn of(lab: &Lab, instance: &str) -> Self {
        let server = lab.metadata(instance).await;
        Self { server, token: token(server, "60").await.body }
    }

    pub(crate) async fn try_get(&self, path: &str) -> Answer {
        self.answer(path).await.expect("an answer")
    }

    /// `None` if the connection ended without one.
    pub(crate) async fn answer(&self, path: &str) -> Option<Answer> {
        let path = format!("/latest/{path}");
        request(self.server, "GET", &path, &[(TOKEN, &self.token)], "").await
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let answer = self.try_get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }
}

async fn token(server: SocketAddr, ttl: &str) -> Answer {
    request(server, "PUT", "/latest/api/token", &[(TTL, ttl)], "").await.expect("an answer")
}

async fn status(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    request(server, method, path, headers, "").await.expect("an answer").status
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let lab = Lab::start().await;
    let server = lab.metadata(&lab.launch()).await;
    let path = "/latest/meta-data/instance-id";
    assert_eq!(status(server, "GET", path, &[]).await, 401);
    assert_eq!(status(server, "GET", path, &[(TOKEN, "made-up")]).await, 401);
    let given = token(server, "60").await;
    assert!(given.headers.to_lowercase().contains("x-aws-ec2-metadata-token-ttl-seconds: 60"), "{given:?}");
    assert_eq!(status(server, "GET", path, &[(TOKEN, &given.body)]).await, 200);
    assert_eq!(status(server, "POST", path, &[(TOKEN, &given.body)]).await, 405);
    let other = lab.metadata(&lab.launch()).await;
    assert_eq!(status(other, "GET", path, &[(TOKEN, &given.body)]).await, 401, "a token of another instance");
}

#[tokio::test]
async fn tokens_are_given_for_a_second_to_six_hours_and_to_nobody_behind_a_proxy() {
    let lab = Lab::start().await;
    let server = lab.metadata(&lab.launch()).await;
    let path = "/latest/api/token";
    for (ttl, expected) in [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("-1", 400), ("soon", 400)] {
        assert_eq!(token(server, ttl).await.status, expected, "{ttl}");
    }
    assert_eq!(status(server, "PUT", path, &[]).await, 400);
    assert_eq!(status(server, "PUT", path, &[(TTL, "60"), ("X-Forwarded-For", "10.0.0.9")]).await, 403);
    assert_eq!(status(server, "GET", path, &[(TTL, "60")]).await, 405);
}

#[tokio::test]
async fn a_token_ends() {
    let lab = Lab::start().await;
    let server = lab.metadata(&lab.launch()).await;
    let short = token(server, "1").await.body;
    let ended = async {
        while status(server, "GET", "/latest/meta-data/mac", &[(TOKEN, &short)]).await == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("a token of one second ends");
}

#[tokio::test]
async fn an_instance_knows_itself() {
    let lab = Lab::start().await;
    let instance = lab.launch();
    let metadata = Metadata::of(&lab, &instance).await;
    let primary = lab.world.attached(&instance).remove(0);
    assert_eq!(metadata.get("meta-data/instance-id").await, instance);
    assert_eq!(metadata.get("meta-data/instance-type").await, "m5.large");
    assert_eq!(metadata.get("meta-data/local-ipv4").await, primary.addresses[0].to_string());
    assert_eq!(metadata.get("meta-data/mac").await, primary.mac.to_string());
    assert_eq!(metadata.get("meta-data/placement/region").await, "us-west-2");
    assert_eq!(metadata.get("meta-data/placement/availability-zone").await, "us-west-2a");
    let document = metadata.get("dynamic/instance-identity/document").await;
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["instanceId"], instance.as_str());
    assert_eq!(document["region"], "us-west-2");
}

#[tokio::test]
async fn the_facts_of_an_eni_are_below_its_mac() {
    let lab = Lab::start().await;
    let instance = lab.launch();
    let metadata = Metadata::of(&lab, &instance).await;
    let primary = lab.world.attached(&instance).remove(0);
    let group = lab.world.vpc(|vpc| vpc.enis()[0].groups[0].0.clone());
    let macs = "meta-data/network/interfaces/macs/";
    assert_eq!(metadata.get(macs).await, format!("{}/", primary.mac));
    let below = format!("{macs}{}/", primary.mac);
    let mut seen = Vec::new();
    for name in metadata.get(&below).await.lines() {
        let value = metadata.get(&format!("{below}{name}")).await.replace('\n', " ");
        seen.push(format!("{name}: {value}\n"));
    }
    let mut seen = seen.concat();
    for (value, stand_in) in [
        (primary.eni.as_str(), "ENI"),
        (&primary.mac.to_string(), "MAC"),
        (&lab.subnet, "SUBNET"),
        (&lab.vpc, "VPC"),
        (&group, "GROUP"),
    ] {
        seen = seen.replace(value, stand_in);
    }
    expect![[r#"
        device-number: 0
        interface-id: ENI
        local-hostname: ip-10-0-0-4.us-west-2.compute.internal
        local-ipv4s: 10.0.0.4
        mac: MAC
        network-card: 0
        owner-id: 123456789012
        security-group-ids: GROUP
        security-groups: default
        subnet-id: SUBNET
        subnet-ipv4-cidr-block: 10.0.0.0/24
        vpc-id: VPC
        vpc-ipv4-cidr-block: 10.0.0.0/16
        vpc-ipv4-cidr-blocks: 10.0.0.0/16
    "#]]
    .assert_eq(&seen);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let lab = Lab::start().await;
    let metadata = Metadata::of(&lab, &lab.launch()).await;
    for path in [
        "meta-data/nothing",
        "meta-data/mac/",
        "meta-data/network/interfaces/macs/02:00:00:00:00:00/local-ipv4s",
        "meta-data/public-ipv4",
        "meta-data/../meta-data/mac",
        "",
    ] {
        let answer = metadata.try_get(path).await;
        assert_eq!(answer.status, if path.is_empty() { 200 } else { 404 }, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn directories_list_what_is_in_them() {
    let lab = Lab::start().await;
    let metadata = Metadata::of(&lab, &lab.launch()).await;
    assert_eq!(metadata.get("").await, "dynamic/\nmeta-data/");
    assert_eq!(metadata.get("meta-data/placement/").await, "availability-zone\nregion");
    assert_eq!(metadata.get("meta-data/placement").await, "availability-zone\nregion");
}

#[tokio::test]
async fn the_sdk_finds_a_role_with_credentials_that_are_good_for_hours() {
    let lab = Lab::start().await;
    let metadata = Metadata::of(&lab, &lab.launch()).await;
    let role = metadata.get("meta-data/iam/security-credentials/").await;
    assert_eq!(role, lab::imds::ROLE);
    let document = metadata.get(&format!("meta-data/iam/security-credentials/{role}")).await;
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    let expiration = humantime::parse_rfc3339(document["Expiration"].as_str().expect("a date")).expect("a date");
    let left = expiration.duration_since(std::time::SystemTime::now()).expect("it is in the future");
    assert!(left > std::time::Duration::from_hours(5), "{left:?}");
    for name in ["AccessKeyId", "SecretAccessKey", "Token"] {
        assert!(document[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
}

#[tokio::test]
async fn an_eni_appears_with_its_attach_follows_its_addresses_and_goes_with_its_detach() {
    let detach = std::time::Duration::from_hours(1);
    let lab = Lab::with(Times { detach, ..Times::INSTANT }).await;
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    let metadata = Metadata::of(&lab, &instance).await;
    let macs = "meta-data/network/interfaces/macs/";
    let attachment = lab.attach(&eni, &instance).await;
    let mac = lab.world.attached(&instance)[1].mac;
    assert_eq!(metadata.get(macs).await.lines().count(), 2);
    assert_eq!(metadata.get(&format!("{macs}{mac}/device-number")).await, "1");
    let call = [
        ("Action", "AssignPrivateIpAddresses"),
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "2"),
    ];
    lab.call(&call).await;
    assert_eq!(metadata.get(&format!("{macs}{mac}/local-ipv4s")).await.lines().count(), 3);
    lab.call(&[("Action", "DetachNetworkInterface"), ("AttachmentId", &attachment)]).await;
    assert_eq!(metadata.get(macs).await.lines().count(), 1, "though it is still detaching");
}

#[tokio::test]
async fn prefixes_are_listed_apart_from_addresses_and_only_where_there_are_some() {
    let lab = Lab::with(Times::INSTANT).await;
    let instance = lab.launch();
    let primary = lab.world.attached(&instance).remove(0);
    let metadata = Metadata::of(&lab, &instance).await;
    let below = format!("meta-data/network/interfaces/macs/{}", primary.mac);
    assert_eq!(metadata.try_get(&format!("{below}/ipv4-prefix")).await.status, 404);
    let call = [
        ("Action", "AssignPrivateIpAddresses"),
        ("NetworkInterfaceId", primary.eni.as_str()),
        ("Ipv4PrefixCount", "2"),
    ];
    lab.call(&call).await;
    assert_eq!(metadata.get(&format!("{below}/ipv4-prefix")).await, "10.0.0.16/28\n10.0.0.32/28");
    assert_eq!(metadata.get(&format!("{below}/local-ipv4s")).await, primary.addresses[0].to_string());
}

#[tokio::test]
async fn an_efa_only_eni_is_there_without_addresses() {
    let lab = Lab::with(Times::INSTANT).await;
    let instance = lab.launch();
    let call = [("Action", "CreateNetworkInterface"), ("SubnetId", lab.subnet.as_str()), ("InterfaceType", "efa-only")];
    let eni = lab.call(&call).await.element("networkInterfaceId");
    lab.attach(&eni, &instance).await;
    let metadata = Metadata::of(&lab, &instance).await;
    let below = format!("meta-data/network/interfaces/macs/{}", lab.world.attached(&instance)[1].mac);
    assert_eq!(metadata.get(&format!("{below}/interface-id")).await, eni);
    assert_eq!(metadata.try_get(&format!("{below}/local-ipv4s")).await.status, 404);
}
