//! Why the pool is what it is, in words.
//!
//! Owns the sentences of `explain`. Never decides: it reads the numbers that planning uses.

use crate::{BootTime, Call, EniState, Refusal, State, Warm};

/// The pool in words; stable text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where each number comes from.
    pub lines: Vec<String>,
    /// What happens next, the most urgent first.
    pub next: Vec<String>,
    /// Why the pool cannot be what it should be.
    pub held: Option<Refusal>,
}

impl State {
    /// Where each number comes from, what is waited for and until when.
    pub fn explain(&self, now: BootTime) -> Explanation {
        let n = self.numbers(now);
        let mut lines = vec![match self.policy.warm {
            Warm::Prefixes(_) | Warm::Demand => String::new(),
            Warm::Enis(enis) => {
                format!("WARM_ENI_TARGET={enis}: keeps {} addresses free, in whole ENIs", self.warm_eni_addresses())
            }
            Warm::Addresses { warm, minimum } => {
                format!(
                    "WARM_IP_TARGET={warm} MINIMUM_IP_TARGET={minimum}: keeps {warm} addresses free and {minimum} in total"
                )
            }
        }];
        if let Some(facts) = &self.facts {
            let (limit, _) = self.eni_limit(facts);
            lines.push(format!(
                "limits: {limit} ENIs with {} addresses for pods each; {} ENIs here",
                facts.limits.secondary(),
                self.enis.len()
            ));
        } else {
            lines.push("limits: not known yet".to_owned());
        }
        lines.push(format!(
            "holds {}: {} free, {} leased, {} cooling, {} on ENIs not ready yet, {} unverified, {} quarantined",
            n.total, n.free, n.leased, n.cooling, n.coming, n.unverified, n.quarantined
        ));
        lines.push(format!(
            "{} waiting; supply {} ({} asked for); short {}, over {}",
            n.waiting, n.supply, n.pending, n.short, n.over
        ));
        for eni in self.enis.values() {
            if let EniState::Quarantined(why) = &eni.record.state {
                lines.push(format!("{} is quarantined: {why}", eni.record.id));
            }
        }
        // Not serving at all says more than what planning met last.
        let held = self.serving().err().or_else(|| self.held.clone());
        Explanation { lines, next: self.next(now), held }
    }

    fn next(&self, now: BootTime) -> Vec<String> {
        let mut next = Vec::new();
        for intent in self.intents.values() {
            let doing = match &intent.call {
                Call::CreateEni { ask, subnet, .. } => {
                    format!("creating an ENI with {ask} in {subnet}")
                }
                Call::Attach { eni, device, .. } => format!("attaching {eni} as device {}", device.0),
                Call::Protect { eni, .. } => format!("marking {eni} to be deleted with the instance"),
                Call::Assign { eni, ask } => format!("assigning {ask} to {eni}"),
                Call::Unassign { eni, addresses, prefixes } => {
                    format!("giving {} addresses and {} prefixes of {eni} back", addresses.len(), prefixes.len())
                }
                Call::Tag { eni, .. } => format!("tagging {eni}"),
                Call::Detach { eni, .. } => format!("detaching {eni}"),
                Call::Delete { eni } => format!("deleting {eni}"),
                Call::Describe { eni } => format!("reading {eni}"),
                Call::Discover { .. } => "reading all ENIs".to_owned(),
                Call::Subnets { .. } => "reading subnets".to_owned(),
                Call::Leaked { .. } | Call::Instances { .. } => "looking for ENIs left behind".to_owned(),
            };
            let doubt = if intent.doubt.is_some() { ", whose answer was lost: looking it up" } else { "" };
            next.push(format!("{doing}{doubt}"));
        }
        for eni in self.enis.values().filter(|eni| eni.attached() && eni.holds_pods() && !eni.link_ready) {
            next.push(format!("waiting for the link of {} ({})", eni.record.id, eni.record.mac));
        }
        for (scope, until, reason) in self.pauses.all(now) {
            next.push(format!("{scope} waits {}: {reason}", seconds(until, now)));
        }
        if let Some((since, wait)) = self.surplus {
            next.push(format!("gives surplus back in {}", seconds(since.after(wait), now)));
        }
        next
    }
}

fn seconds(at: BootTime, now: BootTime) -> String {
    format!("{:.1} s", at.since(now).as_secs_f64())
}
