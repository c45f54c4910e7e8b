//! What the runtime asks: environment and stdin, parsed once.
//!
//! Owns the syntax of both. What comes out cannot be wrong in form; everything else is the verbs' affair.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;

use datapath::link::SandboxKey;
use datapath::names::Numbering;
use serde::Deserialize;

use crate::failure::{Code, Failure};

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CniVersion {
    /// The oldest with CHECK.
    V0_4_0,
    /// The list of interfaces is required, `version` of an address is gone.
    V1_0_0,
    /// STATUS and GC.
    V1_1_0,
}

impl CniVersion {
    pub(crate) const ALL: [Self; 3] = [Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    pub(crate) const LATEST: Self = Self::V1_1_0;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

/// One call of the plugin.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) config: Config,
}

/// `CNI_COMMAND` and what it needs.
#[derive(Debug)]
pub(crate) enum Verb {
    Add(Sandbox),
    Del(Sandbox),
    Check(Sandbox),
    Version,
    Status,
    Gc,
}

/// One sandbox interface, as the environment names it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) key: SandboxKey,
    /// `CNI_NETNS`; always there for ADD and CHECK.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) pod: Pod,
}

/// From `CNI_ARGS`. Outside Kubernetes the container stands for the pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The network configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) version: CniVersion,
    pub(crate) run_dir: PathBuf,
    /// Names of links; only the prefix can be told.
    pub(crate) numbering: Numbering,
    pub(crate) annotations: HashMap<String, String>,
    pub(crate) previous: Option<Previous>,
}

/// As much of `prevResult` as DEL and CHECK need. What does not look like a result is not there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Previous {
    pub(crate) interfaces: Vec<PreviousInterface>,
    pub(crate) ips: Vec<PreviousAddress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PreviousInterface {
    pub(crate) name: String,
    pub(crate) sandbox: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PreviousAddress {
    pub(crate) address: String,
}

/// stdin as it comes.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
    name: Option<String>,
    #[serde(rename = "runDir")]
    run_dir: Option<PathBuf>,
    #[serde(rename = "vethPrefix")]
    veth_prefix: Option<String>,
    ipam: Option<serde_json::Value>,
    #[serde(rename = "runtimeConfig", default)]
    runtime_config: RuntimeConfig,
    #[serde(rename = "prevResult")]
    prev_result: Option<serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(rename = "io.kubernetes.cri.pod-annotations", default)]
    annotations: Option<HashMap<String, String>>,
}

const RUN_DIR: &str = "/run/berth";

/// No configuration is this long; a runtime that sends more is broken.
const STDIN_MAX: u64 = 16 << 20;

impl Request {
    /// Reads it all. `version` becomes the configuration's as soon as that is known, for the error object.
    pub(crate) fn read(
        environment: impl Fn(&str) -> Option<OsString>,
        stdin: impl Read,
        version: &mut CniVersion,
    ) -> Result<Self, Failure> {
        let environment = Environment { lookup: &environment };
        let command = environment.text("CNI_COMMAND")?.unwrap_or_default();
        let raw = read_stdin(stdin, &command)?;
        let known = known_version(raw.cni_version.as_deref());
        if let Some(known) = known {
            *version = known;
        }
        if command == "VERSION" {
            return Ok(Self { verb: Verb::Version, config: Config::bare(known.unwrap_or(CniVersion::LATEST)) });
        }
        let known = known.ok_or_else(|| unknown_version(raw.cni_version.as_deref()))?;
        let verb = match command.as_str() {
            "ADD" => Verb::Add(environment.sandbox(Netns::Required)?),
            "DEL" => Verb::Del(environment.sandbox(Netns::Optional)?),
            "CHECK" => Verb::Check(environment.sandbox(Netns::Required)?),
            "STATUS" | "GC" if known < CniVersion::V1_1_0 => {
                let message = format!("cniVersion {} does not have {command}, 1.1.0 does", known.as_str());
                return Err(Failure::new(Code::IncompatibleVersion, message));
            }
            "STATUS" => Verb::Status,
            "GC" => Verb::Gc,
            other => {
                let message = format!("invalid CNI_COMMAND: {other:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION");
                return Err(Failure::new(Code::Environment, message));
            }
        };
        Ok(Self { verb, config: Config::parse(known, raw)? })
    }
}

fn read_stdin(stdin: impl Read, command: &str) -> Result<Raw, Failure> {
    let mut text = Vec::new();
    stdin
        .take(STDIN_MAX)
        .read_to_end(&mut text)
        .map_err(|error| Failure::caused(Code::Io, "reading the network configuration from stdin", &error))?;
    if text.is_empty() && command == "VERSION" {
        text = b"{}".to_vec();
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(Code::Decode, "the network configuration on stdin is empty"));
    }
    serde_json::from_slice(&text)
        .map_err(|error| Failure::caused(Code::Decode, "the network configuration on stdin cannot be decoded", &error))
}

fn known_version(text: Option<&str>) -> Option<CniVersion> {
    CniVersion::ALL.into_iter().find(|version| Some(version.as_str()) == text)
}

