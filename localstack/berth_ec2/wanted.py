"""What a call asks for, as types that cannot be wrong. Decides nothing: whether it can be had is for `holdings`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from berth_ec2 import refusals
from berth_ec2.addresses6 import Wanted6


class InterfaceType(StrEnum):
    """What an ENI is for (documentation)."""

    INTERFACE = "interface"
    EFA = "efa"
    EFA_ONLY = "efa-only"
    """Has no addresses (documentation)."""
    TRUNK = "trunk"


@dataclass(frozen=True)
class Count:
    """So many addresses of EC2's choice; at least one."""

    number: int


@dataclass(frozen=True)
class These:
    """These addresses; at least one."""

    addresses: Sequence[IPv4Address]


@dataclass(frozen=True)
class PrefixCount:
    """So many prefixes of EC2's choice; at least one."""

    number: int


@dataclass(frozen=True)
class ThesePrefixes:
    """These prefixes; at least one."""

    prefixes: Sequence[IPv4Network]


Wanted = Count | These | PrefixCount | ThesePrefixes | None
"""What a call asks for besides a primary address."""


@dataclass(frozen=True)
class NewEni:
    """An ENI that somebody wants. Its subnet and groups are looked up before."""

    interface_type: InterfaceType = InterfaceType.INTERFACE
    primary: IPv4Address | None = None
    secondary: Wanted = None
    ipv6: Wanted6 = field(default_factory=Wanted6)
    description: str = ""


def one_of(
    count: int | None,
    addresses: Sequence[IPv4Address],
    prefix_count: int | None,
    prefixes: Sequence[IPv4Network],
) -> Wanted:
    """One of the four at most (documentation); a count of none is no count."""
    if count is not None and addresses:
        raise refusals.excluding("privateIpAddresses", "secondaryPrivateIpAddressCount")
    if prefix_count is not None and prefixes:
        raise refusals.excluding("ipv4Prefixes", "ipv4PrefixCount")
    if (count or addresses) and (prefix_count or prefixes):
        raise refusals.excluding("an IPv4 prefix option", "a private IPv4 address option")
    if count:
        return Count(count)
    if addresses:
        return These(addresses)
    if prefix_count:
        return PrefixCount(prefix_count)
    return ThesePrefixes(prefixes) if prefixes else None
