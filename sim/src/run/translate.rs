//! The pool's calls as EC2's requests, and EC2's answers as the pool's.
//!
//! Owns the translation, as the adapter to the real EC2 has it. Never decides anything: what an error means is [`cloud::kind`]'s to say.

use cloud::{Action, Answer, Call, Error, Kind};
use ipnet::Ipv4Net;
use pool::{Ask, DeviceIndex, InterfaceKind, Mac, Prefix, SeenAttachment, SeenEni, SeenSubnet};

use crate::{
    Fault, Request, Response,
    requests::{CreateNetworkInterface, Describe, EniAttribute, Filter, InterfaceType, NewEni, Wanted},
    responses::{AttachmentStatus, InstanceState, NetworkInterface},
};

/// The request of a call.
pub(crate) fn request(call: &Call) -> Request {
    match call {
        Call::CreateEni { token, subnet, groups, ask, description, tags } => {
            Request::CreateNetworkInterface(CreateNetworkInterface {
                eni: NewEni {
                    subnet: subnet.to_string(),
                    secondary: wanted(*ask),
                    groups: groups.iter().map(ToString::to_string).collect(),
                    description: description.clone(),
                    ..NewEni::default()
                },
                tags: tags.clone(),
                client_token: Some(token.to_string()),
            })
        }
        Call::Attach { eni, instance, device } => Request::AttachNetworkInterface {
            eni: eni.to_string(),
            instance: instance.to_string(),
            device_index: device.0,
            card: 0,
        },
        Call::Protect { eni, attachment } => Request::ModifyNetworkInterfaceAttribute {
            eni: eni.to_string(),
            attribute: EniAttribute::DeleteOnTermination { attachment: attachment.to_string(), delete: true },
        },
        Call::SetGroups { eni, groups } => Request::ModifyNetworkInterfaceAttribute {
            eni: eni.to_string(),
            attribute: EniAttribute::Groups(groups.iter().map(ToString::to_string).collect()),
        },
        Call::Assign { eni, ask } => {
            Request::AssignPrivateIpAddresses { eni: eni.to_string(), wanted: wanted(*ask), allow_reassignment: false }
        }
        Call::Unassign { eni, addresses, prefixes } => Request::UnassignPrivateIpAddresses {
            eni: eni.to_string(),
            addresses: addresses.clone(),
            prefixes: prefixes.iter().map(|prefix| net(*prefix)).collect(),
        },
        Call::Tag { eni, tags } => Request::CreateTags { resources: vec![eni.to_string()], tags: tags.clone() },
        Call::Detach { attachment, .. } => {
            Request::DetachNetworkInterface { attachment: attachment.to_string(), force: false }
        }
        Call::Delete { eni } => Request::DeleteNetworkInterface { eni: eni.to_string() },
        Call::Describe { eni } => Request::DescribeNetworkInterfaces(Describe::one(eni.as_str())),
        Call::Discover { instance } => {
            Request::DescribeNetworkInterfaces(Describe::matching("attachment.instance-id", instance.as_str()))
        }
        Call::Subnets { vpc, zone } => {
            let filters = vec![filter("vpc-id", vpc.as_str()), filter("availability-zone", zone)];
            Request::DescribeSubnets(Describe { filters, ..Describe::default() })
        }
        Call::Leaked { vpc, cluster } => {
            let mut filters = vec![
                filter("tag-key", "node.k8s.amazonaws.com/instance_id"),
                filter("status", "available"),
                filter("vpc-id", vpc.as_str()),
            ];
            filters.extend(cluster.iter().map(|cluster| filter("tag:cluster.k8s.amazonaws.com/name", cluster)));
            Request::DescribeNetworkInterfaces(Describe { filters, ..Describe::default() })
        }
        Call::Instances { instances } => {
            let values = instances.iter().map(ToString::to_string).collect();
            let filters = vec![Filter { name: "instance-id".to_owned(), values }];
            Request::DescribeInstances(Describe { filters, ..Describe::default() })
        }
    }
}

