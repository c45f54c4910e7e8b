//! What EC2 answers: one variant per action, in plain types. A description is a copy: it does not change with the world.

use std::{fmt, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;

pub use crate::instance_types::InstanceType;
use crate::{
    enis::Mac,
    requests::{InterfaceType, ReservationKind, Tags},
};

/// The answer to one [`crate::Request`], of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The instances, `pending`.
    RunInstances(Reservation),
    /// The instances.
    DescribeInstances(Page<Reservation>),
    /// What happened to each.
    TerminateInstances(Vec<StateChange>),
    /// The types.
    DescribeInstanceTypes(Page<&'static InstanceType>),
    /// The VPC.
    CreateVpc(VpcRecord),
    /// The block.
    AssociateVpcCidrBlock {
        /// The VPC.
        vpc: String,
        /// The block that was added.
        block: CidrAssociation,
    },
    /// The VPCs.
    DescribeVpcs(Page<VpcRecord>),
    /// The subnet.
    CreateSubnet(Subnet),
    /// The subnets.
    DescribeSubnets(Page<Subnet>),
    /// The reservation.
    CreateSubnetCidrReservation(SubnetReservation),
    /// The reservations.
    GetSubnetCidrReservations(Page<SubnetReservation>),
    /// The reservation that was.
    DeleteSubnetCidrReservation(SubnetReservation),
    /// The group's id.
    CreateSecurityGroup(String),
    /// The groups.
    DescribeSecurityGroups(Page<SecurityGroup>),
    /// The ENI, `pending`.
    CreateNetworkInterface {
        /// The ENI.
        eni: Box<NetworkInterface>,
        /// The token of the request.
        client_token: Option<String>,
    },
    /// The ENIs.
    DescribeNetworkInterfaces(Page<NetworkInterface>),
    /// The attachment.
    AttachNetworkInterface {
        /// Its id.
        attachment: String,
        /// The network card.
        card: u32,
    },
    /// Accepted.
    DetachNetworkInterface,
    /// Gone.
    DeleteNetworkInterface,
    /// Changed.
    ModifyNetworkInterfaceAttribute,
    /// What this call added, and nothing else (documentation).
    AssignPrivateIpAddresses {
        /// The ENI.
        eni: String,
        /// The addresses that were added.
        addresses: Vec<Ipv4Addr>,
        /// The prefixes that were added.
        prefixes: Vec<Ipv4Net>,
    },
    /// Gone.
    UnassignPrivateIpAddresses,
    /// Set.
    CreateTags,
    /// Gone.
    DeleteTags,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The results.
    pub items: Vec<T>,
    /// Where to go on, if there is more.
    pub next_token: Option<String>,
}

/// The instances of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: String,
    /// The account.
    pub owner: String,
    /// The instances.
    pub instances: Vec<Instance>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-...`
    pub id: String,
    /// E.g. `m5.large`.
    pub instance_type: String,
    /// The image it was launched from.
    pub image: String,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When it was launched, in virtual time.
    pub launched: Duration,
    /// The zone.
    pub zone: String,
    /// The VPC of the primary ENI.
    pub vpc: String,
    /// The subnet of the primary ENI.
    pub subnet: String,
    /// ARN of the instance profile.
    pub profile: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its ENIs by card and device index: the primary ENI first.
    pub interfaces: Vec<NetworkInterface>,
}

/// The life of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Starting.
    Pending,
    /// Up.
    Running,
    /// Ending; its ENIs are still attached.
    ShuttingDown,
    /// Over.
    Terminated,
}

/// What TerminateInstances did to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The instance.
    pub instance: String,
    /// Before the call.
    pub previous: InstanceState,
    /// After the call.
    pub current: InstanceState,
}

/// A VPC (`Vpc` is the whole model).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcRecord {
    /// `vpc-...`
    pub id: String,
    /// The account.
    pub owner: String,
    /// Its IPv4 blocks, the first one first.
    pub blocks: Vec<CidrAssociation>,
    /// Its tags.
    pub tags: Tags,
}

/// An IPv4 block of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrAssociation {
    /// `vpc-cidr-assoc-...`
    pub id: String,
    /// The block.
    pub cidr: Ipv4Net,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-...`
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// The account.
    pub owner: String,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Its zone.
    pub zone: String,
    /// Addresses that can still be assigned.
    pub available: u32,
    /// Its tags.
    pub tags: Tags,
}

/// A reserved range of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetReservation {
    /// `scr-...`
    pub id: String,
    /// Its subnet.
    pub subnet: String,
    /// The range.
    pub cidr: Ipv4Net,
    /// What it is for.
    pub kind: ReservationKind,
    /// The account.
    pub owner: String,
    /// Free text.
    pub description: String,
    /// Its tags.
    pub tags: Tags,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `sg-...`
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its VPC.
    pub vpc: String,
    /// The account.
    pub owner: String,
    /// Its tags.
    pub tags: Tags,
}

/// An ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-...`
    pub id: String,
    /// What it is for.
    pub interface_type: InterfaceType,
    /// Where it is in its life.
    pub status: EniStatus,
    /// Its subnet.
    pub subnet: String,
    /// Its VPC.
    pub vpc: String,
    /// Its zone.
    pub zone: String,
    /// The account.
    pub owner: String,
    /// Free text.
    pub description: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, the primary first; none on an EFA-only ENI. Those of its prefixes are not listed.
    pub addresses: Vec<Ipv4Addr>,
    /// Its /28 prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// Its security groups: id and name.
    pub groups: Vec<(String, String)>,
    /// Whether packets with foreign addresses are dropped.
    pub source_dest_check: bool,
    /// Its attachment, if any.
    pub attachment: Option<Attachment>,
    /// Its tags.
    pub tags: Tags,
}

/// The life of an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EniStatus {
    /// Being made (field: only in the answer to the create and for a moment after it).
    Pending,
    /// Not attached.
    Available,
    /// Attached, or about to be, or no longer quite.
    InUse,
}

/// An ENI's place on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `eni-attach-...`
    pub id: String,
    /// The instance.
    pub instance: String,
    /// The account.
    pub owner: String,
    /// The device index on its card.
    pub device_index: u32,
    /// The network card.
    pub card: u32,
    /// Where it is in its life.
    pub status: AttachmentStatus,
    /// When it was accepted, in virtual time.
    pub since: Duration,
    /// Whether the ENI is deleted with its instance.
    pub delete_on_termination: bool,
}

/// The life of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttachmentStatus {
    /// Accepted.
    Attaching,
    /// In place.
    Attached,
    /// Being taken away.
    Detaching,
}

impl InstanceState {
    /// EC2's code and name.
    pub fn code_and_name(self) -> (u16, &'static str) {
        match self {
            Self::Pending => (0, "pending"),
            Self::Running => (16, "running"),
            Self::ShuttingDown => (32, "shutting-down"),
            Self::Terminated => (48, "terminated"),
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code_and_name().1)
    }
}

impl fmt::Display for EniStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Available => "available",
            Self::InUse => "in-use",
        })
    }
}

impl fmt::Display for AttachmentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        })
    }
}
