//! EC2's refusals: every code and message in one place, each with where it is known from.
//!
//! Codes are what a caller branches on; EC2 overloads `InvalidParameterValue`, where the message is all there is to go by, so
//! messages are EC2's own words where anybody has quoted them.

use std::{borrow::Cow, fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// A refusal, as EC2 puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// E.g. `InvalidParameterValue`.
    pub code: Cow<'static, str>,
    /// For people, and for telling apart what shares a code.
    pub message: String,
    /// The HTTP status it travels with.
    pub http_status: u16,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Any refusal; the named ones below are the ones that the model itself makes.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), http_status: 400 }
    }

    /// The same with another HTTP status.
    #[must_use]
    pub fn with_status(self, http_status: u16) -> Self {
        Self { http_status, ..self }
    }

    // Requests that say too little, too much, or nonsense. Codes: documentation ("Common client errors").

    /// A parameter is not there.
    pub fn missing_parameter(name: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    /// A parameter has a value that makes no sense.
    pub fn invalid_value(value: impl fmt::Display, name: &str) -> Self {
        Self::new("InvalidParameterValue", format!("Value ({value}) for parameter {name} is invalid."))
    }

    /// Parameters that exclude each other.
    pub fn invalid_combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    /// EC2 can do it, the model cannot yet.
    pub fn unsupported(what: &str) -> Self {
        Self::new("UnsupportedOperation", format!("{what} is not supported by this model of EC2."))
    }

    /// No such action.
    pub fn invalid_action(action: &str) -> Self {
        Self::new("InvalidAction", format!("The action {action} is not valid for this web service."))
    }

    /// The call was fine, and asked to have no effect.
    pub fn dry_run() -> Self {
        Self::new("DryRunOperation", "Request would have succeeded, but DryRun flag is set.").with_status(412)
    }

    /// Calls of this action come too fast.
    pub fn throttled() -> Self {
        Self::new("RequestLimitExceeded", "Request limit exceeded.").with_status(503)
    }

    /// The token was used with other arguments.
    pub fn token_mismatch() -> Self {
        Self::new(
            "IdempotentParameterMismatch",
            "The request uses the same client token as a previous, but non-identical request.",
        )
    }

    pub(crate) fn unknown_filter(name: &str) -> Self {
        Self::new("InvalidParameterValue", format!("The filter '{name}' is invalid"))
    }

    pub(crate) fn page_size(least: u32, most: u32, got: u32) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!(
                "Value ( {got} ) for parameter maxResults is invalid. Expecting a value between {least} and {most}."
            ),
        )
    }

    pub(crate) fn page_token() -> Self {
        Self::new("InvalidNextToken", "The token is not valid.")
    }

    // Things that are not there. Codes: documentation; texts: field.

    pub(crate) fn no_eni(id: &str) -> Self {
        Self::new("InvalidNetworkInterfaceID.NotFound", format!("The networkInterface ID '{id}' does not exist"))
    }

    pub(crate) fn malformed_eni(id: &str) -> Self {
        Self::new("InvalidNetworkInterfaceId.Malformed", format!("Invalid id: \"{id}\" (expecting \"eni-...\")"))
    }

    pub(crate) fn no_instance(id: &str) -> Self {
        Self::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
    }

    pub(crate) fn malformed_instance(id: &str) -> Self {
        Self::new("InvalidInstanceID.Malformed", format!("Invalid id: \"{id}\" (expecting \"i-...\")"))
    }

    pub(crate) fn no_instance_type(name: &str) -> Self {
        Self::new("InvalidInstanceType", format!("The following supplied instance types do not exist: [{name}]"))
    }

    pub(crate) fn no_subnet(id: &str) -> Self {
        Self::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
    }

    pub(crate) fn no_vpc(id: &str) -> Self {
        Self::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
    }

    pub(crate) fn no_group(id: &str) -> Self {
        Self::new("InvalidGroup.NotFound", format!("The security group '{id}' does not exist"))
    }

    pub(crate) fn no_attachment(id: &str) -> Self {
        Self::new("InvalidAttachmentID.NotFound", format!("The networkInterface attachment ID '{id}' does not exist"))
    }

    pub(crate) fn no_resource(id: &str) -> Self {
        Self::new("InvalidID", format!("The ID '{id}' is not valid"))
    }

    // Networks. Codes: documentation.

    pub(crate) fn vpc_range(cidr: Ipv4Net) -> Self {
        Self::new("InvalidVpc.Range", format!("The CIDR '{cidr}' is invalid."))
    }

    pub(crate) fn subnet_range(cidr: Ipv4Net) -> Self {
        Self::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid."))
    }

    pub(crate) fn subnet_conflict(cidr: Ipv4Net) -> Self {
        Self::new("InvalidSubnet.Conflict", format!("The CIDR '{cidr}' conflicts with another subnet"))
    }

    pub(crate) fn duplicate_group(name: &str, vpc: &str) -> Self {
        Self::new("InvalidGroup.Duplicate", format!("The security group '{name}' already exists for VPC '{vpc}'"))
    }

    pub(crate) fn reserved_tag_key() -> Self {
        Self::new("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
    }

    pub(crate) fn too_many_tags() -> Self {
        Self::new("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
    }

    /// Guess.
    pub(crate) fn no_reservation(id: &str) -> Self {
        Self::new(
            "InvalidSubnetCidrReservationID.NotFound",
            format!("The subnet CIDR reservation ID '{id}' does not exist"),
        )
    }

    /// Guess.
    pub(crate) fn reservation_range(cidr: Ipv4Net) -> Self {
        Self::new("InvalidParameterValue", format!("The CIDR '{cidr}' is not a range of the subnet"))
    }

    /// Guess.
    pub(crate) fn reservation_overlap(cidr: Ipv4Net, other: Ipv4Net) -> Self {
        Self::new("InvalidParameterValue", format!("The CIDR '{cidr}' overlaps the reservation of '{other}'"))
    }

    // Addresses.

    /// Documentation; text: field (amazon-vpc-cni-k8s #40, #1773).
    pub(crate) fn subnet_exhausted() -> Self {
        Self::new(
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
        )
    }

    /// Documentation; text: field (amazon-vpc-cni-k8s #989).
    pub(crate) fn address_limit() -> Self {
        Self::new("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
    }

    /// Field.
    pub(crate) fn outside_subnet(address: impl fmt::Display) -> Self {
        Self::new("InvalidParameterValue", format!("Address {address} does not fall within the subnet's address range"))
    }

    /// Field.
    pub(crate) fn reserved_address(address: Ipv4Addr) -> Self {
        Self::new("InvalidParameterValue", format!("Address {address} is in subnet's reserved address range"))
    }

    /// In a create. Documentation.
    pub(crate) fn address_in_use(address: Ipv4Addr) -> Self {
        Self::new("InvalidIPAddress.InUse", format!("The specified address {address} is already in use."))
    }

    /// In an assign. Field.
    pub(crate) fn address_of_another(address: Ipv4Addr) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("[{address}] is already assigned to another interface but re-assignment is not allowed"),
        )
    }

    /// Guess: a primary address never moves (documentation), nobody quotes the text.
    pub(crate) fn primary_of_another(address: Ipv4Addr) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("[{address}] is the primary address of another interface and cannot be re-assigned"),
        )
    }

    /// Guess.
    pub(crate) fn address_twice(address: impl fmt::Display) -> Self {
        Self::new("InvalidParameterValue", format!("Address {address} is given more than once"))
    }

    /// Documentation (API reference of AssignPrivateIpAddresses).
    pub(crate) fn no_addresses_wanted() -> Self {
        Self::new("MissingParameter", "Either the IP addresses or the IP address count must be specified.")
    }

    /// Documentation; text: field (amazon-vpc-cni-k8s #1836).
    pub(crate) fn no_cidr_block() -> Self {
        Self::new(
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
        )
    }

    /// Field (cilium #31016).
    pub(crate) fn no_addresses_or_prefixes() -> Self {
        Self::new("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")
    }

    /// Guess: that it is refused is documentation (prefixes are /28s), nobody quotes the text.
    pub(crate) fn not_a_prefix(prefix: Ipv4Net) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Value ({prefix}) for parameter ipv4Prefix is invalid. This is not a valid IPv4 prefix."),
        )
    }

    /// Guess.
    pub(crate) fn prefix_in_use(prefix: Ipv4Net) -> Self {
        Self::new("InvalidParameterValue", format!("Prefix {prefix} has addresses that are in use or reserved"))
    }

    /// Guess.
    pub(crate) fn address_in_prefix(address: Ipv4Addr) -> Self {
        Self::new("InvalidParameterValue", format!("[{address}] is part of a prefix that is assigned to an interface"))
    }

    /// Guess: that only Nitro instances take prefixes is documentation.
    pub(crate) fn prefixes_unsupported(instance_type: &str) -> Self {
        Self::new("UnsupportedOperation", format!("Instance type {instance_type} does not support assigned prefixes"))
    }

    /// Guess: that it has none is documentation.
    pub(crate) fn efa_only_addresses() -> Self {
        Self::invalid_combination("EFA-only network interfaces do not support IP addresses")
    }

    /// Guess: that it cannot be is documentation.
    pub(crate) fn efa_only_primary() -> Self {
        Self::invalid_combination("An EFA-only network interface cannot be the primary network interface")
    }

    /// Field.
    pub(crate) fn not_assigned(given: impl IntoIterator<Item = String>, eni: &str) -> Self {
        let list: Vec<_> = given.into_iter().collect();
        Self::new("InvalidParameterValue", format!("Some of [{}] are not assigned to interface {eni}", list.join(", ")))
    }

    // ENIs and attachments.

    /// Documentation.
    pub(crate) fn eni_quota() -> Self {
        Self::new("NetworkInterfaceLimitExceeded", "The maximum number of network interfaces has been reached.")
    }

    /// Field (terraform-provider-aws #27513).
    pub(crate) fn eni_in_use(id: &str) -> Self {
        Self::new("InvalidNetworkInterface.InUse", format!("Interface: [{id}] in use."))
    }

    /// In a delete. Field.
    pub(crate) fn eni_attached(id: &str) -> Self {
        Self::new("InvalidParameterValue", format!("Network interface '{id}' is currently in use."))
    }

    /// Field (cilium #8830, #15877; amazon-vpc-cni-k8s #537).
    pub(crate) fn attachment_limit(count: usize, instance_type: &str) -> Self {
        Self::new("AttachmentLimitExceeded", format!("Interface count {count} exceeds the limit for {instance_type}"))
    }

    /// Field.
    pub(crate) fn device_index_taken(instance: &str, device_index: u32) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Instance '{instance}' already has an interface attached at device index '{device_index}'."),
        )
    }

    /// Field.
    pub(crate) fn no_card(card: u32, instance_type: &str) -> Self {
        Self::new(
            "InvalidParameterValue",
            format!("Invalid network card index '{card}' for instance type '{instance_type}'."),
        )
    }

    /// Field.
    pub(crate) fn other_zone() -> Self {
        Self::invalid_combination(
            "You may not attach a network interface to an instance if they are not in the same availability zone",
        )
    }

    /// Guess.
    pub(crate) fn instance_over(id: &str) -> Self {
        Self::new("IncorrectState", format!("The instance '{id}' is not in a valid state for this operation."))
    }

    /// Field.
    pub(crate) fn primary_detach() -> Self {
        Self::new("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
    }

    /// Documentation.
    pub(crate) fn instance_type_value(name: &str) -> Self {
        Self::new("InvalidParameterValue", format!("Invalid value '{name}' for InstanceType."))
    }

    /// Documentation.
    pub(crate) fn ids_with_page_size(ids: &str) -> Self {
        Self::invalid_combination(format!("The parameter {ids} cannot be used with the parameter maxResults"))
    }
}
