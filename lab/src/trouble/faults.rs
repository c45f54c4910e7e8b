//! The trouble of a running lab: one for all its nodes, and it can be changed at any time.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use sim::{Action, Fault};
use tokio::time::Instant;

use super::{Bucket, Disturbance, Extent, Injection, Latency, Omission, Omitted, Spread, Trouble, When, bucket::Fill};

/// What goes wrong, now. The proxy asks it about each call, the metadata servers about each read.
#[derive(Debug)]
pub struct Faults {
    began_with: Trouble,
    state: Mutex<State>,
}

/// What can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// EC2's API.
    Ec2,
    /// Instance metadata, of every node.
    Metadata,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// How long it takes, there and back.
    pub(crate) latency: Duration,
    pub(crate) disturbance: Option<Disturbance>,
}

#[derive(Debug)]
struct State {
    trouble: Trouble,
    fill: Fill,
    turns: BTreeMap<Option<Action>, u64>,
    unreachable: [bool; 2],
    lags_since: Instant,
    omissions: Vec<(Instant, Omission)>,
    metadata_reads: u64,
}

impl Faults {
    /// With this trouble from the start.
    pub fn new(trouble: Trouble) -> Self {
        Self { state: Mutex::new(State::new(trouble.clone())), began_with: trouble }
    }

    /// Other trouble instead of all that there is: full buckets, no omission, everything reachable.
    pub fn set(&self, trouble: Trouble) {
        *self.lock() = State::new(trouble);
    }

    /// Back to how the lab began.
    pub fn clear(&self) {
        self.set(self.began_with.clone());
    }

    /// What there is: injections with what is left of their counts, and omissions that are not over.
    pub fn trouble(&self) -> Trouble {
        let mut state = self.lock();
        state.forget_omissions();
        let mut trouble = state.trouble.clone();
        trouble.metadata.omissions = state.omissions.iter().map(|(_, omission)| omission.clone()).collect();
        trouble
    }

    /// The next calls that fit are disturbed, after what was injected earlier.
    pub fn inject(&self, injection: Injection) {
        self.lock().trouble.injections.push(injection);
    }

    /// What is still to be disturbed.
    pub fn injections(&self) -> Vec<Injection> {
        self.lock().trouble.injections.clone()
    }

