//! What EC2 really has, whichever EC2 it is: what the fabric turns into links, metadata tells, and audits compare with.
//!
//! The lab's own EC2 is looked at directly, LocalStack through a [`Mirror`]. Nothing here changes anything, or asks EC2's API, which
//! would be disturbed and counted.

mod mirror;
mod state;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ipnet::Ipv4Net;
use sim::{
    Attached,
    responses::{Instance, NetworkInterface},
};
use tokio::{sync::watch, time::Instant};

use crate::world::{self, World};
pub use mirror::{Mirror, MirrorError};

/// How far back the truth is remembered. Metadata can lag and reads can be stale for that long, not longer.
pub const HISTORY: Duration = Duration::from_mins(1);

/// See the module. Cheap to clone; clones are the same truth.
#[derive(Clone, Debug)]
pub enum Truth {
    /// The lab's own EC2.
    Embedded(Arc<World>),
    /// A LocalStack, one of its VPCs.
    LocalStack(Arc<Mirror>),
}

/// What metadata tells about an instance, as of some moment.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) instance: Instance,
    pub(crate) launched: SystemTime,
    pub(crate) region: String,
    /// The VPC's, the first one first.
    pub(crate) cidrs: Vec<Ipv4Net>,
    /// Of the subnets that its ENIs are in.
    pub(crate) subnets: BTreeMap<String, Ipv4Net>,
}

impl Truth {
    /// An instance's ENIs, the primary one first.
    pub fn attached(&self, instance: &str) -> Vec<Attached> {
        match self {
            Self::Embedded(world) => world.attached(instance),
            Self::LocalStack(mirror) => mirror.attached(instance),
        }
    }

    /// Every ENI, in the order of their making as far as it is known.
    pub fn enis(&self) -> Vec<NetworkInterface> {
        match self {
            Self::Embedded(world) => world.vpc(sim::Vpc::enis),
            Self::LocalStack(mirror) => mirror.enis(),
        }
    }

    /// What metadata tells about an instance that shows what was at `as_of`, or what is; `None` for an instance that never was.
    /// An instance knows what it was launched with, however young it is.
    pub(crate) fn told(&self, instance: &str, as_of: Option<Instant>) -> Option<Told> {
        match self {
            Self::Embedded(world) => {
                let (instance, cidrs) = world.metadata(instance, as_of)?;
                Some(world.vpc(|vpc| {
                    Told {
                        launched: world.wall_clock(instance.launched),
                        region: vpc.settings().region.clone(),
                        cidrs,
                        subnets: instance
                            .interfaces
                            .iter()
                            .filter_map(|eni| Some((eni.subnet.clone(), vpc.subnet_cidr(&eni.subnet)?)))
                            .collect(),
                        instance,
                    }
                }))
            }
            Self::LocalStack(mirror) => mirror.told(instance, as_of),
        }
    }

    /// Follows it from its current state on.
    pub fn changes(&self) -> Changes {
        match self {
            Self::Embedded(world) => Changes::Embedded(world.changes()),
            Self::LocalStack(mirror) => Changes::LocalStack(mirror.changes()),
        }
    }

    /// Resolves once this truth has what every call had done that ended before.
    pub(crate) async fn catch_up(&self) -> Result<(), MirrorError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::LocalStack(mirror) => mirror.catch_up().await,
        }
    }
}

impl From<Arc<World>> for Truth {
    fn from(world: Arc<World>) -> Self {
        Self::Embedded(world)
    }
}

/// Follows the truth, missing nothing: [`Changes::next`] returns at once if there was a change since it last returned.
#[derive(Clone, Debug)]
pub enum Changes {
    /// Of the lab's own EC2.
    Embedded(world::Changes),
    /// Of a LocalStack.
    LocalStack(watch::Receiver<u64>),
}

impl Changes {
    /// The next change. Cancelling it loses nothing.
    pub async fn next(&mut self) {
        match self {
            Self::Embedded(changes) => changes.next().await,
            // The sender is in the mirror, of which whoever follows it has a share.
            Self::LocalStack(changes) => {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
