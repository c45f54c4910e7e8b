"""What the checks are written with: a region to try things in, and how to say what is expected of it."""

import ipaddress
import itertools
import re
import time
import uuid
from collections.abc import Callable

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

CHECKS: dict[str, Callable[["Region"], None]] = {}
REGION = "us-west-2"
IMAGE = "ami-0123456789abcdef0"
PATIENCE = 15.0
MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
NOBODY = "0123456789abcdef0"


class Mismatch(Exception):
    """Something is not as EC2 has it."""


def check(function):
    """Makes a function one of the checks; its name is the id."""
    CHECKS[function.__name__] = function
    return function


def expect(what: str, got, want) -> None:
    if got != want:
        raise Mismatch(f"{what}: expected {want!r}, got {got!r}")


def expect_that(what: str, got, holds: bool) -> None:
    if not holds:
        raise Mismatch(f"expected {what}, got {got!r}")


def refused(*codes: str):
    """A context that expects the call in it to be refused with one of these codes, and keeps the refusal."""
    return _Refused(codes)


class _Refused:
    def __init__(self, codes):
        self.codes, self.message, self.status = codes, "", 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            raise Mismatch(f"expected {' or '.join(self.codes)}, but the call was accepted")
        if not isinstance(error, ClientError):
            return False
        code, self.message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code not in self.codes:
            raise Mismatch(f"expected {' or '.join(self.codes)}, got {code}: {self.message}")
        return True


def eventually(what: str, holds) -> None:
    """Waits until `holds()`, which EC2 takes some time to make true."""
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise Mismatch(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.05)


def secondaries(eni: dict) -> list[str]:
    return [entry["PrivateIpAddress"] for entry in eni["PrivateIpAddresses"] if not entry.get("Primary")]


def addresses(eni: dict) -> list[str]:
    return [entry["PrivateIpAddress"] for entry in eni["PrivateIpAddresses"]]


def prefixes(eni: dict) -> list[str]:
    return [entry["Ipv4Prefix"] for entry in eni.get("Ipv4Prefixes", [])]


def token() -> str:
    return uuid.uuid4().hex


class Region:
    """One VPC to work in, and boto3 with its own retries off. Every check takes subnets of its own."""

    def __init__(self, endpoint: str, admin: str = ""):
        self._endpoint, self.admin = endpoint, admin
        self.client = self._client("ec2")
        self.vpc = self.client.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self._blocks = itertools.count()

    def _client(self, service: str):
        return boto3.client(
            service,
            endpoint_url=self._endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, max_pool_connections=40),
        )

    def call(self, action: str) -> None:
        """An action that boto3 does not know, without parameters."""
        client = self._client("ec2")

        def rename(params, **_):
            params["body"]["Action"] = action

        client.meta.events.register("before-call.ec2.DescribeVpcs", rename)
        client.describe_vpcs()

    def profile(self) -> str:
        """The ARN of an instance profile. Made first, where IAM is served: EC2 looks it up."""
        name = token()
        try:
            made = self._client("iam").create_instance_profile(InstanceProfileName=name)
        except (ClientError, ResponseParserError):
            return f"arn:aws:iam::123456789012:instance-profile/{name}"
        return made["InstanceProfile"]["Arn"]

    def subnet(self, prefix: int = 24, zone: str = "a", **more) -> str:
        return self.subnet_and_block(prefix, zone, **more)[0]

    def subnet_and_block(self, prefix: int = 24, zone: str = "a", **more):
        block = ipaddress.ip_network(f"10.0.{next(self._blocks)}.0/{prefix}")
        made = self.client.create_subnet(VpcId=self.vpc, CidrBlock=str(block), AvailabilityZone=REGION + zone, **more)
        return made["Subnet"]["SubnetId"], block

    def group(self, **more) -> str:
        made = self.client.create_security_group(GroupName=token(), Description="for a check", VpcId=self.vpc, **more)
        return made["GroupId"]

    def free(self, subnet: str) -> int:
        return self.client.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"]

    def launch(self, subnet: str | None, instance_type: str = "m5.large", **more) -> dict:
        where = {"SubnetId": subnet} if subnet else {}
        made = self.client.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType=instance_type, **where, **more)
        return made["Instances"][0]

    def instance(self, instance: str) -> dict:
        found = self.client.describe_instances(InstanceIds=[instance])
        return found["Reservations"][0]["Instances"][0]

    def running(self, subnet: str | None, instance_type: str = "m5.large", **more) -> str:
        instance = self.launch(subnet, instance_type, **more)["InstanceId"]
        eventually("the instance runs", lambda: self.instance(instance)["State"]["Name"] == "running")
        return instance

    def create(self, subnet: str, **more) -> dict:
        return self.client.create_network_interface(SubnetId=subnet, **more)["NetworkInterface"]

    def available(self, subnet: str, **more) -> str:
        eni = self.create(subnet, **more)["NetworkInterfaceId"]
        eventually("the ENI is available", lambda: self.eni(eni)["Status"] == "available")
        return eni

    def eni(self, eni: str) -> dict:
        found = self.client.describe_network_interfaces(NetworkInterfaceIds=[eni])
        return found["NetworkInterfaces"][0]

    def attach(self, eni: str, instance: str, index: int = 1, **more) -> str:
        made = self.client.attach_network_interface(NetworkInterfaceId=eni, InstanceId=instance, DeviceIndex=index, **more)
        return made["AttachmentId"]

    def attached(self, eni: str, instance: str, index: int = 1, **more) -> str:
        attachment = self.attach(eni, instance, index, **more)
        eventually("the ENI is attached", lambda: self.eni(eni)["Attachment"]["Status"] == "attached")
        return attachment

    def assign(self, eni: str, **more) -> list[str]:
        made = self.client.assign_private_ip_addresses(NetworkInterfaceId=eni, **more)
        return [entry["PrivateIpAddress"] for entry in made["AssignedPrivateIpAddresses"]]

    def ids(self, **arguments) -> list[str]:
        found = self.client.describe_network_interfaces(**arguments)
        return [eni["NetworkInterfaceId"] for eni in found["NetworkInterfaces"]]


def named(name: str, *values: str) -> dict:
    return {"Name": name, "Values": list(values)}


def tagged(kind: str, **tags: str) -> dict:
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": kind, "Tags": pairs}]}
