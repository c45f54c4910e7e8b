//! What the driver of a storm knows by itself: who has which address, what went wrong, what was counted; and the journal.
//!
//! Owns the rule that no address is given twice. Believes only what a plugin printed and what is configured in a pod; never
//! asks a daemon or EC2.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufWriter, Write as _},
    net::Ipv4Addr,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::COOLING;
use crate::{kernel, netns::Netns, wait};

/// So many complaints are kept: the first ones matter.
const COMPLAINTS: usize = 50;
/// A DEL hands the pod's link over; a daemon that is started again finds it.
const GONE: Duration = Duration::from_secs(10);

/// The driver's own book.
#[derive(Debug)]
pub(super) struct Record {
    begun: Instant,
    state: Mutex<State>,
    journal: Mutex<BufWriter<File>>,
}

#[derive(Debug, Default)]
struct State {
    tenants: BTreeMap<Ipv4Addr, Tenant>,
    /// Who had an address last: the node, and when its DEL began.
    former: BTreeMap<Ipv4Addr, (usize, Instant)>,
    complaints: Vec<String>,
    figures: Figures,
}

/// Who has an address.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    /// `a/p1`
    pub label: String,
    /// The sandbox's id.
    pub container_id: String,
    /// The node, by its place in the lab.
    pub node: usize,
    /// The sandbox's namespace.
    pub netns: Netns,
    /// Its DEL has begun.
    pub leaving: bool,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Daemons killed.
    pub kills: usize,
    /// Of these, while an ADD or a DEL was under way on the node.
    pub kills_in_flight: usize,
    /// ADDs that gave an address.
    pub adds: usize,
    /// ADDs that failed, by reason.
    pub refusals: BTreeMap<String, usize>,
    /// DELs that succeeded.
    pub dels: usize,
    /// DELs that failed and were repeated.
    pub dels_repeated: usize,
    /// Sandboxes that went without a DEL.
    pub vanished: usize,
    /// Packets that were answered.
    pub exchanges: usize,
    /// The longest that a pod waited for an answer, its packets repeated meanwhile.
    pub longest_silence: Duration,
    /// Addresses that a pod of one node had after a pod of another.
    pub crossings: usize,
    /// The shortest time from a DEL to the next ADD that gave the same address.
    pub soonest_reuse: Option<Duration>,
    /// Looks into all living pods.
    pub looks: usize,
    /// Calls that reached EC2, by action.
    pub calls: BTreeMap<String, Told>,
    /// How long it took, by part.
    pub took: Vec<(&'static str, Duration)>,
}

/// Calls, by what the caller was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// Yes.
    pub accepted: usize,
    /// No.
    pub refused: usize,
    /// Nothing.
    pub lost: usize,
}

impl Record {
    /// Begins now, with a journal in this file.
    pub(super) fn new(journal: &Path) -> Result<Self> {
        let file = File::create(journal).with_context(|| format!("making {}", journal.display()))?;
        Ok(Self { begun: Instant::now(), state: Mutex::default(), journal: Mutex::new(BufWriter::new(file)) })
    }

    /// Time since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A plugin printed this address for a pod.
    pub(super) fn moved_in(&self, address: Ipv4Addr, tenant: Tenant) {
        self.note(format_args!("{} has {address} ({})", tenant.label, tenant.container_id));
        let (label, netns) = (tenant.label.clone(), tenant.netns.clone());
        let mut early = None;
        let before = {
            let mut state = self.state();
            if let Some((node, since)) = state.former.get(&address).copied() {
                let gap = since.elapsed();
                early = Some(gap).filter(|gap| *gap < COOLING);
                let figures = &mut state.figures;
                figures.crossings += usize::from(node != tenant.node);
                figures.soonest_reuse = Some(figures.soonest_reuse.map_or(gap, |soonest| soonest.min(gap)));
            }
            state.figures.adds += 1;
            state.tenants.insert(address, tenant)
        };
        if let Some(gap) = early {
            self.complain(format!("{label} was given {address} {gap:.0?} after a DEL gave it back"));
        }
        if let Some(before) = before
            && (!before.leaving || has(&before.netns, address))
        {
            self.complain(format!("{address} was given to {label} while {} has it", before.label));
        }
        match kernel::pod_addresses(&netns) {
            Ok(found) if found == [std::net::IpAddr::V4(address)] => {}
            found => self.complain(format!("{label} was given {address} and has {found:?}")),
        }
    }

    /// A pod's DEL begins: its address may be given to others once it is no longer configured.
    pub(super) fn leaves(&self, address: Ipv4Addr, container_id: &str) {
        let mut state = self.state();
        if let Some(tenant) = state.tenants.get_mut(&address).filter(|tenant| tenant.container_id == container_id) {
            tenant.leaving = true;
            let node = tenant.node;
            state.former.insert(address, (node, Instant::now()));
        }
    }

    /// A pod's DEL has succeeded.
    pub(super) fn left(&self, address: Option<Ipv4Addr>, container_id: &str, label: &str, netns: &Netns) {
        self.note(format_args!("{label} is deleted ({container_id})"));
        self.count(|figures| figures.dels += 1);
        self.moved_out(address, container_id);
        let mut last = None;
        let gone = wait::until(GONE, || {
            last = Some(kernel::pod_addresses(netns));
            matches!(&last, Some(Ok(found)) if found.is_empty()).then_some(())
        });
        if gone.is_none() {
            self.complain(format!("{label} was deleted {GONE:?} ago and still has {last:?}"));
        }
    }

