//! The pool: what a node holds, hands out, asks for and gives back.
//!
//! [`State`] is the whole of it: ENIs, addresses, leases, waiting requests and open calls. [`State::apply`] takes one [`Event`] and
//! says what to write down and what to do ([`Step`]); [`State::restore`] makes a state from what was written down.
//!
//! Pure: no clock, no I/O, no async, no randomness, no hashed collections. The same events give the same steps. It decides
//! everything; whoever drives it decides nothing.

mod address;
mod addresses;
mod adopt;
mod answer;
mod budget;
mod call;
mod check;
mod confirm;
mod denied;
mod eni;
mod event;
mod explain;
mod groups;
mod grow;
mod ids;
mod leaked;
mod lease;
mod lifecycle;
mod limits;
mod news;
mod numbers;
mod observe;
mod pause;
mod policy;
mod record;
mod refusal;
mod restore;
mod sandboxes;
mod shrink;
mod state;
mod subnets;
mod time;
mod wall;

pub use address::{Address, PrefixState, Tally};
pub use addresses::{Addresses, HeldPrefix};
pub use budget::{Budget, Waits};
pub use call::{Action, Answer, Ask, Call, Fault, InterfaceKind, Kind, SeenAttachment, SeenEni, SeenSubnet};
pub use eni::{Attached, Attachment, Doubt, Eni, EniRecord, EniState, Intent, Lease, Origin, Path, Role};
pub use event::{AddRequest, DelRequest, Effect, Event, FoundLease, Step, WantedEni};
pub use explain::{Explanation, Figure, Next};
pub use ids::{
    AttachmentId, Block, CallId, DeviceIndex, EniId, Generation, InstanceId, LeaseKey, Mac, NotAMac, NotAPrefix, Pod,
    Prefix, SecurityGroupId, Slot, SubnetId, Ticket, Token, VpcId,
};
pub use news::News;
pub use numbers::Numbers;
pub use policy::{COALESCE, Limits, NodeFacts, Policy, Warm};
pub use record::{Entry, Key, Record};
pub use refusal::Refusal;
pub use state::State;
pub use subnets::KnownSubnet;
pub use time::{BootTime, Now};
