//! How fast EC2 is asked.
//!
//! Owns one token bucket per action, who may take its last tokens, and how a bucket slows down when EC2 throttles. A call that cannot
//! be afforded is not planned: it is thought of again when there is a token, with what is right then. Never pauses anything for another
//! reason: that is `pause`.

use std::{collections::BTreeMap, time::Duration};

use crate::{Action, BootTime, Now, Refusal, State, pause::Scope};

/// The size of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So many calls at once.
    pub burst: u32,
    /// How long until one more token is there.
    pub refill: Duration,
}

impl Budget {
    /// What EC2 gives an account for each action, as published: 100 and 20 a second for what only reads, 50 and 5 a second for what
    /// changes something (<https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>).
    pub fn published(action: Action) -> Self {
        match action {
            Action::DescribeNetworkInterfaces
            | Action::DescribeInstanceTypes
            | Action::DescribeSubnets
            | Action::DescribeInstances => Self { burst: 100, refill: Duration::from_millis(50) },
            Action::CreateNetworkInterface
            | Action::AttachNetworkInterface
            | Action::ModifyNetworkInterfaceAttribute
            | Action::AssignPrivateIpAddresses
            | Action::UnassignPrivateIpAddresses
            | Action::DetachNetworkInterface
            | Action::DeleteNetworkInterface
            | Action::CreateTags => Self { burst: 50, refill: Duration::from_millis(200) },
        }
    }
}

/// What a call is for, the most urgent first. Each leaves tokens in the bucket for those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// A pod waits for it.
    Pods,
    /// The pool is not what it should be.
    Warm,
    /// Giving back.
    Release,
    /// Looking whether all is well.
    Audit,
}

impl Urgency {
    /// How many tokens are left for what is more urgent, in a bucket of this size.
    fn leaves(self, burst: u32) -> u32 {
        let quarter = burst / 4;
        match self {
            Self::Pods => 0,
            Self::Warm => quarter,
            Self::Release => quarter.saturating_mul(2),
            Self::Audit => quarter.saturating_mul(3),
        }
    }
}

/// After the first refusal EC2 is asked again within this time, after each further one within twice the time. A node that is refused
/// although its own bucket has tokens knows that others have emptied the account's, which takes 5 to 20 s to fill.
const SPREAD_FIRST: Duration = Duration::from_secs(10);
/// However often EC2 refuses, it is asked again within this time. Longer, and the last nodes of a large fleet come back long after there
/// are tokens for them; shorter, and most of what a thousand nodes ask is refused.
const SPREAD_MOST: Duration = Duration::from_secs(48);

/// How long calls of an action have waited for their tokens, altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// How many calls waited.
    pub calls: u64,
    /// The sum of their waits.
    pub total: Duration,
}

#[derive(Debug)]
struct Bucket {
    budget: Budget,
    /// When it will be full: how many tokens it has follows.
    full_at: BootTime,
    /// EC2 throttles: the next call comes in the later half of this time. Zero: it does not.
    spread: Duration,
    /// The moment of the next one.
    not_before: BootTime,
    wanted: Option<Wanted>,
    /// What was wanted before the planning that is under way.
    earlier: Option<Wanted>,
    waits: Waits,
}

/// A call that could not be afforded, or was not made yet since it can be.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    since: BootTime,
    /// The most urgent that it was wanted for and could not be afforded.
    poor: Option<Urgency>,
}

impl Bucket {
    /// When EC2 is asked again: at a moment that no other node shares, and not before others may have had their turn.
    fn later(&self, now: Now) -> BootTime {
        let least = self.spread / 2;
        now.at.after(least + now.share(least))
    }

    /// When there are enough tokens, and EC2 is to be asked again.
    fn ready_at(&self, urgency: Urgency) -> BootTime {
        let Budget { burst, refill } = self.budget;
        // As many refills before it is full.
        let spare = burst.saturating_sub(1 + urgency.leaves(burst));
        BootTime(self.full_at.0.saturating_sub(refill.saturating_mul(spare))).max(self.not_before)
    }
}

/// All buckets of a node. Actions that were never called have none yet: they are full.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    sizes: BTreeMap<Action, Budget>,
    buckets: BTreeMap<Action, Bucket>,
}

