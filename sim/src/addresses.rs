//! The addresses of one subnet: who holds which, alone or as part of a /28 prefix. An address has one holder by construction.
//! It knows ENIs by their id only, and no limits but the subnet's size.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

use crate::{
    faults::Fault,
    requests::ReservationKind,
    settings::{AddressOrder, PrefixShortage},
};

/// EC2 keeps the network address, the router, the resolver, one for future use, and the broadcast address (documentation).
const RESERVED_AT_START: u32 = 4;
const RESERVED_AT_END: u32 = 1;
/// A delegated prefix is a /28 at a multiple of 16 (documentation).
const PREFIX_LENGTH: u8 = 28;
const PREFIX_SIZE: u32 = 16;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct AddressBook {
    cidr: Ipv4Net,
    /// Single addresses.
    held: BTreeMap<Ipv4Addr, String>,
    /// By the first address.
    prefixes: BTreeMap<Ipv4Addr, String>,
    /// They do not overlap.
    reserved: Vec<(Ipv4Net, ReservationKind)>,
    /// Where next-fit goes on: an offset for addresses, the first address of a block for prefixes.
    cursor: u32,
    prefix_cursor: u32,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder<'a> {
    /// This ENI, the address alone.
    Address(&'a str),
    /// This ENI, as part of a prefix.
    Prefix(&'a str),
}

impl AddressBook {
    pub(crate) fn new(cidr: Ipv4Net) -> Self {
        let (held, prefixes) = (BTreeMap::new(), BTreeMap::new());
        Self { cidr, held, prefixes, reserved: Vec::new(), cursor: 0, prefix_cursor: 0 }
    }

    /// The VPC's router in this subnet.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.network()) + 1)
    }

    /// Addresses that EC2 may still choose for somebody: held by nobody, in no reservation (guess; other emulators lower the
    /// count at once, too).
    pub(crate) fn free(&self) -> u32 {
        let reserved: u32 = self.reserved.iter().map(|(cidr, _)| self.unheld(*cidr)).sum();
        self.unheld(self.cidr) - reserved
    }

    /// Every address that somebody holds, with its ENI; those of prefixes one by one.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Ipv4Addr, &str)> {
        let singles = self.held.iter().map(|(address, eni)| (*address, eni.as_str()));
        let in_prefixes = self.prefixes.iter().flat_map(|(first, eni)| block(*first).map(|one| (one, eni.as_str())));
        singles.chain(in_prefixes)
    }

    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<Holder<'_>> {
        let first = Ipv4Addr::from(u32::from(address) & !(PREFIX_SIZE - 1));
        let alone = self.held.get(&address).map(|eni| Holder::Address(eni));
        alone.or_else(|| self.prefixes.get(&first).map(|eni| Holder::Prefix(eni)))
    }

    /// Is this an address that EC2 would ever give to an ENI of this subnet?
    pub(crate) fn check(&self, address: Ipv4Addr) -> Result<(), Fault> {
        if !self.cidr.contains(&address) {
            return Err(Fault::outside_subnet(address));
        }
        if !self.usable().contains(&u32::from(address)) {
            return Err(Fault::reserved_address(address));
        }
        Ok(())
    }

    /// Is this a prefix that an ENI of this subnet can get now? A prefix of a reservation can be asked for by name (guess).
    pub(crate) fn check_prefix(&self, prefix: Ipv4Net) -> Result<(), Fault> {
        if prefix.prefix_len() != PREFIX_LENGTH || prefix != prefix.trunc() {
            return Err(Fault::not_a_prefix(prefix));
        }
        if !self.cidr.contains(&prefix) {
            return Err(Fault::outside_subnet(prefix));
        }
        let first = u32::from(prefix.network());
        let whole = self.usable().contains(&first) && self.usable().contains(&(first + PREFIX_SIZE - 1));
        if whole && self.block_is_free(first, &[]) { Ok(()) } else { Err(Fault::prefix_in_use(prefix)) }
    }

    /// `count` free addresses, `except` these and what is reserved (documentation: reserved ranges are not assigned
    /// automatically, those of type prefix only as prefixes). Takes nothing: whoever asked may still fail for another reason.
    pub(crate) fn pick(&self, count: u32, except: &[Ipv4Addr], order: AddressOrder) -> Result<Vec<Ipv4Addr>, Fault> {
        if count > self.free() {
            return Err(Fault::subnet_exhausted());
        }
        let first = *self.usable().start();
        let size = self.usable().end() - first + 1;
        let start = match order {
            AddressOrder::NextFit => self.cursor,
            AddressOrder::FirstFit => 0,
        };
        let wanted = usize::try_from(count).expect("32 bits fit");
        let picked: Vec<_> = (0..size)
            .map(|step| Ipv4Addr::from(first + (start + step) % size))
            .filter(|address| self.holder(*address).is_none() && !except.contains(address))
            .filter(|address| !self.reserved.iter().any(|(cidr, _)| cidr.contains(address)))
            .take(wanted)
            .collect();
        if picked.len() < wanted { Err(Fault::subnet_exhausted()) } else { Ok(picked) }
    }

    /// `count` free prefixes without `except`: from prefix reservations first, then from where nothing is reserved
    /// (documentation). Takes nothing.
    pub(crate) fn pick_prefixes(
        &self,
        count: u32,
        except: &[Ipv4Addr],
        order: AddressOrder,
        shortage: PrefixShortage,
    ) -> Result<Vec<Ipv4Net>, Fault> {
        // Field: a subnet that is too small and one that is too fragmented are two errors (cilium #31016).
        if count.checked_mul(PREFIX_SIZE).is_none_or(|addresses| addresses > self.unheld(self.cidr)) {
            return Err(match shortage {
                PrefixShortage::FreeAddresses => Fault::subnet_exhausted(),
                PrefixShortage::Parameter => Fault::no_addresses_or_prefixes(),
            });
        }
        let start = match order {
            AddressOrder::NextFit => self.prefix_cursor,
            AddressOrder::FirstFit => 0,
        };
        let kept = self.reserved.iter().filter(|(_, kind)| *kind == ReservationKind::Prefix);
        let inside = kept.flat_map(|(cidr, _)| blocks(&self.usable_in(*cidr), start));
        let usable = self.usable();
        let outside = blocks(&usable, start).filter(|first| !self.touches_reserved(*first));
        let wanted = usize::try_from(count).expect("32 bits fit");
        let picked: Vec<_> = inside
            .chain(outside)
            .filter(|first| self.block_is_free(*first, except))
            .take(wanted)
            .map(|first| Ipv4Net::new(Ipv4Addr::from(first), PREFIX_LENGTH).expect("28 is a prefix length"))
            .collect();
        if picked.len() < wanted { Err(Fault::no_cidr_block()) } else { Ok(picked) }
    }

    /// `eni` holds `address` from now on, whoever held it before. The cursor of next-fit follows.
    pub(crate) fn hold(&mut self, address: Ipv4Addr, eni: &str) {
        let usable = self.usable();
        let next = u32::from(address) + 1;
        self.cursor = if usable.contains(&next) { next - usable.start() } else { 0 };
        self.held.insert(address, eni.to_owned());
    }

    /// `eni` holds `prefix` from now on.
    pub(crate) fn hold_prefix(&mut self, prefix: Ipv4Net, eni: &str) {
        self.prefix_cursor = u32::from(prefix.network()) + PREFIX_SIZE;
        self.prefixes.insert(prefix.network(), eni.to_owned());
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        self.held.remove(&address);
    }

    pub(crate) fn release_prefix(&mut self, prefix: Ipv4Net) {
        self.prefixes.remove(&prefix.network());
    }

    /// EC2 no longer chooses single addresses from this range.
    pub(crate) fn reserve(&mut self, cidr: Ipv4Net, kind: ReservationKind) {
        self.reserved.push((cidr, kind));
    }

    pub(crate) fn unreserve(&mut self, cidr: Ipv4Net) {
        self.reserved.retain(|(other, _)| *other != cidr);
    }

    /// What EC2 gives to ENIs, as numbers.
    fn usable(&self) -> RangeInclusive<u32> {
        let first = u32::from(self.cidr.network());
        first + RESERVED_AT_START..=u32::from(self.cidr.broadcast()) - RESERVED_AT_END
    }

    fn usable_in(&self, cidr: Ipv4Net) -> RangeInclusive<u32> {
        let (usable, first, last) = (self.usable(), u32::from(cidr.network()), u32::from(cidr.broadcast()));
        first.max(*usable.start())..=last.min(*usable.end())
    }

    /// Usable addresses of `cidr` that nobody holds.
    fn unheld(&self, cidr: Ipv4Net) -> u32 {
        let range = self.usable_in(cidr);
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (*range.start(), *range.end());
        let held = if cidr == self.cidr {
            self.held.len()
        } else {
            self.held.range(Ipv4Addr::from(first)..=Ipv4Addr::from(last)).count()
        };
        let in_prefixes: u32 = if cidr == self.cidr {
            u32::try_from(self.prefixes.len()).expect("a subnet has fewer prefixes than addresses") * PREFIX_SIZE
        } else {
            let before = Ipv4Addr::from(first & !(PREFIX_SIZE - 1));
            let starts = self.prefixes.range(before..=Ipv4Addr::from(last)).map(|(start, _)| u32::from(*start));
            starts.map(|start| (start + PREFIX_SIZE - 1).min(last) - start.max(first) + 1).sum()
        };
        last - first + 1 - u32::try_from(held).expect("no subnet has 2^32 addresses") - in_prefixes
    }

    fn block_is_free(&self, first: u32, except: &[Ipv4Addr]) -> bool {
        let (start, last) = (Ipv4Addr::from(first), Ipv4Addr::from(first + PREFIX_SIZE - 1));
        let excepted = except.iter().any(|address| (start..=last).contains(address));
        !excepted && !self.prefixes.contains_key(&start) && self.held.range(start..=last).next().is_none()
    }

    fn touches_reserved(&self, first: u32) -> bool {
        let last = first + PREFIX_SIZE - 1;
        let apart = |cidr: &Ipv4Net| last < u32::from(cidr.network()) || first > u32::from(cidr.broadcast());
        !self.reserved.iter().all(|(cidr, _)| apart(cidr))
    }
}

/// Aligned blocks that lie wholly in `range`, those from `start` on first.
fn blocks(range: &RangeInclusive<u32>, start: u32) -> impl Iterator<Item = u32> + use<> {
    let first = range.start().next_multiple_of(PREFIX_SIZE);
    let last = *range.end();
    let all = move || (first..=last).step_by(16).take_while(move |block| last - block >= PREFIX_SIZE - 1);
    all().filter(move |block| *block >= start).chain(all().filter(move |block| *block < start))
}

fn block(first: Ipv4Addr) -> impl Iterator<Item = Ipv4Addr> {
    (0..PREFIX_SIZE).map(move |offset| Ipv4Addr::from(u32::from(first) + offset))
}
