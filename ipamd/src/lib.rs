//! The per-node daemon around [`node`]: gRPC server, ledger, ENI links and SNAT, metrics.

pub mod config;
pub mod ledger;

/// What `--version` and `berth_build_info` say.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
