"""The admin listener of LocalStack's and moto's side: no part of EC2, and a list of its own, `admin.tsv`."""

import json
import urllib.error
import urllib.request
from typing import Any

from ec2_checks.region import Mismatch, addresses, check, eventually, expect, prefixes, refused, token


def ask(region, method: str, path: str, change: object = None) -> tuple[int, dict[str, Any]]:
    """The status and the answer."""
    body = None if change is None else json.dumps(change).encode()
    request = urllib.request.Request(f"http://{region.admin}{path}", method=method, data=body)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def state(region, path: str = "/state") -> dict[str, Any]:
    status, found = ask(region, "GET", path)
    expect("status", status, 200)
    return found


def _one(found: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    for one in found[kind]:
        if one["id"] == name:
            return one
    raise Mismatch(f"expected {name} among the {kind} of the truth")


@check
def admin_truth_is_what_ec2_tells(region):
    subnet, group = region.subnet(), region.group()
    instance = region.running(subnet)
    eni = region.available(subnet, Groups=[group], Description="d", SecondaryPrivateIpAddressCount=2)
    region.client.create_tags(Resources=[eni], Tags=[{"Key": "a", "Value": "b"}])
    region.client.assign_private_ip_addresses(NetworkInterfaceId=eni, Ipv4PrefixCount=1)
    attachment = region.attached(eni, instance)
    told, found = region.eni(eni), state(region)
    true = _one(found, "enis", eni)
    expect("addresses", [true["primary"], *true["secondary"]], addresses(told))
    expect("prefixes", true["prefixes"], prefixes(told))
    seen = [true[name] for name in ("mac", "subnet", "vpc", "zone", "description", "groups", "tags", "status")]
    expect("its fields", seen, [told["MacAddress"], subnet, region.vpc, "us-west-2a", "d", [group], {"a": "b"}, "in-use"])
    own = true["attachment"]
    seen = [own[name] for name in ("id", "instance", "device", "card", "status", "delete_on_termination")]
    expect("its attachment", seen, [attachment, instance, 1, 0, "attached", False])
    machine = _one(found, "instances", instance)
    expect("the instance", [machine[one] for one in ("type", "state", "subnet")], ["m5.large", "running", subnet])
    expect("free", _one(found, "subnets", subnet)["free"], region.free(subnet))
    expect("the VPC's blocks", _one(found, "vpcs", region.vpc)["cidrs"], ["10.0.0.0/16"])


@check
def admin_waits_for_what_time_changes(region):
    eni = region.create(region.subnet())["NetworkInterfaceId"]
    found = state(region)

    def available():
        nonlocal found
        found = state(region, f"/state?after={found['revision']}")
        return _one(found, "enis", eni)["status"] == "available"

    eventually("the truth says that the ENI is available", available)


@check
def admin_waits_for_what_a_call_changes(region):
    subnet = region.subnet()
    region.available(subnet)
    before = state(region)["revision"]
    region.free(subnet)
    with refused("InvalidSubnetID.NotFound"):
        region.create(f"subnet-{token()}")
    expect("revision after a read and a refused call", state(region)["revision"], before)
    region.create(subnet)
    expect("a later revision", state(region, f"/state?after={before}")["revision"] > before, True)


@check
def admin_settings_change_in_part(region):
    _, before = ask(region, "GET", "/settings")
    status, after = ask(region, "PATCH", "/settings", {"times": {"create": 51}, "address_order": "first_fit"})
    expect("status", status, 200)
    expect("settings", after, before | {"times": before["times"] | {"create": 51}, "address_order": "first_fit"})
    ask(region, "PATCH", "/settings", before)
    expect("settings put back", ask(region, "GET", "/settings"), (200, before))


@check
def admin_settings_refuse_nonsense(region):
    before = ask(region, "GET", "/settings")
    for change in ({"times": {"attach": 7, "lunch": 1}}, {"address_order": "worst_fit"}, ["times"], {"eni_quota": -1}):
        expect(f"status of {change}", ask(region, "PATCH", "/settings", change)[0], 400)
    expect("settings", ask(region, "GET", "/settings"), before)


@check
def admin_knows_no_other_path(region):
    expect("health", "revision" in ask(region, "GET", "/health")[1], True)
    expect("status", ask(region, "GET", "/nothing")[0], 404)
    expect("status", ask(region, "GET", "/state?after=then")[0], 400)
