//! The addresses of one subnet: who holds which. An address has one holder by construction.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{faults::Fault, settings::AddressOrder};

/// EC2 keeps the network address, the router, the resolver, one for future use, and the broadcast address (documentation).
const RESERVED_AT_START: u32 = 4;
const RESERVED_AT_END: u32 = 1;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct AddressBook {
    cidr: Ipv4Net,
    held: BTreeMap<Ipv4Addr, String>,
    cursor: u32,
}

impl AddressBook {
    pub(crate) fn new(cidr: Ipv4Net) -> Self {
        Self { cidr, held: BTreeMap::new(), cursor: 0 }
    }

    /// The VPC's router in this subnet.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }

    /// Addresses that nobody holds.
    pub(crate) fn free(&self) -> u32 {
        let held = u32::try_from(self.held.len()).expect("no subnet has 2^32 addresses");
        self.usable() - held
    }

    /// Every address that somebody holds, with its ENI.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Ipv4Addr, &str)> {
        self.held.iter().map(|(address, eni)| (*address, eni.as_str()))
    }

    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<&str> {
        self.held.get(&address).map(String::as_str)
    }

    /// Is this an address that EC2 would ever give to an ENI of this subnet?
    pub(crate) fn check(&self, address: Ipv4Addr) -> Result<(), Fault> {
        if !self.cidr.contains(&address) {
            return Err(Fault::outside_subnet(address));
        }
        let offset = u32::from(address) - u32::from(self.cidr.network());
        if offset < RESERVED_AT_START || offset >= RESERVED_AT_START + self.usable() {
            return Err(Fault::reserved_address(address));
        }
        Ok(())
    }

    /// `count` free addresses, `except` these. Takes nothing: whoever asked may still fail for another reason.
    pub(crate) fn pick(&self, count: u32, except: &[Ipv4Addr], order: AddressOrder) -> Result<Vec<Ipv4Addr>, Fault> {
        if count > self.free() {
            return Err(Fault::subnet_exhausted());
        }
        let usable = self.usable();
        let first = u32::from(self.cidr.network()) + RESERVED_AT_START;
        let start = match order {
            AddressOrder::NextFit => self.cursor,
            AddressOrder::FirstFit => 0,
        };
        let wanted = usize::try_from(count).expect("32 bits fit");
        let picked: Vec<_> = (0..usable)
            .map(|step| Ipv4Addr::from(first + (start + step) % usable))
            .filter(|address| !self.held.contains_key(address) && !except.contains(address))
            .take(wanted)
            .collect();
        if picked.len() < wanted { Err(Fault::subnet_exhausted()) } else { Ok(picked) }
    }

    /// `eni` holds `address` from now on, whoever held it before. The cursor of next-fit follows.
    pub(crate) fn hold(&mut self, address: Ipv4Addr, eni: &str) {
        let offset = u32::from(address) - u32::from(self.cidr.network()) - RESERVED_AT_START;
        self.cursor = (offset + 1) % self.usable();
        self.held.insert(address, eni.to_owned());
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.held.remove(&address);
    }

    fn usable(&self) -> u32 {
        let size = 1_u32 << (32 - u32::from(self.cidr.prefix_len()));
        size - RESERVED_AT_START - RESERVED_AT_END
    }
}
