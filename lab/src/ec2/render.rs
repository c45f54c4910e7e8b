//! The model's answers as EC2's XML. Element names are those of the EC2 API of 2016-11-15.

use std::{
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use ipnet::Ipv4Net;
use sim::{
    Response,
    requests::Tags,
    responses::{
        Attachment, CidrAssociation, Instance, InstanceState, InstanceType, NetworkInterface, Page, Reservation,
        SecurityGroup, Subnet, SubnetReservation, VpcRecord,
    },
};

use super::xml::Xml;

/// The document. `wall_clock` turns the model's time into a date.
pub(super) fn response(response: &Response, request_id: &str, wall_clock: impl Fn(Duration) -> SystemTime) -> String {
    let render = Render { date: &|at| humantime::format_rfc3339_millis(wall_clock(at)).to_string() };
    let (action, body) = match response {
        Response::RunInstances(made) => ("RunInstances", render.reservation(made)),
        Response::DescribeInstances(page) => {
            ("DescribeInstances", paged("reservationSet", page, |one| render.reservation(one)))
        }
        Response::TerminateInstances(changes) => {
            let items = changes.iter().map(|change| {
                Xml::new()
                    .text("instanceId", &change.instance)
                    .within("currentState", state(change.current))
                    .within("previousState", state(change.previous))
            });
            ("TerminateInstances", Xml::new().list("instancesSet", items))
        }
        Response::DescribeInstanceTypes(page) => {
            ("DescribeInstanceTypes", paged("instanceTypeSet", page, |one| instance_type(one)))
        }
        Response::CreateVpc(made) => ("CreateVpc", Xml::new().within("vpc", vpc(made))),
        Response::AssociateVpcCidrBlock { vpc, block } => {
            ("AssociateVpcCidrBlock", Xml::new().text("vpcId", vpc).within("cidrBlockAssociation", association(block)))
        }
        Response::DescribeVpcs(page) => ("DescribeVpcs", paged("vpcSet", page, vpc)),
        Response::CreateSubnet(made) => ("CreateSubnet", Xml::new().within("subnet", subnet(made))),
        Response::DescribeSubnets(page) => ("DescribeSubnets", paged("subnetSet", page, subnet)),
        Response::CreateSubnetCidrReservation(made) => {
            ("CreateSubnetCidrReservation", Xml::new().within("subnetCidrReservation", reservation(made)))
        }
        Response::GetSubnetCidrReservations(page) => {
            let body = paged("subnetIpv4CidrReservationSet", page, reservation);
            ("GetSubnetCidrReservations", body.list("subnetIpv6CidrReservationSet", []))
        }
        Response::DeleteSubnetCidrReservation(gone) => {
            ("DeleteSubnetCidrReservation", Xml::new().within("deletedSubnetCidrReservation", reservation(gone)))
        }
        Response::CreateSecurityGroup(id) => ("CreateSecurityGroup", done().text("groupId", id)),
        Response::DescribeSecurityGroups(page) => {
            ("DescribeSecurityGroups", paged("securityGroupInfo", page, security_group))
        }
        Response::CreateNetworkInterface { eni, client_token } => (
            "CreateNetworkInterface",
            Xml::new()
                .within("networkInterface", render.network_interface(eni))
                .maybe("clientToken", client_token.as_ref()),
        ),
        Response::DescribeNetworkInterfaces(page) => {
            ("DescribeNetworkInterfaces", paged("networkInterfaceSet", page, |one| render.network_interface(one)))
        }
        Response::AttachNetworkInterface { attachment, card } => {
            ("AttachNetworkInterface", Xml::new().text("attachmentId", attachment).text("networkCardIndex", card))
        }
        Response::DetachNetworkInterface => ("DetachNetworkInterface", done()),
        Response::DeleteNetworkInterface => ("DeleteNetworkInterface", done()),
        Response::ModifyNetworkInterfaceAttribute => ("ModifyNetworkInterfaceAttribute", done()),
        Response::AssignPrivateIpAddresses { eni, addresses, prefixes: new } => {
            let items = addresses.iter().map(|address| Xml::new().text("privateIpAddress", address));
            let body = done().text("networkInterfaceId", eni).list("assignedPrivateIpAddressesSet", items);
            ("AssignPrivateIpAddresses", body.list("assignedIpv4PrefixSet", prefixes(new)))
        }
        Response::UnassignPrivateIpAddresses => ("UnassignPrivateIpAddresses", done()),
        Response::CreateTags => ("CreateTags", done()),
        Response::DeleteTags => ("DeleteTags", done()),
    };
    body.answer(action, request_id)
}

struct Render<'a> {
    date: &'a dyn Fn(Duration) -> String,
}

