//! What ENIs hold in their subnets: addresses and prefixes picked, assigned, unassigned. Who an ENI is, is in `enis`; what is
//! free in a subnet, in `addresses`.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use ipnet::{Ipv4AddrRange, Ipv4Net};

use crate::{
    addresses::{AddressBook, Holder},
    enis::Eni,
    faults::Fault,
    instance_types::InstanceType,
    requests::{InterfaceType, NewEni, Wanted},
    settings::Settings,
    vpc::Vpc,
};

/// Addresses and prefixes of one ENI, or some of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holding {
    /// The primary first, where it is a whole ENI's.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Ipv4Net>,
}

impl Holding {
    /// What a new ENI gets. Takes nothing yet.
    pub(crate) fn of_new(wanted: &NewEni, book: &AddressBook, settings: &Settings) -> Result<Self, Fault> {
        if wanted.interface_type == InterfaceType::EfaOnly {
            let asks = wanted.primary.is_some() || wanted.secondary != Wanted::Nothing;
            return if asks { Err(Fault::efa_only_addresses()) } else { Ok(Self::default()) };
        }
        let listed = match &wanted.secondary {
            Wanted::These(list) => list.as_slice(),
            _ => &[],
        };
        let given: Vec<Ipv4Addr> = wanted.primary.iter().chain(listed).copied().collect();
        refuse_duplicates(&given)?;
        for address in &given {
            book.check(*address)?;
            if book.holder(*address).is_some() {
                return Err(Fault::address_in_use(*address));
            }
        }
        let secondary = if let Wanted::Count(count) = wanted.secondary { count } else { 0 };
        let chosen_primary = u32::from(wanted.primary.is_none());
        let count = secondary.checked_add(chosen_primary).ok_or_else(Fault::subnet_exhausted)?;
        // Guess: the addresses are chosen before the prefixes.
        let prefixes = match &wanted.secondary {
            Wanted::ThesePrefixes(list) => free_prefixes(list, book)?,
            _ => Vec::new(),
        };
        if let Some(prefix) = prefixes.iter().find(|prefix| given.iter().any(|address| prefix.contains(address))) {
            return Err(Fault::prefix_in_use(*prefix));
        }
        let mut taken = given.clone();
        taken.extend(prefixes.iter().flat_map(|prefix| Ipv4AddrRange::new(prefix.network(), prefix.broadcast())));
        let mut chosen = book.pick(count, &taken, settings.address_order)?;
        // What EC2 chose comes first only if it chose the primary address.
        let primary = chosen_primary == 1;
        let addresses: Vec<Ipv4Addr> = if primary {
            let primary = chosen.remove(0);
            [primary].into_iter().chain(given).chain(chosen).collect()
        } else {
            given.into_iter().chain(chosen).collect()
        };
        let prefixes = match wanted.secondary {
            Wanted::Prefixes(count) => {
                book.pick_prefixes(count, &addresses, settings.address_order, settings.prefix_shortage)?
            }
            _ => prefixes,
        };
        Ok(Self { addresses, prefixes })
    }

    /// A prefix takes the place of one address (documentation).
    pub(crate) fn slots(&self) -> usize {
        self.addresses.len() + self.prefixes.len()
    }

    /// May one ENI of this type have it?
    pub(crate) fn check(&self, limits: &InstanceType) -> Result<(), Fault> {
        check(limits, self.slots(), !self.prefixes.is_empty())
    }
}

fn check(limits: &InstanceType, slots: usize, with_prefixes: bool) -> Result<(), Fault> {
    if slots > usize::try_from(limits.ipv4_per_eni).expect("32 bits fit") {
        return Err(Fault::address_limit());
    }
    // Prefixes are for instances of the Nitro system (documentation). Bare metal is taken for such.
    if with_prefixes && limits.hypervisor == Some("xen") {
        return Err(Fault::prefixes_unsupported(limits.name));
    }
    Ok(())
}

impl Vpc {
    /// What the answer names. Nothing happens if one of them cannot be.
    pub(crate) fn assign(&mut self, id: &str, wanted: &Wanted, allow_reassignment: bool) -> Result<Holding, Fault> {
        let eni = self.eni(id)?;
        if eni.interface_type == InterfaceType::EfaOnly {
            return Err(Fault::efa_only_addresses());
        }
        let subnet_id = eni.subnet.clone();
        let book = &self.subnets[&subnet_id].book;
        let order = self.settings.address_order;
        let mut moved: Vec<(String, Ipv4Addr)> = Vec::new();
        let mut added = Holding::default();
        match wanted {
            Wanted::Nothing | Wanted::Count(0) | Wanted::Prefixes(0) => return Err(Fault::no_addresses_wanted()),
            Wanted::Count(count) => {
                self.check_room(eni, *count, 0)?;
                added.addresses = book.pick(*count, &[], order)?;
            }
            Wanted::Prefixes(count) => {
                self.check_room(eni, 0, *count)?;
                added.prefixes = book.pick_prefixes(*count, &[], order, self.settings.prefix_shortage)?;
            }
            Wanted::These(list) => {
                let new = self.addresses_to_add(id, list, allow_reassignment)?;
                added.addresses = new.iter().map(|(address, _)| *address).collect();
                moved = new.into_iter().filter_map(|(address, from)| Some((from?, address))).collect();
                self.check_room(eni, count(&added.addresses), 0)?;
            }
            // A prefix is never moved (guess). Asking for what one already has is granted, as with addresses (guess).
            Wanted::ThesePrefixes(list) => {
                let new: Vec<_> = list.iter().copied().filter(|one| !eni.holding.prefixes.contains(one)).collect();
                if list.is_empty() {
                    return Err(Fault::no_addresses_wanted());
                }
                added.prefixes = free_prefixes(&new, book)?;
                self.check_room(eni, 0, count(&added.prefixes))?;
            }
        }
        for (holder, address) in moved {
            self.eni_mut(&holder).holding.addresses.retain(|other| *other != address);
        }
        self.hold(&subnet_id, id, &added);
        let own = &mut self.eni_mut(id).holding;
        own.addresses.extend(&added.addresses);
        own.prefixes.extend(&added.prefixes);
        Ok(match wanted {
            Wanted::These(list) => Holding { addresses: list.clone(), prefixes: Vec::new() },
            Wanted::ThesePrefixes(list) => Holding { addresses: Vec::new(), prefixes: list.clone() },
            _ => added,
        })
    }

