//! EC2 behind a network that loses things.
//!
//! Owns what becomes of each call: when it arrives, whether it is answered, and what must be true when it takes effect. A request that
//! is under way arrives, also when its daemon is dead.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use cloud::{Action, Answer, Call, Cloud, Error, Kind};
use pool::{Block, BootTime, Entry, Key, Prefix};
use tokio::sync::oneshot;

use super::{
    scenario::{ARRIVES, Faults, GIVES_UP},
    trace::Invariant,
    translate,
    world::{Sim, World},
};
use crate::Fault;

/// EC2 as one daemon reaches it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) sim: Arc<Sim>,
    pub(crate) node: usize,
    pub(crate) daemon: u64,
}

/// What becomes of a call.
#[derive(Debug)]
enum Fate {
    /// There and back, each taking this long.
    Answered(Duration, Duration),
    /// It has its effect then, and nobody hears of it.
    LostAfter(Duration),
    LostBefore,
    Unreachable,
}

impl Cloud for Wire {
    async fn call(&self, call: Call) -> Result<Answer, Error> {
        let (node, daemon, action) = (self.node, self.daemon, call.action());
        if !self.sim.step(node, daemon, format_args!("before {action}")) {
            return std::future::pending().await;
        }
        let fate = self.send(&call);
        self.sim.step(node, daemon, format_args!("after {action} was sent"));
        let answer = match fate {
            Fate::Unreachable => {
                self.sim.lock().reason(node, "CloudUnreachable", self.sim.now());
                Err(error(action, Kind::Unreachable, "no connection"))
            }
            Fate::LostBefore => self.give_up(action).await,
            Fate::LostAfter(after) => {
                drop(self.deliver(call, after, None));
                self.give_up(action).await
            }
            Fate::Answered(there, back) => {
                let answer = self.deliver(call, there, Some(back));
                match tokio::time::timeout(GIVES_UP, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => self.lost(action),
                }
            }
        };
        if !self.sim.step(node, daemon, format_args!("after {action} was answered")) {
            return std::future::pending().await;
        }
        answer
    }
}

impl Wire {
    fn send(&self, call: &Call) -> Fate {
        let mut guard = self.sim.lock();
        let world = &mut *guard;
        world.tally.calls += 1;
        world.say(self.sim.elapsed(), format_args!("n{} calls {}", self.node, told(call)));
        world.sent(self.node, call);
        let faults = if world.faulty { world.scenario.faults.clone() } else { Faults::none() };
        let luck = &mut world.fates;
        if luck.chance(faults.unreachable) {
            Fate::Unreachable
        } else if luck.chance(faults.lost_before) {
            Fate::LostBefore
        } else if luck.chance(faults.lost_after) {
            Fate::LostAfter(luck.between(faults.latency))
        } else if luck.chance(faults.hangs) {
            Fate::LostAfter(luck.between(Duration::ZERO..ARRIVES))
        } else {
            Fate::Answered(luck.between(faults.latency.clone()), luck.between(faults.latency))
        }
    }

    /// The request arrives, whatever becomes of the daemon.
    fn deliver(&self, call: Call, after: Duration, back: Option<Duration>) -> oneshot::Receiver<Result<Answer, Error>> {
        let (tell, told) = oneshot::channel();
        let (sim, node, daemon) = (Arc::clone(&self.sim), self.node, self.daemon);
        self.sim.spawn(async move {
            tokio::time::sleep(after).await;
            let action = call.action();
            let answer = sim.lock().arrive(sim.elapsed(), sim.now(), node, &call);
            sim.ec2_changed.notify_one();
            sim.step(node, daemon, format_args!("after EC2 did {action}"));
            if let Some(back) = back {
                tokio::time::sleep(back).await;
                // Whoever asked may have died.
                drop(tell.send(answer));
            }
        });
        told
    }

    async fn give_up(&self, action: Action) -> Result<Answer, Error> {
        tokio::time::sleep(GIVES_UP).await;
        self.lost(action)
    }

    fn lost(&self, action: Action) -> Result<Answer, Error> {
        let mut world = self.sim.lock();
        world.tally.lost += 1;
        world.say(self.sim.elapsed(), format_args!("n{} {action} got no answer", self.node));
        world.reason(self.node, "CloudUnreachable", self.sim.now());
        Err(error(action, Kind::Uncertain, "no answer"))
    }
}

impl World {
    /// What must be true when a call leaves.
    fn sent(&mut self, node: usize, call: &Call) {
        let intents = self.machines[node].disk.values();
        let written = intents.into_iter().any(|entry| matches!(entry, Entry::Intent(intent) if intent.call == *call));
        if !call.is_read() && !written {
            self.broken(Invariant::Intent, format!("{} is asked and not in the ledger", told(call)));
        }
        if let Call::CreateEni { token, .. } = call {
            let arguments = format!("{call:?}");
            if self.tokens.entry(token.to_string()).or_insert_with(|| arguments.clone()) != &arguments {
                self.broken(Invariant::Token, format!("{token} is used again for {arguments}"));
            }
        }
    }

