//! What the backend answered lately, for stale reads of a backend that cannot say what was.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use tokio::time::Instant;

use super::{Answer, call::Call};

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    answers: VecDeque<(Instant, Bytes, Answer)>,
    bytes: usize,
}

/// As far back as the lab's own EC2 remembers.
const LONGEST: Duration = Duration::from_mins(1);
const MOST_BYTES: usize = 16 << 20;

impl Memory {
    /// Remembers an answer, be it a refusal: it was true. That the backend failed is not.
    pub(super) fn keep(&self, call: &Call, answer: &Answer) {
        if answer.status().is_server_error() {
            return;
        }
        let mut kept = self.lock();
        kept.bytes += answer.body().len();
        kept.answers.push_back((Instant::now(), call.form.clone(), answer.clone()));
        while kept.bytes > MOST_BYTES || kept.answers.front().is_some_and(|(at, ..)| at.elapsed() > LONGEST) {
            let Some((.., gone)) = kept.answers.pop_front() else { break };
            kept.bytes -= gone.body().len();
        }
    }

    /// The oldest answer to the same question that is no older than that.
    pub(super) fn recall(&self, call: &Call, age: Duration) -> Option<Answer> {
        let kept = self.lock();
        let found = kept.answers.iter().find(|(at, form, _)| at.elapsed() <= age && *form == call.form);
        found.map(|(.., answer)| answer.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
