//! How much is missing, and what to ask EC2 for.
//!
//! Owns the numbers of the pool and growth in one step: ENIs with room are filled first, one call each, then new ENIs are created with
//! their addresses. Never gives anything back.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Action, Address, Ask, BootTime, COALESCE, Call, Eni, EniId, EniState, Key, NodeFacts, Now, Refusal, Role, State,
    Token, Warm, observe::INSTANCE_TAG, pause::Scope,
};

/// Cooling addresses due within this time count as supply, else churn would assign and unassign for ever.
const SOON: Duration = Duration::from_secs(5);

/// What the pool holds and what it should hold, in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// On ENIs that carry pods and are not on their way out.
    pub total: u32,
    /// Of those: can be leased now.
    pub free: u32,
    /// Free, on an ENI that does not serve yet.
    pub coming: u32,
    /// Leased.
    pub leased: u32,
    /// Released a short while ago.
    pub cooling: u32,
    /// Cooling ones that count as supply.
    pub cooling_soon: u32,
    /// Not confirmed by EC2.
    pub unverified: u32,
    /// Unexplained.
    pub quarantined: u32,
    /// Asked for, not answered yet.
    pub pending: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Can be had soon without asking for more: free, coming, pending, unverified and soon cooled.
    pub supply: u32,
    /// Missing.
    pub short: u32,
    /// Too many; whole ENIs only with `WARM_ENI_TARGET`.
    pub over: u32,
}

impl State {
    /// What the pool holds and what it should hold.
    pub fn numbers(&self, now: BootTime) -> Numbers {
        self.numbers_without(now, &[])
    }

    /// The same as if these ENIs were not there.
    pub(crate) fn numbers_without(&self, now: BootTime, without: &[EniId]) -> Numbers {
        let mut n = Numbers { waiting: count(self.waiting.len()), ..Numbers::default() };
        let soon = now.after(SOON);
        for eni in self.enis.values().filter(|eni| eni.grows() && !without.contains(&eni.record.id)) {
            for (address, held) in &eni.addresses {
                n.total += 1;
                match held {
                    Address::Free { .. } if eni.serves() => n.free += 1,
                    Address::Free { .. } => n.coming += 1,
                    Address::Leased(_) => n.leased += 1,
                    Address::Cooling { until } => {
                        n.cooling += 1;
                        n.cooling_soon += u32::from(*until <= soon || self.waiting.is_empty());
                    }
                    Address::Unverified { .. } if self.leaving(&eni.record.id, *address) => n.total -= 1,
                    Address::Unverified { .. } => n.unverified += 1,
                    Address::Quarantined(_) => n.quarantined += 1,
                }
            }
        }
        n.pending = self
            .intents
            .values()
            .map(|intent| match &intent.call {
                Call::CreateEni { ask, .. } | Call::Assign { ask, .. } => ask.addresses(),
                _ => 0,
            })
            .sum();
        n.supply = n.free + n.coming + n.pending + n.unverified + n.cooling_soon;
        let held = n.total + n.pending;
        (n.short, n.over) = match self.policy.warm {
            Warm::Addresses { .. } | Warm::Demand | Warm::Prefixes(_) => {
                let (warm, minimum) = self.policy.warm.addresses().unwrap_or_default();
                let short = (warm + n.waiting).saturating_sub(n.supply).max(minimum.saturating_sub(held));
                let over = n.supply.saturating_sub(warm + n.waiting).min(held.saturating_sub(minimum));
                (short, over)
            }
            Warm::Enis(_) => {
                let want = self.warm_eni_addresses() + n.waiting;
                (want.saturating_sub(n.supply), n.supply.saturating_sub(want))
            }
        };
        if let Some(most) = self.policy.max_pods {
            n.short = n.short.min(most.saturating_sub(held).max(n.waiting.saturating_sub(n.supply)));
        }
        n
    }

    /// WARM_ENI_TARGET in addresses; with 0, one free address still starts growth (amazon-vpc-cni: too low when nothing is free).
    pub(crate) fn warm_eni_addresses(&self) -> u32 {
        match (self.policy.warm, &self.facts) {
            (Warm::Enis(0), _) => 1,
            (Warm::Enis(enis), Some(facts)) => enis.saturating_mul(facts.limits.secondary()),
            _ => 0,
        }
    }

    /// Asks for what is missing, all at once.
    pub(crate) fn plan_growth(&mut self, now: Now) {
        let Some(facts) = self.facts.clone() else { return };
        let numbers = self.numbers(now.at);
        if numbers.short == 0 {
            self.short_since = None;
            return;
        }
        let growth = self.growth(now.at, &facts, numbers.short);
        self.held.clone_from(&growth.held);
        if growth.assigns.is_empty() && growth.creates.is_empty() {
            self.short_since = None;
            return;
        }
        let since = *self.short_since.get_or_insert(now.at);
        if now.at.since(since) < COALESCE {
            return;
        }
        self.short_since = None;
        self.grown_at = Some(now.at);
        self.surplus = None;
        for (eni, count) in growth.assigns {
            self.call(now.at, Call::Assign { eni, ask: Ask::Addresses(count) });
        }
        for addresses in growth.creates {
            let call = self.create(now, &facts, addresses);
            self.call(now.at, call);
        }
    }

