//! Single calls that are disturbed: which ones, how often, and how.

use std::time::Duration;

use rand::{Rng, RngExt};
use sim::{Action, Fault};

/// Calls to be disturbed.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Calls of this action, or of any.
    pub action: Option<Action>,
    /// Let so many pass first.
    pub skip: u32,
    /// Disturb so many; `None`: all that follow.
    pub count: Option<u32>,
    /// Each of them as likely as this.
    pub chance: Chance,
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
    /// A read is answered as it was up to so long ago. Calls that have effects are never stale: this passes them by.
    Stale(Duration),
}

/// Does the call do what was asked, all the same?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// No: the trouble comes first.
    BeforeEffect,
    /// Yes, but the caller is not told.
    AfterEffect,
}

/// A probability, from never to always.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Chance(f64);

impl Injection {
    /// The next call of this action.
    pub fn once(action: Action, disturbance: Disturbance) -> Self {
        Self { action: Some(action), skip: 0, count: Some(1), chance: Chance::ALWAYS, disturbance }
    }

    /// From now on calls of any action, each with this chance.
    pub fn sometimes(chance: Chance, disturbance: Disturbance) -> Self {
        Self { action: None, skip: 0, count: None, chance, disturbance }
    }

    /// The same for one action only.
    #[must_use]
    pub fn of(self, action: Action) -> Self {
        Self { action: Some(action), ..self }
    }

    /// Counts a call of this action (`None`: of one that the model does not know); what is to happen to it.
    pub(super) fn hit(&mut self, action: Option<Action>, rng: &mut impl Rng) -> Option<Disturbance> {
        let stale = matches!(self.disturbance, Disturbance::Stale(_));
        let reads = action.is_some_and(Action::reads_only);
        if self.is_over() || (self.action.is_some() && self.action != action) || (stale && !reads) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if !self.chance.draw(rng) {
            return None;
        }
        if let Some(count) = &mut self.count {
            *count -= 1;
        }
        Some(self.disturbance.clone())
    }

    pub(super) fn is_over(&self) -> bool {
        self.count == Some(0)
    }
}

impl Chance {
    /// Each time.
    pub const ALWAYS: Self = Self(1.0);

    /// `None` for what is not between 0 and 1.
    pub fn new(probability: f64) -> Option<Self> {
        (0.0..=1.0).contains(&probability).then_some(Self(probability))
    }

    /// Of a hundred times, so many; more than a hundred are a hundred.
    pub fn percent(times: u8) -> Self {
        Self(f64::from(times.min(100)) / 100.0)
    }

    /// From 0 to 1.
    pub fn probability(self) -> f64 {
        self.0
    }

    fn draw(self, rng: &mut impl Rng) -> bool {
        rng.random_bool(self.0)
    }
}
