//! VPCs, their blocks, subnets and security groups: where ENIs live.

use std::time::Duration;

use ipnet::Ipv4Net;
use rand::Rng;

use crate::{
    addresses::AddressBook,
    faults::Fault,
    filters,
    requests::{CreateSubnet, Describe, Tags},
    responses::{self, CidrAssociation, Page, VpcRecord},
    tags,
    vpc::{Vpc, new_id},
};

/// Sizes that EC2 allows for VPCs and subnets (documentation).
const SIZES: std::ops::RangeInclusive<u8> = 16..=28;
const MOST: u32 = 1_000;

/// A VPC.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) serial: u64,
    pub(crate) blocks: Vec<CidrAssociation>,
    pub(crate) tags: Tags,
    /// The group of ENIs that name none.
    pub(crate) default_group: String,
}

/// A subnet.
#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) serial: u64,
    pub(crate) vpc: String,
    pub(crate) cidr: Ipv4Net,
    pub(crate) zone: String,
    pub(crate) book: AddressBook,
    pub(crate) tags: Tags,
}

/// A security group. The model knows no rules.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) serial: u64,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) vpc: String,
    pub(crate) tags: Tags,
}

impl Vpc {
    pub(crate) fn create_vpc(&mut self, rng: &mut dyn Rng, cidr: Ipv4Net, tags: &Tags) -> Result<VpcRecord, Fault> {
        tags::check(tags)?;
        if !SIZES.contains(&cidr.prefix_len()) || cidr != cidr.trunc() {
            return Err(Fault::vpc_range(cidr));
        }
        let (id, default_group) = (new_id(rng, "vpc"), new_id(rng, "sg"));
        let block = CidrAssociation { id: new_id(rng, "vpc-cidr-assoc"), cidr };
        let group = Group {
            serial: self.serial(),
            name: "default".into(),
            description: "default VPC security group".into(),
            vpc: id.clone(),
            tags: Tags::new(),
        };
        self.groups.insert(default_group.clone(), group);
        let network = Network { serial: self.serial(), blocks: vec![block], tags: tags.clone(), default_group };
        let record = self.vpc_record(&id, &network);
        self.networks.insert(id, network);
        Ok(record)
    }

    pub(crate) fn associate_block(
        &mut self,
        rng: &mut dyn Rng,
        vpc: &str,
        cidr: Ipv4Net,
    ) -> Result<CidrAssociation, Fault> {
        if !SIZES.contains(&cidr.prefix_len()) || cidr != cidr.trunc() {
            return Err(Fault::vpc_range(cidr));
        }
        let block = CidrAssociation { id: new_id(rng, "vpc-cidr-assoc"), cidr };
        let network = self.networks.get_mut(vpc).ok_or_else(|| Fault::no_vpc(vpc))?;
        if network.blocks.iter().any(|other| overlap(other.cidr, cidr)) {
            return Err(Fault::vpc_range(cidr));
        }
        network.blocks.push(block.clone());
        Ok(block)
    }

    pub(crate) fn describe_vpcs(&self, describe: &Describe) -> Result<Page<VpcRecord>, Fault> {
        filters::check(
            &describe.filters,
            &["vpc-id", "cidr", "cidr-block-association.cidr-block", "state", "owner-id"],
        )?;
        if let Some(unknown) = describe.ids.iter().find(|id| !self.networks.contains_key(*id)) {
            return Err(Fault::no_vpc(unknown));
        }
        let found = self
            .networks
            .iter()
            .filter(|(id, _)| describe.ids.is_empty() || describe.ids.contains(id))
            .filter(|(id, network)| {
                filters::matches(&describe.filters, &network.tags, |name| match name {
                    "vpc-id" => vec![(*id).clone()],
                    "cidr" => vec![network.blocks[0].cidr.to_string()],
                    "state" => vec!["available".into()],
                    "owner-id" => vec![self.settings.account.clone()],
                    _ => network.blocks.iter().map(|block| block.cidr.to_string()).collect(),
                })
            })
            .map(|(id, network)| (network.serial, self.vpc_record(id, network)))
            .collect();
        filters::page(describe, MOST, found)
    }

    pub(crate) fn create_subnet(
        &mut self,
        rng: &mut dyn Rng,
        wanted: &CreateSubnet,
    ) -> Result<responses::Subnet, Fault> {
        tags::check(&wanted.tags)?;
        let cidr = wanted.cidr;
        let network = self.networks.get(&wanted.vpc).ok_or_else(|| Fault::no_vpc(&wanted.vpc))?;
        let inside = network.blocks.iter().any(|block| block.cidr.contains(&cidr));
        if !SIZES.contains(&cidr.prefix_len()) || cidr != cidr.trunc() || !inside {
            return Err(Fault::subnet_range(cidr));
        }
        if self.subnets.values().any(|other| other.vpc == wanted.vpc && overlap(other.cidr, cidr)) {
            return Err(Fault::subnet_conflict(cidr));
        }
        let zone = match &wanted.zone {
            None => self.zones().next().expect("a region has a zone"),
            Some(zone) => self
                .zones()
                .find(|known| known == zone)
                .ok_or_else(|| Fault::invalid_value(zone, "availabilityZone"))?,
        };
        let id = new_id(rng, "subnet");
        let subnet = Subnet {
            serial: self.serial(),
            vpc: wanted.vpc.clone(),
            cidr,
            zone,
            book: AddressBook::new(cidr),
            tags: wanted.tags.clone(),
        };
        let description = self.subnet_record(&id, &subnet, subnet.book.free());
        self.subnets.insert(id.clone(), subnet);
        self.count_free(&id);
        Ok(description)
    }

