//! Instance metadata, version 2 only, for one instance: what a VPC CNI and the AWS SDK ask for. Facts come from the
//! [`Truth`]; [`Faults`] say how late, how slow and what is left out. It knows no namespace: whoever runs it opened the listener
//! where it belongs.
//!
//! Guess: an ENI is in metadata from the accepted attach until its detach begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use ipnet::Ipv4Net;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sim::responses::{AttachmentStatus, Instance, NetworkInterface};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::{
    ec2::dns_name,
    http::{self, NoAnswer},
    trouble::{Faults, Omitted},
    truth::{Told, Truth},
};

/// The role whose credentials metadata hands out.
pub const ROLE: &str = "lab-node";

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// A token may live from a second to six hours (documentation).
const TTL: std::ops::RangeInclusive<u64> = 1..=21_600;

/// Serves one instance's metadata until the listener fails; dropping it ends every connection.
pub async fn serve(
    listener: TcpListener,
    truth: impl Into<Truth>,
    faults: Arc<Faults>,
    instance: String,
) -> io::Result<()> {
    let tokens = Tokens { rng: StdRng::try_from_rng(&mut rand::rngs::SysRng)?, expiry: BTreeMap::new() };
    let node = Arc::new(Node { truth: truth.into(), faults, instance, tokens: Mutex::new(tokens) });
    http::serve(listener, Router::new().fallback(answer).with_state(node)).await
}

#[derive(Debug)]
struct Node {
    truth: Truth,
    faults: Arc<Faults>,
    instance: String,
    tokens: Mutex<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    rng: StdRng,
    expiry: BTreeMap<String, Instant>,
}

async fn answer(State(node): State<Arc<Node>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some(latency) = node.faults.metadata_latency() else { return NoAnswer.into_response() };
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let path = uri.path();
    if path == "/latest/api/token" {
        return if method == Method::PUT { node.token(&headers) } else { refusal(StatusCode::METHOD_NOT_ALLOWED) };
    }
    if method != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !node.admits(&headers) {
        return refusal(StatusCode::UNAUTHORIZED);
    }
    let found = path.strip_prefix("/latest/").and_then(|path| look_up(&node.tree(path)?, path));
    found.map_or_else(
        || refusal(StatusCode::NOT_FOUND),
        |text| ([(header::CONTENT_TYPE, "text/plain")], text).into_response(),
    )
}

impl Node {
    fn token(&self, headers: &HeaderMap) -> Response {
        // A proxy in between could hand the token to somebody else (documentation).
        if headers.contains_key("x-forwarded-for") {
            return refusal(StatusCode::FORBIDDEN);
        }
        let ttl = headers.get(TOKEN_TTL).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let Some(ttl) = ttl.filter(|ttl| TTL.contains(ttl)) else { return refusal(StatusCode::BAD_REQUEST) };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = format!("{:016x}{:016x}==", tokens.rng.next_u64(), tokens.rng.next_u64());
        let now = Instant::now();
        tokens.expiry.retain(|_, expiry| *expiry > now);
        tokens.expiry.insert(token.clone(), now + Duration::from_secs(ttl));
        ([(header::CONTENT_TYPE.as_str(), "text/plain"), (TOKEN_TTL, &ttl.to_string())], token).into_response()
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(TOKEN).and_then(|value| value.to_str().ok()) else { return false };
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.expiry.get(token).is_some_and(|expiry| *expiry > Instant::now())
    }

    /// Everything below `/latest/`, by path, for whoever reads this path; directories are what lies between.
    fn tree(&self, read: &str) -> Option<BTreeMap<String, String>> {
        let Told { instance, launched, region, cidrs, subnets } =
            self.truth.told(&self.instance, self.faults.metadata_as_of())?;
        let mut tree = BTreeMap::new();
        let document = identity_document(&instance, &region, launched);
        tree.insert("dynamic/instance-identity/document".to_owned(), document);
        let mut put = |path: &str, value: String| tree.insert(format!("meta-data/{path}"), value);
        put("instance-id", instance.id.clone());
        put("instance-type", instance.instance_type.clone());
        put("ami-id", instance.image.clone());
        put("placement/region", region);
        put("placement/availability-zone", instance.zone.clone());
        put("services/domain", "amazonaws.com".into());
        put("services/partition", "aws".into());
        put(&format!("iam/security-credentials/{ROLE}"), credentials());
        if let Some((primary, address)) = primary(&instance) {
            put("local-ipv4", address.to_string());
            put("local-hostname", dns_name(address, &instance.zone));
            put("hostname", dns_name(address, &instance.zone));
            put("mac", primary.mac.to_string());
            put("security-groups", lines(primary.groups.iter().map(|(_, name)| name)));
        }
        for eni in present(&instance) {
            if self.faults.leaves_out(&Omitted::Eni(eni.id.clone()), read.trim_end_matches('/') == MACS) {
                continue;
            }
            let addresses = self.listed_addresses(eni, read);
            if !eni.addresses.is_empty() {
                put(&format!("network/interfaces/macs/{}/local-ipv4s", eni.mac), lines(&addresses));
            }
            for (name, value) in interface(eni, &subnets, &cidrs) {
                put(&format!("network/interfaces/macs/{}/{name}", eni.mac), value);
            }
        }
        Some(tree)
    }

