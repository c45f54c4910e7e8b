//! EC2's answers as the pool's types.
//!
//! Owns what must be there and what may be left out. Everything after this module can rely on what it holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    str::FromStr,
};

use aws_sdk_ec2::{
    operation::{
        assign_private_ip_addresses::AssignPrivateIpAddressesOutput,
        attach_network_interface::AttachNetworkInterfaceOutput, create_network_interface::CreateNetworkInterfaceOutput,
    },
    types::{
        AttachmentStatus, Instance, InstanceTypeInfo, NetworkCardInfo, NetworkInterface, NetworkInterfaceAttachment,
        NetworkInterfaceType, Subnet, Tag,
    },
};
use cloud::Answer;
use pool::{
    AttachmentId, DeviceIndex, EniId, InstanceId, InterfaceKind, Limits, Mac, Prefix, SeenAttachment, SeenEni,
    SeenSubnet,
};

/// What is wrong with an answer that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missing {
    #[error("EC2's answer about {of} has no {field}")]
    Absent { of: String, field: &'static str },
    #[error("EC2's answer about {of} has {field} {value:?}, which makes no sense")]
    Unreadable { of: String, field: &'static str, value: String },
    #[error("EC2's answer about {of} has {field} {value} twice")]
    Twice { of: String, field: &'static str, value: String },
}

pub(crate) fn no_list(name: &'static str) -> Missing {
    absent("what there is", name)
}

pub(crate) fn another(eni: &EniId) -> Missing {
    absent(eni.as_str(), "networkInterfaceId")
}

pub(crate) fn created(output: &CreateNetworkInterfaceOutput) -> Result<SeenEni, Missing> {
    let eni = output.network_interface();
    eni.ok_or_else(|| absent("a new ENI", "networkInterface")).and_then(self::eni)
}

pub(crate) fn attached(output: &AttachNetworkInterfaceOutput) -> Result<AttachmentId, Missing> {
    required(output.attachment_id(), "a new attachment", "attachmentId").map(AttachmentId::from)
}

pub(crate) fn assigned(output: &AssignPrivateIpAddressesOutput) -> Result<Answer, Missing> {
    const OF: &str = "new addresses";
    let (addresses, prefixes) = (output.assigned_private_ip_addresses(), output.assigned_ipv4_prefixes());
    if addresses.is_empty() && prefixes.is_empty() {
        return Err(absent(OF, "assignedPrivateIpAddressesSet and no assignedIpv4PrefixSet"));
    }
    let addresses = addresses.iter().map(|one| address(one.private_ip_address(), OF, "privateIpAddress"));
    let prefixes = prefixes.iter().map(|one| prefix(one.ipv4_prefix(), OF, "ipv4Prefix"));
    Ok(Answer::Assigned {
        addresses: each_once(addresses, OF, "privateIpAddress")?,
        prefixes: each_once(prefixes, OF, "ipv4Prefix")?,
    })
}

pub(crate) fn subnet(subnet: &Subnet) -> Result<SeenSubnet, Missing> {
    let id = required(subnet.subnet_id(), "a subnet", "subnetId")?;
    let free = subnet.available_ip_address_count().ok_or_else(|| absent(id, "availableIpAddressCount"))?;
    Ok(SeenSubnet { id: id.into(), free: natural(free, id, "availableIpAddressCount")?, tags: tags(subnet.tags()) })
}

pub(crate) fn instance(instance: &Instance) -> Result<InstanceId, Missing> {
    required(instance.instance_id(), "an instance", "instanceId").map(InstanceId::from)
}

pub(crate) fn eni(eni: &NetworkInterface) -> Result<SeenEni, Missing> {
    let id = required(eni.network_interface_id(), "an ENI", "networkInterfaceId")?;
    // Carriers of EFA traffic and ENIs in IPv6-only subnets have no IPv4 address. They are of no use to us, but take up room.
    let (kind, primary) = match eni.private_ip_address() {
        Some(own) => (kind(eni.interface_type()), address(Some(own), id, "privateIpAddress")?),
        None if eni.interface_type() == Some(&NetworkInterfaceType::EfaOnly) => {
            (InterfaceKind::EfaOnly, Ipv4Addr::UNSPECIFIED)
        }
        None if eni.ipv6_native() == Some(true) || eni.ipv6_address().is_some() => {
            (InterfaceKind::Other, Ipv4Addr::UNSPECIFIED)
        }
        None => return Err(absent(id, "privateIpAddress")),
    };
    const SECONDARY: &str = "privateIpAddressesSet.privateIpAddress";
    let others = eni.private_ip_addresses().iter().filter(|one| one.primary() != Some(true));
    let mut secondary = each_once(others.map(|one| address(one.private_ip_address(), id, SECONDARY)), id, SECONDARY)?;
    // The ENI's own address is never a pod's, whatever the list says of it.
    secondary.retain(|one| *one != primary);
    const PREFIX: &str = "ipv4PrefixSet.ipv4Prefix";
    let prefixes = eni.ipv4_prefixes().iter().map(|one| prefix(one.ipv4_prefix(), id, PREFIX));
    let prefixes = each_once(prefixes, id, PREFIX)?;
    Ok(SeenEni {
        id: id.into(),
        mac: mac(eni.mac_address(), id)?,
        subnet: required(eni.subnet_id(), id, "subnetId")?.into(),
        primary,
        secondary,
        prefixes,
        description: eni.description().unwrap_or_default().to_owned(),
        tags: tags(eni.tag_set()),
        groups: eni.groups().iter().filter_map(|group| group.group_id()).map(Into::into).collect(),
        kind,
        attachment: eni.attachment().map(|attachment| self::attachment(id, attachment)).transpose()?.flatten(),
    })
}

/// `None`: it is history.
fn attachment(eni: &str, attachment: &NetworkInterfaceAttachment) -> Result<Option<SeenAttachment>, Missing> {
    let status = attachment.status().ok_or_else(|| absent(eni, "attachment.status"))?;
    if *status == AttachmentStatus::Detached {
        return Ok(None);
    }
    let device = attachment.device_index().ok_or_else(|| absent(eni, "attachment.deviceIndex"))?;
    Ok(Some(SeenAttachment {
        id: required(attachment.attachment_id(), eni, "attachment.attachmentId")?.into(),
        instance: attachment.instance_id().map(Into::into),
        device: DeviceIndex(natural(device, eni, "attachment.deviceIndex")?),
        card: natural(attachment.network_card_index().unwrap_or(0), eni, "attachment.networkCardIndex")?,
        attached: *status != AttachmentStatus::Detaching,
        delete_on_termination: attachment.delete_on_termination().unwrap_or(false),
    }))
}

fn kind(interface_type: Option<&NetworkInterfaceType>) -> InterfaceKind {
    match interface_type {
        None | Some(NetworkInterfaceType::Interface | NetworkInterfaceType::Efa) => InterfaceKind::Interface,
        Some(NetworkInterfaceType::Trunk) => InterfaceKind::Trunk,
        Some(NetworkInterfaceType::EfaOnly) => InterfaceKind::EfaOnly,
        Some(_) => InterfaceKind::Other,
    }
}

fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()))).collect()
}

