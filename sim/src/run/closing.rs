//! The end of a run: faults stop, demand is met, everything is released, nothing is left.
//!
//! Owns what must hold of a node that is left in peace. Never mends anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pool::{Block, Refusal, State, Warm};

use super::{
    pods::{self, Outcome},
    script,
    trace::Invariant,
    world::{Sim, World},
};

/// Longer than any pause, any stale read and any cooling.
const PEACE: Duration = Duration::from_mins(16);
/// What an ENI of ours that nobody knows of has to wait for before it is deleted: a look within the hour, another one, each with luck.
const LEAKED: Duration = Duration::from_mins(100);
/// Pods that come at the end, on each node.
const DEMAND: u64 = 12;
/// Numbers of pods of the end.
const LATE: u64 = 1_000_000;

/// Brings a run to its end.
pub(crate) async fn close(sim: &Arc<Sim>) {
    {
        let mut world = sim.lock();
        world.faulty = false;
        world.busy = world.steps;
        for machine in &mut world.machines {
            machine.strange.clear();
            machine.kept_off.clear();
            machine.bound.clear();
        }
        world.say(sim.elapsed(), format_args!("   faults stop"));
    }
    let nodes = sim.lock().machines.len();
    for node in 0..nodes {
        script::demand(sim, node);
    }
    tokio::time::sleep(PEACE).await;
    sim.say(format_args!("   {DEMAND} pods come to every node"));
    for node in 0..nodes {
        demand(sim, node).await;
    }
    for node in 0..nodes {
        sim.lock().machines[node].bound.clear();
        script::demand(sim, node);
        let keys: Vec<_> = sim.lock().truth.on(node).map(|(key, _)| key.clone()).collect();
        for key in keys {
            sim.spawn(pods::del(Arc::clone(sim), node, key, Duration::ZERO));
        }
    }
    sim.say(format_args!("   everything was released"));
    let forgot = sim.lock().machines.iter().any(|machine| machine.forgot);
    tokio::time::sleep(if forgot { LEAKED } else { PEACE }).await;
    let (calls, wanting) = (asked(sim), wanting(sim).await);
    tokio::time::sleep(PEACE).await;
    for (node, (before, after)) in calls.into_iter().zip(asked(sim)).enumerate() {
        // Whoever is short goes on trying, slower and slower. When something that was left over is found and deleted there is room anew.
        let deleted = before.get("DeleteNetworkInterface") != after.get("DeleteNetworkInterface");
        if !wanting[node] && !deleted && before != after {
            sim.lock()
                .broken(Invariant::Rest, format!("n{node} had all it needs, and asked {before:?}, then {after:?}"));
        }
    }
    for node in 0..nodes {
        nothing_left(sim, node).await;
    }
    for node in 0..nodes {
        all_available(sim, node).await;
    }
}

/// Who has less than it should have, or more.
async fn wanting(sim: &Sim) -> Vec<bool> {
    let mut wanting = Vec::new();
    let nodes = sim.lock().machines.len();
    for node in 0..nodes {
        let numbers = match pods::daemon(sim, node) {
            Some((handle, _)) => handle.read(pool::State::numbers).await,
            None => None,
        };
        wanting.push(numbers.is_none_or(|numbers| numbers.short > 0));
    }
    wanting
}

/// Calls of every node so far, but those that are made once an hour.
fn asked(sim: &Sim) -> Vec<BTreeMap<&'static str, u64>> {
    sim.lock().machines.iter().map(|machine| machine.asked.clone()).collect()
}

/// Pods come at once, and all are served that can be, with no more calls than growth needs.
async fn demand(sim: &Arc<Sim>, node: usize) {
    let before = sim.lock().growth(node);
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
    // What is under way lands.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut world = sim.lock();
    let after = world.growth(node);
    let calls = |name: &str| after.asked.get(name).copied().unwrap_or(0) - before.asked.get(name).copied().unwrap_or(0);
    let new = after.enis.saturating_sub(before.enis);
    // One more assign where the last pod took the last free address.
    let three = ["CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"];
    // Where EC2 had to say no, for want of addresses, it is asked for less at first.
    let scarce = world.machines[node].reasons.contains_key("SubnetExhausted");
    let undisturbed = after.denials == before.denials && !world.meddled && !scarce;
    let too_many = three.iter().any(|name| calls(name) > new) || calls("AssignPrivateIpAddresses") > after.enis + 1;
    if undisturbed && too_many {
        let what = format!("{DEMAND} pods, {new} new ENIs: {:?}, before {:?}", after.asked, before.asked);
        world.broken(Invariant::Calls, what);
    }
}

