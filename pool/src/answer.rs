//! What EC2 said to a call, and what follows.
//!
//! Owns the reaction to each answer and each kind of failure. Never asks for the next thing: planning does, from what is left here.

use std::net::Ipv4Addr;

use crate::{
    Action, Answer, Ask, Attached, Block, BootTime, Call, CallId, DeviceIndex, Doubt, Effect, Eni, EniId, EniState,
    Fault, Intent, Key, Kind, News, Now, Prefix, Refusal, State, SubnetId, denied,
    pause::{Backoff, SOMEBODY, Scope, TRANSITION, UNREACHABLE},
};

impl State {
    pub(crate) fn answered(&mut self, now: Now, id: CallId, outcome: Result<Answer, Fault>) {
        let called = self.reads.get(&id).or_else(|| self.intents.get(&id).map(|intent| &intent.call)).map(Call::action);
        if let (Some(action), Err(fault)) = (called, &outcome)
            && !matches!(fault.kind, Kind::Throttled | Kind::Unreachable | Kind::Uncertain | Kind::Credentials)
        {
            // EC2 has looked at it: whatever it has against it, there was a token.
            self.budgets.accepted(action);
        }
        if let Some(read) = self.reads.remove(&id) {
            match outcome {
                Ok(answer) => {
                    self.works(read.action());
                    self.read(now, &read, answer);
                }
                Err(fault) => {
                    if matches!(read, Call::Instances { .. }) {
                        self.leaked_unread();
                    }
                    self.pause_action(now, read.action(), &fault);
                }
            }
            return;
        }
        let Some(intent) = self.intents.remove(&id) else { return };
        self.touch(Key::Intent(id));
        match outcome {
            Ok(answer) => {
                self.works(intent.call.action());
                self.done(now, intent.call, answer);
            }
            Err(fault) if fault.kind == Kind::Uncertain => self.doubt(now, intent),
            // A repeated create that EC2 did not look at says nothing about the first one.
            Err(fault) if intent.doubt.is_some() && UNSEEN.contains(&fault.kind) => {
                self.pause_action(now, intent.call.action(), &fault);
                self.doubt(now, intent);
            }
            // Asked again: what is not there any more has been given back.
            Err(fault) if intent.is_doubted_unassign() && fault.kind == Kind::Gone => {
                self.done(now, intent.call, Answer::Done);
            }
            Err(fault) if intent.is_doubted_unassign() => {
                self.refused_again(now, &intent.call, &fault);
                self.doubt(now, intent);
            }
            Err(fault) => {
                if intent.doubt.is_some() {
                    // EC2 answers a token that it knows before it refuses; in case it does not, what is left over is looked for soon.
                    self.search_soon(now);
                }
                self.failed(now, intent.call, &fault);
            }
        }
    }

    /// The call happened.
    fn done(&mut self, now: Now, call: Call, answer: Answer) {
        match (call, answer) {
            (Call::CreateEni { subnet, ask, .. }, Answer::Created(seen)) => {
                self.asked_well(&subnet, ask);
                self.adopt(now.at, seen);
            }
            (Call::Attach { eni, device, .. }, Answer::Attached(attachment)) => {
                self.attached(&eni, Attached { id: attachment, device, card: 0 });
            }
            (Call::Assign { eni, .. }, Answer::Assigned { addresses, prefixes })
                if addresses.is_empty() && prefixes.is_empty() =>
            {
                let code = "empty answer".to_owned();
                let action = Action::AssignPrivateIpAddresses.name().to_owned();
                let reason = Refusal::CloudError { action, code };
                self.pauses.begin(now, Scope::Eni(eni.clone()), SOMEBODY, reason);
                self.suspect(Some(eni));
            }
            (Call::Assign { eni, ask }, Answer::Assigned { addresses, prefixes }) => {
                if let Some(subnet) = self.enis.get(&eni).map(|eni| eni.record.subnet.clone()) {
                    self.asked_well(&subnet, ask);
                }
                for address in addresses {
                    self.confirm(now.at, &eni, address);
                }
                for prefix in prefixes {
                    self.confirm_prefix(now.at, &eni, prefix);
                }
                self.pauses.end(&Scope::Eni(eni));
            }
            (Call::Protect { eni, .. }, _) => self.set_state(&eni, EniState::AttachedUnprotected, EniState::Ready),
            (Call::SetGroups { eni, groups }, _) => self.groups_set(&eni, groups),
            (Call::Unassign { eni, addresses, prefixes }, _) => {
                for block in blocks(addresses, prefixes) {
                    self.depart(now.at, &eni, block);
                }
            }
            (Call::Tag { eni, .. }, _) => {
                if let Some(known) = self.enis.get_mut(&eni) {
                    known.record.tagged = true;
                    self.touch(Key::Eni(eni));
                }
            }
            (Call::Detach { eni, .. }, _) => self.detached(now, &eni),
            (Call::Delete { eni }, _) => self.deleted(&eni),
            // An answer that does not fit its call says nothing: read what is there.
            (call, _) => self.suspect(call.eni().cloned()),
        }
    }

