//! What the operator asked for, parsed once.
//!
//! Owns [`Config`] and the meaning of every variable. All mistakes are found in one go; a value never silently becomes the default.
//! A variable of amazon-vpc-cni whose behaviour is missing here is refused by name, and only when its value asks for that behaviour.

mod budget;
mod cli;
mod missing;
mod policy;
mod reader;
mod shown;
mod unknown;
mod variables;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use datapath::names::Numbering;
use ipnet::Ipv4Net;
use pool::Policy;

pub use cli::{Invocation, invocation};
pub use reader::{Mistake, Note};
pub use unknown::{Unknown, unknown};
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
    /// AWS_VPC_K8S_CNI_BACKING_STORE: what amazon-vpc-cni left, read at a first start.
    pub checkpoint: PathBuf,
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
    missing::refuse(&mut from);
    missing::note(&mut from);
    let config = Config {
        policy: policy::read(&mut from),
        add_deadline: from.duration("BERTH_ADD_DEADLINE").unwrap_or(Duration::from_secs(45)),
        run_dir: directory(&mut from, "BERTH_RUN_DIR", "/run/berth"),
        state_dir: directory(&mut from, "BERTH_STATE_DIR", "/var/lib/berth"),
        checkpoint: directory(&mut from, "AWS_VPC_K8S_CNI_BACKING_STORE", "/var/run/aws-node/ipam.json"),
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

#[cfg(test)]
mod tests;
