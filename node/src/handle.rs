//! How the rest of the daemon talks to the node.
//!
//! Owns the messages to the loop. Never holds state of the pool.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use pool::{AddRequest, BootTime, DelRequest, Event, Lease, LeaseKey, Pod, Refusal, State, Ticket};
use tokio::sync::{mpsc, oneshot};

/// An ADD as the plugin asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The sandbox interface.
    pub key: LeaseKey,
    /// Its pod.
    pub pod: Pod,
    /// Name that the host side of the link should get.
    pub link: String,
    /// The sandbox's network namespace.
    pub netns: String,
    /// When the plugin started.
    pub started: BootTime,
    /// When the plugin stops waiting.
    pub deadline: BootTime,
}

/// A look at the state, between two events.
pub(crate) type Look = Box<dyn FnOnce(&State, BootTime) + Send>;

/// What the loop is sent.
pub(crate) enum Message {
    Event(Event),
    Allocate(AddRequest, oneshot::Sender<Result<Lease, Refusal>>),
    Release(DelRequest, oneshot::Sender<Result<Option<Lease>, Refusal>>),
    Read(Look),
    Stop,
}

/// Talks to a running node. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) messages: mpsc::UnboundedSender<Message>,
    pub(crate) tickets: Arc<AtomicU64>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// An address for a sandbox interface; waits for the refill in flight, at most until the deadline. Dropping the future abandons
    /// the request.
    pub async fn allocate(&self, allocation: Allocation) -> Result<Lease, Refusal> {
        let Allocation { key, pod, link, netns, started, deadline } = allocation;
        let ticket = self.ticket();
        let (reply, answer) = oneshot::channel();
        let request = AddRequest { ticket, key, pod, link, netns, started, deadline };
        let waiting = Waiting { handle: self, ticket };
        self.send_message(Message::Allocate(request, reply));
        let outcome = answer.await.unwrap_or(Err(Refusal::Stopping));
        std::mem::forget(waiting);
        outcome
    }

    /// The address of a sandbox interface goes back; `None` when there was no lease, which is success. A lease whose ADD started after
    /// `started` is not touched.
    pub async fn release(&self, key: LeaseKey, started: BootTime) -> Result<Option<Lease>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send_message(Message::Release(DelRequest { ticket: Some(self.ticket()), key, started }, reply));
        answer.await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Something happened.
    pub fn send(&self, event: Event) {
        self.send_message(Message::Event(event));
    }

    /// Looks at the state, in the loop, between two events: keep it short. `None` when the node has stopped.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, BootTime) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send_message(Message::Read(Box::new(move |state, now| {
            // Whoever asked may have gone away.
            drop(reply.send(look(state, now)));
        })));
        answer.await.ok()
    }

    /// No new leases; [`crate::Node::run`] ends when the calls in flight have come back.
    pub fn stop(&self) {
        self.send_message(Message::Stop);
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    fn send_message(&self, message: Message) {
        // A node that has stopped drops the reply channel inside the message: the caller sees `Stopping`.
        drop(self.messages.send(message));
    }
}

/// Tells the pool when a caller goes away before its answer.
struct Waiting<'a> {
    handle: &'a Handle,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.handle.send(Event::Abandoned(self.ticket));
    }
}
