//! What a link is known by: index, MAC, alias.
//!
//! Owns the MACs and indices that Berth chooses for a sandbox interface, and the alias from which leases are rebuilt. All
//! derive from the key of the lease, so that a link is recognised also when its making was cut short, and the kernel
//! never has to be searched for a free one. Never touches the kernel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

/// `ifindex`: one link in one network namespace, for as long as the link lives.
pub type LinkIndex = u32;

/// A link that already exists, as routes and rules name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Its name, for nftables and sysctls.
    pub name: String,
    /// Its index, for routes.
    pub index: LinkIndex,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Text that is no MAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address")]
pub struct BadMac(String);

impl Mac {
    /// From the bytes of a netlink attribute; `None` unless there are six.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let bytes: Vec<u8> = text
            .split(':')
            .map(|pair| if pair.len() == 2 { u8::from_str_radix(pair, 16).map_err(|_| bad()) } else { Err(bad()) })
            .collect::<Result<_, _>>()?;
        Self::from_slice(&bytes).ok_or_else(bad)
    }
}

/// One sandbox interface: what a lease is held by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxKey {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

impl fmt::Display for SandboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// Where chosen link indices begin: above what a kernel counts to by itself, and small enough to read.
const INDEX_BASE: u32 = 1 << 20;

impl SandboxKey {
    /// MAC of the pod's end.
    pub fn pod_mac(&self) -> Mac {
        self.mac("pod")
    }

    /// MAC of the host's end.
    pub fn host_mac(&self) -> Mac {
        self.mac("host")
    }

    /// The index for both ends, at the nth attempt. Another link may have it: one in a million per link on the node.
    pub fn index(&self, attempt: u8) -> LinkIndex {
        let digest = self.digest(&format!("index {attempt}"));
        INDEX_BASE + (u32::from_be_bytes([0, digest[0], digest[1], digest[2]]) & (INDEX_BASE - 1))
    }

    fn mac(&self, end: &str) -> Mac {
        let digest = self.digest(end);
        // Locally administered, unicast.
        Mac([digest[0] & 0xfc | 0x02, digest[1], digest[2], digest[3], digest[4], digest[5]])
    }

    fn digest(&self, salt: &str) -> [u8; 20] {
        let mut hash = Sha1::new();
        for part in [salt, &self.container_id, &self.ifname] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// The alias of a pod's link: `CONTAINER_ID IFNAME namespace/pod`, cut at the end to what the kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Whose link it is.
    pub key: SandboxKey,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name; it may have been cut.
    pub pod: String,
}

impl Alias {
    /// `IFALIASZ` less the terminating zero.
    const MAX: usize = 255;
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{} {} {}/{}", self.key.container_id, self.key.ifname, self.namespace, self.pod);
        while text.len() > Self::MAX {
            text.pop();
        }
        f.write_str(&text)
    }
}

/// An alias that Berth did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the alias of a pod's link")]
pub struct ForeignAlias(String);

impl FromStr for Alias {
    type Err = ForeignAlias;

    fn from_str(text: &str) -> Result<Self, ForeignAlias> {
        let mut words = text.split(' ');
        let (Some(container_id), Some(ifname), Some(pod), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(ForeignAlias(text.to_owned()));
        };
        let (namespace, pod) = pod.split_once('/').ok_or_else(|| ForeignAlias(text.to_owned()))?;
        if container_id.is_empty() || ifname.is_empty() {
            return Err(ForeignAlias(text.to_owned()));
        }
        Ok(Self {
            key: SandboxKey { container_id: container_id.to_owned(), ifname: ifname.to_owned() },
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SandboxKey {
        SandboxKey { container_id: "c".repeat(64), ifname: "eth0".to_owned() }
    }

    #[test]
    fn an_alias_survives_being_written_and_read() {
        let alias = Alias { key: key(), namespace: "default".to_owned(), pod: "web-0".to_owned() };
        assert_eq!(alias.to_string().parse(), Ok(alias));
        assert!("something else entirely here".parse::<Alias>().is_err());
        assert!("".parse::<Alias>().is_err());
        assert!(" eth0 a/b".parse::<Alias>().is_err());
    }

    #[test]
    fn a_long_alias_is_cut_at_the_end_and_still_names_its_key() {
        let alias = Alias { key: key(), namespace: "n".repeat(63), pod: "p".repeat(253) };
        let text = alias.to_string();
        assert_eq!(text.len(), 255);
        assert_eq!(text.parse::<Alias>().expect("readable").key, key());
    }

    #[test]
    fn macs_are_local_unicast_and_the_two_ends_differ() {
        for mac in [key().pod_mac(), key().host_mac()] {
            assert_eq!(mac.0[0] & 0x03, 0x02, "{mac}");
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        assert_ne!(key().pod_mac(), key().host_mac());
        assert!("0:1:2:3:4:5".parse::<Mac>().is_err());
        assert!("02:00:00:00:00".parse::<Mac>().is_err());
    }

    #[test]
    fn each_attempt_chooses_another_index() {
        assert_ne!(key().index(0), key().index(1));
        assert!((INDEX_BASE..2 * INDEX_BASE).contains(&key().index(0)));
    }
}
