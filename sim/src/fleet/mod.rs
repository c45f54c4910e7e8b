//! Many nodes that start at once, in one account, whose EC2 takes only so many calls.
//!
//! [`run`] plays a [`Fleet`]: either every node is Berth's, the very loop that `ipamd` runs, or every node is a model of
//! amazon-vpc-cni-k8s, and all else is the same. [`day`] plays one node of ours that has nothing to do. Both must run on a
//! current-thread tokio runtime whose clock is paused, as [`crate::run::run`] must. Nothing here goes wrong but that calls come too fast.

mod berth;
mod bound;
mod peer;
mod region;
mod sdk;
mod steady;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use pool::{Policy, Warm};

pub use bound::Bound;
pub use region::Asked;
pub use steady::{Churning, Day, day};

use self::region::Region;
use crate::{Action, run::paused};

/// EC2's answer takes so long, there and back.
const LATENCY: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(150);
/// All daemons come up within this time.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Longer than a run may take.
const ENDS: Duration = Duration::from_hours(12);
/// After the last pod has its address what is still under way lands, and warm-up goes on.
const AFTERWARDS: Duration = Duration::from_mins(10);

/// What is simulated: the same fleet gives the same [`Report`].
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Fresh instances of m5.large: 3 ENIs with 10 addresses each, of which one is the ENI's own.
    pub nodes: usize,
    /// Pods that wait on each node from the beginning.
    pub pods: usize,
    /// Prefix delegation with WARM_PREFIX_TARGET=1 instead of addresses with WARM_ENI_TARGET=1, both the peer's defaults.
    pub prefixes: bool,
    /// Of EC2's published rates; what a smaller fleet has to share.
    pub share: f64,
    /// Who gives the pods their addresses.
    pub strategy: Strategy,
}

/// Who gives the pods their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// We.
    Berth,
    /// amazon-vpc-cni-k8s 1.23.1.
    Peer,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When each pod had its address, the first one first.
    pub served: Vec<Duration>,
    /// Pods that never had one.
    pub unserved: usize,
    /// EC2 calls, from the start until ten minutes after the last pod had its address.
    pub calls: BTreeMap<Action, Asked>,
    /// Times that an ADD was refused and asked again.
    pub refused: u64,
    /// Times that a daemon ended because its start failed.
    pub ended: u64,
}

impl Fleet {
    /// A thousand nodes with twenty pods each.
    pub fn thousand(seed: u64, prefixes: bool, strategy: Strategy) -> Self {
        Self { seed, nodes: 1_000, pods: 20, prefixes, share: 1.0, strategy }
    }

    /// What the nodes are told to hold, by variables that both read.
    fn policy(&self) -> Policy {
        let warm = if self.prefixes { Warm::Prefixes(1) } else { Warm::Enis(1) };
        // What EKS gives kubelet for this type: 29, and 110 with prefixes.
        let max_pods = Some(if self.prefixes { 110 } else { 29 });
        Policy { warm, prefixes: self.prefixes, max_pods, ..Policy::default() }
    }

    /// What nobody can be faster than.
    pub fn bound(&self) -> Bound {
        Bound::of(self)
    }
}

/// Plays a fleet until every pod has its address, and a little longer.
///
/// # Panics
///
/// When the runtime's clock is not paused.
pub async fn run(fleet: &Fleet) -> Report {
    paused().await;
    let region = Region::new(fleet);
    for node in 0..fleet.nodes {
        match fleet.strategy {
            Strategy::Berth => berth::start(&region, node, fleet.pods, fleet.policy()),
            Strategy::Peer => peer::start(&region, node, fleet.pods, fleet.policy()),
        }
    }
    let whole = Arc::clone(&region).all_served(fleet.nodes * fleet.pods);
    if tokio::time::timeout(ENDS, whole).await.is_ok() {
        tokio::time::sleep(AFTERWARDS).await;
    }
    region.end(fleet.nodes * fleet.pods)
}

impl Report {
    /// When so many of a hundred pods had their addresses.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.served.len() * percent).div_ceil(100).saturating_sub(1);
        self.served.get(at).copied().unwrap_or(Duration::MAX)
    }

    /// When the last pod had its address; never, if one has none.
    pub fn last(&self) -> Duration {
        if self.unserved > 0 { Duration::MAX } else { self.percentile(100) }
    }

    /// Calls that EC2 refused for coming too fast.
    pub fn throttled(&self) -> u64 {
        self.calls.values().map(|asked| asked.throttled).sum()
    }

    /// Calls that EC2 took.
    pub fn taken(&self) -> u64 {
        self.calls.values().map(|asked| asked.accepted + asked.refused).sum()
    }
}

/// One line of `name=value`, then one for each action.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |percent| self.percentile(percent).as_secs_f64();
        writeln!(
            f,
            "half={:.1} p99={:.1} last={:.1} unserved={} taken={} throttled={} refused={} ended={}",
            seconds(50),
            seconds(99),
            self.last().as_secs_f64(),
            self.unserved,
            self.taken(),
            self.throttled(),
            self.refused,
            self.ended
        )?;
        for (action, Asked { accepted, throttled, refused }) in &self.calls {
            writeln!(f, "  {:32} {accepted:6} done {throttled:7} throttled {refused:5} refused", action.name())?;
        }
        Ok(())
    }
}
