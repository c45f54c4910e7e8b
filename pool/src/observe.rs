//! What reading EC2 shows, and what may be concluded from it.
//!
//! Owns when EC2 is read, and what becomes of calls and ENIs by what it shows. Presence is evidence; absence in one read never is: reads
//! are stale for seconds to minutes. A lease is a veto, whatever any read says, and so is a link in the kernel.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Action, Address, Answer, Ask, Attached, Block, BootTime, Call, Effect, Eni, EniId, EniState, Fault, Key, Kind,
    News, Now, PrefixState, Refusal, SeenEni, State,
    answer::blocks,
    pause::{Scope, TRANSITION},
    state::DEPARTED,
};

/// Two reads without a thing must be this far apart,
pub(crate) const APART: Duration = Duration::from_secs(5);
/// and the second this long after the call, before the thing counts as not being there.
pub(crate) const SETTLED: Duration = Duration::from_secs(15);
/// Why an ENI is quarantined.
const NOT_SHOWN: &str = "EC2 does not show this ENI, but the node has its link or pods on it";

impl State {
    /// Asks EC2 for what is in doubt.
    pub(crate) fn plan_reads(&mut self, now: Now) {
        let Some(instance) = self.facts.as_ref().map(|facts| facts.instance.clone()) else { return };
        let (action, urgency) = (Action::DescribeNetworkInterfaces, self.growing_for());
        let discovering = self.reads.values().any(|read| matches!(read, Call::Discover { .. }));
        if !self.discovered && !discovering && self.may_call(now.at, action, urgency) {
            self.call(now.at, Call::Discover { instance });
        }
        for eni in self.due_reads(now.at) {
            if !self.may_call(now.at, action, urgency) {
                return;
            }
            if self.read_again.get(&eni).is_some_and(|at| *at <= now.at) {
                self.read_again.remove(&eni);
            }
            self.call(now.at, Call::Describe { eni });
        }
    }

    fn due_reads(&self, now: BootTime) -> Vec<EniId> {
        let mut due: Vec<EniId> = self
            .read_times()
            .filter(|(_, at)| *at <= now)
            .map(|(eni, _)| eni)
            .filter(|eni| !self.reads.values().any(|read| read.eni() == Some(eni)))
            .collect();
        due.sort();
        due.dedup();
        due
    }

    /// When the next read of something in doubt is due.
    pub(crate) fn next_reads(&self) -> impl Iterator<Item = BootTime> {
        self.read_times().map(|(_, at)| at)
    }

    fn read_times(&self) -> impl Iterator<Item = (EniId, BootTime)> {
        let doubts = self.intents.values().filter(|intent| !intent.is_repeated()).filter_map(|intent| {
            let eni = intent.call.eni()?;
            intent.doubt.as_ref().and_then(|doubt| doubt.next).map(|next| (eni.clone(), next))
        });
        let suspects = self
            .suspects
            .iter()
            .map(|(eni, absent)| (eni.clone(), absent.map_or(BootTime::default(), |absent| absent.after(SETTLED))));
        let doubtful = self.enis.values().filter(|eni| eni.tally().unverified > 0);
        let blocks = doubtful.flat_map(|eni| {
            let id = &eni.record.id;
            let at = |absent: &Option<BootTime>, wait| absent.map_or(BootTime::default(), |absent| absent.after(wait));
            let singles = eni.addresses.singles().filter_map(move |(address, held)| match held {
                Address::Unverified { absent } => Some((Block::Address(address), at(absent, SETTLED))),
                _ => None,
            });
            let prefixes = eni.addresses.prefixes().filter_map(move |(prefix, held)| match held.state() {
                // A lease is a veto: what EC2 does not show is looked at again now and then.
                PrefixState::Unverified { absent } if held.is_used() => {
                    Some((Block::Prefix(prefix), at(&absent, DEPARTED)))
                }
                PrefixState::Unverified { absent } => Some((Block::Prefix(prefix), at(&absent, SETTLED))),
                PrefixState::Usable { .. } => None,
            });
            singles.chain(prefixes).filter(|(block, _)| !self.leaving(id, *block)).map(|(_, at)| (id.clone(), at))
        });
        let again = self.read_again.iter().map(|(eni, at)| (eni.clone(), *at));
        doubts.chain(suspects).chain(blocks).chain(again)
    }

    /// An open call gives this back, or its ENI goes.
    pub(crate) fn leaving(&self, id: &EniId, block: Block) -> bool {
        let gone = self
            .enis
            .get(id)
            .is_none_or(|eni| matches!(eni.record.state, EniState::Draining | EniState::Detaching | EniState::Leaving));
        gone || self.intents.values().any(|intent| match &intent.call {
            Call::Unassign { eni, addresses, prefixes } => {
                eni == id
                    && match block {
                        Block::Address(address) => addresses.contains(&address),
                        Block::Prefix(prefix) => prefixes.contains(&prefix),
                    }
            }
            _ => false,
        })
    }

