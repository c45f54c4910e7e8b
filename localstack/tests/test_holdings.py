"""What ENIs get, keep and give back."""

from ipaddress import IPv6Address, IPv6Network

import pytest
from worlds import Lab, ip, net

from berth_ec2 import holdings
from berth_ec2.addresses6 import Wanted6
from berth_ec2.enis import Eni
from berth_ec2.refusals import Refusal
from berth_ec2.wanted import Count, InterfaceType, NewEni, PrefixCount, These, ThesePrefixes, Wanted, one_of
from berth_ec2.world import Place


def assign(lab: Lab, eni: Eni, wanted: Wanted, *, reassign: bool = False) -> list[str]:
    made = holdings.assign(eni, wanted, lab.world.enis, lab.settings, reassign=reassign)
    return [str(one) for one in [*made.addresses, *made.prefixes]]


def attached(lab: Lab) -> Eni:
    eni = lab.eni()
    lab.world.attach(eni, Place(lab.machine(), 0, 1))
    return eni


def test_an_answer_has_only_the_new() -> None:
    lab = Lab()
    eni = lab.eni(secondary=2)
    assert assign(lab, eni, Count(2)) == ["10.0.0.7", "10.0.0.8"]
    assert len(eni.holding.addresses) == 5


def test_given_addresses_keep_their_order_behind_the_primary() -> None:
    lab = Lab()
    eni = lab.eni(wanted=NewEni(primary=ip("10.0.0.20"), secondary=These([ip("10.0.0.10"), ip("10.0.0.30")])))
    assert [str(one) for one in eni.holding.addresses] == ["10.0.0.20", "10.0.0.10", "10.0.0.30"]


def test_a_chosen_primary_comes_first() -> None:
    eni = Lab().eni(wanted=NewEni(secondary=These([ip("10.0.0.10")])))
    assert [str(one) for one in eni.holding.addresses] == ["10.0.0.4", "10.0.0.10"]


def test_a_refused_create_leaves_nothing() -> None:
    lab = Lab("10.0.0.0/28")
    with pytest.raises(Refusal, match="InsufficientFreeAddressesInSubnet"):
        lab.eni(secondary=11)
    assert (lab.free(), lab.world.enis) == (11, {})


def test_an_address_moves_only_when_that_is_asked_for_and_never_a_primary() -> None:
    lab = Lab()
    holder, other = lab.eni(secondary=1), lab.eni()
    primary, secondary = holder.holding.addresses
    with pytest.raises(Refusal, match="already assigned"):
        assign(lab, other, These([secondary]))
    with pytest.raises(Refusal, match="primary address"):
        assign(lab, other, These([primary]), reassign=True)
    before = lab.free()
    assert assign(lab, other, These([secondary]), reassign=True) == [str(secondary)]
    assert (holder.holding.addresses, other.holding.addresses[1:], lab.free()) == ([primary], [secondary], before)


def test_a_list_of_which_one_cannot_be_is_refused_whole() -> None:
    lab = Lab()
    eni, before = lab.eni(), Lab().free() - 1
    for listed in ([ip("10.0.0.50"), ip("10.0.0.1")], [ip("10.0.0.50"), ip("10.0.0.50")]):
        with pytest.raises(Refusal, match="InvalidParameterValue"):
            assign(lab, eni, These(listed))
    assert (len(eni.holding.addresses), lab.free()) == (1, before)


def test_what_one_has_is_granted_again_and_takes_nothing() -> None:
    lab = Lab()
    eni = lab.eni(secondary=1)
    before = lab.free()
    assert assign(lab, eni, These([eni.holding.addresses[1]])) == [str(eni.holding.addresses[1])]
    assert lab.free() == before


