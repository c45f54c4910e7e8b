//! How many calls EC2 takes: a token bucket per action, for a whole account in a region.
//!
//! Owns the buckets' sizes and their arithmetic. Never delays anything: EC2 refuses what comes too fast.

use std::{collections::BTreeMap, time::Duration};

use crate::requests::Action;

/// A token bucket: full at first, one token per call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls at once, after a while without any.
    pub burst: f64,
    /// Tokens that come back per second.
    pub per_second: f64,
}

impl Rate {
    /// EC2's rate for an action, where an account has no other by agreement
    /// (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>): 100 and 20/s for what changes nothing, 50 and 5/s for
    /// the rest, and some actions that have their own. A caller that reads without filter and page has less; nobody here does.
    pub fn published(action: Action) -> Self {
        let (burst, per_second) = match action {
            Action::RunInstances => (5.0, 2.0),
            Action::CreateNetworkInterface
            | Action::DeleteNetworkInterface
            | Action::AssignPrivateIpAddresses
            | Action::UnassignPrivateIpAddresses => (100.0, 5.0),
            Action::CreateTags | Action::DeleteTags => (100.0, 10.0),
            reads if reads.reads_only() => (100.0, 20.0),
            _ => (50.0, 5.0),
        };
        Self { burst, per_second }
    }

    /// When the token of this call is there at the earliest, counting calls from 1, with a bucket that is full at the start.
    pub fn earliest(self, call: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "numbers of calls are far below 2^52")]
        let missing = call as f64 - self.burst;
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or_default()
    }
}

/// The buckets of an account.
#[derive(Clone, Debug)]
pub struct Buckets {
    share: f64,
    /// What is left, and when that was.
    left: BTreeMap<Action, (f64, Duration)>,
}

impl Buckets {
    /// All of them full; `share` of the published sizes, 1 for all of it. At least one token fits into each.
    pub fn new(share: f64) -> Self {
        Self { share, left: BTreeMap::new() }
    }

    /// The rate of an action here.
    pub fn rate(&self, action: Action) -> Rate {
        let Rate { burst, per_second } = Rate::published(action);
        Rate { burst: (burst * self.share).max(1.0), per_second: per_second * self.share }
    }

    /// Takes the token of a call at this time, if there is one.
    pub fn take(&mut self, now: Duration, action: Action) -> bool {
        let rate = self.rate(action);
        let (left, since) = self.left.entry(action).or_insert((rate.burst, now));
        *left = (*left + now.saturating_sub(*since).as_secs_f64() * rate.per_second).min(rate.burst);
        *since = now;
        let there = *left >= 1.0;
        if there {
            *left -= 1.0;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut buckets = Buckets::new(1.0);
        let mut taken = |at| (0..1_000).filter(|_| buckets.take(at, Action::AttachNetworkInterface)).count();
        assert_eq!(taken(Duration::ZERO), 50);
        assert_eq!(taken(Duration::from_millis(199)), 0);
        assert_eq!(taken(Duration::from_secs(2)), 10);
        assert_eq!(taken(Duration::from_secs(3_600)), 50, "no more than the burst is saved up");
    }

    #[test]
    fn the_token_of_a_late_call_comes_when_the_rate_says() {
        let rate = Rate::published(Action::CreateNetworkInterface);
        assert_eq!(rate.earliest(100), Duration::ZERO);
        assert_eq!(rate.earliest(2_000), Duration::from_secs(380));
    }
}