impl Budgets {
    /// `sizes`: those that are not as published.
    pub fn new(sizes: BTreeMap<Action, Budget>) -> Self {
        Self { sizes, buckets: BTreeMap::new() }
    }

    fn bucket(&mut self, action: Action) -> &mut Bucket {
        let budget = self.sizes.get(&action).copied().unwrap_or_else(|| Budget::published(action));
        self.buckets.entry(action).or_insert(Bucket {
            budget,
            full_at: BootTime::default(),
            spread: Duration::ZERO,
            not_before: BootTime::default(),
            wanted: None,
            earlier: None,
            waits: Waits::default(),
        })
    }

    /// A call can be made now; if not, it is remembered that it was wanted.
    pub fn afford(&mut self, now: BootTime, action: Action, urgency: Urgency) -> bool {
        let bucket = self.bucket(action);
        let affordable = bucket.ready_at(urgency) <= now;
        let known = bucket.wanted.or(bucket.earlier.map(|earlier| Wanted { poor: None, ..earlier }));
        if affordable {
            bucket.wanted = known;
        } else {
            let Wanted { since, poor } = known.unwrap_or(Wanted { since: now, poor: None });
            bucket.wanted = Some(Wanted { since, poor: Some(poor.map_or(urgency, |most| most.min(urgency))) });
        }
        affordable
    }

    /// How many calls can be made at once by now.
    pub fn tokens(&mut self, now: BootTime, action: Action) -> u32 {
        let Bucket { budget: Budget { burst, refill }, full_at, .. } = *self.bucket(action);
        let missing = full_at.since(now).as_nanos().div_ceil(refill.as_nanos().max(1));
        burst.max(1).saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// A call is made.
    pub fn take(&mut self, now: Now, action: Action) {
        let bucket = self.bucket(action);
        bucket.full_at = bucket.full_at.max(now.at).after(bucket.budget.refill);
        if !bucket.spread.is_zero() {
            bucket.not_before = bucket.later(now);
        }
        bucket.earlier = None;
        if let Some(Wanted { since, .. }) = bucket.wanted.take() {
            bucket.waits.calls += 1;
            bucket.waits.total += now.at.since(since);
        }
    }

    /// EC2 throttles the action: slower, and at a moment that no other node shares.
    pub fn throttled(&mut self, now: Now, action: Action) {
        let bucket = self.bucket(action);
        bucket.spread = (bucket.spread * 2).clamp(SPREAD_FIRST, SPREAD_MOST);
        bucket.not_before = bucket.later(now);
    }

    /// EC2 did not throttle it: there are tokens again.
    pub fn accepted(&mut self, action: Action) {
        let bucket = self.bucket(action);
        bucket.spread = Duration::ZERO;
        bucket.not_before = BootTime::default();
    }

    /// Before planning: what is not wanted any more is forgotten, what still is will say so again.
    pub fn plan_anew(&mut self) {
        for bucket in self.buckets.values_mut() {
            bucket.earlier = bucket.wanted.take();
        }
    }

    /// When a call that a pod waits for can be made, if not now.
    pub fn until(&self, now: BootTime, action: Action) -> Option<BootTime> {
        self.buckets.get(&action).map(|bucket| bucket.ready_at(Urgency::Pods)).filter(|at| *at > now)
    }

    /// The actions that are wanted and cannot be afforded, and when they can.
    pub fn wanted(&self) -> impl Iterator<Item = (Action, BootTime)> {
        self.buckets.iter().filter_map(|(action, bucket)| {
            let urgency = bucket.wanted?.poor?;
            Some((*action, bucket.ready_at(urgency)))
        })
    }

    /// EC2 said that the action is called too often, and nothing has been accepted since that undoes it.
    pub fn is_slowed(&self, action: Action) -> bool {
        self.buckets.get(&action).is_some_and(|bucket| !bucket.spread.is_zero())
    }

    /// How long calls have waited for tokens.
    pub fn waits(&self) -> impl Iterator<Item = (Action, Waits)> {
        self.buckets.iter().map(|(action, bucket)| (*action, bucket.waits))
    }
}

impl State {
    /// A call of this action may be made now. If it lacks nothing but a token, it is thought of again when there is one.
    pub(crate) fn may_call(&mut self, now: BootTime, action: Action, urgency: Urgency) -> bool {
        !self.pauses.active(&Scope::Action(action), now) && self.budgets.afford(now, action, urgency)
    }

