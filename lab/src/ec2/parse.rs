//! Query parameters into requests of the model, once, here.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sim::{
    Action, Fault, Request,
    requests::{
        CreateNetworkInterface, CreateSubnet, Describe, EniAttribute, Filter, InterfaceType, LaunchEni,
        LaunchInterface, NewEni, NewReservation, ReservationKind, RunInstances, Tags, Wanted,
    },
};

use super::params::Params;

/// The request that these parameters make, or why they make none.
pub(super) fn request(params: &Params) -> Result<Request, Fault> {
    let name = params.required("Action")?;
    let action: Action = name.parse().map_err(|_| Fault::invalid_action(name))?;
    params.ignore("Version");
    let dry_run = params.flag("DryRun")?.unwrap_or(false);
    let request = of_action(action, params)?;
    params.finish()?;
    if dry_run { Err(Fault::dry_run()) } else { Ok(request) }
}

fn of_action(action: Action, params: &Params) -> Result<Request, Fault> {
    let own = |name: &str| params.required(name).map(str::to_owned);
    Ok(match action {
        Action::RunInstances => Request::RunInstances(run_instances(params)?),
        Action::DescribeInstances => Request::DescribeInstances(describe(params, "InstanceId")?),
        Action::TerminateInstances => Request::TerminateInstances { instances: some(params, "InstanceId")? },
        Action::DescribeInstanceTypes => Request::DescribeInstanceTypes(describe(params, "InstanceType")?),
        Action::CreateVpc => {
            refuse(params, &["AmazonProvidedIpv6CidrBlock", "Ipv6CidrBlock", "Ipv4IpamPoolId"])?;
            params.ignore("InstanceTenancy");
            Request::CreateVpc { cidr: cidr(params, "CidrBlock")?, tags: tags(params, "vpc")? }
        }
        Action::AssociateVpcCidrBlock => {
            refuse(params, &["AmazonProvidedIpv6CidrBlock", "Ipv6CidrBlock"])?;
            Request::AssociateVpcCidrBlock { vpc: own("VpcId")?, cidr: cidr(params, "CidrBlock")? }
        }
        Action::DescribeVpcs => Request::DescribeVpcs(describe(params, "VpcId")?),
        Action::CreateSubnet => {
            refuse(params, &["Ipv6CidrBlock", "Ipv6Native"])?;
            Request::CreateSubnet(CreateSubnet {
                vpc: own("VpcId")?,
                cidr: cidr(params, "CidrBlock")?,
                zone: params.text("AvailabilityZone").map(str::to_owned),
                tags: tags(params, "subnet")?,
            })
        }
        Action::DescribeSubnets => Request::DescribeSubnets(describe(params, "SubnetId")?),
        Action::CreateSubnetCidrReservation => Request::CreateSubnetCidrReservation(reservation(params)?),
        Action::GetSubnetCidrReservations => Request::GetSubnetCidrReservations {
            subnet: own("SubnetId")?,
            describe: Describe { ids: Vec::new(), ..describe(params, "")? },
        },
        Action::DeleteSubnetCidrReservation => {
            Request::DeleteSubnetCidrReservation { reservation: own("SubnetCidrReservationId")? }
        }
        Action::CreateSecurityGroup => Request::CreateSecurityGroup {
            name: own("GroupName")?,
            description: own("GroupDescription")?,
            vpc: own("VpcId")?,
            tags: tags(params, "security-group")?,
        },
        Action::DescribeSecurityGroups => Request::DescribeSecurityGroups(describe(params, "GroupId")?),
        Action::CreateNetworkInterface => Request::CreateNetworkInterface(CreateNetworkInterface {
            eni: NewEni { subnet: own("SubnetId")?, ..new_eni(params, "")? },
            tags: tags(params, "network-interface")?,
            client_token: params.text("ClientToken").map(str::to_owned),
        }),
        Action::DescribeNetworkInterfaces => {
            Request::DescribeNetworkInterfaces(describe(params, "NetworkInterfaceId")?)
        }
        Action::AttachNetworkInterface => {
            refuse(params, &["EnaSrdSpecification", "EnaQueueCount"])?;
            Request::AttachNetworkInterface {
                eni: own("NetworkInterfaceId")?,
                instance: own("InstanceId")?,
                device_index: params.parsed("DeviceIndex")?.ok_or_else(|| Fault::missing_parameter("DeviceIndex"))?,
                card: params.parsed("NetworkCardIndex")?.unwrap_or(0),
            }
        }
        Action::DetachNetworkInterface => Request::DetachNetworkInterface {
            attachment: own("AttachmentId")?,
            force: params.flag("Force")?.unwrap_or(false),
        },
        Action::DeleteNetworkInterface => Request::DeleteNetworkInterface { eni: own("NetworkInterfaceId")? },
        Action::ModifyNetworkInterfaceAttribute => {
            Request::ModifyNetworkInterfaceAttribute { eni: own("NetworkInterfaceId")?, attribute: attribute(params)? }
        }
        Action::AssignPrivateIpAddresses => {
            let asked = Asked {
                count: params.parsed("SecondaryPrivateIpAddressCount")?,
                listed: params.values("PrivateIpAddress")?,
                prefix_count: params.parsed("Ipv4PrefixCount")?,
                prefixes: params.values("Ipv4Prefix")?,
            };
            Request::AssignPrivateIpAddresses {
                eni: own("NetworkInterfaceId")?,
                wanted: asked.wanted()?,
                allow_reassignment: params.flag("AllowReassignment")?.unwrap_or(false),
            }
        }
        Action::UnassignPrivateIpAddresses => Request::UnassignPrivateIpAddresses {
            eni: own("NetworkInterfaceId")?,
            addresses: params.values("PrivateIpAddress")?,
            prefixes: params.values("Ipv4Prefix")?,
        },
        Action::CreateTags => {
            let pairs = tag_list(params, "Tag")?;
            Request::CreateTags {
                resources: some(params, "ResourceId")?,
                tags: pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
            }
        }
        Action::DeleteTags => {
            Request::DeleteTags { resources: some(params, "ResourceId")?, tags: tag_list(params, "Tag")? }
        }
    })
}

