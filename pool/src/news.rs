//! What people want to know although nobody asked.
//!
//! Owns the closed set of such facts and their sentences. Never decides when one is true.

use std::fmt;

use crate::{Block, EniId, Lease, SubnetId};

/// Something worth a line in the log and an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The sandbox of this lease vanished without a DEL; its address cools.
    Reclaimed(Lease),
    /// The subnet has no aligned /28 free: single addresses are assigned instead, and prefixes are tried again later.
    PrefixFragmented(SubnetId),
    /// An ENI that a node left behind was deleted.
    LeakedEniDeleted(EniId),
    /// EC2 does not show this ENI, and pods use it: no new leases there.
    EniQuarantined(EniId),
    /// EC2 shows it again.
    EniTrusted(EniId),
    /// These addresses are in use by something that is not ours.
    ForeignAddresses(usize),
    /// EC2 does not show this any more, and no pod had it.
    Lost(EniId, Block),
    /// A cooling address was leased before its time.
    ReusedEarly(Lease),
}

impl News {
    /// Its name, as Events have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reclaimed(_) => "SandboxReclaimed",
            Self::PrefixFragmented(_) => "PrefixFragmented",
            Self::LeakedEniDeleted(_) => "LeakedEniDeleted",
            Self::EniQuarantined(_) => "EniQuarantined",
            Self::EniTrusted(_) => "EniTrusted",
            Self::ForeignAddresses(_) => "ForeignAddresses",
            Self::Lost(..) => "AddressLost",
            Self::ReusedEarly(_) => "CoolingReusedEarly",
        }
    }

    /// Somebody should look at it.
    pub fn is_alarming(&self) -> bool {
        match self {
            Self::Reclaimed(_) | Self::LeakedEniDeleted(_) | Self::EniTrusted(_) => false,
            Self::PrefixFragmented(_)
            | Self::EniQuarantined(_)
            | Self::ForeignAddresses(_)
            | Self::Lost(..)
            | Self::ReusedEarly(_) => true,
        }
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reclaimed(lease) => {
                write!(f, "the sandbox {} of {} vanished without a DEL; its address cools", lease.key, lease.pod)
            }
            Self::PrefixFragmented(subnet) => write!(
                f,
                "{subnet} has no aligned /28 free; single addresses are assigned until prefixes can be had again (a CIDR reservation of type prefix helps)"
            ),
            Self::LeakedEniDeleted(eni) => write!(f, "deleted {eni}, which a node had left behind"),
            Self::EniQuarantined(eni) => {
                write!(f, "EC2 does not show {eni}, and pods use it: no new leases there until EC2 shows it again")
            }
            Self::EniTrusted(eni) => write!(f, "EC2 shows {eni} again"),
            Self::ForeignAddresses(count) => {
                write!(
                    f,
                    "{count} addresses of ours are in use by something that Berth did not set up; they are not leased"
                )
            }
            Self::Lost(eni, block) => write!(f, "EC2 does not show {block} on {eni} any more; no pod had it"),
            Self::ReusedEarly(lease) => {
                write!(f, "leased a cooling address to {} before its time (BERTH_EARLY_REUSE)", lease.pod)
            }
        }
    }
}