impl Render<'_> {
    fn reservation(&self, reservation: &Reservation) -> Xml {
        Xml::new()
            .text("reservationId", &reservation.id)
            .text("ownerId", &reservation.owner)
            .list("groupSet", [])
            .list("instancesSet", reservation.instances.iter().map(|one| self.instance(one)))
    }

    fn instance(&self, instance: &Instance) -> Xml {
        let primary = instance.interfaces.first();
        let address = primary.and_then(|eni| eni.addresses.first());
        let groups = primary.map(|eni| eni.groups.as_slice()).unwrap_or_default();
        let xml = Xml::new()
            .text("instanceId", &instance.id)
            .text("imageId", &instance.image)
            .within("instanceState", state(instance.state))
            .maybe("privateDnsName", address.map(|address| dns_name(*address, &instance.zone)))
            .text("instanceType", &instance.instance_type)
            .text("launchTime", (self.date)(instance.launched))
            .within("placement", Xml::new().text("availabilityZone", &instance.zone).text("tenancy", "default"))
            .text("subnetId", &instance.subnet)
            .text("vpcId", &instance.vpc)
            .maybe("privateIpAddress", address)
            .text("architecture", "x86_64")
            .text("hypervisor", "xen")
            .list("groupSet", groups.iter().map(group))
            .list("tagSet", tags(&instance.tags))
            .list("networkInterfaceSet", instance.interfaces.iter().map(|eni| self.instance_interface(eni)));
        match &instance.profile {
            Some(arn) => {
                xml.within("iamInstanceProfile", Xml::new().text("arn", arn).text("id", "AIPA0000000000000000A"))
            }
            None => xml,
        }
    }

    fn network_interface(&self, eni: &NetworkInterface) -> Xml {
        let xml = eni_common(eni)
            .text("availabilityZone", &eni.zone)
            .text("requesterManaged", false)
            .list("tagSet", tags(&eni.tags));
        match &eni.attachment {
            Some(own) => xml.within(
                "attachment",
                self.attachment(own).text("instanceId", &own.instance).text("instanceOwnerId", &own.owner),
            ),
            None => xml,
        }
    }

    /// As a part of DescribeInstances: without what the instance says already.
    fn instance_interface(&self, eni: &NetworkInterface) -> Xml {
        let xml = eni_common(eni);
        match &eni.attachment {
            Some(own) => xml.within("attachment", self.attachment(own)),
            None => xml,
        }
    }

    fn attachment(&self, own: &Attachment) -> Xml {
        Xml::new()
            .text("attachmentId", &own.id)
            .text("deviceIndex", own.device_index)
            .text("networkCardIndex", own.card)
            .text("status", own.status)
            .text("attachTime", (self.date)(own.since))
            .text("deleteOnTermination", own.delete_on_termination)
    }
}

fn eni_common(eni: &NetworkInterface) -> Xml {
    let addresses = eni.addresses.iter().enumerate().map(|(place, address)| {
        Xml::new()
            .text("privateIpAddress", address)
            .text("privateDnsName", dns_name(*address, &eni.zone))
            .text("primary", place == 0)
    });
    Xml::new()
        .text("networkInterfaceId", &eni.id)
        .text("subnetId", &eni.subnet)
        .text("vpcId", &eni.vpc)
        .text("description", &eni.description)
        .text("ownerId", &eni.owner)
        .text("status", eni.status)
        .text("macAddress", eni.mac)
        .maybe("privateIpAddress", eni.addresses.first())
        .maybe("privateDnsName", eni.addresses.first().map(|address| dns_name(*address, &eni.zone)))
        .text("sourceDestCheck", eni.source_dest_check)
        .text("interfaceType", eni.interface_type)
        .list("groupSet", eni.groups.iter().map(group))
        .list("privateIpAddressesSet", addresses)
        .list("ipv4PrefixSet", prefixes(&eni.prefixes))
        .list("ipv6AddressesSet", [])
        .list("ipv6PrefixSet", [])
}

