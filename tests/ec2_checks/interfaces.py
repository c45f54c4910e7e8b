"""ENIs: made, described, changed, deleted."""

from ec2_checks.region import (
    MAC,
    NOBODY,
    addresses,
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
def create_answers_pending(region):
    expect("status", region.create(region.subnet())["Status"], "pending")


@check
def create_becomes_available(region):
    region.available(region.subnet())


@check
def create_takes_secondary_addresses(region):
    made = region.create(region.subnet(), SecondaryPrivateIpAddressCount=5)
    expect("different addresses", len(set(addresses(made))), 6)


@check
def create_has_one_primary(region):
    made = region.create(region.subnet(), SecondaryPrivateIpAddressCount=5)
    primaries = [one["PrivateIpAddress"] for one in made["PrivateIpAddresses"] if one["Primary"]]
    expect("primary addresses", primaries, [made["PrivateIpAddress"]])


@check
def create_takes_groups_description_tags(region):
    group = region.group()
    made = region.create(region.subnet(), Description="d", Groups=[group], **tagged("network-interface", k="v"))
    seen = ([one["GroupId"] for one in made["Groups"]], made["Description"], made["TagSet"])
    expect("groups, description, tags", seen, ([group], "d", [{"Key": "k", "Value": "v"}]))


@check
def create_gives_a_mac(region):
    mac = region.create(region.subnet())["MacAddress"]
    expect_that("a MAC", mac, bool(MAC.match(mac)))


@check
def create_token_creates_once(region):
    arguments = {"subnet": region.subnet(), "ClientToken": token(), "Description": "x"}
    first, second = region.create(**arguments), region.create(**arguments)
    expect("ENI", second["NetworkInterfaceId"], first["NetworkInterfaceId"])


@check
def create_token_with_other_arguments(region):
    arguments = {"subnet": region.subnet(), "ClientToken": token()}
    region.create(Description="x", **arguments)
    with refused("IdempotentParameterMismatch", "InvalidParameterCombination"):
        region.create(Description="y", **arguments)


@check
def create_token_of_a_refused_call_is_free(region):
    subnet, block = region.subnet_and_block()
    arguments = {"subnet": subnet, "ClientToken": token(), "PrivateIpAddress": str(block[77])}
    blocker = region.available(subnet, PrivateIpAddress=str(block[77]))
    with refused("InvalidIPAddress.InUse"):
        region.create(**arguments)
    region.client.delete_network_interface(NetworkInterfaceId=blocker)
    expect("address", region.create(**arguments)["PrivateIpAddress"], str(block[77]))


@check
def create_with_given_address(region):
    subnet, block = region.subnet_and_block()
    expect("address", region.create(subnet, PrivateIpAddress=str(block[77]))["PrivateIpAddress"], str(block[77]))


@check
def create_with_listed_addresses(region):
    subnet, block = region.subnet_and_block()
    listed = [{"PrivateIpAddress": str(block[n]), "Primary": n == 20} for n in (10, 20, 30)]
    made = region.create(subnet, PrivateIpAddresses=listed)
    seen = (made["PrivateIpAddress"], set(secondaries(made)))
    expect("primary, secondaries", seen, (str(block[20]), {str(block[10]), str(block[30])}))


@check
def create_with_address_in_use(region):
    subnet, block = region.subnet_and_block()
    region.create(subnet, PrivateIpAddress=str(block[77]))
    with refused("InvalidIPAddress.InUse"):
        region.create(subnet, PrivateIpAddress=str(block[77]))


@check
def create_with_address_outside(region):
    with refused("InvalidParameterValue"):
        region.create(region.subnet(), PrivateIpAddress="10.255.255.77")


@check
def create_with_reserved_address(region):
    subnet, block = region.subnet_and_block()
    for number in (0, 1, 2, 3, -1):
        with refused("InvalidParameterValue"):
            region.create(subnet, PrivateIpAddress=str(block[number]))


@check
def create_in_unknown_subnet(region):
    with refused("InvalidSubnetID.NotFound"):
        region.create(f"subnet-{NOBODY}")


@check
def create_with_unknown_group(region):
    with refused("InvalidGroup.NotFound"):
        region.create(region.subnet(), Groups=[f"sg-{NOBODY}"])


@check
def create_dry_run(region):
    subnet = region.subnet()
    with refused("DryRunOperation"):
        region.create(subnet, DryRun=True)
    expect("free", region.free(subnet), 251)


@check
def create_in_a_full_subnet(region):
    subnet = region.subnet(28)
    for _ in range(3):
        region.create(subnet)
    with refused("InsufficientFreeAddressesInSubnet") as refusal:
        region.create(subnet, SecondaryPrivateIpAddressCount=12)
    expect_that("a word about free addresses", refusal.message, "free addresses" in refusal.message)


@check
def create_refused_leaves_nothing(region):
    subnet = region.subnet(28)
    for _ in range(3):
        region.create(subnet)
    with refused("InsufficientFreeAddressesInSubnet"):
        region.create(subnet, SecondaryPrivateIpAddressCount=12)
    expect("free", region.free(subnet), 8)
    expect("ENIs", len(region.ids(Filters=[named("subnet-id", subnet)])), 3)


@check
def create_fills_a_subnet_to_the_last_address(region):
    subnet, block = region.subnet_and_block(28)
    made = [region.create(subnet)["PrivateIpAddress"] for _ in range(11)]
    with refused("InsufficientFreeAddressesInSubnet"):
        region.create(subnet)
    expect("addresses", set(made), {str(block[n]) for n in range(4, 15)})


def _described(region):
    subnet = region.subnet()
    made = region.create(
        subnet,
        SecondaryPrivateIpAddressCount=1,
        Description=f"desc-{token()}",
        **tagged("network-interface", **{"node.k8s.amazonaws.com/instance_id": "i-1"}),
    )
    eni = made["NetworkInterfaceId"]
    eventually("the ENI is available", lambda: region.eni(eni)["Status"] == "available")
    return eni, subnet, made


def _finds(region, eni, name, *values):
    found = region.ids(Filters=[named(name, *values), named("network-interface-id", eni)])
    expect(f"filter {name}", found, [eni])


@check
def describe_filters(region):
    eni, subnet, made = _described(region)
    _finds(region, eni, "status", "available")
    _finds(region, eni, "tag:node.k8s.amazonaws.com/instance_id", "i-1")
    _finds(region, eni, "tag-key", "node.k8s.amazonaws.com/instance_id")
    _finds(region, eni, "description", "desc-*")
    _finds(region, eni, "mac-address", made["MacAddress"])
    _finds(region, eni, "private-ip-address", made["PrivateIpAddress"])
    _finds(region, eni, "addresses.private-ip-address", *secondaries(made))
    _finds(region, eni, "subnet-id", subnet)
    _finds(region, eni, "vpc-id", region.vpc)
    _finds(region, eni, "group-id", made["Groups"][0]["GroupId"])
    _finds(region, eni, "interface-type", "interface")
    _finds(region, eni, "owner-id", made["OwnerId"])


@check
def describe_attachment_filters(region):
    eni, subnet, _ = _described(region)
    instance = region.running(subnet)
    attachment = region.attached(eni, instance)
    _finds(region, eni, "attachment.instance-id", instance)
    _finds(region, eni, "attachment.attachment-id", attachment)
    _finds(region, eni, "attachment.device-index", "1")
    _finds(region, eni, "attachment.status", "attached")


@check
def describe_filter_that_does_not_match(region):
    eni, _, _ = _described(region)
    found = region.ids(Filters=[named("network-interface-id", eni), named("status", "in-use")])
    expect("ENIs", found, [])


@check
def describe_unknown_filter(region):
    with refused("InvalidParameterValue"):
        region.ids(Filters=[named("bogus", "x")])


@check
def describe_unknown(region):
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.eni(f"eni-{NOBODY}")


@check
def describe_pages(region):
    subnet = region.subnet()
    made = {region.create(subnet)["NetworkInterfaceId"] for _ in range(12)}
    seen, pages, arguments = [], 0, {"MaxResults": 5, "Filters": [named("subnet-id", subnet)]}
    while True:
        answer = region.client.describe_network_interfaces(**arguments)
        pages, seen = pages + 1, seen + [one["NetworkInterfaceId"] for one in answer["NetworkInterfaces"]]
        if not answer.get("NextToken"):
            break
        arguments["NextToken"] = answer["NextToken"]
    expect("pages, ENIs", (pages, len(seen), set(seen)), (3, 12, made))


@check
def describe_sweep_finds_what_is_left_over(region):
    subnet, cluster = region.subnet(), token()
    tags = {"node.k8s.amazonaws.com/instance_id": "i-1", "cluster.k8s.amazonaws.com/name": cluster}

    def made(**more):
        return region.available(subnet, **{"Description": "aws-K8S-i-1", **tagged("network-interface", **tags), **more})

    wanted = {made() for _ in range(7)}
    made(Description="somebody else's")
    made(**tagged("network-interface", **{"cluster.k8s.amazonaws.com/name": cluster}))
    region.attach(made(), region.running(subnet))
    seen, arguments = (
        [],
        {
            "MaxResults": 5,
            "Filters": [
                named("tag-key", "node.k8s.amazonaws.com/instance_id"),
                named("tag:cluster.k8s.amazonaws.com/name", cluster),
                named("status", "available"),
                named("vpc-id", region.vpc),
                named("description", "aws-K8S-*"),
            ],
        },
    )
    while True:
        answer = region.client.describe_network_interfaces(**arguments)
        seen += [one["NetworkInterfaceId"] for one in answer["NetworkInterfaces"]]
        if not answer.get("NextToken"):
            break
        arguments["NextToken"] = answer["NextToken"]
    expect("ENIs", (len(seen), set(seen)), (7, wanted))


@check
def describe_page_size_with_ids(region):
    eni = region.create(region.subnet())["NetworkInterfaceId"]
    with refused("InvalidParameterCombination"):
        region.ids(NetworkInterfaceIds=[eni], MaxResults=5)


@check
def describe_has_every_field(region):
    eni, subnet, _ = _described(region)
    region.attached(eni, region.running(subnet))
    fields = (
        "AvailabilityZone Description Groups InterfaceType MacAddress NetworkInterfaceId OwnerId PrivateIpAddress "
        "PrivateIpAddresses PrivateDnsName RequesterManaged SourceDestCheck Status SubnetId TagSet VpcId Attachment"
    )
    expect("missing fields", [name for name in fields.split() if name not in region.eni(eni)], [])


@check
def modify_delete_on_termination(region):
    subnet = region.subnet()
    eni, instance = region.available(subnet), region.running(subnet)
    attachment = region.attached(eni, instance)
    region.client.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Attachment={"AttachmentId": attachment, "DeleteOnTermination": True}
    )
    expect("DeleteOnTermination", region.eni(eni)["Attachment"]["DeleteOnTermination"], True)


