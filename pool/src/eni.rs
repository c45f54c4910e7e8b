//! ENIs, their addresses and the leases on them, as the pool holds them.
//!
//! Owns the states and what can be derived from one ENI alone. Never decides a transition.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, BootTime, Call, CallId, DeviceIndex, EniId, Generation, LeaseKey, Mac, Pod, Slot, SubnetId, Token,
};

/// An ENI without its addresses, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniRecord {
    /// Its id.
    pub id: EniId,
    /// Hardware address.
    pub mac: Mac,
    /// Subnet.
    pub subnet: SubnetId,
    /// Its own address.
    pub primary: Ipv4Addr,
    /// What it is to us.
    pub role: Role,
    /// Created by us: only such ENIs are ever detached or deleted.
    pub created: bool,
    /// Where it stands.
    pub state: EniState,
    /// Its attachment, from the moment EC2 names it.
    pub attachment: Option<Attached>,
    /// Given when first seen attached.
    pub slot: Option<Slot>,
    /// When it came into the pool.
    pub since: BootTime,
}

impl EniRecord {
    /// Position, while attached.
    pub fn device_index(&self) -> Option<u32> {
        self.attachment.as_ref().map(|attachment| attachment.device.0)
    }
}

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its id.
    pub id: AttachmentId,
    /// Position.
    pub device: DeviceIndex,
    /// Network card.
    pub card: u32,
}

/// What an ENI is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// The instance's first: never detached.
    Primary,
    /// Carries pods.
    Pods,
    /// Carries branch ENIs.
    Trunk,
    /// Carries no addresses.
    Efa,
    /// Not ours: counted against the limits and never touched.
    Foreign,
}

/// Where an ENI stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EniState {
    /// Exists, attached to nothing.
    Detached,
    /// AttachNetworkInterface is under way.
    Attaching,
    /// Attached, but would outlive the instance.
    AttachedUnprotected,
    /// Attached and protected.
    Ready,
    /// No new leases; goes when the last lease and the last cooling address are gone.
    Draining,
    /// DetachNetworkInterface is under way.
    Detaching,
    /// To be deleted: detached, or never to be attached.
    Leaving,
    /// Something unexplained: no new leases.
    Quarantined(String),
}

impl fmt::Display for EniState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detached => "Detached",
            Self::Attaching => "Attaching",
            Self::AttachedUnprotected => "AttachedUnprotected",
            Self::Ready => "Ready",
            Self::Draining => "Draining",
            Self::Detaching => "Detaching",
            Self::Leaving => "Leaving",
            Self::Quarantined(_) => "Quarantined",
        })
    }
}

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

/// An ENI and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// The ENI.
    pub record: EniRecord,
    /// Its addresses for pods.
    pub addresses: BTreeMap<Ipv4Addr, Address>,
    /// The kernel carries its traffic. Not kept: every start configures again.
    pub link_ready: bool,
}

impl Eni {
    /// Leases may be made on it now.
    pub fn serves(&self) -> bool {
        self.link_ready
            && self.holds_pods()
            && matches!(self.record.state, EniState::AttachedUnprotected | EniState::Ready)
    }

    /// It is one that carries pods, now or soon.
    pub fn grows(&self) -> bool {
        self.holds_pods()
            && matches!(
                self.record.state,
                EniState::Detached | EniState::Attaching | EniState::AttachedUnprotected | EniState::Ready
            )
    }

    /// Its role lets it carry pods.
    pub fn holds_pods(&self) -> bool {
        matches!(self.record.role, Role::Primary | Role::Pods)
    }

    /// Attached as far as EC2 said, so the kernel should have its link.
    pub fn attached(&self) -> bool {
        self.record.attachment.is_some()
            && !matches!(self.record.state, EniState::Detached | EniState::Attaching | EniState::Leaving)
    }

    /// The kernel should know that packets to an address in this state are for this node: EC2 has it on the ENI, and the ENI is not
    /// about to go, unless a pod has the address.
    pub fn wants(&self, held: &Address) -> bool {
        let goes = matches!(self.record.state, EniState::Draining | EniState::Detaching);
        match held {
            Address::Leased(_) => true,
            Address::Free { .. } | Address::Cooling { .. } => !goes,
            Address::Unverified { .. } | Address::Quarantined(_) => false,
        }
    }

    /// How many of its addresses are leased.
    pub fn leased(&self) -> usize {
        self.addresses.values().filter(|address| matches!(address, Address::Leased(_))).count()
    }
}

/// A call that has been or is about to be made, and whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its number.
    pub id: CallId,
    /// The call.
    pub call: Call,
    /// When it was made.
    pub at: BootTime,
    /// Set once the answer was lost.
    pub doubt: Option<Doubt>,
}

/// What reading EC2 has shown of a call whose answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Reads that did not show the effect.
    pub reads: u32,
    /// When the first of them came back.
    pub first: Option<BootTime>,
    /// When to read, or to repeat a call with a token, next; none while that is under way.
    pub next: Option<BootTime>,
}

impl Intent {
    /// The client token, where the call has one.
    pub fn token(&self) -> Option<&Token> {
        match &self.call {
            Call::CreateEni { token, .. } => Some(token),
            _ => None,
        }
    }
}

/// What one sandbox interface holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who.
    pub key: LeaseKey,
    /// Its number.
    pub generation: Generation,
    /// The pod.
    pub pod: Pod,
    /// How it came about.
    pub origin: Origin,
    /// When its ADD started: a DEL that started earlier does not touch it.
    pub started: BootTime,
    /// When it was made.
    pub made: BootTime,
    /// The sandbox's network namespace.
    pub netns: String,
    /// Its interfaces; one today.
    pub attachments: Vec<Attachment>,
}

/// How a lease came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// By an ADD.
    Allocated,
    /// Rebuilt from the kernel after the ledger was lost.
    Found,
    /// Taken over from amazon-vpc-cni.
    Imported,
}

/// One interface of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Inside the sandbox.
    pub ifname: String,
    /// The host side.
    pub link: String,
    /// By which way its packets leave.
    pub path: Path,
    /// Its addresses, each the whole of a /32.
    pub addresses: Vec<Ipv4Addr>,
}

/// By which way a sandbox's packets leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Path {
    /// A secondary address of an ENI that many pods share.
    Pooled {
        /// The ENI.
        eni: EniId,
        /// Its slot.
        slot: Slot,
    },
}
