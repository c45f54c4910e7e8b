//! A VPC on one machine: EC2 over HTTP, instance metadata, and the network that turns attached ENIs into real links
//! between network namespaces.

pub mod claims;
pub mod ec2;
pub mod fabric;
pub mod host;
mod http;
pub mod imds;
mod iproute;
pub mod machine;
pub mod mutations;
pub mod netns;
pub mod node_port;
pub mod teeth;
pub mod traffic;
pub mod trouble;
pub mod wait;
pub mod world;
