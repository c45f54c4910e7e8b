//! Sandboxes, as a runtime and its plugin make and delete them.
//!
//! Owns what a plugin asks and what it believes. Never looks into the daemon.

use std::{sync::Arc, time::Duration};

use node::{Allocation, Handle};
use pool::{BootTime, LeaseKey, Path, Pod, Refusal};

use super::{
    ec2::covers,
    trace::Invariant,
    truth::{Ended, Live},
    witness::Witnessed,
    world::{Sim, World},
};

/// How an ADD ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The sandbox has its address.
    Served,
    Refused(Refusal),
    /// No daemon, or it died.
    Unanswered,
}

/// A plugin answers this long after its deadline at the latest.
const GRACE: Duration = Duration::from_secs(1);

/// A sandbox interface's name by its number.
pub(crate) fn key(number: u64) -> LeaseKey {
    LeaseKey { container: format!("c{number}"), ifname: "eth0".to_owned() }
}

/// The pod of a sandbox.
pub(crate) fn pod(key: &LeaseKey) -> Pod {
    Pod { namespace: "default".to_owned(), name: key.container.clone(), uid: String::new() }
}

/// One ADD, by a plugin that starts now and reaches the daemon after a while.
pub(crate) async fn add(sim: Arc<Sim>, node: usize, key: LeaseKey, wait: Duration, patience: Duration) -> Outcome {
    let started = sim.now();
    sim.lock().adding += 1;
    tokio::time::sleep(wait).await;
    let outcome = ask(&sim, node, &key, started, patience).await;
    let mut world = sim.lock();
    world.adding -= 1;
    match &outcome {
        Outcome::Served => world.tally.served += 1,
        Outcome::Refused(_) | Outcome::Unanswered => world.tally.refused += 1,
    }
    outcome
}

async fn ask(sim: &Arc<Sim>, node: usize, key: &LeaseKey, started: BootTime, patience: Duration) -> Outcome {
    let Some((handle, daemon)) = daemon(sim, node) else {
        sim.say(format_args!("n{node} ADD {key}: no daemon"));
        return Outcome::Unanswered;
    };
    sim.say(format_args!("n{node} ADD {key}, started at {started}"));
    let deadline = started.after(patience);
    let allocation = Allocation {
        key: key.clone(),
        pod: pod(key),
        link: format!("eni{}", key.container),
        netns: format!("/run/netns/{}", key.container),
        started,
        deadline,
    };
    let request = Witnessed::new(Arc::clone(sim), node, daemon, "an ADD", handle.allocate(allocation));
    let left = deadline.after(GRACE).since(sim.now());
    let answer = tokio::time::timeout(left, request).await;
    let now = sim.now();
    let mut guard = sim.lock();
    let world = &mut *guard;
    match answer {
        Err(_) => {
            if world.alive(node, daemon) {
                world.broken(Invariant::Answered, format!("{key} has no answer at {now}, its deadline was {deadline}"));
            }
            Outcome::Unanswered
        }
        Ok(None) => Outcome::Unanswered,
        Ok(Some(Err(refusal))) => {
            world.say(sim.elapsed(), format_args!("n{node} refused {key}: {} {refusal}", refusal.name()));
            world.believable(now, node, key, started, &refusal);
            Outcome::Refused(refusal)
        }
        Ok(Some(Ok(lease))) => {
            let Some(attachment) = lease.attachments.first() else { return Outcome::Unanswered };
            let (Path::Pooled { eni, slot }, Some(address)) = (&attachment.path, attachment.addresses.first()) else {
                return Outcome::Unanswered;
            };
            world.say(sim.elapsed(), format_args!("n{node} served {key}: {address} on {eni}"));
            let told = Live { address: *address, eni: eni.clone(), slot: *slot, started: lease.started };
            world.told(now, node, key, told, started);
            Outcome::Served
        }
    }
}