    /// A read came back.
    pub(crate) fn read(&mut self, moment: Now, read: &Call, answer: Answer) {
        let now = moment.at;
        match (read, answer) {
            (Call::Discover { .. }, Answer::Discovered(seen)) => {
                self.discovered = true;
                self.discovered_at = now;
                let missing: Vec<_> = self
                    .enis
                    .values()
                    .filter(|eni| eni.attached() && !seen.iter().any(|seen| seen.id == eni.record.id))
                    .map(|eni| eni.record.id.clone())
                    .collect();
                for eni in missing {
                    self.suspects.entry(eni).or_default();
                }
                for seen in seen {
                    self.observe(moment, seen);
                }
                // There is no instance without one: a list that leaves it out is looked behind.
                let primary = self.facts.as_ref().map(|facts| facts.primary.clone());
                if let Some(primary) = primary.filter(|primary| !self.enis.contains_key(primary)) {
                    self.suspects.entry(primary).or_default();
                }
                let attached = self.enis.values().filter(|eni| eni.attached()).count();
                if self.learnt_enis.is_some_and(|learnt| learnt < crate::numbers::count(attached)) {
                    // What EC2 refused was for others' sake.
                    self.learnt_enis = None;
                }
            }
            (Call::Describe { .. }, Answer::Described(Some(seen))) => self.observe(moment, seen),
            (Call::Describe { eni }, Answer::Described(None)) => self.missed(now, &eni.clone(), Shown::Nothing),
            (Call::Subnets { .. }, Answer::Subnets(seen)) => self.read_subnets(now, seen),
            (Call::Leaked { .. }, Answer::Leaked(seen)) => self.read_leaked(moment, seen),
            (Call::Instances { instances }, Answer::Instances(there)) => self.read_instances(now, instances, &there),
            (read, _) => {
                let fault =
                    Fault { kind: Kind::Uncertain, code: "unfitting answer".to_owned(), message: String::new() };
                self.pause_action(moment, read.action(), &fault);
            }
        }
    }

    fn observe(&mut self, moment: Now, seen: SeenEni) {
        let now = moment.at;
        let id = seen.id.clone();
        let ours = self.our_attachment(&seen);
        match (self.enis.contains_key(&id), ours.is_some()) {
            (false, true) => return self.adopt(now, seen),
            (false, false) => return,
            (true, true) => {
                self.suspects.remove(&id);
                let unseen = EniState::Quarantined(NOT_SHOWN.to_owned());
                if self.enis.get(&id).is_some_and(|eni| eni.record.state == unseen) {
                    self.effect(Effect::Say(News::EniTrusted(id.clone())));
                }
                self.set_state(&id, unseen, EniState::AttachedUnprotected);
            }
            // It exists and is not attached to us: for an ENI that we believe attached that is a read without it.
            (true, false) => {
                if self.enis.get(&id).is_some_and(Eni::attached) {
                    self.missed(now, &id, Shown::Detached);
                } else {
                    self.suspects.remove(&id);
                }
            }
        }
        if let Some(attachment) = &ours
            && let Some(eni) = self.enis.get_mut(&id)
            && attachment.attached
        {
            let known = Attached { id: attachment.id.clone(), device: attachment.device, card: attachment.card };
            if eni.record.attachment.is_none() && matches!(eni.record.state, EniState::Attaching | EniState::Detached) {
                eni.record.attachment = Some(known);
                eni.record.state =
                    if attachment.delete_on_termination { EniState::Ready } else { EniState::AttachedUnprotected };
                let slot = self.free_slot();
                if let Some(eni) = self.enis.get_mut(&id) {
                    eni.record.slot = eni.record.slot.or(slot);
                }
                self.touch(Key::Eni(id.clone()));
            }
        }
        self.settle_doubts(moment, &id, &seen, ours.is_some());
        self.compare_blocks(now, &id, &seen);
    }

