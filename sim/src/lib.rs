//! A model of EC2's networking in virtual time: the calls a VPC CNI makes, answered as EC2 answers them.
//!
//! [`Vpc`] is one account in one region. Its only entrance is [`Vpc::ec2`]: time and randomness are arguments, so the same
//! calls with the same seed give the same world. It does no I/O, reads no clock, and knows neither HTTP nor namespaces:
//! `lab` serves it over the wire and turns what is [`Attached`] into links.
//!
//! Where a rule comes from is said next to it: *documentation* (the EC2 API reference), *field* (not in the reference, known
//! from error messages quoted in public issues or from what other CNIs handle) or *guess* (neither; mostly a [`Settings`] field).

mod addresses;
mod assignments;
mod attachments;
mod eni_records;
mod enis;
pub mod faults;
mod filters;
pub mod fleet;
mod instance_types;
mod instances;
mod kept;
mod networks;
pub mod rates;
pub mod requests;
mod reservations;
pub mod responses;
pub mod run;
mod settings;
mod tags;
mod vpc;

pub use attachments::Attached;
pub use enis::Mac;
pub use faults::Fault;
pub use requests::{Action, Request};
pub use responses::Response;
pub use settings::{AddressOrder, PrefixShortage, Settings, StaleReads, Times};
pub use vpc::{Tally, Vpc};