/// One DEL, by a plugin that starts now. It always succeeds: what no daemon hears is left in the spool.
pub(crate) async fn del(sim: Arc<Sim>, node: usize, key: LeaseKey, wait: Duration) {
    let started = sim.now();
    let holder = (node, key.clone());
    {
        let mut world = sim.lock();
        world.truth.leaves(&holder, started);
        world.machines[node].links.remove(&key);
        world.tally.released += 1;
    }
    tokio::time::sleep(wait).await;
    let mut ended = Ended::Spooled;
    if let Some((handle, daemon)) = daemon(&sim, node) {
        sim.say(format_args!("n{node} DEL {key}, started at {started}"));
        let release = Witnessed::new(Arc::clone(&sim), node, daemon, "a DEL", handle.release(key.clone(), started));
        let answer = tokio::time::timeout(Duration::from_secs(5), release).await;
        let mut world = sim.lock();
        match answer {
            Ok(Some(Ok(lease))) => {
                ended = Ended::Answered;
                if let Some(lease) = lease.filter(|lease| lease.started > started) {
                    let what =
                        format!("the DEL of {key} started at {started} and freed the lease of {}", lease.started);
                    world.broken(Invariant::LaterLease, what);
                }
            }
            Err(_) if world.alive(node, daemon) => {
                world.broken(Invariant::Answered, format!("the DEL of {key} has no answer"));
            }
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
    let mut world = sim.lock();
    world.truth.left(sim.now(), &holder, started, ended);
    if ended == Ended::Spooled {
        world.say(sim.elapsed(), format_args!("n{node} the DEL of {key} is in the spool"));
        world.machines[node].spool.push((key, started));
    }
}

/// The daemon of a node, if there is one.
pub(crate) fn daemon(sim: &Sim, node: usize) -> Option<(Handle, u64)> {
    let world = sim.lock();
    let machine = &world.machines[node];
    Some((machine.handle.clone()?, machine.daemon))
}

impl World {
    /// A sandbox was told an address.
    fn told(&mut self, now: BootTime, node: usize, key: &LeaseKey, told: Live, started: BootTime) {
        let holder = (node, key.clone());
        let address = told.address;
        let instance = self.machines[node].instance.as_str();
        let attached = self.vpc.enis.get(told.eni.as_str()).and_then(|eni| eni.attachment.as_ref());
        let ours = attached.is_some_and(|at| at.instance == instance)
            && self.holding(told.eni.as_str()).into_iter().any(|block| covers(block, address));
        if !ours {
            let what = format!("{key} gets {address}, which EC2 does not have on {} of its node", told.eni);
            self.broken(Invariant::AddressIsOurs, what);
        }
        if !self.devices(node).contains(told.eni.as_str()) {
            self.broken(
                Invariant::Kernel,
                format!("{key} gets {address} on {}, whose link is not in the node", told.eni),
            );
        }
        let policy = &self.machines[node].policy;
        let cooling = (!policy.early_reuse).then_some(policy.cooling);
        let live = Live { started, ..told };
        let checked = self.truth.told(now, &holder, live, cooling);
        self.holds(checked);
        if self.machines[node].kept_off.contains(&address) {
            self.broken(Invariant::KeptOff, format!("{key} gets {address}, which something else uses"));
        }
        if self.truth.live(&holder).is_some() {
            self.machines[node].links.insert(key.clone());
        }
    }

    /// A refusal's reason is true.
    fn believable(&mut self, now: BootTime, node: usize, key: &LeaseKey, started: BootTime, refusal: &Refusal) {
        /// Pauses grow to 5 minutes and half of that.
        const LONGEST: Duration = Duration::from_mins(8);
        let machine = &self.machines[node];
        // DescribeSubnets says it, too.
        let empty = self.vpc.subnets.values().any(|subnet| subnet.book.free() <= 1);
        let said = |name: &str| machine.reasons.get(name).is_some_and(|at| now.since(*at) <= LONGEST);
        let true_enough = match refusal {
            Refusal::WarmingUp | Refusal::Verifying => true,
            Refusal::SubnetExhausted { .. } if empty => true,
            Refusal::PrefixFragmented { .. } if said("SubnetExhausted") => true,
            Refusal::SubnetExhausted { .. }
            | Refusal::PrefixFragmented { .. }
            | Refusal::AddressLimit
            | Refusal::AccountQuota
            | Refusal::Throttled { .. }
            | Refusal::Denied { .. }
            | Refusal::CloudError { .. }
            | Refusal::CloudUnreachable { .. } => said(refusal.name()),
            Refusal::EniLimit { limit } => *limit == machine.limits().enis || machine.reasons.contains_key("EniLimit"),
            Refusal::CoolingDown { .. } => machine.disk.values().any(
                |entry| matches!(entry, pool::Entry::Address(_, _, pool::Address::Cooling { until }) if *until > now),
            ),
            Refusal::PolicyCap { .. } => machine.policy.max_eni.is_some() || machine.policy.max_pods.is_some(),
            Refusal::Stopping => machine.stopping,
            Refusal::SandboxGone => self.truth.deleted(&(node, key.clone())).is_some_and(|deleted| deleted >= started),
            Refusal::LedgerUnavailable { .. } => machine.was_full.is_some_and(|full| now.since(full) <= LONGEST),
            _ => false,
        };
        if !true_enough {
            self.broken(Invariant::Reason, format!("{key} is refused with {refusal:?}"));
        }
    }
}
