//! What is asked of EC2 and what comes back.
//!
//! Owns the vocabulary of calls: one [`Call`] is one EC2 action, one intent in the ledger, one budget entry. Never talks to EC2.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::{AttachmentId, DeviceIndex, EniId, InstanceId, Mac, Prefix, SecurityGroupId, SubnetId, Token, VpcId};

/// One EC2 call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    /// CreateNetworkInterface with addresses in the same call; idempotent by its token.
    CreateEni {
        /// Client token.
        token: Token,
        /// Subnet.
        subnet: SubnetId,
        /// Security groups.
        groups: Vec<SecurityGroupId>,
        /// What to assign at once.
        ask: Ask,
        /// `aws-K8S-<instance id>`.
        description: String,
        /// Tags, part of the call: an ENI without them is not ours.
        tags: BTreeMap<String, String>,
    },
    /// AttachNetworkInterface. Not idempotent.
    Attach {
        /// The ENI.
        eni: EniId,
        /// Our instance.
        instance: InstanceId,
        /// Where; network card 0.
        device: DeviceIndex,
    },
    /// ModifyNetworkInterfaceAttribute: delete the ENI when the instance ends. Idempotent.
    Protect {
        /// The ENI.
        eni: EniId,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// ModifyNetworkInterfaceAttribute: these security groups instead of those it has. Idempotent.
    SetGroups {
        /// The ENI.
        eni: EniId,
        /// All of its groups from then on; at least one.
        groups: Vec<SecurityGroupId>,
    },
    /// AssignPrivateIpAddresses by count. Not idempotent.
    Assign {
        /// The ENI.
        eni: EniId,
        /// How many of what.
        ask: Ask,
    },
    /// UnassignPrivateIpAddresses; one of the lists is empty.
    Unassign {
        /// The ENI.
        eni: EniId,
        /// Which addresses.
        addresses: Vec<Ipv4Addr>,
        /// Which prefixes.
        prefixes: Vec<Prefix>,
    },
    /// CreateTags on an ENI. Idempotent.
    Tag {
        /// The ENI.
        eni: EniId,
        /// What to set.
        tags: BTreeMap<String, String>,
    },
    /// DetachNetworkInterface.
    Detach {
        /// The ENI.
        eni: EniId,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// DeleteNetworkInterface.
    Delete {
        /// The ENI.
        eni: EniId,
    },
    /// DescribeNetworkInterfaces of one ENI by id.
    Describe {
        /// The ENI.
        eni: EniId,
    },
    /// DescribeNetworkInterfaces of all ENIs attached to our instance.
    Discover {
        /// Our instance.
        instance: InstanceId,
    },
    /// DescribeSubnets of a zone of a VPC.
    Subnets {
        /// The VPC.
        vpc: VpcId,
        /// The availability zone's name.
        zone: String,
    },
    /// DescribeNetworkInterfaces of what nodes left behind: `available`, tagged with an instance's id and, where given, the cluster's
    /// name.
    Leaked {
        /// The VPC.
        vpc: VpcId,
        /// CLUSTER_NAME.
        cluster: Option<String>,
    },
    /// DescribeInstances: which of these still exist.
    Instances {
        /// Which.
        instances: Vec<InstanceId>,
    },
}

/// What to assign, chosen by EC2; all of it or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// So many addresses.
    Addresses(u32),
    /// So many /28s.
    Prefixes(u32),
}

impl Ask {
    /// How many of the ENI's places it takes: a prefix takes as many as an address, one
    /// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-prefix-eni.html>).
    pub fn places(self) -> u32 {
        match self {
            Self::Addresses(count) | Self::Prefixes(count) => count,
        }
    }

    /// How many addresses come of it.
    pub fn addresses(self) -> u32 {
        match self {
            Self::Addresses(count) => count,
            Self::Prefixes(count) => count.saturating_mul(Prefix::SIZE),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(count) => write!(f, "{count} addresses"),
            Self::Prefixes(count) => write!(f, "{count} prefixes"),
        }
    }
}

