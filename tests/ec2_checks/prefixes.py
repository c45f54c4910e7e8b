"""IPv4 prefixes of ENIs, and ranges of subnets that are reserved for them."""

import ipaddress

from ec2_checks.region import (
    NOBODY,
    addresses,
    check,
    expect,
    expect_that,
    prefixes,
    refused,
    secondaries,
    tagged,
)

EITHER_COMBINATION = ("InvalidParameterCombination", "InvalidParameterValue")


def assign(region, eni, **more) -> list[str]:
    made = region.client.assign_private_ip_addresses(NetworkInterfaceId=eni, **more)
    return [entry["Ipv4Prefix"] for entry in made["AssignedIpv4Prefixes"]]


def unassign(region, eni, **more) -> None:
    region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, **more)


def sixteenth(block, number: int) -> str:
    return str(ipaddress.ip_network((int(block.network_address) + 16 * number, 28)))


def expect_aligned(found: list[str], count: int) -> None:
    networks = [ipaddress.ip_network(one) for one in found]
    expect("different prefixes", len(set(networks)), count)
    expect("lengths", {one.prefixlen for one in networks}, {28})


@check
def create_takes_prefixes(region):
    made = region.create(region.subnet(), Ipv4PrefixCount=2)
    expect_aligned(prefixes(made), 2)
    expect("addresses beside them", len(addresses(made)), 1)


@check
def create_with_named_prefix(region):
    subnet, block = region.subnet_and_block()
    made = region.create(subnet, Ipv4Prefixes=[{"Ipv4Prefix": sixteenth(block, 5)}])
    expect("prefixes", prefixes(made), [sixteenth(block, 5)])


@check
def create_prefixes_and_addresses(region):
    with refused(*EITHER_COMBINATION):
        region.create(region.subnet(), Ipv4PrefixCount=1, SecondaryPrivateIpAddressCount=1)


@check
def create_deleted_gives_prefixes_back(region):
    subnet = region.subnet()
    eni = region.available(subnet, Ipv4PrefixCount=2)
    expect("free", region.free(subnet), 251 - 33)
    region.client.delete_network_interface(NetworkInterfaceId=eni)
    expect("free after the delete", region.free(subnet), 251)


@check
def launch_takes_prefixes(region):
    subnet = region.subnet()
    both = [{"DeviceIndex": 0, "SubnetId": subnet}, {"DeviceIndex": 1, "SubnetId": subnet, "Ipv4PrefixCount": 1}]
    instance = region.instance(region.running(None, NetworkInterfaces=both))
    counts = {one["Attachment"]["DeviceIndex"]: len(prefixes(one)) for one in instance["NetworkInterfaces"]}
    expect("prefixes by device index", counts, {0: 0, 1: 1})


@check
def assign_prefix_count_answers_only_the_new(region):
    eni = region.available(region.subnet())
    first = assign(region, eni, Ipv4PrefixCount=1)
    second = assign(region, eni, Ipv4PrefixCount=2)
    expect_aligned(second, 2)
    expect("prefixes of the ENI", set(prefixes(region.eni(eni))), set(first + second))


@check
def assign_prefix_takes_sixteen_addresses(region):
    subnet = region.subnet()
    eni = region.available(subnet)
    assign(region, eni, Ipv4PrefixCount=1)
    expect("free", region.free(subnet), 250 - 16)


