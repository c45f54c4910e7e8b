//! Is the kernel, and is `nft`, new enough?

use std::fmt;
use std::process::Command;

use crate::nft::NftError;

/// A kernel's version, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 5 of 5.10.
    pub major: u32,
    /// 10 of 5.10.
    pub minor: u32,
}

impl KernelVersion {
    /// The oldest that has all that Berth uses: `iifgroup` in postrouting, filtered dumps.
    pub const OLDEST: Self = Self { major: 5, minor: 10 };

    /// Reads `6.18.44-fc-v595`.
    fn read(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The kernel cannot do what Berth needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel {found} is too old: {} or newer is needed", KernelVersion::OLDEST)]
pub struct TooOld {
    /// `uname -r`.
    pub found: String,
}

/// The running kernel's version, if it is new enough.
pub fn check_kernel() -> Result<KernelVersion, TooOld> {
    new_enough(&rustix::system::uname().release().to_string_lossy())
}

fn new_enough(release: &str) -> Result<KernelVersion, TooOld> {
    KernelVersion::read(release)
        .filter(|&version| version >= KernelVersion::OLDEST)
        .ok_or_else(|| TooOld { found: release.to_owned() })
}

/// What `nft --version` says: that it can be run.
pub fn check_nft() -> Result<String, NftError> {
    let output = Command::new("nft").arg("--version").output().map_err(NftError::Run)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(NftError::Refused(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_10_are_refused() {
        assert_eq!(new_enough("6.18.44-fc-v595"), Ok(KernelVersion { major: 6, minor: 18 }));
        assert!(new_enough("5.10.0").is_ok());
        assert!(new_enough("5.9.16").is_err());
        assert!(new_enough("4.19").is_err());
        assert!(new_enough("what").is_err());
    }
}
