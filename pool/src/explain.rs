//! Why the pool is what it is, in words.
//!
//! Owns the sentences of `explain`; the same structure goes to people and to programs. Never decides: it reads the numbers that planning
//! uses.

use std::{fmt, time::Duration};

use crate::{BootTime, Call, EniState, Prefix, Refusal, State, Warm, numbers::count};

/// The pool in words; stable text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where each number comes from.
    pub figures: Vec<Figure>,
    /// What happens next, in the order of planning: calls in flight, links, pauses, cooling that is waited for, surplus.
    pub next: Vec<Next>,
    /// Why the pool cannot be what it should be.
    pub held: Option<Refusal>,
}

/// A number and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What is counted.
    pub name: &'static str,
    /// How many.
    pub value: u32,
    /// Where it comes from.
    pub from: String,
}

/// Something that is being done or waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// What.
    pub what: String,
    /// How long it is waited for; none when something outside decides.
    pub within: Option<Duration>,
    /// Why, when it is waited for.
    pub why: Option<String>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.name, self.value, self.from)
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(within) = self.within {
            write!(f, " in {:.1} s", within.as_secs_f64())?;
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => Ok(()),
        }
    }
}

impl State {
    /// Where each number comes from, what is waited for and until when.
    pub fn explain(&self, now: BootTime) -> Explanation {
        // Not serving at all says more than what planning met last.
        let held = self.serving().err().or_else(|| self.held.clone());
        Explanation { figures: self.figures(now), next: self.next(now), held }
    }

    fn figures(&self, now: BootTime) -> Vec<Figure> {
        let n = self.numbers(now);
        let figure = |name, value, from: String| Figure { name, value, from };
        let mut figures = vec![figure("target", n.target, self.target_from())];
        if let Warm::Addresses { minimum: minimum @ 1.., .. } = self.policy.warm {
            figures.push(figure("minimum", minimum, format!("MINIMUM_IP_TARGET={minimum} addresses in all")));
        }
        figures.push(figure(
            "wanted",
            n.wanted(),
            format!("{} requests wait, {} pods bound to the node have no address", n.waiting, n.demand),
        ));
        let misfit =
            if n.misfit > 0 { format!(", less {} that are not of the wanted kind", n.misfit) } else { String::new() };
        figures.push(figure(
            "supply",
            n.supply,
            format!(
                "{} free, {} on ENIs not ready yet, {} asked for, {} unverified, {} about to have cooled{misfit}",
                n.free, n.coming, n.pending, n.unverified, n.cooling_soon
            ),
        ));
        figures.push(figure(
            "held",
            n.total,
            format!(
                "{} free, {} leased, {} cooling, {} unverified, {} quarantined{}",
                n.free + n.coming,
                n.leased,
                n.cooling,
                n.unverified,
                n.quarantined,
                if n.prefixes > 0 { format!("; {} prefixes among them", n.prefixes) } else { String::new() },
            ),
        ));
        figures.push(figure("short", n.short, self.short_from(&n)));
        figures.push(figure("over", n.over, self.over_from()));
        match &self.facts {
            Some(_) => {
                let (limit, why) = self.eni_limit();
                let from = match why {
                    Refusal::PolicyCap { setting } => setting,
                    _ if self.learnt_enis.is_some_and(|learnt| learnt == limit) => "EC2 refused more".to_owned(),
                    _ if self.limits_missing().is_some() => {
                        "what the instance has; its type's limits are not known".to_owned()
                    }
                    _ => "the instance type".to_owned(),
                };
                let each = self.limits().secondary();
                let here = self.enis.len();
                figures.push(figure(
                    "enis at most",
                    limit,
                    format!("{from}; {here} here, {each} places for pods on each"),
                ));
            }
            None => figures.push(figure("enis at most", 0, "the instance is not known yet".to_owned())),
        }
        if let Some(most) = self.policy.max_pods {
            figures.push(figure("pods at most", most, "what the node can run".to_owned()));
        }
        for eni in self.enis.values() {
            if let EniState::Quarantined(why) = &eni.record.state {
                figures.push(figure("quarantined", count(eni.leased()), format!("pods on {}: {why}", eni.record.id)));
            }
            if eni.record.excluded {
                let from = format!("pods on {}, whose subnet {} is excluded", eni.record.id, eni.record.subnet);
                figures.push(figure("excluded", count(eni.leased()), from));
            }
        }
        figures
    }

    fn target_from(&self) -> String {
        let wanted = "and what is wanted now";
        match self.policy.warm {
            Warm::Enis(enis) => {
                format!("WARM_ENI_TARGET={enis}: {} addresses, in whole ENIs, {wanted}", self.warm_eni_addresses())
            }
            Warm::Prefixes(0) => format!("WARM_PREFIX_TARGET=0: one free address {wanted}"),
            Warm::Prefixes(prefixes) => {
                format!("WARM_PREFIX_TARGET={prefixes}: {} addresses {wanted}", prefixes.saturating_mul(Prefix::SIZE))
            }
            Warm::Addresses { warm, .. } => format!("WARM_IP_TARGET={warm} {wanted}"),
            Warm::Demand => format!("BERTH_WARM=demand: one free address {wanted}"),
        }
    }

