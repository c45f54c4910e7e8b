//! ENIs and their addresses: made, read, changed, deleted. Where an ENI sits is in `attachments`.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use rand::Rng;

use crate::{
    attachments::Attachment,
    faults::Fault,
    filters,
    instance_types::InstanceType,
    requests::{CreateNetworkInterface, Describe, EniAttribute, NewEni, Tags, Wanted},
    responses::{self, EniStatus, NetworkInterface, Page},
    tags,
    vpc::{Due, Vpc, new_id},
};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// An ENI.
#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub(crate) serial: u64,
    pub(crate) subnet: String,
    pub(crate) vpc: String,
    pub(crate) zone: String,
    pub(crate) description: String,
    pub(crate) mac: Mac,
    /// The primary first. The same set is in the subnet's book.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) groups: Vec<String>,
    pub(crate) source_dest_check: bool,
    /// No longer `pending`.
    pub(crate) created: bool,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) tags: Tags,
}

impl Vpc {
    /// All or nothing: a create that is refused has taken no address (field: nothing is left behind on real EC2 either).
    pub(crate) fn create_eni(
        &mut self,
        rng: &mut dyn Rng,
        wanted: &CreateNetworkInterface,
    ) -> Result<NetworkInterface, Fault> {
        let id = self.make_eni(rng, &wanted.eni, &wanted.tags)?;
        self.network_interface(&id)
    }

    /// The id of the new ENI.
    pub(crate) fn make_eni(&mut self, rng: &mut dyn Rng, wanted: &NewEni, tags: &Tags) -> Result<String, Fault> {
        tags::check(tags)?;
        let subnet = self.subnets.get(&wanted.subnet).ok_or_else(|| Fault::no_subnet(&wanted.subnet))?;
        let (vpc, zone) = (subnet.vpc.clone(), subnet.zone.clone());
        let groups = self.groups_or_default(&vpc, &wanted.groups)?;
        if self.settings.eni_quota.is_some_and(|quota| self.enis.len() >= quota) {
            return Err(Fault::eni_quota());
        }

        let given: Vec<Ipv4Addr> = match &wanted.secondary {
            Wanted::These(list) => wanted.primary.iter().chain(list).copied().collect(),
            Wanted::Nothing | Wanted::Count(_) => wanted.primary.into_iter().collect(),
        };
        refuse_duplicates(&given)?;
        for address in &given {
            subnet.book.check(*address)?;
            if subnet.book.holder(*address).is_some() {
                return Err(Fault::address_in_use(*address));
            }
        }
        let secondary = match &wanted.secondary {
            Wanted::Count(count) => *count,
            Wanted::Nothing | Wanted::These(_) => 0,
        };
        let chosen_primary = u32::from(wanted.primary.is_none());
        let count = secondary.checked_add(chosen_primary).ok_or_else(Fault::subnet_exhausted)?;
        let mut chosen = subnet.book.pick(count, &given, self.settings.address_order)?;
        // What EC2 chose comes first only if it chose the primary address.
        let addresses: Vec<Ipv4Addr> = if wanted.primary.is_none() {
            let primary = chosen.remove(0);
            [primary].into_iter().chain(given).chain(chosen).collect()
        } else {
            given.into_iter().chain(chosen).collect()
        };

        let (id, serial) = (new_id(rng, "eni"), self.serial());
        self.hold(&wanted.subnet, &id, &addresses);
        let eni = Eni {
            serial,
            subnet: wanted.subnet.clone(),
            vpc,
            zone,
            description: wanted.description.clone(),
            mac: Mac::unique(rng, serial),
            addresses,
            groups,
            source_dest_check: true,
            created: false,
            attachment: None,
            tags: tags.clone(),
        };
        self.enis.insert(id.clone(), eni);
        self.schedule(self.settings.times.create, Due::EniCreated { eni: id.clone() });
        Ok(id)
    }

