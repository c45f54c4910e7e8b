"""What ENIs hold in their subnets: addresses and prefixes chosen, assigned, unassigned. All or nothing: a refusal leaves
everything as it was. What is free in a subnet is for `addresses`, where an ENI sits for `world`.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from berth_ec2 import refusals
from berth_ec2.addresses import AddressBook
from berth_ec2.addresses6 import Holding6, Wanted6
from berth_ec2.enis import Eni, Holding
from berth_ec2.settings import Settings
from berth_ec2.wanted import Count, InterfaceType, NewEni, PrefixCount, These, ThesePrefixes, Wanted


def of_new(wanted: NewEni, book: AddressBook, settings: Settings) -> Holding:
    """What a new ENI gets. Takes nothing yet. Guess: named prefixes are seen first, then addresses are chosen, then
    prefixes."""
    if wanted.interface_type is InterfaceType.EFA_ONLY:
        if wanted.primary or wanted.secondary or wanted.ipv6.anything():
            raise refusals.efa_only_addresses()
        return Holding()
    named = list(wanted.secondary.addresses) if isinstance(wanted.secondary, These) else []
    given = [wanted.primary, *named] if wanted.primary else named
    _refuse_duplicates(given)
    for address in given:
        book.check(address)
        if book.holder(address):
            raise refusals.address_in_use(address)
    prefixes: list[IPv4Network] = []
    if isinstance(wanted.secondary, ThesePrefixes):
        prefixes = _free_prefixes(wanted.secondary.prefixes, book)
        for prefix in prefixes:
            if any(address in prefix for address in given):
                raise refusals.prefix_in_use(prefix)
    taken = [*given, *(address for prefix in prefixes for address in prefix)]
    count = (0 if wanted.primary else 1) + (wanted.secondary.number if isinstance(wanted.secondary, Count) else 0)
    chosen = book.pick(count, taken, settings.address_order)
    # What EC2 chose comes first only if it chose the primary address.
    addresses = [*given, *chosen] if wanted.primary else [chosen[0], *given, *chosen[1:]]
    if isinstance(wanted.secondary, PrefixCount):
        prefixes = book.pick_prefixes(wanted.secondary.number, addresses, settings)
    return Holding(addresses, prefixes)


def hold(eni: Eni, added: Holding, added6: Holding6 | None = None) -> None:
    """The subnet's books follow what the ENI holds; `added` is new to both."""
    for address in added.addresses:
        eni.subnet.book.hold(address, eni.id)
    for prefix in added.prefixes:
        eni.subnet.book.hold_prefix(prefix, eni.id)
    if added6:
        eni.subnet.book6.hold(added6, eni.id)


def release(eni: Eni) -> None:
    """Everything that the ENI holds is free again."""
    _release(eni.subnet.book, eni.holding)
    eni.subnet.book6.release(eni.ipv6)


def assign(eni: Eni, wanted: Wanted, enis: Mapping[str, Eni], settings: Settings, *, reassign: bool) -> Holding:
    """What the answer names. `reassign`: secondary addresses come from the ENIs that have them."""
    if eni.interface_type is InterfaceType.EFA_ONLY:
        raise refusals.efa_only_addresses()
    book, named = eni.subnet.book, Holding()
    moved: list[tuple[Eni, IPv4Address]] = []
    match wanted:
        case None:
            raise refusals.no_addresses_wanted()
        case Count(number):
            _check_room(eni, number, 0)
            added = Holding(addresses=book.pick(number, (), settings.address_order))
        case PrefixCount(number):
            _check_room(eni, 0, number)
            added = Holding(prefixes=book.pick_prefixes(number, (), settings))
        case These(addresses):
            named = Holding(addresses=list(addresses))
            added, moved = _named(eni, addresses, enis, reassign=reassign)
            _check_room(eni, len(added.addresses), 0)
        case ThesePrefixes(prefixes):
            named = Holding(prefixes=list(prefixes))
            # A prefix is never moved (guess). Asking for what one already has is granted, as with addresses (guess).
            new = [prefix for prefix in prefixes if prefix not in eni.holding.prefixes]
            added = Holding(prefixes=_free_prefixes(new, book))
            _check_room(eni, 0, len(added.prefixes))
    for other, address in moved:
        other.holding.addresses.remove(address)
    hold(eni, added)
    eni.holding.addresses += added.addresses
    eni.holding.prefixes += added.prefixes
    return named if named.slots() else added


