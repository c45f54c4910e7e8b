//! The end of a run: faults stop, demand is met, everything is released, nothing is left.
//!
//! Owns what must hold of a node that is left in peace. Never mends anything.

use std::{sync::Arc, time::Duration};

use pool::{Block, Refusal, State, Warm};

use super::{
    pods::{self, Outcome},
    trace::Invariant,
    world::{Sim, World},
};

/// Longer than any pause, any stale read and any cooling.
const PEACE: Duration = Duration::from_mins(16);
/// Pods that come at the end, on each node.
const DEMAND: u64 = 12;
/// Numbers of pods of the end.
const LATE: u64 = 1_000_000;

/// Brings a run to its end.
pub(crate) async fn close(sim: &Arc<Sim>) {
    {
        let mut world = sim.lock();
        world.faulty = false;
        world.say(sim.elapsed(), format_args!("   faults stop"));
    }
    tokio::time::sleep(PEACE).await;
    sim.say(format_args!("   {DEMAND} pods come to every node"));
    let nodes = sim.lock().machines.len();
    for node in 0..nodes {
        demand(sim, node).await;
    }
    for node in 0..nodes {
        let keys: Vec<_> = sim.lock().truth.on(node).map(|(key, _)| key.clone()).collect();
        for key in keys {
            sim.spawn(pods::del(Arc::clone(sim), node, key, Duration::ZERO));
        }
    }
    sim.say(format_args!("   everything was released"));
    tokio::time::sleep(PEACE * 2).await;
    let calls = sim.lock().tally.calls;
    tokio::time::sleep(PEACE).await;
    {
        let mut world = sim.lock();
        let more = world.tally.calls - calls;
        if more > 0 {
            world.broken(Invariant::Rest, format!("{more} calls in {PEACE:?} of peace"));
        }
    }
    for node in 0..nodes {
        nothing_left(sim, node).await;
    }
    for node in 0..nodes {
        all_available(sim, node).await;
    }
}

/// Pods come at once, and all are served that can be.
async fn demand(sim: &Arc<Sim>, node: usize) {
    let mut adds = Vec::new();
    for number in 0..DEMAND {
        let key = pods::key(LATE * (1 + node as u64) + number);
        let add = pods::add(Arc::clone(sim), node, key.clone(), Duration::ZERO, Duration::from_secs(90));
        adds.push((key, tokio::spawn(add)));
    }
    for (key, add) in adds {
        let Ok(outcome) = add.await else { continue };
        let mut world = sim.lock();
        match outcome {
            Outcome::Served => {}
            Outcome::Refused(refusal) => world.excused(node, &key, &refusal),
            Outcome::Unanswered if world.violation.is_some() => {}
            Outcome::Unanswered => world.broken(Invariant::Served, format!("{key} has no answer, and no daemon died")),
        }
    }
}

impl World {
    /// A node that is left in peace refuses only what is impossible.
    fn excused(&mut self, node: usize, key: &pool::LeaseKey, refusal: &Refusal) {
        let machine = &self.machines[node];
        let instance = machine.instance.as_str();
        let enis: Vec<_> = self
            .vpc
            .enis
            .iter()
            .filter(|(_, eni)| eni.attachment.as_ref().is_some_and(|at| at.instance == instance))
            .collect();
        let free = self.vpc.subnets.get(machine.facts.subnet.as_str()).map_or(0, |subnet| subnet.book.free());
        let attached = u32::try_from(enis.len()).unwrap_or(u32::MAX);
        let excused = match refusal {
            // A new ENI takes an address for itself.
            Refusal::SubnetExhausted { .. } => free <= 1,
            Refusal::EniLimit { limit } => attached >= machine.facts.limits.enis.min(*limit),
            Refusal::PolicyCap { .. } => {
                machine.policy.max_eni.is_some_and(|most| attached >= most) || machine.policy.max_pods.is_some()
            }
            Refusal::CoolingDown { .. } => !machine.policy.cooling.is_zero(),
            _ => false,
        };
        if !excused {
            let what =
                format!("{key} is refused with {refusal:?}: {attached} ENIs, {free} free addresses in the subnet");
            self.broken(Invariant::Served, what);
        }
    }
}

/// No lease, no open call, and EC2 has what the pool has: the minimum.
async fn nothing_left(sim: &Arc<Sim>, node: usize) {
    let Some((handle, _)) = pods::daemon(sim, node) else { return };
    let own = Arc::clone(sim);
    handle
        .read(move |state, now| {
            let mut world = own.lock();
            if world.violation.is_some() {
                return;
            }
            if let Err(what) = world.left_over(node, state, now) {
                let line = super::trace::in_a_line(state, now);
                world.broken(Invariant::NoLeak, format!("{what}; {line}"));
            }
        })
        .await;
}

impl World {
    fn left_over(&self, node: usize, state: &State, now: pool::BootTime) -> Result<(), String> {
        if let Some(lease) = state.leases().next() {
            return Err(format!("the lease of {} is left", lease.key));
        }
        if let Some(intent) = state.intents().next() {
            return Err(format!("{:?} is open", intent.call));
        }
        let machine = &self.machines[node];
        let instance = machine.instance.as_str();
        for (id, eni) in self.vpc.enis.iter() {
            let attached = eni.attachment.as_ref().is_some_and(|at| at.instance == instance);
            let tagged = eni.tags.get("node.k8s.amazonaws.com/instance_id").is_some_and(|owner| owner == instance);
            if !attached && !tagged {
                continue;
            }
            let known = state.enis().find(|known| known.record.id.as_str() == id);
            let Some(known) = known else { return Err(format!("{id} is forgotten")) };
            if self.foreign.contains(id) {
                continue;
            }
            let mut there = self.holding(id);
            let mut pool: Vec<_> = known.addresses.keys().copied().map(Block::Address).collect();
            there.sort();
            pool.sort();
            if there != pool {
                return Err(format!("{id} has {there:?}, the pool {pool:?}"));
            }
        }
        if let Some(gone) = state.enis().find(|eni| self.vpc.enis.get(eni.record.id.as_str()).is_none()) {
            return Err(format!("{} is no more, and the pool has it", gone.record.id));
        }
        let numbers = state.numbers(now);
        if matches!(machine.policy.warm, Warm::Addresses { .. }) && numbers.over > 0 {
            return Err(format!("{} too many", numbers.over));
        }
        Ok(())
    }
}

/// As many requests as are available are served in this very moment.
async fn all_available(sim: &Arc<Sim>, node: usize) {
    let Some((handle, _)) = pods::daemon(sim, node) else { return };
    let Some(available) = handle.read(|state, _| state.available()).await else { return };
    for number in 0..available {
        let before = sim.now();
        let key = pods::key(LATE * (10 + node as u64) + number as u64);
        let outcome = pods::add(Arc::clone(sim), node, key, Duration::ZERO, Duration::from_secs(5)).await;
        let mut world = sim.lock();
        if outcome != Outcome::Served || sim.now() != before {
            world.broken(Invariant::Available, format!("{available} available, request {number}: {outcome:?}"));
        }
    }
}