    /// Calls whose answer was lost: the effect shows, or it has not shown for long enough.
    fn settle_doubts(&mut self, moment: Now, id: &EniId, seen: &SeenEni, attached: bool) {
        let now = moment.at;
        let new = |block: Block| {
            let known = self.enis.get(id).is_some_and(|eni| match block {
                Block::Address(address) => eni.addresses.contains(address),
                Block::Prefix(prefix) => eni.addresses.prefix(prefix).is_some(),
            });
            !known && !self.departed.contains_key(&(id.clone(), block))
        };
        let shown: BTreeSet<Block> = blocks(seen.secondary.clone(), seen.prefixes.clone()).collect();
        let mut closed = Vec::new();
        let mut touched = Vec::new();
        for intent in self.intents.values() {
            if intent.call.eni() != Some(id) || intent.doubt.is_none() {
                continue;
            }
            let shows = match &intent.call {
                Call::Attach { .. } => attached,
                Call::Assign { ask, .. } => shown.iter().any(|block| {
                    new(*block)
                        && matches!(
                            (ask, block),
                            (Ask::Addresses(_), Block::Address(_)) | (Ask::Prefixes(_), Block::Prefix(_))
                        )
                }),
                _ => continue,
            };
            if shows {
                closed.push((intent.id, true));
            } else {
                touched.push(intent.id);
            }
        }
        for id in touched {
            let Some(intent) = self.intents.get_mut(&id) else { continue };
            let (at, Some(doubt)) = (intent.at, intent.doubt.as_mut()) else { continue };
            doubt.reads += 1;
            let first = *doubt.first.get_or_insert(now);
            if doubt.reads >= 2 && now.since(first) >= APART && now.since(at) >= SETTLED {
                closed.push((id, false));
            } else {
                doubt.next = Some(first.after(APART).max(at.after(SETTLED)));
            }
            self.touch(Key::Intent(id));
        }
        for (call, happened) in closed {
            let Some(intent) = self.intents.remove(&call) else { continue };
            self.touch(Key::Intent(call));
            match (intent.call, happened) {
                // This read is younger than the assign, so also than every unassign before it: what it shows is there.
                (Call::Assign { eni, .. }, true) => {
                    for block in &shown {
                        self.arrive(&eni, *block);
                    }
                }
                (Call::Attach { eni, .. }, false) => self.set_state(&eni, EniState::Attaching, EniState::Detached),
                // Should reads be older than they ever were: one more, when the oldest have ended.
                (Call::Assign { eni, .. }, false) => {
                    self.read_again.entry(eni.clone()).or_insert(now.after(DEPARTED));
                    // Whatever keeps losing it is not asked without end.
                    let action = Action::AssignPrivateIpAddresses.name().to_owned();
                    let reason = Refusal::CloudUnreachable { action };
                    self.pauses.begin(moment, Scope::Eni(eni), TRANSITION, reason);
                }
                _ => {}
            }
        }
    }

    /// A read by id without the ENI. The second one, long enough after the first, is believed, unless a pod lives there.
    fn missed(&mut self, now: BootTime, id: &EniId, shown: Shown) {
        let first = *self.suspects.entry(id.clone()).or_default().get_or_insert(now);
        if now.since(first) < SETTLED {
            // A lost call about it is looked up by the same second read, and not before.
            let open = self.intents.values_mut().filter(|open| open.call.eni() == Some(id) && !open.is_repeated());
            for doubt in open.filter_map(|open| open.doubt.as_mut()) {
                doubt.next = Some(first.after(SETTLED));
            }
            self.doubt_blocks(now, id, &BTreeSet::new());
            return;
        }
        self.suspects.remove(id);
        let open: Vec<_> =
            self.intents.values().filter(|open| open.call.eni() == Some(id)).map(|open| open.id).collect();
        for call in open {
            self.intents.remove(&call);
            self.touch(Key::Intent(call));
        }
        if self.facts.as_ref().is_some_and(|facts| facts.primary == *id) {
            self.read_again.insert(id.clone(), now.after(DEPARTED));
        }
        let Some(eni) = self.enis.get_mut(id) else { return };
        let vetoed = !eni.is_empty() || eni.link_ready;
        if !vetoed && shown == Shown::Detached && eni.record.created {
            // Ours, and attached to nothing: not to be left over.
            let goes = matches!(eni.record.state, EniState::Draining | EniState::Detaching);
            eni.record.state = if goes { EniState::Leaving } else { EniState::Detached };
            eni.record.attachment = None;
            eni.link_ready = false;
            self.touch(Key::Eni(id.clone()));
        } else if !vetoed {
            self.forget(id);
        } else {
            let quarantined = EniState::Quarantined(NOT_SHOWN.to_owned());
            // It may come back, or its pods may go.
            self.read_again.insert(id.clone(), now.after(DEPARTED));
            if eni.record.state != quarantined {
                eni.record.state = quarantined;
                self.touch(Key::Eni(id.clone()));
                self.effect(Effect::Say(News::EniQuarantined(id.clone())));
            }
        }
    }
}

/// What a read without our attachment showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// No such ENI.
    Nothing,
    /// The ENI, not attached to us.
    Detached,
}