    pub(crate) fn delete_eni(&mut self, id: &str) -> Result<(), Fault> {
        if self.eni(id)?.attachment.is_some() {
            return Err(Fault::eni_attached(id));
        }
        self.drop_eni(id);
        Ok(())
    }

    /// Takes the ENI out of the world, with its addresses.
    pub(crate) fn drop_eni(&mut self, id: &str) {
        if let Some(eni) = self.enis.remove(id) {
            self.release(&eni.subnet, &eni.addresses);
        }
    }

    /// The addresses that were added. Nothing happens if one of them cannot be.
    pub(crate) fn assign(
        &mut self,
        id: &str,
        wanted: &Wanted,
        allow_reassignment: bool,
    ) -> Result<Vec<Ipv4Addr>, Fault> {
        let eni = self.eni(id)?;
        let subnet_id = eni.subnet.clone();
        let book = &self.subnets[&subnet_id].book;
        let mut moved: Vec<(String, Ipv4Addr)> = Vec::new();
        let added = match wanted {
            Wanted::Nothing | Wanted::Count(0) => return Err(Fault::no_addresses_wanted()),
            Wanted::Count(count) => {
                self.check_room(eni, usize::try_from(*count).expect("32 bits fit"))?;
                book.pick(*count, &[], self.settings.address_order)?
            }
            Wanted::These(list) if list.is_empty() => return Err(Fault::no_addresses_wanted()),
            Wanted::These(list) => {
                refuse_duplicates(list)?;
                let mut added = Vec::new();
                for address in list {
                    book.check(*address)?;
                    match book.holder(*address) {
                        None => {}
                        // Guess: asking for what one already has is granted and adds nothing to the count.
                        Some(holder) if holder == id => continue,
                        Some(_) if !allow_reassignment => return Err(Fault::address_of_another(*address)),
                        Some(holder) if self.enis[holder].addresses[0] == *address => {
                            return Err(Fault::primary_of_another(*address));
                        }
                        Some(holder) => moved.push((holder.to_owned(), *address)),
                    }
                    added.push(*address);
                }
                self.check_room(eni, added.len())?;
                added
            }
        };
        for (holder, address) in moved {
            self.eni_mut(&holder).addresses.retain(|other| *other != address);
        }
        self.hold(&subnet_id, id, &added);
        self.eni_mut(id).addresses.extend(&added);
        Ok(match wanted {
            Wanted::These(list) => list.clone(),
            Wanted::Nothing | Wanted::Count(_) => added,
        })
    }

    /// Nothing happens if one of them is not a secondary address of this ENI (field).
    pub(crate) fn unassign(&mut self, id: &str, addresses: &[Ipv4Addr]) -> Result<(), Fault> {
        let eni = self.eni(id)?;
        if addresses.is_empty() {
            return Err(Fault::missing_parameter("PrivateIpAddress"));
        }
        if !addresses.iter().all(|address| eni.addresses[1..].contains(address)) {
            return Err(Fault::not_assigned(addresses, id));
        }
        let subnet = eni.subnet.clone();
        self.eni_mut(id).addresses.retain(|address| !addresses.contains(address));
        self.release(&subnet, addresses);
        Ok(())
    }

    pub(crate) fn modify_eni(&mut self, id: &str, attribute: &EniAttribute) -> Result<(), Fault> {
        let vpc = self.eni(id)?.vpc.clone();
        match attribute {
            EniAttribute::Groups(groups) => {
                let groups = self.groups_or_default(&vpc, groups)?;
                self.eni_mut(id).groups = groups;
            }
            EniAttribute::SourceDestCheck(check) => self.eni_mut(id).source_dest_check = *check,
            EniAttribute::Description(text) => self.eni_mut(id).description.clone_from(text),
            EniAttribute::DeleteOnTermination { attachment, delete } => {
                let own = self.eni_mut(id).attachment.as_mut().filter(|own| own.id == *attachment);
                own.ok_or_else(|| Fault::no_attachment(attachment))?.delete_on_termination = *delete;
            }
        }
        Ok(())
    }

