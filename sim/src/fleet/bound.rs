//! What nobody can be faster than: every call that the pods cannot do without needs a token.
//!
//! Owns the arithmetic of a perfect scheduler, which knows all nodes, asks for no token that is not there, and loses no time.

use std::{fmt, time::Duration};

use super::Fleet;
use crate::{Action, Times, rates::Buckets};

/// Addresses for pods that an ENI of m5.large holds: nine beside its own, or nine prefixes.
const EACH: usize = 9;

/// When a perfect scheduler would have served them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Half of the pods.
    pub half: Duration,
    /// All of them.
    pub last: Duration,
    /// Calls without which the pods have no addresses.
    pub calls: usize,
}

/// Addresses that come with a token of this kind.
struct Grant {
    at: Duration,
    pods: usize,
}

impl Bound {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let buckets = Buckets::new(fleet.share);
        let earliest = |action, call| match fleet.share {
            0.0 => Duration::ZERO,
            _ => buckets.rate(action).earliest(call),
        };
        // The primary ENI holds so many pods, by one assign; every other one needs a create, an attach and its device.
        let first = if fleet.prefixes { fleet.pods.min(EACH * 16) } else { fleet.pods.min(EACH) };
        let more: Vec<usize> = (first..fleet.pods).step_by(EACH).map(|from| EACH.min(fleet.pods - from)).collect();
        let mut grants: Vec<Grant> = (1..=fleet.nodes)
            .map(|call| Grant { at: earliest(Action::AssignPrivateIpAddresses, call), pods: first })
            .collect();
        // Those that serve more pods come first.
        let mut attached = 0;
        for pods in &more {
            for _ in 0..fleet.nodes {
                attached += 1;
                let token = earliest(Action::CreateNetworkInterface, attached)
                    .max(earliest(Action::AttachNetworkInterface, attached));
                grants.push(Grant { at: token + Times::default().device, pods: *pods });
            }
        }
        grants.sort_by_key(|grant| grant.at);
        let all = fleet.nodes * fleet.pods;
        let when = |wanted: usize| {
            let mut served = 0;
            let enough = grants.iter().find(|grant| {
                served += grant.pods;
                served >= wanted
            });
            enough.map_or(Duration::ZERO, |grant| grant.at)
        };
        Self { half: when(all.div_ceil(2)), last: when(all), calls: fleet.nodes + 2 * attached }
    }
}

/// One line of `name=value`.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { half, last, calls } = self;
        write!(f, "half={:.1} last={:.1} calls={calls}", half.as_secs_f64(), last.as_secs_f64())
    }
}
