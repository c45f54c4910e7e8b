"""How EC2 describes ENIs: records into the structures of the API model, by its names. Changes nothing."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from berth_ec2.enis import Attachment, Eni
from berth_ec2.wanted import InterfaceType


def network_interface(eni: Eni, owner: str, region: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """As DescribeNetworkInterfaces and CreateNetworkInterface have it."""
    return _common(eni, owner, region) | {
        "AvailabilityZone": eni.subnet.zone,
        "RequesterManaged": False,
        "TagSet": [{"Key": key, "Value": value} for key, value in tags.items()],
        "Ipv6Address": str(eni.ipv6.addresses[0]) if eni.ipv6.addresses else None,
        "Attachment": attachment(eni.attachment, owner) if eni.attachment else None,
    }


def instance_network_interface(eni: Eni, owner: str, region: str) -> dict[str, Any]:
    """As DescribeInstances has it. Only of an ENI that is attached."""
    own = eni.attachment
    assert own is not None
    return _common(eni, owner, region) | {
        "Attachment": {
            "AttachmentId": own.id,
            "AttachTime": own.since,
            "DeleteOnTermination": own.delete_on_termination,
            "DeviceIndex": own.index,
            "NetworkCardIndex": own.card,
            "Status": own.status.value,
        },
    }


def attachment(own: Attachment, owner: str) -> dict[str, Any]:
    return {
        "AttachmentId": own.id,
        "AttachTime": own.since,
        "DeleteOnTermination": own.delete_on_termination,
        "DeviceIndex": own.index,
        "NetworkCardIndex": own.card,
        "InstanceId": own.machine.id,
        "InstanceOwnerId": owner,
        "Status": own.status.value,
    }


def dns_name(address: IPv4Address | None, region: str) -> str | None:
    if address is None:
        return None
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{str(address).replace('.', '-')}.{domain}"


def _common(eni: Eni, owner: str, region: str) -> dict[str, Any]:
    primary = eni.primary()
    return {
        "NetworkInterfaceId": eni.id,
        "InterfaceType": eni.interface_type.value,
        "Status": eni.status(),
        "SubnetId": eni.subnet.id,
        "VpcId": eni.subnet.vpc,
        "OwnerId": owner,
        "Description": eni.description,
        "MacAddress": eni.mac,
        "SourceDestCheck": eni.source_dest_check,
        "Groups": [{"GroupId": group.id, "GroupName": group.name} for group in eni.groups],
        "PrivateIpAddress": str(primary) if primary else None,
        "PrivateDnsName": dns_name(primary, region),
        "PrivateIpAddresses": [_address(eni, one, region) for one in eni.holding.addresses],
        "Ipv4Prefixes": [{"Ipv4Prefix": str(prefix)} for prefix in eni.holding.prefixes],
        "Ipv6Addresses": [{"Ipv6Address": str(address)} for address in eni.ipv6.addresses],
        "Ipv6Prefixes": [{"Ipv6Prefix": str(prefix)} for prefix in eni.ipv6.prefixes],
        "Association": _association(eni, owner) if eni.public_ip else None,
    }


def _address(eni: Eni, address: IPv4Address, region: str) -> dict[str, Any]:
    primary = address == eni.primary()
    return {
        "PrivateIpAddress": str(address),
        "PrivateDnsName": dns_name(address, region),
        "Primary": primary,
    }


def _association(eni: Eni, owner: str) -> dict[str, Any]:
    return {"PublicIp": eni.public_ip, "IpOwnerId": owner}


FILTERS = frozenset(
    """
    network-interface-id status description mac-address subnet-id vpc-id availability-zone group-id group-name
    interface-type owner-id private-ip-address addresses.private-ip-address addresses.primary source-dest-check
    requester-managed ipv6-addresses.ipv6-address attachment.instance-id attachment.attachment-id
    attachment.device-index attachment.network-card-index attachment.status attachment.delete-on-termination
    attachment.instance-owner-id
    """.split()
)
"""Filters of DescribeNetworkInterfaces, also behind `network-interface.` in DescribeInstances."""


def filter_values(eni: Eni, owner: str, name: str) -> list[str]:
    """What an ENI has under the name of a filter."""
    if name.startswith("attachment."):
        return _attachment_values(eni.attachment, owner, name) if eni.attachment else []
    addresses = [str(address) for address in eni.holding.addresses]
    return {
        "network-interface-id": [eni.id],
        "status": [eni.status()],
        "description": [eni.description],
        "mac-address": [eni.mac],
        "subnet-id": [eni.subnet.id],
        "vpc-id": [eni.subnet.vpc],
        "availability-zone": [eni.subnet.zone],
        "group-id": [group.id for group in eni.groups],
        "group-name": [group.name for group in eni.groups],
        "interface-type": [eni.interface_type.value],
        "owner-id": [owner],
        "private-ip-address": addresses,
        "addresses.private-ip-address": addresses,
        "addresses.primary": ["true", "false"][: len(addresses)],
        "source-dest-check": [_lower(eni.source_dest_check)],
        "requester-managed": ["false"],
        "ipv6-addresses.ipv6-address": [str(address) for address in eni.ipv6.addresses],
    }[name]


def _attachment_values(own: Attachment, owner: str, name: str) -> list[str]:
    return [
        {
            "attachment.instance-id": own.machine.id,
            "attachment.attachment-id": own.id,
            "attachment.device-index": str(own.index),
            "attachment.network-card-index": str(own.card),
            "attachment.status": own.status.value,
            "attachment.delete-on-termination": _lower(own.delete_on_termination),
            "attachment.instance-owner-id": owner,
        }[name]
    ]


def _lower(value: bool) -> str:
    return str(value).lower()


def truth(eni: Eni, tags: Mapping[str, str]) -> dict[str, Any]:
    """As the admin listener has it: what is, not what EC2 tells."""
    own = eni.attachment
    return {
        "id": eni.id,
        "mac": eni.mac,
        "vpc": eni.subnet.vpc,
        "subnet": eni.subnet.id,
        "zone": eni.subnet.zone,
        "primary": str(eni.primary()) if eni.primary() else None,
        "secondary": [str(address) for address in eni.holding.addresses[1:]],
        "prefixes": [str(prefix) for prefix in eni.holding.prefixes],
        "ipv6_addresses": [str(address) for address in eni.ipv6.addresses],
        "ipv6_prefixes": [str(prefix) for prefix in eni.ipv6.prefixes],
        "groups": [group.id for group in eni.groups],
        "description": eni.description,
        "tags": dict(tags),
        "interface_type": eni.interface_type.value,
        "source_dest_check": eni.source_dest_check,
        "status": eni.status(),
        "attachment": {
            "id": own.id,
            "instance": own.machine.id,
            "device": own.index,
            "card": own.card,
            "status": own.status.value,
            # An EFA-only ENI never has a link.
            "plugged": own.plugged and eni.interface_type is not InterfaceType.EFA_ONLY,
            "delete_on_termination": own.delete_on_termination,
        }
        if own
        else None,
    }
