//! EC2's errors, sorted by what to do next.
//!
//! Owns the one table of codes and messages, used by the adapter to the real EC2 and by its model alike. Never sees a transport:
//! what happened to a call without an answer is the adapter's to say.
//!
//! Codes: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>. EC2 uses some codes for several
//! meanings; those are told apart by words that its messages are known to contain.

use pool::{Action, Kind};

/// What to do next about EC2's answer with this code and message. A code or message that is not known is [`Kind::Invalid`].
///
/// [`Kind::Uncertain`] comes of codes with which EC2 says that it failed itself: the call may have had its effect. For a read,
/// it means no more than that there is no answer.
pub fn kind(action: Action, code: &str, message: &str) -> Kind {
    if let Some(rule) = RULES.iter().find(|rule| rule.code == code && message.contains(rule.says)) {
        return rule.kind;
    }
    if code.ends_with(".NotFound") {
        return match action {
            // What is missing is not the object of the call but something it names: the subnet, a security group. The same call
            // is refused until the settings change.
            Action::CreateNetworkInterface => Kind::Invalid,
            _ => Kind::Gone,
        };
    }
    Kind::Invalid
}

struct Rule {
    code: &'static str,
    /// Words of the message; empty: any message.
    says: &'static str,
    kind: Kind,
}

const fn code(code: &'static str, kind: Kind) -> Rule {
    Rule { code, says: "", kind }
}

const fn says(code: &'static str, says: &'static str, kind: Kind) -> Rule {
    Rule { code, says, kind }
}

