//! The schedule of a run: pods come and go, daemons are stopped, others meddle.
//!
//! Owns what happens next, drawn from the seed. Never waits for what it began.

use std::{sync::Arc, time::Duration};

use pool::{Event, LeaseKey};

use super::{
    groups::Regrouping,
    pods::{self, Outcome},
    scenario::Luck,
    world::Sim,
};
use crate::{
    Request, Response,
    requests::{CreateNetworkInterface, NewEni, Tags},
};

/// Runs until the scenario's events have happened.
pub(crate) async fn play(sim: &Arc<Sim>) {
    let (scenario, nodes) = {
        let world = sim.lock();
        (world.scenario.clone(), world.machines.len())
    };
    let mut luck = Luck::new(scenario.seed, "script");
    let mut regrouping = Regrouping::drawn(scenario.seed);
    let churn = &scenario.churn;
    let mut number = 0;
    for _ in 0..scenario.events * 2 {
        if over(sim, scenario.events) || number >= scenario.events {
            return;
        }
        let pause = luck.between(churn.pause.clone());
        tokio::time::sleep(pause).await;
        let node = luck.index(nodes);
        regrouping.perhaps(sim, node);
        let (running, adding) = {
            let world = sim.lock();
            let running: Vec<LeaseKey> = world.truth.on(node).map(|(key, _)| key.clone()).collect();
            (running, world.adding)
        };
        let there = running.len() + adding;
        if luck.chance(churn.repeated) && !running.is_empty() {
            let key = luck.one_of(&running).clone();
            let again = pods::add(Arc::clone(sim), node, key, Duration::ZERO, churn.patience);
            sim.spawn(async move { drop(again.await) });
        } else if luck.chance(churn.vanishing) && !running.is_empty() {
            vanish(sim, node, luck.one_of(&running));
        } else if luck.chance(scenario.faults.strange_routes) {
            strange(sim, node);
        } else if luck.chance(5) {
            stop(sim, node);
        } else if luck.chance(20) && scenario.faults.foreign > 0 {
            meddle(sim, node, scenario.faults.foreign);
        } else if luck.index(churn.pods * 2) >= there {
            for _ in 0..=luck.index(churn.burst) {
                number += 1;
                come(sim, node, pods::key(number), &mut luck);
            }
        } else {
            for _ in 0..=luck.index(churn.burst) {
                if !running.is_empty() {
                    let key = luck.one_of(&running).clone();
                    go(sim, node, key, &mut luck);
                }
            }
        }
    }
}

/// Kubernetes says which pods are bound to the node.
pub(crate) fn demand(sim: &Sim, node: usize) {
    let (handle, bound) = {
        let world = sim.lock();
        let machine = &world.machines[node];
        (machine.handle.clone().filter(|_| world.scenario.kubernetes && !machine.dead), machine.bound.clone())
    };
    if let Some(handle) = handle {
        handle.send(Event::Demand(bound));
    }
}

fn over(sim: &Sim, events: u64) -> bool {
    let world = sim.lock();
    world.events >= events || world.violation.is_some()
}

/// A pod comes. Its sandbox is deleted when the ADD fails; sometimes the runtime does not wait for that.
fn come(sim: &Arc<Sim>, node: usize, key: LeaseKey, luck: &mut Luck) {
    let churn = sim.lock().scenario.churn.clone();
    let wait = if luck.chance(50) { luck.between(Duration::ZERO..Duration::from_secs(3)) } else { Duration::ZERO };
    sim.lock().machines[node].bound.insert(pods::pod(&key));
    demand(sim, node);
    let add = pods::add(Arc::clone(sim), node, key.clone(), wait, churn.patience);
    let overtaken = luck.chance(churn.overtaken).then(|| luck.between(Duration::ZERO..Duration::from_secs(4)));
    let again = luck.chance(100);
    let own = Arc::clone(sim);
    sim.spawn(async move {
        if let Some(after) = overtaken {
            let adding = Arc::clone(&own);
            adding.spawn(async move { drop(add.await) });
            tokio::time::sleep(after).await;
            own.lock().machines[node].bound.remove(&pods::pod(&key));
            return pods::del(own, node, key, Duration::ZERO).await;
        }
        let mut outcome = add.await;
        if outcome != Outcome::Served && again {
            outcome = pods::add(Arc::clone(&own), node, key.clone(), Duration::ZERO, churn.patience).await;
        }
        if outcome != Outcome::Served {
            own.lock().machines[node].bound.remove(&pods::pod(&key));
            demand(&own, node);
            pods::del(own, node, key, Duration::ZERO).await;
        }
    });
}