fn unknown_version(text: Option<&str>) -> Failure {
    let supported = CniVersion::ALL.map(CniVersion::as_str).join(", ");
    let message = match text {
        Some(text) => format!("cniVersion {text:?} is not supported"),
        None => "cniVersion is missing".to_owned(),
    };
    Failure { code: Code::IncompatibleVersion, message, details: format!("supported: {supported}") }
}

impl Config {
    fn bare(version: CniVersion) -> Self {
        Self {
            version,
            run_dir: RUN_DIR.into(),
            numbering: Numbering::default(),
            annotations: HashMap::new(),
            previous: None,
        }
    }

    fn parse(version: CniVersion, raw: Raw) -> Result<Self, Failure> {
        if raw.name.is_none_or(|name| name.is_empty()) {
            return Err(Failure::new(Code::Config, "the network configuration has no name"));
        }
        let run_dir = raw.run_dir.unwrap_or_else(|| RUN_DIR.into());
        if !run_dir.is_absolute() {
            let message = format!("runDir {}: must be an absolute path", run_dir.display());
            return Err(Failure::new(Code::Config, message));
        }
        let numbering = match raw.veth_prefix {
            None => Numbering::default(),
            Some(prefix) => Numbering::default()
                .with_veth_prefix(&prefix)
                .map_err(|error| Failure::new(Code::Config, format!("vethPrefix: {error}")))?,
        };
        if let Some(ipam) = raw.ipam.filter(|ipam| !ipam.is_null() && *ipam != serde_json::json!({})) {
            return Err(Failure::new(Code::UnsupportedField, format!("ipam {ipam}: addresses come from ipamd")));
        }
        Ok(Self {
            version,
            run_dir,
            numbering,
            annotations: raw.runtime_config.annotations.unwrap_or_default(),
            previous: raw.prev_result.and_then(|value| serde_json::from_value(value).ok()),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Netns {
    Required,
    Optional,
}

struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Environment<'_> {
    /// A variable; set but empty is not set.
    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = (self.lookup)(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        value.into_string().map(Some).map_err(|value| invalid(name, &format!("{} is not UTF-8", value.display())))
    }

    fn sandbox(&self, netns: Netns) -> Result<Sandbox, Failure> {
        let container_id = self.text("CNI_CONTAINERID")?;
        let ifname = self.text("CNI_IFNAME")?;
        let path = self.text("CNI_NETNS")?;
        let missing: Vec<_> = [
            ("CNI_CONTAINERID", container_id.is_none()),
            ("CNI_NETNS", path.is_none() && netns == Netns::Required),
            ("CNI_IFNAME", ifname.is_none()),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
        let (Some(container_id), Some(ifname), true) = (container_id, ifname, missing.is_empty()) else {
            return Err(Failure::new(Code::Environment, format!("missing {}", missing.join(", "))));
        };
        check_container_id(&container_id)?;
        check_ifname(&ifname)?;
        let mut pod = self.pod()?;
        if pod.name.is_empty() {
            pod.name.clone_from(&container_id);
        }
        if pod.namespace.is_empty() {
            "default".clone_into(&mut pod.namespace);
        }
        Ok(Sandbox { key: SandboxKey { container_id, ifname }, netns: path.map(PathBuf::from), pod })
    }

    fn pod(&self) -> Result<Pod, Failure> {
        let mut pod = Pod::default();
        let arguments = self.text("CNI_ARGS")?.unwrap_or_default();
        for pair in arguments.split(';').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| invalid("CNI_ARGS", &format!("{pair:?} is not KEY=VALUE")))?;
            let field = match name {
                "K8S_POD_NAMESPACE" => &mut pod.namespace,
                "K8S_POD_NAME" => &mut pod.name,
                "K8S_POD_UID" => &mut pod.uid,
                _ => continue,
            };
            // A space or a slash would make the link's alias unreadable.
            if value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
                return Err(invalid("CNI_ARGS", &format!("{name} {value:?} is not a name")));
            }
            value.clone_into(field);
        }
        Ok(pod)
    }
}

pub(crate) fn invalid(variable: &str, why: &str) -> Failure {
    Failure::new(Code::Environment, format!("invalid {variable}: {why}"))
}

/// CNI specification: begins with a letter or digit, then letters, digits, `_`, `.`, `-`.
fn check_container_id(id: &str) -> Result<(), Failure> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if id.as_bytes()[0].is_ascii_alphanumeric() && id.bytes().all(allowed) {
        return Ok(());
    }
    let why = format!("{id:?} must begin with a letter or digit and hold only those, '_', '.' and '-'");
    Err(invalid("CNI_CONTAINERID", &why))
}

/// What the kernel takes as a name (`dev_valid_name`), and no `%`, which it would take as a pattern.
fn check_ifname(name: &str) -> Result<(), Failure> {
    let why = if name.len() > 15 {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "is not a name"
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%')) {
        "must not hold '/', ':', '%' or space"
    } else {
        return Ok(());
    };
    Err(invalid("CNI_IFNAME", &format!("{name:?} {why}")))
}
