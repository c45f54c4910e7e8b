//! What holds after every event, whatever happened.

use std::{collections::BTreeSet, net::Ipv4Addr};

use pool::BootTime;

use super::{World, ec2::holds};

impl World {
    pub(super) fn hold_promises(&mut self) {
        let wrong = self.state.check();
        assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}", self.state);
        assert_eq!(self.carried, self.state.wanted(), "the kernel was not told");
        self.no_lease_without_an_address();
        self.nothing_reused_too_early();
    }

    fn nothing_reused_too_early(&mut self) {
        let mut leased = BTreeSet::new();
        for lease in self.state.leases() {
            for address in lease.attachments.iter().flat_map(|attachment| &attachment.addresses) {
                leased.insert(*address);
                let new = lease.origin == pool::Origin::Allocated && !self.leased.contains(address);
                let early = new && self.cools(*address) && !self.policy.early_reuse;
                assert!(!early, "{} got {address}, which cools", lease.key);
            }
        }
        for address in self.leased.difference(&leased) {
            self.released.insert(*address, BootTime(self.at));
        }
        self.leased = leased;
    }

    /// It was released a moment ago.
    pub(super) fn cools(&self, address: Ipv4Addr) -> bool {
        self.released.get(&address).is_some_and(|released| self.now() < released.after(self.policy.cooling))
    }

    fn no_lease_without_an_address(&self) {
        for lease in self.state.leases() {
            for attachment in &lease.attachments {
                let pool::Path::Pooled { eni, .. } = &attachment.path;
                for address in &attachment.addresses {
                    let there = self.enis.get(eni.as_str()).is_some_and(|eni| holds(eni, *address));
                    assert!(there, "{} holds {address}, which EC2 does not have on {eni}", lease.key);
                }
            }
        }
    }
}
