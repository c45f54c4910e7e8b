"""Assigning and unassigning secondary addresses."""

from concurrent.futures import ThreadPoolExecutor

from ec2_checks.region import NOBODY, addresses, check, expect, expect_that, refused, secondaries


@check
def assign_count_answers_only_the_new(region):
    eni = region.available(region.subnet())
    region.assign(eni, SecondaryPrivateIpAddressCount=2)
    expect("addresses in the second answer", len(region.assign(eni, SecondaryPrivateIpAddressCount=4)), 4)


@check
def assign_is_visible_at_once(region):
    eni = region.available(region.subnet())
    new = region.assign(eni, SecondaryPrivateIpAddressCount=4)
    expect("secondaries", set(secondaries(region.eni(eni))), set(new))


@check
def assign_twice_is_twice_the_addresses(region):
    eni = region.available(region.subnet())
    for _ in range(2):
        region.assign(eni, SecondaryPrivateIpAddressCount=3)
    expect("secondaries", len(set(secondaries(region.eni(eni)))), 6)


@check
def assign_given_address(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    expect("answer", region.assign(eni, PrivateIpAddresses=[str(block[200])]), [str(block[200])])


def _holder_and_other(region):
    subnet, block = region.subnet_and_block()
    holder, other = region.available(subnet), region.available(subnet)
    address = region.assign(holder, PrivateIpAddresses=[str(block[200])])[0]
    return holder, other, address


@check
def assign_address_of_another(region):
    _, other, address = _holder_and_other(region)
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse", "PrivateIpAddress.InUse"):
        region.assign(other, PrivateIpAddresses=[address])


@check
def assign_moves_with_reassignment(region):
    holder, other, address = _holder_and_other(region)
    region.assign(other, PrivateIpAddresses=[address], AllowReassignment=True)
    seen = (secondaries(region.eni(holder)), secondaries(region.eni(other)))
    expect("secondaries of both", seen, ([], [address]))


@check
def assign_never_moves_a_primary(region):
    holder, other, _ = _holder_and_other(region)
    primary = region.eni(holder)["PrivateIpAddress"]
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
        region.assign(other, PrivateIpAddresses=[primary], AllowReassignment=True)


@check
def assign_address_outside(region):
    eni = region.available(region.subnet())
    with refused("InvalidParameterValue"):
        region.assign(eni, PrivateIpAddresses=["10.255.255.5"])


@check
def assign_reserved_address(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    for number in (0, 1, 2, 3, -1):
        with refused("InvalidParameterValue"):
            region.assign(eni, PrivateIpAddresses=[str(block[number])])


@check
def assign_nothing(region):
    eni = region.available(region.subnet())
    with refused("MissingParameter", "InvalidParameterCombination", "InvalidParameterValue"):
        region.assign(eni)


@check
def assign_count_and_addresses(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    with refused("InvalidParameterCombination", "InvalidParameterValue"):
        region.assign(eni, SecondaryPrivateIpAddressCount=1, PrivateIpAddresses=[str(block[201])])


@check
def assign_to_unknown(region):
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.assign(f"eni-{NOBODY}", SecondaryPrivateIpAddressCount=1)


@check
def assign_beyond_the_types_addresses(region):
    subnet = region.subnet()
    eni, instance = region.available(subnet), region.running(subnet)
    region.attach(eni, instance)
    region.assign(eni, SecondaryPrivateIpAddressCount=9)
    with refused("PrivateIpAddressLimitExceeded") as refusal:
        region.assign(eni, SecondaryPrivateIpAddressCount=1)
    expect("message", refusal.message, "Number of private addresses will exceed limit.")


@check
def assign_beyond_the_limit_assigns_nothing(region):
    subnet = region.subnet()
    eni, instance = region.available(subnet), region.running(subnet)
    region.attach(eni, instance)
    with refused("PrivateIpAddressLimitExceeded"):
        region.assign(eni, SecondaryPrivateIpAddressCount=10)
    expect("addresses", len(addresses(region.eni(eni))), 1)


@check
def assign_in_a_full_subnet(region):
    eni = region.available(region.subnet(28))
    with refused("InsufficientFreeAddressesInSubnet") as refusal:
        region.assign(eni, SecondaryPrivateIpAddressCount=11)
    expect_that("a word about free addresses", refusal.message, "free addresses" in refusal.message)


@check
def assign_in_a_full_subnet_assigns_nothing(region):
    subnet = region.subnet(28)
    eni = region.available(subnet)
    with refused("InsufficientFreeAddressesInSubnet"):
        region.assign(eni, SecondaryPrivateIpAddressCount=11)
    expect("free, addresses", (region.free(subnet), len(addresses(region.eni(eni)))), (10, 1))


@check
def assign_list_with_one_in_use_assigns_nothing(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    region.create(subnet, PrivateIpAddress=str(block[50]))
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
        region.assign(eni, PrivateIpAddresses=[str(block[49]), str(block[50])])
    expect("secondaries", secondaries(region.eni(eni)), [])


@check
def assign_takes_the_last_address(region):
    subnet, block = region.subnet_and_block(28)
    eni = region.available(subnet)
    region.assign(eni, SecondaryPrivateIpAddressCount=10)
    seen = (region.free(subnet), set(addresses(region.eni(eni))))
    expect("free, addresses", seen, (0, {str(block[n]) for n in range(4, 15)}))


@check
def assign_from_many_at_once_is_unique(region):
    subnet = region.subnet()
    enis = [region.available(subnet) for _ in range(5)]
    jobs = [eni for eni in enis for _ in range(5)]
    with ThreadPoolExecutor(max_workers=10) as pool:
        answers = list(pool.map(lambda eni: region.assign(eni, SecondaryPrivateIpAddressCount=2), jobs))
    new = [address for answer in answers for address in answer]
    expect("addresses, different ones", (len(new), len(set(new))), (50, 50))


@check
def unassign_takes_what_is_named(region):
    eni = region.available(region.subnet())
    new = region.assign(eni, SecondaryPrivateIpAddressCount=4)
    region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=new[:2])
    expect("secondaries", set(secondaries(region.eni(eni))), set(new[2:]))


@check
def unassign_frees_in_the_subnet(region):
    subnet = region.subnet()
    eni = region.available(subnet)
    new = region.assign(eni, SecondaryPrivateIpAddressCount=4)
    before = region.free(subnet)
    region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=new[:2])
    expect("free", region.free(subnet), before + 2)


@check
def unassign_what_is_not_there(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    with refused("InvalidParameterValue"):
        region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=[str(block[250])])


@check
def unassign_list_with_one_foreign_unassigns_nothing(region):
    subnet, block = region.subnet_and_block()
    eni = region.available(subnet)
    new = region.assign(eni, SecondaryPrivateIpAddressCount=2)
    with refused("InvalidParameterValue"):
        region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=[new[0], str(block[250])])
    expect("secondaries", set(secondaries(region.eni(eni))), set(new))


@check
def unassign_primary(region):
    eni = region.available(region.subnet())
    primary = region.eni(eni)["PrivateIpAddress"]
    with refused("InvalidParameterValue", "OperationNotPermitted"):
        region.client.unassign_private_ip_addresses(NetworkInterfaceId=eni, PrivateIpAddresses=[primary])


@check
def unassign_from_unknown(region):
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.client.unassign_private_ip_addresses(NetworkInterfaceId=f"eni-{NOBODY}", PrivateIpAddresses=["10.0.0.4"])
