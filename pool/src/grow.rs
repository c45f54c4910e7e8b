//! What to ask EC2 for when addresses are missing.
//!
//! Owns growth in one step: ENIs with room are filled first, one call each, then new ENIs are created with what they are to hold, as many
//! at once as the shortfall needs and the limits allow. Never gives anything back.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Action, Ask, BootTime, COALESCE, Call, Eni, EniId, EniState, NodeFacts, Now, Numbers, Prefix, Refusal, Role, State,
    SubnetId, Token, Warm, adopt::INSTANCE_TAG, numbers::count, pause::Scope, wall,
};

impl State {
    /// Asks for what is missing, all at once.
    pub(crate) fn plan_growth(&mut self, now: Now) {
        let Some(facts) = self.facts.clone() else { return };
        let numbers = self.numbers(now.at);
        if numbers.short == 0 {
            self.short_since = None;
            self.subnets_wanted = false;
            if self.draining && !self.policy.manage_unschedulable && numbers.wanted() > numbers.supply {
                self.held = Some(Refusal::NodeDraining);
            }
            return;
        }
        let growth = self.growth(now.at, &facts, &numbers);
        self.held.clone_from(&growth.held);
        self.look_at_others(now.at);
        self.subnets_wanted |= growth.reads_subnets;
        // One that could not be attached soon would only be in the way of others.
        let new = [Action::AttachNetworkInterface, Action::CreateNetworkInterface];
        let assigns = !growth.assigns.is_empty() && self.may_grow(now.at, &[Action::AssignPrivateIpAddresses]);
        let waits = !growth.creates.is_empty() && self.subnets_are_awaited(now.at);
        if waits {
            self.plan_subnets(now.at);
        }
        let creates = !growth.creates.is_empty() && !waits && self.may_grow(now.at, &new);
        if !assigns && !creates && !waits {
            self.short_since = None;
            return;
        }
        let since = *self.short_since.get_or_insert(now.at);
        if now.at.since(since) < COALESCE || (waits && !assigns) {
            return;
        }
        self.short_since = None;
        self.grown_at = Some(now.at);
        self.surplus = None;
        for (eni, ask) in growth.assigns {
            if self.may_grow(now.at, &[Action::AssignPrivateIpAddresses]) {
                self.call(now.at, Call::Assign { eni, ask });
            }
        }
        for (subnet, ask) in growth.creates {
            if self.unattached() >= self.budgets.tokens(now.at, Action::AttachNetworkInterface) {
                // The next one is thought of when those that there are have been attached.
                break;
            }
            if !waits && self.may_grow(now.at, &new) {
                let call = self.create(now, &facts, subnet, ask);
                self.call(now.at, call);
            }
        }
    }

    /// ENIs that still need an attach.
    fn unattached(&self) -> u32 {
        let made = self.enis.values().filter(|eni| eni.record.state == EniState::Detached).count();
        let asked = self.intents.values().filter(|intent| matches!(intent.call, Call::CreateEni { .. })).count();
        count(made + asked)
    }

    /// These calls can be afforded.
    fn may_grow(&mut self, now: BootTime, actions: &[Action]) -> bool {
        let urgency = self.growing_for();
        let poor = actions.iter().find(|action| !self.may_call(now, **action, urgency));
        if let Some(action) = poor {
            self.held = self.barred(now, *action).or(Some(Refusal::Throttled { action: action.name().to_owned() }));
        }
        poor.is_none()
    }

    /// ENIs that are not ours may have gone meanwhile: before the limit is blamed for long they are read again.
    fn look_at_others(&mut self, now: BootTime) {
        let limited = matches!(self.held, Some(Refusal::EniLimit { .. }));
        if limited && self.learnt_enis.is_some() && now.since(self.discovered_at) >= UNLEARN {
            self.learnt_enis = None;
            self.discovered = false;
            self.discovered_at = now;
        }
        if limited {
            self.keep_draining_enis();
        }
        let others = self.enis.values().any(|eni| !eni.record.created && eni.record.role != Role::Primary);
        if limited && others && now.since(self.discovered_at) >= LOOK_AGAIN {
            self.discovered = false;
            self.discovered_at = now;
        }
    }

    /// An ENI that was to go is kept when there can be no other.
    fn keep_draining_enis(&mut self) {
        let idle = |id: &EniId| !self.intents.values().any(|intent| intent.call.eni() == Some(id));
        let kept: Vec<EniId> = self
            .enis
            .values()
            .filter(|eni| {
                eni.record.state == EniState::Draining
                    && !eni.record.excluded
                    && eni.record.attachment.is_some()
                    && idle(&eni.record.id)
            })
            .map(|eni| eni.record.id.clone())
            .collect();
        for eni in kept {
            self.set_state(&eni, EniState::Draining, EniState::AttachedUnprotected);
        }
    }