@check
def modify_source_dest_check(region):
    eni = region.available(region.subnet())
    region.client.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
    expect("SourceDestCheck", region.eni(eni)["SourceDestCheck"], False)


@check
def modify_groups(region):
    eni, group = region.available(region.subnet()), region.group()
    region.client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[group])
    expect("groups", [one["GroupId"] for one in region.eni(eni)["Groups"]], [group])


@check
def modify_unknown_group(region):
    eni = region.available(region.subnet())
    with refused("InvalidGroup.NotFound"):
        region.client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[f"sg-{NOBODY}"])


@check
def modify_with_wrong_attachment(region):
    eni = region.available(region.subnet())
    with refused("InvalidAttachmentID.NotFound", "InvalidAttachment.NotFound"):
        region.client.modify_network_interface_attribute(
            NetworkInterfaceId=eni,
            Attachment={"AttachmentId": f"eni-attach-{NOBODY}", "DeleteOnTermination": True},
        )


@check
def modify_one_attribute_a_call(region):
    eni = region.available(region.subnet())
    with refused("InvalidParameterCombination"):
        region.client.modify_network_interface_attribute(
            NetworkInterfaceId=eni, SourceDestCheck={"Value": True}, Description={"Value": "z"}
        )


@check
def delete_available(region):
    eni = region.available(region.subnet())
    region.client.delete_network_interface(NetworkInterfaceId=eni)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.eni(eni)


@check
def delete_twice(region):
    eni = region.available(region.subnet())
    region.client.delete_network_interface(NetworkInterfaceId=eni)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.client.delete_network_interface(NetworkInterfaceId=eni)
