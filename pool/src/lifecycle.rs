//! What an ENI needs to get on, or to go.
//!
//! Owns attach, protect, tag, detach and delete of the ENIs that are ours, and the repetition of creates whose answer was lost. Never
//! decides how many ENIs there should be.

use std::collections::BTreeMap;

use crate::{
    Action, Block, BootTime, Call, Effect, EniId, EniState, Key, NodeFacts, Now, Refusal, Role, State,
    adopt::INSTANCE_TAG,
    answer::blocks,
    budget::Urgency,
    confirm::has,
    pause::{SOMEBODY, Scope},
};

/// An ENI that could not be attached so often is deleted.
const ATTACH_TRIES: u32 = 3;

impl State {
    /// Attaches, protects and deletes what stands still; repeats creates whose answer was lost.
    pub(crate) fn plan_lifecycle(&mut self, now: Now) {
        let Some(facts) = self.facts.clone() else { return };
        self.repeat_calls(now.at);
        let ids: Vec<_> = self.enis.keys().cloned().collect();
        for id in ids {
            self.plan_eni(now, &facts, &id);
        }
    }

    /// A create whose answer was lost is asked again: its token makes it the same one. So is an unassign: EC2 says so when there is
    /// nothing to take back.
    fn repeat_calls(&mut self, now: BootTime) {
        let mut repeats = Vec::new();
        let growing = self.growing_for();
        for intent in self.intents.values_mut().filter(|intent| intent.is_repeated()) {
            let held = Scope::Action(intent.call.action());
            let eni = intent.call.eni().map(|eni| Scope::Eni(eni.clone()));
            let paused = self.pauses.active(&held, now) || eni.is_some_and(|eni| self.pauses.active(&eni, now));
            let urgency = if matches!(intent.call, Call::CreateEni { .. }) { growing } else { Urgency::Warm };
            if let Some(doubt) =
                intent.doubt.as_mut().filter(|doubt| !paused && doubt.next.is_some_and(|next| next <= now))
                && self.budgets.afford(now, intent.call.action(), urgency)
            {
                doubt.next = None;
                repeats.push((intent.id, intent.call.clone()));
            }
        }
        for (id, call) in repeats {
            self.touch(Key::Intent(id));
            if let Call::Unassign { eni, addresses, prefixes } = &call {
                // The daemon may have died before it took the routes away. What has come to another ENI since stays.
                let there = |block: &Block| self.enis.get(eni).is_some_and(|eni| has(eni, *block));
                let routes = blocks(addresses.clone(), prefixes.clone()).filter(there).collect();
                self.effect(Effect::Withdraw(routes));
            }
            self.spend(now, call.action());
            self.effect(Effect::Call(id, call));
        }
    }

    fn plan_eni(&mut self, now: Now, facts: &NodeFacts, id: &EniId) {
        let busy = self.intents.values().any(|intent| intent.call.eni() == Some(id));
        let Some(eni) = self.enis.get(id) else { return };
        if busy || self.pauses.active(&Scope::Eni(id.clone()), now.at) {
            return;
        }
        if !eni.record.created {
            return self.adopt_by_tag(now, facts, id);
        }
        let attachment = eni.record.attachment.as_ref().map(|attached| attached.id.clone());
        let (next, call) = match (&eni.record.state, attachment) {
            (EniState::Detached, _)
                if self.attach_failures.get(id).is_some_and(|failures| *failures >= ATTACH_TRIES) =>
            {
                // A new ENI would meet the same: not before somebody or something has changed.
                let action = Action::AttachNetworkInterface;
                let reason = Refusal::CloudError { action: action.name().to_owned(), code: "refused again".to_owned() };
                // A pause of the action itself says more: it is denied, for instance.
                if !self.pauses.active(&Scope::Action(action), now.at) {
                    self.pauses.begin(now, Scope::Action(action), SOMEBODY, reason);
                }
                (EniState::Leaving, Some(Call::Delete { eni: id.clone() }))
            }
            (EniState::Detached, _) => {
                let device = self.free_device();
                (EniState::Attaching, Some(Call::Attach { eni: id.clone(), instance: facts.instance.clone(), device }))
            }
            (EniState::AttachedUnprotected, Some(attachment)) => {
                (EniState::AttachedUnprotected, Some(Call::Protect { eni: id.clone(), attachment }))
            }
            (EniState::Draining, Some(attachment)) if eni.record.role == Role::Pods && eni.is_empty() => {
                (EniState::Detaching, Some(Call::Detach { eni: id.clone(), attachment }))
            }
            (EniState::Detaching, Some(attachment)) => {
                (EniState::Detaching, Some(Call::Detach { eni: id.clone(), attachment }))
            }
            (EniState::Leaving, _) => (EniState::Leaving, Some(Call::Delete { eni: id.clone() })),
            (state, _) => (state.clone(), None),
        };
        let Some(call) = call else { return };
        let (held, state) = (eni.held_blocks(), eni.record.state.clone());
        let urgency = match &call {
            Call::Attach { .. } => self.growing_for(),
            Call::Protect { .. } => Urgency::Warm,
            _ => Urgency::Release,
        };
        if !self.may_call(now.at, call.action(), urgency) {
            return;
        }
        self.set_state(id, state, next);
        if matches!(call, Call::Detach { .. }) {
            self.effect(Effect::Withdraw(held));
        }
        self.call(now.at, call);
    }

    /// An ENI that somebody else attached and that we use gets the tag, so that people see whose addresses these are.
    fn adopt_by_tag(&mut self, now: Now, facts: &NodeFacts, id: &EniId) {
        let Some(eni) = self.enis.get(id) else { return };
        let adopted = eni.record.role == Role::Pods && !eni.record.tagged && eni.attached();
        if !adopted || !self.waiting.is_empty() || !self.may_call(now.at, Action::CreateTags, Urgency::Audit) {
            return;
        }
        let tags = BTreeMap::from([(INSTANCE_TAG.to_owned(), facts.instance.to_string())]);
        self.call(now.at, Call::Tag { eni: id.clone(), tags });
    }
}