    /// The call surely did not happen.
    fn failed(&mut self, now: Now, call: Call, fault: &Fault) {
        let action = call.action();
        if let Call::SetGroups { eni, .. } = &call {
            return self.groups_refused(now, eni, fault);
        }
        match fault.kind {
            // Whatever EC2 has against prefixes here, single addresses can be had.
            Kind::Invalid if call.asks_prefixes() => {
                let code = fault.code.clone();
                self.no_prefixes(now, &call, Refusal::CloudError { action: action.name().to_owned(), code });
            }
            Kind::Throttled
            | Kind::Unreachable
            | Kind::Denied
            | Kind::Credentials
            | Kind::Invalid
            | Kind::TokenMismatch
            | Kind::AccountEniQuota => {
                self.pause_action(now, action, fault);
            }
            Kind::NoFreeAddresses | Kind::NoFreePrefix => self.ask_less(now, &call),
            Kind::Uncertain => {}
            Kind::InstanceEniLimit => self.learn_limit(now, &call),
            Kind::AddressLimit | Kind::Conflict | Kind::Gone => {
                let (backoff, reason) = match fault.kind {
                    Kind::AddressLimit => (SOMEBODY, Refusal::AddressLimit),
                    _ => {
                        (TRANSITION, Refusal::CloudError { action: action.name().to_owned(), code: fault.code.clone() })
                    }
                };
                match call.eni() {
                    Some(eni) => self.pauses.begin(now, Scope::Eni(eni.clone()), backoff, reason),
                    None => self.pauses.begin(now, Scope::Action(action), SOMEBODY, reason),
                }
            }
        }
        self.undo(now, call, fault.kind);
    }

    /// A repetition was refused, and says nothing about the first one.
    fn refused_again(&mut self, now: Now, call: &Call, fault: &Fault) {
        let reason = Refusal::CloudError { action: call.action().name().to_owned(), code: fault.code.clone() };
        if let Some(eni) = call.eni() {
            self.pauses.begin(now, Scope::Eni(eni.clone()), TRANSITION, reason);
        }
    }

    /// EC2 allows fewer ENIs than the type: what is attached and what is about to be. One that was just detached counts there for some
    /// seconds more; that is waited for, and nothing is learnt from it.
    fn learn_limit(&mut self, now: Now, refused: &Call) {
        let about_to_be = |eni: &Eni| eni.record.state == EniState::Attaching && refused.eni() != Some(&eni.record.id);
        let attached = self.enis.values().filter(|eni| eni.attached() || about_to_be(eni)).count();
        let limit = crate::numbers::count(attached);
        if self.detaching(now.at).is_some() {
            let scope = Scope::Action(Action::AttachNetworkInterface);
            self.pauses.begin(now, scope, TRANSITION, Refusal::EniLimit { limit });
        } else {
            self.learnt_enis = Some(self.learnt_enis.map_or(limit, |learnt| learnt.min(limit)));
            // Perhaps ENIs of others take up the room.
            self.discovered = false;
        }
    }

