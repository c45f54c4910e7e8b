//! ENIs that come into the pool.
//!
//! Owns what an ENI is to us by its tags, description and kind, and the first look at what it holds. Never touches one that is not ours:
//! those only count against the limits.

use std::collections::BTreeSet;

use crate::{
    Addresses, Attached, BootTime, Call, DeviceIndex, Eni, EniRecord, EniState, InterfaceKind, Key, Role,
    SeenAttachment, SeenEni, Slot, State,
};

/// Tag with the id of the instance that an ENI belongs to (amazon-vpc-cni's).
pub(crate) const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag that keeps us away from an ENI (amazon-vpc-cni's).
pub(crate) const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";

impl State {
    /// Takes an ENI in that was not known: just created, found attached, or left from before the ledger was lost.
    pub(crate) fn adopt(&mut self, now: BootTime, seen: SeenEni) {
        let Some(facts) = &self.facts else { return };
        let description = format!("aws-K8S-{}", facts.instance);
        let tagged = seen.tags.get(INSTANCE_TAG).is_some_and(|tag| *tag == facts.instance.as_str());
        let untouchable = seen.tags.get(NO_MANAGE_TAG).is_some_and(|tag| tag == "true");
        let ours = self.our_attachment(&seen);
        let role = match (seen.kind, &ours) {
            (InterfaceKind::Trunk, _) => Role::Trunk,
            (InterfaceKind::EfaOnly, _) => Role::Efa,
            (InterfaceKind::Other, _) => Role::Foreign,
            _ if seen.id == facts.primary => Role::Primary,
            _ if untouchable || !(tagged || self.policy.manage_untagged) => Role::Foreign,
            // Other network cards come with multi-NIC pods.
            (InterfaceKind::Interface, Some(SeenAttachment { card: 1.., .. })) => Role::Foreign,
            (InterfaceKind::Interface, _) => Role::Pods,
        };
        let created = tagged && seen.description == description && role == Role::Pods;
        let state = match &ours {
            None => EniState::Detached,
            Some(attachment) if !attachment.attached => EniState::Detaching,
            Some(attachment) if attachment.delete_on_termination || !created => EniState::Ready,
            Some(_) => EniState::AttachedUnprotected,
        };
        let slot = match (role, &ours) {
            (Role::Primary, _) => Some(Slot::PRIMARY),
            (Role::Pods, Some(_)) => self.free_slot(),
            _ => None,
        };
        let record = EniRecord {
            id: seen.id.clone(),
            mac: seen.mac,
            subnet: seen.subnet.clone(),
            primary: seen.primary,
            role,
            created,
            tagged,
            groups: seen.groups,
            excluded: self.subnets.get(&seen.subnet).is_some_and(|subnet| subnet.excluded),
            state,
            attachment: ours.map(|attachment| Attached {
                id: attachment.id,
                device: attachment.device,
                card: attachment.card,
            }),
            slot,
            since: now,
        };
        let holds_pods = matches!(role, Role::Primary | Role::Pods);
        self.enis.insert(seen.id.clone(), Eni { record, addresses: Addresses::default(), link_ready: false });
        self.touch(Key::Eni(seen.id.clone()));
        if holds_pods {
            for address in seen.secondary {
                self.confirm(now, &seen.id, address);
            }
            for prefix in seen.prefixes {
                self.confirm_prefix(now, &seen.id, prefix);
            }
        }
    }

    pub(crate) fn our_attachment(&self, seen: &SeenEni) -> Option<SeenAttachment> {
        let instance = &self.facts.as_ref()?.instance;
        seen.attachment.clone().filter(|attachment| attachment.instance.as_ref() == Some(instance))
    }

    /// Device indices of card 0 that something holds or is about to hold.
    pub(crate) fn free_device(&self) -> DeviceIndex {
        let held = self
            .enis
            .values()
            .filter_map(|eni| eni.record.attachment.as_ref())
            .filter(|at| at.card == 0)
            .map(|at| at.device);
        let asked = self.intents.values().filter_map(|intent| match &intent.call {
            Call::Attach { device, .. } => Some(*device),
            _ => None,
        });
        let taken: BTreeSet<_> = held.chain(asked).collect();
        (1..=u32::from(u8::MAX))
            .map(DeviceIndex)
            .find(|device| !taken.contains(device))
            .unwrap_or(DeviceIndex(u32::MAX))
    }
}