    /// A pod's sandbox is gone, and nobody will say DEL.
    pub(super) fn vanished(&self, address: Option<Ipv4Addr>, container_id: &str) {
        self.count(|figures| figures.vanished += 1);
        self.moved_out(address, container_id);
    }

    fn moved_out(&self, address: Option<Ipv4Addr>, container_id: &str) {
        let mut state = self.state();
        if let Some(address) = address
            && state.tenants.get(&address).is_some_and(|tenant| tenant.container_id == container_id)
        {
            state.tenants.remove(&address);
        }
    }

    /// Who has an address and is not leaving.
    pub(super) fn tenants(&self) -> BTreeMap<Ipv4Addr, Tenant> {
        let state = self.state();
        state.tenants.iter().filter(|(_, tenant)| !tenant.leaving).map(|(at, who)| (*at, who.clone())).collect()
    }

    /// Something that must not be.
    pub(super) fn complain(&self, what: impl Into<String>) {
        let what = format!("after {:.3} s: {}", self.elapsed().as_secs_f64(), what.into());
        self.note(format_args!("WRONG: {what}"));
        let mut state = self.state();
        if state.complaints.len() < COMPLAINTS {
            state.complaints.push(what);
        }
    }

    /// What must not be and was, so far.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.state().complaints.clone()
    }

    /// Counts.
    pub(super) fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.state().figures);
    }

    /// What was counted so far.
    pub(super) fn figures(&self) -> Figures {
        self.state().figures.clone()
    }

    /// A line of the journal.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        // A journal that cannot be written must not stop what it tells of.
        let _ = writeln!(journal, "{:9.3} {what}", self.elapsed().as_secs_f64());
    }

    /// Everything noted is in the file.
    pub(super) fn flush(&self) {
        let _ = self.journal.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has(netns: &Netns, address: Ipv4Addr) -> bool {
    kernel::pod_addresses(netns).is_ok_and(|found| found.contains(&std::net::IpAddr::V4(address)))
}

/// Whether the storm is over, for whoever waits for something else meanwhile.
#[derive(Debug, Default)]
pub(super) struct Over {
    over: Mutex<bool>,
    told: Condvar,
}

impl Over {
    /// It is.
    pub(super) fn set(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    /// Is it?
    pub(super) fn is_set(&self) -> bool {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end, but not longer than this; is it over?
    pub(super) fn within(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.told.wait_timeout_while(over, time, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counted: Vec<String>| if counted.is_empty() { "none".to_owned() } else { counted.join(", ") };
        let refused: usize = self.refusals.values().sum();
        let reasons = self.refusals.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let calls = self.calls.iter().map(|(action, told)| format!("{action} {told}")).collect();
        let took = self.took.iter().map(|(part, took)| format!("{part} {:.1} s", took.as_secs_f64())).collect();
        let reuse = self.soonest_reuse.map_or_else(|| "never".to_owned(), |gap| format!("after {gap:.0?}"));
        writeln!(f, "kills          {}, {} with an ADD or DEL under way", self.kills, self.kills_in_flight)?;
        writeln!(f, "ADDs           {}; refused: {refused} ({})", self.adds, list(reasons))?;
        writeln!(
            f,
            "DELs           {}; repeated after a failure: {}; never said: {}",
            self.dels, self.dels_repeated, self.vanished
        )?;
        writeln!(f, "addresses      reused {reuse} at the soonest; {} times by the other node", self.crossings)?;
        writeln!(f, "looks          {} into all living pods", self.looks)?;
        writeln!(f, "packets        {} answered; longest silence {:.0?}", self.exchanges, self.longest_silence)?;
        writeln!(f, "calls to EC2   accepted/refused/not answered: {}", list(calls))?;
        write!(f, "took           {}", list(took))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.accepted, self.refused, self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn tenant(label: &str) -> Tenant {
        let netns = Netns::named(format!("there-is-no-{}", label.replace('/', "-")));
        Tenant { label: label.to_owned(), container_id: label.to_owned(), node: 0, netns, leaving: false }
    }

    fn record() -> Record {
        Record::new(Path::new("/dev/null")).expect("a journal")
    }

    #[test]
    fn an_address_that_is_given_twice_is_seen() {
        let record = record();
        record.moved_in(ADDRESS, tenant("a/p1"));
        record.moved_in(ADDRESS, tenant("b/p2"));
        let said = record.complaints();
        assert!(said.iter().any(|said| said.contains("10.0.0.9 was given to b/p2 while a/p1 has it")), "{said:?}");
    }

    #[test]
    fn an_address_whose_pod_is_gone_may_be_given_again() {
        let record = record();
        record.moved_in(ADDRESS, tenant("a/p1"));
        record.leaves(ADDRESS, "a/p1");
        assert!(record.tenants().is_empty(), "who leaves is not looked at any more");
        record.moved_in(ADDRESS, tenant("b/p2"));
        // The first one's DEL comes through later: the second one stays.
        record.left(Some(ADDRESS), "a/p1", "a/p1", &tenant("a/p1").netns);
        assert_eq!(record.tenants()[&ADDRESS].label, "b/p2");
        let said = record.complaints();
        assert!(!said.iter().any(|said| said.contains("while")), "{said:?}");
        assert!(said.iter().any(|said| said.contains("after a DEL gave it back")), "it has not cooled: {said:?}");
    }

    #[test]
    fn an_address_that_is_not_in_the_pod_is_seen() {
        let record = record();
        record.moved_in(ADDRESS, tenant("a/p1"));
        let said = record.complaints();
        assert!(said.iter().any(|said| said.contains("a/p1 was given 10.0.0.9 and has")), "{said:?}");
    }
}
