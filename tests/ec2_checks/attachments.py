"""Attaching and detaching."""

from ec2_checks.region import NOBODY, check, eventually, expect, expect_that, refused


def _pair(region, **more):
    subnet = region.subnet()
    return region.available(subnet, **more), region.running(subnet), subnet


@check
def attach_answers_an_attachment(region):
    eni, instance, _ = _pair(region)
    attachment = region.attach(eni, instance, NetworkCardIndex=0)
    expect_that("an attachment id", attachment, attachment.startswith("eni-attach-"))


@check
def attach_takes_time(region):
    eni, instance, _ = _pair(region)
    region.attach(eni, instance)
    expect("attachment's status", region.eni(eni)["Attachment"]["Status"], "attaching")


@check
def attach_ends_attached(region):
    eni, instance, _ = _pair(region)
    region.attached(eni, instance)
    expect("status", region.eni(eni)["Status"], "in-use")


@check
def attach_does_not_mark_for_deletion(region):
    eni, instance, _ = _pair(region)
    region.attached(eni, instance)
    expect("DeleteOnTermination", region.eni(eni)["Attachment"]["DeleteOnTermination"], False)


@check
def attach_at_a_taken_index(region):
    eni, instance, subnet = _pair(region)
    region.attach(eni, instance, 1)
    other = region.available(subnet)
    with refused("InvalidParameterValue") as refusal:
        region.attach(other, instance, 1)
    expect_that("a word about the index", refusal.message, "interface attached at device" in refusal.message)


@check
def attach_twice(region):
    eni, instance, _ = _pair(region)
    region.attach(eni, instance, 1)
    with refused("InvalidNetworkInterface.InUse"):
        region.attach(eni, instance, 2)


@check
def attach_beyond_the_types_enis(region):
    subnet = region.subnet()
    instance = region.running(subnet)
    for index in (1, 2):
        region.attach(region.available(subnet), instance, index)
    one_more = region.available(subnet)
    with refused("AttachmentLimitExceeded") as refusal:
        region.attach(one_more, instance, 3)
    expect("message", refusal.message, "Interface count 4 exceeds the limit for m5.large")


@check
def attach_across_zones(region):
    instance = region.running(region.subnet(zone="a"))
    eni = region.available(region.subnet(zone="b"))
    with refused("InvalidParameterCombination", "InvalidParameterValue"):
        region.attach(eni, instance)


@check
def attach_with_too_many_addresses(region):
    eni, instance, _ = _pair(region, SecondaryPrivateIpAddressCount=14)
    with refused("PrivateIpAddressLimitExceeded", "InvalidParameterValue"):
        region.attach(eni, instance)


@check
def attach_to_unknown_instance(region):
    eni = region.available(region.subnet())
    with refused("InvalidInstanceID.NotFound"):
        region.attach(eni, f"i-{NOBODY}")


@check
def attach_unknown_eni(region):
    instance = region.running(region.subnet())
    with refused("InvalidNetworkInterfaceID.NotFound"):
        region.attach(f"eni-{NOBODY}", instance)


@check
def attach_to_another_card(region):
    subnet = region.subnet()
    instance, eni = region.running(subnet, "p4d.24xlarge"), region.available(subnet)
    made = region.client.attach_network_interface(
        NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=1, NetworkCardIndex=2
    )
    seen = (made["NetworkCardIndex"], region.eni(eni)["Attachment"]["NetworkCardIndex"])
    expect("card in the answer and in describe", seen, (2, 2))


@check
def attach_index_is_per_card(region):
    subnet = region.subnet()
    instance = region.running(subnet, "p4d.24xlarge")
    for card in (2, 3):
        region.attach(region.available(subnet), instance, 1, NetworkCardIndex=card)
    expect("ENIs", len(region.instance(instance)["NetworkInterfaces"]), 3)


@check
def attach_to_a_card_that_is_not_there(region):
    subnet = region.subnet()
    instance, eni = region.running(subnet, "p4d.24xlarge"), region.available(subnet)
    with refused("InvalidParameterValue"):
        region.attach(eni, instance, 1, NetworkCardIndex=9)


@check
def detach_takes_time(region):
    eni, instance, _ = _pair(region)
    region.client.detach_network_interface(AttachmentId=region.attached(eni, instance))
    expect("attachment's status", region.eni(eni)["Attachment"]["Status"], "detaching")


@check
def detach_ends_available(region):
    eni, instance, _ = _pair(region)
    region.client.detach_network_interface(AttachmentId=region.attached(eni, instance))
    eventually("the ENI is available", lambda: region.eni(eni)["Status"] == "available")
    expect("attachment", region.eni(eni).get("Attachment"), None)


@check
def detach_frees_the_index(region):
    eni, instance, _ = _pair(region)
    region.client.detach_network_interface(AttachmentId=region.attached(eni, instance))
    eventually("the ENI is available", lambda: region.eni(eni)["Status"] == "available")
    region.attach(eni, instance, 1)


@check
def detach_primary(region):
    instance = region.instance(region.running(region.subnet()))
    attachment = instance["NetworkInterfaces"][0]["Attachment"]["AttachmentId"]
    with refused("OperationNotPermitted"):
        region.client.detach_network_interface(AttachmentId=attachment)


@check
def detach_by_force(region):
    eni, instance, _ = _pair(region)
    region.client.detach_network_interface(AttachmentId=region.attached(eni, instance), Force=True)
    eventually("the ENI is available", lambda: region.eni(eni)["Status"] == "available")


@check
def detach_unknown(region):
    with refused("InvalidAttachmentID.NotFound"):
        region.client.detach_network_interface(AttachmentId=f"eni-attach-{NOBODY}")


@check
def delete_attached(region):
    eni, instance, _ = _pair(region)
    region.attached(eni, instance)
    with refused("InvalidParameterValue", "InvalidNetworkInterface.InUse"):
        region.client.delete_network_interface(NetworkInterfaceId=eni)


@check
def delete_detaching(region):
    eni, instance, _ = _pair(region)
    region.client.detach_network_interface(AttachmentId=region.attached(eni, instance))
    with refused("InvalidParameterValue", "InvalidNetworkInterface.InUse") as refusal:
        region.client.delete_network_interface(NetworkInterfaceId=eni)
    expect_that("a word about use", refusal.message, "currently in use" in refusal.message)