/// The answer to a call.
pub(crate) fn answer(call: &Call, response: Response) -> Answer {
    match (call, response) {
        (_, Response::CreateNetworkInterface { eni, .. }) => Answer::Created(seen(&eni)),
        (_, Response::AttachNetworkInterface { attachment, .. }) => Answer::Attached(attachment.into()),
        (_, Response::AssignPrivateIpAddresses { addresses, prefixes, .. }) => {
            Answer::Assigned { addresses, prefixes: prefixes.into_iter().filter_map(prefix).collect() }
        }
        (Call::Describe { .. }, Response::DescribeNetworkInterfaces(page)) => {
            Answer::Described(page.items.first().map(seen))
        }
        (Call::Discover { .. }, Response::DescribeNetworkInterfaces(page)) => {
            Answer::Discovered(page.items.iter().map(seen).collect())
        }
        (_, Response::DescribeNetworkInterfaces(page)) => Answer::Leaked(page.items.iter().map(seen).collect()),
        (_, Response::DescribeSubnets(page)) => Answer::Subnets(
            page.items
                .into_iter()
                .map(|subnet| SeenSubnet { id: subnet.id.into(), free: subnet.available, tags: subnet.tags })
                .collect(),
        ),
        (_, Response::DescribeInstances(page)) => {
            let instances = page.items.into_iter().flat_map(|reservation| reservation.instances);
            let there = instances.filter(|instance| instance.state < InstanceState::ShuttingDown);
            Answer::Instances(there.map(|instance| instance.id.into()).collect())
        }
        _ => Answer::Done,
    }
}

/// EC2's refusal of a call. That an ENI is not there is an answer to whoever asked for it by id.
pub(crate) fn refusal(call: &Call, fault: &Fault) -> Result<Answer, Error> {
    let error = error(call.action(), fault);
    match call {
        Call::Describe { .. } if error.kind == Kind::Gone => Ok(Answer::Described(None)),
        _ => Err(error),
    }
}

fn error(action: Action, fault: &Fault) -> Error {
    Error {
        action,
        kind: cloud::kind(action, &fault.code, &fault.message),
        code: fault.code.clone().into_owned(),
        message: fault.message.clone(),
    }
}

fn wanted(ask: Ask) -> Wanted {
    match ask {
        Ask::Addresses(0) | Ask::Prefixes(0) => Wanted::Nothing,
        Ask::Addresses(count) => Wanted::Count(count),
        Ask::Prefixes(count) => Wanted::Prefixes(count),
    }
}

fn filter(name: &str, value: &str) -> Filter {
    Filter { name: name.to_owned(), values: vec![value.to_owned()] }
}

fn net(prefix: Prefix) -> Ipv4Net {
    Ipv4Net::new(prefix.first(), 28).expect("28 is a prefix length")
}

fn prefix(net: Ipv4Net) -> Option<Prefix> {
    Prefix::new(net.network())
}

/// An ENI as the pool sees it.
fn seen(eni: &NetworkInterface) -> SeenEni {
    let mut addresses = eni.addresses.iter().copied();
    SeenEni {
        id: eni.id.as_str().into(),
        mac: Mac(eni.mac.0),
        subnet: eni.subnet.as_str().into(),
        primary: addresses.next().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
        secondary: addresses.collect(),
        prefixes: eni.prefixes.iter().copied().filter_map(prefix).collect(),
        description: eni.description.clone(),
        tags: eni.tags.clone(),
        groups: eni.groups.iter().map(|(id, _)| id.as_str().into()).collect(),
        kind: match eni.interface_type {
            InterfaceType::Trunk => InterfaceKind::Trunk,
            InterfaceType::EfaOnly => InterfaceKind::EfaOnly,
            _ => InterfaceKind::Interface,
        },
        attachment: eni.attachment.as_ref().map(|attachment| SeenAttachment {
            id: attachment.id.as_str().into(),
            instance: Some(attachment.instance.as_str().into()),
            device: DeviceIndex(attachment.device_index),
            card: attachment.card,
            attached: attachment.status != AttachmentStatus::Detaching,
            delete_on_termination: attachment.delete_on_termination,
        }),
    }
}
