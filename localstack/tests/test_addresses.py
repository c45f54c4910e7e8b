"""The book of a subnet's IPv4 addresses."""

import random
from ipaddress import IPv4Address, IPv4Network

import pytest
from worlds import ip, net

from berth_ec2.addresses import PREFIX_SIZE, AddressBook, Reservation
from berth_ec2.refusals import Refusal
from berth_ec2.settings import AddressOrder, PrefixShortage, Settings

NEXT, FIRST = AddressOrder.NEXT_FIT, AddressOrder.FIRST_FIT


def taken(book: AddressBook, count: int, order: AddressOrder = NEXT) -> list[str]:
    picked = book.pick(count, (), order)
    for address in picked:
        book.hold(address, "eni-1")
    return [str(address) for address in picked]


def taken_prefixes(book: AddressBook, count: int, settings: Settings | None = None) -> list[str]:
    picked = book.pick_prefixes(count, (), settings or Settings())
    for prefix in picked:
        book.hold_prefix(prefix, "eni-1")
    return [str(prefix) for prefix in picked]


@pytest.mark.parametrize(("cidr", "free"), [("10.0.0.0/24", 251), ("10.0.0.0/28", 11), ("10.0.0.0/16", 65_531)])
def test_a_new_subnet_has_all_but_five_addresses(cidr: str, free: int) -> None:
    assert AddressBook(net(cidr)).free() == free


@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.255", "10.0.1.4"])
def test_reserved_and_foreign_addresses_are_refused(address: str) -> None:
    with pytest.raises(Refusal, match="InvalidParameterValue"):
        AddressBook(net("10.0.0.0/24")).check(ip(address))


def test_addresses_are_given_once_each_up_to_the_last() -> None:
    book = AddressBook(net("10.0.0.0/28"))
    assert taken(book, 11) == [f"10.0.0.{number}" for number in range(4, 15)]
    with pytest.raises(Refusal, match="InsufficientFreeAddressesInSubnet"):
        book.pick(1, (), NEXT)


def test_a_pick_takes_nothing() -> None:
    book = AddressBook(net("10.0.0.0/28"))
    assert book.pick(3, (), NEXT) == book.pick(3, (), NEXT)


def test_a_released_address_rests_with_next_fit_and_comes_back_with_first_fit() -> None:
    for order, expected in ((NEXT, "10.0.0.7"), (FIRST, "10.0.0.5")):
        book = AddressBook(net("10.0.0.0/28"))
        taken(book, 3)
        book.release(ip("10.0.0.5"))
        assert taken(book, 1, order) == [expected]


def test_next_fit_goes_around() -> None:
    book = AddressBook(net("10.0.0.0/28"))
    taken(book, 11)
    book.release(ip("10.0.0.6"))
    assert taken(book, 1) == ["10.0.0.6"]


def test_prefixes_are_aligned_whole_and_without_reserved_addresses() -> None:
    assert taken_prefixes(AddressBook(net("10.0.0.0/26")), 2) == ["10.0.0.16/28", "10.0.0.32/28"]


def test_too_small_and_too_fragmented_are_two_errors() -> None:
    book = AddressBook(net("10.0.0.0/26"))
    for address in ("10.0.0.20", "10.0.0.40"):
        book.hold(ip(address), "eni-1")
    with pytest.raises(Refusal, match="InsufficientCidrBlocks"):
        book.pick_prefixes(1, (), Settings())
    with pytest.raises(Refusal, match="InsufficientFreeAddressesInSubnet"):
        book.pick_prefixes(5, (), Settings())
    with pytest.raises(Refusal, match="InvalidParameterValue"):
        book.pick_prefixes(5, (), Settings(prefix_shortage=PrefixShortage.PARAMETER))


def test_an_address_of_a_prefix_is_held_by_the_prefix() -> None:
    book = AddressBook(net("10.0.0.0/24"))
    book.hold_prefix(net("10.0.0.64/28"), "eni-1")
    holder = book.holder(ip("10.0.0.79"))
    assert holder is not None
    assert (holder.eni, holder.by_prefix) == ("eni-1", True)
    assert book.holder(ip("10.0.0.80")) is None
    assert book.free() == 251 - PREFIX_SIZE


@pytest.mark.parametrize("prefix", ["10.0.0.0/28", "10.0.0.240/28", "10.0.0.32/27", "10.0.0.160/28", "10.9.0.0/28"])
def test_a_prefix_that_cannot_be_is_refused(prefix: str) -> None:
    book = AddressBook(net("10.0.0.0/24"))
    book.hold(ip("10.0.0.165"), "eni-1")
    with pytest.raises(Refusal, match="InvalidParameterValue"):
        book.check_prefix(net(prefix))


@pytest.mark.parametrize("gives_prefixes", [True, False])
def test_single_addresses_stay_out_of_reservations(gives_prefixes: bool) -> None:
    book = AddressBook(net("10.0.0.0/25"))
    book.reservations = [Reservation(net("10.0.0.64/26"), gives_prefixes)]
    assert book.free() == 60
    assert max(int(one.rpartition(".")[2]) for one in taken(book, 60)) == 63
    with pytest.raises(Refusal, match="InsufficientFreeAddressesInSubnet"):
        book.pick(1, (), NEXT)


def test_prefixes_come_from_a_prefix_reservation_first() -> None:
    book = AddressBook(net("10.0.0.0/24"))
    book.reservations = [
        Reservation(net("10.0.0.128/27"), gives_prefixes=True),
        Reservation(net("10.0.0.160/27"), gives_prefixes=False),
    ]
    assert taken_prefixes(book, 3) == ["10.0.0.128/28", "10.0.0.144/28", "10.0.0.16/28"]
    # The rest of the subnet has eleven whole ones beside the two reserved ranges and the one that is taken.
    everything = taken_prefixes(book, 9)
    assert not any(net(one).subnet_of(net("10.0.0.160/27")) for one in everything)
    with pytest.raises(Refusal, match="InsufficientCidrBlocks"):
        book.pick_prefixes(1, (), Settings())


def test_the_books_are_right_after_any_history() -> None:
    """The count is what it is by counting, and nobody is given what somebody has."""
    for seed in range(30):
        rng, book = random.Random(seed), AddressBook(net("10.0.0.0/25"))
        settings = Settings(address_order=rng.choice([NEXT, FIRST]))
        singles, prefixes = set[IPv4Address](), set[IPv4Network]()
        for _ in range(120):
            kind = rng.randrange(4)
            try:
                if kind == 0:
                    new = book.pick(rng.randrange(1, 6), (), settings.address_order)
                    assert not singles & set(new)
                    for address in new:
                        book.hold(address, "eni-1")
                    singles |= set(new)
                elif kind == 1:
                    more = book.pick_prefixes(1, (), settings)
                    assert not prefixes & set(more)
                    book.hold_prefix(more[0], "eni-1")
                    prefixes |= set(more)
            except Refusal:
                pass
            if kind == 2 and singles:
                book.release(gone := rng.choice(sorted(singles)))
                singles.remove(gone)
            if kind == 3 and prefixes:
                book.release_prefix(prefix := rng.choice(sorted(prefixes)))
                prefixes.remove(prefix)
            assert not any(address in prefix for address in singles for prefix in prefixes)
            assert book.free() == 123 - len(singles) - PREFIX_SIZE * len(prefixes), seed
