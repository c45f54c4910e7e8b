//! A node's daemon, started again and again.
//!
//! Owns its life: start from the ledger, metadata, the spool, death, and a while without it. Runs the loop that `ipamd` runs.

use std::{sync::Arc, time::Duration};

use pool::{Event, FoundLease, Key, Origin, Refusal};

use super::{
    clock::VirtualClock,
    disk::Disk,
    ec2::Wire,
    kernel::{self, Worker},
    pods,
    scenario::{ARRIVES, Luck},
    script,
    truth::Ended,
    witness::Witnessed,
    world::Sim,
};

/// How often the spool is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps a daemon on a node. Never ends.
pub(crate) async fn keep(sim: Arc<Sim>, node: usize) {
    loop {
        run_one(&sim, node).await;
        let wait = {
            let mut world = sim.lock();
            world.machines[node].handle = None;
            if world.faulty {
                world.fates.between(Duration::ZERO..Duration::from_secs(6))
            } else {
                Duration::from_millis(100)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn run_one(sim: &Arc<Sim>, node: usize) {
    let found = forget(sim, node).await;
    let (daemon, policy, seed) = {
        let mut guard = sim.lock();
        let world = &mut *guard;
        let seed = world.scenario.seed;
        if let Some(other) = &mut world.scenario.other_policy
            && world.fates.chance(300)
        {
            std::mem::swap(&mut world.machines[node].policy, other);
        }
        let machine = &mut world.machines[node];
        machine.daemon += 1;
        machine.dead = false;
        machine.stopping = false;
        machine.network = false;
        machine.carried.clear();
        (machine.daemon, machine.policy.clone(), seed)
    };
    sim.say(format_args!("n{node} daemon {daemon} starts"));
    let started = node::start(
        Arc::new(Wire { sim: Arc::clone(sim), node, daemon }),
        Disk { sim: Arc::clone(sim), node, daemon },
        Worker { sim: Arc::clone(sim), node, daemon },
        VirtualClock { sim: Arc::clone(sim), node, luck: Luck::new(seed, &format!("node {node} daemon {daemon}")) },
        policy,
    );
    let Ok((handle, looped)) = started else { return };
    if !found.is_empty() {
        handle.send(Event::Found(found));
    }
    sim.lock().machines[node].handle = Some(handle);
    script::demand(sim, node);
    sim.spawn(kernel_looks(Arc::clone(sim), node, daemon));
    sim.spawn(metadata(Arc::clone(sim), node, daemon));
    sim.spawn(spool(Arc::clone(sim), node, daemon));
    let looped = looped.run();
    tokio::pin!(looped);
    loop {
        tokio::select! {
            biased;
            () = sim.deaths[node].notified() => {
                if !sim.lock().alive(node, daemon) {
                    return;
                }
            }
            ended = &mut looped => {
                sim.say(format_args!("n{node} daemon {daemon} stopped: {ended:?}"));
                return;
            }
        }
    }
}

/// Now and then the ledger is lost: what pods hold is found in the kernel, by every start until all of it is in the ledger again.
async fn forget(sim: &Arc<Sim>, node: usize) -> Vec<FoundLease> {
    let lost = {
        let mut guard = sim.lock();
        let world = &mut *guard;
        let of = world.scenario.faults.forgets;
        world.faulty && world.machines[node].daemon > 0 && world.fates.chance(of)
    };
    if lost {
        // What was under way has arrived: nobody could know of it.
        tokio::time::sleep(ARRIVES * 2).await;
    }
    let mut guard = sim.lock();
    let world = &mut *guard;
    if lost {
        world.say(sim.elapsed(), format_args!("n{node} the ledger is lost"));
        world.truth.forget(node);
        let machine = &mut world.machines[node];
        machine.disk.clear();
        machine.forgot = true;
        machine.unsettled = true;
    }
    if !world.machines[node].unsettled {
        return Vec::new();
    }
    let found = world.truth.on(node).map(|(key, live)| FoundLease {
        key: key.clone(),
        pod: pods::pod(key),
        link: format!("eni{}", key.container),
        address: live.address,
        origin: Origin::Found,
    });
    let found: Vec<_> = found.collect();
    let machine = &mut world.machines[node];
    let disk = &machine.disk;
    let missing = |lease: &FoundLease| {
        !disk.contains_key(&Key::Lease(lease.key.clone())) && !disk.contains_key(&Key::Found(lease.address))
    };
    machine.unsettled = disk.is_empty() || found.iter().any(missing);
    found
}

/// What the kernel has, every few seconds: pods' links, and what is not ours.
async fn kernel_looks(sim: Arc<Sim>, node: usize, daemon: u64) {
    loop {
        let (handle, links, strange) = {
            let world = sim.lock();
            if !world.alive(node, daemon) {
                return;
            }
            let machine = &world.machines[node];
            (machine.handle.clone(), machine.links.clone(), machine.strange.clone())
        };
        let Some(handle) = handle else { return };
        handle.send(Event::Foreign(strange.clone()));
        handle.send(Event::Sandboxes(links));
        if handle.read(|_, _| ()).await.is_some() {
            let mut world = sim.lock();
            let used: Vec<_> = world.truth.on(node).map(|(_, live)| live.address).collect();
            let strange = strange.into_iter().filter(|address| !used.contains(address));
            let kept_off = strange.filter(|address| world.machines[node].strange.contains(address)).collect();
            world.machines[node].kept_off = kept_off;
        }
        let rest = if sim.lock().faulty { LOOK * 5 } else { LOOK * 60 };
        tokio::time::sleep(rest).await;
    }
}

/// Tells the node's facts.
async fn metadata(sim: Arc<Sim>, node: usize, daemon: u64) {
    let (late, wait) = {
        let mut guard = sim.lock();
        let world = &mut *guard;
        let late = world.faulty && world.scenario.faults.late_facts && world.fates.chance(500);
        (late, world.fates.between(Duration::ZERO..Duration::from_millis(300)))
    };
    tokio::time::sleep(wait).await;
    if late {
        tell(&sim, node, daemon, Event::FactsMissing(Refusal::CloudUnreachable { action: "metadata".to_owned() }));
        let wait = sim.lock().fates.between(Duration::ZERO..Duration::from_secs(20));
        tokio::time::sleep(wait).await;
    }
    let facts = {
        let mut world = sim.lock();
        if !world.alive(node, daemon) {
            return;
        }
        world.machines[node].network = true;
        world.machines[node].facts.clone()
    };
    tell(&sim, node, daemon, Event::Facts(facts));
    kernel::pass_after(&sim, node, daemon, Duration::ZERO);
}

/// Sends an event to this daemon, if it lives.
pub(crate) fn tell(sim: &Sim, node: usize, daemon: u64, event: Event) {
    let handle = {
        let mut world = sim.lock();
        if let Event::FactsMissing(_) = &event {
            world.reason(node, "CloudUnreachable", sim.now());
        }
        if world.alive(node, daemon) { world.machines[node].handle.clone() } else { None }
    };
    if let Some(handle) = handle {
        handle.send(event);
    }
}

/// Replays DELs that the plugin left, as long as this daemon lives.
async fn spool(sim: Arc<Sim>, node: usize, daemon: u64) {
    loop {
        let (left, handle) = {
            let world = sim.lock();
            if !world.alive(node, daemon) {
                return;
            }
            (world.machines[node].spool.clone(), world.machines[node].handle.clone())
        };
        let Some(handle) = handle else { return };
        for (key, started) in left {
            let release = handle.release(key.clone(), started);
            match Witnessed::new(Arc::clone(&sim), node, daemon, "a DEL of the spool", release).await {
                Some(Ok(_)) => {
                    let mut world = sim.lock();
                    world.say(sim.elapsed(), format_args!("n{node} replayed the DEL of {key}"));
                    world.machines[node].spool.retain(|(left, at)| (left, *at) != (&key, started));
                    world.truth.left(sim.now(), &(node, key), started, Ended::Answered);
                }
                Some(Err(_)) => break,
                None => return,
            }
        }
        // Nothing is left there at the end, and looking is all that would happen.
        let rest = if sim.lock().faulty { LOOK } else { LOOK * 10 };
        tokio::time::sleep(rest).await;
    }
}
