//! Every call site of the adapter, on the wire, through the lab's fault proxy, against the lab's EC2: replies that are lost after the
//! effect, that hang, that fail after the effect, and every refusal that there is. Owns the fates; the sites are
//! `support::sites::Site`'s, what each is tried on is [`scene`]'s.

#![expect(clippy::redundant_closure_for_method_calls, reason = "the SDK's paths are longer than what they say")]

mod fates;
mod refusals;
mod scene;

#[path = "../support/lab.rs"]
mod lab;
#[path = "../ec2_checks/region.rs"]
#[allow(dead_code, reason = "the checks use the rest")]
mod region;
#[path = "../support/mod.rs"]
mod support;