def test_an_address_of_a_prefix_is_nobodys_to_have_alone() -> None:
    lab = Lab()
    eni = lab.eni()
    assign(lab, eni, ThesePrefixes([net("10.0.0.64/28")]))
    with pytest.raises(Refusal, match="part of a prefix"):
        assign(lab, eni, These([ip("10.0.0.65")]), reassign=True)
    with pytest.raises(Refusal, match="not assigned"):
        holdings.unassign(eni, [ip("10.0.0.65")], [])


def test_prefixes_take_the_places_of_addresses_on_an_attached_eni_only() -> None:
    lab = Lab()
    eni = attached(lab)
    assign(lab, eni, Count(4))
    assign(lab, eni, PrefixCount(5))
    with pytest.raises(Refusal, match="PrivateIpAddressLimitExceeded"):
        assign(lab, eni, PrefixCount(1))
    with pytest.raises(Refusal, match="PrivateIpAddressLimitExceeded"):
        assign(lab, eni, Count(1))
    assert len(assign(lab, lab.eni(), Count(20))) == 20


def test_unassign_is_all_or_nothing_and_never_the_primary() -> None:
    lab = Lab()
    eni = lab.eni(secondary=2)
    primary, first, second = eni.holding.addresses
    for addresses, prefixes in (([primary], []), ([first, ip("10.0.0.99")], []), ([first], [net("10.0.0.64/28")])):
        with pytest.raises(Refusal, match="not assigned"):
            holdings.unassign(eni, addresses, prefixes)
    holdings.unassign(eni, [first], [])
    assert eni.holding.addresses == [primary, second]


def test_an_efa_only_eni_has_no_addresses() -> None:
    lab = Lab()
    eni = lab.eni(wanted=NewEni(interface_type=InterfaceType.EFA_ONLY))
    assert (eni.primary(), lab.free()) == (None, 251)
    with pytest.raises(Refusal, match="EFA-only"):
        assign(lab, eni, Count(1))


def test_options_that_exclude_each_other_are_refused() -> None:
    address, prefix = [ip("10.0.0.9")], [net("10.0.0.64/28")]
    refused = pytest.raises(Refusal, match="InvalidParameterCombination")
    with refused:
        one_of(1, address, None, [])
    with refused:
        one_of(None, [], 1, prefix)
    with refused:
        one_of(1, [], 1, [])
    with refused:
        one_of(None, address, None, prefix)
    assert one_of(0, [], 0, []) is None


def test_ipv6_addresses_and_prefixes_do_not_overlap() -> None:
    lab = Lab()
    one, other = lab.eni(), lab.eni()
    first = holdings.assign6(one, Wanted6(count=2, prefix_count=1))
    second = holdings.assign6(other, Wanted6(count=2, prefix_count=1))
    assert not set(first.addresses) & set(second.addresses)
    assert not set(first.prefixes) & set(second.prefixes)
    for taken in (Wanted6(addresses=first.addresses), Wanted6(prefixes=first.prefixes)):
        with pytest.raises(Refusal, match=r"InUse|in use"):
            holdings.assign6(other, taken)
    around = IPv6Network((first.addresses[0], 80), strict=False)
    with pytest.raises(Refusal, match="in use"):
        holdings.assign6(other, Wanted6(prefixes=[around]))
    holdings.unassign6(one, first.addresses, first.prefixes)
    assert holdings.assign6(other, Wanted6(addresses=first.addresses)).addresses == first.addresses


def test_ipv6_has_its_own_refusals() -> None:
    lab = Lab()
    eni = lab.eni()
    for wanted in (
        Wanted6(addresses=[IPv6Address("2001:db8:1::1")]),
        Wanted6(prefixes=[IPv6Network("2001:db8::/96")]),
    ):
        with pytest.raises(Refusal, match="InvalidParameterValue"):
            holdings.assign6(eni, wanted)
    with pytest.raises(Refusal, match="MissingParameter"):
        holdings.assign6(eni, Wanted6())
    lab.subnet.book6.cidr = None
    with pytest.raises(Refusal, match="no IPv6"):
        holdings.assign6(eni, Wanted6(count=1))
