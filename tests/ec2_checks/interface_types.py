"""ENIs that are not for pods."""

from ec2_checks.region import addresses, check, expect, named, refused


@check
def create_with_interface_type(region):
    for kind in ("trunk", "efa"):
        eni = region.available(region.subnet(), InterfaceType=kind)
        expect("type, addresses", (region.eni(eni)["InterfaceType"], len(addresses(region.eni(eni)))), (kind, 1))
        found = region.ids(Filters=[named("interface-type", kind), named("network-interface-id", eni)])
        expect("filter", found, [eni])


@check
def create_efa_only_has_no_addresses(region):
    subnet = region.subnet()
    eni = region.eni(region.available(subnet, InterfaceType="efa-only"))
    seen = (eni["InterfaceType"], addresses(eni), eni.get("PrivateIpAddress"), region.free(subnet))
    expect("type, addresses, free", seen, ("efa-only", [], None, 251))
    with refused("InvalidParameterCombination", "InvalidParameterValue"):
        region.create(subnet, InterfaceType="efa-only", SecondaryPrivateIpAddressCount=1)


@check
def attach_counts_enis_of_every_type(region):
    subnet = region.subnet()
    instance = region.running(subnet)
    for index, kind in enumerate(("trunk", "efa-only"), start=1):
        region.attach(region.available(subnet, InterfaceType=kind), instance, index)
    one_more = region.available(subnet)
    with refused("AttachmentLimitExceeded"):
        region.attach(one_more, instance, 3)