/// What a node has grown to, and by which calls.
struct Grown {
    asked: BTreeMap<&'static str, u64>,
    denials: u64,
    /// ENIs that are its own, also those on their way.
    enis: u64,
}

impl World {
    fn growth(&self, node: usize) -> Grown {
        let machine = &self.machines[node];
        let instance = machine.instance.as_str();
        let own = self.vpc.enis.iter().filter(|(_, eni)| {
            let attached = eni.attachment.as_ref().is_some_and(|at| at.instance == instance);
            attached || eni.tags.get("node.k8s.amazonaws.com/instance_id").is_some_and(|owner| owner == instance)
        });
        Grown { asked: machine.asked.clone(), denials: machine.denials, enis: own.count() as u64 }
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
        let subnets = self.vpc.subnets.iter();
        let most = machine.limits().enis.min(machine.policy.max_eni.unwrap_or(u32::MAX));
        let places = usize::try_from(machine.limits().addresses_per_eni).unwrap_or(usize::MAX);
        let ours = |id: &String| {
            let room = enis.iter().any(|(_, eni)| eni.subnet == *id && eni.holding.slots() < places);
            let new = machine.policy.subnet_discovery || id == machine.facts.subnet.as_str();
            room || (new && enis.len() < usize::try_from(most).unwrap_or(usize::MAX))
        };
        let free = subnets.filter(|(id, _)| ours(id)).map(|(_, subnet)| subnet.book.free()).max().unwrap_or(0);
        let attached = u32::try_from(enis.len()).unwrap_or(u32::MAX);
        let excused = match refusal {
            // A new ENI takes an address for itself.
            Refusal::SubnetExhausted { .. } => free <= 1 || self.meddled,
            // Nobody says that an ENI of others has gone.
            Refusal::EniLimit { .. } if self.meddled => true,
            Refusal::EniLimit { limit } => attached >= machine.limits().enis.min(*limit),
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
        let old = |intent: &&pool::Intent| now.since(intent.at) > Duration::from_mins(1);
        if let Some(intent) = state.intents().find(old) {
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
            if self.foreign.contains(id) {
                continue;
            }
            let known = state.enis().find(|known| known.record.id.as_str() == id);
            // What came of a create whose repetition EC2 refused nobody knows: the search for what is left over finds it within hours.
            let searched = !attached && self.scenario.faults.refused > 0;
            let Some(known) = known else {
                if searched {
                    continue;
                }
                return Err(format!("{id} is forgotten"));
            };
            let groups: BTreeSet<&str> = eni.groups.iter().map(String::as_str).collect();
            let wanted: BTreeSet<&str> = machine.facts.groups.iter().map(pool::SecurityGroupId::as_str).collect();
            if known.record.created && !wanted.is_empty() && groups != wanted {
                return Err(format!("{id} has the groups {groups:?}, and the primary ENI {wanted:?}"));
            }
            let mut there = self.holding(id);
            let singles = known.addresses.singles().map(|(address, _)| Block::Address(address));
            let mut pool: Vec<_> =
                singles.chain(known.addresses.prefixes().map(|(prefix, _)| Block::Prefix(prefix))).collect();
            there.sort();
            pool.sort();
            if there != pool {
                return Err(format!("{id} has {there:?}, the pool {pool:?}"));
            }
        }
        let gone = |eni: &&pool::Eni| eni.holds_pods() && self.vpc.enis.get(eni.record.id.as_str()).is_none();
        if let Some(gone) = state.enis().find(gone) {
            return Err(format!("{} is no more, and the pool has it", gone.record.id));
        }
        let numbers = state.numbers(now);
        // Prefixes are given back whole.
        let least = if machine.policy.prefixes { pool::Prefix::SIZE } else { 1 };
        if matches!(machine.policy.warm, Warm::Addresses { .. }) && numbers.over >= least {
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
