"""VPCs, subnets, security groups, tags."""

from ec2_checks.region import (
    NOBODY,
    REGION,
    check,
    eventually,
    expect,
    expect_that,
    named,
    refused,
    secondaries,
    tagged,
    token,
)


@check
def subnet_filters_combine(region):
    value = token()
    subnet = region.subnet(**tagged("subnet", **{"kubernetes.io/role/cni": value}))
    found = region.client.describe_subnets(
        Filters=[
            named("vpc-id", region.vpc),
            named("tag:kubernetes.io/role/cni", value),
            named("availability-zone", REGION + "a"),
        ]
    )["Subnets"]
    expect("subnets", [one["SubnetId"] for one in found], [subnet])


@check
def subnet_tag_key_filter_takes_wildcards(region):
    key = token()
    subnet = region.subnet(**tagged("subnet", **{f"{key}/role/cni": "1"}))
    found = region.client.describe_subnets(Filters=[named("tag-key", f"{key}/*")])["Subnets"]
    expect("subnets", [one["SubnetId"] for one in found], [subnet])


@check
def subnet_unknown(region):
    with refused("InvalidSubnetID.NotFound"):
        region.client.describe_subnets(SubnetIds=[f"subnet-{NOBODY}"])


@check
def subnet_new_has_all_but_five_addresses(region):
    expect("free in a /24", region.free(region.subnet(24)), 251)
    expect("free in a /28", region.free(region.subnet(28)), 11)


@check
def subnet_free_count_falls_by_every_address(region):
    subnet = region.subnet()
    before = region.free(subnet)
    region.create(subnet, SecondaryPrivateIpAddressCount=4)
    expect("free after 1 + 4 addresses", region.free(subnet), before - 5)


@check
def subnet_free_count_comes_back_with_a_delete(region):
    subnet = region.subnet()
    before = region.free(subnet)
    eni = region.available(subnet, SecondaryPrivateIpAddressCount=4)
    region.client.delete_network_interface(NetworkInterfaceId=eni)
    eventually("all addresses are free", lambda: region.free(subnet) == before)


@check
def subnet_pages(region):
    subnets = [region.subnet(28) for _ in range(6)]
    seen, arguments = [], {"MaxResults": 5, "Filters": [named("subnet-id", *subnets)]}
    while True:
        page = region.client.describe_subnets(**arguments)
        expect_that("at most 5 on a page", len(page["Subnets"]), len(page["Subnets"]) <= 5)
        seen += [one["SubnetId"] for one in page["Subnets"]]
        if not page.get("NextToken"):
            break
        arguments["NextToken"] = page["NextToken"]
    expect("subnets over all pages", sorted(seen), sorted(subnets))


@check
def subnet_overlap_refused(region):
    _, block = region.subnet_and_block()
    with refused("InvalidSubnet.Conflict"):
        region.client.create_subnet(VpcId=region.vpc, CidrBlock=str(block))


@check
def subnet_outside_vpc_refused(region):
    with refused("InvalidSubnet.Range"):
        region.client.create_subnet(VpcId=region.vpc, CidrBlock="172.16.0.0/24")


@check
def vpc_shows_its_blocks(region):
    vpc = region.client.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    region.client.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="100.64.0.0/16")

    def associated():
        found = region.client.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["CidrBlockAssociationSet"]
        return {one["CidrBlock"] for one in found if one["CidrBlockState"]["State"] == "associated"}

    eventually("both blocks are associated", lambda: associated() == {"10.1.0.0/16", "100.64.0.0/16"})


@check
def subnet_in_a_second_block(region):
    vpc = region.client.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    region.client.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="100.64.0.0/16")
    made = region.client.create_subnet(VpcId=vpc, CidrBlock="100.64.0.0/24")["Subnet"]
    expect("block", made["CidrBlock"], "100.64.0.0/24")


@check
def vpc_unknown(region):
    with refused("InvalidVpcID.NotFound"):
        region.client.describe_vpcs(VpcIds=[f"vpc-{NOBODY}"])


@check
def same_block_in_two_vpcs_is_two_worlds(region):
    taken = []
    for _ in range(2):
        vpc = region.client.create_vpc(CidrBlock="10.3.0.0/16")["Vpc"]["VpcId"]
        subnet = region.client.create_subnet(VpcId=vpc, CidrBlock="10.3.0.0/24")["Subnet"]["SubnetId"]
        taken.append(region.create(subnet, PrivateIpAddress="10.3.0.77"))
    region.assign(taken[0]["NetworkInterfaceId"], PrivateIpAddresses=["10.3.0.78"])
    region.assign(taken[1]["NetworkInterfaceId"], PrivateIpAddresses=["10.3.0.78"])
    for eni in taken:
        expect("secondary", secondaries(region.eni(eni["NetworkInterfaceId"])), ["10.3.0.78"])


@check
def group_filters(region):
    value = token()
    group = region.group(**tagged("security-group", role=value))
    found = region.client.describe_security_groups(Filters=[named("vpc-id", region.vpc), named("tag:role", value)])
    expect("groups", [one["GroupId"] for one in found["SecurityGroups"]], [group])


@check
def group_unknown(region):
    with refused("InvalidGroup.NotFound"):
        region.client.describe_security_groups(GroupIds=[f"sg-{NOBODY}"])


@check
def group_name_taken(region):
    arguments = {"GroupName": token(), "Description": "for a check", "VpcId": region.vpc}
    region.client.create_security_group(**arguments)
    with refused("InvalidGroup.Duplicate"):
        region.client.create_security_group(**arguments)


@check
def vpc_comes_with_a_default_group(region):
    found = region.client.describe_security_groups(Filters=[named("vpc-id", region.vpc), named("group-name", "default")])[
        "SecurityGroups"
    ]
    expect("default groups", len(found), 1)


@check
def tags_set(region):
    eni = region.create(region.subnet())["NetworkInterfaceId"]
    region.client.create_tags(Resources=[eni], Tags=[{"Key": "a", "Value": "b"}])
    expect("tags", region.eni(eni)["TagSet"], [{"Key": "a", "Value": "b"}])


@check
def tags_removed(region):
    eni = region.create(region.subnet(), **tagged("network-interface", a="b", c="d"))["NetworkInterfaceId"]
    region.client.delete_tags(Resources=[eni], Tags=[{"Key": "a"}])
    expect("tags", region.eni(eni)["TagSet"], [{"Key": "c", "Value": "d"}])


@check
def tags_of_unknown_eni(region):
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.client.create_tags(Resources=[f"eni-{NOBODY}"], Tags=[{"Key": "a", "Value": "b"}])


@check
def unknown_action(region):
    with refused("InvalidAction"):
        region.call("DescribeWhatIsNotThere")
