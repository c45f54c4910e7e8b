"""Instances: launching, describing, terminating; instance types."""

from ec2_checks.region import MAC, NOBODY, addresses, check, eventually, expect, expect_that, named, refused, token


@check
def launch_answers_pending(region):
    expect("state", region.launch(region.subnet())["State"]["Name"], "pending")


@check
def launch_runs_in_the_end(region):
    region.running(region.subnet())


def _primary(region, **more):
    subnet, block = region.subnet_and_block()
    first = {"DeviceIndex": 0, "SubnetId": subnet, **more}
    instance = region.running(None, NetworkInterfaces=[first])
    return region.instance(instance)["NetworkInterfaces"][0], block


@check
def launch_takes_secondary_addresses(region):
    eni, _ = _primary(region, SecondaryPrivateIpAddressCount=3)
    expect("addresses", len(set(addresses(eni))), 4)


@check
def launch_takes_groups(region):
    group = region.group()
    eni, _ = _primary(region, Groups=[group])
    expect("groups", [one["GroupId"] for one in eni["Groups"]], [group])


@check
def launch_gives_a_mac(region):
    eni, _ = _primary(region)
    expect_that("a MAC", eni["MacAddress"], bool(MAC.match(eni["MacAddress"])))


@check
def launch_primary_goes_with_the_instance(region):
    eni, _ = _primary(region)
    expect("DeleteOnTermination", eni["Attachment"]["DeleteOnTermination"], True)


@check
def launch_primary_is_device_0_of_card_0(region):
    own = _primary(region)[0]["Attachment"]
    expect("place", (own["DeviceIndex"], own["NetworkCardIndex"], own["Status"]), (0, 0, "attached"))


@check
def launch_avoids_reserved_addresses(region):
    eni, block = _primary(region, SecondaryPrivateIpAddressCount=9)
    reserved = {str(block[n]) for n in (0, 1, 2, 3, -1)}
    expect("reserved addresses in use", reserved & set(addresses(eni)), set())


@check
def launch_shows_its_profile(region):
    arn = region.profile()
    instance = region.running(region.subnet(), IamInstanceProfile={"Arn": arn})
    expect("profile", region.instance(instance)["IamInstanceProfile"]["Arn"], arn)


@check
def launch_tags_its_eni(region):
    subnet = region.subnet()
    tags = [{"Key": "cluster", "Value": "c1"}]
    specification = [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "network-interface")]
    instance = region.instance(region.running(subnet, TagSpecifications=specification))
    eni = region.eni(instance["NetworkInterfaces"][0]["NetworkInterfaceId"])
    expect("tags", (instance["Tags"], eni["TagSet"]), (tags, tags))


@check
def launch_token_launches_once(region):
    arguments = {"subnet": region.subnet(), "ClientToken": token()}
    first, second = region.launch(**arguments), region.launch(**arguments)
    expect("instance", second["InstanceId"], first["InstanceId"])


@check
def launch_token_with_other_arguments(region):
    subnet, once = region.subnet(), token()
    region.launch(subnet, ClientToken=once)
    with refused("IdempotentParameterMismatch"):
        region.launch(subnet, "m5.xlarge", ClientToken=once)


@check
def launch_takes_two_interfaces(region):
    subnet = region.subnet()
    both = [{"DeviceIndex": index, "SubnetId": subnet} for index in (0, 1)]
    instance = region.instance(region.running(None, NetworkInterfaces=both))
    indexes = [eni["Attachment"]["DeviceIndex"] for eni in instance["NetworkInterfaces"]]
    expect("device indexes", sorted(indexes), [0, 1])


@check
def launch_of_unknown_type(region):
    with refused("InvalidParameterValue", "InvalidInstanceType"):
        region.launch(region.subnet(), "m99.bogus")


@check
def launch_into_a_full_subnet_leaves_nothing(region):
    subnet = region.subnet(28)
    first = {"DeviceIndex": 0, "SubnetId": subnet, "SecondaryPrivateIpAddressCount": 9}
    region.launch(None, "m5.4xlarge", NetworkInterfaces=[first])
    with refused("InsufficientFreeAddressesInSubnet"):
        region.launch(None, "m5.4xlarge", NetworkInterfaces=[first])
    expect("free", region.free(subnet), 1)


@check
def instance_unknown(region):
    with refused("InvalidInstanceID.NotFound"):
        region.client.describe_instances(InstanceIds=[f"i-{NOBODY}"])


def _found(answer):
    return [one["InstanceId"] for reservation in answer["Reservations"] for one in reservation["Instances"]]


@check
def instance_filters(region):
    instance = region.launch(region.subnet())["InstanceId"]
    answer = region.client.describe_instances(
        Filters=[named("instance-id", instance), named("instance-state-name", "running", "pending")]
    )
    expect("instances", _found(answer), [instance])


