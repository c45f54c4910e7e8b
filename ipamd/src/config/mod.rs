//! What the operator asked for, parsed once.
//!
//! Owns [`Config`] and the meaning of every variable. All mistakes are found in one go; a value never silently becomes the default.
//! A variable of amazon-vpc-cni whose behaviour is missing here is refused by name, and only when its value asks for that behaviour.

mod cli;
mod reader;
mod variables;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use datapath::names::Numbering;
use ipnet::Ipv4Net;
use pool::{Policy, Warm};

pub use cli::{Invocation, invocation};
pub use reader::{Mistake, Note};
pub use variables::{VARIABLES, Variable};

use reader::Reader;

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the pool is to be.
    pub policy: Policy,
    /// BERTH_ADD_DEADLINE.
    pub add_deadline: Duration,
    /// BERTH_RUN_DIR.
    pub run_dir: PathBuf,
    /// BERTH_STATE_DIR.
    pub state_dir: PathBuf,
    /// BERTH_METRICS_BIND; `None` with DISABLE_METRICS.
    pub metrics: Option<SocketAddr>,
    /// HTTP_TIMEOUT.
    pub http_timeout: Duration,
    /// What the kernel is to be.
    pub wiring: Wiring,
    /// NETWORK_POLICY_ENFORCING_MODE, for the plugin; empty: none asked for.
    pub network_policy_mode: String,
    /// MY_NODE_NAME.
    pub node_name: Option<String>,
    /// AWS_VPC_K8S_CNI_LOGLEVEL.
    pub log_level: LogLevel,
}

/// What the kernel is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// AWS_VPC_K8S_CNI_EXTERNALSNAT: no SNAT here.
    pub external_snat: bool,
    /// AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS.
    pub no_snat: Vec<Ipv4Net>,
    /// AWS_EXTERNAL_SERVICE_CIDRS.
    pub by_main: Vec<Ipv4Net>,
    /// AWS_VPC_K8S_CNI_RANDOMIZESNAT.
    pub ports: SnatPorts,
    /// AWS_VPC_ENI_MTU.
    pub eni_mtu: u32,
    /// POD_MTU.
    pub pod_mtu: u32,
    /// AWS_VPC_K8S_CNI_VETHPREFIX.
    pub link_prefix: String,
    /// BERTH_MARK_SHIFT.
    pub mark_shift: u32,
    /// BERTH_TABLE_BASE.
    pub table_base: u32,
    /// BERTH_PRIORITY_BASE.
    pub priority_base: u32,
    /// AWS_VPC_CNI_NODE_PORT_SUPPORT.
    pub node_ports: bool,
}

impl Wiring {
    /// Names, tables, marks and priorities.
    pub fn numbering(&self) -> Numbering {
        let shift = u8::try_from(self.mark_shift).unwrap_or(u8::MAX);
        Numbering::default()
            .with_mark_shift(shift)
            .and_then(|numbering| numbering.with_table_base(self.table_base))
            .and_then(|numbering| numbering.with_priority_base(self.priority_base))
            .and_then(|numbering| numbering.with_veth_prefix(&self.link_prefix))
            .expect("parsing let through what a numbering takes")
    }
}

/// How SNAT chooses source ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnatPorts {
    /// `prng`: nft's fully-random.
    FullyRandom,
    /// `hashrandom`: nft's random.
    Random,
    /// `none`: as the kernel likes.
    AsIs,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the levels' own names")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// As tracing filters write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Reads every variable through `lookup`; the notes name what is set and changes nothing.
pub fn parse(lookup: &dyn Fn(&str) -> Option<String>) -> Result<(Config, Vec<Note>), Mistakes> {
    let mut from = Reader::new(lookup);
    refuse_what_is_missing(&mut from);
    note_what_changes_nothing(&mut from);
    let config = Config {
        policy: policy(&mut from),
        add_deadline: from.duration("BERTH_ADD_DEADLINE").unwrap_or(Duration::from_secs(45)),
        run_dir: directory(&mut from, "BERTH_RUN_DIR", "/run/berth"),
        state_dir: directory(&mut from, "BERTH_STATE_DIR", "/var/lib/berth"),
        metrics: metrics(&mut from),
        http_timeout: http_timeout(&mut from),
        wiring: wiring(&mut from),
        network_policy_mode: network_policy_mode(&mut from),
        node_name: from.text("MY_NODE_NAME"),
        log_level: from
            .word(
                "AWS_VPC_K8S_CNI_LOGLEVEL",
                &[
                    ("DEBUG", LogLevel::Debug),
                    ("INFO", LogLevel::Info),
                    ("WARN", LogLevel::Warn),
                    ("ERROR", LogLevel::Error),
                    ("FATAL", LogLevel::Error),
                ],
            )
            .unwrap_or(LogLevel::Info),
    };
    if from.mistakes.is_empty() { Ok((config, from.notes)) } else { Err(Mistakes(from.mistakes)) }
}

