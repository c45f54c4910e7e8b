//! The only place that knows both the protocol's types and the pool's.
//!
//! Owns the checks of what comes in and the shapes of what goes out. Never decides.

mod inspect;

pub use inspect::{explained, leases, pool};

use std::{fmt, net::Ipv4Addr, time::Duration};

use ::pool::{BootTime, Lease, LeaseKey, Path, Pod, Refusal};
use datapath::names::{Numbering, POD_GATEWAY, Slot};
use node::Allocation;
use proto::v1;
use tonic::{Code, Status};

/// What every attachment says besides its lease.
#[derive(Debug, Clone)]
pub struct Facing {
    /// Names, tables and groups.
    pub numbering: Numbering,
    /// MTU of pods' interfaces.
    pub mtu: u32,
}

/// A request that cannot be served as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, allowed } = self;
        let short: String = value.chars().take(80).collect();
        write!(f, "{field} {short:?} must be {allowed}")
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::ConfigInvalid { what: malformed.to_string() }
    }
}

fn check(
    field: &'static str,
    value: String,
    allowed: &'static str,
    fits: impl FnOnce(&str) -> bool,
) -> Result<String, Malformed> {
    if fits(&value) { Ok(value) } else { Err(Malformed { field, value, allowed }) }
}

/// A sandbox interface, as the CNI specification allows its parts.
pub fn key(key: Option<v1::LeaseKey>) -> Result<LeaseKey, Malformed> {
    let v1::LeaseKey { container_id, ifname } = key.unwrap_or_default();
    let container = check("container id", container_id, "1 to 128 letters, digits, ., _ or -, no . _ - first", |id| {
        id.len() <= 128
            && id.starts_with(|c: char| c.is_ascii_alphanumeric())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    })?;
    let ifname = check("interface name", ifname, "1 to 15 characters, not . or .., without /, : and spaces", |name| {
        (1..=15).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
    })?;
    Ok(LeaseKey { container, ifname })
}

/// A pod; all parts may be empty, for runtimes that do not say.
pub fn pod(pod: Option<v1::Pod>) -> Result<Pod, Malformed> {
    let v1::Pod { namespace, name, uid } = pod.unwrap_or_default();
    let plain = |text: &str| text.len() <= 253 && text.chars().all(|c| c.is_ascii_graphic() && c != '/');
    let allowed = "at most 253 printable characters, without / and spaces";
    Ok(Pod {
        namespace: check("pod namespace", namespace, allowed, plain)?,
        name: check("pod name", name, allowed, plain)?,
        uid: check("pod uid", uid, allowed, plain)?,
    })
}

/// When a plugin started. One that does not say, or whose clock is ahead, started now.
pub fn started(nanos: u64, now: BootTime) -> BootTime {
    if nanos == 0 { now } else { BootTime(Duration::from_nanos(nanos)).min(now) }
}

/// An ADD; it waits for at most `limit`, and a little less than the plugin does, so that the plugin hears the reason.
pub fn allocation(
    request: v1::AllocateRequest,
    numbering: &Numbering,
    now: BootTime,
    limit: Duration,
) -> Result<Allocation, Malformed> {
    let v1::AllocateRequest { key: sandbox, netns, pod: owner, annotations: _, started_boottime_ns, deadline_ms } =
        request;
    let key = key(sandbox)?;
    let pod = pod(owner)?;
    let netns = check("netns", netns, "a path of at most 4096 bytes", |path| path.len() <= 4096)?;
    let wait = match deadline_ms {
        0 => limit,
        ms => {
            let asked = Duration::from_millis(ms);
            limit.min(asked.saturating_sub(Duration::from_millis(500).min(asked / 10)))
        }
    };
    // A sandbox without a pod gets a link of its own name all the same.
    let link = if pod.name.is_empty() {
        numbering.link_name("", &key.container)
    } else {
        numbering.link_name(&pod.namespace, &pod.name)
    };
    Ok(Allocation { key, pod, link, netns, started: started(started_boottime_ns, now), deadline: now.after(wait) })
}

