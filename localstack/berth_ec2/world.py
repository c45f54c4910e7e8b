"""The ENIs of one account and region: made, attached, detached, deleted, and what time does to them.

All or nothing: a refusal leaves everything as it was. It knows neither moto nor HTTP. Everything here happens under the
timeline's lock.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from berth_ec2 import holdings, refusals
from berth_ec2.enis import Attachment, AttachmentStatus, Eni, Group, Machine, Subnet
from berth_ec2.settings import Settings
from berth_ec2.timeline import Effect, Timeline
from berth_ec2.wanted import InterfaceType, NewEni

RUNNING, SHUTTING_DOWN, TERMINATED = ("running", 16), ("shutting-down", 32), ("terminated", 48)
"""States of instances, as EC2 codes them (documentation)."""


@dataclass(frozen=True)
class Place:
    """Where an ENI shall sit."""

    machine: Machine
    card: int
    index: int


@dataclass(eq=False)
class World:
    """See the module."""

    timeline: Timeline
    settings: Callable[[], Settings]
    """As they are at the moment."""
    forget: Callable[[str], None] = lambda _: None
    """Told the id of an ENI that is gone."""
    enis: dict[str, Eni] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    _serials: Iterator[int] = field(default_factory=itertools.count)

    def eni(self, eni: str) -> Eni:
        if eni not in self.enis:
            raise refusals.no_eni(eni)
        return self.enis[eni]

    def create(self, subnet: Subnet, groups: Sequence[Group], wanted: NewEni) -> Eni:
        settings = self.settings()
        if settings.eni_quota is not None and len(self.enis) >= settings.eni_quota:
            raise refusals.eni_quota()
        held = holdings.of_new(wanted, subnet.book, settings)
        held6 = subnet.book6.choose(wanted.ipv6)
        serial = next(self._serials)
        eni = Eni(
            id=new_id("eni"),
            serial=serial,
            interface_type=wanted.interface_type,
            subnet=subnet,
            description=wanted.description,
            mac=_mac(serial),
            groups=list(groups),
            holding=held,
            ipv6=held6,
        )
        holdings.hold(eni, held, held6)
        self.enis[eni.id] = eni
        self._later(settings.times.create, lambda: _created(eni))
        return eni

    def delete(self, eni: Eni) -> None:
        if eni.attachment:
            raise refusals.eni_attached(eni.id)
        self.drop(eni)

    def drop(self, eni: Eni) -> None:
        """Takes the ENI out of the world, with its addresses, wherever it sits."""
        if self.enis.pop(eni.id, None):
            holdings.release(eni)
            if eni.attachment:
                eni.attachment.machine.enis.remove(eni)
                eni.attachment = None
            self.forget(eni.id)

    def attach(self, eni: Eni, place: Place) -> Attachment:
        attachment = self._put(eni, place, delete_on_termination=False)
        times = self.settings().times
        self._later(times.attach, lambda: _attached(attachment))
        self._later(times.device, lambda: _plugged(attachment))
        return attachment

    def attach_at_launch(self, eni: Eni, place: Place, *, delete_on_termination: bool) -> Attachment:
        """The device is there when the instance boots."""
        attachment = self._put(eni, place, delete_on_termination=delete_on_termination)
        attachment.status, attachment.plugged = AttachmentStatus.ATTACHED, True
        return attachment

    def detach(self, attachment: str, *, force: bool) -> None:
        eni = self.attached_by(attachment)
        own = eni.attachment
        assert own is not None
        if own.place == (0, 0):
            raise refusals.primary_detach()
        own.status = AttachmentStatus.DETACHING
        times = self.settings().times
        detach = times.forced_detach if force else times.detach
        self._later(times.unplug, lambda: _unplugged(own))
        self._later(detach, lambda: _detached(eni, own))

    def attached_by(self, attachment: str) -> Eni:
        for eni in self.enis.values():
            if eni.attachment and eni.attachment.id == attachment:
                return eni
        raise refusals.no_attachment(attachment)

    def launch(self, machine: Machine) -> None:
        """Its ENIs are attached already; from now on it starts."""
        self.machines[machine.id] = machine
        self._later(self.settings().times.start, lambda: _runs(machine))

    def terminate(self, machine: Machine) -> None:
        if machine.is_over():
            return
        machine.state.name, machine.state.code = SHUTTING_DOWN
        self._later(self.settings().times.stop, lambda: self._terminated(machine))

    def _put(self, eni: Eni, place: Place, *, delete_on_termination: bool) -> Attachment:
        machine = place.machine
        if eni.attachment:
            raise refusals.eni_in_use(eni.id)
        if machine.is_over():
            raise refusals.instance_over(machine.id)
        if eni.subnet.zone != machine.zone:
            raise refusals.other_zone()
        if eni.interface_type is InterfaceType.EFA_ONLY and (place.card, place.index) == (0, 0):
            raise refusals.efa_only_primary()
        taken = [one.attachment.place for one in machine.enis if one.attachment]
        on_card = [index for card, index in taken if card == place.card]
        if place.card not in machine.limits.cards:
            raise refusals.no_card(place.card, machine.limits.name)
        if place.index in on_card:
            raise refusals.device_index_taken(machine.id, place.index)
        machine.limits.check_one_more_eni(len(taken), len(on_card), place.card)
        machine.limits.check_room(eni.holding.slots(), len(eni.holding.prefixes))
        machine.limits.check_ipv6_room(eni.ipv6.slots())
        attachment = Attachment(
            id=new_id("eni-attach"),
            machine=machine,
            card=place.card,
            index=place.index,
            since=datetime.now(UTC),
            delete_on_termination=delete_on_termination,
        )
        eni.attachment = attachment
        machine.enis.append(eni)
        return attachment

    def _terminated(self, machine: Machine) -> None:
        machine.state.name, machine.state.code = TERMINATED
        enis, machine.enis = machine.enis, []
        for eni in enis:
            own, eni.attachment = eni.attachment, None
            if own and own.delete_on_termination:
                self.drop(eni)

    def _later(self, after: int, effect: Effect) -> None:
        self.timeline.schedule(after, effect)


def new_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(9)[:17]}"


def _mac(serial: int) -> str:
    """Locally administered; no two ENIs of a world share one."""
    octets = [0x02, *secrets.token_bytes(2), *serial.to_bytes(3)]
    return ":".join(f"{octet:02x}" for octet in octets)


def _created(eni: Eni) -> None:
    eni.created = True


def _attached(attachment: Attachment) -> None:
    if attachment.status is AttachmentStatus.ATTACHING:
        attachment.status = AttachmentStatus.ATTACHED


def _plugged(attachment: Attachment) -> None:
    if attachment.status is not AttachmentStatus.DETACHING:
        attachment.plugged = True


def _unplugged(attachment: Attachment) -> None:
    attachment.plugged = False


def _detached(eni: Eni, attachment: Attachment) -> None:
    """Unless that attachment is over already: the instance ended, or a second detach was quicker."""
    if eni.attachment is attachment:
        eni.attachment = None
        attachment.machine.enis.remove(eni)


def _runs(machine: Machine) -> None:
    if machine.state.name == "pending":
        machine.state.name, machine.state.code = RUNNING