    /// EC2 does what is asked, or says no.
    fn arrive(&mut self, at: Duration, now: BootTime, node: usize, call: &Call) -> Result<Answer, Error> {
        self.vpc.settle(at);
        self.events += 1;
        let action = call.action();
        let answer = if let Some(fault) = self.trouble(at, action) {
            translate::refusal(call, &fault)
        } else {
            let oldest = if self.faulty { self.scenario.faults.stale } else { Duration::ZERO };
            self.vpc.lag_next_read(self.fates.between(Duration::ZERO..oldest));
            self.takes_away(now, node, call);
            match self.vpc.ec2(at, &mut self.ids.0, translate::request(call)) {
                Ok(response) => Ok(self.omit(at, node, translate::answer(call, response))),
                Err(fault) => self.honest(node, call, translate::refusal(call, &fault)),
            }
        };
        // What a subnet does not have is tried again, slower and slower: that is no unrest.
        let lacks = matches!(&answer, Err(error) if matches!(error.kind, Kind::NoFreePrefix | Kind::NoFreeAddresses));
        if !lacks && !matches!(call, Call::Leaked { .. } | Call::Subnets { .. } | Call::Instances { .. }) {
            *self.machines[node].asked.entry(action.name()).or_default() += 1;
        }
        match &answer {
            Ok(answer) => self.say(at, format_args!("   EC2 did {action} for n{node}: {}", answered(answer))),
            Err(error) => {
                self.say(at, format_args!("   EC2 says {} {} to {action} of n{node}", error.code, error.message));
                self.blame(node, now, error);
            }
        }
        answer
    }

    /// Leaves an ENI out of what a read shows, for a while.
    fn omit(&mut self, at: Duration, node: usize, answer: Answer) -> Answer {
        const LONGEST: Duration = Duration::from_secs(60);
        let of = self.scenario.faults.omits;
        if !self.faulty || of == 0 || !matches!(answer, Answer::Described(_) | Answer::Discovered(_)) {
            return answer;
        }
        if self.omitted.as_ref().is_none_or(|(_, until)| *until < at) && self.fates.chance(of) {
            // One that the daemon knows well.
            let attached: Vec<String> = self.machines[node].carried.iter().cloned().collect();
            let until = at + self.fates.between(Duration::ZERO..LONGEST);
            self.omitted = (!attached.is_empty()).then(|| (self.fates.one_of(&attached).clone(), until));
        }
        let Some((omitted, _)) = self.omitted.clone().filter(|(_, until)| at <= *until) else { return answer };
        match answer {
            Answer::Described(seen) => Answer::Described(seen.filter(|eni| eni.id.as_str() != omitted)),
            Answer::Discovered(mut seen) => {
                seen.retain(|eni| eni.id.as_str() != omitted);
                Answer::Discovered(seen)
            }
            other => other,
        }
    }

    /// EC2 itself said no, to a call that should have been right.
    fn honest(&mut self, node: usize, call: &Call, answer: Result<Answer, Error>) -> Result<Answer, Error> {
        let Err(error) = &answer else { return answer };
        let limit = matches!(error.kind, Kind::InstanceEniLimit | Kind::AddressLimit);
        self.machines[node].denials += 1;
        if limit && !self.meddled && !self.machines[node].forgot && self.scenario.faults.settles() {
            self.broken(Invariant::Limits, format!("{} to {} of n{node}", error.message, told(call)));
        }
        if error.kind == Kind::TokenMismatch {
            self.broken(Invariant::Token, format!("{} to {}", error.message, told(call)));
        }
        answer
    }

    /// EC2 has a bad moment.
    fn trouble(&mut self, at: Duration, action: Action) -> Option<Fault> {
        if !self.faulty {
            return None;
        }
        if let Some((size, per_second)) = self.scenario.faults.throttle {
            let (left, since) = self.buckets.entry(action.name()).or_insert((size, at));
            *left = (*left + at.saturating_sub(*since).as_secs_f64() * per_second).min(size);
            *since = at;
            if *left < 1.0 {
                return Some(Fault::throttled());
            }
            *left -= 1.0;
        }
        if self.fates.chance(self.scenario.faults.refused) {
            let refusals = [
                ("RequestLimitExceeded", "Request limit exceeded."),
                ("UnauthorizedOperation", "You are not authorized to perform this operation."),
                ("InternalError", "An internal error has occurred"),
                ("SomethingNewNextYear", ""),
                ("RequestExpired", "Request has expired."),
            ];
            let (code, message) = *self.fates.one_of(&refusals);
            return Some(Fault::new(code, message));
        }
        None
    }

