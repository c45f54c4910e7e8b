"""The IPv4 addresses of one subnet: who holds which, alone or as part of a /28 prefix. An address has one holder by
construction. Knows ENIs by their id only, and no limits but the subnet's size.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from berth_ec2 import refusals
from berth_ec2.settings import AddressOrder, PrefixShortage, Settings

RESERVED_AT_START = 4
"""EC2 keeps the network address, the router, the resolver and one for future use (documentation) ..."""
RESERVED_AT_END = 1
"""... and the broadcast address."""
PREFIX_LENGTH = 28
"""A delegated prefix is a /28 at a multiple of 16 (documentation)."""
PREFIX_SIZE = 16


@dataclass(frozen=True)
class Reservation:
    """A range that EC2 takes no single address from (documentation)."""

    cidr: IPv4Network
    gives_prefixes: bool
    """Of type `prefix`: prefixes come from it first."""


@dataclass(frozen=True)
class Holder:
    """Who has an address."""

    eni: str
    by_prefix: bool


class AddressBook:
    """See the module. Addresses are numbers inside."""

    def __init__(self, cidr: IPv4Network):
        self.cidr = cidr
        self.reservations: list[Reservation] = []
        """They do not overlap."""
        self._first = int(cidr.network_address) + RESERVED_AT_START
        self._last = int(cidr.broadcast_address) - RESERVED_AT_END
        self._held: dict[int, str] = {}
        self._prefixes: dict[int, str] = {}
        # Where next-fit goes on.
        self._cursor, self._prefix_cursor = self._first, self._first

    def free(self) -> int:
        """Addresses that EC2 may still choose for somebody: held by nobody, in no reservation (guess: the count falls at
        once when a range is reserved)."""
        reserved = sum(self._unheld(one.cidr) for one in self.reservations)
        return self._unheld(self.cidr) - reserved

    def holder(self, address: IPv4Address) -> Holder | None:
        number = int(address)
        if number in self._held:
            return Holder(self._held[number], by_prefix=False)
        of_prefix = self._prefixes.get(_block(number))
        return Holder(of_prefix, by_prefix=True) if of_prefix else None

    def check(self, address: IPv4Address) -> None:
        """Is this an address that EC2 would ever give to an ENI of this subnet?"""
        if address not in self.cidr:
            raise refusals.outside_subnet(address)
        if not self._first <= int(address) <= self._last:
            raise refusals.reserved_address(address)

    def check_prefix(self, prefix: IPv4Network) -> None:
        """Is this a prefix that an ENI of this subnet can get now? One of a reservation can be asked for by name (guess)."""
        if prefix.prefixlen != PREFIX_LENGTH:
            raise refusals.not_a_prefix(prefix)
        if not prefix.subnet_of(self.cidr):
            raise refusals.outside_subnet(prefix)
        block = int(prefix.network_address)
        if not (self._first <= block and block + PREFIX_SIZE - 1 <= self._last and self._is_free(block, ())):
            raise refusals.prefix_in_use(prefix)

    def pick(self, count: int, excepted: Collection[IPv4Address], order: AddressOrder) -> list[IPv4Address]:
        """`count` free addresses, none of `excepted` and none that is reserved. Takes nothing: whoever asked may still fail
        for another reason."""
        if count > self.free():
            raise refusals.subnet_exhausted()
        not_these = {int(address) for address in excepted}
        for one in self.reservations:
            not_these.update(range(int(one.cidr.network_address), int(one.cidr.broadcast_address) + 1))
        picked: list[int] = []
        for number in self._around(self._cursor if order is AddressOrder.NEXT_FIT else self._first):
            if len(picked) == count:
                break
            if number not in self._held and _block(number) not in self._prefixes and number not in not_these:
                picked.append(number)
        if len(picked) < count:
            raise refusals.subnet_exhausted()
        return [IPv4Address(number) for number in picked]

    def pick_prefixes(self, count: int, excepted: Collection[IPv4Address], settings: Settings) -> list[IPv4Network]:
        """`count` free prefixes without any of `excepted`: from reservations of type prefix first, then from where nothing
        is reserved (documentation). Takes nothing."""
        # Field: a subnet that is too small and one that is too fragmented are two errors (cilium #31016).
        if count * PREFIX_SIZE > self._unheld(self.cidr):
            if settings.prefix_shortage is PrefixShortage.PARAMETER:
                raise refusals.no_addresses_or_prefixes()
            raise refusals.subnet_exhausted()
        start = self._prefix_cursor if settings.address_order is AddressOrder.NEXT_FIT else self._first
        blocks = [block for block in self._candidates(start) if self._is_free(block, excepted)][:count]
        if len(blocks) < count:
            raise refusals.no_cidr_block()
        return [IPv4Network((block, PREFIX_LENGTH)) for block in blocks]

    def hold(self, address: IPv4Address, eni: str) -> None:
        """`eni` holds `address` from now on, whoever held it before. Next-fit goes on behind it."""
        number = int(address)
        self._held[number] = eni
        self._cursor = number + 1

    def hold_prefix(self, prefix: IPv4Network, eni: str) -> None:
        block = int(prefix.network_address)
        self._prefixes[block] = eni
        self._prefix_cursor = block + PREFIX_SIZE

    def release(self, address: IPv4Address) -> None:
        self._held.pop(int(address), None)

    def release_prefix(self, prefix: IPv4Network) -> None:
        self._prefixes.pop(int(prefix.network_address), None)

    def _around(self, start: int) -> Iterator[int]:
        """Every address that an ENI can have, from `start` on around the subnet."""
        start = start if self._first <= start <= self._last else self._first
        yield from range(start, self._last + 1)
        yield from range(self._first, start)

    def _candidates(self, start: int) -> Iterator[int]:
        """Whole blocks in the order in which EC2 chooses from them, free or not."""
        for one in self.reservations:
            if one.gives_prefixes:
                yield from self._blocks(one.cidr, start)
        for block in self._blocks(self.cidr, start):
            if not any(one.cidr.overlaps(IPv4Network((block, PREFIX_LENGTH))) for one in self.reservations):
                yield block

    def _blocks(self, cidr: IPv4Network, start: int) -> Iterable[int]:
        """Whole blocks of a range, those from `start` on first."""
        first, last = self._usable(cidr)
        aligned = range(_block(first + PREFIX_SIZE - 1), last + 1, PREFIX_SIZE)
        whole = [block for block in aligned if block + PREFIX_SIZE - 1 <= last]
        return [block for block in whole if block >= start] + [block for block in whole if block < start]

    def _is_free(self, block: int, excepted: Collection[IPv4Address]) -> bool:
        members = range(block, block + PREFIX_SIZE)
        if block in self._prefixes or any(int(address) in members for address in excepted):
            return False
        return not any(number in self._held for number in members)

    def _usable(self, cidr: IPv4Network) -> tuple[int, int]:
        """The first and the last address of a range that an ENI can have."""
        return max(int(cidr.network_address), self._first), min(int(cidr.broadcast_address), self._last)

    def _unheld(self, cidr: IPv4Network) -> int:
        """Usable addresses of a range that nobody holds."""
        first, last = self._usable(cidr)
        if last < first:
            return 0
        alone = sum(1 for number in self._held if first <= number <= last)
        in_prefixes = sum(max(0, min(block + PREFIX_SIZE - 1, last) - max(block, first) + 1) for block in self._prefixes)
        return last - first + 1 - alone - in_prefixes


def _block(number: int) -> int:
    return number & ~(PREFIX_SIZE - 1)