@check
def assign_named_prefix(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    expect("answer", assign(region, eni, Ipv4Prefixes=[sixteenth(block, 14)]), [sixteenth(block, 14)])


@check
def assign_prefix_that_is_none(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    for text in (f"{block[165]}/28", f"{block[160]}/27", f"{block[160]}/32"):
        with refused("InvalidParameterValue"):
            assign(region, eni, Ipv4Prefixes=[text])


@check
def assign_prefix_outside(region):
    eni = region.available(region.subnet())
    with refused("InvalidParameterValue"):
        assign(region, eni, Ipv4Prefixes=["10.255.255.0/28"])


@check
def assign_prefix_with_reserved_addresses(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    for number in (0, 15):
        with refused("InvalidParameterValue"):
            assign(region, eni, Ipv4Prefixes=[sixteenth(block, number)])


@check
def assign_prefix_in_use(region):
    subnet, block = region.subnet_and_block()
    eni, other = region.available(subnet), region.available(subnet)
    assign(region, other, Ipv4Prefixes=[sixteenth(block, 6)])
    region.assign(other, PrivateIpAddresses=[str(block[130])])
    for number in (6, 8):
        with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
            assign(region, eni, Ipv4Prefixes=[sixteenth(block, number)])


@check
def assign_prefix_count_and_prefixes(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    with refused(*EITHER_COMBINATION):
        assign(region, eni, Ipv4PrefixCount=1, Ipv4Prefixes=[sixteenth(block, 7)])


@check
def assign_prefixes_and_addresses(region):
    eni = region.available(region.subnet())
    with refused(*EITHER_COMBINATION):
        assign(region, eni, Ipv4PrefixCount=1, SecondaryPrivateIpAddressCount=1)


@check
def assign_prefixes_share_the_types_addresses(region):
    subnet = region.subnet()
    instance = region.instance(region.running(subnet))
    eni = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    region.assign(eni, SecondaryPrivateIpAddressCount=4)
    assign(region, eni, Ipv4PrefixCount=5)
    with refused("PrivateIpAddressLimitExceeded"):
        assign(region, eni, Ipv4PrefixCount=1)


@check
def assign_prefix_in_a_fragmented_subnet(region):
    subnet, block = region.subnet_and_block(26)
    listed = [{"PrivateIpAddress": str(block[n]), "Primary": n == 20} for n in (20, 40)]
    eni = region.create(subnet, PrivateIpAddresses=listed)["NetworkInterfaceId"]
    expect_that("16 free addresses", region.free(subnet), region.free(subnet) >= 16)
    with refused("InsufficientCidrBlocks"):
        assign(region, eni, Ipv4PrefixCount=1)


@check
def assign_prefix_in_a_full_subnet(region):
    eni = region.available(region.subnet(28))
    with refused("InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks", "InvalidParameterValue"):
        assign(region, eni, Ipv4PrefixCount=1)


@check
def assign_prefixes_all_or_nothing(region):
    subnet, block = region.subnet_and_block(26)
    eni = region.available(subnet, PrivateIpAddress=str(block[20]))
    with refused("InsufficientCidrBlocks"):
        assign(region, eni, Ipv4PrefixCount=2)
    expect("free, prefixes", (region.free(subnet), prefixes(region.eni(eni))), (58, []))
    expect("the one that there is", assign(region, eni, Ipv4PrefixCount=1), [sixteenth(block, 2)])


@check
def assign_addresses_avoid_prefixes(region):
    subnet = region.subnet(26)
    eni = region.available(subnet)
    held = [ipaddress.ip_network(one) for one in assign(region, eni, Ipv4PrefixCount=1)]
    new = region.assign(eni, SecondaryPrivateIpAddressCount=region.free(subnet))
    inside = [one for one in new if any(ipaddress.ip_address(one) in prefix for prefix in held)]
    expect("addresses in a prefix, free", (inside, region.free(subnet)), ([], 0))


@check
def unassign_prefix(region):
    subnet = region.subnet()
    eni = region.available(subnet)
    first, second = assign(region, eni, Ipv4PrefixCount=2)
    unassign(region, eni, Ipv4Prefixes=[first])
    expect("prefixes, free", (prefixes(region.eni(eni)), region.free(subnet)), ([second], 250 - 16))


@check
def unassign_both_kinds(region):
    eni = region.available(region.subnet())
    new, held = region.assign(eni, SecondaryPrivateIpAddressCount=2), assign(region, eni, Ipv4PrefixCount=2)
    unassign(region, eni, PrivateIpAddresses=new[:1], Ipv4Prefixes=held[:1])
    found = region.eni(eni)
    expect("what is left", (secondaries(found), prefixes(found)), (new[1:], held[1:]))


@check
def unassign_list_with_one_foreign_prefix_unassigns_nothing(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    new, held = region.assign(eni, SecondaryPrivateIpAddressCount=1), assign(region, eni, Ipv4PrefixCount=1)
    with refused("InvalidParameterValue"):
        unassign(region, eni, PrivateIpAddresses=new, Ipv4Prefixes=[*held, sixteenth(block, 9)])
    found = region.eni(eni)
    expect("what is left", (secondaries(found), prefixes(found)), (new, held))


@check
def unassign_address_of_a_prefix(region):
    eni = region.available(region.subnet())
    held = ipaddress.ip_network(assign(region, eni, Ipv4PrefixCount=1)[0])
    with refused("InvalidParameterValue"):
        unassign(region, eni, PrivateIpAddresses=[str(held[3])])


def _reserved(region, kind="prefix"):
    """A /25 whose second half is reserved."""
    subnet, block = region.subnet_and_block(25)
    half = list(block.subnets())[1]
    made = region.client.create_subnet_cidr_reservation(
        SubnetId=subnet,
        Cidr=str(half),
        ReservationType=kind,
        Description="d",
        **tagged("subnet-cidr-reservation", a="b"),
    )
    return subnet, half, made["SubnetCidrReservation"]


@check
def reservation_is_listed(region):
    subnet, half, made = _reserved(region)
    seen = (made["Cidr"], made["ReservationType"], made["SubnetId"], made["Description"], made["Tags"])
    expect("reservation", seen, (str(half), "prefix", subnet, "d", [{"Key": "a", "Value": "b"}]))
    found = region.client.get_subnet_cidr_reservations(SubnetId=subnet)
    lists = (found["SubnetIpv4CidrReservations"], found["SubnetIpv6CidrReservations"])
    expect("reservations", lists, ([made], []))


@check
def reservation_keeps_addresses_away(region):
    for kind in ("prefix", "explicit"):
        subnet, half, _ = _reserved(region, kind)
        made = region.create(subnet, SecondaryPrivateIpAddressCount=59)
        inside = [one for one in addresses(made) if ipaddress.ip_address(one) in half]
        expect(f"addresses in a range of type {kind}", inside, [])
        with refused("InsufficientFreeAddressesInSubnet"):
            region.create(subnet)


@check
def reservation_gives_prefixes_first(region):
    subnet, half, _ = _reserved(region)
    made = prefixes(region.create(subnet, Ipv4PrefixCount=3))
    outside = [one for one in made if not ipaddress.ip_network(one).subnet_of(half)]
    expect("prefixes, those from elsewhere", (len(made), outside), (3, []))


@check
def reservation_of_type_explicit_gives_what_is_named(region):
    subnet, half, _ = _reserved(region, "explicit")
    made = region.create(subnet, PrivateIpAddress=str(half[7]))
    expect("address", made["PrivateIpAddress"], str(half[7]))


@check
def reservation_overlap_refused(region):
    subnet, half, _ = _reserved(region)
    with refused("InvalidParameterValue", "InvalidSubnetCidrReservation.Overlap", "InvalidCidr.Conflict"):
        region.client.create_subnet_cidr_reservation(
            SubnetId=subnet, Cidr=str(next(half.subnets())), ReservationType="explicit"
        )


@check
def reservation_deleted_frees_its_range(region):
    subnet, half, made = _reserved(region)
    gone = region.client.delete_subnet_cidr_reservation(SubnetCidrReservationId=made["SubnetCidrReservationId"])
    expect("deleted", gone["DeletedSubnetCidrReservation"], made)
    expect("free", region.free(subnet), 123)
    made = region.create(subnet, SecondaryPrivateIpAddressCount=122)
    expect_that("addresses in the range", half, any(ipaddress.ip_address(one) in half for one in addresses(made)))


@check
def reservation_in_unknown_subnet(region):
    with refused("InvalidSubnetID.NotFound"):
        region.client.get_subnet_cidr_reservations(SubnetId=f"subnet-{NOBODY}")