impl Call {
    /// The EC2 action.
    pub fn action(&self) -> Action {
        match self {
            Self::CreateEni { .. } => Action::CreateNetworkInterface,
            Self::Attach { .. } => Action::AttachNetworkInterface,
            Self::Protect { .. } | Self::SetGroups { .. } => Action::ModifyNetworkInterfaceAttribute,
            Self::Assign { .. } => Action::AssignPrivateIpAddresses,
            Self::Unassign { .. } => Action::UnassignPrivateIpAddresses,
            Self::Detach { .. } => Action::DetachNetworkInterface,
            Self::Delete { .. } => Action::DeleteNetworkInterface,
            Self::Tag { .. } => Action::CreateTags,
            Self::Describe { .. } | Self::Discover { .. } | Self::Leaked { .. } => Action::DescribeNetworkInterfaces,
            Self::Subnets { .. } => Action::DescribeSubnets,
            Self::Instances { .. } => Action::DescribeInstances,
        }
    }

    /// The ENI that the call is about; none for a new one and for all of them.
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            Self::Attach { eni, .. }
            | Self::Protect { eni, .. }
            | Self::SetGroups { eni, .. }
            | Self::Assign { eni, .. }
            | Self::Unassign { eni, .. }
            | Self::Detach { eni, .. }
            | Self::Delete { eni }
            | Self::Tag { eni, .. }
            | Self::Describe { eni } => Some(eni),
            Self::CreateEni { .. }
            | Self::Discover { .. }
            | Self::Subnets { .. }
            | Self::Leaked { .. }
            | Self::Instances { .. } => None,
        }
    }

    /// It wants prefixes.
    pub(crate) fn asks_prefixes(&self) -> bool {
        matches!(self, Self::CreateEni { ask: Ask::Prefixes(_), .. } | Self::Assign { ask: Ask::Prefixes(_), .. })
    }

    /// A read changes nothing in EC2: it needs no intent and may be repeated freely.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Describe { .. }
                | Self::Discover { .. }
                | Self::Subnets { .. }
                | Self::Leaked { .. }
                | Self::Instances { .. }
        )
    }
}

/// The EC2 actions that a node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "EC2's own names")]
pub enum Action {
    CreateNetworkInterface,
    AttachNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    AssignPrivateIpAddresses,
    UnassignPrivateIpAddresses,
    DetachNetworkInterface,
    DeleteNetworkInterface,
    CreateTags,
    DescribeNetworkInterfaces,
    DescribeInstanceTypes,
    DescribeSubnets,
    DescribeInstances,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::CreateNetworkInterface,
        Self::AttachNetworkInterface,
        Self::ModifyNetworkInterfaceAttribute,
        Self::AssignPrivateIpAddresses,
        Self::UnassignPrivateIpAddresses,
        Self::DetachNetworkInterface,
        Self::DeleteNetworkInterface,
        Self::CreateTags,
        Self::DescribeNetworkInterfaces,
        Self::DescribeInstanceTypes,
        Self::DescribeSubnets,
        Self::DescribeInstances,
    ];

    /// EC2's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateNetworkInterface => "CreateNetworkInterface",
            Self::AttachNetworkInterface => "AttachNetworkInterface",
            Self::ModifyNetworkInterfaceAttribute => "ModifyNetworkInterfaceAttribute",
            Self::AssignPrivateIpAddresses => "AssignPrivateIpAddresses",
            Self::UnassignPrivateIpAddresses => "UnassignPrivateIpAddresses",
            Self::DetachNetworkInterface => "DetachNetworkInterface",
            Self::DeleteNetworkInterface => "DeleteNetworkInterface",
            Self::CreateTags => "CreateTags",
            Self::DescribeNetworkInterfaces => "DescribeNetworkInterfaces",
            Self::DescribeInstanceTypes => "DescribeInstanceTypes",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::DescribeInstances => "DescribeInstances",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// EC2's reply to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// CreateNetworkInterface: the new ENI.
    Created(SeenEni),
    /// AttachNetworkInterface.
    Attached(AttachmentId),
    /// AssignPrivateIpAddresses: only what is new.
    Assigned {
        /// The addresses.
        addresses: Vec<Ipv4Addr>,
        /// The prefixes.
        prefixes: Vec<Prefix>,
    },
    /// Protect, set groups, unassign, detach, delete and tag have nothing to say.
    Done,
    /// DescribeNetworkInterfaces by id; `None`: EC2 says there is no such ENI.
    Described(Option<SeenEni>),
    /// All ENIs attached to the instance.
    Discovered(Vec<SeenEni>),
    /// The zone's subnets.
    Subnets(Vec<SeenSubnet>),
    /// ENIs that nodes left behind, perhaps.
    Leaked(Vec<SeenEni>),
    /// Those of the instances asked for that are not terminated.
    Instances(Vec<InstanceId>),
}