    /// Nothing that is taken away is in use, and the kernel has let go of it.
    fn takes_away(&mut self, now: BootTime, node: usize, call: &Call) {
        let Some(eni) = call.eni() else { return };
        if !call.is_read() && self.foreign.iter().any(|foreign| foreign == eni.as_str()) {
            self.broken(Invariant::NotOurs, format!("{} of n{node}, which others keep from us", told(call)));
        }
        if matches!(call, Call::Detach { .. } | Call::Delete { .. }) && !self.is_ours(node, eni.as_str()) {
            self.broken(Invariant::NotOurs, format!("{} of n{node}", told(call)));
        }
        let holding = self.holding(eni.as_str());
        let blocks: Vec<Block> = match call {
            Call::Unassign { addresses, prefixes, .. } => {
                let addresses = addresses.iter().copied().map(Block::Address);
                let blocks = addresses.chain(prefixes.iter().copied().map(Block::Prefix));
                blocks.filter(|block| holding.contains(block)).collect()
            }
            Call::Detach { .. } | Call::Delete { .. } => holding,
            _ => return,
        };
        let cooling = self.machines[node].policy.cooling;
        for block in blocks {
            if self.machines[node].routes.contains(&block) {
                self.broken(Invariant::Withdrawn, format!("{} takes {block}, which is still routed", told(call)));
            }
            let used = self.truth.used(now, cooling, |address| covers(block, address));
            if let Some((address, user)) = used {
                self.broken(Invariant::NotUnderAPod, format!("{} takes {address}: {user}", told(call)));
            }
            let leased = self.leases(node).find_map(|lease| {
                let mut held = lease.attachments.iter().flat_map(|attachment| &attachment.addresses);
                held.find(|address| covers(block, **address)).map(|address| (*address, lease.key.clone()))
            });
            if let Some((address, key)) = leased {
                self.broken(Invariant::NotUnderAPod, format!("{} takes {address}, leased to {key}", told(call)));
            }
        }
    }

    /// Made by this node: both the description and the tag say so.
    fn is_ours(&self, node: usize, eni: &str) -> bool {
        let instance = self.machines[node].instance.as_str();
        self.vpc.enis.get(eni).is_none_or(|eni| {
            eni.description == format!("aws-K8S-{instance}")
                && eni.tags.get("node.k8s.amazonaws.com/instance_id").is_some_and(|owner| owner == instance)
        })
    }

    /// What EC2 has on an ENI for pods.
    pub(crate) fn holding(&self, eni: &str) -> Vec<Block> {
        let Some(eni) = self.vpc.enis.get(eni) else { return Vec::new() };
        let addresses = eni.holding.addresses.iter().skip(1).copied().map(Block::Address);
        let prefixes = eni.holding.prefixes.iter().filter_map(|net| Prefix::new(net.network())).map(Block::Prefix);
        addresses.chain(prefixes).collect()
    }

    fn blame(&mut self, node: usize, now: BootTime, error: &Error) {
        let reason = match error.kind {
            Kind::Throttled => "Throttled",
            Kind::NoFreeAddresses => "SubnetExhausted",
            Kind::NoFreePrefix => "PrefixFragmented",
            Kind::InstanceEniLimit => "EniLimit",
            Kind::AccountEniQuota => "AccountQuota",
            Kind::AddressLimit => "AddressLimit",
            Kind::Denied => "Denied",
            Kind::Unreachable | Kind::Uncertain => "CloudUnreachable",
            _ => "CloudError",
        };
        self.reason(node, reason, now);
    }

    /// Entries of a node's ledger that are leases.
    pub(crate) fn leases(&self, node: usize) -> impl Iterator<Item = &pool::Lease> {
        self.machines[node].disk.iter().filter_map(|(key, entry)| match (key, entry) {
            (Key::Lease(_), Entry::Lease(lease)) => Some(lease),
            _ => None,
        })
    }
}

/// Is this address part of it.
pub(crate) fn covers(block: Block, address: Ipv4Addr) -> bool {
    match block {
        Block::Address(own) => own == address,
        Block::Prefix(prefix) => prefix.contains(address),
    }
}

fn error(action: Action, kind: Kind, message: &str) -> Error {
    Error { action, kind, code: String::new(), message: message.to_owned() }
}

/// A call for the trace.
pub(crate) fn told(call: &Call) -> String {
    match call {
        Call::CreateEni { token, ask, .. } => format!("CreateEni {ask} {}", &token.as_str()[..8]),
        Call::Assign { eni, ask } => format!("Assign {ask} to {eni}"),
        Call::Unassign { eni, addresses, prefixes } => format!("Unassign {addresses:?} {prefixes:?} from {eni}"),
        other => match other.eni() {
            Some(eni) => format!("{} {eni}", other.action()),
            None => other.action().to_string(),
        },
    }
}

fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Created(seen) => format!("{} with {:?} {:?}", seen.id, seen.secondary, seen.prefixes),
        Answer::Assigned { addresses, prefixes } => format!("{addresses:?} {prefixes:?}"),
        Answer::Attached(attachment) => attachment.to_string(),
        Answer::Described(Some(seen)) => {
            let at = seen.attachment.as_ref().map(|at| (at.device.0, at.attached));
            format!("{at:?} {:?} {:?}", seen.secondary, seen.prefixes)
        }
        Answer::Described(None) => "no such ENI".to_owned(),
        Answer::Discovered(seen) => seen.iter().map(|eni| eni.id.as_str()).collect::<Vec<_>>().join(" "),
        _ => "done".to_owned(),
    }
}
