//! What can go wrong between Berth and AWS, as values: slow calls, throttling, errors, lost answers, stale reads, and metadata
//! that lags or leaves something out. [`Faults`] is the trouble of a running lab. Nothing here opens a socket or waits.

mod bucket;
mod faults;
mod injection;
mod latency;
mod metadata;
mod storm;

pub use bucket::{Bucket, Buckets};
pub(crate) use faults::Fate;
pub use faults::{Faults, Service};
pub use injection::{Chance, Disturbance, Injection, When};
pub use latency::{Latency, NotASpread, Spread};
pub use metadata::{Extent, MetadataTrouble, NotOmittable, Omission, Omitted};

/// Everything that goes wrong. The default is nothing at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trouble {
    /// Same seed, same trouble: the n-th call of an action has the same fate, whatever comes between.
    pub seed: u64,
    /// How long calls take.
    pub latency: Latency,
    /// How often callers may call.
    pub buckets: Buckets,
    /// Calls to be disturbed. The first that hits a call decides.
    pub injections: Vec<Injection>,
    /// Instance metadata.
    pub metadata: MetadataTrouble,
}