    /// What to ask for, when `short` addresses are missing.
    fn growth(&self, now: BootTime, facts: &NodeFacts, short: u32) -> Growth {
        let mut growth = Growth { assigns: Vec::new(), creates: Vec::new(), held: None };
        let whole = matches!(self.policy.warm, Warm::Enis(_));
        let most = self.ask_at_most.get(&facts.subnet).copied().unwrap_or(u32::MAX);
        let mut missing = short;

        let assign_held = self.pauses.reason(&Scope::Action(Action::AssignPrivateIpAddresses), now);
        for (eni, room) in self.room(facts) {
            if missing == 0 {
                return growth;
            }
            let open = self.intents.values().any(|intent| {
                intent.call.eni() == Some(&eni.record.id)
                    && !matches!(intent.call.action(), Action::ModifyNetworkInterfaceAttribute)
            });
            let subnet_held = self.pauses.reason(&Scope::Subnet(eni.record.subnet.clone()), now);
            let eni_held = self.pauses.reason(&Scope::Eni(eni.record.id.clone()), now);
            if eni_held == Some(&Refusal::AddressLimit) {
                growth.held = Some(Refusal::AddressLimit);
            } else if open || eni.record.attachment.is_none() || eni_held.is_some() {
                // It is filled when what is under way has landed.
                missing = missing.saturating_sub(room);
            } else if let Some(held) = subnet_held.or(assign_held) {
                growth.held = Some(held.clone());
                // Without this permission a new ENI is the only way; for the rest the pause will pass.
                if !matches!(held, Refusal::Denied { .. } | Refusal::SubnetExhausted { .. }) {
                    missing = missing.saturating_sub(room);
                }
            } else {
                let count = if whole { room } else { room.min(missing) }.min(self.most_in(&eni.record.subnet));
                growth.assigns.push((eni.record.id.clone(), count));
                missing = missing.saturating_sub(room);
            }
        }
        let each = facts.limits.secondary();
        for intent in self.intents.values() {
            if let Call::CreateEni { ask, .. } = &intent.call {
                missing = missing.saturating_sub(each.saturating_sub(ask.places()));
            }
        }
        if missing == 0 || each == 0 {
            return growth;
        }

        let held = [Action::CreateNetworkInterface, Action::AttachNetworkInterface]
            .into_iter()
            .map(Scope::Action)
            .chain([Scope::Subnet(facts.subnet.clone())])
            .find_map(|scope| self.pauses.reason(&scope, now));
        if let Some(held) = held {
            growth.held = Some(held.clone());
            return growth;
        }
        let (limit, over_limit) = self.eni_limit(facts);
        let mut enis = count(self.enis.values().filter(|eni| eni.record.state != EniState::Leaving).count())
            + count(self.intents.values().filter(|intent| matches!(intent.call, Call::CreateEni { .. })).count());
        while missing > 0 {
            if enis >= limit {
                growth.held = growth.held.or(Some(over_limit));
                break;
            }
            let count = if whole { each } else { each.min(missing) }.min(most);
            growth.creates.push(count);
            missing = missing.saturating_sub(each);
            enis += 1;
        }
        growth
    }

    fn most_in(&self, subnet: &crate::SubnetId) -> u32 {
        self.ask_at_most.get(subnet).copied().unwrap_or(u32::MAX)
    }

    /// ENIs that can hold more addresses and how many, by device: those that are fullest of other ENIs first.
    fn room(&self, facts: &NodeFacts) -> Vec<(&Eni, u32)> {
        let mut room: Vec<_> = self
            .enis
            .values()
            .filter(|eni| eni.grows())
            .filter_map(|eni| {
                let most = facts.limits.secondary();
                let asked: u32 = self
                    .intents
                    .values()
                    .map(|intent| match &intent.call {
                        Call::Assign { eni: id, ask } if *id == eni.record.id => ask.places(),
                        _ => 0,
                    })
                    .sum();
                let room = most.saturating_sub(count(eni.addresses.len()) + asked);
                (room > 0).then_some((eni, room))
            })
            .collect();
        room.sort_by_key(|(eni, _)| (eni.record.attachment.is_none(), eni.record.slot));
        room
    }

    /// How many ENIs there may be, and what to say when that is reached.
    pub(crate) fn eni_limit(&self, facts: &NodeFacts) -> (u32, Refusal) {
        let allowed = facts.limits.enis.min(self.learnt_enis.unwrap_or(u32::MAX));
        match self.policy.max_eni {
            Some(most) if most < allowed => (most, Refusal::PolicyCap { setting: format!("MAX_ENI={most}") }),
            _ => (allowed, Refusal::EniLimit { limit: allowed }),
        }
    }

