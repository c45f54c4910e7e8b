//! The pool against a small EC2: what it asks for, whom it serves, what it gives back, and what no history may break.

mod behaviour;
mod doubt;
mod histories;
mod world;
