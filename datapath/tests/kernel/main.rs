//! The datapath against the running kernel, each test in network namespaces of its own.

mod eni;
mod node;
mod paths;
mod pod;
mod topology;
mod vpc_cni;
mod watch;
mod wire;
