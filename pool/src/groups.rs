//! Security groups of the ENIs that we created.
//!
//! Owns that they are the primary ENI's, also after those have changed. Never touches an ENI that somebody else made, nor one that is on
//! its way in or out, and never lets a refusal here keep an address from a pod.

use std::collections::BTreeSet;

use crate::{
    BootTime, Call, EniId, EniState, Fault, Key, Kind, Now, Refusal, SecurityGroupId, State,
    budget::Urgency,
    pause::{SOMEBODY, Scope, TRANSITION},
};

impl State {
    /// Gives the primary ENI's security groups to those of our ENIs that have others.
    pub(crate) fn plan_groups(&mut self, now: BootTime) {
        let Some(groups) = self.facts.as_ref().map(|facts| facts.groups.clone()) else { return };
        let wanted: BTreeSet<&SecurityGroupId> = groups.iter().collect();
        let quiet = |id: &EniId| {
            !self.intents.values().any(|intent| intent.call.eni() == Some(id))
                && !self.pauses.active(&Scope::Eni(id.clone()), now)
                && !self.pauses.active(&Scope::Groups(id.clone()), now)
        };
        let differ: Vec<EniId> = self
            .enis
            .values()
            .map(|eni| &eni.record)
            .filter(|record| record.created && !record.groups.iter().eq(wanted.iter().copied()))
            .filter(|record| {
                matches!(record.state, EniState::AttachedUnprotected | EniState::Ready | EniState::Draining)
            })
            .map(|record| record.id.clone())
            .filter(quiet)
            .collect();
        // EC2 refuses an ENI without groups: that metadata has none is no order.
        if groups.is_empty() {
            return;
        }
        for eni in differ {
            let call = Call::SetGroups { eni, groups: groups.clone() };
            if self.may_call(now, call.action(), Urgency::Warm) {
                self.call(now, call);
            }
        }
    }

    /// EC2 has set them.
    pub(crate) fn groups_set(&mut self, id: &EniId, groups: Vec<SecurityGroupId>) {
        self.pauses.end(&Scope::Groups(id.clone()));
        if let Some(eni) = self.enis.get_mut(id) {
            eni.record.groups = groups.into_iter().collect();
            self.touch(Key::Eni(id.clone()));
        }
    }

    /// EC2 has not set them.
    pub(crate) fn groups_refused(&mut self, now: Now, id: &EniId, fault: &Fault) {
        let action = crate::Action::ModifyNetworkInterfaceAttribute;
        match fault.kind {
            Kind::Throttled | Kind::Unreachable | Kind::Denied | Kind::Credentials => {
                self.pause_action(now, action, fault);
            }
            kind => {
                let reason = Refusal::CloudError { action: action.name().to_owned(), code: fault.code.clone() };
                self.pauses.begin(now, Scope::Groups(id.clone()), SOMEBODY, reason);
                if kind == Kind::Gone {
                    self.suspect(Some(id.clone()));
                }
            }
        }
    }

    /// The answer was lost: it has these groups or those, so it is asked again whatever is wanted by then.
    pub(crate) fn groups_doubted(&mut self, now: Now, id: &EniId) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.record.groups.clear();
            self.touch(Key::Eni(id.clone()));
        }
        let action = crate::Action::ModifyNetworkInterfaceAttribute.name().to_owned();
        let reason = Refusal::CloudUnreachable { action };
        self.pauses.begin(now, Scope::Groups(id.clone()), TRANSITION, reason);
    }
}