/// A pod goes; sometimes its container id comes back.
fn go(sim: &Arc<Sim>, node: usize, key: LeaseKey, luck: &mut Luck) {
    let churn = sim.lock().scenario.churn.clone();
    let wait = if luck.chance(50) { luck.between(Duration::ZERO..Duration::from_secs(3)) } else { Duration::ZERO };
    let reborn = luck.chance(churn.reborn).then(|| luck.between(Duration::from_millis(1)..Duration::from_secs(4)));
    let twice = luck.chance(50);
    sim.lock().machines[node].bound.remove(&pods::pod(&key));
    demand(sim, node);
    let own = Arc::clone(sim);
    let del = pods::del(Arc::clone(sim), node, key.clone(), wait);
    sim.spawn(async move {
        let Some(after) = reborn else {
            del.await;
            if twice {
                pods::del(own, node, key, Duration::ZERO).await;
            }
            return;
        };
        // It comes back whether its DEL is through or not.
        own.spawn(del);
        tokio::time::sleep(after).await;
        if pods::add(Arc::clone(&own), node, key.clone(), Duration::ZERO, churn.patience).await != Outcome::Served {
            pods::del(own, node, key, Duration::ZERO).await;
        }
    });
}

/// A sandbox is gone, and no DEL comes for it.
fn vanish(sim: &Sim, node: usize, key: &LeaseKey) {
    let mut world = sim.lock();
    world.say(sim.elapsed(), format_args!("n{node} {key} vanishes"));
    world.truth.vanishes(sim.now(), &(node, key.clone()));
    world.machines[node].links.remove(key);
    world.machines[node].bound.remove(&pods::pod(key));
}

/// Something else begins to use an address of the node that no pod has, or ends.
fn strange(sim: &Sim, node: usize) {
    let mut guard = sim.lock();
    let world = &mut *guard;
    if !world.machines[node].strange.is_empty() && world.fates.chance(500) {
        world.machines[node].strange.clear();
        world.machines[node].kept_off.clear();
        return;
    }
    let used = |address: &std::net::Ipv4Addr| world.truth.on(node).any(|(_, live)| live.address == *address);
    let wanted = world.machines[node].wanted.iter().flat_map(|eni| eni.addresses.iter().copied());
    let idle: Vec<_> = wanted.filter(|address| !used(address)).collect();
    if !idle.is_empty() {
        let address = *world.fates.one_of(&idle);
        world.say(sim.elapsed(), format_args!("n{node} something else uses {address}"));
        world.machines[node].strange.insert(address);
    }
}

/// The daemon is stopped in good order.
fn stop(sim: &Sim, node: usize) {
    let handle = {
        let mut world = sim.lock();
        world.say(sim.elapsed(), format_args!("n{node} is told to stop"));
        world.machines[node].stopping = true;
        world.machines[node].handle.clone()
    };
    if let Some(handle) = handle {
        handle.stop();
    }
}

/// Somebody attaches an ENI of his own, or takes one away.
fn meddle(sim: &Sim, node: usize, most: usize) {
    let at = sim.elapsed();
    let mut guard = sim.lock();
    let world = &mut *guard;
    world.vpc.settle(at);
    world.meddled = true;
    let foreign = world.foreign.clone();
    if foreign.len() >= most {
        let Some(eni) = foreign.first() else { return };
        let attachment = world.vpc.enis.get(eni).and_then(|eni| eni.attachment.as_ref()).map(|at| at.id.clone());
        let taken = match attachment {
            Some(attachment) => Request::DetachNetworkInterface { attachment, force: false },
            None => Request::DeleteNetworkInterface { eni: eni.clone() },
        };
        let deletes = matches!(taken, Request::DeleteNetworkInterface { .. });
        let answer = world.vpc.ec2(at, &mut world.ids.0, taken);
        world.say(at, format_args!("   somebody takes {eni} away: {answer:?}"));
        if deletes && answer.is_ok() {
            world.foreign.remove(0);
        }
    } else {
        let wanted = CreateNetworkInterface {
            eni: NewEni { subnet: world.machines[node].facts.subnet.to_string(), ..NewEni::default() },
            tags: Tags::from([("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned())]),
            client_token: None,
        };
        let made = world.vpc.ec2(at, &mut world.ids.0, Request::CreateNetworkInterface(wanted));
        let Ok(Response::CreateNetworkInterface { eni, .. }) = made else { return };
        let instance = world.machines[node].instance.to_string();
        let device_index = 1 + u32::try_from(world.fates.index(3)).unwrap_or(0);
        let attach = Request::AttachNetworkInterface { eni: eni.id.clone(), instance, device_index, card: 0 };
        let answer = world.vpc.ec2(at, &mut world.ids.0, attach);
        world.say(
            at,
            format_args!("   somebody attaches {} to n{node} at {device_index}: {:?}", eni.id, answer.is_ok()),
        );
        world.foreign.push(eni.id);
    }
    world.vpc.settle(at);
    sim.ec2_changed.notify_one();
}
