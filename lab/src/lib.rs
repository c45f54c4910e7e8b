//! A VPC on one machine: EC2 over HTTP, instance metadata, and the network that turns attached ENIs into real links
//! between network namespaces.

mod backend;
mod background;
pub mod claims;
pub mod cli;
pub mod client;
pub mod cni;
mod demo;
pub mod ec2;
pub mod fabric;
mod fault;
pub mod host;
mod http;
pub mod imds;
mod interrupt;
mod iproute;
mod kernel;
mod lab;
pub mod legacy;
pub mod localstack;
pub mod machine;
pub mod mutations;
pub mod netns;
pub mod node;
pub mod node_port;
mod play;
pub mod pods;
mod process;
pub mod proxy;
mod remote;
pub mod settings;
pub mod storm;
pub mod teeth;
pub mod traffic;
pub mod trouble;
pub mod truth;
pub mod wait;
pub mod world;

pub use backend::Backend;
pub use lab::{EC2_ADDRESS, Lab, sweep};
pub use settings::{LabSettings, NodeSettings, Programs};
