//! What the operator asked for and what the node is.
//!
//! Owns settings and facts as values. Never reads an environment variable: the shell parses and passes them in.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Action, Budget, EniId, InstanceId, SecurityGroupId, SubnetId, VpcId};

/// How much the pool holds beyond what is leased, with amazon-vpc-cni's meaning of each variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warm {
    /// WARM_ENI_TARGET: so many whole ENIs' worth of free addresses; ENIs are always filled.
    Enis(u32),
    /// WARM_IP_TARGET and MINIMUM_IP_TARGET.
    Addresses {
        /// Free addresses to keep.
        warm: u32,
        /// Addresses to hold in total, used or not.
        minimum: u32,
    },
    /// WARM_PREFIX_TARGET: so many whole prefixes free; with prefix delegation only.
    Prefixes(u32),
    /// BERTH_WARM=demand: one free address, and what the pods that are bound to the node want.
    Demand,
}

impl Warm {
    /// Free addresses to keep and addresses to hold in total, where the target is in addresses.
    pub(crate) fn addresses(self) -> Option<(u32, u32)> {
        match self {
            Self::Addresses { warm, minimum } => Some((warm, minimum)),
            Self::Demand => Some((1, 0)),
            Self::Enis(_) | Self::Prefixes(_) => None,
        }
    }
}

/// The operator's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Standing surplus.
    pub warm: Warm,
    /// ENABLE_PREFIX_DELEGATION: /28s instead of single addresses.
    pub prefixes: bool,
    /// MAX_ENI: not more ENIs than this, the primary included.
    pub max_eni: Option<u32>,
    /// Not more addresses than pods that the node can run.
    pub max_pods: Option<u32>,
    /// IP_COOLDOWN_PERIOD: how long a released address stays unused.
    pub cooling: Duration,
    /// BERTH_EARLY_REUSE: a cooling address may be leased when nothing else can be had.
    pub early_reuse: bool,
    /// How long surplus stays before it is given back.
    pub shrink_after: Duration,
    /// BERTH_RECLAIM_AFTER: a sandbox whose link has been gone from the kernel this long, and which nobody deleted, is no more.
    pub reclaim_after: Duration,
    /// ENABLE_SUBNET_DISCOVERY: new ENIs may be created in other subnets of the zone that are tagged for it.
    pub subnet_discovery: bool,
    /// AWS_MANAGE_ENIS_NON_SCHEDULABLE: a node that takes no new pods grows and gives ENIs back all the same.
    pub manage_unschedulable: bool,
    /// Not DISABLE_LEAKED_ENI_CLEANUP: ENIs that nodes left behind are deleted.
    pub clean_leaked: bool,
    /// MANAGE_UNTAGGED_ENI: ENIs on our instance that carry no tag of ours are used.
    pub manage_untagged: bool,
    /// CLUSTER_NAME.
    pub cluster: Option<String>,
    /// ADDITIONAL_ENI_TAGS.
    pub tags: BTreeMap<String, String>,
    /// BERTH_EC2_BUDGET: how fast the node calls EC2, where that is not [as published](Budget::published).
    pub budgets: BTreeMap<Action, Budget>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warm: Warm::Enis(1),
            max_eni: None,
            prefixes: false,
            max_pods: None,
            cooling: Duration::from_secs(30),
            early_reuse: false,
            shrink_after: Duration::from_mins(1),
            reclaim_after: Duration::from_mins(1),
            subnet_discovery: true,
            manage_unschedulable: false,
            clean_leaked: true,
            manage_untagged: true,
            cluster: None,
            tags: BTreeMap::new(),
            budgets: BTreeMap::new(),
        }
    }
}

/// A refill waits this long after the first shortfall, so that the first of a hundred pods does not ask for one address.
pub const COALESCE: Duration = Duration::from_millis(20);

/// What the instance is, from metadata and DescribeInstanceTypes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The instance.
    pub instance: InstanceId,
    /// The ENI at device index 0.
    pub primary: EniId,
    /// Its first address: what SNAT uses and probes come from.
    pub address: Ipv4Addr,
    /// Its subnet, in which new ENIs are created unless discovery finds a better one.
    pub subnet: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// The availability zone's name.
    pub zone: String,
    /// Its security groups, which new ENIs get.
    pub groups: Vec<SecurityGroupId>,
    /// What the type allows; `None` while that is not known: then the pool neither grows nor gives anything back.
    pub limits: Option<Limits>,
}

/// What EC2 allows an instance of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// ENIs, the primary included.
    pub enis: u32,
    /// IPv4 addresses per ENI, the ENI's own included.
    pub addresses_per_eni: u32,
}

impl Limits {
    /// Addresses for pods on one ENI.
    pub fn secondary(self) -> u32 {
        self.addresses_per_eni.saturating_sub(1)
    }
}
