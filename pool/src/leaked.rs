//! ENIs that nodes left behind.
//!
//! Owns the search for them: once an hour, at a random time, by one read; a second look before anything is deleted; and only what carries
//! our own mark or that of an instance of our cluster that is no more. Never deletes an ENI that is attached, young or somebody else's.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Action, BootTime, Call, EniId, InstanceId, Now, SeenEni, State,
    adopt::{INSTANCE_TAG, NO_MANAGE_TAG},
    budget::Urgency,
    grow::{CLUSTER_TAG, CREATED_TAG},
    pause::Scope,
    wall,
};

/// How often each node looks.
const EVERY: Duration = Duration::from_hours(1);
/// Between the two looks at a candidate.
const SECOND_LOOK: Duration = Duration::from_mins(10);
/// An ENI that is younger may still be on its way to an instance (amazon-vpc-cni waits as long).
const YOUNG: Duration = Duration::from_mins(5);
/// So many are deleted at a time; the others wait for the next look.
const AT_ONCE: usize = 5;
/// After something may have been left over; it is not young any more then.
const SOON: Duration = Duration::from_mins(6);

/// The search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// When to look next.
    next: Option<BootTime>,
    /// Candidates by the instance in their tag: when they were first seen.
    seen: BTreeMap<EniId, (InstanceId, BootTime)>,
    /// Asked about: gone instances' ENIs are deleted.
    asked: BTreeMap<InstanceId, Vec<EniId>>,
}

impl Search {
    pub fn next(&self) -> Option<BootTime> {
        self.next
    }
}

impl State {
    /// Looks when it is time to.
    pub(crate) fn plan_leaked(&mut self, now: Now) {
        let Some(facts) = self.facts.clone() else { return };
        if !self.policy.clean_leaked || !self.discovered {
            return;
        }
        let next = *self.search.next.get_or_insert_with(|| now.at.after(now.share(EVERY)));
        let busy = self.reads.values().any(|read| matches!(read, Call::Leaked { .. } | Call::Instances { .. }));
        let idle = next <= now.at && !busy && self.waiting.is_empty();
        if !idle || !self.may_call(now.at, Action::DescribeNetworkInterfaces, Urgency::Audit) {
            return;
        }
        self.search.next = Some(now.at.after(EVERY));
        let call = Call::Leaked { vpc: facts.vpc, cluster: self.policy.cluster.clone() };
        self.call(now.at, call);
    }

    /// What is attached to nothing and carries an instance's tag.
    pub(crate) fn read_leaked(&mut self, now: Now, seen: Vec<SeenEni>) {
        let Some(us) = self.facts.as_ref().map(|facts| facts.instance.clone()) else { return };
        let creating = self.intents.values().any(|intent| matches!(intent.call, Call::CreateEni { .. }));
        let candidates: BTreeMap<EniId, InstanceId> = seen
            .into_iter()
            .filter_map(|seen| Some((seen.id.clone(), self.left_behind_by(now, &seen)?)))
            .filter(|(eni, _)| !self.enis.contains_key(eni))
            // An answer that is still to come may be about this one.
            .filter(|(_, instance)| *instance != us || !creating)
            .collect();
        self.search.seen.retain(|eni, _| candidates.contains_key(eni));
        for (eni, instance) in candidates {
            let (_, first) = self.search.seen.entry(eni.clone()).or_insert((instance.clone(), now.at));
            if now.at.since(*first) < SECOND_LOOK {
                let again = now.at.after(now.jittered(SECOND_LOOK));
                self.search.next = self.search.next.map(|next| next.min(again));
            } else if instance == us {
                self.delete_leaked(now.at, eni);
            } else {
                self.search.asked.entry(instance).or_default().push(eni);
            }
        }
        if !self.search.asked.is_empty() && !self.may_call(now.at, Action::DescribeInstances, Urgency::Audit) {
            // They are candidates again at the next look.
            self.leaked_unread();
        } else if !self.search.asked.is_empty() {
            let instances = self.search.asked.keys().cloned().collect();
            self.call(now.at, Call::Instances { instances });
        }
    }

    /// Which of the instances asked about still exist; the ENIs of the others go.
    pub(crate) fn read_instances(&mut self, now: BootTime, asked: &[InstanceId], there: &[InstanceId]) {
        for instance in asked {
            let left = self.search.asked.remove(instance).unwrap_or_default();
            if there.contains(instance) {
                continue;
            }
            for eni in left {
                self.delete_leaked(now, eni);
            }
        }
    }

    /// Something may just have been left over.
    pub(crate) fn search_soon(&mut self, now: Now) {
        let soon = now.at.after(now.jittered(SOON));
        self.search.next = Some(self.search.next.map_or(soon, |next| next.min(soon)));
    }

    /// The search goes on from the next look after a read that failed.
    pub(crate) fn leaked_unread(&mut self) {
        self.search.asked.clear();
    }

    fn delete_leaked(&mut self, now: BootTime, eni: EniId) {
        self.search.seen.remove(&eni);
        let open = self.intents.values().filter(|intent| matches!(intent.call, Call::Delete { .. })).count();
        let quiet = open < AT_ONCE && !self.pauses.active(&Scope::Eni(eni.clone()), now);
        if quiet && self.may_call(now, Action::DeleteNetworkInterface, Urgency::Audit) {
            self.call(now, Call::Delete { eni });
        }
    }

    /// The instance that left this ENI behind, if it is one that a node of ours made and that is old enough.
    fn left_behind_by(&self, now: Now, seen: &SeenEni) -> Option<InstanceId> {
        let us = &self.facts.as_ref()?.instance;
        let instance = InstanceId::from(seen.tags.get(INSTANCE_TAG)?.as_str());
        let marked = seen.description == format!("aws-K8S-{instance}");
        let kept_from_us = seen.tags.get(NO_MANAGE_TAG).is_some_and(|tag| tag == "true");
        let of_cluster = self.policy.cluster.as_ref().is_some_and(|ours| seen.tags.get(CLUSTER_TAG) == Some(ours));
        // One that does not say when it was made counts from when it was first seen.
        let made = seen.tags.get(CREATED_TAG).and_then(|made| wall::seconds(made));
        let young = made.is_some_and(|made| made + YOUNG.as_secs() > now.wall);
        (seen.attachment.is_none() && marked && !kept_from_us && !young && (instance == *us || of_cluster))
            .then_some(instance)
    }
}
