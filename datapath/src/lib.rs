//! Everything Berth puts into the kernel: names, desired state, netlink, nftables.
//!
//! Owns every name, table, mark and priority ([`names`]), the state a node should have as pure data ([`desired`],
//! [`diff`], [`nft`]), the synchronous netlink socket that reads and writes it ([`wire`]) and the operations made of these
//! ([`node`] for the daemon, [`pod`] for the plugin). Never knows gRPC, EC2 or Kubernetes, and never decides which
//! address a pod gets.

pub mod desired;
pub mod diff;
pub mod link;
pub mod names;
pub mod netns;
pub mod nft;
pub mod node;
pub mod pod;
pub mod spool;
pub mod sysctl;
pub mod vpc_cni;
pub mod watch;
pub mod wire;
