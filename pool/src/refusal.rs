//! Why not: the closed set of reasons.
//!
//! Owns the reasons and their sentences. Never decides which one applies.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{BootTime, SubnetId};

/// Why an address cannot be had. The same reason goes into the reply, the CNI error, the metric label, the log line and `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A refill is under way.
    WarmingUp,
    /// EC2 has no free address in this subnet.
    SubnetExhausted {
        /// The subnet.
        subnet: SubnetId,
    },
    /// The subnet has no aligned /28 free, and no single address either.
    PrefixFragmented {
        /// The subnet.
        subnet: SubnetId,
    },
    /// The instance type allows no more ENIs, and all are full.
    EniLimit {
        /// How many it allows.
        limit: u32,
    },
    /// EC2 says that the ENIs cannot hold more addresses.
    AddressLimit,
    /// The account's quota of ENIs is used up.
    AccountQuota,
    /// EC2 throttles this account.
    Throttled {
        /// The action that was throttled.
        action: String,
    },
    /// Permissions are missing.
    Denied {
        /// The action that the node's role may not do.
        action: String,
    },
    /// EC2 refused for another reason.
    CloudError {
        /// The action.
        action: String,
        /// EC2's code.
        code: String,
    },
    /// Every address that is not leased cools.
    CoolingDown {
        /// How many.
        count: u32,
        /// When the first of them becomes free.
        until: BootTime,
    },
    /// MAX_ENI or the node's pod limit.
    PolicyCap {
        /// The setting and its value.
        setting: String,
    },
    /// EC2 or metadata cannot be reached.
    CloudUnreachable {
        /// The action that was tried.
        action: String,
    },
    /// What EC2 has is being read before anything is handed out.
    Verifying,
    /// The node takes no new pods, so the pool does not grow (AWS_MANAGE_ENIS_NON_SCHEDULABLE).
    NodeDraining,
    /// The daemon stops.
    Stopping,
    /// The sandbox was deleted after this request started.
    SandboxGone,
    /// No lease for this sandbox interface.
    UnknownSandbox,
    /// The request cannot be served with this configuration.
    ConfigInvalid {
        /// What is wrong.
        what: String,
    },
    /// The ledger cannot be written.
    LedgerUnavailable {
        /// What the store said.
        what: String,
    },
}

impl Refusal {
    /// The reason's name, as metric labels and interfaces have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WarmingUp => "WarmingUp",
            Self::SubnetExhausted { .. } => "SubnetExhausted",
            Self::PrefixFragmented { .. } => "PrefixFragmented",
            Self::EniLimit { .. } => "EniLimit",
            Self::AddressLimit => "AddressLimit",
            Self::AccountQuota => "AccountQuota",
            Self::Throttled { .. } => "Throttled",
            Self::Denied { .. } => "Denied",
            Self::CloudError { .. } => "CloudError",
            Self::CoolingDown { .. } => "CoolingDown",
            Self::PolicyCap { .. } => "PolicyCap",
            Self::CloudUnreachable { .. } => "CloudUnreachable",
            Self::Verifying => "Verifying",
            Self::NodeDraining => "NodeDraining",
            Self::Stopping => "Stopping",
            Self::SandboxGone => "SandboxGone",
            Self::UnknownSandbox => "UnknownSandbox",
            Self::ConfigInvalid { .. } => "ConfigInvalid",
            Self::LedgerUnavailable { .. } => "LedgerUnavailable",
        }
    }

    /// When trying again may help, as far as the reason itself says.
    pub fn retry_after(&self, now: BootTime) -> Option<Duration> {
        match self {
            Self::CoolingDown { until, .. } => Some(until.since(now)),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WarmingUp => {
                f.write_str("the pool is being refilled and no address has arrived yet; trying again helps")
            }
            Self::SubnetExhausted { subnet } => {
                write!(f, "EC2 has no free address in {subnet}; free addresses there or add a subnet")
            }
            Self::PrefixFragmented { subnet } => {
                write!(f, "{subnet} has no aligned /28 free; reserve a range of it for prefixes or add a subnet")
            }
            Self::EniLimit { limit } => {
                write!(
                    f,
                    "all {limit} ENIs that the instance type allows are attached and full; use a larger type or fewer pods"
                )
            }
            Self::AddressLimit => {
                f.write_str("EC2 says that the ENIs cannot hold more addresses; use a larger type or fewer pods")
            }
            Self::AccountQuota => f.write_str(
                "the account's quota of network interfaces is used up; ask AWS to raise it or delete unused ones",
            ),
            Self::Throttled { action } => write!(f, "EC2 throttles {action} for this account; trying again helps"),
            Self::Denied { action } => {
                write!(f, "the node's role may not do ec2:{action}; add it to the role's policy")
            }
            Self::CloudError { action, code } => {
                write!(f, "EC2 refused {action} with {code}; the daemon's log has the message")
            }
            Self::CoolingDown { count, .. } => {
                write!(f, "{count} released addresses cool before they may be used again; trying again helps")
            }
            Self::PolicyCap { setting } => write!(f, "{setting} allows no more addresses; raise it or run fewer pods"),
            Self::CloudUnreachable { action } => {
                write!(f, "{action} was not answered; check the route, the endpoint and the instance metadata service")
            }
            Self::Verifying => {
                f.write_str("the addresses are being checked with EC2 after a restart; trying again helps")
            }
            Self::NodeDraining => f.write_str(
                "the node takes no new pods, so the pool does not grow; uncordon it or set AWS_MANAGE_ENIS_NON_SCHEDULABLE",
            ),
            Self::Stopping => f.write_str("the daemon is stopping; trying again helps"),
            Self::SandboxGone => f.write_str("this sandbox was deleted after the request started"),
            Self::UnknownSandbox => {
                f.write_str("no lease for this sandbox interface; delete the sandbox and let the runtime make another")
            }
            Self::ConfigInvalid { what } => f.write_str(what),
            Self::LedgerUnavailable { what } => {
                write!(f, "the ledger cannot be written ({what}); check the disk of the run directory")
            }
        }
    }
}
