//! The port to EC2: one call is one EC2 action, in plain types.
//!
//! Owns the [`Cloud`] trait, the error of a call and the table that sorts EC2's errors by what to do next ([`kind()`]). Never names an
//! SDK and never retries.

use std::future::Future;

mod kind;

pub use kind::kind;
pub use pool::{Action, Answer, Call, Kind};

/// Whoever can do EC2's calls.
pub trait Cloud: Send + Sync + 'static {
    /// Does one call, once. Dropping the future may leave the call done or not done: treat it as [`Kind::Uncertain`].
    fn call(&self, call: Call) -> impl Future<Output = Result<Answer, Error>> + Send;
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {code}{}{message}", if code.is_empty() { "" } else { ": " })]
pub struct Error {
    /// The EC2 action.
    pub action: Action,
    /// What to do next.
    pub kind: Kind,
    /// EC2's code; empty when there was no answer.
    pub code: String,
    /// EC2's or the transport's words.
    pub message: String,
}

impl From<Error> for pool::Fault {
    fn from(error: Error) -> Self {
        Self { kind: error.kind, code: error.code, message: error.message }
    }
}
