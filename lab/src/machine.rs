//! A node before Berth: what an instance has when its operating system has just booted.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{fabric::Eni, host::Host, iproute, netns::Netns};

/// Where an instance finds its metadata.
pub const METADATA_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

/// A network namespace that plays an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    netns: Netns,
}

impl Machine {
    /// Makes the namespace, with metadata's address on its loopback.
    pub fn boot(name: impl Into<String>) -> Result<Self> {
        let netns = Netns::create(name)?;
        netns.sysctl(&[("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0")])?;
        iproute::ip(&netns, &format!("addr add {METADATA_ADDRESS}/32 dev lo\n"))?;
        Ok(Self { netns })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What EC2's DHCP tells the primary link: its address, the subnet, the gateway.
    pub fn dhcp(&self, name: &str, link: &str, eni: &Eni) -> Result<Host> {
        let address = *eni.addresses.first().with_context(|| format!("{} has no primary address", eni.id))?;
        let (prefix, gateway) = (eni.subnet.prefix_len(), eni.gateway);
        iproute::ip(
            &self.netns,
            &format!(
                "addr add {address}/{prefix} dev {link}\nlink set {link} up\n\
                 route add default via {gateway} dev {link} proto dhcp src {address} metric 512\n"
            ),
        )?;
        Ok(Host { name: name.to_owned(), netns: self.netns.clone(), address })
    }

    /// `/run/netns/NAME`.
    pub fn path(&self) -> PathBuf {
        self.netns.path()
    }
}
