//! The loop itself: drain, apply, commit, act.
//!
//! Owns the pool's state, the reply channels and the calls in flight. Never decides anything.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicU64, time::Duration};

use cloud::Cloud;
use pool::{Call, CallId, Effect, Event, Fault, Lease, Now, Policy, Record, Refusal, State, Step, Ticket};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, error, info, warn};

use crate::{
    Clock, Handle, Host, Ledger, LedgerError,
    handle::{Look, Message},
    said::Said,
};

/// So many messages at most go into one commit, so that nobody waits for an endless batch.
const BATCH: usize = 64;
/// How long calls in flight may take to come back when the node stops.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// How soon a ledger that could not be written is tried again without anybody asking.
const AGAIN: Duration = Duration::from_secs(1);

/// An ADD that has no answer yet: who, for the log, and where the answer goes.
struct Waiting {
    who: String,
    reply: oneshot::Sender<Result<Lease, Refusal>>,
}

/// The ledger could not be written, and has not been since.
struct Lost {
    /// What it said.
    why: String,
    /// When to try again; none once the pool has been told anew what the ledger does not have.
    again: Option<Instant>,
}

/// A handle and the loop that it talks to.
pub type Started<C, L, H, K> = (Handle, Node<C, L, H, K>);

/// Loads the ledger and prepares the loop; nothing runs before [`Node::run`].
pub fn start<C: Cloud, L: Ledger, H: Host, K: Clock>(
    cloud: Arc<C>,
    mut ledger: L,
    host: H,
    clock: K,
    policy: Policy,
) -> Result<Started<C, L, H, K>, LedgerError> {
    let entries = ledger.load()?;
    info!(entries = entries.len(), "loaded the ledger");
    let state = State::restore(policy, clock.now(), entries);
    for wrong in state.check() {
        warn!(what = %wrong, "the ledger contradicts itself");
    }
    let (sender, messages) = mpsc::unbounded_channel();
    let handle = Handle { messages: sender.clone(), tickets: Arc::new(AtomicU64::new(1)) };
    let node = Node {
        state,
        cloud,
        ledger,
        host,
        clock,
        messages,
        sender,
        adds: BTreeMap::new(),
        dels: BTreeMap::new(),
        calls: JoinSet::new(),
        said: Said::default(),
        lost: None,
        stopping: None,
    };
    Ok((handle, node))
}

/// A node's loop.
pub struct Node<C, L, H, K> {
    state: State,
    cloud: Arc<C>,
    ledger: L,
    host: H,
    clock: K,
    messages: mpsc::UnboundedReceiver<Message>,
    sender: mpsc::UnboundedSender<Message>,
    adds: BTreeMap<Ticket, Waiting>,
    dels: BTreeMap<Ticket, oneshot::Sender<Result<Option<Lease>, Refusal>>>,
    calls: JoinSet<()>,
    said: Said,
    lost: Option<Lost>,
    stopping: Option<Instant>,
}