/// A pool's slot as the datapath has it.
pub fn slot(slot: pool::Slot) -> Slot {
    Slot::new(slot.get()).expect("both are 1 to 62")
}

/// An attachment for the plugin; the node's address is the source of the pod's host route.
pub fn attachment(attachment: &pool::Attachment, facing: &Facing, node: Option<Ipv4Addr>) -> v1::Attachment {
    let pool::Attachment { ifname, link, path: Path::Pooled { eni, slot: number }, addresses } = attachment;
    v1::Attachment {
        ifname: ifname.clone(),
        link_name: link.clone(),
        path: v1::Path::Pooled.into(),
        addresses: addresses.iter().map(|address| v1::Address { cidr: format!("{address}/32") }).collect(),
        gateways: vec![POD_GATEWAY.to_string()],
        routes: Vec::new(),
        mtu: facing.mtu,
        link_group: facing.numbering.group(slot(*number)),
        route_table: facing.numbering.pods_table(),
        route_source: node.map(|node| node.to_string()).unwrap_or_default(),
        eni_id: eni.to_string(),
    }
}

fn attachments(lease: &Lease, facing: &Facing, node: Option<Ipv4Addr>) -> Vec<v1::Attachment> {
    lease.attachments.iter().map(|one| attachment(one, facing, node)).collect()
}

/// The answer to an ADD.
pub fn allocated(lease: &Lease, facing: &Facing, node: Option<Ipv4Addr>, mode: &str) -> v1::AllocateResponse {
    v1::AllocateResponse {
        attachments: attachments(lease, facing, node),
        network_policy_mode: mode.to_owned(),
        generation: lease.generation.0,
    }
}

/// The answer to a DEL.
pub fn released(lease: Option<&Lease>, facing: &Facing, node: Option<Ipv4Addr>) -> v1::ReleaseResponse {
    v1::ReleaseResponse {
        doomed_group: facing.numbering.doomed_group(),
        released: lease.is_some(),
        attachment: lease.and_then(|lease| lease.attachments.first()).map(|one| attachment(one, facing, node)),
    }
}

/// The answer to a CHECK.
pub fn checked(lease: &Lease, facing: &Facing, node: Option<Ipv4Addr>) -> v1::CheckResponse {
    v1::CheckResponse { attachments: attachments(lease, facing, node) }
}

/// A refusal as every surface shows it.
pub fn refusal(refusal: &Refusal, now: BootTime) -> v1::Refusal {
    let mut said = v1::Refusal {
        message: refusal.to_string(),
        retry_after_ms: refusal.retry_after(now).map(millis).unwrap_or_default(),
        ..Default::default()
    };
    let reason = match refusal {
        Refusal::WarmingUp => v1::Reason::WarmingUp,
        Refusal::SubnetExhausted { subnet } => {
            said.subnet = subnet.to_string();
            v1::Reason::SubnetExhausted
        }
        Refusal::PrefixFragmented { subnet } => {
            said.subnet = subnet.to_string();
            v1::Reason::PrefixFragmented
        }
        Refusal::EniLimit { limit } => {
            said.count = *limit;
            v1::Reason::EniLimit
        }
        Refusal::AddressLimit => v1::Reason::AddressLimit,
        Refusal::AccountQuota => v1::Reason::AccountQuota,
        Refusal::Throttled { action } => {
            said.action.clone_from(action);
            v1::Reason::Throttled
        }
        Refusal::Denied { action } => {
            said.action.clone_from(action);
            v1::Reason::Denied
        }
        Refusal::CloudError { action, code } => {
            said.action.clone_from(action);
            said.code.clone_from(code);
            v1::Reason::CloudError
        }
        Refusal::CoolingDown { count, until: _ } => {
            said.count = *count;
            v1::Reason::CoolingDown
        }
        Refusal::PolicyCap { setting: _ } => v1::Reason::PolicyCap,
        Refusal::CloudUnreachable { action } => {
            said.action.clone_from(action);
            v1::Reason::CloudUnreachable
        }
        Refusal::Verifying => v1::Reason::Verifying,
        Refusal::NodeDraining => v1::Reason::NodeDraining,
        Refusal::Stopping => v1::Reason::Stopping,
        Refusal::SandboxGone => v1::Reason::SandboxGone,
        Refusal::UnknownSandbox => v1::Reason::UnknownSandbox,
        Refusal::ConfigInvalid { what: _ } => v1::Reason::ConfigInvalid,
        Refusal::LedgerUnavailable { what: _ } => v1::Reason::LedgerUnavailable,
    };
    said.reason = reason.into();
    said
}

