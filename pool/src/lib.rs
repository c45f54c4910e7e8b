//! The pool: what a node holds, hands out, asks for and gives back.
//!
//! [`State`] is the whole of it: ENIs, addresses, leases, waiting requests and open calls. [`State::apply`] takes one [`Event`] and
//! says what to write down and what to do ([`Step`]); [`State::restore`] makes a state from what was written down.
//!
//! Pure: no clock, no I/O, no async, no randomness, no hashed collections. The same events give the same steps. It decides
//! everything; whoever drives it decides nothing.

mod answer;
mod call;
mod check;
mod eni;
mod event;
mod explain;
mod grow;
mod ids;
mod lease;
mod news;
mod observe;
mod pause;
mod policy;
mod record;
mod refusal;
mod shrink;
mod state;
mod time;

pub use call::{Action, Answer, Ask, Call, Fault, InterfaceKind, Kind, SeenAttachment, SeenEni, SeenSubnet};
pub use eni::{Address, Attached, Attachment, Doubt, Eni, EniRecord, EniState, Intent, Lease, Origin, Path, Role};
pub use event::{AddRequest, DelRequest, Effect, Event, FoundLease, Step, WantedEni};
pub use explain::Explanation;
pub use grow::Numbers;
pub use ids::{
    AttachmentId, Block, CallId, DeviceIndex, EniId, Generation, InstanceId, LeaseKey, Mac, NotAMac, NotAPrefix, Pod,
    Prefix, SecurityGroupId, Slot, SubnetId, Ticket, Token, VpcId,
};
pub use news::News;
pub use policy::{COALESCE, Limits, NodeFacts, Policy, Warm};
pub use record::{Entry, Key, Record};
pub use refusal::Refusal;
pub use state::State;
pub use time::{BootTime, Now};
