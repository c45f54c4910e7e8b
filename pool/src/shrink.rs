//! What to give back, and when.
//!
//! Owns surplus: noticed, waited for, then given back, whole ENIs before prefixes and single addresses. Never touches an address that is
//! leased or cools, nor a prefix that holds one, nor the primary ENI, nor an ENI that we did not create.

use crate::{
    Action, Address, Ask, Block, BootTime, Call, Effect, Eni, EniId, EniState, Key, Now, Numbers, Prefix, PrefixState,
    Refusal, State, Warm, budget::Urgency, pause::Scope,
};

impl State {
    /// Gives surplus back once it has been there for long enough. `held`: why the pool could not grow a moment ago.
    pub(crate) fn plan_shrink(&mut self, now: Now, held: Option<&Refusal>) {
        if self.limits_missing().is_some() {
            self.surplus = None;
            return;
        }
        let enis = self.spare_enis(now.at);
        let blocks = self.spare_blocks(now.at, &enis, held);
        let moves = if enis.is_empty() && blocks.is_empty() { self.spare_by_moving(now.at) } else { Vec::new() };
        if enis.is_empty() && blocks.is_empty() && moves.is_empty() {
            self.surplus = None;
            return;
        }
        let wait = now.jittered(self.policy.shrink_after);
        let (since, wait) = *self.surplus.get_or_insert((now.at, wait));
        let growing = self.grown_at.is_some_and(|grown| now.at.since(grown) < self.policy.shrink_after);
        let affords =
            |state: &mut Self, action, wanted: bool| !wanted || state.may_call(now.at, action, Urgency::Release);
        if now.at.since(since) < wait
            || growing
            || !affords(self, Action::AssignPrivateIpAddresses, !moves.is_empty())
            || !affords(self, Action::UnassignPrivateIpAddresses, !blocks.is_empty())
        {
            return;
        }
        self.surplus = None;
        if !moves.is_empty() {
            self.grown_at = Some(now.at);
        }
        for (eni, ask) in moves {
            self.call(now.at, Call::Assign { eni, ask });
        }
        for id in enis {
            self.drain(&id);
        }
        for (eni, blocks) in blocks {
            self.give_back(now.at, eni, blocks);
        }
    }

    /// ENIs that can go without the pool falling short, the emptiest and newest first; those in excluded subnets in any case.
    fn spare_enis(&self, now: BootTime) -> Vec<EniId> {
        let detach = Scope::Action(crate::Action::DetachNetworkInterface);
        if (self.draining && !self.policy.manage_unschedulable) || self.pauses.active(&detach, now) {
            return Vec::new();
        }
        let mut candidates: Vec<_> = self.enis.values().filter(|eni| self.may_drain(now, eni)).collect();
        candidates.sort_by_key(|eni| (!eni.record.excluded, eni.addresses.len(), std::cmp::Reverse(eni.record.slot)));
        let mut spare = Vec::new();
        for eni in candidates {
            spare.push(eni.record.id.clone());
            if !eni.record.excluded && self.numbers_without(now, &spare).short > 0 {
                spare.pop();
            }
        }
        spare
    }

    /// An ENI that holds nothing but what the others have room for: they are filled first, then it is spare.
    fn spare_by_moving(&self, now: BootTime) -> Vec<(EniId, Ask)> {
        let held_back = self.draining && !self.policy.manage_unschedulable;
        if held_back || !self.waiting.is_empty() || !self.intents.is_empty() {
            return Vec::new();
        }
        let idle = self.enis.values().filter(|eni| self.may_drain(now, eni)).max_by_key(|eni| eni.record.slot);
        idle.and_then(|eni| self.moved_off(now, &eni.record.id)).unwrap_or_default()
    }

    /// Ours, and no pod has or had a moment ago an address of it.
    fn may_drain(&self, now: BootTime, eni: &Eni) -> bool {
        eni.record.created
            && eni.record.device_index() != Some(0)
            && matches!(eni.record.state, EniState::AttachedUnprotected | EniState::Ready)
            && eni.link_ready
            && eni.is_empty()
            && !self.resting.keys().any(|address| eni.addresses.contains(*address))
            && self.is_quiet(now, eni)
    }

    /// Nothing is under way with it, and nothing failed there a moment ago.
    fn is_quiet(&self, now: BootTime, eni: &Eni) -> bool {
        let id = &eni.record.id;
        !self.intents.values().any(|intent| intent.call.eni() == Some(id))
            && !self.pauses.active(&Scope::Eni(id.clone()), now)
    }