/// ENIs are attached to network card 0 only, so its limit is the one that counts where a type has several.
pub(crate) fn limits(instance_type: &str, found: Option<&InstanceTypeInfo>) -> Result<Limits, Missing> {
    let found = found.ok_or_else(|| absent(instance_type, "instanceTypeSet item"))?;
    let network = found.network_info().ok_or_else(|| absent(instance_type, "networkInfo"))?;
    let whole = network
        .maximum_network_interfaces()
        .ok_or_else(|| absent(instance_type, "networkInfo.maximumNetworkInterfaces"))?;
    let cards = network.network_cards();
    let first = cards.iter().find(|card| card.network_card_index() == Some(0));
    let enis = match first.and_then(NetworkCardInfo::maximum_network_interfaces) {
        Some(on_card) => on_card.min(whole),
        // Types of one card may be described without it; of several, the whole is no card's.
        None if cards.is_empty() => whole,
        None => return Err(absent(instance_type, "networkInfo.networkCards of index 0 with maximumNetworkInterfaces")),
    };
    let addresses = network
        .ipv4_addresses_per_interface()
        .ok_or_else(|| absent(instance_type, "networkInfo.ipv4AddressesPerInterface"))?;
    Ok(Limits {
        enis: positive(enis, instance_type, "networkInfo.maximumNetworkInterfaces")?,
        addresses_per_eni: positive(addresses, instance_type, "networkInfo.ipv4AddressesPerInterface")?,
    })
}

fn absent(of: &str, field: &'static str) -> Missing {
    Missing::Absent { of: of.to_owned(), field }
}

fn unreadable(of: &str, field: &'static str, value: impl ToString) -> Missing {
    Missing::Unreadable { of: of.to_owned(), field, value: value.to_string() }
}

/// EC2's XML has empty elements where it means none.
fn required<'a>(value: Option<&'a str>, of: &str, field: &'static str) -> Result<&'a str, Missing> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| absent(of, field))
}

fn parsed<T: FromStr>(value: Option<&str>, of: &str, field: &'static str) -> Result<T, Missing> {
    let value = required(value, of, field)?;
    value.parse().map_err(|_| unreadable(of, field, value))
}

/// One that a machine in a VPC can have: a VPC's blocks never overlap the ranges of the protocol itself
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html>).
fn address(value: Option<&str>, of: &str, field: &'static str) -> Result<Ipv4Addr, Missing> {
    let address: Ipv4Addr = parsed(value, of, field)?;
    if can_be_assigned(address) { Ok(address) } else { Err(unreadable(of, field, address)) }
}

fn prefix(value: Option<&str>, of: &str, field: &'static str) -> Result<Prefix, Missing> {
    let prefix: Prefix = parsed(value, of, field)?;
    if can_be_assigned(prefix.first()) { Ok(prefix) } else { Err(unreadable(of, field, prefix)) }
}

fn can_be_assigned(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast())
}

/// One that a link can have.
fn mac(value: Option<&str>, of: &str) -> Result<Mac, Missing> {
    let mac: Mac = parsed(value, of, "macAddress")?;
    let for_many = mac.0[0] & 1 == 1;
    if for_many || mac.0 == [0; 6] { Err(unreadable(of, "macAddress", mac)) } else { Ok(mac) }
}

fn each_once<T: Ord + Copy + ToString>(
    values: impl Iterator<Item = Result<T, Missing>>,
    of: &str,
    field: &'static str,
) -> Result<Vec<T>, Missing> {
    let (mut seen, mut all) = (BTreeSet::new(), Vec::new());
    for value in values {
        let value = value?;
        if !seen.insert(value) {
            return Err(Missing::Twice { of: of.to_owned(), field, value: value.to_string() });
        }
        all.push(value);
    }
    Ok(all)
}

fn natural(value: i32, of: &str, field: &'static str) -> Result<u32, Missing> {
    u32::try_from(value).map_err(|_| unreadable(of, field, value))
}

fn positive(value: i32, of: &str, field: &'static str) -> Result<u32, Missing> {
    natural(value, of, field).and_then(|number| if number > 0 { Ok(number) } else { Err(unreadable(of, field, value)) })
}
