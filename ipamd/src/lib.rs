//! The per-node daemon around [`node`].
//!
//! Owns the shell: configuration, the ledger on disk, the gRPC server, the kernel's thread, metadata, metrics. Contains no decision
//! that could live in [`pool`].

pub mod admin;
pub mod checkpoint;
pub mod clock;
pub mod config;
pub mod convert;
pub mod facts;
#[cfg(test)]
mod fake;
pub mod grpc;
pub mod host;
pub mod ledger;
mod limits;
pub mod logging;
pub mod metrics;
pub mod run;
pub mod signs;
pub mod spool;

/// What `--version` and `berth_build_info` say.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