/// A refusal as gRPC carries it.
pub fn status(why: &Refusal, now: BootTime) -> Status {
    let code = match why {
        Refusal::SubnetExhausted { .. }
        | Refusal::PrefixFragmented { .. }
        | Refusal::EniLimit { .. }
        | Refusal::AddressLimit
        | Refusal::AccountQuota
        | Refusal::CoolingDown { .. }
        | Refusal::PolicyCap { .. }
        | Refusal::NodeDraining => Code::ResourceExhausted,
        Refusal::WarmingUp
        | Refusal::Throttled { .. }
        | Refusal::CloudUnreachable { .. }
        | Refusal::Verifying
        | Refusal::Stopping
        | Refusal::LedgerUnavailable { .. } => Code::Unavailable,
        Refusal::Denied { .. } => Code::PermissionDenied,
        Refusal::CloudError { .. } => Code::Internal,
        Refusal::SandboxGone => Code::FailedPrecondition,
        Refusal::UnknownSandbox => Code::NotFound,
        Refusal::ConfigInvalid { .. } => Code::InvalidArgument,
    };
    proto::refuse(code, &refusal(why, now))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn request() -> v1::AllocateRequest {
        v1::AllocateRequest {
            key: Some(v1::LeaseKey { container_id: "c1".into(), ifname: "eth0".into() }),
            netns: "/run/netns/x".into(),
            pod: Some(v1::Pod { namespace: "default".into(), name: "nginx".into(), uid: String::new() }),
            annotations: std::collections::HashMap::default(),
            started_boottime_ns: 5_000_000_000,
            deadline_ms: 10_000,
        }
    }

    fn read(request: v1::AllocateRequest) -> Result<Allocation, Malformed> {
        allocation(request, &Numbering::default(), at(6), Duration::from_secs(45))
    }

    #[test]
    fn an_add_is_answered_a_little_before_the_plugin_gives_up_and_never_waits_longer_than_the_setting() {
        assert_eq!(read(request()).expect("fine").deadline, BootTime(Duration::from_millis(15_500)));
        assert_eq!(read(v1::AllocateRequest { deadline_ms: 0, ..request() }).expect("fine").deadline, at(51));
        assert_eq!(read(v1::AllocateRequest { deadline_ms: u64::MAX, ..request() }).expect("fine").deadline, at(51));
        let short = read(v1::AllocateRequest { deadline_ms: 100, ..request() }).expect("fine");
        assert_eq!(short.deadline, BootTime(Duration::from_millis(6_090)));
    }

    #[test]
    fn the_link_is_named_as_amazon_vpc_cni_names_it() {
        assert_eq!(read(request()).expect("fine").link, "enic440f455693");
        let nameless = read(v1::AllocateRequest { pod: None, ..request() }).expect("fine");
        assert!(nameless.link.starts_with("eni") && nameless.link.len() == 14, "{}", nameless.link);
    }

    #[test]
    fn a_plugin_whose_clock_is_ahead_or_missing_started_now() {
        assert_eq!(started(5_000_000_000, at(6)), at(5));
        assert_eq!(started(0, at(6)), at(6));
        assert_eq!(started(u64::MAX, at(6)), at(6));
    }

    #[test]
    fn what_the_cni_specification_does_not_allow_is_refused() {
        let key_of = |container: &str, ifname: &str| {
            key(Some(v1::LeaseKey { container_id: container.into(), ifname: ifname.into() }))
        };
        assert!(key_of(&"c".repeat(128), "eth0").is_ok());
        for container in ["", "-c", "a b", "a/b", "a\0", "\u{e9}", &"c".repeat(129)] {
            assert!(key_of(container, "eth0").is_err(), "{container:?}");
        }
        for ifname in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef"] {
            assert!(key_of("c1", ifname).is_err(), "{ifname:?}");
        }
        assert!(key(None).is_err());
        for wrong in ["a b", "a/b", "a\n", &"n".repeat(254)] {
            let named = v1::Pod { name: wrong.into(), ..Default::default() };
            assert!(pod(Some(named)).is_err(), "{wrong:?}");
        }
        assert!(read(v1::AllocateRequest { netns: "x".repeat(5000), ..request() }).is_err());
    }

    #[test]
    fn a_malformed_request_is_an_invalid_argument_that_names_the_field() {
        let why = Refusal::from(key(None).expect_err("no key"));
        let status = status(&why, at(1));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("container id"), "{}", status.message());
    }

    #[test]
    fn every_refusal_has_its_reason_on_the_wire() {
        let all = [
            (Refusal::WarmingUp, v1::Reason::WarmingUp, Code::Unavailable),
            (
                Refusal::SubnetExhausted { subnet: "subnet-1".into() },
                v1::Reason::SubnetExhausted,
                Code::ResourceExhausted,
            ),
            (
                Refusal::PrefixFragmented { subnet: "subnet-1".into() },
                v1::Reason::PrefixFragmented,
                Code::ResourceExhausted,
            ),
            (Refusal::NodeDraining, v1::Reason::NodeDraining, Code::ResourceExhausted),
            (Refusal::EniLimit { limit: 3 }, v1::Reason::EniLimit, Code::ResourceExhausted),
            (Refusal::AddressLimit, v1::Reason::AddressLimit, Code::ResourceExhausted),
            (Refusal::AccountQuota, v1::Reason::AccountQuota, Code::ResourceExhausted),
            (Refusal::Throttled { action: "X".into() }, v1::Reason::Throttled, Code::Unavailable),
            (Refusal::Denied { action: "X".into() }, v1::Reason::Denied, Code::PermissionDenied),
            (Refusal::CloudError { action: "X".into(), code: "Y".into() }, v1::Reason::CloudError, Code::Internal),
            (Refusal::CoolingDown { count: 2, until: at(9) }, v1::Reason::CoolingDown, Code::ResourceExhausted),
            (Refusal::PolicyCap { setting: "MAX_ENI=1".into() }, v1::Reason::PolicyCap, Code::ResourceExhausted),
            (Refusal::CloudUnreachable { action: "X".into() }, v1::Reason::CloudUnreachable, Code::Unavailable),
            (Refusal::Verifying, v1::Reason::Verifying, Code::Unavailable),
            (Refusal::Stopping, v1::Reason::Stopping, Code::Unavailable),
            (Refusal::SandboxGone, v1::Reason::SandboxGone, Code::FailedPrecondition),
            (Refusal::UnknownSandbox, v1::Reason::UnknownSandbox, Code::NotFound),
            (Refusal::ConfigInvalid { what: "w".into() }, v1::Reason::ConfigInvalid, Code::InvalidArgument),
            (Refusal::LedgerUnavailable { what: "w".into() }, v1::Reason::LedgerUnavailable, Code::Unavailable),
        ];
        for (why, reason, code) in all {
            let status = status(&why, at(1));
            let said = proto::refusal(&status).expect("a detail");
            assert_eq!((said.reason(), status.code()), (reason, code), "{why:?}");
            // The pool and the protocol call a reason the same.
            let name = reason.as_str_name().trim_start_matches("REASON_").replace('_', "").to_ascii_lowercase();
            assert_eq!(name, why.name().to_ascii_lowercase());
        }
        let cooling = refusal(&Refusal::CoolingDown { count: 2, until: at(9) }, at(1));
        assert_eq!((cooling.count, cooling.retry_after_ms), (2, 8000));
    }
}