fn run_instances(params: &Params) -> Result<RunInstances, Fault> {
    // What a machine is made of does not matter to a network.
    for name in [
        "KeyName",
        "UserData",
        "EbsOptimized",
        "Monitoring",
        "MetadataOptions",
        "BlockDeviceMapping",
        "InstanceInitiatedShutdownBehavior",
        "DisableApiTermination",
        "MinCount",
    ] {
        params.ignore(name);
    }
    let profile = match (params.text("IamInstanceProfile.Arn"), params.text("IamInstanceProfile.Name")) {
        (Some(arn), _) => Some(arn.to_owned()),
        (None, Some(name)) => Some(format!("arn:aws:iam::123456789012:instance-profile/{name}")),
        (None, None) => None,
    };
    let members = params.members("NetworkInterface");
    let interfaces = if members.is_empty() {
        vec![LaunchInterface {
            device_index: 0,
            card: 0,
            eni: LaunchEni::New(NewEni { subnet: params.required("SubnetId")?.to_owned(), ..new_eni(params, "")? }),
            delete_on_termination: None,
        }]
    } else {
        members.iter().map(|prefix| launch_interface(params, prefix)).collect::<Result<_, _>>()?
    };
    Ok(RunInstances {
        count: params.parsed("MaxCount")?.ok_or_else(|| Fault::missing_parameter("MaxCount"))?,
        // EC2's default (documentation).
        instance_type: params.text("InstanceType").unwrap_or("m1.small").to_owned(),
        image: params.required("ImageId")?.to_owned(),
        profile,
        interfaces,
        tags: tags_of(params, "instance", &["instance", "network-interface", "volume"])?,
        eni_tags: tags_of(params, "network-interface", &["instance", "network-interface", "volume"])?,
        client_token: params.text("ClientToken").map(str::to_owned),
    })
}

fn launch_interface(params: &Params, prefix: &str) -> Result<LaunchInterface, Fault> {
    let at = |name: &str| format!("{prefix}{name}");
    refuse(params, &[&at("AssociatePublicIpAddress"), &at("AssociateCarrierIpAddress")])?;
    let eni = match params.text(&at("NetworkInterfaceId")) {
        Some(id) => LaunchEni::Existing(id.to_owned()),
        None => {
            LaunchEni::New(NewEni { subnet: params.required(&at("SubnetId"))?.to_owned(), ..new_eni(params, prefix)? })
        }
    };
    Ok(LaunchInterface {
        device_index: params.parsed(&at("DeviceIndex"))?.ok_or_else(|| Fault::missing_parameter(&at("DeviceIndex")))?,
        card: params.parsed(&at("NetworkCardIndex"))?.unwrap_or(0),
        eni,
        delete_on_termination: params.flag(&at("DeleteOnTermination"))?,
    })
}

