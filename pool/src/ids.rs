//! The names of things: ENIs, subnets, calls, leases.
//!
//! Owns newtypes only. Never interprets what a name means.

use std::{fmt, net::Ipv4Addr};

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
    /// A VPC, `vpc-…`.
    VpcId
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

/// A /28 that EC2 assigns as one: sixteen addresses, aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix(Ipv4Addr);

impl Prefix {
    /// Addresses in it.
    pub const SIZE: u32 = 16;

    /// The /28 that begins at this address; `None` when none does.
    pub fn new(first: Ipv4Addr) -> Option<Self> {
        first.to_bits().is_multiple_of(Self::SIZE).then_some(Self(first))
    }

    /// The /28 around this address.
    pub fn around(address: Ipv4Addr) -> Self {
        Self(Ipv4Addr::from_bits(address.to_bits() / Self::SIZE * Self::SIZE))
    }

    /// Its first address.
    pub fn first(self) -> Ipv4Addr {
        self.0
    }

    /// Its last address.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.to_bits() | (Self::SIZE - 1))
    }

    /// Is this address in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::around(address) == self
    }

    /// All of it, the first address first. EC2 reserves none of a prefix's addresses.
    pub fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.0.to_bits()..=self.last().to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/28", self.0)
    }
}

/// Not a /28.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAPrefix(String);

impl fmt::Display for NotAPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an aligned IPv4 /28", self.0)
    }
}

impl std::error::Error for NotAPrefix {}

impl std::str::FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let first = text.strip_suffix("/28").and_then(|first| first.parse().ok());
        first.and_then(Self::new).ok_or_else(|| NotAPrefix(text.to_owned()))
    }
}

/// What EC2 assigns and unassigns as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Block {
    /// One address.
    Address(Ipv4Addr),
    /// A prefix.
    Prefix(Prefix),
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
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
    fn a_prefix_is_sixteen_aligned_addresses() {
        let prefix: Prefix = "10.0.0.32/28".parse().expect("a prefix");
        assert_eq!(prefix.to_string(), "10.0.0.32/28");
        assert_eq!(prefix.addresses().count(), 16);
        assert!(prefix.contains(Ipv4Addr::new(10, 0, 0, 47)) && !prefix.contains(Ipv4Addr::new(10, 0, 0, 48)));
        assert_eq!(Prefix::around(Ipv4Addr::new(10, 0, 0, 47)), prefix);
        for wrong in ["", "10.0.0.32", "10.0.0.33/28", "10.0.0.32/27", "x/28"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn slots_are_1_to_62() {
        assert_eq!(Slot::new(0), None);
        assert_eq!(Slot::new(63), None);
        assert_eq!(Slot::new(62).map(Slot::get), Some(62));
    }
}
