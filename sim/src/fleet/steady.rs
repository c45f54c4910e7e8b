//! A node of ours that has all it needs, for a day.
//!
//! Owns the day and its counting. Buckets are not the matter here: EC2 takes every call.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use pool::Policy;

use super::{Fleet, Strategy, berth, region::Region};
use crate::{Action, run::paused};

/// Until the node has grown to what it should be.
const GROWN: Duration = Duration::from_hours(1);
/// The length of a day.
const HOURS: u32 = 24;
/// A pod comes so often; between two the oldest one goes.
const COMES: Duration = Duration::from_mins(10);

/// Do pods come and go?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Churning {
    /// None does.
    Never,
    /// One comes every ten minutes, and the oldest one goes five minutes later.
    Lightly,
}

/// Calls of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// By action.
    pub calls: BTreeMap<Action, u64>,
    /// Pods that came.
    pub pods: u32,
}

impl Day {
    /// Of all actions.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Of all actions, on average.
    pub fn per_hour(&self) -> f64 {
        f64::from(u32::try_from(self.total()).unwrap_or(u32::MAX)) / f64::from(HOURS)
    }
}

/// One line of `name=value`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "per_hour={:.2} pods={}", self.per_hour(), self.pods)?;
        self.calls.iter().try_for_each(|(action, count)| write!(f, " {action}={count}"))
    }
}

/// Plays a node that has had an hour to grow, for a day.
///
/// # Panics
///
/// When the runtime's clock is not paused.
pub async fn day(seed: u64, policy: Policy, churning: Churning) -> Day {
    const PODS: usize = 10;
    paused().await;
    let fleet = Fleet { seed, nodes: 1, pods: PODS, prefixes: policy.prefixes, share: 0.0, strategy: Strategy::Berth };
    let region = Region::new(&fleet);
    let handle = berth::daemon(&region, 0, policy);
    let served = |answer: Result<(), pool::Refusal>| answer.expect("a node with room serves a pod");
    for number in 0..PODS {
        served(berth::add(&region, &handle, 0, number).await);
    }
    tokio::time::sleep(GROWN).await;
    let before = region.lock().taken();
    let mut pods = 0;
    match churning {
        Churning::Never => tokio::time::sleep(Duration::from_hours(u64::from(HOURS))).await,
        Churning::Lightly => {
            for number in 0..HOURS as usize * 6 {
                tokio::time::sleep(COMES / 2).await;
                served(berth::add(&region, &handle, 0, PODS + number).await);
                tokio::time::sleep(COMES / 2).await;
                berth::del(&region, &handle, 0, number).await;
                pods += 1;
            }
        }
    }
    let mut calls = region.lock().taken();
    for (action, count) in &mut calls {
        *count -= before.get(action).copied().unwrap_or(0);
    }
    calls.retain(|_, count| *count > 0);
    drop(Arc::clone(&region).end(0));
    Day { calls, pods }
}
