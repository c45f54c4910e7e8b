//! What is left alone for a while, and why.
//!
//! Owns growing pauses per action, subnet and ENI. Never decides what a pause means for a waiting pod.

use std::{collections::BTreeMap, time::Duration};

use crate::{Action, BootTime, EniId, Now, Refusal, SubnetId};

/// What is paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Every call of this action.
    Action(Action),
    /// Growing in this subnet.
    Subnet(SubnetId),
    /// Prefixes in this subnet.
    Prefixes(SubnetId),
    /// Calls about this ENI.
    Eni(EniId),
    /// Setting this ENI's security groups.
    Groups(EniId),
}

/// From the first failure to the longest wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

/// Nothing was sent: look again soon.
pub(crate) const UNREACHABLE: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
/// Somebody has to free addresses or change a policy.
pub(crate) const SOMEBODY: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(5) };
/// Transitions in EC2 take seconds.
pub(crate) const TRANSITION: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

/// After this time a node at rest tries prefixes again that it could not have, although single addresses do for now.
const AT_REST: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Pause {
    until: BootTime,
    failures: u32,
    reason: Refusal,
}

/// All pauses of a node.
#[derive(Debug, Default)]
pub(crate) struct Pauses(BTreeMap<Scope, Pause>);

impl Pauses {
    /// Leaves it alone for a while, longer with each failure in a row.
    pub fn begin(&mut self, now: Now, scope: Scope, backoff: Backoff, reason: Refusal) {
        let failures = self.0.get(&scope).map_or(0, |pause| pause.failures);
        let wait = backoff.first.saturating_mul(1 << failures.min(16)).min(backoff.longest);
        let until = now.at.after(now.jittered(wait));
        self.0.insert(scope, Pause { until, failures: failures + 1, reason });
    }

    /// It works again.
    pub fn end(&mut self, scope: &Scope) {
        self.0.remove(scope);
    }

    /// Why it is paused now, if it is.
    pub fn reason(&self, scope: &Scope, now: BootTime) -> Option<&Refusal> {
        self.0.get(scope).filter(|pause| pause.until > now).map(|pause| &pause.reason)
    }

    /// Until when it is paused, if it is.
    pub fn until(&self, scope: &Scope, now: BootTime) -> Option<BootTime> {
        self.0.get(scope).map(|pause| pause.until).filter(|until| *until > now)
    }

    /// It was paused, and nothing has worked there since.
    pub fn knows(&self, scope: &Scope) -> bool {
        self.0.contains_key(scope)
    }

    /// The pause is not yet over for as long as a node at rest leaves such things alone.
    pub fn failed_lately(&self, scope: &Scope, now: BootTime) -> bool {
        self.0.get(scope).is_some_and(|pause| pause.until.after(AT_REST) > now)
    }

    /// How often in a row it failed.
    pub fn failures(&self, scope: &Scope) -> u32 {
        self.0.get(scope).map_or(0, |pause| pause.failures)
    }

    pub fn active(&self, scope: &Scope, now: BootTime) -> bool {
        self.reason(scope, now).is_some()
    }

    /// Every pause that is on now, in words.
    pub fn all(&self, now: BootTime) -> impl Iterator<Item = (String, BootTime, &Refusal)> {
        let until = move |scope: &Scope, pause: &Pause| match scope {
            // Single addresses do until then.
            Scope::Prefixes(_) if pause.until <= now => pause.until.after(AT_REST),
            _ => pause.until,
        };
        let on = self.0.iter().map(move |(scope, pause)| (scope, until(scope, pause), &pause.reason));
        on.filter(move |(_, until, _)| *until > now).map(|(scope, until, reason)| {
            let what = match scope {
                Scope::Action(action) => action.name().to_owned(),
                Scope::Subnet(subnet) => format!("growing in {subnet}"),
                Scope::Prefixes(subnet) => format!("assigning prefixes in {subnet}"),
                Scope::Eni(eni) => eni.to_string(),
                Scope::Groups(eni) => format!("setting the security groups of {eni}"),
            };
            (what, until, reason)
        })
    }

    /// Why something failed where nothing has worked since, whether or not it is tried again by now.
    pub fn reasons(&self) -> impl Iterator<Item = &Refusal> {
        self.0.values().map(|pause| &pause.reason)
    }

    /// When each pause ends, and what it entails.
    pub fn ends(&self) -> impl Iterator<Item = BootTime> {
        self.0.iter().flat_map(|(scope, pause)| {
            let at_rest = matches!(scope, Scope::Prefixes(_)).then(|| pause.until.after(AT_REST));
            [Some(pause.until), at_rest].into_iter().flatten()
        })
    }
}