fn policy(from: &mut Reader<'_>) -> Policy {
    let enis = from.count("WARM_ENI_TARGET", 0).unwrap_or(1);
    let warm = from.count("WARM_IP_TARGET", 1).unwrap_or(0);
    let minimum = from.count("MINIMUM_IP_TARGET", 1).unwrap_or(0);
    let seconds = from
        .value("IP_COOLDOWN_PERIOD", "a whole number of seconds, 0 or more", |value| value.parse::<u32>().ok())
        .unwrap_or(30);
    Policy {
        warm: if warm > 0 || minimum > 0 { Warm::Addresses { warm, minimum } } else { Warm::Enis(enis) },
        max_eni: from.count("MAX_ENI", 1),
        max_pods: from.within("BERTH_MAX_PODS", 1..=u32::MAX),
        cooling: Duration::from_secs(seconds.into()),
        shrink_after: from.duration("BERTH_SHRINK_AFTER").unwrap_or(Duration::from_secs(60)),
        manage_untagged: from.switch("MANAGE_UNTAGGED_ENI").unwrap_or(true),
        cluster: from.text("CLUSTER_NAME"),
        tags: tags(from),
        ..Policy::default()
    }
}

/// amazon-vpc-cni leaves out keys that only it may write; so do we, and say so.
fn tags(from: &mut Reader<'_>) -> BTreeMap<String, String> {
    let allowed = r#"a JSON object of strings such as {"team":"network"}"#;
    let mut tags: BTreeMap<String, String> =
        from.value("ADDITIONAL_ENI_TAGS", allowed, |value| serde_json::from_str(value).ok()).unwrap_or_default();
    let before = tags.len();
    tags.retain(|key, _| !key.contains("k8s.amazonaws.com"));
    if tags.len() < before {
        from.notes.push(Note { variable: "ADDITIONAL_ENI_TAGS", why: "keys with k8s.amazonaws.com are left out" });
    }
    tags
}

fn directory(from: &mut Reader<'_>, variable: &'static str, default: &str) -> PathBuf {
    from.value(variable, "an absolute path", |value| Some(PathBuf::from(value)).filter(|path| path.is_absolute()))
        .unwrap_or_else(|| PathBuf::from(default))
}

fn metrics(from: &mut Reader<'_>) -> Option<SocketAddr> {
    let bind = from
        .value("BERTH_METRICS_BIND", "an address and a port such as 127.0.0.1:61678, or :61678", |value| {
            match value.strip_prefix(':') {
                Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
                None => value.parse().ok(),
            }
        })
        .unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 61678)));
    let off = from.switch("DISABLE_METRICS").unwrap_or(false);
    (!off).then_some(bind)
}

fn http_timeout(from: &mut Reader<'_>) -> Duration {
    let seconds = from.within("HTTP_TIMEOUT", 10..=3600).unwrap_or(10);
    Duration::from_secs(seconds.into())
}

fn wiring(from: &mut Reader<'_>) -> Wiring {
    let eni_mtu = from.within("AWS_VPC_ENI_MTU", 576..=9001).unwrap_or(9001);
    Wiring {
        external_snat: from.switch("AWS_VPC_K8S_CNI_EXTERNALSNAT").unwrap_or(false),
        no_snat: from.networks("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"),
        by_main: from.networks("AWS_EXTERNAL_SERVICE_CIDRS"),
        ports: from
            .word(
                "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
                &[("prng", SnatPorts::FullyRandom), ("hashrandom", SnatPorts::Random), ("none", SnatPorts::AsIs)],
            )
            .unwrap_or(SnatPorts::FullyRandom),
        eni_mtu,
        pod_mtu: from.within("POD_MTU", 576..=9001).unwrap_or(eni_mtu),
        link_prefix: from
            .value(
                "AWS_VPC_K8S_CNI_VETHPREFIX",
                "1 to 4 letters, digits, - or _, and none of eth, lo and vlan, which the kernel's own links use",
                |value| {
                    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                    let taken = matches!(value, "eth" | "lo" | "vlan");
                    (plain && value.len() <= 4 && !taken).then(|| value.to_owned())
                },
            )
            .unwrap_or_else(|| "eni".to_owned()),
        mark_shift: from.within("BERTH_MARK_SHIFT", 0..=25).unwrap_or(0),
        table_base: from.within("BERTH_TABLE_BASE", 256..=2_000_000_000).unwrap_or(7000),
        priority_base: from.within("BERTH_PRIORITY_BASE", 1..=30_000).unwrap_or(512),
        node_ports: from.switch("AWS_VPC_CNI_NODE_PORT_SUPPORT").unwrap_or(true),
    }
}

