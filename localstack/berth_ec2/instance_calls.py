"""The EC2 actions on instances and networks where moto's answer is not EC2's: made by moto, put right here."""

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from berth_ec2 import answers, filters, params, refusals
from berth_ec2.eni_calls import Answer, Call
from berth_ec2.launches import machine_of, primary_of
from berth_ec2.region import MotoInstance, limits_of

Original = Callable[[], Any]
"""moto's method for the same call. Its result is a structure of the API model, or an object with those names."""

PREFIX = "network-interface."
OWN = frozenset(
    "instance-id instance-state-name instance-type availability-zone vpc-id subnet-id private-ip-address image-id".split()
)
"""Filters of DescribeInstances that are answered here; moto has more."""


def run_instances(call: Call, original: Original) -> Any:
    limits_of(call.params.text("InstanceType") or "m1.small")
    region, count = call.region, call.params.count("MaxCount")
    if count == 0:
        raise refusals.invalid_value(count, "maxCount")

    def make() -> Any:
        before = set(region.backend.reservations)
        try:
            reservation = original()
        except Exception:
            # All or nothing: neither an instance nor an ENI is left.
            for one in set(region.backend.reservations) - before:
                for instance in region.backend.reservations.pop(one).instances:
                    _undo(call, instance)
            raise
        tags = params.tags_for("network-interface", call.params.items("TagSpecifications"))
        for instance in reservation.instances if tags else ():
            region.backend.create_tags([eni.id for eni in machine_of(instance).enis], tags)
        return reservation

    return call.once("RunInstances", make)


def describe_instances(call: Call, _: Original) -> Answer:
    """By instances, not by launches: a page is at most so many of them (documentation)."""
    region, ids, size = call.region, call.params.items("InstanceIds"), call.params.count("MaxResults")
    if ids and size is not None:
        raise refusals.ids_with_page_size("instancesSet")
    call.refuse_dry_run()
    for one in ids:
        region.machine(one)
    ours = {name: values for name, values in call.filters.items() if _is_ours(name)}
    theirs = {name: values for name, values in call.filters.items() if not _is_ours(name)}
    of_enis = {name.removeprefix(PREFIX): values for name, values in ours.items() if name.startswith(PREFIX)}
    filters.check(of_enis, answers.FILTERS)
    passing = _passing(call, theirs) if theirs else None
    found = []
    for reservation, instance in region.instances():
        asked = (not ids or instance.id in ids) and (passing is None or instance.id in passing)
        if asked and filters.matches(ours, region.tags(instance.id), _values_of(call, instance)):
            found.append((region.serial(instance.id), (reservation, instance)))
    page, token = filters.page(found, size, call.params.text("NextToken"))
    return {"Reservations": _by_reservation(page), "NextToken": token}


def delete_subnet(call: Call, original: Original) -> Any:
    """Not with an ENI in it (documentation)."""
    subnet = call.params.required("SubnetId")
    if any(eni.subnet.id == subnet for eni in call.region.world.enis.values()):
        raise refusals.subnet_in_use(subnet)
    return original()


def terminate_instances(call: Call, original: Original) -> Any:
    for one in call.params.items("InstanceIds"):
        call.region.machine(one)
    return original()


def create_tags(call: Call, original: Original) -> Any:
    _check_resources(call)
    return original()


def delete_tags(call: Call, original: Original) -> Any:
    _check_resources(call)
    return original()


def create_subnet_cidr_reservation(call: Call, original: Original) -> Any:
    made = original()
    # moto forgets both.
    made["SubnetCidrReservation"].description = call.params.text("Description") or ""
    tags = params.tags_for("subnet-cidr-reservation", call.params.items("TagSpecifications"))
    if tags:
        call.region.backend.create_tags([made["SubnetCidrReservation"].id], tags)
    return made


def paged(name: str, ids: str, identity: Callable[[Any], str]) -> Callable[[Call, Original], Answer]:
    """A describe call of which moto gives everything at once: by pages."""

    def action(call: Call, original: Original) -> Answer:
        size = call.params.count("MaxResults")
        if call.params.items(ids) and size is not None:
            raise refusals.ids_with_page_size(ids[0].lower() + ids[1:])
        whole: Mapping[str, Any] = original()
        found = [(call.region.serial(identity(one)), one) for one in whole[name]]
        page, token = filters.page(found, size, call.params.text("NextToken"))
        return dict(whole) | {name: page, "NextToken": token}

    return action


ACTIONS: Mapping[str, Callable[[Call, Original], Any]] = {
    "run_instances": run_instances,
    "describe_instances": describe_instances,
    "delete_subnet": delete_subnet,
    "terminate_instances": terminate_instances,
    "create_tags": create_tags,
    "delete_tags": delete_tags,
    "create_subnet_cidr_reservation": create_subnet_cidr_reservation,
    "describe_instance_types": paged("InstanceTypes", "InstanceTypes", lambda one: str(one["InstanceType"])),
    "describe_subnets": paged("Subnets", "SubnetIds", lambda one: str(one.id)),
    "describe_vpcs": paged("Vpcs", "VpcIds", lambda one: str(one.id)),
    "describe_security_groups": paged("SecurityGroups", "GroupIds", lambda one: str(one.id)),
}
"""By the names that moto has for its methods."""


def _passing(call: Call, filters: filters.Filters) -> set[str]:
    """Instances that pass filters which only moto knows."""
    try:
        found = call.region.backend.describe_instances(filters)
    except NotImplementedError:
        raise refusals.unknown_filter(", ".join(filters)) from None
    return {instance.id for reservation in found for instance in reservation.instances}


def _is_ours(name: str) -> bool:
    return name in OWN or name == "tag-key" or name.startswith((PREFIX, "tag:"))


def _values_of(call: Call, instance: MotoInstance) -> Callable[[str], Iterable[str]]:
    owner = call.region.owner

    def values(name: str) -> Iterable[str]:
        if name.startswith(PREFIX):
            of_enis = (answers.filter_values(eni, owner, name.removeprefix(PREFIX)) for eni in machine_of(instance).enis)
            return [value for values in of_enis for value in values]
        primary = primary_of(instance)
        return {
            "instance-id": [instance.id],
            "instance-state-name": [instance._state.name],
            "instance-type": [instance.instance_type],
            "availability-zone": [machine_of(instance).zone],
            "vpc-id": [instance.vpc_id],
            "subnet-id": [instance.subnet_id],
            "private-ip-address": [str(primary.primary())] if primary else [],
            "image-id": [instance.image_id],
        }[name]

    return values


def _by_reservation(page: list[tuple[Any, MotoInstance]]) -> list[Any]:
    """Each launch with those of its instances that are on the page."""
    found: dict[str, Any] = {}
    for reservation, instance in page:
        if reservation.id not in found:
            found[reservation.id] = copy.copy(reservation)
            found[reservation.id].instances = []
        found[reservation.id].instances.append(instance)
    return list(found.values())


def _undo(call: Call, instance: MotoInstance) -> None:
    machine = machine_of(instance)
    call.region.world.machines.pop(machine.id, None)
    for eni in list(machine.enis):
        call.region.world.drop(eni)


def _check_resources(call: Call) -> None:
    """moto takes any id of an ENI or an instance."""
    for resource in call.params.items("Resources"):
        if resource.startswith("eni-"):
            call.region.world.eni(resource)
        if resource.startswith("i-"):
            call.region.machine(resource)