    /// What to ask for.
    fn growth(&self, now: BootTime, facts: &NodeFacts, numbers: &Numbers) -> Growth {
        let mut growth = Growth { held: self.limits_missing(), ..Growth::default() };
        if growth.held.is_some() {
            return growth;
        }
        let mut missing = Missing { addresses: numbers.short, prefixes: numbers.short_prefixes };
        self.fill(now, None, &mut missing, &mut growth);
        let each = self.limits().secondary();
        for intent in self.intents.values() {
            if let Call::CreateEni { ask, subnet, .. } = &intent.call {
                missing.take(self.whole_ask(now, subnet, each.saturating_sub(ask.places()), &missing));
                if self.stalled(intent, now) {
                    growth.held = self.pauses.reason(&Scope::Action(Action::CreateNetworkInterface), now).cloned();
                }
            }
        }
        if missing.is_nothing() || each == 0 {
            return growth;
        }
        let held = [Action::CreateNetworkInterface, Action::AttachNetworkInterface]
            .into_iter()
            .find_map(|action| self.pauses.reason(&Scope::Action(action), now));
        if let Some(held) = held {
            growth.held = Some(held.clone());
            return growth;
        }
        let (limit, over_limit) = self.eni_limit();
        let mut enis = count(self.enis.values().filter(|eni| eni.record.state != EniState::Leaving).count())
            + count(self.intents.values().filter(|intent| matches!(intent.call, Call::CreateEni { .. })).count());
        // It is there, though no read has shown it.
        enis += u32::from(!self.enis.contains_key(&facts.primary));
        if enis >= limit {
            growth.held = growth.held.or(Some(over_limit));
            return growth;
        }
        growth.reads_subnets = true;
        let mut subnets = match self.subnets_for(now, facts) {
            Ok(subnets) => subnets,
            Err(held) => {
                growth.held = Some(held);
                return growth;
            }
        };
        while !missing.is_nothing() {
            if enis >= limit {
                growth.held = growth.held.or(Some(over_limit));
                break;
            }
            // Most free first, and those that have prefixes before those that have none for now.
            let best = subnets
                .iter_mut()
                .max_by_key(|(subnet, free)| (!self.policy.prefixes || self.has_prefixes(now, subnet), *free));
            let Some((subnet, free)) = best else { break };
            let whole = self.whole_ask(now, subnet, each, &missing);
            if whole.places() == 0 {
                break;
            }
            let ask = self.at_most(subnet, whole);
            growth.note_fallback(self, now, subnet);
            growth.creates.push((subnet.clone(), ask));
            *free = free.saturating_sub(ask.addresses() + 1);
            missing.take(whole);
            enis += 1;
        }
        growth
    }

    /// What the other ENIs would be asked for so that this one can go; `None`: they have no room for it.
    pub(crate) fn moved_off(&self, now: BootTime, id: &EniId) -> Option<Vec<(EniId, Ask)>> {
        let rest = self.numbers_without(now, std::slice::from_ref(id));
        let mut growth = Growth::default();
        let mut missing = Missing { addresses: rest.short, prefixes: rest.short_prefixes };
        self.fill(now, Some(id), &mut missing, &mut growth);
        let asked: u32 = growth.assigns.iter().map(|(_, ask)| ask.addresses()).sum();
        (missing.is_nothing() && growth.held.is_none() && asked >= rest.short).then_some(growth.assigns)
    }

    /// Fills the ENIs that have room, but for one of them.
    fn fill(&self, now: BootTime, without: Option<&EniId>, missing: &mut Missing, growth: &mut Growth) {
        let assign_held = self.pauses.reason(&Scope::Action(Action::AssignPrivateIpAddresses), now);
        for (eni, room) in self.room() {
            if missing.is_nothing() {
                return;
            }
            let (id, subnet) = (&eni.record.id, &eni.record.subnet);
            if without == Some(id) {
                continue;
            }
            let open = self.intents.values().any(|intent| {
                intent.call.eni() == Some(id)
                    && !matches!(intent.call.action(), Action::ModifyNetworkInterfaceAttribute | Action::CreateTags)
            });
            let stalled =
                self.intents.values().any(|intent| intent.call.eni() == Some(id) && self.stalled(intent, now));
            let whole = self.whole_ask(now, subnet, room, missing);
            if stalled {
                continue;
            }
            let subnet_held = self.pauses.reason(&Scope::Subnet(subnet.clone()), now);
            let eni_held = self.pauses.reason(&Scope::Eni(id.clone()), now);
            if eni_held == Some(&Refusal::AddressLimit) {
                growth.held = Some(Refusal::AddressLimit);
            } else if open || eni.record.attachment.is_none() || eni_held.is_some() {
                // It is filled when what is under way has landed.
                missing.take(whole);
            } else if let Some(held) = subnet_held.or(assign_held) {
                growth.held = Some(held.clone());
                // Without this permission, or without room in the subnet, a new ENI is the only way; for the rest the pause will pass.
                if !matches!(held, Refusal::Denied { .. } | Refusal::SubnetExhausted { .. }) {
                    missing.take(whole);
                }
            } else if whole.places() > 0 {
                growth.note_fallback(self, now, subnet);
                growth.assigns.push((id.clone(), self.at_most(subnet, whole)));
                missing.take(whole);
            }
        }
    }

