//! ENIs, their addresses and the leases on them, as the pool holds them.
//!
//! Owns the states and what can be derived from one ENI alone. Never decides a transition.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    Address, Addresses, AttachmentId, Block, BootTime, Call, CallId, DeviceIndex, EniId, Generation, LeaseKey, Mac,
    Pod, Prefix, PrefixState, SecurityGroupId, Slot, SubnetId, Tally, Token,
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
    /// Has the tag with our instance's id.
    #[serde(default)]
    pub tagged: bool,
    /// Its subnet is not for pods (`kubernetes.io/role/cni=0`): no new leases, and what has none goes.
    #[serde(default)]
    pub excluded: bool,
    /// Its security groups when it came into the pool, or those that we gave it since.
    #[serde(default)]
    pub groups: BTreeSet<SecurityGroupId>,
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

/// An ENI and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eni {
    /// The ENI.
    pub record: EniRecord,
    /// Its addresses for pods.
    pub addresses: Addresses,
    /// The kernel carries its traffic. Not kept: every start configures again.
    pub link_ready: bool,
}

impl Eni {
    /// Leases may be made on it now.
    pub fn serves(&self) -> bool {
        self.link_ready
            && self.holds_pods()
            && !self.record.excluded
            && matches!(self.record.state, EniState::AttachedUnprotected | EniState::Ready)
    }

    /// It is one that carries new pods, now or soon.
    pub fn grows(&self) -> bool {
        self.holds_pods()
            && !self.record.excluded
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

    /// The kernel should know that packets to this address are for this node, by a route of the address' own: EC2 has it on the ENI, no
    /// route of its prefix covers it, and the ENI is not about to go, unless a pod has it.
    pub(crate) fn carries(&self, address: Ipv4Addr) -> bool {
        let prefix = Prefix::around(address);
        let covered = self.addresses.prefix(prefix).is_some() && self.carries_prefix(prefix);
        match self.addresses.get(address) {
            Some(Address::Leased(_)) => !covered,
            Some(Address::Free { .. } | Address::Cooling { .. }) => {
                !self.leaves() && !self.addresses.in_prefix(address)
            }
            _ => false,
        }
    }

    /// The same for the addresses of a prefix, by one route.
    pub(crate) fn carries_prefix(&self, prefix: Prefix) -> bool {
        let usable =
            self.addresses.prefix(prefix).is_some_and(|held| matches!(held.state(), PrefixState::Usable { .. }));
        usable && !self.leaves()
    }

    /// On its way out.
    fn leaves(&self) -> bool {
        matches!(self.record.state, EniState::Draining | EniState::Detaching)
    }

    /// What could be leased, and is not, is to be confirmed first.
    pub(crate) fn doubt_free_addresses(&mut self) {
        let free: Vec<_> =
            self.addresses.singles().filter(|(_, held)| matches!(held, Address::Free { .. })).map(|(a, _)| a).collect();
        for address in free {
            self.addresses.set(address, Some(Address::Unverified { absent: None }));
        }
        let prefixes: Vec<_> = self.addresses.prefixes().map(|(prefix, _)| prefix).collect();
        for prefix in prefixes {
            self.addresses.set_prefix(prefix, Some(PrefixState::Unverified { absent: None }));
        }
    }

    /// All that it holds, as EC2 assigned it.
    pub(crate) fn held_blocks(&self) -> Vec<Block> {
        let singles = self.addresses.singles().map(|(address, _)| Block::Address(address));
        singles.chain(self.addresses.prefixes().map(|(prefix, _)| Block::Prefix(prefix))).collect()
    }

    /// Its addresses, by state.
    pub fn tally(&self) -> Tally {
        let (a, b) = (self.addresses.single_tally(), self.addresses.member_tally());
        Tally {
            free: a.free + b.free,
            leased: a.leased + b.leased,
            cooling: a.cooling + b.cooling,
            unverified: a.unverified + b.unverified,
            quarantined: a.quarantined + b.quarantined,
        }
    }

    /// How many of its addresses are leased.
    pub fn leased(&self) -> usize {
        self.tally().leased as usize
    }

    /// No pod has, or had a moment ago, an address of this ENI.
    pub fn is_empty(&self) -> bool {
        let tally = self.tally();
        tally.leased + tally.cooling + tally.quarantined == 0
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
    /// A doubt about it ends by asking again: a create by its token, an unassign because EC2 says so when there is nothing to take back.
    pub(crate) fn is_repeated(&self) -> bool {
        matches!(self.call, Call::CreateEni { .. } | Call::Unassign { .. })
    }

    /// It gives something back, and the answer was lost.
    pub(crate) fn is_doubted_unassign(&self) -> bool {
        self.doubt.is_some() && matches!(self.call, Call::Unassign { .. })
    }

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