    pub(crate) fn describe_enis(&self, describe: &Describe) -> Result<Page<NetworkInterface>, Fault> {
        const MOST: u32 = 1_000;
        filters::check(&describe.filters, ENI_FILTERS)?;
        if !describe.ids.is_empty() && describe.max_results.is_some() {
            return Err(Fault::ids_with_page_size("networkInterfaceIds"));
        }
        let ids: BTreeSet<&String> =
            if describe.ids.is_empty() { self.enis.keys().collect() } else { describe.ids.iter().collect() };
        let mut found = Vec::new();
        for id in ids {
            let eni = self.eni(id)?;
            let description = self.network_interface(id)?;
            if filters::matches(&describe.filters, &eni.tags, |name| filter_values(&description, name)) {
                found.push((eni.serial, description));
            }
        }
        filters::page(describe, MOST, found)
    }

    /// How EC2 describes it.
    pub(crate) fn network_interface(&self, id: &str) -> Result<NetworkInterface, Fault> {
        let eni = self.eni(id)?;
        let status = match (&eni.attachment, eni.created) {
            (Some(_), _) => EniStatus::InUse,
            (None, false) => EniStatus::Pending,
            (None, true) => EniStatus::Available,
        };
        let attachment = eni.attachment.as_ref().map(|own| responses::Attachment {
            id: own.id.clone(),
            instance: own.instance.clone(),
            owner: self.settings.account.clone(),
            device_index: own.device_index,
            card: own.card,
            status: own.status,
            since: own.since,
            delete_on_termination: own.delete_on_termination,
        });
        Ok(NetworkInterface {
            id: id.to_owned(),
            status,
            subnet: eni.subnet.clone(),
            vpc: eni.vpc.clone(),
            zone: eni.zone.clone(),
            owner: self.settings.account.clone(),
            description: eni.description.clone(),
            mac: eni.mac,
            addresses: eni.addresses.clone(),
            groups: eni.groups.iter().map(|id| (id.clone(), self.groups[id].name.clone())).collect(),
            source_dest_check: eni.source_dest_check,
            attachment,
            tags: eni.tags.clone(),
        })
    }

    pub(crate) fn eni(&self, id: &str) -> Result<&Eni, Fault> {
        if !id.starts_with("eni-") {
            return Err(Fault::malformed_eni(id));
        }
        self.enis.get(id).ok_or_else(|| Fault::no_eni(id))
    }

    /// An ENI that was just looked up.
    pub(crate) fn eni_mut(&mut self, id: &str) -> &mut Eni {
        self.enis.get_mut(id).expect("an ENI that was looked up in this call is there")
    }

    /// Would `more` addresses fit the instance's limit? EC2 knows no limit for an ENI that is not attached (guess), and
    /// checks again at the attach.
    fn check_room(&self, eni: &Eni, more: usize) -> Result<(), Fault> {
        let Some(attachment) = &eni.attachment else { return Ok(()) };
        let limits = self.instances[&attachment.instance].limits;
        check_addresses(limits, eni.addresses.len() + more)
    }

    fn groups_or_default(&self, vpc: &str, wanted: &[String]) -> Result<Vec<String>, Fault> {
        if wanted.is_empty() {
            return Ok(vec![self.networks[vpc].default_group.clone()]);
        }
        // A group of another VPC is as good as none (field).
        let foreign = wanted.iter().find(|id| self.groups.get(*id).is_none_or(|group| group.vpc != vpc));
        foreign.map_or_else(|| Ok(wanted.to_vec()), |id| Err(Fault::no_group(id)))
    }

    fn hold(&mut self, subnet: &str, eni: &str, addresses: &[Ipv4Addr]) {
        let book = &mut self.subnets.get_mut(subnet).expect("an ENI's subnet is there").book;
        for address in addresses {
            book.hold(*address, eni);
        }
    }

    fn release(&mut self, subnet: &str, addresses: &[Ipv4Addr]) {
        let book = &mut self.subnets.get_mut(subnet).expect("an ENI's subnet is there").book;
        for address in addresses {
            book.release(*address);
        }
    }
}

