"""The EC2 actions on ENIs and their addresses: from parameters to answers. The rules are in `world` and `holdings`."""

from collections.abc import Callable, Mapping
from typing import Any

from berth_ec2 import answers, filters, holdings, params, refusals
from berth_ec2.enis import Eni
from berth_ec2.params import Params
from berth_ec2.region import Region
from berth_ec2.world import Place

Answer = dict[str, Any]


class Call:
    """One call: its region and its parameters."""

    def __init__(self, region: Region, parameters: Params, arguments: Mapping[str, Any], asked: filters.Filters):
        self.region, self.params, self.filters = region, parameters, asked
        self._arguments = arguments

    def once(self, action: str, make: Callable[[], filters.Item]) -> filters.Item:
        """What `make` gave when the call was first made with this client token."""
        arguments = {name: value for name, value in self._arguments.items() if name != "ClientToken"}
        return self.region.tokens.once(action, self.params.text("ClientToken"), arguments, make)

    def eni(self) -> Eni:
        return self.region.world.eni(self.params.required("NetworkInterfaceId"))

    def refuse_dry_run(self) -> None:
        """Last of all: what would be refused is refused in a dry run, too."""
        if self.params.flag("DryRun"):
            raise refusals.dry_run()


def create_network_interface(call: Call) -> Answer:
    region = call.region
    subnet = region.subnet(call.params.required("SubnetId"))
    wanted = params.new_eni(call.params)
    groups = region.groups(subnet.vpc, call.params.items("Groups"))
    call.refuse_dry_run()

    def make() -> str:
        eni = region.world.create(subnet, groups, wanted)
        tags = params.tags_for("network-interface", call.params.items("TagSpecifications"))
        if tags:
            region.backend.create_tags([eni.id], tags)
        return eni.id

    # Guess: a token whose ENI is gone meanwhile answers NotFound.
    eni = region.world.eni(call.once("CreateNetworkInterface", make))
    return {"NetworkInterface": region.described(eni), "ClientToken": call.params.text("ClientToken")}


def delete_network_interface(call: Call) -> None:
    eni = call.eni()
    call.refuse_dry_run()
    call.region.world.delete(eni)


def describe_network_interfaces(call: Call) -> Answer:
    region, ids, size = call.region, call.params.items("NetworkInterfaceIds"), call.params.count("MaxResults")
    filters.check(call.filters, answers.FILTERS)
    if ids and size is not None:
        raise refusals.ids_with_page_size("networkInterfaceIds")
    call.refuse_dry_run()
    asked = [region.world.eni(one) for one in ids] if ids else region.world.enis.values()
    found = [
        (eni.serial, eni)
        for eni in asked
        if filters.matches(call.filters, region.tags(eni.id), _values_of(eni, region.owner))
    ]
    page, token = filters.page(found, size, call.params.text("NextToken"))
    return {"NetworkInterfaces": [region.described(eni) for eni in page], "NextToken": token}


def describe_network_interface_attribute(call: Call) -> Answer:
    eni, attribute = call.eni(), call.params.required("Attribute")
    call.refuse_dry_run()
    described = call.region.described(eni)
    told = {
        "description": {"Description": {"Value": eni.description}},
        "groupSet": {"Groups": described["Groups"]},
        "sourceDestCheck": {"SourceDestCheck": {"Value": eni.source_dest_check}},
        "attachment": {"Attachment": described["Attachment"]},
    }
    if attribute not in told:
        raise refusals.invalid_value(attribute, "attribute")
    return {"NetworkInterfaceId": eni.id} | told[attribute]


def attach_network_interface(call: Call) -> Answer:
    eni, machine = call.eni(), call.region.machine(call.params.required("InstanceId"))
    index = call.params.count("DeviceIndex")
    if index is None:
        raise refusals.missing_parameter("DeviceIndex")
    place = Place(machine, card=call.params.count("NetworkCardIndex") or 0, index=index)
    call.refuse_dry_run()
    attachment = call.region.world.attach(eni, place)
    return {"AttachmentId": attachment.id, "NetworkCardIndex": attachment.card}


