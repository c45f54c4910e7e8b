//! Berth's built programs on a real kernel, against EC2's wire protocol: the lab's nodes, the real daemon, the real plugin.
//!
//! `BERTH_BIN_DIR` says where the programs are; `make test` sets it. Each test has a lab of its own, under a prefix of its own.

mod backends;
mod daemon;
mod demo;
mod ledger;
mod migration;
mod node;
mod page;
mod paths;
mod permissions;
mod restarts;
mod sandboxes;
mod surroundings;
mod trouble;
mod vanished;