    /// What is beyond the targets, from the ENIs with the fewest leases, so that those empty: whole free prefixes, single addresses, and
    /// whatever is not of the wanted kind. With `WARM_ENI_TARGET` only whole ENIs are given back.
    fn spare_blocks(&self, now: BootTime, without: &[EniId], held: Option<&Refusal>) -> Vec<(EniId, Vec<Block>)> {
        let numbers = self.numbers_without(now, without);
        let mut enis: Vec<_> = self
            .enis
            .values()
            .filter(|eni| {
                (eni.serves() || (eni.record.excluded && eni.link_ready))
                    && !without.contains(&eni.record.id)
                    && self.is_quiet(now, eni)
            })
            .collect();
        enis.sort_by_key(|eni| (!eni.record.excluded, eni.leased(), std::cmp::Reverse(eni.record.slot)));
        let mut allowance = self.allowance(&numbers, held);
        let mut spare = Vec::new();
        for eni in enis {
            let single_fits = self.single_fits(eni, now);
            if !eni.record.excluded && allowance.over == 0 && !allowance.misfits {
                break;
            }
            let fits = (single_fits || eni.addresses.single_tally().free == 0)
                && (self.policy.prefixes || eni.addresses.prefixes().next().is_none());
            if !eni.record.excluded && allowance.over == 0 && fits {
                continue;
            }
            let prefixes = eni.addresses.prefixes().filter(|(_, held)| held.is_free());
            let mut blocks: Vec<_> = prefixes
                .filter(|_| eni.record.excluded || allowance.take_prefix(self.policy.prefixes))
                .map(|(prefix, _)| Block::Prefix(prefix))
                .collect();
            let singles: Vec<_> = eni.addresses.singles().collect();
            let free = singles.iter().rev().filter(|(_, held)| matches!(held, Address::Free { .. }));
            blocks.extend(
                free.filter(|_| eni.record.excluded || allowance.take_single(single_fits))
                    .map(|(address, _)| Block::Address(*address)),
            );
            // One call gives back one kind.
            let prefixes_first = matches!(blocks.first(), Some(Block::Prefix(_)));
            blocks.retain(|block| matches!(block, Block::Prefix(_)) == prefixes_first);
            if !blocks.is_empty() {
                spare.push((eni.record.id.clone(), blocks));
            }
        }
        spare
    }

    /// How much may go.
    fn allowance(&self, numbers: &Numbers, held: Option<&Refusal>) -> Allowance {
        // What is not free now cannot be given back now, and a pod that comes now does not wait for a cooling address.
        let warm = self.policy.warm.addresses().map_or(0, |(warm, _)| warm);
        let usable = (numbers.free + numbers.coming).saturating_sub(numbers.misfit);
        let over = match self.policy.warm {
            Warm::Enis(_) => 0,
            _ => numbers.over.min(usable.saturating_sub(warm)),
        };
        let prefixes = match self.policy.warm {
            Warm::Prefixes(target) => (over / Prefix::SIZE).min(numbers.free_prefixes.saturating_sub(target)),
            _ => over / Prefix::SIZE,
        };
        // The wanted kind must be there before the other kind goes, unless there is no room for it.
        let no_room =
            matches!(held, Some(Refusal::EniLimit { .. } | Refusal::PolicyCap { .. } | Refusal::AddressLimit));
        Allowance { over, prefixes, misfits: numbers.short == 0 || no_room }
    }

    fn drain(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        eni.record.state = EniState::Draining;
        let blocks = eni.held_blocks();
        self.touch(Key::Eni(id.clone()));
        self.effect(Effect::Withdraw(blocks));
    }

    fn give_back(&mut self, now: BootTime, eni: EniId, blocks: Vec<Block>) {
        let (mut addresses, mut prefixes) = (Vec::new(), Vec::new());
        for block in &blocks {
            match block {
                Block::Address(address) => {
                    self.hold(&eni, *address, Some(Address::Unverified { absent: None }));
                    addresses.push(*address);
                }
                Block::Prefix(prefix) => {
                    self.hold_prefix(&eni, *prefix, Some(PrefixState::Unverified { absent: None }));
                    prefixes.push(*prefix);
                }
            }
        }
        self.effect(Effect::Withdraw(blocks));
        self.call(now, Call::Unassign { eni, addresses, prefixes });
    }
}

/// How much may be given back.
struct Allowance {
    /// Addresses of the wanted kind.
    over: u32,
    /// Whole prefixes, if prefixes are wanted.
    prefixes: u32,
    /// What is not of the wanted kind.
    misfits: bool,
}

impl Allowance {
    fn take_prefix(&mut self, fits: bool) -> bool {
        if !fits {
            return self.misfits;
        }
        let may = self.prefixes > 0 && self.over >= Prefix::SIZE;
        if may {
            self.prefixes -= 1;
            self.over -= Prefix::SIZE;
        }
        may
    }

    fn take_single(&mut self, fits: bool) -> bool {
        if !fits {
            return self.misfits;
        }
        let may = self.over > 0;
        if may {
            self.over -= 1;
        }
        may
    }
}