impl<C, L, H, K> std::fmt::Debug for Node<C, L, H, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<C: Cloud, L: Ledger, H: Host, K: Clock> Node<C, L, H, K> {
    /// Runs until it is stopped. Ends with an error only when the ledger can be neither written nor read.
    pub async fn run(mut self) -> Result<(), LedgerError> {
        self.host.reconcile(self.state.wanted());
        self.turn(vec![Message::Event(Event::Tick)])?;
        loop {
            while self.calls.try_join_next().is_some() {}
            if let Some(until) = self.stopping
                && (self.calls.is_empty() || Instant::now() >= until)
            {
                if !self.calls.is_empty() {
                    warn!(calls = self.calls.len(), "stopped with calls in flight; the next start looks them up");
                }
                return Ok(());
            }
            let wake = self.wake();
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                taken = self.messages.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(wake) => batch.push(Message::Event(Event::Tick)),
            }
            self.turn(batch)?;
        }
    }

    /// When to look again if nothing happens.
    fn wake(&self) -> Instant {
        let now = self.clock.now();
        let next = self.state.next_wake().map_or(Duration::from_hours(1), |at| at.since(now));
        let wake = Instant::now() + next;
        let again = self.lost.as_ref().and_then(|lost| lost.again);
        [self.stopping, again].into_iter().flatten().fold(wake, Instant::min)
    }

    /// Applies a batch: one commit, then the effects in order.
    fn turn(&mut self, batch: Vec<Message>) -> Result<(), LedgerError> {
        let mut all = Step::default();
        let mut looks: Vec<Look> = Vec::new();
        for message in self.anew(&batch).into_iter().chain(batch) {
            let event = match message {
                Message::Event(event) => event,
                Message::Allocate(request, reply) => {
                    let who = format!("{} ({})", request.pod, request.key);
                    self.adds.insert(request.ticket, Waiting { who, reply });
                    Event::Add(request)
                }
                Message::Release(request, reply) => {
                    if let Some(ticket) = request.ticket {
                        self.dels.insert(ticket, reply);
                    }
                    Event::Del(request)
                }
                Message::Read(look) => {
                    looks.push(look);
                    continue;
                }
                Message::Stop => {
                    self.stopping.get_or_insert(Instant::now() + STOP_WITHIN);
                    Event::Stopping
                }
            };
            match &event {
                Event::Abandoned(ticket) => drop(self.adds.remove(ticket)),
                lasting => self.said.hear(lasting),
            }
            let now = self.now();
            let step = self.state.apply(now, event);
            merge(&mut all.records, step.records);
            all.effects.extend(step.effects);
        }
        let written = if all.records.is_empty() { Ok(()) } else { self.ledger.commit(&all.records) };
        if let Err(error) = written {
            self.start_over(&error)?;
        } else {
            if !all.records.is_empty() && self.lost.take().is_some() {
                info!("wrote the ledger again");
            }
            self.said.written();
            for effect in all.effects {
                self.act(effect);
            }
        }
        let now = self.clock.now();
        for look in looks {
            look(&self.state, now);
        }
        Ok(())
    }

    /// What the pool has to be told before anything else, since it went back to its ledger.
    fn anew(&mut self, batch: &[Message]) -> Vec<Message> {
        let due = self.lost.as_mut().filter(|lost| lost.again.is_some());
        let Some(lost) = due.filter(|_| batch.iter().any(|message| !matches!(message, Message::Read(_)))) else {
            return Vec::new();
        };
        lost.again = None;
        self.said.again().into_iter().map(Message::Event).collect()
    }

    fn now(&mut self) -> Now {
        Now { at: self.clock.now(), wall: self.clock.wall(), luck: self.clock.luck() }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Reply(ticket, outcome) => {
                // A caller that went away is told nothing; its DEL releases the lease.
                let Some(Waiting { who, reply }) = self.adds.remove(&ticket) else { return };
                match &outcome {
                    Ok(lease) => debug!(key = %lease.key, pod = %lease.pod, "allocated"),
                    Err(refusal) => warn!(pod = who, reason = refusal.name(), detail = %refusal, "refused"),
                }
                drop(reply.send(outcome));
            }
            Effect::Released(ticket, lease) => {
                if let Some(lease) = &lease {
                    debug!(key = %lease.key, pod = %lease.pod, "released");
                }
                if let Some(reply) = self.dels.remove(&ticket) {
                    drop(reply.send(Ok(lease)));
                }
            }
            Effect::Withdraw(blocks) => self.host.withdraw(&blocks),
            Effect::Say(news) if news.is_alarming() => warn!(what = news.name(), "{news}"),
            Effect::Say(news) => info!(what = news.name(), "{news}"),
            Effect::Reconcile => self.host.reconcile(self.state.wanted()),
            Effect::Call(id, call) => self.call(id, call),
        }
    }

    fn call(&mut self, id: CallId, call: Call) {
        let cloud = Arc::clone(&self.cloud);
        let sender = self.sender.clone();
        let action = call.action();
        let eni = call.eni().map(ToString::to_string).unwrap_or_default();
        let read = call.is_read();
        self.calls.spawn(async move {
            let began = Instant::now();
            let outcome = cloud.call(call).await;
            let elapsed = began.elapsed();
            match &outcome {
                Ok(_) if read => debug!(call = %action, eni, ?elapsed, "read EC2"),
                Ok(_) => info!(call = %action, eni, ?elapsed, "EC2 call done"),
                Err(error) => {
                    warn!(call = %action, eni, ?elapsed, kind = ?error.kind, code = %error.code, error = %error.message, "EC2 call failed");
                }
            }
            // The loop ends first only when the daemon stops; the intent is in the ledger then.
            drop(sender.send(Message::Event(Event::Answered(id, outcome.map_err(Fault::from)))));
        });
    }

    /// What is not written down did not happen: back to what the ledger has, and no for everybody who waits.
    fn start_over(&mut self, error: &LedgerError) -> Result<(), LedgerError> {
        if self.lost.as_ref().is_none_or(|lost| lost.why != error.message) {
            error!(%error, "could not write the ledger; going back to what it has");
        }
        self.lost = Some(Lost { why: error.message.clone(), again: Some(Instant::now() + AGAIN) });
        let refusal = Refusal::LedgerUnavailable { what: error.message.clone() };
        for (_, waiting) in std::mem::take(&mut self.adds) {
            drop(waiting.reply.send(Err(refusal.clone())));
        }
        for (_, reply) in std::mem::take(&mut self.dels) {
            drop(reply.send(Err(refusal.clone())));
        }
        let entries = self.ledger.load()?;
        self.state = State::restore(self.state.policy().clone(), self.clock.now(), entries);
        self.host.reconcile(self.state.wanted());
        Ok(())
    }
}

/// Of several records with one key the last one counts.
fn merge(all: &mut Vec<Record>, more: Vec<Record>) {
    for record in more {
        let key = record.key();
        all.retain(|earlier| earlier.key() != key);
        all.push(record);
    }
}
