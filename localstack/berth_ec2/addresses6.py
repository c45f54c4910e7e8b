"""The IPv6 addresses of one subnet: a /64 is never full, so who holds what is all there is to know. Knows ENIs by their id
only, and no limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from berth_ec2 import refusals

PREFIX_LENGTH = 80
"""A delegated prefix is a /80 (documentation)."""
RESERVED_AT_START = 4
"""As with IPv4 (documentation)."""


@dataclass(frozen=True)
class Wanted6:
    """What a call asks for. Counts and lists add up (guess)."""

    count: int = 0
    addresses: Sequence[IPv6Address] = ()
    prefix_count: int = 0
    prefixes: Sequence[IPv6Network] = ()

    def anything(self) -> bool:
        return bool(self.count or self.addresses or self.prefix_count or self.prefixes)


@dataclass
class Holding6:
    """IPv6 addresses and prefixes of one ENI, or some of them."""

    addresses: list[IPv6Address] = field(default_factory=list)
    prefixes: list[IPv6Network] = field(default_factory=list)

    def slots(self) -> int:
        return len(self.addresses) + len(self.prefixes)


class AddressBook6:
    """See the module."""

    def __init__(self, subnet: str) -> None:
        self._subnet = subnet
        self.cidr: IPv6Network | None = None
        """The subnet's block, once it has one."""
        self._held: dict[IPv6Address, str] = {}
        self._prefixes: dict[IPv6Network, str] = {}
        self._next, self._next_prefix = RESERVED_AT_START, 1

    def choose(self, wanted: Wanted6) -> Holding6:
        """What a call gets. Takes nothing yet."""
        if not wanted.anything():
            return Holding6()
        if self.cidr is None:
            raise refusals.no_ipv6_block(self._subnet)
        for address in wanted.addresses:
            if address not in self.cidr:
                raise refusals.outside_subnet(address)
            if self._is_held(address):
                raise refusals.address_in_use(address)
        for prefix in wanted.prefixes:
            if prefix.prefixlen != PREFIX_LENGTH:
                raise refusals.not_a_prefix(prefix)
            if not prefix.subnet_of(self.cidr):
                raise refusals.outside_subnet(prefix)
            if prefix in self._prefixes or any(address in prefix for address in self._held):
                raise refusals.prefix_in_use(prefix)
        return Holding6(
            [*wanted.addresses, *self._free_addresses(self.cidr, wanted)],
            [*wanted.prefixes, *self._free_prefixes(self.cidr, wanted)],
        )

    def hold(self, held: Holding6, eni: str) -> None:
        self._held.update(dict.fromkeys(held.addresses, eni))
        self._prefixes.update(dict.fromkeys(held.prefixes, eni))

    def release(self, held: Holding6) -> None:
        for address in held.addresses:
            self._held.pop(address, None)
        for prefix in held.prefixes:
            self._prefixes.pop(prefix, None)

    def _free_addresses(self, cidr: IPv6Network, wanted: Wanted6) -> list[IPv6Address]:
        picked: list[IPv6Address] = []
        while len(picked) < wanted.count:
            address, self._next = cidr[self._next], self._next + 1
            if not self._is_held(address) and address not in wanted.addresses:
                picked.append(address)
        return picked

    def _free_prefixes(self, cidr: IPv6Network, wanted: Wanted6) -> list[IPv6Network]:
        picked: list[IPv6Network] = []
        blocks = 1 << (PREFIX_LENGTH - cidr.prefixlen)
        while len(picked) < wanted.prefix_count:
            if self._next_prefix >= blocks:
                raise refusals.no_cidr_block()
            first, self._next_prefix = cidr[self._next_prefix << (128 - PREFIX_LENGTH)], self._next_prefix + 1
            prefix = IPv6Network((first, PREFIX_LENGTH))
            if prefix not in self._prefixes and prefix not in wanted.prefixes:
                picked.append(prefix)
        return picked

    def _is_held(self, address: IPv6Address) -> bool:
        return address in self._held or IPv6Network((address, PREFIX_LENGTH), strict=False) in self._prefixes
