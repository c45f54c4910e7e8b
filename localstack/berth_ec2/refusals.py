"""EC2's refusals: every code and message that the rules give, each with where it is known from.

A caller branches on the code. `InvalidParameterValue` says many things, so messages are EC2's own words where anybody has
quoted them. The same list is that of the embedded EC2; the two never differ in a code.
"""

from collections.abc import Iterable


class Refusal(Exception):
    """EC2 says no. Nothing has happened."""

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


# Requests that say too little, too much, or nonsense. Codes: documentation ("Common client errors").


def missing_parameter(name: str) -> Refusal:
    return Refusal("MissingParameter", f"The request must contain the parameter {name}")


def invalid_value(value: object, name: str) -> Refusal:
    return Refusal("InvalidParameterValue", f"Value ({value}) for parameter {name} is invalid.")


def invalid_combination(message: str) -> Refusal:
    return Refusal("InvalidParameterCombination", message)


def excluding(one: str, other: str) -> Refusal:
    return invalid_combination(f"The parameters {one} and {other} may not both be specified")


def dry_run() -> Refusal:
    return Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def invalid_action(action: str) -> Refusal:
    return Refusal("InvalidAction", f"The action {action} is not valid for this web service.")


def token_mismatch() -> Refusal:
    return Refusal(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request.",
    )


def unknown_filter(name: str) -> Refusal:
    """Field."""
    return Refusal("InvalidParameterValue", f"The filter '{name}' is invalid")


def page_size(least: int, most: int, got: int) -> Refusal:
    return Refusal(
        "InvalidParameterValue",
        f"Value ( {got} ) for parameter maxResults is invalid. Expecting a value between {least} and {most}.",
    )


def page_token() -> Refusal:
    return Refusal("InvalidNextToken", "The token is not valid.")


def ids_with_page_size(ids: str) -> Refusal:
    return invalid_combination(f"The parameter {ids} cannot be used with the parameter maxResults")


# Things that are not there. Codes: documentation; texts: field.


def no_eni(eni: str) -> Refusal:
    return Refusal("InvalidNetworkInterfaceID.NotFound", f"The networkInterface ID '{eni}' does not exist")


def no_attachment(attachment: str) -> Refusal:
    return Refusal("InvalidAttachmentID.NotFound", f"The networkInterface attachment ID '{attachment}' does not exist")


def no_group(group: str) -> Refusal:
    return Refusal("InvalidGroup.NotFound", f"The security group '{group}' does not exist")


def no_instance(instance: str) -> Refusal:
    return Refusal("InvalidInstanceID.NotFound", f"The instance ID '{instance}' does not exist")


def instance_type_value(name: str) -> Refusal:
    return Refusal("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")


# Addresses.


def subnet_exhausted() -> Refusal:
    """Documentation; text: field (amazon-vpc-cni-k8s #40, #1773)."""
    return Refusal(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )


def address_limit() -> Refusal:
    """Documentation; text: field (amazon-vpc-cni-k8s #989)."""
    return Refusal("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")


def outside_subnet(address: object) -> Refusal:
    """Field."""
    return Refusal("InvalidParameterValue", f"Address {address} does not fall within the subnet's address range")


def reserved_address(address: object) -> Refusal:
    """Field."""
    return Refusal("InvalidParameterValue", f"Address {address} is in subnet's reserved address range")


def address_in_use(address: object) -> Refusal:
    """In a create. Documentation."""
    return Refusal("InvalidIPAddress.InUse", f"The specified address {address} is already in use.")


def address_of_another(address: object) -> Refusal:
    """In an assign. Field."""
    return Refusal(
        "InvalidParameterValue",
        f"[{address}] is already assigned to another interface but re-assignment is not allowed",
    )


def primary_of_another(address: object) -> Refusal:
    """Guess: a primary address never moves (documentation), nobody quotes the text."""
    return Refusal(
        "InvalidParameterValue",
        f"[{address}] is the primary address of another interface and cannot be re-assigned",
    )


def address_twice(address: object) -> Refusal:
    """Guess."""
    return Refusal("InvalidParameterValue", f"Address {address} is given more than once")


def no_addresses_wanted() -> Refusal:
    """Documentation (API reference of AssignPrivateIpAddresses)."""
    return Refusal("MissingParameter", "Either the IP addresses or the IP address count must be specified.")


