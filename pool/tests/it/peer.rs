//! amazon-vpc-cni's arithmetic, written down from its own formulas and not from ours, for the tests to compare with.

use pool::{Limits, Policy, Warm};

const PREFIX: u32 = 16;

/// The variables of one network card, and what the instance allows.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// WARM_IP_TARGET.
    pub warm_ip: u32,
    /// MINIMUM_IP_TARGET.
    pub minimum: u32,
    /// WARM_ENI_TARGET.
    pub warm_eni: u32,
    /// WARM_PREFIX_TARGET.
    pub warm_prefix: u32,
    /// ENABLE_PREFIX_DELEGATION.
    pub prefixes: bool,
    /// MAX_ENI.
    pub max_eni: Option<u32>,
    /// The node's pod limit.
    pub max_pods: u32,
    /// ENIs that the type allows.
    pub enis: u32,
    /// Addresses or prefixes for pods that an ENI holds.
    pub places: u32,
}

/// What a node holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Store {
    pub enis: u32,
    /// Addresses, or prefixes.
    pub blocks: u32,
    pub assigned: u32,
    /// Prefixes of which no address is assigned.
    pub free_prefixes: u32,
}

impl Settings {
    /// Everything off, on an m5.large.
    pub const OFF: Self = Self {
        warm_ip: 0,
        minimum: 0,
        warm_eni: 0,
        warm_prefix: 0,
        prefixes: false,
        max_eni: None,
        max_pods: 500,
        enis: 3,
        places: 9,
    };

    fn each(&self) -> u32 {
        if self.prefixes { PREFIX } else { 1 }
    }

    fn in_addresses(&self) -> bool {
        self.warm_ip > 0 || self.minimum > 0
    }

    pub fn total(&self, store: Store) -> u32 {
        store.blocks * self.each()
    }

    pub fn available(&self, store: Store) -> u32 {
        self.total(store) - store.assigned
    }

    /// `datastoreTargetState`: addresses too few and too many.
    pub fn state(&self, store: Store) -> (u32, u32) {
        let (total, available) = (self.total(store), self.available(store));
        let short = self.warm_ip.saturating_sub(available).max(self.minimum.saturating_sub(total));
        let over = available.saturating_sub(self.warm_ip).min(total.saturating_sub(self.minimum));
        (short, over)
    }

    /// The same in prefixes.
    pub fn prefix_state(&self, store: Store) -> (u32, u32) {
        let (short, _) = self.state(store);
        let needed = (store.assigned + self.warm_ip).div_ceil(PREFIX);
        let over = store
            .free_prefixes
            .min(store.blocks.saturating_sub(needed))
            .min(store.blocks.saturating_sub(self.minimum.div_ceil(PREFIX)));
        (short.div_ceil(PREFIX), over)
    }

    /// `isDatastorePoolTooLow`.
    pub fn too_low(&self, store: Store) -> bool {
        if self.total(store) >= self.max_pods {
            return false;
        }
        if self.in_addresses() {
            return self.state(store).0 > 0;
        }
        let (unit, target) = if self.prefixes { (PREFIX, self.warm_prefix) } else { (self.places, self.warm_eni) };
        let available = self.available(store);
        available < unit * target || (target == 0 && available == 0)
    }

    /// `isDatastorePoolTooHigh`.
    pub fn too_high(&self, store: Store) -> bool {
        if self.in_addresses() {
            let over = if self.prefixes { self.prefix_state(store).1 } else { self.state(store).1 };
            return over > 0;
        }
        self.prefixes && store.free_prefixes > self.warm_prefix
    }

    /// `shouldRemoveExtraENIs`, without prefixes and without targets in addresses.
    pub fn spare_eni(&self, store: Store) -> bool {
        self.available(store) >= (self.warm_eni + 1) * self.places
    }

    /// What a fresh node holds once `pods` pods came and its loop has nothing left to do: one assign on the first ENI with room, else a
    /// new ENI, again and again.
    pub fn grown(&self, pods: u32) -> Store {
        let most = self.max_eni.unwrap_or(u32::MAX).min(self.enis);
        let mut store = Store { enis: 1, ..Store::default() };
        loop {
            store.assigned = pods.min(self.total(store));
            store.free_prefixes = store.blocks - store.assigned.div_ceil(PREFIX).min(store.blocks);
            if !self.too_low(store) {
                return store;
            }
            let (short, _) = self.state(store);
            let wanted = match (self.prefixes, self.in_addresses()) {
                (true, true) => short.div_ceil(PREFIX).max(1),
                (true, false) => self.warm_prefix.saturating_sub(store.free_prefixes).max(1),
                (false, true) => short,
                (false, false) => self.places,
            };
            let room = store.enis * self.places - store.blocks;
            if room > 0 {
                store.blocks += wanted.min(room);
            } else if store.enis < most {
                store.enis += 1;
                store.blocks += wanted.min(self.places);
            } else {
                return store;
            }
        }
    }

    /// How many pods the node can have at most by its places.
    pub fn capacity(&self) -> u32 {
        self.max_eni.unwrap_or(u32::MAX).min(self.enis) * self.places * self.each()
    }

    /// The same settings for the pool; which variable goes before which is the daemon's configuration.
    pub fn policy(&self) -> Policy {
        let warm = match (self.in_addresses(), self.prefixes) {
            (true, _) => Warm::Addresses { warm: self.warm_ip, minimum: self.minimum },
            (false, true) => Warm::Prefixes(self.warm_prefix),
            (false, false) => Warm::Enis(self.warm_eni),
        };
        Policy {
            warm,
            prefixes: self.prefixes,
            max_eni: self.max_eni,
            max_pods: Some(self.max_pods),
            ..Policy::default()
        }
    }

    pub fn limits(&self) -> Limits {
        Limits { enis: self.enis, addresses_per_eni: self.places + 1 }
    }
}
