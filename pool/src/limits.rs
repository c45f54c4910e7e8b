//! How many ENIs the instance may have, and how many addresses each.
//!
//! Owns what EC2's word on the type, what EC2 refused and the operator's cap make of it together, and what holds while nobody knows the
//! type's limits: what the instance has. Never asks EC2.

use crate::{Limits, Refusal, State, numbers::count};

impl State {
    /// What the type allows; while that is not known, what the instance has shown to allow.
    pub fn limits(&self) -> Limits {
        self.facts.as_ref().and_then(|facts| facts.limits).unwrap_or_else(|| {
            let attached = self.enis.values().filter(|eni| eni.attached());
            let places = attached.clone().map(|eni| eni.addresses.places()).max().unwrap_or(0);
            Limits { enis: count(attached.count()), addresses_per_eni: places + 1 }
        })
    }

    /// Why the pool may not be made larger or smaller: nobody knows what the type allows.
    pub(crate) fn limits_missing(&self) -> Option<Refusal> {
        let unknown = self.facts.as_ref().is_some_and(|facts| facts.limits.is_none());
        unknown.then(|| self.facts_missing.clone().unwrap_or(Refusal::WarmingUp))
    }

    /// A fresh node can do nothing before it knows its limits, so nothing else is asked of EC2 while they are on their way: a fleet that
    /// starts at once asks for the rest as fast as it is told the first.
    pub(crate) fn nothing_to_read_yet(&self) -> Option<Refusal> {
        let fresh = self.enis.is_empty() && self.found.is_empty() && self.reads.is_empty();
        let coming = matches!(self.facts_missing, None | Some(Refusal::Throttled { .. }));
        self.limits_missing().filter(|_| fresh && coming)
    }

    /// How many ENIs there may be, and what to say when that is reached.
    pub(crate) fn eni_limit(&self) -> (u32, Refusal) {
        let allowed = self.limits().enis.min(self.learnt_enis.unwrap_or(u32::MAX));
        match self.policy.max_eni {
            Some(most) if most < allowed => (most, Refusal::PolicyCap { setting: format!("MAX_ENI={most}") }),
            _ => (allowed, Refusal::EniLimit { limit: allowed }),
        }
    }
}
