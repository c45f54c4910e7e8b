//! Every kind of refusal that a call can come to, at every call site: the exact kind, code and message, after one request, and
//! nothing done.

use aws_credential_types::Credentials;
use cloud::{Error, Kind};
use cloud_aws::{Ec2, Settings};
use serde_json::json;

use crate::{
    lab::{self, order},
    support::sites::Site,
};

/// A refusal: status, code, words and what it is.
type Refusal = (u16, &'static str, &'static str, Kind);

/// What any call can come to.
const ANY: &[Refusal] = &[
    (503, "RequestLimitExceeded", "Request limit exceeded.", Kind::Throttled),
    (400, "Throttling", "Rate exceeded", Kind::Throttled),
    (403, "UnauthorizedOperation", "You are not authorized to perform this operation.", Kind::Denied),
    (403, "AccessDenied", "An explicit deny is in a service control policy.", Kind::Denied),
    (400, "OptInRequired", "You are not subscribed to this service.", Kind::Denied),
    (401, "AuthFailure", "AWS was not able to validate the provided access credentials", Kind::Credentials),
    (400, "ExpiredToken", "The security token included in the request is expired", Kind::Credentials),
    (400, "RequestExpired", "Request has expired.", Kind::Credentials),
    (403, "SignatureDoesNotMatch", "The request signature we calculated does not match.", Kind::Credentials),
    (500, "InternalError", "An internal error has occurred", Kind::Uncertain),
    (503, "Unavailable", "The server is overloaded and can't handle the request.", Kind::Uncertain),
    (500, "SomethingNew", "EC2 says that it is its own fault", Kind::Uncertain),
    (400, "SomethingNew", "EC2 says that it is <ours> & \"not\" its own", Kind::Invalid),
    (400, "InvalidParameterValue", "Value (x) for parameter y is invalid.", Kind::Invalid),
];

const NO_ENI: Refusal =
    (400, "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID 'eni-0a' does not exist", Kind::Gone);
const NO_ATTACHMENT: Refusal = (
    400,
    "InvalidAttachmentID.NotFound",
    "The networkInterface attachment ID 'eni-attach-7' does not exist",
    Kind::Gone,
);
const NO_GROUP: Refusal = (400, "InvalidGroup.NotFound", "The security group 'sg-1' does not exist", Kind::Invalid);
const STATE: Refusal = (400, "IncorrectState", "The network interface is not in a state for that.", Kind::Conflict);
const NOT_OURS: Refusal = (403, "AuthFailure", "You are not the owner of network interface 'eni-0a'.", Kind::Denied);

/// What this call can come to besides.
fn own(site: Site) -> &'static [Refusal] {
    match site {
        Site::CreateEni => &[
            (
                400,
                "InsufficientFreeAddressesInSubnet",
                "There are not enough free addresses in subnet 'subnet-1'.",
                Kind::NoFreeAddresses,
            ),
            (
                400,
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
                Kind::NoFreePrefix,
            ),
            (
                400,
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                Kind::NoFreePrefix,
            ),
            (
                400,
                "NetworkInterfaceLimitExceeded",
                "You've reached the limit on the number of network interfaces that you can create.",
                Kind::AccountEniQuota,
            ),
            (
                400,
                "IdempotentParameterMismatch",
                "The request uses the same client token as a previous, but non-identical request.",
                Kind::TokenMismatch,
            ),
            (400, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist", Kind::Invalid),
            NO_GROUP,
        ],
        Site::Attach => &[
            (
                400,
                "AttachmentLimitExceeded",
                "Interface count 4 exceeds the limit for m5.large",
                Kind::InstanceEniLimit,
            ),
            (
                400,
                "InvalidParameterValue",
                "Instance 'i-1' already has an interface attached at device index '1'.",
                Kind::Conflict,
            ),
            (400, "InvalidNetworkInterface.InUse", "Interface: [eni-0a] in use.", Kind::Conflict),
            (400, "IncorrectInstanceState", "The instance is not in a state for that.", Kind::Conflict),
            (400, "InvalidInstanceID.NotFound", "The instance ID 'i-1' does not exist", Kind::Gone),
            STATE,
            NO_ENI,
        ],
        Site::Protect => &[STATE, NO_ENI, NO_ATTACHMENT],
        Site::SetGroups => &[STATE, NO_ENI, NO_GROUP],
        Site::Assign => &[
            (
                400,
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
                Kind::NoFreeAddresses,
            ),
            (
                400,
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
                Kind::NoFreePrefix,
            ),
            (
                400,
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                Kind::NoFreePrefix,
            ),
            (
                400,
                "PrivateIpAddressLimitExceeded",
                "Number of private addresses will exceed limit.",
                Kind::AddressLimit,
            ),
            (400, "InvalidIPAddress.InUse", "Address is in use.", Kind::Conflict),
            STATE,
            NO_ENI,
            NOT_OURS,
        ],
        Site::Unassign => &[
            (400, "InvalidParameterValue", "Some of [10.0.0.9] are not assigned to interface eni-0a", Kind::Gone),
            NO_ENI,
            NOT_OURS,
        ],
        Site::Tag => &[
            (400, "InvalidID", "The ID 'eni-0a' is not valid", Kind::Gone),
            (400, "TagLimitExceeded", "The maximum number of Tags for a resource has been reached.", Kind::Invalid),
            NO_ENI,
        ],
        Site::Detach => &[
            (400, "OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.", Kind::Denied),
            (
                400,
                "OperationNotPermitted",
                "The network interface at device index 0 cannot be detached.",
                Kind::Invalid,
            ),
            STATE,
            NO_ATTACHMENT,
        ],
        Site::Delete => &[
            (400, "InvalidParameterValue", "Network interface 'eni-0a' is currently in use.", Kind::Conflict),
            (400, "InvalidNetworkInterface.InUse", "The network interface is in use.", Kind::Conflict),
            (400, "DependencyViolation", "Something depends on it.", Kind::Conflict),
            (403, "AuthFailure", "You do not have permission to access the specified resource.", Kind::Denied),
            NO_ENI,
        ],
        Site::Describe => &[(400, "InvalidNetworkInterfaceID.Malformed", "Invalid id: \"eni-0a\"", Kind::Invalid)],
        Site::Discover | Site::Leaked | Site::Instances => {
            &[(400, "InvalidNextToken", "The token is not valid.", Kind::Invalid)]
        }
        Site::Subnets => &[(400, "InvalidParameterValue", "The filter 'zone' is invalid", Kind::Invalid)],
        Site::Limits => &[(
            400,
            "InvalidInstanceType",
            "The following supplied instance types do not exist: [m5.large]",
            Kind::Invalid,
        )],
    }
}

