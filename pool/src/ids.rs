//! The names of things: ENIs, subnets, calls, leases.
//!
//! Owns newtypes only. Never interprets what a name means.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// The name as EC2 writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<String>> From<T> for $name {
            fn from(name: T) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An elastic network interface, `eni-…`.
    EniId
);
name!(
    /// A subnet, `subnet-…`.
    SubnetId
);
name!(
    /// An ENI's attachment to an instance, `eni-attach-…`.
    AttachmentId
);
name!(
    /// An instance, `i-…`.
    InstanceId
);
name!(
    /// A security group, `sg-…`.
    SecurityGroupId
);
name!(
    /// A client token: 128 random bits and the number of the call, so that no token is ever counted to again.
    Token
);

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAMac(String);

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a hardware address (six bytes in hex, with colons)", self.0)
    }
}

impl std::error::Error for NotAMac {}

impl std::str::FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let wrong = || NotAMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

/// A small dense number given to an ENI when it is first seen attached: 1 is the primary, then 2 to 62. Marks, link groups and
/// tables derive from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(u8);

impl Slot {
    /// The primary ENI's.
    pub const PRIMARY: Self = Self(1);
    /// The last one.
    pub const LAST: Self = Self(62);

    /// `None` outside 1 to 62.
    pub fn new(number: u8) -> Option<Self> {
        (Self::PRIMARY.0..=Self::LAST.0).contains(&number).then_some(Self(number))
    }

    /// 1 to 62.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// Position of an ENI on its network card; 0 is the primary ENI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceIndex(pub u32);

/// Number of a call to EC2, counted up over the life of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// A request that waits for a reply; drawn by the shell, which holds the reply channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Number of a lease, counted up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// One interface of one sandbox: what holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The sandbox's container id.
    pub container: String,
    /// The interface inside the sandbox, `eth0`.
    pub ifname: String,
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.ifname)
    }
}

/// The pod a sandbox belongs to; empty for runtimes that do not say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_as_it_prints_and_nothing_else_does() {
        let mac: Mac = "02:00:0a:ff:01:9c".parse().expect("a mac");
        assert_eq!(mac.to_string(), "02:00:0a:ff:01:9c");
        for wrong in ["", "02:00:0a:ff:01", "02:00:0a:ff:01:9c:00", "2:0:0:0:0:0", "zz:00:0a:ff:01:9c"] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn slots_are_1_to_62() {
        assert_eq!(Slot::new(0), None);
        assert_eq!(Slot::new(63), None);
        assert_eq!(Slot::new(62).map(Slot::get), Some(62));
    }
}
