//! What the lab's servers say, byte for byte where it matters, to a client that knows HTTP and nothing of ours.

mod client;
mod ec2;
mod fault;
mod imds;
mod metadata_lag;
mod metadata_trouble;
mod prefixes;
mod proxy;
mod stale;
mod storm;
mod throttling;
mod trouble;
mod world;