/// Every kind, and whether this call can come to it by a refusal.
fn can_come_to(site: Site, kind: Kind) -> bool {
    match kind {
        Kind::Throttled | Kind::Denied | Kind::Credentials | Kind::Invalid | Kind::Uncertain => true,
        Kind::NoFreeAddresses | Kind::NoFreePrefix => matches!(site, Site::CreateEni | Site::Assign),
        Kind::InstanceEniLimit => site == Site::Attach,
        Kind::AccountEniQuota | Kind::TokenMismatch => site == Site::CreateEni,
        Kind::AddressLimit => site == Site::Assign,
        Kind::Conflict => {
            matches!(site, Site::Attach | Site::Protect | Site::SetGroups | Site::Assign | Site::Detach | Site::Delete)
        }
        // To describe what is gone is no failure.
        Kind::Gone => {
            let of_an_eni = [Site::Attach, Site::Protect, Site::SetGroups, Site::Assign, Site::Unassign];
            of_an_eni.contains(&site) || matches!(site, Site::Tag | Site::Detach | Site::Delete)
        }
        // Nobody answered, so nobody refused.
        Kind::Unreachable => false,
    }
}

/// As many as there are: `can_come_to` does not compile without a new one, and it belongs here, too.
const KINDS: [Kind; 14] = [
    Kind::Throttled,
    Kind::NoFreeAddresses,
    Kind::NoFreePrefix,
    Kind::InstanceEniLimit,
    Kind::AccountEniQuota,
    Kind::AddressLimit,
    Kind::Conflict,
    Kind::TokenMismatch,
    Kind::Gone,
    Kind::Denied,
    Kind::Credentials,
    Kind::Invalid,
    Kind::Unreachable,
    Kind::Uncertain,
];

fn refusals(site: Site) -> impl Iterator<Item = &'static Refusal> {
    ANY.iter().chain(own(site))
}

#[test]
fn every_kind_that_a_call_can_come_to_has_a_row() {
    for site in Site::ALL {
        for kind in KINDS {
            let has = refusals(*site).any(|(.., of)| *of == kind);
            assert_eq!(has, can_come_to(*site, kind), "{site:?}: {kind:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_kind_code_and_words_at_every_call_site_after_one_request() {
    let lab = lab::start().await.expect("the lab's EC2 starts");
    let settings = Settings { endpoint: Some(lab.endpoint.clone()), ..Settings::new("us-west-2") };
    let ec2 = Ec2::with_credentials(&settings, Credentials::new("test", "test", None, None, "test")).await;
    for site in Site::ALL {
        let action = site.sample().action();
        for (status, code, words, kind) in refusals(*site) {
            lab.calm().await;
            let mut trouble = order(action.name(), "refuse", "before", 0);
            (trouble["code"], trouble["message"], trouble["status"]) = (json!(code), json!(words), json!(status));
            lab.fault(&trouble).await;
            let error = site.sample().run(&ec2).await.expect_err(code);
            let Error { action: of, kind: found, code: told, message } = &error;
            assert_eq!((*of, *found, told.as_str()), (action, *kind, *code), "{site:?}: {error}");
            // What to do about credentials is added to EC2's words, and to nothing else.
            let advice = message.strip_prefix(words).unwrap_or_else(|| panic!("{site:?}: {error}"));
            assert_eq!(advice.is_empty(), *kind != Kind::Credentials, "{site:?}: {error}");
            let log: Vec<_> = lab.log().await.into_iter().map(|line| (line.action, line.outcome)).collect();
            assert_eq!(log, [(action.name().to_owned(), (*code).to_owned())], "{site:?}: {error}");
        }
    }
}
