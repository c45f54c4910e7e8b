//! Kernel settings: checked first, set only when they differ, and reported when they were changed.
//!
//! Owns the names and values of the sysctls that Berth needs on a node. `/proc/sys/net` shows the network namespace of the
//! thread that opens it: the daemon's is the node's.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// A setting below `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    path: Cow<'static, str>,
    value: &'static str,
    needed: Needed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Always,
    /// Only where the kernel has it.
    WhereKnown,
}

/// A setting that had another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlChange {
    /// `net/ipv4/ip_forward`.
    pub name: String,
    /// What it was.
    pub was: String,
    /// What it is now.
    pub is: &'static str,
}

/// Why a setting could not be read or made.
#[derive(Debug, thiserror::Error)]
#[error("{operation} sysctl {name}")]
pub struct SysctlError {
    operation: &'static str,
    name: String,
    #[source]
    source: io::Error,
}

impl Sysctl {
    /// A node forwards its pods' packets.
    pub const FORWARDING: Self =
        Self { path: Cow::Borrowed("net/ipv4/ip_forward"), value: "1", needed: Needed::Always };

    /// Under IPVS connections are tracked, and their replies marked, only with this.
    pub const IPVS_CONNTRACK: Self =
        Self { path: Cow::Borrowed("net/ipv4/vs/conntrack"), value: "1", needed: Needed::WhereKnown };

    /// `rp_filter=2` on a link of an ENI, never left to `conf.all`: packets of one connection come in by one ENI and leave
    /// by another.
    pub fn loose_reverse_path_filter(link: &str) -> Self {
        Self { path: Cow::Owned(format!("net/ipv4/conf/{link}/rp_filter")), value: "2", needed: Needed::Always }
    }

    /// Makes the setting if it is not made; says what changed.
    pub fn apply(&self) -> Result<Option<SysctlChange>, SysctlError> {
        let path: PathBuf = Path::new("/proc/sys").join(&*self.path);
        let failed = |operation| {
            let name = self.path.clone().into_owned();
            move |source| SysctlError { operation, name, source }
        };
        let was = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.needed == Needed::WhereKnown => {
                return Ok(None);
            }
            Err(error) => return Err(failed("reading")(error)),
        };
        if was == self.value {
            return Ok(None);
        }
        std::fs::write(&path, self.value).map_err(failed("writing"))?;
        Ok(Some(SysctlChange { name: self.path.clone().into_owned(), was, is: self.value }))
    }
}