    fn create(&self, now: Now, facts: &NodeFacts, addresses: u32) -> Call {
        let mut tags: BTreeMap<String, String> = self.policy.tags.clone();
        tags.insert(INSTANCE_TAG.to_owned(), facts.instance.to_string());
        tags.insert("node.k8s.amazonaws.com/createdAt".to_owned(), rfc3339(now.wall));
        if let Some(cluster) = &self.policy.cluster {
            tags.insert("cluster.k8s.amazonaws.com/name".to_owned(), cluster.clone());
            tags.insert("eks:eni:owner".to_owned(), "amazon-vpc-cni".to_owned());
        }
        Call::CreateEni {
            token: Token::from(format!("{:032x}-{}", now.luck, self.serial)),
            subnet: facts.subnet.clone(),
            groups: facts.groups.clone(),
            ask: Ask::Addresses(addresses),
            description: format!("aws-K8S-{}", facts.instance),
            tags,
        }
    }

    /// Attaches, protects and deletes what stands still; repeats creates whose answer was lost.
    pub(crate) fn plan_lifecycle(&mut self, now: Now) {
        let Some(facts) = self.facts.clone() else { return };
        if !self.pauses.active(&Scope::Action(Action::CreateNetworkInterface), now.at) {
            self.repeat_creates(now.at);
        }
        let ids: Vec<_> = self.enis.keys().cloned().collect();
        for id in ids {
            self.plan_eni(now, &facts, &id);
        }
    }

    /// A create whose answer was lost is asked again: its token makes it the same one.
    fn repeat_creates(&mut self, now: BootTime) {
        let mut repeats = Vec::new();
        for intent in self.intents.values_mut().filter(|intent| intent.token().is_some()) {
            if let Some(doubt) = intent.doubt.as_mut().filter(|doubt| doubt.next.is_some_and(|next| next <= now)) {
                doubt.next = None;
                repeats.push((intent.id, intent.call.clone()));
            }
        }
        for (id, call) in repeats {
            self.touch(Key::Intent(id));
            self.effect(crate::Effect::Call(id, call));
        }
    }

    fn plan_eni(&mut self, now: Now, facts: &NodeFacts, id: &EniId) {
        let busy = self.intents.values().any(|intent| intent.call.eni() == Some(id));
        let Some(eni) = self.enis.get(id) else { return };
        if busy || !eni.record.created || self.pauses.active(&Scope::Eni(id.clone()), now.at) {
            return;
        }
        let attachment = eni.record.attachment.as_ref().map(|attached| attached.id.clone());
        let (next, call) = match (&eni.record.state, attachment) {
            (EniState::Detached, _)
                if self.attach_failures.get(id).is_some_and(|failures| *failures >= ATTACH_TRIES) =>
            {
                (EniState::Leaving, Some(Call::Delete { eni: id.clone() }))
            }
            (EniState::Detached, _) => {
                let device = self.free_device();
                (EniState::Attaching, Some(Call::Attach { eni: id.clone(), instance: facts.instance.clone(), device }))
            }
            (EniState::AttachedUnprotected, Some(attachment)) => {
                (EniState::AttachedUnprotected, Some(Call::Protect { eni: id.clone(), attachment }))
            }
            (EniState::Draining, Some(attachment)) if eni.record.role == Role::Pods && empty(eni) => {
                (EniState::Detaching, Some(Call::Detach { eni: id.clone(), attachment }))
            }
            (EniState::Detaching, Some(attachment)) => {
                (EniState::Detaching, Some(Call::Detach { eni: id.clone(), attachment }))
            }
            (EniState::Leaving, _) => (EniState::Leaving, Some(Call::Delete { eni: id.clone() })),
            (state, _) => (state.clone(), None),
        };
        let Some(call) = call else { return };
        if self.pauses.active(&Scope::Action(call.action()), now.at) {
            return;
        }
        self.set_state(id, eni.record.state.clone(), next);
        self.call(now.at, call);
    }
}

/// An ENI that could not be attached so often is deleted.
const ATTACH_TRIES: u32 = 3;

/// What to ask for.
struct Growth {
    assigns: Vec<(EniId, u32)>,
    creates: Vec<u32>,
    held: Option<Refusal>,
}

/// No pod has, or had a moment ago, an address of this ENI.
pub(crate) fn empty(eni: &Eni) -> bool {
    !eni.addresses
        .values()
        .any(|held| matches!(held, Address::Leased(_) | Address::Cooling { .. } | Address::Quarantined(_)))
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Seconds since 1970 as RFC 3339, UTC (days to civil date after Howard Hinnant's `civil_from_days`).
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn wall_clocks_are_written_as_ec2_tags_have_them() {
        assert_eq!(super::rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::rfc3339(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(super::rfc3339(1_795_259_100), "2026-11-21T11:05:00Z");
    }
}
