"""Parameters of calls, as moto hands them over, into types of ours: once, here."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

from berth_ec2 import refusals
from berth_ec2.addresses6 import Wanted6
from berth_ec2.wanted import InterfaceType, NewEni, Wanted, one_of

Parsed = TypeVar("Parsed")


class Params:
    """Parameters by the names that the API model gives them; `get` gives None for what is not there."""

    def __init__(self, get: Callable[[str], Any]):
        self._get = get

    @classmethod
    def within(cls, members: Mapping[str, Any]) -> "Params":
        """Those of a structure."""
        return cls(members.get)

    def raw(self, name: str) -> Any:
        return self._get(name)

    def text(self, name: str) -> str | None:
        value = self._get(name)
        return None if value is None else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise refusals.missing_parameter(name)
        return value

    def count(self, name: str) -> int | None:
        value = self._get(name)
        if value is None:
            return None
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise refusals.invalid_value(value, name) from None
        if number < 0:
            raise refusals.invalid_value(value, name)
        return number

    def flag(self, name: str) -> bool | None:
        value = self._get(name)
        return value if value is None or isinstance(value, bool) else str(value).lower() == "true"

    def items(self, name: str) -> list[Any]:
        return list(self._get(name) or [])

    def structures(self, name: str) -> list["Params"]:
        return [Params.within(one) for one in self.items(name)]

    def address(self, name: str) -> IPv4Address | None:
        value = self.text(name)
        return _parsed(IPv4Address, value, name) if value else None


def wanted(params: Params) -> Wanted:
    """What AssignPrivateIpAddresses asks for."""
    return one_of(
        params.count("SecondaryPrivateIpAddressCount"),
        ipv4_addresses(params),
        params.count("Ipv4PrefixCount"),
        ipv4_prefixes(params.items("Ipv4Prefixes")),
    )


def wanted6(params: Params) -> Wanted6:
    """What AssignIpv6Addresses asks for."""
    return Wanted6(
        params.count("Ipv6AddressCount") or 0,
        ipv6_addresses(params),
        params.count("Ipv6PrefixCount") or 0,
        ipv6_prefixes(params),
    )


def new_eni(params: Params) -> NewEni:
    """Everything about a new ENI but its subnet and its groups: of CreateNetworkInterface and of a launch."""
    primary, listed = params.address("PrivateIpAddress"), []
    for one in params.structures("PrivateIpAddresses"):
        address = one.address("PrivateIpAddress")
        if address is None:
            raise refusals.missing_parameter("PrivateIpAddresses.PrivateIpAddress")
        if not one.flag("Primary"):
            listed.append(address)
        elif primary not in (None, address):
            raise refusals.invalid_combination("Only one primary private IP address can be specified")
        else:
            primary = address
    prefixes = [one.required("Ipv4Prefix") for one in params.structures("Ipv4Prefixes")]
    return NewEni(
        interface_type=_interface_type(params),
        primary=primary,
        secondary=one_of(
            params.count("SecondaryPrivateIpAddressCount"),
            listed,
            params.count("Ipv4PrefixCount"),
            ipv4_prefixes(prefixes),
        ),
        ipv6=Wanted6(
            params.count("Ipv6AddressCount") or 0,
            _all(IPv6Address, (one.required("Ipv6Address") for one in params.structures("Ipv6Addresses")), "ipv6Address"),
            params.count("Ipv6PrefixCount") or 0,
            _all(IPv6Network, (one.required("Ipv6Prefix") for one in params.structures("Ipv6Prefixes")), "ipv6Prefix"),
        ),
        description=params.text("Description") or "",
    )


def ipv4_addresses(params: Params) -> list[IPv4Address]:
    return _all(IPv4Address, params.items("PrivateIpAddresses"), "privateIpAddress")


def ipv4_prefixes(values: Iterable[str]) -> list[IPv4Network]:
    """A prefix that does not start where one can is none (field)."""
    return [_prefix(str(value)) for value in values]


def ipv6_addresses(params: Params) -> list[IPv6Address]:
    return _all(IPv6Address, params.items("Ipv6Addresses"), "ipv6Address")


def ipv6_prefixes(params: Params) -> list[IPv6Network]:
    return _all(IPv6Network, params.items("Ipv6Prefixes"), "ipv6Prefix")


def tags_for(kind: str, specifications: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The tags for one kind of resource."""
    return {
        tag["Key"]: tag.get("Value") or ""
        for one in specifications
        if one.get("ResourceType") == kind
        for tag in one.get("Tags") or []
    }


def _interface_type(params: Params) -> InterfaceType:
    value = params.text("InterfaceType")
    try:
        return InterfaceType(value) if value else InterfaceType.INTERFACE
    except ValueError:
        raise refusals.invalid_value(value, "InterfaceType") from None


def _prefix(value: str) -> IPv4Network:
    try:
        return IPv4Network(value)
    except ValueError:
        raise refusals.not_a_prefix(value) from None


def _all(kind: Callable[[str], Parsed], values: Iterable[str], name: str) -> list[Parsed]:
    return [_parsed(kind, str(value), name) for value in values]


def _parsed(kind: Callable[[str], Parsed], value: str, name: str) -> Parsed:
    try:
        return kind(value)
    except ValueError:
        raise refusals.invalid_value(value, name) from None