    pub(crate) fn describe_subnets(
        &self,
        describe: &Describe,
        then: Duration,
    ) -> Result<Page<responses::Subnet>, Fault> {
        let known = [
            "subnet-id",
            "vpc-id",
            "availability-zone",
            "cidr-block",
            "cidr",
            "state",
            "owner-id",
            "available-ip-address-count",
        ];
        filters::check(&describe.filters, &known)?;
        if let Some(unknown) = describe.ids.iter().find(|id| self.free.was(id, then).is_none()) {
            return Err(Fault::no_subnet(unknown));
        }
        let found = self
            .subnets
            .iter()
            .filter(|(id, _)| describe.ids.is_empty() || describe.ids.contains(id))
            .filter_map(|(id, subnet)| Some((id, subnet, *self.free.was(id, then)?)))
            .filter(|(id, subnet, free)| {
                filters::matches(&describe.filters, &subnet.tags, |name| {
                    vec![match name {
                        "subnet-id" => (*id).clone(),
                        "vpc-id" => subnet.vpc.clone(),
                        "availability-zone" => subnet.zone.clone(),
                        "state" => "available".into(),
                        "owner-id" => self.settings.account.clone(),
                        "available-ip-address-count" => free.to_string(),
                        _ => subnet.cidr.to_string(),
                    }]
                })
            })
            .map(|(id, subnet, free)| (subnet.serial, self.subnet_record(id, subnet, free)))
            .collect();
        filters::page(describe, MOST, found)
    }

    pub(crate) fn create_group(
        &mut self,
        rng: &mut dyn Rng,
        name: &str,
        description: &str,
        vpc: &str,
        tags: &Tags,
    ) -> Result<String, Fault> {
        tags::check(tags)?;
        if !self.networks.contains_key(vpc) {
            return Err(Fault::no_vpc(vpc));
        }
        if self.groups.values().any(|group| group.vpc == vpc && group.name == name) {
            return Err(Fault::duplicate_group(name, vpc));
        }
        let id = new_id(rng, "sg");
        let group = Group {
            serial: self.serial(),
            name: name.to_owned(),
            description: description.to_owned(),
            vpc: vpc.to_owned(),
            tags: tags.clone(),
        };
        self.groups.insert(id.clone(), group);
        Ok(id)
    }

    pub(crate) fn describe_groups(&self, describe: &Describe) -> Result<Page<responses::SecurityGroup>, Fault> {
        filters::check(&describe.filters, &["group-id", "group-name", "vpc-id", "description", "owner-id"])?;
        if let Some(unknown) = describe.ids.iter().find(|id| !self.groups.contains_key(*id)) {
            return Err(Fault::no_group(unknown));
        }
        let found = self
            .groups
            .iter()
            .filter(|(id, _)| describe.ids.is_empty() || describe.ids.contains(id))
            .filter(|(id, group)| {
                filters::matches(&describe.filters, &group.tags, |name| {
                    vec![match name {
                        "group-id" => (*id).clone(),
                        "group-name" => group.name.clone(),
                        "vpc-id" => group.vpc.clone(),
                        "owner-id" => self.settings.account.clone(),
                        _ => group.description.clone(),
                    }]
                })
            })
            .map(|(id, group)| {
                let description = responses::SecurityGroup {
                    id: id.clone(),
                    name: group.name.clone(),
                    description: group.description.clone(),
                    vpc: group.vpc.clone(),
                    owner: self.settings.account.clone(),
                    tags: group.tags.clone(),
                };
                (group.serial, description)
            })
            .collect();
        filters::page(describe, MOST, found)
    }

    /// An ENI's subnet's book.
    pub(crate) fn book_mut(&mut self, subnet: &str) -> &mut AddressBook {
        &mut self.subnets.get_mut(subnet).expect("an ENI's subnet is there").book
    }

    /// What `AvailableIpAddressCount` is from now on.
    pub(crate) fn count_free(&mut self, subnet: &str) {
        self.free.insert(subnet.to_owned(), self.subnets[subnet].book.free());
    }

    fn zones(&self) -> impl Iterator<Item = String> {
        self.settings.zones.iter().map(|letter| format!("{}{letter}", self.settings.region))
    }

    fn vpc_record(&self, id: &str, network: &Network) -> VpcRecord {
        VpcRecord {
            id: id.to_owned(),
            owner: self.settings.account.clone(),
            blocks: network.blocks.clone(),
            tags: network.tags.clone(),
        }
    }

    fn subnet_record(&self, id: &str, subnet: &Subnet, free: u32) -> responses::Subnet {
        responses::Subnet {
            id: id.to_owned(),
            vpc: subnet.vpc.clone(),
            owner: self.settings.account.clone(),
            cidr: subnet.cidr,
            zone: subnet.zone.clone(),
            available: free,
            tags: subnet.tags.clone(),
        }
    }
}

pub(crate) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