def unassign(eni: Eni, addresses: Sequence[IPv4Address], prefixes: Sequence[IPv4Network]) -> None:
    """Nothing happens if one of them is not a secondary address or a prefix of this ENI (field). An address of a prefix is
    neither."""
    if not addresses and not prefixes:
        raise refusals.missing_parameter("PrivateIpAddress")
    if not set(addresses) <= set(eni.holding.addresses[1:]):
        raise refusals.not_assigned(addresses, eni.id)
    if not set(prefixes) <= set(eni.holding.prefixes):
        raise refusals.not_assigned(prefixes, eni.id)
    eni.holding.addresses = [one for one in eni.holding.addresses if one not in addresses]
    eni.holding.prefixes = [one for one in eni.holding.prefixes if one not in prefixes]
    _release(eni.subnet.book, Holding(list(addresses), list(prefixes)))


def assign6(eni: Eni, wanted: Wanted6) -> Holding6:
    """What the answer names: only the new."""
    if eni.interface_type is InterfaceType.EFA_ONLY:
        raise refusals.efa_only_addresses()
    if not wanted.anything():
        raise refusals.no_addresses_wanted()
    if eni.attachment:
        asked = wanted.count + len(wanted.addresses) + wanted.prefix_count + len(wanted.prefixes)
        eni.attachment.machine.limits.check_ipv6_room(eni.ipv6.slots() + asked)
    added = eni.subnet.book6.choose(wanted)
    eni.subnet.book6.hold(added, eni.id)
    eni.ipv6.addresses += added.addresses
    eni.ipv6.prefixes += added.prefixes
    return added


def unassign6(eni: Eni, addresses: Sequence[IPv6Address], prefixes: Sequence[IPv6Network]) -> None:
    """As with IPv4 (guess)."""
    if not set(addresses) <= set(eni.ipv6.addresses):
        raise refusals.not_assigned(addresses, eni.id)
    if not set(prefixes) <= set(eni.ipv6.prefixes):
        raise refusals.not_assigned(prefixes, eni.id)
    eni.ipv6.addresses = [one for one in eni.ipv6.addresses if one not in addresses]
    eni.ipv6.prefixes = [one for one in eni.ipv6.prefixes if one not in prefixes]
    eni.subnet.book6.release(Holding6(list(addresses), list(prefixes)))


def _named(
    eni: Eni, addresses: Sequence[IPv4Address], enis: Mapping[str, Eni], *, reassign: bool
) -> tuple[Holding, list[tuple[Eni, IPv4Address]]]:
    """Which of the addresses are new on this ENI, and which of those leave another one for it."""
    _refuse_duplicates(addresses)
    added, moved = Holding(), []
    for address in addresses:
        eni.subnet.book.check(address)
        holder = eni.subnet.book.holder(address)
        if holder and not holder.by_prefix and holder.eni == eni.id:
            # Guess: asking for what one already has is granted and adds nothing to the count.
            continue
        if holder:
            if holder.by_prefix:
                raise refusals.address_in_prefix(address)
            if not reassign:
                raise refusals.address_of_another(address)
            other = enis[holder.eni]
            if other.primary() == address:
                raise refusals.primary_of_another(address)
            moved.append((other, address))
        added.addresses.append(address)
    return added, moved


def _check_room(eni: Eni, addresses: int, prefixes: int) -> None:
    """Limits are those of the instance: an ENI that is nowhere has none (field)."""
    if eni.attachment:
        slots = eni.holding.slots() + addresses + prefixes
        eni.attachment.machine.limits.check_room(slots, len(eni.holding.prefixes) + prefixes)


def _free_prefixes(prefixes: Sequence[IPv4Network], book: AddressBook) -> list[IPv4Network]:
    _refuse_duplicates(prefixes)
    for prefix in prefixes:
        book.check_prefix(prefix)
    return list(prefixes)


def _refuse_duplicates(given: Sequence[IPv4Address] | Sequence[IPv4Network]) -> None:
    seen = set()
    for one in given:
        if one in seen:
            raise refusals.address_twice(one)
        seen.add(one)


def _release(book: AddressBook, held: Holding) -> None:
    for address in held.addresses:
        book.release(address)
    for prefix in held.prefixes:
        book.release_prefix(prefix)
