"""ENIs over time, and where they may sit."""

import pytest
from worlds import M5_LARGE, Lab, subnet

from berth_ec2.enis import Eni, Machine
from berth_ec2.limits import TypeLimits
from berth_ec2.refusals import Refusal
from berth_ec2.settings import Settings, Times
from berth_ec2.wanted import InterfaceType, NewEni
from berth_ec2.world import Place


def pair(lab: Lab) -> tuple[Eni, Machine, str]:
    eni, machine = lab.eni(), lab.machine()
    return eni, machine, lab.world.attach(eni, Place(machine, 0, 1)).id


def seen(eni: Eni) -> tuple[str, str | None, bool | None]:
    own = eni.attachment
    return eni.status(), own.status.value if own else None, own.plugged if own else None


def test_a_new_eni_is_pending_until_it_is_available() -> None:
    lab = Lab()
    eni = lab.eni()
    assert eni.status() == "pending"
    lab.after(199)
    assert eni.status() == "pending"
    lab.after(1)
    assert eni.status() == "available"


def test_an_attach_takes_its_time_and_the_device_comes_later() -> None:
    lab = Lab()
    eni, _, _ = pair(lab)
    assert seen(eni) == ("in-use", "attaching", False)
    lab.after(1_500)
    assert seen(eni) == ("in-use", "attached", False)
    lab.after(500)
    assert seen(eni) == ("in-use", "attached", True)


def test_a_detach_unplugs_first_and_frees_the_index_in_the_end() -> None:
    lab = Lab()
    eni, machine, attachment = pair(lab)
    lab.after(2_000)
    lab.world.detach(attachment, force=False)
    lab.after(500)
    assert seen(eni) == ("in-use", "detaching", False)
    with pytest.raises(Refusal, match="device index '1'"):
        lab.world.attach(lab.eni(), Place(machine, 0, 1))
    lab.after(2_500)
    assert seen(eni) == ("available", None, None)
    lab.world.attach(eni, Place(machine, 0, 1))


def test_a_detach_that_overtakes_the_attach_wins() -> None:
    lab = Lab()
    eni, _, attachment = pair(lab)
    lab.world.detach(attachment, force=False)
    lab.after(2_500)
    assert seen(eni) == ("in-use", "detaching", False)


def test_force_is_quicker_and_ends_only_its_own_attachment() -> None:
    lab = Lab()
    eni, machine, attachment = pair(lab)
    lab.after(2_000)
    lab.world.detach(attachment, force=False)
    lab.world.detach(attachment, force=True)
    lab.after(500)
    assert seen(eni) == ("available", None, None)
    again = lab.world.attach(eni, Place(machine, 0, 1))
    # The first detach would have ended now.
    lab.after(2_500)
    assert eni.attachment is again


def test_an_eni_in_use_is_not_deleted() -> None:
    lab = Lab()
    eni, _, attachment = pair(lab)
    for _ in range(2):
        with pytest.raises(Refusal, match="currently in use"):
            lab.world.delete(eni)
        lab.world.detach(attachment, force=False)
    lab.after(3_000)
    lab.world.delete(eni)
    assert lab.forgotten == [eni.id]
    with pytest.raises(Refusal, match=r"InvalidNetworkInterfaceID\.NotFound"):
        lab.world.eni(eni.id)


def test_a_primary_eni_is_never_detached() -> None:
    lab = Lab()
    own = lab.machine().enis[0].attachment
    assert own is not None
    with pytest.raises(Refusal, match="OperationNotPermitted"):
        lab.world.detach(own.id, force=True)


