"""IPv6 addresses and prefixes of ENIs: a list of its own, `ipv6.tsv`, as long as not every backend has them."""

import ipaddress

from ec2_checks.region import check, eventually, expect, expect_that, refused


def _vpc(region) -> tuple[str, ipaddress.IPv6Network]:
    vpc = region.client.create_vpc(CidrBlock="10.9.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]

    def associated():
        found = region.client.describe_vpcs(VpcIds=[vpc])["Vpcs"][0].get("Ipv6CidrBlockAssociationSet", [])
        return [one["Ipv6CidrBlock"] for one in found if one["Ipv6CidrBlockState"]["State"] == "associated"]

    eventually("the VPC's IPv6 block is associated", lambda: len(associated()) == 1)
    return vpc, ipaddress.ip_network(associated()[0], strict=False)


def _subnet(region) -> tuple[str, ipaddress.IPv6Network]:
    vpc, block = _vpc(region)
    mine = next(block.subnets(new_prefix=64))
    made = region.client.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", Ipv6CidrBlock=str(mine))
    return made["Subnet"]["SubnetId"], mine


def _available(region) -> tuple[str, ipaddress.IPv6Network]:
    subnet, block = _subnet(region)
    return region.available(subnet), block


def _assign(region, eni: str, **more) -> list[str]:
    return region.client.assign_ipv6_addresses(NetworkInterfaceId=eni, **more)["AssignedIpv6Addresses"]


def _addresses(eni: dict) -> list[str]:
    return [one["Ipv6Address"] for one in eni.get("Ipv6Addresses", [])]


def _prefixes(eni: dict) -> list[str]:
    return [one["Ipv6Prefix"] for one in eni.get("Ipv6Prefixes", [])]


def _expect_prefixes(found: list[str], block: ipaddress.IPv6Network) -> None:
    networks = [ipaddress.ip_network(one) for one in found]
    expect("lengths", [one.prefixlen for one in networks], [80])
    expect_that(f"prefixes of {block}", found, all(one.subnet_of(block) for one in networks))


@check
def ipv6_vpc_has_a_block(region):
    expect("length", _vpc(region)[1].prefixlen, 56)


@check
def ipv6_subnet_block_is_associated(region):
    subnet, block = _subnet(region)
    found = region.client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["Ipv6CidrBlockAssociationSet"]
    seen = [(one["Ipv6CidrBlock"], one["Ipv6CidrBlockState"]["State"]) for one in found]
    expect("blocks", seen, [(str(block), "associated")])


@check
def ipv6_create_takes_a_count(region):
    subnet, block = _subnet(region)
    found = _addresses(region.create(subnet, Ipv6AddressCount=2))
    expect("different addresses", len(set(found)), 2)
    expect_that(f"addresses of {block}", found, all(ipaddress.ip_address(one) in block for one in found))


@check
def ipv6_create_takes_prefixes(region):
    subnet, block = _subnet(region)
    _expect_prefixes(_prefixes(region.create(subnet, Ipv6PrefixCount=1)), block)


@check
def ipv6_assign_answers_only_the_new(region):
    eni, _ = _available(region)
    first = _assign(region, eni, Ipv6AddressCount=2)
    second = _assign(region, eni, Ipv6AddressCount=1)
    expect("addresses in the second answer", len(second), 1)
    expect("addresses of the ENI", set(_addresses(region.eni(eni))), set(first + second))


@check
def ipv6_assign_is_of_the_subnet(region):
    eni, block = _available(region)
    found = _assign(region, eni, Ipv6AddressCount=2) + _assign(region, eni, Ipv6Addresses=[str(block[0xABC])])
    expect("different addresses", len(set(found)), 3)
    expect_that(f"addresses of {block}", found, all(ipaddress.ip_address(one) in block for one in found))


@check
def ipv6_assign_takes_prefixes(region):
    eni, block = _available(region)
    made = region.client.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6PrefixCount=1)
    _expect_prefixes(made["AssignedIpv6Prefixes"], block)


@check
def ipv6_prefix_is_described(region):
    eni, _ = _available(region)
    made = region.client.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6PrefixCount=2)
    expect("prefixes", set(_prefixes(region.eni(eni))), set(made["AssignedIpv6Prefixes"]))


@check
def ipv6_address_of_another(region):
    subnet, _ = _subnet(region)
    one, other = region.available(subnet), region.available(subnet)
    taken = _assign(region, one, Ipv6AddressCount=1)
    with refused("InvalidParameterValue", "InvalidIPAddress.InUse"):
        _assign(region, other, Ipv6Addresses=taken)


@check
def ipv6_unassign_takes_what_is_named(region):
    eni, _ = _available(region)
    gone, stays = _assign(region, eni, Ipv6AddressCount=2)
    made = region.client.unassign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6Addresses=[gone])
    seen = (made["UnassignedIpv6Addresses"], _addresses(region.eni(eni)))
    expect("answer, what is left", seen, ([gone], [stays]))


@check
def ipv6_unassign_takes_prefixes(region):
    eni, _ = _available(region)
    made = region.client.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6PrefixCount=1)["AssignedIpv6Prefixes"]
    gone = region.client.unassign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6Prefixes=made)
    expect("answer, what is left", (gone["UnassignedIpv6Prefixes"], _prefixes(region.eni(eni))), (made, []))


@check
def ipv6_in_a_subnet_without(region):
    eni = region.available(region.subnet())
    with refused("InvalidParameterValue", "InvalidParameterCombination", "InsufficientFreeAddressesInSubnet"):
        _assign(region, eni, Ipv6AddressCount=1)


@check
def ipv6_beyond_the_types_addresses(region):
    subnet, _ = _subnet(region)
    instance = region.instance(region.running(subnet))
    eni = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    _assign(region, eni, Ipv6AddressCount=10)
    with refused("Ipv6AddressLimitExceeded", "PrivateIpAddressLimitExceeded", "InvalidParameterValue"):
        _assign(region, eni, Ipv6AddressCount=1)
