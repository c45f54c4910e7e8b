//! What a run leaves: what happened, in order, and what did not hold.
//!
//! Owns the record and how it is told. Never judges.

use std::{fmt, time::Duration};

use pool::{Refusal, State};

/// What must hold. Each is checked after every step, or at the end where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// No address is with two sandboxes at once, by what they were told.
    OneHolder,
    /// A sandbox's address is on an ENI of its node, by EC2's own books.
    AddressIsOurs,
    /// No address is leased that something else on the node uses.
    KeptOff,
    /// What others made is neither detached nor deleted.
    NotOurs,
    /// No address is taken from an ENI while a sandbox has it, or had it a cooling time ago.
    NotUnderAPod,
    /// A released address is not leased before its cooling time is over.
    Cooled,
    /// What is available is what can be had: nobody waits beside it, and at the end so many requests are served at once.
    Available,
    /// No limit is passed, and EC2 never has to say so.
    Limits,
    /// Once faults stop every request is served that can be.
    Served,
    /// With no more calls than growth needs.
    Calls,
    /// A pool at rest asks for nothing.
    Rest,
    /// When all pods are gone no address and no ENI is left over.
    NoLeak,
    /// An answer survives the daemon.
    Kept,
    /// A DEL frees no lease that was made after it started.
    LaterLease,
    /// An ADD that started before its sandbox's DEL is refused once that DEL was answered.
    Tombstone,
    /// Nothing of a running pod is touched in the kernel.
    Kernel,
    /// Routes of an address are gone before EC2 may give it to others.
    Withdrawn,
    /// A refusal's reason is true.
    Reason,
    /// What changes EC2 is in the ledger before it is asked.
    Intent,
    /// A token stands for one set of arguments.
    Token,
    /// Every request is answered by its deadline.
    Answered,
    /// The same sandbox gets the same address.
    SameAnswer,
    /// The state does not contradict itself.
    Consistent,
    /// The state is what the ledger has.
    Ledger,
    /// The pool comes to rest without time passing.
    Progress,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// How.
    pub what: String,
}

/// What happened in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The seed.
    pub seed: u64,
    /// One line per happening, each with its virtual time.
    pub lines: Vec<String>,
    /// Events applied to a pool's state, and calls that EC2 answered.
    pub events: u64,
    /// Moments at which a daemon could have died.
    pub steps: u64,
    /// Those of them before faults stopped.
    pub busy: u64,
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// How much of everything there was.
    pub tally: Tally,
}

/// How much of everything there was: a simulation in which nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// ADDs that got an address.
    pub served: u64,
    /// ADDs that were refused.
    pub refused: u64,
    /// DELs.
    pub released: u64,
    /// EC2 calls.
    pub calls: u64,
    /// Calls without an answer.
    pub lost: u64,
    /// Daemons that died.
    pub crashes: u64,
    /// Commits that failed.
    pub unwritten: u64,
    /// Virtual time.
    pub time: Duration,
}

impl Tally {
    /// Of several runs.
    pub fn add(&mut self, other: &Self) {
        self.served += other.served;
        self.refused += other.refused;
        self.released += other.released;
        self.calls += other.calls;
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.unwritten += other.unwritten;
        self.time += other.time;
    }
}

/// So many lines are told of a run that failed.
const TAIL: usize = 60;

impl fmt::Display for Trace {
    /// The end of a run and what did not hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.lines.len().saturating_sub(TAIL);
        if skipped > 0 {
            writeln!(f, "... {skipped} lines before")?;
        }
        for line in &self.lines[skipped..] {
            writeln!(f, "{line}")?;
        }
        match &self.violation {
            Some(Violation { invariant, what }) => write!(f, "seed {}: {invariant}: {what}", self.seed),
            None => write!(f, "seed {}: all holds", self.seed),
        }
    }
}

/// A state in a line, for the trace's end.
pub(crate) fn in_a_line(state: &State, now: pool::BootTime) -> String {
    let numbers = state.numbers(now);
    let held = state.serving().err().as_ref().map_or("", Refusal::name);
    format!("{numbers:?} {held}")
}
