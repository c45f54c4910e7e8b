//! Every place at which the adapter calls EC2.
//!
//! Owns the list and one request of each. A call that is new has a place here, or this does not compile.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cloud::{Action, Answer, Call, Cloud, Error};
use cloud_aws::Ec2;
use pool::{Ask, DeviceIndex, Limits};

/// What the adapter can be sent for.
#[derive(Debug, Clone)]
pub enum Errand {
    Call(Call),
    /// The limits of an instance type.
    Limits(&'static str),
}

/// What it brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time")]
pub enum Brought {
    Answer(Answer),
    Limits(Limits),
}

impl Errand {
    pub fn action(&self) -> Action {
        match self {
            Self::Call(call) => call.action(),
            Self::Limits(_) => Action::DescribeInstanceTypes,
        }
    }

    pub async fn run(self, ec2: &Ec2) -> Result<Brought, Error> {
        match self {
            Self::Call(call) => ec2.call(call).await.map(Brought::Answer),
            Self::Limits(instance_type) => ec2.instance_limits(instance_type).await.map(Brought::Limits),
        }
    }
}

macro_rules! sites {
    ($($name:ident),* $(,)?) => {
        /// A place at which the adapter calls EC2.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Site {
            $($name,)*
        }

        impl Site {
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

sites!(
    CreateEni, Attach, Protect, SetGroups, Assign, Unassign, Tag, Detach, Delete, Describe, Discover, Subnets, Leaked,
    Instances, Limits,
);

impl Site {
    /// Where this is done.
    pub fn of(errand: &Errand) -> Self {
        match errand {
            Errand::Limits(_) => Self::Limits,
            Errand::Call(call) => match call {
                Call::CreateEni { .. } => Self::CreateEni,
                Call::Attach { .. } => Self::Attach,
                Call::Protect { .. } => Self::Protect,
                Call::SetGroups { .. } => Self::SetGroups,
                Call::Assign { .. } => Self::Assign,
                Call::Unassign { .. } => Self::Unassign,
                Call::Tag { .. } => Self::Tag,
                Call::Detach { .. } => Self::Detach,
                Call::Delete { .. } => Self::Delete,
                Call::Describe { .. } => Self::Describe,
                Call::Discover { .. } => Self::Discover,
                Call::Subnets { .. } => Self::Subnets,
                Call::Leaked { .. } => Self::Leaked,
                Call::Instances { .. } => Self::Instances,
            },
        }
    }

    /// One request, of things that nobody has.
    pub fn sample(self) -> Errand {
        Errand::Call(match self {
            Self::CreateEni => Call::CreateEni {
                token: "t-1".into(),
                subnet: "subnet-1".into(),
                groups: vec![],
                ask: Ask::Addresses(2),
                description: String::new(),
                tags: BTreeMap::new(),
            },
            Self::Attach => Call::Attach { eni: "eni-0a".into(), instance: "i-1".into(), device: DeviceIndex(1) },
            Self::Protect => Call::Protect { eni: "eni-0a".into(), attachment: "eni-attach-7".into() },
            Self::SetGroups => Call::SetGroups { eni: "eni-0a".into(), groups: vec!["sg-1".into()] },
            Self::Assign => Call::Assign { eni: "eni-0a".into(), ask: Ask::Addresses(2) },
            Self::Unassign => {
                let addresses = vec![Ipv4Addr::new(10, 0, 0, 9)];
                Call::Unassign { eni: "eni-0a".into(), addresses, prefixes: vec![] }
            }
            Self::Tag => {
                Call::Tag { eni: "eni-0a".into(), tags: BTreeMap::from([("key".to_owned(), "value".to_owned())]) }
            }
            Self::Detach => Call::Detach { eni: "eni-0a".into(), attachment: "eni-attach-7".into() },
            Self::Delete => Call::Delete { eni: "eni-0a".into() },
            Self::Describe => Call::Describe { eni: "eni-0a".into() },
            Self::Discover => Call::Discover { instance: "i-1".into() },
            Self::Subnets => Call::Subnets { vpc: "vpc-1".into(), zone: "eu-central-1a".to_owned() },
            Self::Leaked => Call::Leaked { vpc: "vpc-1".into(), cluster: None },
            Self::Instances => Call::Instances { instances: vec!["i-2".into()] },
            Self::Limits => return Errand::Limits("m5.large"),
        })
    }

    /// It asks page by page.
    pub fn has_pages(self) -> bool {
        match self {
            Self::Discover | Self::Subnets | Self::Leaked | Self::Instances => true,
            Self::CreateEni
            | Self::Attach
            | Self::Protect
            | Self::SetGroups
            | Self::Assign
            | Self::Unassign
            | Self::Tag
            | Self::Detach
            | Self::Delete
            | Self::Describe
            | Self::Limits => false,
        }
    }
}
