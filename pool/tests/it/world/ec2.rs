//! The small EC2: what each call does to it and what it answers. It checks what may never be asked of it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use pool::{Answer, Ask, Call, Fault, InterfaceKind, Kind, Mac, Prefix, SeenAttachment, SeenEni, SeenSubnet, SubnetId};

use super::{INSTANCE, World, fault};

impl World {
    pub(super) fn ec2(&mut self, call: &Call) -> Result<Answer, Fault> {
        if let Some(kind) = self.refusing.get(&call.action()) {
            return Err(fault(*kind));
        }
        match call {
            Call::CreateEni { token, subnet, ask, description, tags, groups } => {
                if let Some(id) = self.tokens.get(token.as_str()) {
                    return Ok(Answer::Created(self.enis[id].clone()));
                }
                let (secondary, prefixes) = self.take(subnet, *ask, 1)?;
                self.serial += 1;
                let id = format!("eni-{}", self.serial);
                self.tokens.insert(token.to_string(), id.clone());
                let [_, _, c, d] = self.serial.to_be_bytes();
                let seen = SeenEni {
                    id: id.as_str().into(),
                    mac: Mac([2, 0, 0, 1, c, d]),
                    subnet: subnet.clone(),
                    primary: Ipv4Addr::new(10, 1, c, d),
                    secondary,
                    prefixes,
                    description: description.clone(),
                    tags: tags.clone(),
                    groups: groups.iter().cloned().collect(),
                    kind: InterfaceKind::Interface,
                    attachment: None,
                };
                self.enis.insert(id, seen.clone());
                Ok(Answer::Created(seen))
            }
            Call::Attach { eni, instance, device } => {
                let attached = self.enis.values().filter(|eni| eni.attachment.is_some()).count();
                if attached >= self.enis_allowed as usize {
                    self.over_limit += 1;
                    return Err(fault(Kind::InstanceEniLimit));
                }
                let taken = self
                    .enis
                    .values()
                    .filter_map(|eni| eni.attachment.as_ref())
                    .any(|at| at.card == 0 && at.device == *device);
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if taken || seen.attachment.is_some() {
                    return Err(fault(Kind::Conflict));
                }
                let id = format!("eni-attach-{eni}");
                seen.attachment = Some(SeenAttachment {
                    id: id.as_str().into(),
                    instance: Some(instance.clone()),
                    device: *device,
                    card: 0,
                    attached: true,
                    delete_on_termination: false,
                });
                Ok(Answer::Attached(id.into()))
            }
            Call::Protect { eni, .. } => {
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if let Some(attachment) = &mut seen.attachment {
                    attachment.delete_on_termination = true;
                }
                Ok(Answer::Done)
            }
            Call::SetGroups { eni, groups } => {
                assert!(!groups.is_empty(), "{eni} cannot be without groups");
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                seen.groups = groups.iter().cloned().collect();
                Ok(Answer::Done)
            }
            Call::Assign { eni, ask } => {
                let seen = self.enis.get(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                let held = seen.secondary.len() + seen.prefixes.len();
                if held + ask.places() as usize > self.limits.secondary() as usize {
                    self.over_limit += 1;
                    return Err(fault(Kind::AddressLimit));
                }
                let subnet = seen.subnet.clone();
                let (addresses, prefixes) = self.take(&subnet, *ask, 0)?;
                let seen = self.enis.get_mut(eni.as_str()).expect("looked up above");
                seen.secondary.extend(&addresses);
                seen.prefixes.extend(&prefixes);
                Ok(Answer::Assigned { addresses, prefixes })
            }
            Call::Unassign { eni, addresses, prefixes } => {
                for lease in self.state.leases() {
                    let held = lease.attachments.iter().flat_map(|attachment| &attachment.addresses);
                    let goes =
                        |held: &Ipv4Addr| addresses.contains(held) || prefixes.iter().any(|one| one.contains(*held));
                    assert!(!held.into_iter().any(goes), "{} loses its address", lease.key);
                }
                let members = prefixes.iter().flat_map(|prefix| prefix.addresses());
                for address in addresses.iter().copied().chain(members) {
                    assert!(!self.cools(address), "{address} is given back and still cools");
                }
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                let there = addresses.iter().all(|address| seen.secondary.contains(address))
                    && prefixes.iter().all(|prefix| seen.prefixes.contains(prefix));
                if !there {
                    return Err(fault(Kind::Gone));
                }
                seen.secondary.retain(|address| !addresses.contains(address));
                seen.prefixes.retain(|prefix| !prefixes.contains(prefix));
                let gone = (addresses.len(), prefixes.len());
                let subnet = seen.subnet.clone();
                self.put_back(&subnet, gone.0, gone.1);
                Ok(Answer::Done)
            }
            Call::Detach { eni, .. } => {
                let leased = self.state.enis().find(|known| known.record.id == *eni).map_or(0, pool::Eni::leased);
                assert_eq!(leased, 0, "{eni} is detached under running pods");
                let held = self.enis.get(eni.as_str()).into_iter().flat_map(|seen| {
                    seen.secondary.iter().copied().chain(seen.prefixes.iter().flat_map(|prefix| prefix.addresses()))
                });
                for address in held {
                    assert!(!self.cools(address), "{eni} is detached while {address} cools");
                }
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if seen.attachment.take().is_none() {
                    return Err(fault(Kind::Gone));
                }
                self.links.remove(eni.as_str());
                Ok(Answer::Done)
            }
            Call::Delete { eni } => {
                let seen = self.enis.get(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                if seen.attachment.is_some() {
                    return Err(fault(Kind::Conflict));
                }
                let (subnet, held) = (seen.subnet.clone(), (seen.secondary.len() + 1, seen.prefixes.len()));
                self.put_back(&subnet, held.0, held.1);
                self.enis.remove(eni.as_str());
                Ok(Answer::Done)
            }
            Call::Tag { eni, tags } => {
                let seen = self.enis.get_mut(eni.as_str()).ok_or_else(|| fault(Kind::Gone))?;
                seen.tags.extend(tags.clone());
                Ok(Answer::Done)
            }
            Call::Subnets { .. } => {
                let shown = |(id, subnet): (&String, &super::Subnet)| SeenSubnet {
                    id: id.as_str().into(),
                    free: subnet.free,
                    tags: subnet.tags.clone(),
                };
                Ok(Answer::Subnets(self.subnets.iter().map(shown).collect()))
            }
            Call::Leaked { .. } => {
                let tag = "node.k8s.amazonaws.com/instance_id";
                // A stale read: what has been attached since is still among them.
                let left = self.enis.values().filter(|eni| eni.tags.contains_key(tag));
                Ok(Answer::Leaked(left.cloned().collect()))
            }
            Call::Instances { instances } => {
                let there = instances.iter().filter(|instance| self.instances.contains(instance));
                Ok(Answer::Instances(there.cloned().collect()))
            }
            Call::Describe { eni } => Ok(Answer::Described(self.enis.get(eni.as_str()).cloned())),
            Call::Discover { .. } => {
                let ours = |eni: &&SeenEni| {
                    eni.attachment
                        .as_ref()
                        .and_then(|at| at.instance.as_ref())
                        .is_some_and(|at| at.as_str() == INSTANCE)
                };
                Ok(Answer::Discovered(self.enis.values().filter(ours).cloned().collect()))
            }
        }
    }

    /// Addresses and prefixes out of a subnet, all or nothing; `more`: what an ENI needs for itself.
    fn take(&mut self, subnet: &SubnetId, ask: Ask, more: u32) -> Result<(Vec<Ipv4Addr>, Vec<Prefix>), Fault> {
        let (count, prefixes) = match ask {
            Ask::Addresses(count) => (count, 0),
            Ask::Prefixes(prefixes) => (0, prefixes),
        };
        let from = self.subnets.get_mut(subnet.as_str()).expect("a subnet of the zone");
        if from.free < count + more {
            return Err(fault(Kind::NoFreeAddresses));
        }
        if from.prefixes < prefixes {
            return Err(fault(Kind::NoFreePrefix));
        }
        from.free -= count + more;
        from.prefixes -= prefixes;
        let used: BTreeSet<_> = self.enis.values().flat_map(|eni| eni.secondary.clone()).collect();
        // The lowest free ones, as EC2 tends to: what one ENI gives back another gets soon.
        let free = (0x0a00_0064_u32..).map(Ipv4Addr::from).filter(|address| !used.contains(address));
        let used: BTreeSet<_> = self.enis.values().flat_map(|eni| eni.prefixes.clone()).collect();
        let whole = (0x0a08_0000_u32..).step_by(16).filter_map(|first| Prefix::new(first.into()));
        let whole = whole.filter(|prefix| !used.contains(prefix));
        Ok((free.take(count as usize).collect(), whole.take(prefixes as usize).collect()))
    }

    fn put_back(&mut self, subnet: &SubnetId, addresses: usize, prefixes: usize) {
        let to = self.subnets.get_mut(subnet.as_str()).expect("a subnet of the zone");
        to.free += u32::try_from(addresses).expect("few");
        to.prefixes += u32::try_from(prefixes).expect("few");
    }
}

pub(super) fn holds(eni: &SeenEni, address: Ipv4Addr) -> bool {
    eni.secondary.contains(&address) || eni.prefixes.iter().any(|prefix| prefix.contains(address))
}
