//! What follows from the facts about a node, without a kernel.

mod desired;
mod diff;
mod facts;
mod nft;