    /// For calls from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().trouble.latency = latency;
    }

    /// How long calls of this action take from now on; `None`: of every action that has no spread of its own.
    pub fn set_spread(&self, action: Option<Action>, spread: Spread) {
        let latency = &mut self.lock().trouble.latency;
        match action {
            Some(action) => _ = latency.by_action.insert(action, spread),
            None => latency.usual = spread,
        }
    }

    /// How often this action may be called from now on; `None`: each that has no bucket of its own. The bucket is full.
    pub fn set_bucket(&self, action: Option<Action>, bucket: Bucket) {
        let mut state = self.lock();
        state.fill = Fill::default();
        match action {
            Some(action) => _ = state.trouble.buckets.by_action.insert(action, bucket),
            None => state.trouble.buckets.usual = Some(bucket),
        }
    }

    /// While a service is not reachable, connections to it end without an answer and without an effect.
    pub fn set_reachable(&self, service: Service, reachable: bool) {
        self.lock().unreachable[service as usize] = !reachable;
    }

    /// See [`Faults::set_reachable`].
    pub fn reachable(&self, service: Service) -> bool {
        !self.lock().unreachable[service as usize]
    }

    /// How far metadata is behind EC2, from now on.
    pub fn set_metadata_lag(&self, lag: Duration) {
        let mut state = self.lock();
        state.lags_since = Instant::now();
        state.trouble.metadata.lag = lag;
    }

    /// How long metadata takes to answer, from now on.
    pub fn set_metadata_latency(&self, latency: Spread) {
        self.lock().trouble.metadata.latency = latency;
    }

    /// Metadata leaves something out.
    pub fn omit(&self, omission: Omission) {
        self.lock().omissions.push((Instant::now(), omission));
    }

    /// How long an undisturbed call of this action would take now.
    pub(crate) fn latency(&self, action: Action) -> Duration {
        let state = self.lock();
        let turn = state.turns.get(&Some(action)).copied().unwrap_or_default();
        state.trouble.latency.draw(Some(action), &mut state.lot(action.name(), turn))
    }

    /// The fate of a call that arrives now. `None`: EC2 is cut off.
    pub(crate) fn fate(&self, action: Option<Action>) -> Option<Fate> {
        let mut state = self.lock();
        if state.unreachable[Service::Ec2 as usize] {
            return None;
        }
        let next = state.turns.entry(action).or_default();
        let turn = *next;
        *next += 1;
        let mut rng = state.lot(action.map_or("", Action::name), turn);
        let State { trouble, fill, .. } = &mut *state;
        let latency = trouble.latency.draw(action, &mut rng);
        if !fill.take(&trouble.buckets, action, Instant::now()) {
            let throttled = Disturbance::Refuse(When::BeforeEffect, Fault::throttled());
            return Some(Fate { latency, disturbance: Some(throttled) });
        }
        let disturbance = trouble.injections.iter_mut().find_map(|injection| injection.hit(action, &mut rng));
        trouble.injections.retain(|injection| !injection.is_over());
        Some(Fate { latency, disturbance })
    }

    /// How long metadata takes for the read that begins now. `None`: it is cut off.
    pub(crate) fn metadata_latency(&self) -> Option<Duration> {
        let mut state = self.lock();
        if state.unreachable[Service::Metadata as usize] {
            return None;
        }
        state.metadata_reads += 1;
        Some(state.trouble.metadata.latency.draw(&mut state.lot("metadata", state.metadata_reads)))
    }

    /// The moment that metadata shows now: never one before its lag began.
    pub(crate) fn metadata_as_of(&self) -> Option<Instant> {
        let state = self.lock();
        let lag = Some(state.trouble.metadata.lag).filter(|lag| !lag.is_zero())?;
        let lagging = Instant::now().checked_sub(lag);
        Some(lagging.map_or(state.lags_since, |then| then.max(state.lags_since)))
    }

    /// Is this left out of metadata by the read that goes on now? `listing`: it reads the list that has it, which counts.
    pub(crate) fn leaves_out(&self, what: &Omitted, listing: bool) -> bool {
        let mut state = self.lock();
        state.forget_omissions();
        let hit = state
            .omissions
            .iter_mut()
            .find(|(_, omission)| omission.what == *what && (listing || matches!(omission.extent, Extent::For(_))));
        if let Some((_, Omission { extent: Extent::Reads(left), .. })) = hit {
            *left -= 1;
            return true;
        }
        hit.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Faults {
    /// None.
    fn default() -> Self {
        Self::new(Trouble::default())
    }
}

impl State {
    fn new(mut trouble: Trouble) -> Self {
        let now = Instant::now();
        let omissions = mem::take(&mut trouble.metadata.omissions).into_iter().map(|omission| (now, omission));
        Self {
            fill: Fill::default(),
            turns: BTreeMap::new(),
            unreachable: [false; 2],
            lags_since: now,
            omissions: omissions.collect(),
            metadata_reads: 0,
            trouble,
        }
    }

    /// The lot of the `turn`-th call of that name: nothing else has a part in it.
    fn lot(&self, name: &str, turn: u64) -> StdRng {
        let numbers = [self.trouble.seed.to_le_bytes(), turn.to_le_bytes()];
        StdRng::seed_from_u64(fnv(numbers.as_flattened().iter().chain(name.as_bytes())))
    }

    fn forget_omissions(&mut self) {
        self.omissions.retain(|(begun, omission)| match omission.extent {
            Extent::Reads(left) => left > 0,
            Extent::For(time) => begun.elapsed() < time,
        });
    }
}

/// FNV-1a, which is the same in every build.
fn fnv<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGN: Option<Action> = Some(Action::AssignPrivateIpAddresses);
    const DESCRIBE: Option<Action> = Some(Action::DescribeNetworkInterfaces);

    fn storm(seed: u64) -> Faults {
        let mut storm = Trouble::storm(seed);
        // How full they are is a matter of time.
        storm.buckets = super::super::Buckets::default();
        Faults::new(storm)
    }

    fn fates(faults: &Faults, action: Option<Action>, calls: usize) -> Vec<Fate> {
        (0..calls).map(|_| faults.fate(action).expect("EC2 is reachable")).collect()
    }

    #[test]
    fn the_fate_of_a_call_depends_on_its_seed_its_action_and_its_turn_alone() {
        let alone = fates(&storm(4), ASSIGN, 300);
        let (mixed, mut found) = (storm(4), Vec::new());
        for turn in 0..300 {
            fates(&mixed, DESCRIBE, turn % 3);
            found.extend(fates(&mixed, ASSIGN, 1));
        }
        assert_eq!(found, alone);
        let other = Faults::new(Trouble { seed: 5, ..storm(4).trouble() });
        assert_ne!(fates(&other, ASSIGN, 300), alone);
        assert_ne!(fates(&storm(4), DESCRIBE, 300), alone);
        mixed.set(storm(4).trouble());
        assert_eq!(fates(&mixed, ASSIGN, 300), alone, "a storm that is ordered again begins again");
    }

    #[test]
    fn the_first_injection_that_hits_decides_and_the_others_wait() {
        let faults = Faults::default();
        for time in [1, 2] {
            faults.inject(Injection::once(
                Action::AssignPrivateIpAddresses,
                Disturbance::Delay(Duration::from_secs(time)),
            ));
        }
        let delays: Vec<_> = fates(&faults, ASSIGN, 3).into_iter().map(|fate| fate.disturbance).collect();
        let delay = |time| Some(Disturbance::Delay(Duration::from_secs(time)));
        assert_eq!(delays, [delay(1), delay(2), None]);
    }

    #[test]
    fn trouble_that_was_there_from_the_start_comes_back_when_the_rest_is_cleared() {
        let began_with = Trouble { latency: Latency::fixed(Duration::from_millis(50)), ..Trouble::storm(1) };
        let faults = Faults::new(began_with.clone());
        faults.set(Trouble::default());
        faults.set_reachable(Service::Ec2, false);
        assert_eq!(faults.fate(ASSIGN), None);
        faults.clear();
        assert_eq!(faults.trouble(), began_with);
        assert!(faults.reachable(Service::Ec2));
    }
}
