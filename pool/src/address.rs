//! The states of an address and of a prefix.
//!
//! Owns the closed sets of states and their counts. Never decides a transition.

use serde::{Deserialize, Serialize};

use crate::{BootTime, LeaseKey};

/// An address for pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// EC2 has not confirmed it, or it is being given back: never leased.
    Unverified {
        /// Since when one read of EC2 after another has not shown it.
        absent: Option<BootTime>,
    },
    /// Can be leased once its ENI serves.
    Free {
        /// Since when: the longest free goes first.
        since: BootTime,
    },
    /// Leased.
    Leased(LeaseKey),
    /// Released, not usable before this time.
    Cooling {
        /// The time.
        until: BootTime,
    },
    /// Something unexplained: never leased.
    Quarantined(String),
}

impl Address {
    /// The state's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unverified { .. } => "Unverified",
            Self::Free { .. } => "Free",
            Self::Leased(_) => "Leased",
            Self::Cooling { .. } => "Cooling",
            Self::Quarantined(_) => "Quarantined",
        }
    }
}

/// A prefix for pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrefixState {
    /// EC2 has not confirmed it, or it is being given back: none of its addresses is leased anew.
    Unverified {
        /// Since when one read of EC2 after another has not shown it.
        absent: Option<BootTime>,
    },
    /// Its addresses can be leased once its ENI serves.
    Usable {
        /// Since when: its unused addresses have been free for so long.
        since: BootTime,
    },
}

impl PrefixState {
    /// The state's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unverified { .. } => "Unverified",
            Self::Usable { .. } => "Usable",
        }
    }

    /// The state of its addresses that have not been used.
    pub(crate) fn unused(self) -> Address {
        match self {
            Self::Unverified { absent } => Address::Unverified { absent },
            Self::Usable { since } => Address::Free { since },
        }
    }
}

/// How many addresses are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Free.
    pub free: u32,
    /// Leased.
    pub leased: u32,
    /// Cooling.
    pub cooling: u32,
    /// Not confirmed.
    pub unverified: u32,
    /// Unexplained.
    pub quarantined: u32,
}

impl Tally {
    /// All of them.
    pub fn total(self) -> u32 {
        self.free + self.leased + self.cooling + self.unverified + self.quarantined
    }

    pub(crate) fn of(&mut self, held: &Address) -> &mut u32 {
        match held {
            Address::Free { .. } => &mut self.free,
            Address::Leased(_) => &mut self.leased,
            Address::Cooling { .. } => &mut self.cooling,
            Address::Unverified { .. } => &mut self.unverified,
            Address::Quarantined(_) => &mut self.quarantined,
        }
    }
}
