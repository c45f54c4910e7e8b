"""What no document settles: how long EC2's transitions take, in which order it picks addresses, what an account may hold.

The names are those of the embedded EC2's settings. Changed whole or not at all; nothing here acts on a change.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=StrEnum)


class AddressOrder(StrEnum):
    """Which free addresses of a subnet are taken first. Guess: EC2 does not say."""

    NEXT_FIT = "next_fit"
    """The next free address after the last one handed out, around the subnet."""
    FIRST_FIT = "first_fit"
    """The lowest free address: a released address comes back at once, the harder case for its users."""


class PrefixShortage(StrEnum):
    """What EC2 says when a subnet has fewer free addresses than the prefixes asked for."""

    FREE_ADDRESSES = "free_addresses"
    """`InsufficientFreeAddressesInSubnet` (documentation: the code's description)."""
    PARAMETER = "parameter"
    """`InvalidParameterValue` (field: cilium #31016)."""


@dataclass(frozen=True)
class Times:
    """How long each transition takes, in milliseconds from the moment the call was accepted. EC2 promises none of them;
    the defaults are the order of magnitude that its users report."""

    create: int = 200
    """A new ENI: `pending` until `available`."""
    attach: int = 1_500
    """An attach: `attaching` until `attached`."""
    device: int = 2_000
    """From the accepted attach until the instance sees the device."""
    detach: int = 3_000
    """A detach: `detaching` until the ENI is `available` again."""
    forced_detach: int = 500
    """The same with `Force`."""
    unplug: int = 500
    """From the accepted detach until the device is gone from the instance. At most `detach`."""
    start: int = 1_000
    """An instance: `pending` until `running`."""
    stop: int = 1_000
    """An instance: `shutting-down` until `terminated`."""


@dataclass(frozen=True)
class Settings:
    """See the module."""

    times: Times = field(default_factory=Times)
    address_order: AddressOrder = AddressOrder.NEXT_FIT
    prefix_shortage: PrefixShortage = PrefixShortage.FREE_ADDRESSES
    eni_quota: int | None = 5_000
    """ENIs an account may hold in a region (EC2's quota is 5,000 by default); None for no limit."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class SettingsError(ValueError):
    """A change that makes no sense. Nothing was changed."""


def changed(settings: Settings, change: object) -> Settings:
    """`settings` with what `change`, a JSON object, says; what it leaves out stays."""
    known = _members(change, Settings, "settings")
    times = settings.times
    if "times" in known:
        members = _members(known["times"], Times, "times")
        times = replace(times, **{name: _count(value, f"times.{name}") for name, value in members.items()})
    order = _choice(AddressOrder, known.get("address_order", settings.address_order), "address_order")
    shortage = _choice(PrefixShortage, known.get("prefix_shortage", settings.prefix_shortage), "prefix_shortage")
    quota = known.get("eni_quota", settings.eni_quota)
    if quota is not None:
        quota = _count(quota, "eni_quota")
    return Settings(times, order, shortage, quota)


def _members(value: object, of: type[Settings] | type[Times], where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: expected an object, got {value!r}")
    unknown = sorted(set(value) - {one.name for one in fields(of)})
    if unknown:
        raise SettingsError(f"{where}: unknown: {', '.join(unknown)}")
    return value


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SettingsError(f"{where}: expected a number that is not negative, got {value!r}")
    return value


def _choice(kind: type[Choice], value: object, where: str) -> Choice:
    try:
        return kind(str(value))
    except ValueError:
        raise SettingsError(f"{where}: expected one of {', '.join(kind)}, got {value!r}") from None