    /// An ENI that was attached a moment ago.
    fn detaching(&self, now: BootTime) -> Option<&EniId> {
        let gone = |eni: &&Eni| {
            eni.record.state == EniState::Leaving && self.pauses.active(&Scope::Eni(eni.record.id.clone()), now)
        };
        self.enis.values().find(gone).map(|eni| &eni.record.id)
    }

    /// Brings the state back to before the call.
    fn undo(&mut self, now: Now, call: Call, kind: Kind) {
        match call {
            Call::Attach { eni, .. } => {
                self.set_state(&eni, EniState::Attaching, EniState::Detached);
                match kind {
                    Kind::InstanceEniLimit if self.detaching(now.at).is_some() => {}
                    Kind::InstanceEniLimit => self.set_state(&eni, EniState::Detached, EniState::Leaving),
                    Kind::Throttled | Kind::Unreachable => {}
                    _ => {
                        *self.attach_failures.entry(eni).or_default() += 1;
                        // Whoever holds the device index is among the ENIs that are attached.
                        self.discovered = false;
                    }
                }
            }
            Call::Assign { eni, .. } => match kind {
                Kind::AddressLimit | Kind::Gone => self.suspect(Some(eni)),
                _ => {}
            },
            Call::Unassign { eni, addresses, prefixes } => match kind {
                Kind::Throttled | Kind::Unreachable | Kind::Denied | Kind::Credentials => {
                    for block in blocks(addresses, prefixes) {
                        self.keep(now.at, &eni, block);
                    }
                }
                _ => self.suspect(Some(eni)),
            },
            Call::Detach { eni, .. } if kind == Kind::Gone => self.detached(now, &eni),
            Call::Detach { eni, .. } => self.set_state(&eni, EniState::Detaching, EniState::Draining),
            Call::Delete { eni } if kind == Kind::Gone => self.deleted(&eni),
            Call::Protect { eni, .. } if kind == Kind::Gone => self.suspect(Some(eni)),
            Call::CreateEni { .. }
            | Call::Delete { .. }
            | Call::Protect { .. }
            | Call::SetGroups { .. }
            | Call::Tag { .. }
            | Call::Describe { .. }
            | Call::Discover { .. }
            | Call::Subnets { .. }
            | Call::Leaked { .. }
            | Call::Instances { .. } => {}
        }
    }

    /// The answer was lost: the call may have happened.
    fn doubt(&mut self, now: Now, mut intent: Intent) {
        match &intent.call {
            Call::CreateEni { .. } | Call::Attach { .. } | Call::Assign { .. } | Call::Unassign { .. } => {
                // Creates and unassigns are simply repeated. The others are looked up.
                let wait = if intent.is_repeated() { TRANSITION.first } else { std::time::Duration::ZERO };
                let repeated = intent.doubt.is_some() && intent.is_repeated();
                if repeated && !self.pauses.active(&Scope::Action(intent.call.action()), now.at) {
                    let reason = Refusal::CloudUnreachable { action: intent.call.action().name().to_owned() };
                    self.pauses.begin(now, Scope::Action(intent.call.action()), UNREACHABLE, reason);
                }
                // What reads have shown so far counts across restarts: a daemon that dies again and again gets to know it, too.
                let (reads, first) = intent.doubt.as_ref().map_or((0, None), |earlier| (earlier.reads, earlier.first));
                intent.doubt = Some(Doubt { reads, first, next: Some(now.at.after(wait)) });
                self.touch(Key::Intent(intent.id));
                self.intents.insert(intent.id, intent);
            }
            Call::SetGroups { eni, .. } => self.groups_doubted(now, eni),
            // Repeating these is harmless.
            Call::Protect { eni, .. } | Call::Detach { eni, .. } | Call::Delete { eni } | Call::Tag { eni, .. } => {
                let reason = Refusal::CloudUnreachable { action: intent.call.action().name().to_owned() };
                self.pauses.begin(now, Scope::Eni(eni.clone()), TRANSITION, reason);
                self.undo(now, intent.call, Kind::Uncertain);
            }
            Call::Describe { .. }
            | Call::Discover { .. }
            | Call::Subnets { .. }
            | Call::Leaked { .. }
            | Call::Instances { .. } => {}
        }
    }

