//! The CNI plugin: stdin and environment in, gRPC to the daemon and netlink to the kernel, a CNI reply out.
//!
//! Owns every verb of CNI 1.1, 1.0 and 0.4. Never decides which address a pod gets, never writes anything but the reply to
//! stdout, and links neither TLS nor any cloud's SDK.

mod add;
mod boot;
mod check;
mod convert;
mod daemon;
mod del;
mod failure;
mod request;
mod result;
mod status;

use std::ffi::OsString;
use std::io::Read;

pub use self::failure::{Code, Failure};
use self::request::{CniVersion, Request, Verb};

/// What the process leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The CNI result or error object, or nothing.
    pub stdout: String,
    /// For people; only without `CNI_COMMAND`.
    pub stderr: String,
    /// 0, or 1 with an error object.
    pub exit: u8,
}

/// Does what the environment and stdin ask for.
pub fn run(environment: impl Fn(&str) -> Option<OsString>, stdin: impl Read) -> Reply {
    // Nobody calls a plugin without it but a person who wants to know what this is.
    if environment("CNI_COMMAND").is_none() {
        let versions = CniVersion::ALL.map(CniVersion::as_str).join(", ");
        let stderr = format!("berth-cni {}\nCNI protocol versions supported: {versions}\n", env!("CARGO_PKG_VERSION"));
        return Reply { stdout: String::new(), stderr, exit: 0 };
    }
    let mut version = CniVersion::LATEST;
    let done = Request::read(environment, stdin, &mut version).and_then(|request| perform(&request));
    match done {
        Ok(stdout) => Reply { stdout, stderr: String::new(), exit: 0 },
        Err(failure) => Reply { stdout: failure.to_json(version), stderr: String::new(), exit: 1 },
    }
}

fn perform(request: &Request) -> Result<String, Failure> {
    let Request { verb, config } = request;
    match verb {
        Verb::Version => Ok(result::versions(config.version)),
        Verb::Add(sandbox) => add::add(config, sandbox),
        Verb::Del(sandbox) => del::del(config, sandbox).map(|()| String::new()),
        Verb::Check(sandbox) => check::check(config, sandbox).map(|()| String::new()),
        Verb::Status => status::status(config).map(|()| String::new()),
        // What is left over is the daemon's to find, until a later release.
        Verb::Gc => Ok(String::new()),
    }
}
