"""What comes from outside: settings, parameters, filters, pages, tokens."""

from typing import Any

import pytest

from berth_ec2 import params
from berth_ec2.filters import Tokens, check, like, matches, page
from berth_ec2.limits import TypeLimits
from berth_ec2.params import Params
from berth_ec2.refusals import Refusal
from berth_ec2.settings import AddressOrder, PrefixShortage, Settings, SettingsError, changed
from berth_ec2.wanted import Count, InterfaceType, These


def test_a_change_of_settings_leaves_the_rest() -> None:
    first = changed(Settings(), {"times": {"attach": 5}, "address_order": "first_fit", "eni_quota": None})
    second = changed(first, {"times": {"detach": 7}, "prefix_shortage": "parameter"})
    assert (second.times.attach, second.times.detach, second.times.create) == (5, 7, 200)
    assert (second.address_order, second.prefix_shortage) == (AddressOrder.FIRST_FIT, PrefixShortage.PARAMETER)
    assert second.eni_quota is None
    assert changed(Settings(), second.as_json()) == second


@pytest.mark.parametrize(
    "change",
    [
        [],
        None,
        {"nonsense": 1},
        {"times": 3},
        {"times": {"attach": -1}},
        {"times": {"attach": "soon"}},
        {"times": {"attach": True}},
        {"times": {"lunch": 1}},
        {"address_order": "best_fit"},
        {"prefix_shortage": 4},
        {"eni_quota": "many"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: object) -> None:
    with pytest.raises(SettingsError):
        changed(Settings(), change)


@pytest.mark.parametrize(("pattern", "text"), [("*", ""), ("a*c", "abbc"), ("a?c", "abc"), ("[a]*", "[a]b"), ("", "")])
def test_wildcards_match_as_documented(pattern: str, text: str) -> None:
    assert like(pattern, text)


@pytest.mark.parametrize(("pattern", "text"), [("", "a"), ("a", "ab"), ("a?c", "ac"), ("a.c", "abc"), ("[a]", "a")])
def test_nothing_else_matches(pattern: str, text: str) -> None:
    assert not like(pattern, text)


def test_filters_must_all_match_and_values_need_not() -> None:
    tags = {"cluster": "c1", "node": "n1"}

    def values(_: str) -> list[str]:
        return ["available"]

    assert matches({"tag:cluster": ["c0", "c*"], "tag-key": ["node"], "status": ["available"]}, tags, values)
    assert not matches({"tag:cluster": ["c1"], "status": ["in-use"]}, tags, values)
    assert not matches({"tag:absent": ["*"]}, tags, values)
    with pytest.raises(Refusal, match="'bogus' is invalid"):
        check({"bogus": []}, {"status"})


def test_pages_go_through_everything_once_though_things_come_and_go() -> None:
    items = {number: f"item {number}" for number in range(12)}
    first, token = page(items.items(), 5, None)
    for gone in (0, 4):
        items.pop(gone)
    items[12] = "item 12"
    second, token = page(items.items(), 5, token)
    third, token = page(items.items(), 5, token)
    assert [len(first), len(second), len(third), token] == [5, 5, 3, None]
    assert len(set(first + second + third)) == 13


@pytest.mark.parametrize(("size", "token"), [(4, None), (1_001, None), (5, "nonsense")])
def test_a_page_that_cannot_be_is_refused(size: int, token: str | None) -> None:
    with pytest.raises(Refusal, match=r"InvalidParameterValue|InvalidNextToken"):
        page([], size, token)


def test_a_token_makes_once_and_a_refused_call_leaves_it_free() -> None:
    tokens, made = Tokens(), list[int]()

    def make() -> int:
        made.append(1)
        if len(made) == 1:
            raise Refusal("InvalidIPAddress.InUse", "not now")
        return len(made)

    with pytest.raises(Refusal, match="not now"):
        tokens.once("Create", "t", {"a": 1}, make)
    assert [tokens.once("Create", "t", {"a": 1}, make) for _ in range(3)] == [2, 2, 2]
    with pytest.raises(Refusal, match="IdempotentParameterMismatch"):
        tokens.once("Create", "t", {"a": 2}, make)
    assert tokens.once("Create", None, {"a": 1}, make) == 3


def asked(**given: Any) -> Params:
    return Params(given.get)


def test_parameters_become_what_is_wanted() -> None:
    eni = params.new_eni(
        asked(
            InterfaceType="trunk",
            PrivateIpAddresses=[
                {"PrivateIpAddress": "10.0.0.20", "Primary": True},
                {"PrivateIpAddress": "10.0.0.10", "Primary": False},
            ],
        )
    )
    assert (eni.interface_type, str(eni.primary)) == (InterfaceType.TRUNK, "10.0.0.20")
    assert isinstance(eni.secondary, These)
    assert params.wanted(asked(SecondaryPrivateIpAddressCount="3")) == Count(3)


@pytest.mark.parametrize(
    "given",
    [
        {"PrivateIpAddress": "10.0.0"},
        {"InterfaceType": "bogus"},
        {"SecondaryPrivateIpAddressCount": "-1"},
        {"SecondaryPrivateIpAddressCount": "many"},
        {"Ipv4Prefixes": [{"Ipv4Prefix": "10.0.0.5/28"}]},
        {"Ipv6Addresses": [{"Ipv6Address": "nonsense"}]},
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="InvalidParameterValue"):
        params.new_eni(asked(**given))


def test_two_primary_addresses_are_refused() -> None:
    both = [{"PrivateIpAddress": f"10.0.0.{number}", "Primary": True} for number in (20, 21)]
    with pytest.raises(Refusal, match="InvalidParameterCombination"):
        params.new_eni(asked(PrivateIpAddresses=both))


def test_limits_are_read_from_what_describe_instance_types_says() -> None:
    described = {
        "Hypervisor": "nitro",
        "NetworkInfo": {
            "MaximumNetworkInterfaces": 30,
            "Ipv4AddressesPerInterface": 50,
            "NetworkCards": [
                {"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 15},
                {"NetworkCardIndex": 1, "MaximumNetworkInterfaces": 15},
            ],
        },
    }
    limits = TypeLimits.of("p5", described)
    assert (limits.enis, limits.ipv4_per_eni, limits.ipv6_per_eni, limits.cards) == (30, 50, None, {0: 15, 1: 15})
    assert TypeLimits.of("unknown", {}).cards == {0: None}