def detach_network_interface(call: Call) -> None:
    attachment = call.params.required("AttachmentId")
    call.refuse_dry_run()
    call.region.world.detach(attachment, force=call.params.flag("Force") or False)


def modify_network_interface_attribute(call: Call) -> None:
    """One attribute a call (documentation)."""
    eni, given = call.eni(), call.params
    groups, check, text = given.items("Groups"), given.flag("SourceDestCheck.Value"), given.text("Description.Value")
    attachment = given.raw("Attachment") or {}
    said = [bool(groups), check is not None, text is not None, bool(attachment)]
    if sum(said) > 1:
        raise refusals.invalid_combination("Fields for multiple attribute types specified")
    if not any(said):
        raise refusals.missing_parameter("attribute")
    call.refuse_dry_run()
    if groups:
        eni.groups = call.region.groups(eni.subnet.vpc, groups)
    if check is not None:
        eni.source_dest_check = check
    if text is not None:
        eni.description = text
    if attachment:
        _mark_for_deletion(eni, Params.within(attachment))


def assign_private_ip_addresses(call: Call) -> Answer:
    eni, region = call.eni(), call.region
    new = holdings.assign(
        eni,
        params.wanted(call.params),
        region.world.enis,
        region.world.settings(),
        reassign=call.params.flag("AllowReassignment") or False,
    )
    return {
        "NetworkInterfaceId": eni.id,
        "AssignedPrivateIpAddresses": [{"PrivateIpAddress": str(address)} for address in new.addresses],
        "AssignedIpv4Prefixes": [{"Ipv4Prefix": str(prefix)} for prefix in new.prefixes],
    }


def unassign_private_ip_addresses(call: Call) -> None:
    prefixes = params.ipv4_prefixes(call.params.items("Ipv4Prefixes"))
    holdings.unassign(call.eni(), params.ipv4_addresses(call.params), prefixes)


def assign_ipv6_addresses(call: Call) -> Answer:
    eni = call.eni()
    new = holdings.assign6(eni, params.wanted6(call.params))
    return {
        "NetworkInterfaceId": eni.id,
        "AssignedIpv6Addresses": [str(address) for address in new.addresses],
        "AssignedIpv6Prefixes": [str(prefix) for prefix in new.prefixes],
    }


def unassign_ipv6_addresses(call: Call) -> Answer:
    eni = call.eni()
    addresses, prefixes = params.ipv6_addresses(call.params), params.ipv6_prefixes(call.params)
    holdings.unassign6(eni, addresses, prefixes)
    return {
        "NetworkInterfaceId": eni.id,
        "UnassignedIpv6Addresses": [str(address) for address in addresses],
        "UnassignedIpv6Prefixes": [str(prefix) for prefix in prefixes],
    }


ACTIONS: Mapping[str, Callable[[Call], Answer | None]] = {
    function.__name__: function
    for function in (
        create_network_interface,
        delete_network_interface,
        describe_network_interfaces,
        describe_network_interface_attribute,
        attach_network_interface,
        detach_network_interface,
        modify_network_interface_attribute,
        assign_private_ip_addresses,
        unassign_private_ip_addresses,
        assign_ipv6_addresses,
        unassign_ipv6_addresses,
    )
}
"""By the names that moto has for its methods."""


def _values_of(eni: Eni, owner: str) -> Callable[[str], list[str]]:
    return lambda name: answers.filter_values(eni, owner, name)


def _mark_for_deletion(eni: Eni, given: Params) -> None:
    attachment, delete = given.required("AttachmentId"), given.flag("DeleteOnTermination")
    if delete is None:
        raise refusals.missing_parameter("deleteOnTermination")
    if eni.attachment is None or eni.attachment.id != attachment:
        raise refusals.no_attachment(attachment)
    eni.attachment.delete_on_termination = delete