/// The first rule that fits decides.
const RULES: &[Rule] = &[
    // One code, several meanings.
    says("InvalidParameterValue", "sufficient free Ipv4 addresses or prefixes", Kind::NoFreePrefix),
    says("InvalidParameterValue", "already has an interface attached at device index", Kind::Conflict),
    says("InvalidParameterValue", "is currently in use", Kind::Conflict),
    says("InvalidParameterValue", "are not assigned to interface", Kind::Gone),
    says("AuthFailure", "You are not the owner", Kind::Denied),
    says("AuthFailure", "You do not have permission", Kind::Denied),
    says("OperationNotPermitted", "You are not allowed to manage", Kind::Denied),
    // Too fast. RequestLimitExceeded travels with status 503, yet nothing was done.
    code("RequestLimitExceeded", Kind::Throttled),
    code("Client.RequestLimitExceeded", Kind::Throttled),
    code("EC2ThrottledException", Kind::Throttled),
    code("Throttling", Kind::Throttled),
    code("ThrottlingException", Kind::Throttled),
    code("ThrottledException", Kind::Throttled),
    code("RequestThrottled", Kind::Throttled),
    code("RequestThrottledException", Kind::Throttled),
    code("TooManyRequestsException", Kind::Throttled),
    code("SlowDown", Kind::Throttled),
    // Room.
    code("InsufficientFreeAddressesInSubnet", Kind::NoFreeAddresses),
    code("InsufficientCidrBlocks", Kind::NoFreePrefix),
    code("AttachmentLimitExceeded", Kind::InstanceEniLimit),
    code("NetworkInterfaceLimitExceeded", Kind::AccountEniQuota),
    code("PrivateIpAddressLimitExceeded", Kind::AddressLimit),
    // Somebody else has it, or it is on its way.
    code("InvalidNetworkInterface.InUse", Kind::Conflict),
    code("InvalidIPAddress.InUse", Kind::Conflict),
    // What is to be tagged is not there, or not yet.
    code("InvalidID", Kind::Gone),
    // Not the object of a call but something that it names: the ENI whose groups are to be set may well be there.
    code("InvalidGroup.NotFound", Kind::Invalid),
    code("InvalidSecurityGroupID.NotFound", Kind::Invalid),
    code("IncorrectState", Kind::Conflict),
    code("IncorrectInstanceState", Kind::Conflict),
    code("DependencyViolation", Kind::Conflict),
    code("IdempotentParameterMismatch", Kind::TokenMismatch),
    // Who we are, and what we may.
    code("UnauthorizedOperation", Kind::Denied),
    code("AccessDenied", Kind::Denied),
    code("AccessDeniedException", Kind::Denied),
    code("OptInRequired", Kind::Denied),
    code("PendingVerification", Kind::Denied),
    code("Blocked", Kind::Denied),
    code("AuthFailure", Kind::Credentials),
    code("ExpiredToken", Kind::Credentials),
    code("ExpiredTokenException", Kind::Credentials),
    code("RequestExpired", Kind::Credentials),
    code("InvalidClientTokenId", Kind::Credentials),
    code("InvalidAccessKeyId", Kind::Credentials),
    code("UnrecognizedClientException", Kind::Credentials),
    code("MissingAuthenticationToken", Kind::Credentials),
    code("IncompleteSignature", Kind::Credentials),
    code("InvalidSignatureException", Kind::Credentials),
    code("SignatureDoesNotMatch", Kind::Credentials),
    // EC2 itself failed, at a point that it does not name.
    code("InternalError", Kind::Uncertain),
    code("InternalFailure", Kind::Uncertain),
    code("ServiceUnavailable", Kind::Uncertain),
    code("Unavailable", Kind::Uncertain),
    code("RequestTimeout", Kind::Uncertain),
];

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample {
        action: Action,
        code: &'static str,
        message: &'static str,
        kind: Kind,
    }

    const fn sample(action: Action, code: &'static str, message: &'static str, kind: Kind) -> Sample {
        Sample { action, code, message, kind }
    }

    /// What EC2 has said to somebody, and who wrote it down.
    const RECORDED: &[Sample] = &[
        // aws/amazon-vpc-cni-k8s#40, #1773.
        sample(
            Action::CreateNetworkInterface,
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
            Kind::NoFreeAddresses,
        ),
        // aws/amazon-vpc-cni-k8s#1836, #1585.
        sample(
            Action::AssignPrivateIpAddresses,
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
            Kind::NoFreePrefix,
        ),
        // aws/amazon-vpc-cni-k8s#3105, cilium/cilium#31016.
        sample(
            Action::CreateNetworkInterface,
            "InvalidParameterValue",
            "There aren't sufficient free Ipv4 addresses or prefixes",
            Kind::NoFreePrefix,
        ),
        // The same for a create and for an attach (cilium/cilium#31016): prefixes are meant although addresses are named.
        sample(
            Action::AssignPrivateIpAddresses,
            "InvalidParameterValue",
            "There aren't sufficient free Ipv4 addresses or prefixes",
            Kind::NoFreePrefix,
        ),
        // cilium/cilium#36428, aws/amazon-vpc-cni-k8s#989. Prefixes beyond the ENI's limit are counted as addresses: amazon-vpc-cni
        // looks for the same code after assigning either (pkg/ipamd/ipamd.go, tryAssignPrefixes).
        sample(
            Action::AssignPrivateIpAddresses,
            "PrivateIpAddressLimitExceeded",
            "Number of private addresses will exceed limit.",
            Kind::AddressLimit,
        ),
        // amazon-vpc-cni takes this code as the answer to prefixes too (pkg/ipamd/ipamd.go, insufficient CIDR errors).
        sample(
            Action::AssignPrivateIpAddresses,
            "InsufficientFreeAddressesInSubnet",
            "The specified subnet does not have enough free addresses to satisfy the request.",
            Kind::NoFreeAddresses,
        ),
        // cilium/cilium#15877, #8830.
        sample(
            Action::AttachNetworkInterface,
            "AttachmentLimitExceeded",
            "Interface count 4 exceeds the limit for m5.large",
            Kind::InstanceEniLimit,
        ),
        // lstoll/k8s-vpcnet#71, hashicorp/terraform-provider-aws#906, cilium/cilium#42512.
        sample(
            Action::AttachNetworkInterface,
            "InvalidParameterValue",
            "Instance 'i-057f199b55b2543ea' already has an interface attached at device index '1'.",
            Kind::Conflict,
        ),
        // gruntwork-io/cloud-nuke#431, #1132.
        sample(
            Action::DeleteNetworkInterface,
            "InvalidParameterValue",
            "Network interface 'eni-021048978ddd45189' is currently in use.",
            Kind::Conflict,
        ),
        // hashicorp/terraform-provider-aws#27513.
        sample(
            Action::AttachNetworkInterface,
            "InvalidNetworkInterface.InUse",
            "Interface: [eni-0b02b09699ec55970] in use.",
            Kind::Conflict,
        ),
        // aws/amazon-vpc-cni-k8s#2520.
        sample(
            Action::AssignPrivateIpAddresses,
            "AuthFailure",
            "You are not the owner of network interface 'eni-0b02b09699ec55970'.",
            Kind::Denied,
        ),
        // boto/boto3#2219.
        sample(
            Action::DetachNetworkInterface,
            "OperationNotPermitted",
            "You are not allowed to manage 'ela-attach' attachments.",
            Kind::Denied,
        ),
        // terraform-aws-modules/terraform-aws-eks#3598.
        sample(
            Action::CreateNetworkInterface,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:sts::270484355553:assumed-role/node/i-1 is not \
             authorized to perform: ec2:CreateNetworkInterface on resource: arn:aws:ec2:us-east-1:270484355553:subnet/subnet-1 \
             because no identity-based policy allows the ec2:CreateNetworkInterface action.",
            Kind::Denied,
        ),
        // aws/aws-sdk-java-v2#2981, boto/boto3#3321 (a wrong clock).
        sample(
            Action::DescribeNetworkInterfaces,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            Kind::Credentials,
        ),
        // aws/amazon-vpc-cni-k8s#41, error code reference.
        sample(Action::AssignPrivateIpAddresses, "RequestLimitExceeded", "Request limit exceeded.", Kind::Throttled),
        // hashicorp/terraform-provider-aws#23114.
        sample(
            Action::CreateNetworkInterface,
            "InvalidParameterValue",
            "invalid value for parameter address: 10.0.0.300",
            Kind::Invalid,
        ),
    ];

    /// Messages that nobody has quoted: codes from the reference, words as EC2 puts them elsewhere.
    const DOCUMENTED: &[Sample] = &[
        sample(
            Action::UnassignPrivateIpAddresses,
            "InvalidParameterValue",
            "Some of [10.0.1.250] are not assigned to interface eni-0b02b09699ec55970",
            Kind::Gone,
        ),
        sample(
            Action::UnassignPrivateIpAddresses,
            "InvalidParameterValue",
            "Some of [10.0.1.240/28] are not assigned to interface eni-0b02b09699ec55970",
            Kind::Gone,
        ),
        // Only Nitro instances take prefixes. The pool takes single addresses after any such refusal of prefixes.
        sample(
            Action::AssignPrivateIpAddresses,
            "UnsupportedOperation",
            "Instance type m4.large does not support assigned prefixes",
            Kind::Invalid,
        ),
        sample(
            Action::CreateNetworkInterface,
            "InvalidParameterCombination",
            "You may specify either a prefix or an address option, not both",
            Kind::Invalid,
        ),
        sample(
            Action::AssignPrivateIpAddresses,
            "InvalidParameterValue",
            "Value (10.0.0.33/28) for parameter ipv4Prefix is invalid. This is not a valid IPv4 prefix.",
            Kind::Invalid,
        ),
        sample(
            Action::CreateTags,
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-0b02b09699ec55970' does not exist",
            Kind::Gone,
        ),
        sample(Action::CreateTags, "InvalidID", "The ID 'eni-0b02b09699ec55970' is not valid", Kind::Gone),
        sample(
            Action::CreateTags,
            "TagLimitExceeded",
            "The maximum number of Tags for a resource has been reached.",
            Kind::Invalid,
        ),
        sample(
            Action::DescribeSubnets,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
            Kind::Denied,
        ),
        sample(Action::DescribeSubnets, "InvalidParameterValue", "The filter 'zone' is invalid", Kind::Invalid),
        sample(
            Action::DescribeInstances,
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-1' does not exist",
            Kind::Gone,
        ),
        sample(Action::DescribeInstances, "InvalidNextToken", "The token is not valid.", Kind::Invalid),
        sample(Action::DescribeNetworkInterfaces, "Client.RequestLimitExceeded", "", Kind::Throttled),
        sample(
            Action::DeleteNetworkInterface,
            "AuthFailure",
            "You do not have permission to access the specified resource.",
            Kind::Denied,
        ),
        sample(
            Action::CreateNetworkInterface,
            "NetworkInterfaceLimitExceeded",
            "You've reached the limit on the number of network interfaces that you can create.",
            Kind::AccountEniQuota,
        ),
        sample(
            Action::CreateNetworkInterface,
            "IdempotentParameterMismatch",
            "The request uses the same client token as a previous, but non-identical request.",
            Kind::TokenMismatch,
        ),
        sample(
            Action::DescribeNetworkInterfaces,
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-0b02b09699ec55970' does not exist",
            Kind::Gone,
        ),
        sample(
            Action::ModifyNetworkInterfaceAttribute,
            "InvalidAttachmentID.NotFound",
            "The networkInterface attachment ID 'eni-attach-1' does not exist",
            Kind::Gone,
        ),
        sample(
            Action::AttachNetworkInterface,
            "InvalidInstanceID.NotFound",
            "The instance ID 'i-1' does not exist",
            Kind::Gone,
        ),
        sample(
            Action::CreateNetworkInterface,
            "InvalidGroup.NotFound",
            "The security group 'sg-1' does not exist",
            Kind::Invalid,
        ),
        sample(
            Action::ModifyNetworkInterfaceAttribute,
            "InvalidGroup.NotFound",
            "The security group 'sg-1' does not exist",
            Kind::Invalid,
        ),
        sample(Action::ModifyNetworkInterfaceAttribute, "InvalidSecurityGroupID.NotFound", "", Kind::Invalid),
        sample(
            Action::CreateNetworkInterface,
            "InvalidSubnetID.NotFound",
            "The subnet ID 'subnet-1' does not exist",
            Kind::Invalid,
        ),
        sample(
            Action::DetachNetworkInterface,
            "OperationNotPermitted",
            "The network interface at device index 0 cannot be detached.",
            Kind::Invalid,
        ),
        sample(Action::AttachNetworkInterface, "IncorrectState", "", Kind::Conflict),
        sample(Action::AttachNetworkInterface, "IncorrectInstanceState", "", Kind::Conflict),
        sample(Action::DeleteNetworkInterface, "DependencyViolation", "", Kind::Conflict),
        sample(Action::AssignPrivateIpAddresses, "InvalidIPAddress.InUse", "", Kind::Conflict),
        sample(Action::DescribeInstanceTypes, "InvalidInstanceType", "", Kind::Invalid),
        sample(Action::AssignPrivateIpAddresses, "MissingParameter", "", Kind::Invalid),
        sample(Action::AssignPrivateIpAddresses, "SomethingNewNextYear", "", Kind::Invalid),
        sample(Action::AssignPrivateIpAddresses, "InternalError", "An internal error has occurred", Kind::Uncertain),
        sample(Action::AssignPrivateIpAddresses, "InternalFailure", "", Kind::Uncertain),
        sample(Action::AssignPrivateIpAddresses, "ServiceUnavailable", "", Kind::Uncertain),
        sample(Action::AttachNetworkInterface, "Unavailable", "The server is overloaded", Kind::Uncertain),
        sample(Action::AttachNetworkInterface, "RequestTimeout", "", Kind::Uncertain),
        sample(Action::DescribeNetworkInterfaces, "EC2ThrottledException", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "Throttling", "Rate exceeded", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "ThrottlingException", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "ThrottledException", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "RequestThrottled", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "RequestThrottledException", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "TooManyRequestsException", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "SlowDown", "", Kind::Throttled),
        sample(Action::DescribeNetworkInterfaces, "AccessDenied", "", Kind::Denied),
        sample(Action::DescribeNetworkInterfaces, "AccessDeniedException", "", Kind::Denied),
        sample(Action::DescribeNetworkInterfaces, "OptInRequired", "", Kind::Denied),
        sample(Action::DescribeNetworkInterfaces, "PendingVerification", "", Kind::Denied),
        sample(Action::DescribeNetworkInterfaces, "Blocked", "", Kind::Denied),
        sample(Action::DescribeNetworkInterfaces, "ExpiredToken", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "ExpiredTokenException", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "RequestExpired", "Request has expired.", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "InvalidClientTokenId", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "InvalidAccessKeyId", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "UnrecognizedClientException", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "MissingAuthenticationToken", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "IncompleteSignature", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "InvalidSignatureException", "", Kind::Credentials),
        sample(Action::DescribeNetworkInterfaces, "SignatureDoesNotMatch", "", Kind::Credentials),
    ];

    #[test]
    fn every_known_answer_of_ec2_has_its_kind() {
        for Sample { action, code, message, kind: expected } in RECORDED.iter().chain(DOCUMENTED) {
            assert_eq!(kind(*action, code, message), *expected, "{action}: {code}: {message}");
        }
    }

    #[test]
    fn every_rule_decides_at_least_one_sample() {
        let mut idle: Vec<_> = RULES.iter().map(|rule| (rule.code, rule.says)).collect();
        for Sample { code, message, .. } in RECORDED.iter().chain(DOCUMENTED) {
            if let Some(rule) = RULES.iter().find(|rule| rule.code == *code && message.contains(rule.says)) {
                idle.retain(|named| *named != (rule.code, rule.says));
            }
        }
        assert_eq!(idle, [], "rules without a sample");
    }
}