    /// Calls that were open when the daemon ended are calls whose answer was lost.
    pub(crate) fn doubt_open_calls(&mut self, now: BootTime) {
        let moment = Now { at: now, wall: 0, luck: 0 };
        for (_, intent) in std::mem::take(&mut self.intents) {
            let harmless = matches!(intent.call, Call::SetGroups { .. } | Call::Protect { .. } | Call::Tag { .. });
            if let (Some(eni), false) = (intent.call.eni(), intent.call.is_read() || harmless)
                && let Some(known) = self.enis.get_mut(eni)
            {
                known.doubt_free_addresses();
            }
            self.touch(Key::Intent(intent.id));
            self.doubt(moment, intent);
        }
        // Nothing has failed: a restart is no reason to wait.
        self.pauses = crate::pause::Pauses::default();
    }

    fn attached(&mut self, id: &EniId, attachment: Attached) {
        let slot = if attachment.device == DeviceIndex(0) { Some(crate::Slot::PRIMARY) } else { self.free_slot() };
        if let Some(eni) = self.enis.get_mut(id) {
            eni.record.attachment = Some(attachment);
            eni.record.slot = eni.record.slot.or(slot);
            if matches!(eni.record.state, EniState::Attaching | EniState::Detached) {
                eni.record.state = EniState::AttachedUnprotected;
            }
            self.touch(Key::Eni(id.clone()));
        }
        self.attach_failures.remove(id);
        self.pauses.end(&Scope::Eni(id.clone()));
    }

