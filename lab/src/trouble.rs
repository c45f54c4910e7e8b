//! What can go wrong between a client and EC2: calls that take long, fail, or are never answered.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use rand::{Rng, RngExt};
use sim::{Action, Fault};

/// How long calls take, there and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Of actions that are not named below.
    pub usual: RangeInclusive<Duration>,
    /// Of these actions.
    pub by_action: BTreeMap<Action, RangeInclusive<Duration>>,
}

/// Calls to be disturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Calls of this action, or of any.
    pub action: Option<Action>,
    /// Let so many pass first.
    pub skip: u32,
    /// Disturb so many; `None`: all that follow.
    pub count: Option<u32>,
    /// How.
    pub disturbance: Disturbance,
}

/// How a call is disturbed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// EC2 answers with this fault.
    Refuse(When, Fault),
    /// The connection ends without an answer.
    Lose(When),
    /// No answer comes, and the connection stays open.
    Hang(When),
    /// The answer takes this much longer.
    Delay(Duration),
}

/// Does the call do what was asked, all the same?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// No: the trouble comes first.
    BeforeEffect,
    /// Yes, but the caller is not told.
    AfterEffect,
}

impl Latency {
    /// Every call takes this long.
    pub fn fixed(time: Duration) -> Self {
        Self { usual: time..=time, by_action: BTreeMap::new() }
    }

    pub(crate) fn draw(&self, action: Action, rng: &mut impl Rng) -> Duration {
        let range = self.by_action.get(&action).unwrap_or(&self.usual);
        if range.is_empty() { *range.start() } else { rng.random_range(range.clone()) }
    }
}

impl Default for Latency {
    /// None.
    fn default() -> Self {
        Self::fixed(Duration::ZERO)
    }
}

impl Injection {
    /// The next call of this action.
    pub fn once(action: Action, disturbance: Disturbance) -> Self {
        Self { action: Some(action), skip: 0, count: Some(1), disturbance }
    }

    /// Counts a call of this action; what is to happen to it.
    pub(crate) fn hit(&mut self, action: Action) -> Option<Disturbance> {
        if self.action.is_some_and(|only| only != action) || self.is_over() {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if let Some(count) = &mut self.count {
            *count -= 1;
        }
        Some(self.disturbance.clone())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.count == Some(0)
    }
}