/// Everything about a new ENI but its subnet.
fn new_eni(params: &Params, prefix: &str) -> Result<NewEni, Fault> {
    let at = |name: &str| format!("{prefix}{name}");
    refuse(
        params,
        &[
            &at("Ipv6Addresses"),
            &at("Ipv6AddressCount"),
            &at("Ipv6Prefix"),
            &at("Ipv6PrefixCount"),
            &at("EnablePrimaryIpv6"),
            &at("PrimaryIpv6"),
        ],
    )?;
    let mut primary = params.parsed(&at("PrivateIpAddress"))?;
    let mut listed: Vec<Ipv4Addr> = Vec::new();
    for member in params.members(&at("PrivateIpAddresses")) {
        let name = format!("{member}PrivateIpAddress");
        let address = params.parsed(&name)?.ok_or_else(|| Fault::missing_parameter(&name))?;
        if !params.flag(&format!("{member}Primary"))?.unwrap_or(false) {
            listed.push(address);
        } else if primary.replace(address).is_some_and(|other| other != address) {
            return Err(Fault::invalid_combination("Only one primary private IP address can be specified"));
        }
    }
    let asked = Asked {
        count: params.parsed(&at("SecondaryPrivateIpAddressCount"))?,
        listed,
        prefix_count: params.parsed(&at("Ipv4PrefixCount"))?,
        prefixes: params.values_below(&at("Ipv4Prefix"), "Ipv4Prefix")?,
    };
    Ok(NewEni {
        interface_type: interface_type(params, &at("InterfaceType"))?,
        subnet: String::new(),
        primary,
        secondary: asked.wanted()?,
        groups: params.list(&at("SecurityGroupId")),
        description: params.text(&at("Description")).unwrap_or_default().to_owned(),
    })
}

/// What a call asks for besides a primary address.
struct Asked {
    count: Option<u32>,
    listed: Vec<Ipv4Addr>,
    prefix_count: Option<u32>,
    prefixes: Vec<Ipv4Net>,
}

impl Asked {
    /// One of the four at most (documentation); a count of none is no count.
    fn wanted(self) -> Result<Wanted, Fault> {
        let both = |one: &str, other: &str| {
            Err(Fault::invalid_combination(format!("The parameters {one} and {other} may not both be specified")))
        };
        if self.count.is_some() && !self.listed.is_empty() {
            return both("privateIpAddresses", "secondaryPrivateIpAddressCount");
        }
        if self.prefix_count.is_some() && !self.prefixes.is_empty() {
            return both("ipv4Prefixes", "ipv4PrefixCount");
        }
        let addresses = match self.count {
            Some(0) | None => Wanted::These(self.listed),
            Some(count) => Wanted::Count(count),
        };
        let prefixes = match self.prefix_count {
            Some(0) | None => Wanted::ThesePrefixes(self.prefixes),
            Some(count) => Wanted::Prefixes(count),
        };
        let nothing = |wanted: &Wanted| match wanted {
            Wanted::These(list) => list.is_empty(),
            Wanted::ThesePrefixes(list) => list.is_empty(),
            _ => false,
        };
        match (nothing(&addresses), nothing(&prefixes)) {
            (true, true) => Ok(Wanted::Nothing),
            (false, true) => Ok(addresses),
            (true, false) => Ok(prefixes),
            (false, false) => both("an IPv4 prefix option", "a private IPv4 address option"),
        }
    }
}