fn network_policy_mode(from: &mut Reader<'_>) -> String {
    let variable = "NETWORK_POLICY_ENFORCING_MODE";
    let mode = from.word(variable, &[("none", "none"), ("standard", "standard"), ("strict", "strict")]).unwrap_or("");
    if mode == "strict" {
        from.wrong(variable, mode, "strict enforcing is not there yet; none and standard are accepted");
    }
    mode.to_owned()
}

/// What amazon-vpc-cni can do and Berth cannot, and what Berth is to do and cannot yet.
fn refuse_what_is_missing(from: &mut Reader<'_>) {
    from.lacks("ENABLE_PREFIX_DELEGATION", true, "prefix delegation is not there yet");
    from.lacks("ENABLE_IPv4", false, "pods without IPv4 are not there yet");
    from.lacks("ENABLE_IPv6", true, "IPv6 is not there yet");
    from.lacks("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", true, "custom networking is not there yet");
    from.lacks("ENABLE_POD_ENI", true, "security groups for pods are not there yet");
    from.lacks("ENABLE_MULTI_NIC", true, "network cards beyond the first are not there yet");
    from.lacks("ENABLE_V6_EGRESS", true, "IPv6 egress is not there yet");
    from.lacks("ENABLE_BANDWIDTH_PLUGIN", true, "chaining the bandwidth plugin is not there yet");
    from.lacks("ANNOTATE_POD_IP", true, "annotating pods is not there yet");
    from.lacks("DISABLE_NETWORK_RESOURCE_PROVISIONING", true, "running without provisioning is not there yet");
    from.lacks("ENABLE_IMDS_ONLY_MODE", true, "running without EC2 is not there yet");
    from.lacks("BERTH_FORWARD_ACCEPT", true, "touching the FORWARD chain is not there yet");
    from.lacks("BERTH_EARLY_REUSE", true, "early reuse is not there yet");
    from.lacks("BERTH_TAINT", true, "tainting the node is not there yet");
    if from.word("BERTH_WARM", &[("targets", false), ("demand", true)]) == Some(true) {
        from.wrong("BERTH_WARM", "demand", "following the node's pods is not there yet; only targets is accepted");
    }
    if from.word("BERTH_POD_IMDS", &[("allow", false), ("deny", true)]) == Some(true) {
        from.wrong("BERTH_POD_IMDS", "deny", "keeping pods from metadata is not there yet; only allow is accepted");
    }
    if let Some(budget) = from.text("BERTH_EC2_BUDGET") {
        from.wrong("BERTH_EC2_BUDGET", budget, "budgets of EC2 calls are not there yet; leave it empty");
    }
    let mark = from.value("AWS_VPC_K8S_CNI_CONNMARK", "a number such as 128 or 0x80", |value| {
        let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
        hex.map_or_else(|| value.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok())
    });
    if mark.is_some_and(|mark| mark != 0x80) {
        let value = from.text("AWS_VPC_K8S_CNI_CONNMARK").unwrap_or_default();
        from.wrong("AWS_VPC_K8S_CNI_CONNMARK", value, "this mark is not used here; move ours with BERTH_MARK_SHIFT");
    }
}

/// Variables that are read so that a wrong value is found, or that are only known so that they can be named.
fn note_what_changes_nothing(from: &mut Reader<'_>) {
    const KUBERNETES: &str = "without Kubernetes it has no effect";
    const SWITCH_IS_OFF: &str = "its switch is off";
    from.word("BERTH_KUBERNETES", &[("auto", ()), ("off", ())]);
    for switch in [
        "BERTH_CNI_EXCLUSIVE",
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE",
        "ENABLE_SUBNET_DISCOVERY",
        "DISABLE_LEAKED_ENI_CLEANUP",
        "DISABLE_INTROSPECTION",
    ] {
        from.switch(switch);
    }
    from.count("WARM_PREFIX_TARGET", 0);
    from.without_effect("WARM_PREFIX_TARGET", SWITCH_IS_OFF);
    from.word("POD_SECURITY_GROUP_ENFORCING_MODE", &[("strict", ()), ("standard", ())]);
    from.without_effect("POD_SECURITY_GROUP_ENFORCING_MODE", SWITCH_IS_OFF);
    from.without_effect("ENI_CONFIG_ANNOTATION_DEF", SWITCH_IS_OFF);
    from.without_effect("ENI_CONFIG_LABEL_DEF", SWITCH_IS_OFF);
    from.without_effect("CLUSTER_ENDPOINT", KUBERNETES);
    from.without_effect("MY_POD_NAME", KUBERNETES);
    from.without_effect("BERTH_CRI_ENDPOINT", "lost leases are rebuilt from the kernel alone");
    from.without_effect("AWS_VPC_K8S_CNI_BACKING_STORE", "the ledger is in BERTH_RUN_DIR");
    from.without_effect("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", "it has none in amazon-vpc-cni either");
    from.without_effect("VPC_CNI_VERSION", "our own version is told");
    from.without_effect("AWS_EC2_ENDPOINT", "EC2's endpoint is AWS_ENDPOINT_URL_EC2");
    from.without_effect("INTROSPECTION_BIND_ADDRESS", "ipamctl takes its place");
    from.without_effect("AWS_VPC_K8S_CNI_LOG_FILE", "logs go to stderr");
}

