//! The daemon's replies as values that can be shown.
//!
//! Owns the shapes behind `-o json`, which scripts rely on: a field is never renamed and its unit never changes. The types of
//! the wire stop here.

use proto::v1;
use serde::Serialize;

/// The pool on one screen.
#[derive(Debug, Serialize)]
pub(crate) struct Pool {
    pub instance_id: String,
    pub instance_type: String,
    pub node_address: String,
    pub limits: Limits,
    pub policy: Policy,
    pub counts: Counts,
    pub waiting: u32,
    pub enis: Vec<Eni>,
    pub next: Vec<String>,
    pub held: Option<Refusal>,
    /// Pods bound to the node that have no address yet.
    pub demand: u32,
    pub subnets: Vec<Subnet>,
    pub cooling_reused_early: u64,
}

/// A subnet of the node's zone.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON document")]
pub(crate) struct Subnet {
    pub subnet_id: String,
    pub free: u32,
    pub state: String,
    /// Until an exhausted one is tried again.
    pub paused_ms: Option<u64>,
}

/// What EC2 allows the instance.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    pub enis: u32,
    pub addresses_per_eni: u32,
}

/// The settings in force.
#[derive(Debug, Serialize)]
pub(crate) struct Policy {
    pub mode: String,
    pub warm_eni_target: Option<u32>,
    pub warm_ip_target: Option<u32>,
    pub minimum_ip_target: Option<u32>,
    pub max_eni: Option<u32>,
    pub cooling_ms: u64,
    pub shrink_after_ms: u64,
    pub warm_prefix_target: Option<u32>,
    pub prefix_delegation: bool,
    pub early_reuse: bool,
    pub max_pods: Option<u32>,
}

/// Addresses by state.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    pub total: u32,
    pub free: u32,
    pub leased: u32,
    pub cooling: u32,
    pub unverified: u32,
    pub quarantined: u32,
}

/// One ENI and what is on it.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON document")]
pub(crate) struct Eni {
    pub eni_id: String,
    pub state: String,
    pub role: String,
    pub slot: u32,
    pub device_index: u32,
    pub network_card: u32,
    pub subnet_id: String,
    pub mac: String,
    pub primary_address: String,
    pub link: String,
    pub created_by_us: bool,
    pub note: String,
    pub counts: Counts,
    /// All of them, those of prefixes too.
    pub addresses: Vec<Address>,
    pub prefixes: Vec<Prefix>,
}

/// A /28 on an ENI.
#[derive(Debug, Serialize)]
pub(crate) struct Prefix {
    pub cidr: String,
    pub state: String,
    pub counts: Counts,
}

/// One address of the pool.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON document")]
pub(crate) struct Address {
    pub address: String,
    pub state: String,
    /// Until a cooling address is free.
    pub until_ms: Option<u64>,
    pub pod: Option<String>,
    /// The prefix that it is of.
    pub prefix: Option<String>,
}

/// What one sandbox interface holds.
#[derive(Debug, Serialize)]
pub(crate) struct Lease {
    pub pod: String,
    pub pod_uid: String,
    pub container_id: String,
    pub ifname: String,
    pub generation: u64,
    pub origin: String,
    pub age_ms: u64,
    pub attachments: Vec<Attachment>,
}

/// One interface of a sandbox.
#[derive(Debug, Serialize)]
pub(crate) struct Attachment {
    pub ifname: String,
    pub addresses: Vec<String>,
    pub eni_id: String,
    pub link: String,
    pub path: &'static str,
    pub link_group: u32,
    pub route_table: u32,
    pub mtu: u32,
}

/// Why the pool, or a pod, is what it is.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    /// All of it as text.
    pub lines: Vec<String>,
    pub held: Option<Refusal>,
    /// What the pod has.
    pub pod: Vec<String>,
    pub figures: Vec<Figure>,
    pub next: Vec<Next>,
}

/// A number of the pool and where it comes from.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub name: String,
    pub value: u32,
    pub from: String,
}

/// Something that is being done or waited for.
#[derive(Debug, Serialize)]
pub(crate) struct Next {
    pub what: String,
    /// None when something outside decides.
    pub within_ms: Option<u64>,
    pub why: Option<String>,
}

/// A reason of the closed set with its facts.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    pub reason: String,
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    pub count: u32,
    pub retry_after_ms: Option<u64>,
}

pub(crate) fn pool(reply: v1::PoolResponse) -> Pool {
    let limits = reply.limits.unwrap_or_default();
    let policy = reply.policy.unwrap_or_default();
    Pool {
        instance_id: reply.instance_id,
        instance_type: reply.instance_type,
        node_address: reply.node_address,
        limits: Limits { enis: limits.enis, addresses_per_eni: limits.addresses_per_eni },
        policy: Policy {
            mode: policy.mode,
            warm_eni_target: policy.warm_eni_target,
            warm_ip_target: policy.warm_ip_target,
            minimum_ip_target: policy.minimum_ip_target,
            max_eni: policy.max_eni,
            cooling_ms: policy.cooling_ms,
            shrink_after_ms: policy.shrink_after_ms,
            warm_prefix_target: policy.warm_prefix_target,
            prefix_delegation: policy.prefix_delegation,
            early_reuse: policy.early_reuse,
            max_pods: policy.max_pods,
        },
        counts: counts(reply.counts),
        waiting: reply.waiting,
        enis: reply.enis.into_iter().map(eni).collect(),
        next: reply.next,
        held: reply.held.map(refusal),
        demand: reply.demand,
        subnets: reply.subnets.into_iter().map(subnet).collect(),
        cooling_reused_early: reply.cooling_reused_early,
    }
}