/// One attribute a call (documentation).
fn attribute(params: &Params) -> Result<EniAttribute, Fault> {
    refuse(params, &["EnaSrdSpecification", "EnablePrimaryIpv6", "ConnectionTrackingSpecification"])?;
    let groups = params.list("SecurityGroupId");
    let check = params.flag("SourceDestCheck.Value")?;
    let description = params.text("Description.Value");
    let attachment = params.text("Attachment.AttachmentId");
    let delete = params.flag("Attachment.DeleteOnTermination")?;
    let mut found = Vec::new();
    if !groups.is_empty() {
        found.push(EniAttribute::Groups(groups));
    }
    found.extend(check.map(EniAttribute::SourceDestCheck));
    found.extend(description.map(|text| EniAttribute::Description(text.to_owned())));
    match (attachment, delete) {
        (Some(id), Some(delete)) => {
            found.push(EniAttribute::DeleteOnTermination { attachment: id.to_owned(), delete });
        }
        (None, Some(_)) => return Err(Fault::missing_parameter("attachmentId")),
        (Some(_), None) => return Err(Fault::missing_parameter("deleteOnTermination")),
        (None, None) => {}
    }
    let one = found.pop().ok_or_else(|| Fault::missing_parameter("attribute"))?;
    if found.is_empty() {
        Ok(one)
    } else {
        Err(Fault::invalid_combination("Fields for multiple attribute types specified"))
    }
}

fn describe(params: &Params, ids: &str) -> Result<Describe, Fault> {
    let mut filters = Vec::new();
    for member in params.members("Filter") {
        let name = params.required(&format!("{member}Name"))?.to_owned();
        filters.push(Filter { name, values: params.list(&format!("{member}Value")) });
    }
    Ok(Describe {
        ids: params.list(ids),
        filters,
        max_results: params.parsed("MaxResults")?,
        next_token: params.text("NextToken").map(str::to_owned),
    })
}

fn tags(params: &Params, kind: &str) -> Result<Tags, Fault> {
    tags_of(params, kind, &[kind])
}

/// The tags for one kind of resource, of a call that makes `kinds`.
fn tags_of(params: &Params, kind: &str, kinds: &[&str]) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for member in params.members("TagSpecification") {
        let of = params.required(&format!("{member}ResourceType"))?;
        if !kinds.contains(&of) {
            return Err(Fault::new(
                "InvalidParameterValue",
                format!("'{of}' is not a valid taggable resource type for this operation."),
            ));
        }
        let pairs = tag_list(params, &format!("{member}Tag"))?;
        if of == kind {
            tags.extend(pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())));
        }
    }
    Ok(tags)
}

fn tag_list(params: &Params, name: &str) -> Result<Vec<(String, Option<String>)>, Fault> {
    let mut pairs = Vec::new();
    for member in params.members(name) {
        let key = params.required(&format!("{member}Key"))?.to_owned();
        pairs.push((key, params.text(&format!("{member}Value")).map(str::to_owned)));
    }
    Ok(pairs)
}

fn some(params: &Params, name: &str) -> Result<Vec<String>, Fault> {
    let list = params.list(name);
    if list.is_empty() { Err(Fault::missing_parameter(name)) } else { Ok(list) }
}

fn cidr(params: &Params, name: &str) -> Result<Ipv4Net, Fault> {
    params.parsed(name)?.ok_or_else(|| Fault::missing_parameter(name))
}

fn interface_type(params: &Params, name: &str) -> Result<InterfaceType, Fault> {
    Ok(match params.text(name) {
        None | Some("interface") => InterfaceType::Interface,
        Some("efa") => InterfaceType::Efa,
        Some("efa-only") => InterfaceType::EfaOnly,
        Some("trunk") => InterfaceType::Trunk,
        Some(other) => return Err(Fault::invalid_value(other, name)),
    })
}

fn reservation(params: &Params) -> Result<NewReservation, Fault> {
    let kind = match params.required("ReservationType")? {
        "prefix" => ReservationKind::Prefix,
        "explicit" => ReservationKind::Explicit,
        other => return Err(Fault::invalid_value(other, "ReservationType")),
    };
    Ok(NewReservation {
        subnet: params.required("SubnetId")?.to_owned(),
        cidr: cidr(params, "Cidr")?,
        kind,
        description: params.text("Description").unwrap_or_default().to_owned(),
        tags: tags(params, "subnet-cidr-reservation")?,
    })
}

/// Parameters that ask for what the model does not have yet. Their empty values (0, false) ask for nothing.
fn refuse(params: &Params, names: &[&str]) -> Result<(), Fault> {
    for name in names {
        if params.asks_for(name) {
            return Err(Fault::unsupported(&format!("The parameter {name}")));
        }
        params.ignore(name);
    }
    Ok(())
}