    fn short_from(&self, n: &crate::Numbers) -> String {
        if self.draining && !self.policy.manage_unschedulable {
            return "the node takes no new pods (AWS_MANAGE_ENIS_NON_SCHEDULABLE)".to_owned();
        }
        match (n.short, n.short_prefixes) {
            (0, _) => "supply reaches the target".to_owned(),
            (_, 0) => "target less supply, within the limits".to_owned(),
            (_, prefixes) => format!("target less supply, within the limits: {prefixes} prefixes"),
        }
    }

    fn over_from(&self) -> String {
        match self.policy.warm {
            Warm::Enis(_) => "supply less target; given back in whole ENIs".to_owned(),
            _ if self.policy.prefixes => "supply less target; given back in whole prefixes".to_owned(),
            _ => "supply less target".to_owned(),
        }
    }

    fn next(&self, now: BootTime) -> Vec<Next> {
        let mut next = Vec::new();
        for intent in self.intents.values() {
            let lost = intent.doubt.is_some().then(|| "the answer was lost: looking it up".to_owned());
            next.push(Next { what: doing(&intent.call), within: None, why: lost });
        }
        next.extend(self.reads.values().map(|read| Next { what: doing(read), within: None, why: None }));
        for eni in self.enis.values().filter(|eni| eni.attached() && eni.holds_pods() && !eni.link_ready) {
            let what = format!("waiting for the link of {} ({})", eni.record.id, eni.record.mac);
            next.push(Next { what, within: None, why: None });
        }
        let paused: Vec<&Refusal> = self.pauses.all(now).map(|(_, _, reason)| reason).collect();
        for trouble in self.troubles().into_iter().filter(|trouble| !paused.contains(&trouble)) {
            let what = "what was refused is tried again when it is needed".to_owned();
            next.push(Next { what, within: None, why: Some(trouble.to_string()) });
        }
        for (scope, until, reason) in self.pauses.all(now) {
            let what = format!("{scope} goes on");
            next.push(Next { what, within: Some(until.since(now)), why: Some(reason.to_string()) });
        }
        for (action, until) in self.budgets.wanted() {
            let why = if self.budgets.is_slowed(action) {
                Refusal::Throttled { action: action.name().to_owned() }.to_string()
            } else {
                "the node's budget for it is used up for now (BERTH_EC2_BUDGET)".to_owned()
            };
            next.push(Next { what: format!("{action} goes on"), within: Some(until.since(now)), why: Some(why) });
        }
        if let (Some((until, count)), false) = (self.first_cooling(), self.waiting.is_empty()) {
            let what = format!("the first of {count} cooling addresses is free");
            next.push(Next { what, within: Some(until.since(now)), why: None });
        }
        if let Some((since, wait)) = self.surplus {
            let quiet = self.grown_at.map_or(BootTime::default(), |grown| grown.after(self.policy.shrink_after));
            let at = since.after(wait).max(quiet);
            let why = Some("it has been more than the target for a while by then".to_owned());
            next.push(Next { what: "giving surplus back".to_owned(), within: Some(at.since(now)), why });
        }
        next
    }
}

fn doing(call: &Call) -> String {
    match call {
        Call::CreateEni { ask, subnet, .. } => format!("creating an ENI with {ask} in {subnet}"),
        Call::Attach { eni, device, .. } => format!("attaching {eni} as device {}", device.0),
        Call::Protect { eni, .. } => format!("marking {eni} to be deleted with the instance"),
        Call::SetGroups { eni, .. } => format!("giving {eni} the primary ENI's security groups"),
        Call::Assign { eni, ask } => format!("assigning {ask} to {eni}"),
        Call::Unassign { eni, addresses, prefixes } if prefixes.is_empty() => {
            format!("giving {} addresses of {eni} back", addresses.len())
        }
        Call::Unassign { eni, prefixes, .. } => format!("giving {} prefixes of {eni} back", prefixes.len()),
        Call::Tag { eni, .. } => format!("tagging {eni}"),
        Call::Detach { eni, .. } => format!("detaching {eni}"),
        Call::Delete { eni } => format!("deleting {eni}"),
        Call::Describe { eni } => format!("reading {eni}"),
        Call::Discover { .. } => "reading all ENIs of the instance".to_owned(),
        Call::Subnets { zone, .. } => format!("reading the subnets of {zone}"),
        Call::Leaked { .. } | Call::Instances { .. } => "looking for ENIs that nodes left behind".to_owned(),
    }
}
