//! EC2's throttling: a token bucket per action, for all callers of the account together.
//!
//! Documentation ("Request throttling for the Amazon EC2 API"): each call takes a token, an empty bucket refuses with
//! `RequestLimitExceeded`, and tokens come back at a steady rate up to the bucket's size. A refused call takes no token.

use std::{collections::BTreeMap, time::Duration};

use sim::Action;
use tokio::time::Instant;

/// Who may call how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Each action that is not named below has one of these; `None`: no limit.
    pub usual: Option<Bucket>,
    /// These actions have these.
    pub by_action: BTreeMap<Action, Bucket>,
}

/// A bucket that begins full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// So many calls at once.
    pub burst: u32,
    /// How long until one more token is there.
    pub refill: Duration,
}

/// How full each bucket is.
#[derive(Debug, Default)]
pub(super) struct Fill(BTreeMap<Option<Action>, Instant>);

impl Buckets {
    fn of(&self, action: Option<Action>) -> Option<Bucket> {
        action.and_then(|action| self.by_action.get(&action).copied()).or(self.usual)
    }
}

impl Fill {
    /// Takes a token; `false` if there is none.
    pub(super) fn take(&mut self, buckets: &Buckets, action: Option<Action>, now: Instant) -> bool {
        let Some(bucket) = buckets.of(action) else { return true };
        // A bucket is known by the moment at which it will be full again.
        let full_at = self.0.entry(action).or_insert(now);
        let missing = full_at.saturating_duration_since(now) + bucket.refill;
        if bucket.burst == 0 || missing > bucket.refill.saturating_mul(bucket.burst) {
            return false;
        }
        *full_at = now + missing;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIBE: Option<Action> = Some(Action::DescribeNetworkInterfaces);
    const ASSIGN: Option<Action> = Some(Action::AssignPrivateIpAddresses);

    fn bucket(burst: u32, refill_ms: u64) -> Bucket {
        Bucket { burst, refill: Duration::from_millis(refill_ms) }
    }

    fn granted(fill: &mut Fill, buckets: &Buckets, action: Option<Action>, at: Instant) -> usize {
        (0..100).filter(|_| fill.take(buckets, action, at)).count()
    }

    #[test]
    fn a_burst_passes_and_then_one_call_for_each_token_that_came_back() {
        let (mut fill, begun) = (Fill::default(), Instant::now());
        let buckets = Buckets { usual: Some(bucket(5, 200)), ..Buckets::default() };
        let mut at = |ms| granted(&mut fill, &buckets, ASSIGN, begun + Duration::from_millis(ms));
        assert_eq!([at(0), at(199), at(200), at(650), at(10_000)], [5, 0, 1, 2, 5]);
    }

    #[test]
    fn actions_have_buckets_of_their_own() {
        let (mut fill, now) = (Fill::default(), Instant::now());
        let named = BTreeMap::from([(Action::AssignPrivateIpAddresses, bucket(2, 100))]);
        let buckets = Buckets { usual: Some(bucket(3, 100)), by_action: named };
        assert_eq!(granted(&mut fill, &buckets, ASSIGN, now), 2);
        assert_eq!(granted(&mut fill, &buckets, DESCRIBE, now), 3);
        assert_eq!(granted(&mut fill, &buckets, None, now), 3);
        let unlimited = Buckets { usual: None, ..buckets };
        assert_eq!(granted(&mut fill, &unlimited, DESCRIBE, now), 100);
    }

    #[test]
    fn a_bucket_without_room_gives_nothing_and_one_that_fills_at_once_everything() {
        let (mut fill, now) = (Fill::default(), Instant::now());
        let none = Buckets { usual: Some(bucket(0, 0)), ..Buckets::default() };
        assert_eq!(granted(&mut fill, &none, ASSIGN, now), 0);
        let all = Buckets { usual: Some(bucket(1, 0)), ..Buckets::default() };
        assert_eq!(granted(&mut fill, &all, ASSIGN, now), 100);
    }
}
