//! What the lab's servers say, byte for byte where it matters, to a client that knows HTTP and nothing of ours.

mod client;
mod ec2;
mod imds;
mod metadata_lag;
mod trouble;
mod world;
