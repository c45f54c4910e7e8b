//! What the pool was told and the ledger does not have.
//!
//! Owns what must be said again when the pool goes back to its ledger. Never decides what it means.

use pool::{Event, FoundLease};

/// The last word on each matter, in the order in which the pool needs them.
#[derive(Debug, Default)]
pub(crate) struct Said {
    found: Vec<FoundLease>,
    foreign: Option<Event>,
    sandboxes: Option<Event>,
    draining: Option<Event>,
    stopping: Option<Event>,
    demand: Option<Event>,
    facts: Option<Event>,
    /// What is missing of the facts, since they were last told.
    missing: Option<Event>,
}

impl Said {
    /// Remembers what lasts of an event.
    pub(crate) fn hear(&mut self, event: &Event) {
        let place = match event {
            Event::Found(leases) => {
                self.found.extend(leases.iter().cloned());
                return;
            }
            Event::Facts(_) => {
                self.missing = None;
                &mut self.facts
            }
            Event::FactsMissing(_) => &mut self.missing,
            Event::Foreign(_) => &mut self.foreign,
            Event::Sandboxes(_) => &mut self.sandboxes,
            Event::Demand(_) => &mut self.demand,
            Event::Draining(_) => &mut self.draining,
            Event::Stopping => &mut self.stopping,
            Event::Add(_)
            | Event::Del(_)
            | Event::Abandoned(_)
            | Event::Answered(..)
            | Event::LinkReady(_)
            | Event::LinkGone(_)
            | Event::Tick => return,
        };
        *place = Some(event.clone());
    }

    /// What was found is in the ledger now.
    pub(crate) fn written(&mut self) {
        self.found.clear();
    }

    /// All of it.
    pub(crate) fn again(&self) -> Vec<Event> {
        let found = (!self.found.is_empty()).then(|| Event::Found(self.found.clone()));
        let (foreign, sandboxes) = (&self.foreign, &self.sandboxes);
        let rest = [foreign, sandboxes, &self.draining, &self.stopping, &self.demand, &self.facts, &self.missing];
        found.into_iter().chain(rest.into_iter().flatten().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use pool::Refusal;

    use super::*;

    fn missing(action: &str) -> Event {
        Event::FactsMissing(Refusal::Denied { action: action.to_owned() })
    }

    fn facts() -> Event {
        Event::Facts(pool::NodeFacts {
            instance: "i-1".into(),
            primary: "eni-1".into(),
            address: [10, 0, 0, 10].into(),
            subnet: "subnet-1".into(),
            vpc: "vpc-1".into(),
            zone: "eu-central-1a".to_owned(),
            groups: Vec::new(),
            limits: None,
        })
    }

    #[test]
    fn what_is_missing_is_said_again_beside_the_facts_until_they_are_told_anew() {
        let mut said = Said::default();
        said.hear(&missing("metadata"));
        assert_eq!(said.again(), [missing("metadata")]);
        said.hear(&facts());
        assert_eq!(said.again(), [facts()], "they are not missing any more");
        said.hear(&missing("DescribeInstanceTypes"));
        assert_eq!(said.again(), [facts(), missing("DescribeInstanceTypes")], "in this order");
    }
}
