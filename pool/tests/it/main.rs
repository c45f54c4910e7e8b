//! The pool against a small EC2: what it asks for, whom it serves, what it gives back, and what no history may break.

mod attacks;
mod behaviour;
mod budget;
mod demand;
mod doubt;
mod explained;
mod groups;
mod growth;
mod histories;
mod identity;
mod limits;
mod ours;
mod peer;
mod prefixes;
mod reuse;
mod storms;
mod subnets;
mod targets;
mod thrift;
mod world;
