//! In which subnets new ENIs are created.
//!
//! Owns what is known of the zone's subnets, the tags that choose and exclude them (amazon-vpc-cni's), and when they are read again.
//! Never touches an ENI that is in use: one in a subnet that became excluded takes no new pods, that is all.

use std::{collections::BTreeMap, time::Duration};

use crate::{Action, BootTime, Call, EniId, Key, NodeFacts, Refusal, SeenSubnet, State, SubnetId, pause::Scope};

/// `0`: not for pods; anything else: for pods (amazon-vpc-cni's).
const ROLE_TAG: &str = "kubernetes.io/role/cni";
/// With the cluster's name behind it: this subnet is for that cluster only (amazon-vpc-cni's).
const CLUSTER_TAGS: &str = "cni.networking.k8s.aws/cluster/";
/// What DescribeSubnets said is good for so long: then it is read again before the next ENI is made, as tags may have changed.
const FRESH: Duration = Duration::from_mins(10);

/// What is known of a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSubnet {
    /// Free addresses when it was read.
    pub free: u32,
    /// New ENIs may be created there.
    pub chosen: bool,
    /// Tagged as not for pods.
    pub excluded: bool,
}

impl State {
    /// The subnets of the zone, as last read.
    pub fn subnets(&self) -> impl Iterator<Item = (&SubnetId, &KnownSubnet)> {
        self.subnets.iter()
    }

    /// How long an exhausted subnet is left alone yet; `None`: it is not.
    pub fn subnet_pause(&self, subnet: &SubnetId, now: BootTime) -> Option<Duration> {
        self.pauses.until(&Scope::Subnet(subnet.clone()), now).map(|until| until.since(now))
    }

    /// Asks for the zone's subnets: at the start, and later when a new ENI is needed and what is known is old.
    pub(crate) fn plan_subnets(&mut self, now: BootTime) {
        let Some(facts) = &self.facts else { return };
        let fresh = self.subnets_are_fresh(now);
        let asked = self.reads.values().any(|read| matches!(read, Call::Subnets { .. }));
        let needed = self.subnets_read.is_none() || self.subnets_wanted;
        if !self.policy.subnet_discovery || fresh || asked || !needed {
            return;
        }
        let call = Call::Subnets { vpc: facts.vpc.clone(), zone: facts.zone.clone() };
        if !self.may_call(now, call.action(), self.growing_for()) {
            return;
        }
        self.call(now, call);
    }

    fn subnets_are_fresh(&self, now: BootTime) -> bool {
        self.subnets_read.is_some_and(|read| now.since(read) < FRESH)
    }

    /// A new ENI waits for what is being read of the subnets, unless EC2 cannot be asked.
    pub(crate) fn subnets_are_awaited(&self, now: BootTime) -> bool {
        self.policy.subnet_discovery
            && !self.subnets_are_fresh(now)
            && self.barred(now, Action::DescribeSubnets).is_none()
    }

    /// DescribeSubnets answered.
    pub(crate) fn read_subnets(&mut self, now: BootTime, seen: Vec<SeenSubnet>) {
        let Some(primary) = self.facts.as_ref().map(|facts| facts.subnet.clone()) else { return };
        self.subnets_read = Some(now);
        self.subnets_wanted = false;
        self.subnets = seen.into_iter().map(|seen| (seen.id.clone(), self.known(&seen, &primary))).collect();
        let changed: Vec<(EniId, bool)> = self
            .enis
            .values()
            .map(|eni| {
                let excluded = self.subnets.get(&eni.record.subnet).is_some_and(|subnet| subnet.excluded);
                (eni.record.id.clone(), excluded)
            })
            .collect();
        for (id, excluded) in changed {
            if let Some(eni) = self.enis.get_mut(&id)
                && eni.record.excluded != excluded
            {
                eni.record.excluded = excluded;
                self.touch(Key::Eni(id));
            }
        }
    }

    fn known(&self, seen: &SeenSubnet, primary: &SubnetId) -> KnownSubnet {
        let role = seen.tags.get(ROLE_TAG).map(String::as_str);
        let mut clusters = seen.tags.keys().filter_map(|tag| tag.strip_prefix(CLUSTER_TAGS)).peekable();
        let ours = match &self.policy.cluster {
            Some(cluster) if clusters.peek().is_some() => clusters.any(|name| name == cluster),
            _ => true,
        };
        let excluded = role == Some("0") || (role.is_some() && !ours);
        let chosen = !excluded && (role.is_some() || seen.id == *primary);
        KnownSubnet { free: seen.free, chosen, excluded }
    }

    /// Where new ENIs may be created now, with the free addresses there as far as is known; or why nowhere.
    pub(crate) fn subnets_for(&self, now: BootTime, facts: &NodeFacts) -> Result<Vec<(SubnetId, u32)>, Refusal> {
        let paused = |subnet: &SubnetId| self.pauses.reason(&Scope::Subnet(subnet.clone()), now).cloned();
        let tried = self.barred(now, Action::DescribeSubnets).is_some();
        let all: BTreeMap<SubnetId, u32> = if !self.policy.subnet_discovery || (self.subnets_read.is_none() && tried) {
            // EC2 cannot be asked: the primary ENI's subnet is there in any case.
            BTreeMap::from([(facts.subnet.clone(), u32::MAX)])
        } else if self.subnets_read.is_none() {
            return Err(Refusal::WarmingUp);
        } else {
            let chosen = self.subnets.iter().filter(|(_, subnet)| subnet.chosen);
            chosen.map(|(id, subnet)| (id.clone(), subnet.free)).collect()
        };
        let open: Vec<_> =
            all.iter().filter(|(id, _)| paused(id).is_none()).map(|(id, free)| (id.clone(), *free)).collect();
        if open.is_empty() {
            let why = all.keys().find_map(paused);
            let nowhere = || Refusal::ConfigInvalid {
                what: format!(
                    "{} is excluded from pods and no other subnet of {} is tagged {ROLE_TAG}=1; tag one",
                    facts.subnet, facts.zone
                ),
            };
            return Err(why.unwrap_or_else(nowhere));
        }
        Ok(open)
    }
}