fn subnet(subnet: v1::Subnet) -> Subnet {
    Subnet {
        subnet_id: subnet.subnet_id,
        free: subnet.free,
        state: subnet.state,
        paused_ms: Some(subnet.paused_ms).filter(|ms| *ms > 0),
    }
}

fn counts(counts: Option<v1::Counts>) -> Counts {
    let counts = counts.unwrap_or_default();
    Counts {
        total: counts.total,
        free: counts.free,
        leased: counts.leased,
        cooling: counts.cooling,
        unverified: counts.unverified,
        quarantined: counts.quarantined,
    }
}

fn eni(eni: v1::Eni) -> Eni {
    Eni {
        eni_id: eni.eni_id,
        state: eni.state,
        role: eni.role,
        slot: eni.slot,
        device_index: eni.device_index,
        network_card: eni.network_card,
        subnet_id: eni.subnet_id,
        mac: eni.mac,
        primary_address: eni.primary_address,
        link: eni.link,
        created_by_us: eni.created_by_us,
        note: eni.note,
        counts: counts(eni.counts),
        addresses: eni.addresses.into_iter().map(address).collect(),
        prefixes: eni.prefixes.into_iter().map(prefix).collect(),
    }
}

fn prefix(prefix: v1::Prefix) -> Prefix {
    Prefix { cidr: prefix.cidr, state: prefix.state, counts: counts(prefix.counts) }
}

fn address(address: v1::PoolAddress) -> Address {
    Address {
        address: address.address,
        state: address.state,
        until_ms: Some(address.until_ms).filter(|ms| *ms > 0),
        pod: address.pod.map(|pod| pod_name(&pod)),
        prefix: Some(address.prefix).filter(|prefix| !prefix.is_empty()),
    }
}

pub(crate) fn leases(reply: v1::LeasesResponse) -> Vec<Lease> {
    reply.leases.into_iter().map(lease).collect()
}

fn lease(lease: v1::Lease) -> Lease {
    let key = lease.key.unwrap_or_default();
    let pod = lease.pod.unwrap_or_default();
    Lease {
        pod: pod_name(&pod),
        pod_uid: pod.uid,
        container_id: key.container_id,
        ifname: key.ifname,
        generation: lease.generation,
        origin: lease.origin,
        age_ms: lease.age_ms,
        attachments: lease.attachments.into_iter().map(attachment).collect(),
    }
}

fn attachment(attachment: v1::Attachment) -> Attachment {
    let path = match attachment.path() {
        v1::Path::Unspecified => "unknown",
        v1::Path::Pooled => "pooled",
        v1::Path::Branch => "branch",
        v1::Path::Egress => "egress",
    };
    Attachment {
        ifname: attachment.ifname,
        addresses: attachment.addresses.into_iter().map(|address| bare(address.cidr)).collect(),
        eni_id: attachment.eni_id,
        link: attachment.link_name,
        path,
        link_group: attachment.link_group,
        route_table: attachment.route_table,
        mtu: attachment.mtu,
    }
}

pub(crate) fn explanation(reply: v1::ExplainResponse) -> Explanation {
    let figure = |figure: v1::Figure| Figure { name: figure.name, value: figure.value, from: figure.from };
    let next = |next: v1::Next| Next {
        what: next.what,
        within_ms: next.within_ms,
        why: Some(next.why).filter(|why| !why.is_empty()),
    };
    Explanation {
        lines: reply.lines,
        held: reply.held.map(refusal),
        pod: reply.pod,
        figures: reply.figures.into_iter().map(figure).collect(),
        next: reply.next.into_iter().map(next).collect(),
    }
}

pub(crate) fn refusal(refusal: v1::Refusal) -> Refusal {
    Refusal {
        reason: reason_name(refusal.reason()),
        message: refusal.message,
        subnet: refusal.subnet,
        action: refusal.action,
        code: refusal.code,
        count: refusal.count,
        retry_after_ms: Some(refusal.retry_after_ms).filter(|ms| *ms > 0),
    }
}

/// `SubnetExhausted`, as metrics and logs have it, from `REASON_SUBNET_EXHAUSTED`. A reason of a newer daemon is `Unknown`.
fn reason_name(reason: v1::Reason) -> String {
    if reason == v1::Reason::Unspecified {
        return "Unknown".to_owned();
    }
    let words = reason.as_str_name().trim_start_matches("REASON_").split('_');
    words.map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase()).collect()
}

/// Outside Kubernetes a sandbox need not have a pod.
fn pod_name(pod: &v1::Pod) -> String {
    if pod.namespace.is_empty() && pod.name.is_empty() {
        String::new()
    } else {
        format!("{}/{}", pod.namespace, pod.name)
    }
}

/// An address without the `/32` that the wire carries.
fn bare(cidr: String) -> String {
    cidr.strip_suffix("/32").or_else(|| cidr.strip_suffix("/128")).map_or(cidr.clone(), str::to_owned)
}
