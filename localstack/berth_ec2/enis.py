"""ENIs, the instances they sit on and the subnets they are in, as records. Decides nothing.

Two records are the same only if they are one: all have ids, and they refer to each other.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from berth_ec2.addresses import AddressBook
from berth_ec2.addresses6 import AddressBook6, Holding6
from berth_ec2.limits import TypeLimits
from berth_ec2.wanted import InterfaceType


@dataclass(eq=False)
class Subnet:
    """A subnet, with its books."""

    id: str
    vpc: str
    zone: str
    book: AddressBook
    book6: AddressBook6


@dataclass(frozen=True)
class Group:
    """A security group."""

    id: str
    name: str


class State(Protocol):
    """An instance's state, shared with whoever describes the instance."""

    name: str
    code: int


@dataclass(eq=False)
class Machine:
    """An instance."""

    id: str
    limits: TypeLimits
    zone: str
    state: State
    launched: int
    """Milliseconds since the start."""
    enis: list["Eni"] = field(default_factory=list)
    """In the order of their attaching."""

    def is_over(self) -> bool:
        return self.state.name in ("shutting-down", "terminated")

    def primary(self) -> "Eni | None":
        at = [eni for eni in self.enis if eni.attachment and eni.attachment.place == (0, 0)]
        return at[0] if at else None

    def by_place(self) -> list["Eni"]:
        """By card and device index."""
        return sorted(self.enis, key=lambda eni: eni.attachment.place if eni.attachment else (0, 0))


@dataclass
class Holding:
    """IPv4 addresses and prefixes of one ENI, or some of them."""

    addresses: list[IPv4Address] = field(default_factory=list)
    """The primary first, where it is a whole ENI's."""
    prefixes: list[IPv4Network] = field(default_factory=list)

    def slots(self) -> int:
        """A prefix takes the place of one address (documentation)."""
        return len(self.addresses) + len(self.prefixes)


class AttachmentStatus(StrEnum):
    """As DescribeNetworkInterfaces has it; what is detached has no attachment."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


@dataclass(eq=False)
class Attachment:
    """Where an ENI sits."""

    id: str
    machine: Machine
    card: int
    index: int
    since: datetime
    delete_on_termination: bool
    status: AttachmentStatus = AttachmentStatus.ATTACHING
    plugged: bool = False
    """The instance sees the device."""

    @property
    def place(self) -> tuple[int, int]:
        return self.card, self.index


@dataclass(eq=False)
class Eni:
    """An ENI."""

    id: str
    serial: int
    """Only grows: pages go by it."""
    interface_type: InterfaceType
    subnet: Subnet
    description: str
    mac: str
    groups: list[Group]
    holding: Holding
    """The same is in the subnet's book."""
    ipv6: Holding6
    source_dest_check: bool = True
    created: bool = False
    """No longer `pending`."""
    attachment: Attachment | None = None
    public_ip: str | None = None
    """Of an elastic address, which is not ours to give."""

    def status(self) -> str:
        if self.attachment:
            return "in-use"
        return "available" if self.created else "pending"

    def primary(self) -> IPv4Address | None:
        return self.holding.addresses[0] if self.holding.addresses else None