    /// Which of the addresses are new on this ENI, each with the ENI that it leaves for it.
    fn addresses_to_add(
        &self,
        id: &str,
        list: &[Ipv4Addr],
        allow_reassignment: bool,
    ) -> Result<Vec<(Ipv4Addr, Option<String>)>, Fault> {
        if list.is_empty() {
            return Err(Fault::no_addresses_wanted());
        }
        refuse_duplicates(list)?;
        let book = &self.subnets[&self.eni(id)?.subnet].book;
        let mut added = Vec::new();
        for address in list {
            book.check(*address)?;
            let from = match book.holder(*address) {
                None => None,
                // Guess: asking for what one already has is granted and adds nothing to the count.
                Some(Holder::Address(holder)) if holder == id => continue,
                Some(Holder::Prefix(_)) => return Err(Fault::address_in_prefix(*address)),
                Some(Holder::Address(_)) if !allow_reassignment => return Err(Fault::address_of_another(*address)),
                Some(Holder::Address(holder)) if self.enis[holder].holding.addresses.first() == Some(address) => {
                    return Err(Fault::primary_of_another(*address));
                }
                Some(Holder::Address(holder)) => Some(holder.to_owned()),
            };
            added.push((*address, from));
        }
        Ok(added)
    }

    /// Nothing happens if one of them is not a secondary address or a prefix of this ENI (field). An address of a prefix is
    /// neither.
    pub(crate) fn unassign(&mut self, id: &str, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) -> Result<(), Fault> {
        let eni = self.eni(id)?;
        if addresses.is_empty() && prefixes.is_empty() {
            return Err(Fault::missing_parameter("PrivateIpAddress"));
        }
        let secondary = eni.holding.addresses.get(1..).unwrap_or_default();
        if !addresses.iter().all(|address| secondary.contains(address)) {
            return Err(Fault::not_assigned(addresses.iter().map(ToString::to_string), id));
        }
        if !prefixes.iter().all(|prefix| eni.holding.prefixes.contains(prefix)) {
            return Err(Fault::not_assigned(prefixes.iter().map(ToString::to_string), id));
        }
        let subnet = eni.subnet.clone();
        let own = &mut self.eni_mut(id).holding;
        own.addresses.retain(|address| !addresses.contains(address));
        own.prefixes.retain(|prefix| !prefixes.contains(prefix));
        self.release(&subnet, &Holding { addresses: addresses.to_vec(), prefixes: prefixes.to_vec() });
        Ok(())
    }

    /// `eni` holds these from now on, whoever held them before.
    pub(crate) fn hold(&mut self, subnet: &str, eni: &str, held: &Holding) {
        let book = self.book_mut(subnet);
        for address in &held.addresses {
            book.hold(*address, eni);
        }
        for prefix in &held.prefixes {
            book.hold_prefix(*prefix, eni);
        }
        self.count_free(subnet);
    }

    pub(crate) fn release(&mut self, subnet: &str, held: &Holding) {
        let book = self.book_mut(subnet);
        for address in &held.addresses {
            book.release(*address);
        }
        for prefix in &held.prefixes {
            book.release_prefix(*prefix);
        }
        self.count_free(subnet);
    }

    /// Would so many more fit the instance's limit? EC2 knows no limit for an ENI that is not attached (guess), and checks
    /// again at the attach.
    fn check_room(&self, eni: &Eni, addresses: u32, prefixes: u32) -> Result<(), Fault> {
        let Some(attachment) = &eni.attachment else { return Ok(()) };
        let limits = self.instances[&attachment.instance].limits;
        let more = usize::try_from(u64::from(addresses) + u64::from(prefixes)).expect("33 bits fit");
        check(limits, eni.holding.slots() + more, prefixes > 0)
    }
}

/// The prefixes, if each of them can be had.
fn free_prefixes(list: &[Ipv4Net], book: &AddressBook) -> Result<Vec<Ipv4Net>, Fault> {
    refuse_duplicates(list)?;
    for prefix in list {
        book.check_prefix(*prefix)?;
    }
    Ok(list.to_vec())
}

fn refuse_duplicates<T: Ord + Copy + fmt::Display>(given: &[T]) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    given.iter().find(|one| !seen.insert(**one)).map_or(Ok(()), |twice| Err(Fault::address_twice(*twice)))
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("no request has 2^32 addresses")
}
