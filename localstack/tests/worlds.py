"""What the tests are written with: a world whose time they turn."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from berth_ec2.addresses import AddressBook
from berth_ec2.addresses6 import AddressBook6
from berth_ec2.enis import Eni, Group, Machine, Subnet
from berth_ec2.limits import TypeLimits
from berth_ec2.settings import Settings
from berth_ec2.timeline import Timeline
from berth_ec2.wanted import Count, NewEni
from berth_ec2.world import Place, World

M5_LARGE = TypeLimits("m5.large", enis=3, ipv4_per_eni=10, ipv6_per_eni=10, cards={0: 3}, hypervisor="nitro")
GROUP = Group("sg-1", "default")


class Clock:
    """Seconds, as `time.monotonic` has them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class InstanceState:
    """As moto has it."""

    def __init__(self) -> None:
        self.name, self.code = "pending", 0


class Lab:
    """A world with one subnet, and its clock."""

    def __init__(self, cidr: str = "10.0.0.0/24", settings: Settings | None = None):
        self.clock = Clock()
        self.settings = settings or Settings()
        self.forgotten: list[str] = []
        self.world = World(Timeline(self.clock), lambda: self.settings, self.forgotten.append)
        self.subnet = subnet(cidr)
        # Whoever looks at the world holds its lock.
        self.world.timeline.lock.acquire()

    def after(self, milliseconds: int) -> None:
        self.clock.seconds += milliseconds / 1_000
        self.world.timeline.advance()

    def eni(self, secondary: int = 0, wanted: NewEni | None = None) -> Eni:
        asked = wanted or NewEni(secondary=Count(secondary) if secondary else None)
        return self.world.create(self.subnet, [GROUP], asked)

    def machine(self, limits: TypeLimits = M5_LARGE, zone: str = "us-west-2a") -> Machine:
        """Launched, with its primary ENI."""
        machine = Machine(f"i-{len(self.world.machines)}", limits, zone, InstanceState(), 0)
        primary = self.eni()
        self.world.attach_at_launch(primary, Place(machine, 0, 0), delete_on_termination=True)
        self.world.launch(machine)
        return machine

    def free(self) -> int:
        return self.subnet.book.free()


def subnet(cidr: str, zone: str = "us-west-2a") -> Subnet:
    book6 = AddressBook6("subnet-1")
    book6.cidr = IPv6Network("2001:db8::/64")
    return Subnet("subnet-1", "vpc-1", zone, AddressBook(IPv4Network(cidr)), book6)


def ip(text: str) -> IPv4Address:
    return IPv4Address(text)


def net(text: str) -> IPv4Network:
    return IPv4Network(text)