def test_what_is_marked_goes_with_its_instance_and_the_rest_is_free() -> None:
    lab = Lab()
    machine = lab.machine()
    lab.after(1_000)
    assert machine.state.name == "running"
    marked, unmarked = lab.eni(secondary=2), lab.eni(secondary=2)
    lab.world.attach(marked, Place(machine, 0, 1)).delete_on_termination = True
    lab.world.attach(unmarked, Place(machine, 0, 2))
    lab.world.terminate(machine)
    assert (machine.state.name, marked.status()) == ("shutting-down", "in-use")
    with pytest.raises(Refusal, match="IncorrectState"):
        lab.world.attach(lab.eni(), Place(machine, 0, 3))
    lab.after(1_000)
    assert (machine.state.name, machine.enis) == ("terminated", [])
    assert seen(unmarked) == ("available", None, None)
    # What is left holds three addresses, and the ENI above that found no place one.
    assert lab.free() == 251 - 3 - 1


def test_an_instance_that_ends_while_it_starts_never_runs() -> None:
    lab = Lab(settings=Settings(times=Times(stop=2_000)))
    machine = lab.machine()
    lab.world.terminate(machine)
    lab.after(1_000)
    assert machine.state.name == "shutting-down"
    lab.after(1_000)
    assert machine.state.name == "terminated"


def test_a_type_allows_so_many_enis_of_any_kind() -> None:
    lab = Lab()
    machine = lab.machine()
    for index, kind in enumerate((InterfaceType.TRUNK, InterfaceType.EFA_ONLY), start=1):
        lab.world.attach(lab.eni(wanted=NewEni(interface_type=kind)), Place(machine, 0, index))
    with pytest.raises(Refusal, match=r"AttachmentLimitExceeded: Interface count 4 exceeds the limit for m5\.large"):
        lab.world.attach(lab.eni(), Place(machine, 0, 3))


def test_an_index_is_taken_on_its_own_card_only() -> None:
    lab = Lab()
    machine = lab.machine(TypeLimits("p4d.24xlarge", 60, 50, 50, {0: 15, 1: 1}, "nitro"))
    lab.world.attach(lab.eni(), Place(machine, 0, 1))
    lab.world.attach(lab.eni(), Place(machine, 1, 1))
    for card, index, refusal in ((1, 1, "device index '1'"), (1, 2, "AttachmentLimitExceeded"), (2, 1, "card index")):
        with pytest.raises(Refusal, match=refusal):
            lab.world.attach(lab.eni(), Place(machine, card, index))


def test_an_eni_goes_to_one_instance_of_its_zone_that_can_hold_its_addresses() -> None:
    lab = Lab()
    eni, machine, _ = pair(lab)
    with pytest.raises(Refusal, match=r"InvalidNetworkInterface\.InUse"):
        lab.world.attach(eni, Place(lab.machine(), 0, 1))
    with pytest.raises(Refusal, match="PrivateIpAddressLimitExceeded"):
        lab.world.attach(lab.eni(secondary=10), Place(machine, 0, 2))
    lab.subnet = subnet("10.0.1.0/24", zone="us-west-2b")
    with pytest.raises(Refusal, match="same availability zone"):
        lab.world.attach(lab.eni(), Place(machine, 0, 2))


def test_an_instance_of_xen_takes_no_prefixes() -> None:
    xen = TypeLimits("m4.large", 2, 10, 10, {0: 2}, "xen")
    with pytest.raises(Refusal, match="UnsupportedOperation"):
        xen.check_room(slots=2, prefixes=1)
    M5_LARGE.check_room(slots=2, prefixes=1)


def test_a_quota_of_enis_is_its_own_error() -> None:
    lab = Lab(settings=Settings(eni_quota=1))
    lab.eni()
    with pytest.raises(Refusal, match="NetworkInterfaceLimitExceeded"):
        lab.eni()


def test_what_takes_no_time_is_done_at_once() -> None:
    lab = Lab(settings=Settings(times=Times(0, 0, 0, 0, 0, 0, 0, 0)))
    eni, _, attachment = pair(lab)
    assert seen(eni) == ("in-use", "attached", True)
    lab.world.detach(attachment, force=False)
    assert seen(eni) == ("available", None, None)


def test_no_two_enis_share_an_id_or_a_mac() -> None:
    lab = Lab()
    made = [lab.eni() for _ in range(100)]
    assert len({eni.id for eni in made}) == len({eni.mac for eni in made}) == 100
