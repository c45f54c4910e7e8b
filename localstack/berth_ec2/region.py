"""One account and region: our world beside moto's. moto keeps VPCs, subnets, groups, tags and instances; ENIs and their
addresses are ours. Looks things up in both; decides nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES

from berth_ec2 import answers, refusals
from berth_ec2.addresses import AddressBook, Reservation
from berth_ec2.addresses6 import AddressBook6
from berth_ec2.enis import Eni, Group, Machine, Subnet
from berth_ec2.filters import Tokens
from berth_ec2.limits import TypeLimits
from berth_ec2.settings import Settings
from berth_ec2.timeline import Timeline
from berth_ec2.world import World

# moto says nothing about its types that could be checked.
Backend = Any
MotoSubnet = Any
MotoInstance = Any


class Process:
    """What all regions of this process share."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.settings = Settings()


PROCESS = Process()


@dataclass(eq=False)
class Region:
    """See the module."""

    backend: Backend
    world: World
    tokens: Tokens = field(default_factory=Tokens)
    _serials: dict[str, int] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return str(self.backend.account_id)

    @property
    def name(self) -> str:
        return str(self.backend.region_name)

    def tags(self, resource: str) -> Mapping[str, str]:
        # Not by index: moto would make an entry.
        found: Mapping[str, str] = self.backend.tags.get(resource) or {}
        return found

    def serial(self, resource: str) -> int:
        """A number that only grows from one thing of moto's that is seen to the next."""
        return self._serials.setdefault(resource, len(self._serials))

    def subnet(self, subnet: str) -> Subnet:
        return record_of(self.backend.get_subnet(subnet))

    def groups(self, vpc: str, wanted: Sequence[str]) -> list[Group]:
        """The groups of these ids, or the VPC's default group. A group of another VPC is as good as none (field)."""
        found = [self.backend.get_security_group_from_id(one) for one in wanted]
        for group, asked in zip(found, wanted, strict=True):
            if group is None or group.vpc_id != vpc:
                raise refusals.no_group(asked)
        if not wanted:
            found = [self.backend.get_default_security_group(vpc)]
        return [Group(str(group.id), str(group.name)) for group in found]

    def machine(self, instance: str) -> Machine:
        if instance not in self.world.machines:
            raise refusals.no_instance(instance)
        return self.world.machines[instance]

    def described(self, eni: Eni) -> dict[str, Any]:
        return answers.network_interface(eni, self.owner, self.name, self.tags(eni.id))

    def instances(self) -> Iterator[tuple[Any, MotoInstance]]:
        """Each with its reservation, in the order of their launch."""
        for reservation in self.backend.reservations.values():
            for instance in reservation.instances:
                yield reservation, instance


def region_of(backend: Backend) -> Region:
    """The region that goes with one of moto's EC2 backends. It ends when the backend is reset."""
    region = backend.__dict__.get("_berth")
    if region is None:

        def forget(eni: str) -> None:
            backend.tags.pop(eni, None)

        world = World(PROCESS.timeline, settings=lambda: PROCESS.settings, forget=forget)
        region = backend._berth = Region(backend, world)
    found: Region = region
    return found


def regions() -> list[Region]:
    """Those that anybody has called."""
    return [region_of(backend) for account in list(ec2_backends.values()) for backend in list(account.values())]


def record_of(subnet: MotoSubnet) -> Subnet:
    """Our record of one of moto's subnets, with its present ranges."""
    record: Subnet | None = subnet.__dict__.get("_berth")
    if record is None:
        book = AddressBook(IPv4Network(subnet.cidr_block))
        record = Subnet(subnet.id, subnet.vpc_id, subnet.availability_zone, book, AddressBook6(subnet.id))
        subnet._berth = record
    # LocalStack gives a subnet another id when its tags ask for one.
    record.id = subnet.id
    record.book.reservations = [
        Reservation(one.cidr, one.reservation_type == "prefix") for one in subnet._cidr_reservations if one.cidr.version == 4
    ]
    blocks = [
        one["ipv6CidrBlock"]
        for one in subnet.ipv6_cidr_block_associations.values()
        if one["ipv6CidrBlockState"]["State"] == "associated"
    ]
    record.book6.cidr = IPv6Network(blocks[0], strict=False) if blocks else None
    return record


def limits_of(instance_type: str) -> TypeLimits:
    """What DescribeInstanceTypes says about a type."""
    if instance_type not in INSTANCE_TYPES:
        raise refusals.instance_type_value(instance_type)
    return TypeLimits.of(instance_type, INSTANCE_TYPES[instance_type])