@check
def instance_filter_by_eni(region):
    subnet = region.subnet()
    instance, eni = region.running(subnet), region.available(subnet)
    region.attach(eni, instance)
    answer = region.client.describe_instances(Filters=[named("network-interface.network-interface-id", eni)])
    expect("instances", _found(answer), [instance])


@check
def instance_filter_by_id_leaves_out_what_is_not_there(region):
    subnet = region.subnet()
    over, up = region.running(subnet), region.running(subnet)
    region.client.terminate_instances(InstanceIds=[over])
    ids = named("instance-id", over, up, f"i-{NOBODY}")
    expect("instances", set(_found(region.client.describe_instances(Filters=[ids]))), {over, up})
    up_only = [ids, named("instance-state-name", "pending", "running")]
    expect("those that are not ending", _found(region.client.describe_instances(Filters=up_only)), [up])


@check
def instance_lists_its_enis(region):
    subnet = region.subnet()
    instance, eni = region.running(subnet), region.available(subnet, SecondaryPrivateIpAddressCount=2)
    region.attach(eni, instance)
    listed = {one["NetworkInterfaceId"]: one for one in region.instance(instance)["NetworkInterfaces"]}
    expect("addresses of the second ENI", len(addresses(listed[eni])), 3)


@check
def instance_pages(region):
    subnet = region.subnet()
    launched = {region.launch(subnet)["InstanceId"] for _ in range(7)}
    seen, arguments = [], {"MaxResults": 5, "Filters": [named("subnet-id", subnet)]}
    while True:
        answer = region.client.describe_instances(**arguments)
        page = _found(answer)
        expect_that("at most 5 on a page", page, len(page) <= 5)
        seen += page
        if not answer.get("NextToken"):
            break
        arguments["NextToken"] = answer["NextToken"]
    expect("instances over all pages", (len(seen), set(seen)), (7, launched))


@check
def type_limits(region):
    found = region.client.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"][0]["NetworkInfo"]
    expect("ENIs and addresses", (found["MaximumNetworkInterfaces"], found["Ipv4AddressesPerInterface"]), (3, 10))


@check
def type_hypervisor_and_cards(region):
    found = region.client.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"][0]
    expect("hypervisor, cards", (found["Hypervisor"], len(found["NetworkInfo"]["NetworkCards"])), ("nitro", 1))


@check
def type_with_several_cards(region):
    found = region.client.describe_instance_types(InstanceTypes=["p4d.24xlarge"])["InstanceTypes"][0]
    cards = found["NetworkInfo"]["NetworkCards"]
    expect("cards", [one["MaximumNetworkInterfaces"] for one in cards], [15, 15, 15, 15])


@check
def type_recent_ones_known(region):
    names = ["m7i.large", "m8g.large", "c8gn.large", "i7ie.large", "m8i.large", "r8i.large", "p6-b200.48xlarge"]
    found = region.client.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    expect("types", sorted(one["InstanceType"] for one in found), sorted(names))


@check
def type_unknown(region):
    with refused("InvalidInstanceType"):
        region.client.describe_instance_types(InstanceTypes=["m99.bogus"])


@check
def type_pages(region):
    page = region.client.describe_instance_types(MaxResults=5)
    more = region.client.describe_instance_types(MaxResults=5, NextToken=page["NextToken"])
    names = [one["InstanceType"] for one in page["InstanceTypes"] + more["InstanceTypes"]]
    expect("different types on two pages", len(set(names)), 10)


def _terminate(region):
    subnet = region.subnet()
    instance = region.running(subnet)
    enis = [region.available(subnet, SecondaryPrivateIpAddressCount=2) for _ in range(2)]
    attachments = [region.attached(eni, instance, index) for index, eni in enumerate(enis, start=1)]
    region.client.modify_network_interface_attribute(
        NetworkInterfaceId=enis[0], Attachment={"AttachmentId": attachments[0], "DeleteOnTermination": True}
    )
    primary = region.instance(instance)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    answer = region.client.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
    eventually("the instance is over", lambda: region.instance(instance)["State"]["Name"] == "terminated")
    return subnet, primary, enis, answer


@check
def terminate_answers_shutting_down(region):
    expect("state", _terminate(region)[3]["CurrentState"]["Name"], "shutting-down")


@check
def terminate_deletes_the_primary(region):
    _, primary, _, _ = _terminate(region)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.eni(primary)


@check
def terminate_deletes_what_is_marked(region):
    _, _, (marked, _), _ = _terminate(region)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.eni(marked)


@check
def terminate_leaves_what_is_not_marked(region):
    _, _, (_, unmarked), _ = _terminate(region)
    eni = region.eni(unmarked)
    expect("status, attachment", (eni["Status"], eni.get("Attachment")), ("available", None))


@check
def terminate_gives_addresses_back(region):
    subnet, _, _, _ = _terminate(region)
    expect("free with one ENI of 3 addresses left", region.free(subnet), 251 - 3)


@check
def terminate_unknown(region):
    with refused("InvalidInstanceID.NotFound"):
        region.client.terminate_instances(InstanceIds=[f"i-{NOBODY}"])
