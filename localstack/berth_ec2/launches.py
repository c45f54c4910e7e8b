"""Instances: moto's, with ENIs of ours, and with states that take time. Knows no call."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moto.ec2.models.instances import Instance, InstanceState

from berth_ec2 import answers, params, refusals
from berth_ec2.enis import Eni, Group, Machine
from berth_ec2.params import Params
from berth_ec2.region import MotoInstance, Region, limits_of, record_of, region_of
from berth_ec2.world import Place


def machine_of(instance: MotoInstance) -> Machine:
    machine: Machine = instance._berth
    return machine


def primary_of(instance: MotoInstance) -> Eni | None:
    return machine_of(instance).primary()


def prep_nics(
    instance: MotoInstance,
    nic_spec: Sequence[Mapping[str, Any]],
    private_ip: str | None = None,
    associate_public_ip: bool | None = None,  # noqa: ARG001 -- moto's signature
    security_groups: Sequence[Any] | None = None,
    ipv6_address_count: int | None = None,
) -> None:
    """What moto calls at the end of making an instance, by this name and with these parameters. Nobody gets a public
    address: the model has none. All or nothing."""
    region = region_of(instance.ec2_backend)
    whole = {"DeviceIndex": 0, "PrivateIpAddress": private_ip, "Ipv6AddressCount": ipv6_address_count}
    specifications = [Params.within(one) for one in nic_spec or [whole]]
    first = specifications[0]
    if (first.count("DeviceIndex"), first.count("NetworkCardIndex") or 0) != (0, 0):
        raise refusals.invalid_value(first.text("DeviceIndex"), "deviceIndex")
    subnet = _first_subnet(instance, region, first)
    groups = [str(group.id) for group in security_groups or ()]
    # moto starts with `running`; whoever describes the instance sees the states of ours.
    instance._state = InstanceState("pending", 0)
    machine = Machine(instance.id, limits_of(instance.instance_type), "", instance._state, region.world.timeline.now())
    instance._berth = machine
    instance._subnet_id, machine.zone = subnet, region.subnet(subnet).zone
    instance._placement.zone = machine.zone
    made: list[Eni] = []
    try:
        for one in specifications:
            _take(region, machine, one, subnet, groups, made)
    except Exception:
        for eni in made:
            region.world.drop(eni)
        for eni in machine.enis:
            eni.attachment = None
        raise
    region.world.launch(machine)


def terminate(original: Callable[[MotoInstance], Any]) -> Callable[[MotoInstance], Any]:
    """moto's terminate, which knows nothing of ENIs any more and takes its time."""

    def method(instance: MotoInstance) -> Any:
        before, machine = copy.copy(instance._state), machine_of(instance)
        if not machine.is_over():
            original(instance)
            instance._state.name, instance._state.code = before.name, before.code
            region_of(instance.ec2_backend).world.terminate(machine)
        return before

    return method


def network_interfaces(instance: MotoInstance) -> list[dict[str, Any]]:
    region = region_of(instance.ec2_backend)
    enis = machine_of(instance).by_place()
    return [answers.instance_network_interface(eni, region.owner, region.name) for eni in enis]


def install() -> None:
    """Puts all of this in moto's place."""

    def of_primary(of: Callable[[Eni], Any]) -> property:
        return property(lambda instance: of(eni) if (eni := primary_of(instance)) else None)

    Instance.prep_nics = prep_nics
    Instance.terminate = terminate(Instance.terminate)
    Instance.network_interfaces = property(network_interfaces)
    Instance.security_groups = property(_groups, _set_groups)
    # What moto's other parts read; they stop and start instances, too.
    Instance.nics = property(lambda instance: {0: nic_of(instance)} if primary_of(instance) else {})
    Instance.private_ip = Instance.private_ip_address = of_primary(lambda eni: str(eni.primary()))
    Instance.public_ip = Instance.public_ip_address = of_primary(lambda eni: eni.public_ip)
    Instance.private_dns_name = property(_private_dns_name)
    # moto gives addresses back when an instance is forgotten. The world knows better when.
    del Instance.__del__


class Nic:
    """An ENI as moto's elastic addresses, NAT gateways and instances want it."""

    def __init__(self, region: Region, eni: Eni):
        self._eni = eni
        self.id, self.ec2_backend = eni.id, region.backend
        self.private_ip_address = str(eni.primary()) if eni.primary() else None
        self.subnet = region.backend.get_subnet(eni.subnet.id)
        self.delete_on_termination = False
        own = eni.attachment
        self.instance = region.backend.get_instance_by_id(own.machine.id) if own else None

    @property
    def public_ip(self) -> str | None:
        return self._eni.public_ip

    @public_ip.setter
    def public_ip(self, address: str | None) -> None:
        self._eni.public_ip = address

    def start(self) -> None:
        """Nothing starts here."""

    def stop(self) -> None:
        """Nothing stops here."""

    def check_auto_public_ip(self) -> None:
        """Nobody gets a public address unasked."""


def nic_of(instance: MotoInstance) -> Nic:
    primary = primary_of(instance)
    assert primary is not None
    return Nic(region_of(instance.ec2_backend), primary)


def _first_subnet(instance: MotoInstance, region: Region, first: Params) -> str:
    """The subnet that the instance is in: that of its primary ENI."""
    existing = first.text("NetworkInterfaceId")
    if existing:
        return region.world.eni(existing).subnet.id
    named = first.text("SubnetId") or instance._subnet_id
    if named:
        return str(named)
    default = region.backend.get_default_subnets().get(instance._placement.zone)
    if default is None:
        raise refusals.missing_parameter("SubnetId")
    return record_of(default).id


def _take(
    region: Region, machine: Machine, one: Params, default_subnet: str, default_groups: list[str], made: list[Eni]
) -> None:
    """One ENI of a launch, made or taken, to its place."""
    index = one.count("DeviceIndex")
    if index is None:
        raise refusals.missing_parameter("NetworkInterface.DeviceIndex")
    existing = one.text("NetworkInterfaceId")
    if existing:
        eni = region.world.eni(existing)
    else:
        subnet = region.subnet(one.text("SubnetId") or default_subnet)
        groups: list[Group] = region.groups(subnet.vpc, one.items("Groups") or default_groups)
        eni = region.world.create(subnet, groups, params.new_eni(one))
        made.append(eni)
    place = Place(machine, card=one.count("NetworkCardIndex") or 0, index=index)
    marked = one.flag("DeleteOnTermination")
    # True by default for what the launch makes (documentation).
    region.world.attach_at_launch(eni, place, delete_on_termination=not existing if marked is None else marked)


def _groups(instance: MotoInstance) -> list[Any]:
    """An instance's groups are those of its primary ENI (documentation)."""
    primary = primary_of(instance) if "_berth" in instance.__dict__ else None
    if primary is None:
        groups: list[Any] = instance._berth_groups
        return groups
    return [instance.ec2_backend.get_security_group_from_id(group.id) for group in primary.groups]


def _set_groups(instance: MotoInstance, groups: Sequence[Any]) -> None:
    instance._berth_groups = list(groups)
    primary = primary_of(instance) if "_berth" in instance.__dict__ else None
    if primary and groups:
        primary.groups = [Group(str(group.id), str(group.name)) for group in groups]


def _private_dns_name(instance: MotoInstance) -> str:
    primary = primary_of(instance)
    return (answers.dns_name(primary.primary(), instance.region_name) if primary else None) or ""