def not_assigned(given: Iterable[object], eni: str) -> Refusal:
    """Field."""
    listed = ", ".join(str(one) for one in given)
    return Refusal("InvalidParameterValue", f"Some of [{listed}] are not assigned to interface {eni}")


# Prefixes.


def no_cidr_block() -> Refusal:
    """Documentation; text: field (amazon-vpc-cni-k8s #1836)."""
    return Refusal(
        "InsufficientCidrBlocks",
        "The specified subnet does not have enough free cidr blocks to satisfy the request.",
    )


def no_addresses_or_prefixes() -> Refusal:
    """Field (cilium #31016)."""
    return Refusal("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")


def not_a_prefix(prefix: object) -> Refusal:
    """Guess: that it is refused is documentation (prefixes are /28s), nobody quotes the text."""
    return Refusal(
        "InvalidParameterValue",
        f"Value ({prefix}) for parameter ipv4Prefix is invalid. This is not a valid IPv4 prefix.",
    )


def prefix_in_use(prefix: object) -> Refusal:
    """Guess."""
    return Refusal("InvalidParameterValue", f"Prefix {prefix} has addresses that are in use or reserved")


def address_in_prefix(address: object) -> Refusal:
    """Guess."""
    return Refusal("InvalidParameterValue", f"[{address}] is part of a prefix that is assigned to an interface")


def prefixes_unsupported(instance_type: str) -> Refusal:
    """Guess: that only Nitro instances take prefixes is documentation."""
    return Refusal("UnsupportedOperation", f"Instance type {instance_type} does not support assigned prefixes")


def efa_only_addresses() -> Refusal:
    """Guess: that it has none is documentation."""
    return invalid_combination("EFA-only network interfaces do not support IP addresses")


def efa_only_primary() -> Refusal:
    """Guess: that it cannot be is documentation."""
    return invalid_combination("An EFA-only network interface cannot be the primary network interface")


# IPv6.


def no_ipv6_block(subnet: str) -> Refusal:
    """Guess: that it is refused is documentation."""
    return Refusal("InvalidParameterValue", f"The subnet {subnet} has no IPv6 CIDR block")


def ipv6_address_limit() -> Refusal:
    """Guess: that there is a limit is documentation."""
    return Refusal("Ipv6AddressLimitExceeded", "Number of IPv6 addresses will exceed limit.")


# ENIs and attachments.


def subnet_in_use(subnet: str) -> Refusal:
    """Documentation."""
    return Refusal("DependencyViolation", f"The subnet '{subnet}' has dependencies and cannot be deleted.")


def eni_quota() -> Refusal:
    """Documentation."""
    return Refusal("NetworkInterfaceLimitExceeded", "The maximum number of network interfaces has been reached.")


def eni_in_use(eni: str) -> Refusal:
    """Field (terraform-provider-aws #27513)."""
    return Refusal("InvalidNetworkInterface.InUse", f"Interface: [{eni}] in use.")


def eni_attached(eni: str) -> Refusal:
    """In a delete. Field."""
    return Refusal("InvalidParameterValue", f"Network interface '{eni}' is currently in use.")


def attachment_limit(count: int, instance_type: str) -> Refusal:
    """Field (cilium #8830, #15877; amazon-vpc-cni-k8s #537)."""
    return Refusal("AttachmentLimitExceeded", f"Interface count {count} exceeds the limit for {instance_type}")


def device_index_taken(instance: str, index: int) -> Refusal:
    """Field."""
    return Refusal(
        "InvalidParameterValue",
        f"Instance '{instance}' already has an interface attached at device index '{index}'.",
    )


def no_card(card: int, instance_type: str) -> Refusal:
    """Field."""
    return Refusal("InvalidParameterValue", f"Invalid network card index '{card}' for instance type '{instance_type}'.")


def other_zone() -> Refusal:
    """Field."""
    return invalid_combination(
        "You may not attach a network interface to an instance if they are not in the same availability zone"
    )


def instance_over(instance: str) -> Refusal:
    """Guess."""
    return Refusal("IncorrectState", f"The instance '{instance}' is not in a valid state for this operation.")


def primary_detach() -> Refusal:
    """Field."""
    return Refusal("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
