"""What an instance type allows, as DescribeInstanceTypes tells it. Knows no table of types of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from berth_ec2 import refusals


@dataclass(frozen=True)
class TypeLimits:
    """Of one instance type. What the description leaves out is not limited."""

    name: str
    enis: int | None
    ipv4_per_eni: int | None
    ipv6_per_eni: int | None
    cards: Mapping[int, int | None]
    """ENIs by the index of the network card."""
    hypervisor: str | None

    @classmethod
    def of(cls, name: str, description: Mapping[str, Any]) -> Self:
        """From an item of DescribeInstanceTypes."""
        network = description.get("NetworkInfo") or {}
        cards = network.get("NetworkCards") or [{"NetworkCardIndex": 0}]
        return cls(
            name,
            network.get("MaximumNetworkInterfaces"),
            network.get("Ipv4AddressesPerInterface"),
            network.get("Ipv6AddressesPerInterface"),
            {card.get("NetworkCardIndex", 0): card.get("MaximumNetworkInterfaces") for card in cards},
            description.get("Hypervisor"),
        )

    def check_room(self, slots: int, prefixes: int) -> None:
        """May one ENI have so many addresses and prefixes together, of which so many are prefixes? A prefix takes the place
        of one address (documentation)."""
        if self.ipv4_per_eni is not None and slots > self.ipv4_per_eni:
            raise refusals.address_limit()
        # Prefixes are for instances of the Nitro system (documentation). Bare metal is taken for such.
        if prefixes and self.hypervisor == "xen":
            raise refusals.prefixes_unsupported(self.name)

    def check_ipv6_room(self, slots: int) -> None:
        if self.ipv6_per_eni is not None and slots > self.ipv6_per_eni:
            raise refusals.ipv6_address_limit()

    def check_one_more_eni(self, attached: int, on_card: int, card: int) -> None:
        """May an ENI come to this card, where `on_card` of the `attached` are?"""
        if card not in self.cards:
            raise refusals.no_card(card, self.name)
        of_card = self.cards[card]
        if (self.enis is not None and attached >= self.enis) or (of_card is not None and on_card >= of_card):
            raise refusals.attachment_limit(attached + 1, self.name)
