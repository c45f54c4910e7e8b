//! What a caller may ask: one variant per EC2 action, in plain types. Nothing here knows how a request travels.
//!
//! Ids are strings: EC2 makes them, callers echo them, and an id that does not exist is an answer, not a mistake in the type.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

/// One call of one EC2 action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Starts instances, with their first ENIs.
    RunInstances(RunInstances),
    /// Reads instances.
    DescribeInstances(Describe),
    /// Ends instances; ENIs marked delete-on-termination go with them.
    TerminateInstances {
        /// Instance ids.
        instances: Vec<String>,
    },
    /// Reads what instance types allow. `ids` are type names.
    DescribeInstanceTypes(Describe),
    /// Makes a VPC with one IPv4 block.
    CreateVpc {
        /// Its block, /16 to /28.
        cidr: Ipv4Net,
        /// Its tags.
        tags: Tags,
    },
    /// Adds an IPv4 block to a VPC.
    AssociateVpcCidrBlock {
        /// The VPC.
        vpc: String,
        /// The block, /16 to /28.
        cidr: Ipv4Net,
    },
    /// Reads VPCs.
    DescribeVpcs(Describe),
    /// Makes a subnet in one of a VPC's blocks.
    CreateSubnet(CreateSubnet),
    /// Reads subnets.
    DescribeSubnets(Describe),
    /// Reserves a range of a subnet.
    CreateSubnetCidrReservation(NewReservation),
    /// Reads what is reserved in a subnet. The ids of `describe` are not used.
    GetSubnetCidrReservations {
        /// The subnet.
        subnet: String,
        /// Filters and the page.
        describe: Describe,
    },
    /// Gives a reserved range back.
    DeleteSubnetCidrReservation {
        /// The reservation.
        reservation: String,
    },
    /// Makes a security group (a name for the model: no rules).
    CreateSecurityGroup {
        /// Its name, unique in the VPC.
        name: String,
        /// Its description.
        description: String,
        /// The VPC.
        vpc: String,
        /// Its tags.
        tags: Tags,
    },
    /// Reads security groups.
    DescribeSecurityGroups(Describe),
    /// Makes an ENI with its addresses.
    CreateNetworkInterface(CreateNetworkInterface),
    /// Reads ENIs.
    DescribeNetworkInterfaces(Describe),
    /// Attaches an ENI to an instance.
    AttachNetworkInterface {
        /// The ENI.
        eni: String,
        /// The instance.
        instance: String,
        /// The device index on that card.
        device_index: u32,
        /// The network card.
        card: u32,
    },
    /// Detaches an ENI.
    DetachNetworkInterface {
        /// The attachment's id, not the ENI's.
        attachment: String,
        /// Without waiting for the instance.
        force: bool,
    },
    /// Deletes an ENI that is not attached.
    DeleteNetworkInterface {
        /// The ENI.
        eni: String,
    },
    /// Changes one attribute of an ENI.
    ModifyNetworkInterfaceAttribute {
        /// The ENI.
        eni: String,
        /// The attribute and its new value.
        attribute: EniAttribute,
    },
    /// Adds secondary addresses or prefixes to an ENI. Takes no client token: not idempotent.
    AssignPrivateIpAddresses {
        /// The ENI.
        eni: String,
        /// How many, or which.
        wanted: Wanted,
        /// Secondary addresses of other ENIs may be moved here.
        allow_reassignment: bool,
    },
    /// Takes secondary addresses and prefixes from an ENI.
    UnassignPrivateIpAddresses {
        /// The ENI.
        eni: String,
        /// Which addresses.
        addresses: Vec<Ipv4Addr>,
        /// Which prefixes.
        prefixes: Vec<Ipv4Net>,
    },
    /// Sets tags on resources of any kind.
    CreateTags {
        /// Ids.
        resources: Vec<String>,
        /// What to set.
        tags: Tags,
    },
    /// Removes tags from resources of any kind.
    DeleteTags {
        /// Ids.
        resources: Vec<String>,
        /// Keys; with a value, only if the tag has that value.
        tags: Vec<(String, Option<String>)>,
    },
}

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// Which addresses or prefixes a call asks for: one kind, chosen by one side (documentation).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    #[default]
    Nothing,
    /// So many, chosen by EC2.
    Count(u32),
    /// These.
    These(Vec<Ipv4Addr>),
    /// So many /28 prefixes, chosen by EC2.
    Prefixes(u32),
    /// These prefixes.
    ThesePrefixes(Vec<Ipv4Net>),
}

/// What an ENI is for. Each kind takes one of the instance's places (documentation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterfaceType {
    /// For traffic.
    #[default]
    Interface,
    /// For traffic, with an EFA device beside it.
    Efa,
    /// An EFA device alone: it has no addresses, and the instance sees no network link.
    EfaOnly,
    /// Carries branch ENIs, which the model does not have.
    Trunk,
}

/// What a reserved range of a subnet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReservationKind {
    /// For prefixes that EC2 chooses.
    Prefix,
    /// For addresses that callers name.
    Explicit,
}

/// A describe call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Describe {
    /// Only these; empty for all. One that does not exist fails the call.
    pub ids: Vec<String>,
    /// All must match.
    pub filters: Vec<Filter>,
    /// The most results in one answer.
    pub max_results: Option<u32>,
    /// Where an earlier answer ended.
    pub next_token: Option<String>,
}