    /// Why this action waits, even for a pod.
    pub(crate) fn barred(&self, now: BootTime, action: Action) -> Option<Refusal> {
        let paused = self.pauses.reason(&Scope::Action(action), now).cloned();
        let poor = || self.budgets.until(now, action).map(|_| Refusal::Throttled { action: action.name().to_owned() });
        paused.or_else(poor)
    }

    /// Growing is for pods, or for those that may come.
    pub(crate) fn growing_for(&self) -> Urgency {
        if self.waiting.is_empty() && self.demand_open() == 0 { Urgency::Warm } else { Urgency::Pods }
    }

    /// How long calls have waited for tokens of the node's budgets, by action.
    pub fn budget_waits(&self) -> impl Iterator<Item = (Action, Waits)> {
        self.budgets.waits()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTION: Action = Action::CreateNetworkInterface;

    fn now(millis: u64) -> Now {
        Now { at: BootTime(Duration::from_millis(millis)), wall: 0, luck: u128::from(millis) << 13 }
    }

    fn urgency(number: u8) -> Urgency {
        [Urgency::Pods, Urgency::Warm, Urgency::Release, Urgency::Audit][usize::from(number % 4)]
    }

    proptest! {
        /// However calls come, and however many are throttled: in no stretch of time are there more than a full bucket and what came
        /// back meanwhile, and what leaves tokens for others never has one of those.
        #[test]
        fn no_stretch_of_time_has_more_calls_than_the_bucket_allows(
            burst in 1u32..20,
            refill in 1u64..2_000,
            steps in prop::collection::vec((0u64..3_000, 0u8..4, any::<bool>()), 1..200),
        ) {
            let refill = Duration::from_millis(refill);
            let mut budgets = Budgets::new(BTreeMap::from([(ACTION, Budget { burst, refill })]));
            let (mut at, mut made) = (0, Vec::new());
            for (wait, number, throttled) in steps {
                at += wait;
                budgets.plan_anew();
                let moment = now(at);
                if !budgets.afford(moment.at, ACTION, urgency(number)) {
                    let (_, next) = budgets.wanted().next().expect("it was wanted");
                    prop_assert!(next > moment.at);
                    continue;
                }
                budgets.take(moment, ACTION);
                if throttled { budgets.throttled(moment, ACTION) } else { budgets.accepted(ACTION) }
                made.push((moment.at, urgency(number)));
            }
            for (first, (from, _)) in made.iter().enumerate() {
                for (last, (to, level)) in made.iter().enumerate().skip(first) {
                    let came_back = to.since(*from).as_nanos() / refill.as_nanos();
                    let most = u128::from(burst - level.leaves(burst)) + came_back + 1;
                    prop_assert!((last - first) as u128 <= most, "{} calls from {from} to {to}", last - first + 1);
                }
            }
        }

        /// Nodes that were throttled at the same moment do not come back at the same moment.
        #[test]
        fn the_moment_of_the_next_try_is_anywhere_in_the_later_half_of_the_time(luck in any::<u128>(), times in 1u32..12) {
            let mut budgets = Budgets::default();
            let moment = Now { luck, ..now(5_000) };
            for _ in 0..times {
                budgets.throttled(moment, ACTION);
            }
            let most = SPREAD_FIRST.saturating_mul(1 << (times - 1)).min(SPREAD_MOST);
            let luck = f64::from(u16::try_from(luck >> 16 & 0xffff).expect("16 bits")) / 65_535.0;
            let share = most.mul_f64(0.5 + luck / 2.0);
            let next = budgets.until(moment.at, ACTION).map_or(Duration::ZERO, |until| until.since(moment.at));
            prop_assert!(next.abs_diff(share) < Duration::from_millis(1), "{next:?} of {most:?}");
        }
    }
}