impl fmt::Display for Config {
    /// One `VARIABLE=value` a line: given back to the daemon, it gives the same configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`, so that a new setting cannot be left out.
        let Self {
            policy: Policy { warm, max_eni, max_pods, cooling, shrink_after, manage_untagged, cluster, tags, .. },
            add_deadline,
            run_dir,
            state_dir,
            metrics,
            http_timeout,
            wiring:
                Wiring {
                    external_snat,
                    no_snat,
                    by_main,
                    ports,
                    eni_mtu,
                    pod_mtu,
                    link_prefix,
                    mark_shift,
                    table_base,
                    priority_base,
                    node_ports,
                },
            network_policy_mode,
            node_name,
            log_level,
        } = self;
        let or_empty = |value: &Option<u32>| value.map_or_else(String::new, |value| value.to_string());
        let networks = |list: &[Ipv4Net]| list.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(",");
        let (enis, addresses, minimum) = match warm {
            Warm::Enis(enis) => (*enis, 0, 0),
            Warm::Addresses { warm, minimum } => (1, *warm, *minimum),
            Warm::Prefixes(_) | Warm::Demand => (1, 0, 0),
        };
        writeln!(f, "BERTH_RUN_DIR={}", run_dir.display())?;
        writeln!(f, "BERTH_STATE_DIR={}", state_dir.display())?;
        match metrics {
            Some(bind) => writeln!(f, "BERTH_METRICS_BIND={bind}")?,
            None => writeln!(f, "DISABLE_METRICS=true")?,
        }
        writeln!(f, "BERTH_ADD_DEADLINE={}", humantime::format_duration(*add_deadline))?;
        writeln!(f, "BERTH_MAX_PODS={}", or_empty(max_pods))?;
        writeln!(f, "BERTH_SHRINK_AFTER={}", humantime::format_duration(*shrink_after))?;
        writeln!(f, "AWS_VPC_CNI_NODE_PORT_SUPPORT={node_ports}")?;
        writeln!(f, "BERTH_MARK_SHIFT={mark_shift}")?;
        writeln!(f, "BERTH_TABLE_BASE={table_base}")?;
        writeln!(f, "BERTH_PRIORITY_BASE={priority_base}")?;
        writeln!(f, "WARM_ENI_TARGET={enis}")?;
        writeln!(f, "WARM_IP_TARGET={addresses}")?;
        writeln!(f, "MINIMUM_IP_TARGET={minimum}")?;
        writeln!(f, "MAX_ENI={}", or_empty(max_eni))?;
        writeln!(f, "IP_COOLDOWN_PERIOD={}", cooling.as_secs())?;
        writeln!(f, "MANAGE_UNTAGGED_ENI={manage_untagged}")?;
        writeln!(f, "CLUSTER_NAME={}", cluster.as_deref().unwrap_or_default())?;
        writeln!(f, "ADDITIONAL_ENI_TAGS={}", serde_json::json!(tags))?;
        writeln!(f, "HTTP_TIMEOUT={}", http_timeout.as_secs())?;
        writeln!(f, "AWS_VPC_K8S_CNI_EXTERNALSNAT={external_snat}")?;
        writeln!(f, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS={}", networks(no_snat))?;
        writeln!(f, "AWS_EXTERNAL_SERVICE_CIDRS={}", networks(by_main))?;
        writeln!(f, "AWS_VPC_K8S_CNI_RANDOMIZESNAT={}", ports.name())?;
        writeln!(f, "AWS_VPC_ENI_MTU={eni_mtu}")?;
        writeln!(f, "POD_MTU={pod_mtu}")?;
        writeln!(f, "AWS_VPC_K8S_CNI_VETHPREFIX={link_prefix}")?;
        writeln!(f, "NETWORK_POLICY_ENFORCING_MODE={network_policy_mode}")?;
        writeln!(f, "MY_NODE_NAME={}", node_name.as_deref().unwrap_or_default())?;
        writeln!(f, "AWS_VPC_K8S_CNI_LOGLEVEL={}", log_level.name().to_ascii_uppercase())
    }
}

impl SnatPorts {
    /// amazon-vpc-cni's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullyRandom => "prng",
            Self::Random => "hashrandom",
            Self::AsIs => "none",
        }
    }
}

#[cfg(test)]
mod tests;
