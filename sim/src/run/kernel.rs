//! A simulated node's kernel: links that come after their device, `unreachable` routes, and the worker that keeps both.
//!
//! Owns what the daemon may do to it: never anything of a running pod. Routes outlive the daemon; what it knows of links does not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use node::Host;
use pool::{Block, Event, WantedEni};

use super::{
    ec2::covers,
    trace::Invariant,
    world::{Sim, World},
};

/// The kernel as one daemon reaches it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) sim: Arc<Sim>,
    pub(crate) node: usize,
    pub(crate) daemon: u64,
}

/// A pass over the kernel begins within this time.
const SOON: Duration = Duration::from_millis(20);

impl Host for Worker {
    fn withdraw(&mut self, blocks: &[Block]) {
        if !self.sim.step(self.node, self.daemon, format_args!("before withdrawing routes")) {
            return;
        }
        self.sim.lock().withdraw(self.node, blocks);
        self.sim.step(self.node, self.daemon, format_args!("after withdrawing routes"));
    }

    fn reconcile(&mut self, wanted: Vec<WantedEni>) {
        if !self.sim.step(self.node, self.daemon, format_args!("before the kernel is told")) {
            return;
        }
        let wait = {
            let mut guard = self.sim.lock();
            let world = &mut *guard;
            world.want(self.node, wanted);
            // Now and then the worker has to try again.
            let late = if world.fates.chance(100) { SOON * 100 } else { SOON };
            world.fates.between(Duration::ZERO..late)
        };
        pass_after(&self.sim, self.node, self.daemon, wait);
        self.sim.step(self.node, self.daemon, format_args!("after the kernel was told"));
    }
}

/// A pass over the kernel, after a while.
pub(crate) fn pass_after(sim: &Arc<Sim>, node: usize, daemon: u64, wait: Duration) {
    let own = Arc::clone(sim);
    sim.spawn(async move {
        tokio::time::sleep(wait).await;
        let (told, handle) = {
            let mut world = own.lock();
            if !world.alive(node, daemon) {
                return;
            }
            (world.pass(own.elapsed(), node), world.machines[node].handle.clone())
        };
        if let Some(handle) = handle {
            for event in told {
                handle.send(event);
            }
        }
    });
}

/// Lets EC2's transitions happen when they are due, and has the daemons notice links that come and go. Never ends.
pub(crate) async fn watch(sim: Arc<Sim>) {
    let nodes = sim.lock().machines.len();
    let mut known = vec![BTreeSet::new(); nodes];
    loop {
        let (mut looks, next) = (Vec::new(), {
            let mut world = sim.lock();
            world.vpc.settle(sim.elapsed());
            world.vpc.next_transition()
        });
        for (node, known) in known.iter_mut().enumerate() {
            let mut world = sim.lock();
            let devices = world.devices(node);
            if devices != *known {
                *known = devices;
                looks.push((node, world.machines[node].daemon, world.fates.between(Duration::ZERO..SOON)));
            }
        }
        for (node, daemon, wait) in looks {
            pass_after(&sim, node, daemon, wait);
        }
        let wait = next.map_or(Duration::from_hours(1), |at| at.saturating_sub(sim.elapsed()));
        tokio::select! {
            biased;
            () = sim.ec2_changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl World {
    /// ENIs whose devices are in the node.
    pub(crate) fn devices(&self, node: usize) -> BTreeSet<String> {
        let instance = self.machines[node].instance.as_str();
        let ours = |(id, eni): (&String, &crate::enis::Eni)| {
            let plugged = eni.attachment.as_ref().is_some_and(|at| at.instance == instance && at.plugged);
            plugged.then(|| id.clone())
        };
        self.vpc.enis.iter().filter_map(ours).collect()
    }

    fn withdraw(&mut self, node: usize, blocks: &[Block]) {
        for block in blocks {
            let machine = &mut self.machines[node];
            machine.routes.remove(block);
            for eni in &mut machine.wanted {
                eni.addresses.retain(|wanted| *block != Block::Address(*wanted));
                eni.prefixes.retain(|wanted| *block != Block::Prefix(*wanted));
            }
            let mut on = self.truth.on(node);
            let owner = on.find(|(_, live)| covers(*block, live.address)).map(|(key, _)| key.clone());
            drop(on);
            if let Some(key) = owner {
                self.broken(Invariant::Kernel, format!("{block} is withdrawn, and {key} has it"));
            }
        }
    }

    fn want(&mut self, node: usize, wanted: Vec<WantedEni>) {
        // Without its ledger a daemon knows of no ENI at first, and leaves the kernel alone until it knows the primary one.
        let forgot = self.machines[node].forgot;
        let same = |live: &super::truth::Live| {
            wanted.iter().any(|eni| eni.eni == live.eni && (forgot || eni.slot == live.slot))
        };
        let lost = self
            .truth
            .on(node)
            .filter(|_| !forgot || wanted.iter().any(|eni| eni.device.0 == 0))
            .find(|(_, live)| !same(live))
            .map(|(key, live)| {
                format!("{key} has {} on {}, which the kernel shall not carry as before", live.address, live.eni)
            });
        if let Some(what) = lost {
            self.broken(Invariant::Kernel, what);
        }
        let machine = &mut self.machines[node];
        machine.wanted = wanted;
        machine.announce = true;
    }

    /// Brings the kernel to what is wanted and tells which ENIs it carries.
    fn pass(&mut self, at: Duration, node: usize) -> Vec<Event> {
        self.vpc.settle(at);
        let devices = self.devices(node);
        let machine = &mut self.machines[node];
        let mut told = Vec::new();
        let carried: BTreeSet<String> = if machine.network {
            let there = |eni: &&WantedEni| devices.contains(eni.eni.as_str());
            machine.wanted.iter().filter(there).map(|eni| eni.eni.to_string()).collect()
        } else {
            machine
                .carried
                .iter()
                .filter(|id| machine.wanted.iter().any(|eni| eni.eni.as_str() == *id))
                .cloned()
                .collect()
        };
        for gone in machine.carried.difference(&carried) {
            told.push(Event::LinkGone(gone.as_str().into()));
        }
        if machine.network {
            for id in &carried {
                if machine.announce || !machine.carried.contains(id) {
                    told.push(Event::LinkReady(id.as_str().into()));
                }
            }
            machine.announce = false;
            machine.routes =
                machine.wanted.iter().filter(|eni| carried.contains(eni.eni.as_str())).flat_map(blocks).collect();
        }
        machine.carried = carried;
        told
    }
}

/// What the kernel has a route for.
fn blocks(eni: &WantedEni) -> impl Iterator<Item = Block> {
    let addresses = eni.addresses.iter().copied().map(Block::Address);
    addresses.chain(eni.prefixes.iter().copied().map(Block::Prefix))
}
