//! A look at a daemon's state after whatever it did.
//!
//! Owns what must hold between the state, the ledger and the truth. Never changes any of them.

use std::sync::Arc;

use pool::{Entry, Key, State};

use super::{
    trace::{Invariant, Violation},
    world::{Sim, World},
};

/// Looks whenever something was done. Never ends.
pub(crate) async fn watch(sim: Arc<Sim>, node: usize) {
    loop {
        sim.changed[node].notified().await;
        let Some((handle, daemon)) = super::pods::daemon(&sim, node) else { continue };
        let own = Arc::clone(&sim);
        handle
            .read(move |state, _| {
                let mut world = own.lock();
                if world.alive(node, daemon) {
                    let checked = world.look(node, state);
                    world.holds(checked);
                    if world.violation.is_some() {
                        own.over.notify_one();
                    }
                }
            })
            .await;
    }
}

impl World {
    fn look(&self, node: usize, state: &State) -> Result<(), Violation> {
        let broken = |invariant, what: String| Err(Violation { invariant, what });
        if let Some(wrong) = state.check().into_iter().next() {
            return broken(Invariant::Consistent, wrong);
        }
        let disk = &self.machines[node].disk;
        for lease in state.leases() {
            if !matches!(disk.get(&Key::Lease(lease.key.clone())), Some(Entry::Lease(kept)) if kept == lease) {
                return broken(Invariant::Ledger, format!("the lease of {} is not what the ledger has", lease.key));
            }
        }
        let kept = self.leases(node).count();
        if kept != state.leases().count() {
            return broken(
                Invariant::Ledger,
                format!("the ledger has {kept} leases, the state {}", state.leases().count()),
            );
        }
        for intent in state.intents() {
            if !matches!(disk.get(&Key::Intent(intent.id)), Some(Entry::Intent(kept)) if kept.call == intent.call) {
                return broken(Invariant::Ledger, format!("the intent {intent:?} is not in the ledger"));
            }
        }
        for (key, live) in self.truth.on(node).filter(|_| state.facts().is_some()) {
            let lease = state.lease(key);
            // Found in the kernel, and EC2 has not confirmed the address yet.
            let found = self.machines[node].unsettled || disk.contains_key(&Key::Found(live.address));
            if lease.is_none() && found {
                continue;
            }
            let holds = lease.is_some_and(|lease| {
                lease.attachments.iter().any(|attachment| attachment.addresses.contains(&live.address))
            });
            if !holds {
                return broken(Invariant::Kept, format!("{key} was told {} and has {lease:?}", live.address));
            }
        }
        let (waiting, available) = (state.waiting(), state.available());
        if waiting > 0 && available > 0 {
            return broken(Invariant::Available, format!("{available} available, and {waiting} wait"));
        }
        self.limits(node, state)
    }

    /// What EC2 has and what is asked for stay below what the type and the settings allow.
    fn limits(&self, node: usize, state: &State) -> Result<(), Violation> {
        let machine = &self.machines[node];
        // Of what it made before it lost its ledger it may know nothing.
        let Some(most) = machine.policy.max_eni.filter(|_| !machine.forgot) else { return Ok(()) };
        let instance = machine.instance.as_str();
        let owned = self.vpc.enis.iter().filter(|(id, eni)| {
            !self.foreign.contains(id)
                && eni.attachment.as_ref().map_or_else(
                    || eni.tags.get("node.k8s.amazonaws.com/instance_id").is_some_and(|owner| owner == instance),
                    |at| at.instance == instance,
                )
        });
        let owned = owned.count();
        // One that was just detached is no more: it goes.
        let going = state.enis().filter(|eni| eni.record.state == pool::EniState::Leaving).count();
        if owned.saturating_sub(going) > usize::try_from(most).unwrap_or(usize::MAX).max(1) {
            let what = format!("{owned} ENIs, {going} of them going, and MAX_ENI is {most}");
            return Err(Violation { invariant: Invariant::Limits, what });
        }
        Ok(())
    }
}