fn prefixes(prefixes: &[Ipv4Net]) -> impl Iterator<Item = Xml> {
    prefixes.iter().map(|prefix| Xml::new().text("ipv4Prefix", prefix))
}

fn instance_type(found: &InstanceType) -> Xml {
    let cards = found
        .cards
        .iter()
        .enumerate()
        .map(|(index, most)| Xml::new().text("networkCardIndex", index).text("maximumNetworkInterfaces", most));
    let network = Xml::new()
        .text("maximumNetworkInterfaces", found.enis)
        .text("maximumNetworkCards", found.cards.len())
        .text("defaultNetworkCardIndex", 0)
        .list("networkCards", cards)
        .text("ipv4AddressesPerInterface", found.ipv4_per_eni)
        .text("ipv6AddressesPerInterface", found.ipv6_per_eni)
        .text("ipv6Supported", found.ipv6_per_eni > 0);
    Xml::new()
        .text("instanceType", found.name)
        .text("bareMetal", found.hypervisor.is_none())
        .maybe("hypervisor", found.hypervisor)
        .within("networkInfo", network)
}

fn vpc(vpc: &VpcRecord) -> Xml {
    Xml::new()
        .text("vpcId", &vpc.id)
        .text("ownerId", &vpc.owner)
        .text("state", "available")
        .maybe("cidrBlock", vpc.blocks.first().map(|block| block.cidr))
        .list("cidrBlockAssociationSet", vpc.blocks.iter().map(association))
        .list("ipv6CidrBlockAssociationSet", [])
        .text("instanceTenancy", "default")
        .text("isDefault", false)
        .list("tagSet", tags(&vpc.tags))
}

fn association(block: &CidrAssociation) -> Xml {
    Xml::new()
        .text("associationId", &block.id)
        .text("cidrBlock", block.cidr)
        .within("cidrBlockState", Xml::new().text("state", "associated"))
}

fn subnet(subnet: &Subnet) -> Xml {
    Xml::new()
        .text("subnetId", &subnet.id)
        .text("vpcId", &subnet.vpc)
        .text("ownerId", &subnet.owner)
        .text("state", "available")
        .text("cidrBlock", subnet.cidr)
        .text("availableIpAddressCount", subnet.available)
        .text("availabilityZone", &subnet.zone)
        .text("defaultForAz", false)
        .text("mapPublicIpOnLaunch", false)
        .list("ipv6CidrBlockAssociationSet", [])
        .list("tagSet", tags(&subnet.tags))
}

fn reservation(one: &SubnetReservation) -> Xml {
    Xml::new()
        .text("subnetCidrReservationId", &one.id)
        .text("subnetId", &one.subnet)
        .text("cidr", one.cidr)
        .text("reservationType", one.kind)
        .text("ownerId", &one.owner)
        .text("description", &one.description)
        .list("tagSet", tags(&one.tags))
}

fn security_group(group: &SecurityGroup) -> Xml {
    Xml::new()
        .text("groupId", &group.id)
        .text("groupName", &group.name)
        .text("groupDescription", &group.description)
        .text("vpcId", &group.vpc)
        .text("ownerId", &group.owner)
        .list("tagSet", tags(&group.tags))
}

fn group((id, name): &(String, String)) -> Xml {
    Xml::new().text("groupId", id).text("groupName", name)
}

fn tags(tags: &Tags) -> impl Iterator<Item = Xml> {
    tags.iter().map(|(key, value)| Xml::new().text("key", key).text("value", value))
}

fn state(state: InstanceState) -> Xml {
    let (code, name) = state.code_and_name();
    Xml::new().text("code", code).text("name", name)
}

fn done() -> Xml {
    Xml::new().text("return", true)
}

fn paged<T>(name: &str, page: &Page<T>, item: impl Fn(&T) -> Xml) -> Xml {
    Xml::new().list(name, page.items.iter().map(item)).maybe("nextToken", page.next_token.as_ref())
}

/// The name that Amazon's DNS gives an address: in the region of its zone.
pub(crate) fn dns_name(address: Ipv4Addr, zone: &str) -> String {
    let region = zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    format!("ip-{}.{region}.compute.internal", address.to_string().replace('.', "-"))
}
