//! The built plugin, as a runtime calls it: a process with an environment and stdin, in network namespaces of its own, with
//! a small daemon behind the socket.

mod add;
mod check;
mod daemon;
mod del;
mod input;
mod node;
mod verbs;
mod vpc_cni;