/// `count` addresses on one ENI of this type.
pub(crate) fn check_addresses(limits: &InstanceType, count: usize) -> Result<(), Fault> {
    if count > usize::try_from(limits.ipv4_per_eni).expect("32 bits fit") {
        return Err(Fault::address_limit());
    }
    Ok(())
}

/// Filters of DescribeNetworkInterfaces, also behind `network-interface.` in DescribeInstances.
pub(crate) const ENI_FILTERS: &[&str] = &[
    "network-interface-id",
    "status",
    "description",
    "mac-address",
    "subnet-id",
    "vpc-id",
    "availability-zone",
    "group-id",
    "group-name",
    "interface-type",
    "owner-id",
    "private-ip-address",
    "addresses.private-ip-address",
    "addresses.primary",
    "source-dest-check",
    "requester-managed",
    "attachment.instance-id",
    "attachment.attachment-id",
    "attachment.device-index",
    "attachment.network-card-index",
    "attachment.status",
    "attachment.delete-on-termination",
    "attachment.instance-owner-id",
];

/// What an ENI has under the name of a filter.
pub(crate) fn filter_values(eni: &NetworkInterface, name: &str) -> Vec<String> {
    let attached = |value: &dyn Fn(&responses::Attachment) -> String| eni.attachment.iter().map(value).collect();
    match name {
        "network-interface-id" => vec![eni.id.clone()],
        "status" => vec![eni.status.to_string()],
        "description" => vec![eni.description.clone()],
        "mac-address" => vec![eni.mac.to_string()],
        "subnet-id" => vec![eni.subnet.clone()],
        "vpc-id" => vec![eni.vpc.clone()],
        "availability-zone" => vec![eni.zone.clone()],
        "group-id" => eni.groups.iter().map(|(id, _)| id.clone()).collect(),
        "group-name" => eni.groups.iter().map(|(_, name)| name.clone()).collect(),
        "interface-type" => vec!["interface".into()],
        "owner-id" => vec![eni.owner.clone()],
        "private-ip-address" | "addresses.private-ip-address" => {
            eni.addresses.iter().map(ToString::to_string).collect()
        }
        "addresses.primary" if eni.addresses.len() > 1 => vec!["true".into(), "false".into()],
        "addresses.primary" => vec!["true".into()],
        "source-dest-check" => vec![eni.source_dest_check.to_string()],
        "requester-managed" => vec!["false".into()],
        "attachment.instance-id" => attached(&|own| own.instance.clone()),
        "attachment.attachment-id" => attached(&|own| own.id.clone()),
        "attachment.device-index" => attached(&|own| own.device_index.to_string()),
        "attachment.network-card-index" => attached(&|own| own.card.to_string()),
        "attachment.status" => attached(&|own| own.status.to_string()),
        "attachment.delete-on-termination" => attached(&|own| own.delete_on_termination.to_string()),
        "attachment.instance-owner-id" => attached(&|own| own.owner.clone()),
        _ => Vec::new(),
    }
}

fn refuse_duplicates(addresses: &[Ipv4Addr]) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    addresses.iter().find(|address| !seen.insert(**address)).map_or(Ok(()), |twice| Err(Fault::address_twice(*twice)))
}

impl Mac {
    /// Locally administered; no two ENIs of a world share one.
    fn unique(rng: &mut dyn Rng, serial: u64) -> Self {
        let mut octets = [0x02; 6];
        octets[1..3].copy_from_slice(&rng.next_u32().to_be_bytes()[..2]);
        octets[3..].copy_from_slice(&serial.to_be_bytes()[5..]);
        Self(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&octets.join(":"))
    }
}

/// Not six hexadecimal octets with colons between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAMac(pub String);

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an Ethernet address: {:?}", self.0)
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|octet| if octet.len() == 2 { u8::from_str_radix(octet, 16).ok() } else { None })
            .collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Self).ok_or_else(|| NotAMac(text.to_owned()))
    }
}