    fn listed_addresses(&self, eni: &NetworkInterface, read: &str) -> Vec<Ipv4Addr> {
        let listing = read == format!("{MACS}/{}/local-ipv4s", eni.mac);
        let left_out = |address: &Ipv4Addr| self.faults.leaves_out(&Omitted::Address(*address), listing);
        eni.addresses.iter().copied().filter(|address| !left_out(address)).collect()
    }
}

/// Where the MACs are listed.
const MACS: &str = "meta-data/network/interfaces/macs";

/// The primary ENI, with its primary address.
fn primary(instance: &Instance) -> Option<(&NetworkInterface, Ipv4Addr)> {
    let eni = instance.interfaces.first()?;
    Some((eni, *eni.addresses.first()?))
}

fn present(instance: &Instance) -> impl Iterator<Item = &NetworkInterface> {
    let leaving =
        |eni: &NetworkInterface| eni.attachment.as_ref().is_some_and(|own| own.status == AttachmentStatus::Detaching);
    instance.interfaces.iter().filter(move |eni| !leaving(eni))
}

/// What metadata has about one ENI. Names: documentation ("Instance metadata categories").
fn interface(
    eni: &NetworkInterface,
    subnets: &BTreeMap<String, Ipv4Net>,
    cidrs: &[Ipv4Net],
) -> Vec<(&'static str, String)> {
    let own = eni.attachment.as_ref();
    let mut facts = vec![
        ("interface-id", eni.id.clone()),
        ("mac", eni.mac.to_string()),
        ("owner-id", eni.owner.clone()),
        ("subnet-id", eni.subnet.clone()),
        ("vpc-id", eni.vpc.clone()),
        ("security-group-ids", lines(eni.groups.iter().map(|(id, _)| id))),
        ("security-groups", lines(eni.groups.iter().map(|(_, name)| name))),
        ("vpc-ipv4-cidr-blocks", lines(cidrs)),
    ];
    // What an ENI does not have is not there (documentation of the categories; an EFA-only ENI has no addresses).
    facts.extend(eni.addresses.first().map(|primary| ("local-hostname", dns_name(*primary, &eni.zone))));
    if !eni.prefixes.is_empty() {
        facts.push(("ipv4-prefix", lines(&eni.prefixes)));
    }
    facts.extend(own.map(|own| ("device-number", own.device_index.to_string())));
    facts.extend(own.map(|own| ("network-card", own.card.to_string())));
    facts.extend(subnets.get(&eni.subnet).map(|cidr| ("subnet-ipv4-cidr-block", cidr.to_string())));
    facts.extend(cidrs.first().map(|cidr| ("vpc-ipv4-cidr-block", cidr.to_string())));
    facts
}

/// A value, or the listing of a directory; `None` for what is not there.
fn look_up(tree: &BTreeMap<String, String>, path: &str) -> Option<String> {
    if let Some(value) = tree.get(path) {
        return Some(value.clone());
    }
    let directory = if path.is_empty() || path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    let children: BTreeSet<String> = tree
        .range(directory.clone()..)
        .map_while(|(path, _)| path.strip_prefix(&directory))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(child, _)| format!("{child}/")))
        .collect();
    if children.is_empty() { None } else { Some(lines(&children)) }
}

fn lines(items: impl IntoIterator<Item: ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}

fn identity_document(instance: &Instance, region: &str, launched: SystemTime) -> String {
    let address = primary(instance).map_or(Ipv4Addr::UNSPECIFIED, |(_, address)| address);
    let owner = instance.interfaces.first().map(|eni| eni.owner.clone());
    let document = serde_json::json!({
        "accountId": owner,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "imageId": instance.image,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "pendingTime": humantime::format_rfc3339_seconds(launched).to_string(),
        "privateIp": address,
        "region": region,
        "version": "2017-09-30",
    });
    format!("{document:#}")
}

/// Good for six hours, as real ones are; signatures are not looked at by the lab's EC2.
fn credentials() -> String {
    let now = SystemTime::now();
    let document = serde_json::json!({
        "Code": "Success",
        "LastUpdated": humantime::format_rfc3339_seconds(now).to_string(),
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLABL",
        "SecretAccessKey": "lab",
        "Token": "lab",
        "Expiration": humantime::format_rfc3339_seconds(now + Duration::from_hours(6)).to_string(),
    });
    format!("{document:#}")
}

/// Metadata refuses with a page for browsers.
fn refusal(status: StatusCode) -> Response {
    let title = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\">\n <head>\n  <title>{title}</title>\n </head>\n \
         <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    );
    (status, [(header::CONTENT_TYPE, "text/html")], page).into_response()
}