    /// What an ENI with this much room in this subnet would be asked to take, if the subnet has it.
    fn whole_ask(&self, now: BootTime, subnet: &SubnetId, room: u32, missing: &Missing) -> Ask {
        if self.policy.prefixes && self.has_prefixes(now, subnet) {
            Ask::Prefixes(room.min(missing.prefixes))
        } else if matches!(self.policy.warm, Warm::Enis(_)) {
            Ask::Addresses(room)
        } else {
            Ask::Addresses(room.min(missing.addresses))
        }
    }

    /// Not more than what the subnet is likely to have.
    fn at_most(&self, subnet: &SubnetId, ask: Ask) -> Ask {
        let most = |prefixes| self.ask_at_most.get(&(subnet.clone(), prefixes)).copied().unwrap_or(u32::MAX);
        match ask {
            Ask::Addresses(count) => Ask::Addresses(count.min(most(false))),
            Ask::Prefixes(count) => Ask::Prefixes(count.min(most(true))),
        }
    }

    fn has_prefixes(&self, now: BootTime, subnet: &SubnetId) -> bool {
        !self.pauses.active(&Scope::Prefixes(subnet.clone()), now)
    }

    /// ENIs that can hold more and how many places they have, attached ones first, by slot.
    fn room(&self) -> Vec<(&Eni, u32)> {
        let most = self.limits().secondary();
        let mut room: Vec<_> = self
            .enis
            .values()
            .filter(|eni| eni.grows())
            .filter_map(|eni| {
                let asked = |call: &Call| match call {
                    Call::Assign { eni: id, ask } if *id == eni.record.id => ask.places(),
                    _ => 0,
                };
                let shadows = self.shadows.get(&eni.record.id).copied().unwrap_or(0);
                let asked: u32 = self.intents.values().map(|intent| asked(&intent.call)).sum();
                let room = most.saturating_sub(eni.addresses.places() + asked + shadows);
                (room > 0).then_some((eni, room))
            })
            .collect();
        room.sort_by_key(|(eni, _)| (eni.record.attachment.is_none(), eni.record.slot));
        room
    }

    fn create(&self, now: Now, facts: &NodeFacts, subnet: SubnetId, ask: Ask) -> Call {
        let mut tags: BTreeMap<String, String> = self.policy.tags.clone();
        tags.insert(INSTANCE_TAG.to_owned(), facts.instance.to_string());
        tags.insert(CREATED_TAG.to_owned(), wall::rfc3339(now.wall));
        if let Some(cluster) = &self.policy.cluster {
            tags.insert(CLUSTER_TAG.to_owned(), cluster.clone());
            tags.insert("eks:eni:owner".to_owned(), "amazon-vpc-cni".to_owned());
        }
        Call::CreateEni {
            token: Token::from(format!("{:032x}-{}", now.luck, self.serial)),
            subnet,
            groups: facts.groups.clone(),
            ask,
            description: format!("aws-K8S-{}", facts.instance),
            tags,
        }
    }
}

/// How often, when the limit is reached, the instance's ENIs are read again.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// How long a limit that only EC2 knows is believed.
const UNLEARN: Duration = Duration::from_hours(1);
/// When an ENI was created (amazon-vpc-cni's).
pub(crate) const CREATED_TAG: &str = "node.k8s.amazonaws.com/createdAt";
/// The cluster that an ENI belongs to (amazon-vpc-cni's).
pub(crate) const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";

/// What is still missing: so many addresses, or so many prefixes where there are any.
struct Missing {
    addresses: u32,
    prefixes: u32,
}

impl Missing {
    fn take(&mut self, ask: Ask) {
        self.addresses = self.addresses.saturating_sub(ask.addresses());
        self.prefixes = match ask {
            Ask::Prefixes(prefixes) => self.prefixes.saturating_sub(prefixes),
            Ask::Addresses(_) => self.prefixes.min(self.addresses.div_ceil(Prefix::SIZE)),
        };
    }

    fn is_nothing(&self) -> bool {
        self.addresses == 0 && self.prefixes == 0
    }
}

/// What to ask for.
#[derive(Default)]
struct Growth {
    assigns: Vec<(EniId, Ask)>,
    creates: Vec<(SubnetId, Ask)>,
    held: Option<Refusal>,
    /// New ENIs are needed: it matters which subnet has how much.
    reads_subnets: bool,
}

impl Growth {
    /// Single addresses are asked for although prefixes are wanted.
    fn note_fallback(&mut self, state: &State, now: BootTime, subnet: &SubnetId) {
        if self.held.is_none() && state.policy.prefixes {
            self.held = state.pauses.reason(&Scope::Prefixes(subnet.clone()), now).cloned();
        }
    }
}