/// A filter of a describe call: any of the values, in which `*` and `?` are wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// E.g. `subnet-id`, `tag:Name`.
    pub name: String,
    /// Any of these.
    pub values: Vec<String>,
}

/// See [`Request::RunInstances`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunInstances {
    /// How many (MaxCount; all or none).
    pub count: u32,
    /// E.g. `m5.large`.
    pub instance_type: String,
    /// The image; not looked at.
    pub image: String,
    /// ARN of the instance profile.
    pub profile: Option<String>,
    /// The ENIs, at least one, the first of them at device index 0 of card 0.
    pub interfaces: Vec<LaunchInterface>,
    /// Tags of the instances.
    pub tags: Tags,
    /// Tags of the ENIs made here.
    pub eni_tags: Tags,
    /// Makes the call idempotent.
    pub client_token: Option<String>,
}

/// An ENI of an instance to be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchInterface {
    /// The device index on that card.
    pub device_index: u32,
    /// The network card.
    pub card: u32,
    /// An ENI that exists, or what to make.
    pub eni: LaunchEni,
    /// EC2's default: yes for an ENI made here, no for one that existed.
    pub delete_on_termination: Option<bool>,
}

/// Where an ENI of a launch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchEni {
    /// It exists.
    Existing(String),
    /// It is made by the launch.
    New(NewEni),
}

/// See [`Request::CreateSubnet`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSubnet {
    /// The VPC.
    pub vpc: String,
    /// The block, /16 to /28.
    pub cidr: Ipv4Net,
    /// The zone by name; EC2 chooses if absent.
    pub zone: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// See [`Request::CreateSubnetCidrReservation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReservation {
    /// The subnet.
    pub subnet: String,
    /// The range, within the subnet.
    pub cidr: Ipv4Net,
    /// What it is for.
    pub kind: ReservationKind,
    /// Free text.
    pub description: String,
    /// Its tags.
    pub tags: Tags,
}

/// What an ENI is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEni {
    /// What it is for.
    pub interface_type: InterfaceType,
    /// The subnet.
    pub subnet: String,
    /// The primary address; EC2 chooses if absent.
    pub primary: Option<Ipv4Addr>,
    /// The secondary addresses, or prefixes.
    pub secondary: Wanted,
    /// Security groups; the VPC's default group if empty.
    pub groups: Vec<String>,
    /// Free text.
    pub description: String,
}

/// See [`Request::CreateNetworkInterface`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateNetworkInterface {
    /// What to make.
    pub eni: NewEni,
    /// Its tags.
    pub tags: Tags,
    /// Makes the call idempotent.
    pub client_token: Option<String>,
}

/// The attributes of an ENI that can be changed, one a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EniAttribute {
    /// Replaces the security groups.
    Groups(Vec<String>),
    /// Whether packets with foreign addresses are dropped.
    SourceDestCheck(bool),
    /// The free text.
    Description(String),
    /// Whether the ENI is deleted with its instance.
    DeleteOnTermination {
        /// The ENI's attachment.
        attachment: String,
        /// The new value.
        delete: bool,
    },
}

macro_rules! actions {
    ($($name:ident),* $(,)?) => {
        /// The EC2 actions that the model knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Action {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl Request {
            /// The action that this is a call of.
            pub fn action(&self) -> Action {
                match self {
                    $(Self::$name { .. } => Action::$name,)*
                }
            }
        }
    };
}

actions!(
    RunInstances,
    DescribeInstances,
    TerminateInstances,
    DescribeInstanceTypes,
    CreateVpc,
    AssociateVpcCidrBlock,
    DescribeVpcs,
    CreateSubnet,
    DescribeSubnets,
    CreateSubnetCidrReservation,
    GetSubnetCidrReservations,
    DeleteSubnetCidrReservation,
    CreateSecurityGroup,
    DescribeSecurityGroups,
    CreateNetworkInterface,
    DescribeNetworkInterfaces,
    AttachNetworkInterface,
    DetachNetworkInterface,
    DeleteNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    AssignPrivateIpAddresses,
    UnassignPrivateIpAddresses,
    CreateTags,
    DeleteTags,
);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of an action that the model does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAction(pub String);

impl fmt::Display for UnknownAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown EC2 action {:?}", self.0)
    }
}

impl std::error::Error for UnknownAction {}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(name: &str) -> Result<Self, UnknownAction> {
        Self::ALL.iter().copied().find(|action| action.name() == name).ok_or_else(|| UnknownAction(name.to_owned()))
    }
}

impl fmt::Display for InterfaceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "interface",
            Self::Efa => "efa",
            Self::EfaOnly => "efa-only",
            Self::Trunk => "trunk",
        })
    }
}

impl fmt::Display for ReservationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefix => "prefix",
            Self::Explicit => "explicit",
        })
    }
}

impl Describe {
    /// One resource by its id.
    pub fn one(id: &str) -> Self {
        Self { ids: vec![id.to_owned()], ..Self::default() }
    }

    /// Whatever matches one filter.
    pub fn matching(name: &str, value: &str) -> Self {
        Self { filters: vec![Filter { name: name.to_owned(), values: vec![value.to_owned()] }], ..Self::default() }
    }
}
