//! The instant at which an answer leaves the loop.
//!
//! Owns one trick: the loop wakes whoever waits in the moment in which it answers. Was the daemon alive in that moment the answer
//! counts, also if it dies in the next one; was it dead, nobody hears it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use super::world::Sim;

/// A request to a daemon, whose answer is believed only if the daemon was alive when it gave it.
pub(crate) struct Witnessed<F> {
    request: Pin<Box<F>>,
    seen: Arc<Seen>,
}

struct Seen {
    sim: Arc<Sim>,
    node: usize,
    daemon: u64,
    what: &'static str,
    state: Mutex<Moment>,
}

#[derive(Default)]
struct Moment {
    waiter: Option<Waker>,
    answered: Option<bool>,
}

impl<F: Future> Witnessed<F> {
    pub(crate) fn new(sim: Arc<Sim>, node: usize, daemon: u64, what: &'static str, request: F) -> Self {
        let seen = Seen { sim, node, daemon, what, state: Mutex::default() };
        Self { request: Box::pin(request), seen: Arc::new(seen) }
    }
}

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        let alive = self.sim.lock().alive(self.node, self.daemon);
        let waiter = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.answered.get_or_insert(alive);
            state.waiter.take()
        };
        if alive {
            self.sim.step(self.node, self.daemon, format_args!("after answering {}", self.what));
        }
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl<F: Future> Future for Witnessed<F> {
    /// `None`: the daemon died before it answered.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let woken = {
            let mut state = self.seen.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiter = Some(context.waker().clone());
            state.answered.take()
        };
        let waker = Waker::from(Arc::clone(&self.seen));
        let Poll::Ready(outcome) = self.request.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return Poll::Pending;
        };
        let alive = woken.unwrap_or_else(|| self.seen.sim.lock().alive(self.seen.node, self.seen.daemon));
        Poll::Ready(alive.then_some(outcome))
    }
}