/// A subnet as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSubnet {
    /// Its id.
    pub id: SubnetId,
    /// AvailableIpAddressCount.
    pub free: u32,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// An ENI as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEni {
    /// Its id.
    pub id: EniId,
    /// Hardware address: how its link is found on the node.
    pub mac: Mac,
    /// Subnet.
    pub subnet: SubnetId,
    /// Its own address.
    pub primary: Ipv4Addr,
    /// The addresses for pods.
    pub secondary: Vec<Ipv4Addr>,
    /// The prefixes for pods.
    pub prefixes: Vec<Prefix>,
    /// Description.
    pub description: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Security groups.
    pub groups: BTreeSet<SecurityGroupId>,
    /// What kind of interface it is.
    pub kind: InterfaceKind,
    /// Where it is attached, if it is.
    pub attachment: Option<SeenAttachment>,
}

/// EC2's `InterfaceType`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceKind {
    /// An ordinary one (also `efa`: with addresses).
    Interface,
    /// A trunk for branch ENIs.
    Trunk,
    /// Carries no addresses.
    EfaOnly,
    /// A load balancer's, a NAT gateway's, …
    Other,
}

/// An attachment as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAttachment {
    /// Its id.
    pub id: AttachmentId,
    /// The instance; `None` for ENIs attached to something else.
    pub instance: Option<InstanceId>,
    /// Position.
    pub device: DeviceIndex,
    /// Network card.
    pub card: u32,
    /// `attached` or on the way there; false: `detaching`.
    pub attached: bool,
    /// Does the ENI end with the instance.
    pub delete_on_termination: bool,
}

/// Why a call failed, sorted by what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What to do next.
    pub kind: Kind,
    /// EC2's code; empty when there was no answer.
    pub code: String,
    /// EC2's or the transport's words, for the log.
    pub message: String,
}

/// Every way in which EC2 fails, sorted by what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Later, slower.
    Throttled,
    /// The subnet has fewer free addresses than were asked for.
    NoFreeAddresses,
    /// The subnet has no aligned free /28.
    NoFreePrefix,
    /// The instance cannot take another ENI.
    InstanceEniLimit,
    /// The account cannot have another ENI.
    AccountEniQuota,
    /// The ENI cannot take as many addresses.
    AddressLimit,
    /// Something else holds what was asked for, for now: device index taken, ENI in use, incorrect state.
    Conflict,
    /// The client token was used with other arguments.
    TokenMismatch,
    /// There is no such thing.
    Gone,
    /// Permissions.
    Denied,
    /// Credentials are missing or expired.
    Credentials,
    /// EC2 will never accept this.
    Invalid,
    /// The call was surely never sent.
    Unreachable,
    /// It may or may not have happened.
    Uncertain,
}