    /// Detaching takes EC2 a while: deleting before it is through would be refused.
    fn detached(&mut self, now: Now, id: &EniId) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.record.state = EniState::Leaving;
            eni.record.attachment = None;
            eni.record.slot = None;
            eni.link_ready = false;
            self.touch(Key::Eni(id.clone()));
            let reason = Refusal::CloudError {
                action: Action::DeleteNetworkInterface.name().to_owned(),
                code: "detaching".to_owned(),
            };
            self.pauses.begin(now, Scope::Eni(id.clone()), DETACHING, reason);
        }
    }

    /// EC2 has deleted it, ours or one that a node left behind.
    fn deleted(&mut self, id: &EniId) {
        if !self.enis.contains_key(id) {
            self.effect(Effect::Say(News::LeakedEniDeleted(id.clone())));
        }
        self.forget(id);
    }

    /// The ENI is no more.
    pub(crate) fn forget(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.remove(id) {
            for (address, _) in eni.addresses.stored() {
                self.touch(Key::Address(id.clone(), address));
            }
            for (prefix, _) in eni.addresses.prefixes() {
                self.touch(Key::Prefix(id.clone(), prefix));
            }
        }
        self.touch(Key::Eni(id.clone()));
        self.attach_failures.remove(id);
        self.suspects.remove(id);
        self.shadows.remove(id);
        self.read_again.remove(id);
        self.pauses.end(&Scope::Eni(id.clone()));
        self.pauses.end(&Scope::Groups(id.clone()));
    }

    pub(crate) fn set_state(&mut self, id: &EniId, from: EniState, to: EniState) {
        if let Some(eni) = self.enis.get_mut(id)
            && eni.record.state == from
        {
            eni.record.state = to;
            self.touch(Key::Eni(id.clone()));
        }
    }

    pub(crate) fn suspect(&mut self, eni: Option<EniId>) {
        if let Some(eni) = eni {
            self.suspects.entry(eni).or_default();
        }
    }

    /// EC2 gives all or nothing: ask for half, down to one, then leave the subnet alone. Prefixes that cannot be had are no reason to
    /// leave it alone: single addresses are asked for until the pause has passed.
    fn ask_less(&mut self, now: Now, call: &Call) {
        let Some((subnet, ask)) = self.asked(call) else { return };
        let prefixes = matches!(ask, Ask::Prefixes(_));
        if ask.places() > 1 {
            self.ask_at_most.insert((subnet, prefixes), ask.places() / 2);
        } else if prefixes {
            self.ask_at_most.remove(&(subnet.clone(), true));
            self.no_prefixes(now, call, Refusal::PrefixFragmented { subnet });
        } else {
            let reason = Refusal::SubnetExhausted { subnet: subnet.clone() };
            self.pauses.begin(now, Scope::Subnet(subnet.clone()), SOMEBODY, reason);
            self.subnets_wanted = true;
            self.ask_at_most.insert((subnet, false), 1);
        }
    }

    fn no_prefixes(&mut self, now: Now, call: &Call, reason: Refusal) {
        let Some((subnet, _)) = self.asked(call) else { return };
        let scope = Scope::Prefixes(subnet.clone());
        if matches!(reason, Refusal::PrefixFragmented { .. }) && !self.pauses.knows(&scope) {
            self.effect(Effect::Say(News::PrefixFragmented(subnet)));
        }
        self.pauses.begin(now, scope, SOMEBODY, reason);
    }

    /// In which subnet a call asked for what.
    fn asked(&self, call: &Call) -> Option<(SubnetId, Ask)> {
        match call {
            Call::CreateEni { subnet, ask, .. } => Some((subnet.clone(), *ask)),
            Call::Assign { eni, ask } => Some((self.enis.get(eni)?.record.subnet.clone(), *ask)),
            _ => None,
        }
    }

    fn asked_well(&mut self, subnet: &SubnetId, ask: Ask) {
        let prefixes = matches!(ask, Ask::Prefixes(_));
        // A new ENI has an address of its own: even with nothing to hold it shows that the subnet has some.
        self.pauses.end(&Scope::Subnet(subnet.clone()));
        if prefixes {
            self.pauses.end(&Scope::Prefixes(subnet.clone()));
        }
        let kind = (subnet.clone(), prefixes);
        if let Some(most) = self.ask_at_most.get_mut(&kind) {
            *most = (*most).max(ask.places()).saturating_mul(2);
            if *most >= u32::from(u8::MAX) {
                self.ask_at_most.remove(&kind);
            }
        }
    }

    /// EC2 carried it out.
    fn works(&mut self, action: Action) {
        self.pauses.end(&Scope::Action(action));
        self.budgets.accepted(action);
    }

    pub(crate) fn pause_action(&mut self, now: Now, action: Action, fault: &Fault) {
        if fault.kind == Kind::Throttled {
            return self.budgets.throttled(now, action);
        }
        let name = action.name().to_owned();
        let (backoff, reason): (Backoff, Refusal) = match fault.kind {
            Kind::Unreachable | Kind::Uncertain => (UNREACHABLE, Refusal::CloudUnreachable { action: name }),
            Kind::Denied => (SOMEBODY, Refusal::Denied { action: denied::action(action, &fault.message) }),
            Kind::AccountEniQuota => (SOMEBODY, Refusal::AccountQuota),
            _ => (SOMEBODY, Refusal::CloudError { action: name, code: fault.code.clone() }),
        };
        self.pauses.begin(now, Scope::Action(action), backoff, reason);
    }
}

/// What one unassign names.
pub(crate) fn blocks(addresses: Vec<Ipv4Addr>, prefixes: Vec<Prefix>) -> impl Iterator<Item = Block> {
    addresses.into_iter().map(Block::Address).chain(prefixes.into_iter().map(Block::Prefix))
}

/// Failures that come before EC2 looks at the arguments of a call.
const UNSEEN: [Kind; 4] = [Kind::Throttled, Kind::Unreachable, Kind::Denied, Kind::Credentials];
/// EC2 takes seconds to detach.
const DETACHING: Backoff =
    Backoff { first: std::time::Duration::from_secs(2), longest: std::time::Duration::from_secs(30) };
