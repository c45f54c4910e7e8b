//! The EC2 of a lab: `sim`'s model with a clock, network-like trouble, and somebody to tell when it changed.
//!
//! Everything that the lab serves (EC2, metadata) or builds (links) reads this one [`World`]. It opens no socket and touches
//! no kernel.

use std::{
    collections::{BTreeMap, VecDeque},
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ipnet::Ipv4Net;
use rand::{SeedableRng, rngs::StdRng};
use sim::{
    Action, Attached, Fault, Request, Response, Times, Vpc,
    requests::{CreateSubnet, LaunchEni, LaunchInterface, NewEni, RunInstances, Tags},
    responses::Instance,
};
use thiserror::Error;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::trouble::{Disturbance, Injection, Latency, When};

/// How a [`World`] begins. Most of it can be changed while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// EC2 itself: its transition times, its guesses.
    pub ec2: sim::Settings,
    /// How long a call takes on its way there and back.
    pub latency: Latency,
    /// How far metadata is behind EC2.
    pub imds_lag: Duration,
    /// Same seed, same ids and MACs for the same calls.
    pub seed: u64,
}

/// EC2 with a clock. See the module.
#[derive(Debug)]
pub struct World {
    started: Instant,
    started_at: SystemTime,
    state: Mutex<State>,
    change: Notify,
}

#[derive(Debug)]
struct State {
    vpc: Vpc,
    rng: StdRng,
    latency: Latency,
    imds_lag: Duration,
    /// Snapshots by their time, for metadata that lags; empty while `imds_lag` is zero.
    history: VecDeque<(Duration, Vpc)>,
    injections: Vec<Injection>,
    unreachable: [bool; 2],
    log: VecDeque<Logged>,
    calls: BTreeMap<Action, u64>,
}

/// What can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// EC2's API.
    Ec2,
    /// Instance metadata, of every node.
    Metadata,
}

/// One call that reached EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When it arrived, since the world began.
    pub at: Duration,
    /// What was asked.
    pub request: Request,
    /// What the caller was told.
    pub outcome: Outcome,
}

/// What a caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Accepted,
    /// No, with this code.
    Refused(String),
    /// Nothing.
    Lost,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// EC2 refused.
    #[error("EC2 refused")]
    Refused(#[source] Fault),
    /// The connection ends without an answer.
    #[error("no answer")]
    Lost,
}

/// The log keeps so many calls.
const LOG: usize = 10_000;

impl World {
    /// An empty region. Its clock starts now.
    pub fn new(settings: Settings) -> Arc<Self> {
        let mut state = State {
            vpc: Vpc::new(settings.ec2),
            rng: StdRng::seed_from_u64(settings.seed),
            latency: settings.latency,
            imds_lag: Duration::ZERO,
            history: VecDeque::new(),
            injections: Vec::new(),
            unreachable: [false; 2],
            log: VecDeque::new(),
            calls: BTreeMap::new(),
        };
        state.set_imds_lag(settings.imds_lag);
        Arc::new(Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            state: Mutex::new(state),
            change: Notify::new(),
        })
    }

    /// A call as a client on the network makes it: it takes time, it can fail, it is counted.
    pub async fn call(&self, request: Request) -> Result<Response, Trouble> {
        let action = request.action();
        let (latency, disturbance) = {
            let mut state = self.lock();
            if state.unreachable[Service::Ec2 as usize] {
                return Err(Trouble::Lost);
            }
            let State { latency, rng, .. } = &mut *state;
            (latency.draw(action, rng), state.disturbance(action))
        };
        let at = self.now();
        // The effect lies in the middle: a caller that gives up early may or may not have caused it.
        sleep(latency / 2).await;
        let result = self.disturbed(&request, disturbance.as_ref());
        let outcome = match &result {
            Ok(_) => Outcome::Accepted,
            Err(Trouble::Refused(fault)) => Outcome::Refused(fault.code.to_string()),
            Err(Trouble::Lost) => Outcome::Lost,
        };
        self.lock().record(Logged { at, request, outcome });
        match disturbance {
            Some(Disturbance::Hang(_)) => future::pending().await,
            Some(Disturbance::Delay(more)) => sleep(latency / 2 + more).await,
            _ => sleep(latency / 2).await,
        }
        result
    }

    /// A call made by whoever builds the world: at once, undisturbed, not counted.
    pub fn make(&self, request: Request) -> Result<Response, Fault> {
        self.change_by(|state, now| {
            let State { vpc, rng, .. } = state;
            vpc.ec2(now, rng, request)
        })
    }

    /// Makes a VPC; its id.
    pub fn create_vpc(&self, cidr: Ipv4Net) -> Result<String, Fault> {
        match self.make(Request::CreateVpc { cidr, tags: Tags::new() })? {
            Response::CreateVpc(made) => Ok(made.id),
            other => unreachable!("CreateVpc answered {other:?}"),
        }
    }

    /// Makes a subnet in the given zone (`us-west-2a`), or where EC2 likes; its id.
    pub fn create_subnet(&self, vpc: &str, cidr: Ipv4Net, zone: Option<&str>) -> Result<String, Fault> {
        let wanted = CreateSubnet { vpc: vpc.to_owned(), cidr, zone: zone.map(str::to_owned), tags: Tags::new() };
        match self.make(Request::CreateSubnet(wanted))? {
            Response::CreateSubnet(made) => Ok(made.id),
            other => unreachable!("CreateSubnet answered {other:?}"),
        }
    }

    /// Launches an instance with one ENI; its id. For more than that, [`World::make`] a `RunInstances`.
    pub fn launch(&self, instance_type: &str, subnet: &str) -> Result<String, Fault> {
        let eni = NewEni { subnet: subnet.to_owned(), ..NewEni::default() };
        let first = LaunchInterface { device_index: 0, card: 0, eni: LaunchEni::New(eni), delete_on_termination: None };
        let wanted = RunInstances {
            count: 1,
            instance_type: instance_type.to_owned(),
            image: "ami-0123456789abcdef0".to_owned(),
            interfaces: vec![first],
            ..RunInstances::default()
        };
        match self.make(Request::RunInstances(wanted))? {
            Response::RunInstances(made) => Ok(made.instances.into_iter().next().expect("one was launched").id),
            other => unreachable!("RunInstances answered {other:?}"),
        }
    }

    /// The truth about an instance's ENIs, the primary one first.
    pub fn attached(&self, instance: &str) -> Vec<Attached> {
        self.vpc(|vpc| vpc.attached(instance))
    }

    /// A look at the truth, as of now.
    pub fn vpc<T>(&self, look: impl FnOnce(&Vpc) -> T) -> T {
        self.change_by(|state, now| {
            state.vpc.settle(now);
            look(&state.vpc)
        })
    }

    /// Resolves at the next change of EC2's state, whether by a call or by time. A change before the first poll is missed:
    /// whoever must not miss one uses [`World::changes`].
    pub async fn changed(&self) {
        let seen = self.vpc(Vpc::revision);
        self.past(seen).await;
    }

    /// Follows the world from its current state on.
    pub fn changes(self: &Arc<Self>) -> Changes {
        Changes { seen: self.vpc(Vpc::revision), world: Arc::clone(self) }
    }

    /// What metadata tells about an instance, `imds_lag` behind EC2; `None` for an instance that never was.
    pub fn metadata(&self, instance: &str) -> Option<(Instance, Vec<Ipv4Net>)> {
        let look = |vpc: &Vpc| {
            let described = vpc.described(instance)?;
            let cidrs = vpc.cidrs_of(&described.vpc);
            Some((described, cidrs))
        };
        self.change_by(|state, now| {
            state.vpc.settle(now);
            let then = now.saturating_sub(state.imds_lag);
            let known = state.history.iter().filter(|(_, vpc)| vpc.described(instance).is_some());
            // An instance knows what it was launched with, however young it is.
            let snapshot = known.clone().take_while(|(at, _)| *at <= then).last().or_else(|| known.clone().next());
            match snapshot {
                None => look(&state.vpc),
                Some((_, vpc)) => {
                    let mut old = vpc.clone();
                    old.settle(then);
                    look(&old)
                }
            }
        })
    }

    /// The next calls that fit are disturbed.
    pub fn inject(&self, injection: Injection) {
        self.lock().injections.push(injection);
    }

    /// What is still to be disturbed.
    pub fn injections(&self) -> Vec<Injection> {
        self.lock().injections.clone()
    }

    /// Nothing is disturbed from now on.
    pub fn clear_injections(&self) {
        self.lock().injections.clear();
    }

    /// While a service is not reachable, connections to it end without an answer and without an effect.
    pub fn set_reachable(&self, service: Service, reachable: bool) {
        self.lock().unreachable[service as usize] = !reachable;
    }

    /// See [`World::set_reachable`].
    pub fn reachable(&self, service: Service) -> bool {
        !self.lock().unreachable[service as usize]
    }

    /// For calls from now on.
    pub fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// EC2's transition times, for calls from now on.
    pub fn set_times(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.lock().vpc.settings_mut().times);
    }

    /// How far metadata is behind EC2, from now on.
    pub fn set_imds_lag(&self, lag: Duration) {
        self.lock().set_imds_lag(lag);
    }

    /// Calls that reached EC2, by action, since the beginning or the last [`World::forget_calls`].
    pub fn calls(&self) -> BTreeMap<Action, u64> {
        self.lock().calls.clone()
    }

    /// The latest calls that reached EC2, the oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.lock().log.iter().cloned().collect()
    }

    /// Starts counting and logging anew.
    pub fn forget_calls(&self) {
        let mut state = self.lock();
        state.calls.clear();
        state.log.clear();
    }

    /// Time since the world began: the model's virtual time.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A moment of the model's time on the wall clock.
    pub fn wall_clock(&self, at: Duration) -> SystemTime {
        self.started_at + at
    }

    fn disturbed(&self, request: &Request, disturbance: Option<&Disturbance>) -> Result<Response, Trouble> {
        let before = match disturbance {
            Some(Disturbance::Refuse(When::BeforeEffect, fault)) => Some(Trouble::Refused(fault.clone())),
            Some(Disturbance::Lose(When::BeforeEffect) | Disturbance::Hang(When::BeforeEffect)) => Some(Trouble::Lost),
            _ => None,
        };
        if let Some(trouble) = before {
            return Err(trouble);
        }
        let response = self.make(request.clone()).map_err(Trouble::Refused)?;
        match disturbance {
            Some(Disturbance::Refuse(When::AfterEffect, fault)) => Err(Trouble::Refused(fault.clone())),
            Some(Disturbance::Lose(When::AfterEffect) | Disturbance::Hang(When::AfterEffect)) => Err(Trouble::Lost),
            _ => Ok(response),
        }
    }

    /// Waits for a revision other than `seen`, and gives it.
    async fn past(&self, seen: u64) -> u64 {
        loop {
            let mut told = std::pin::pin!(self.change.notified());
            told.as_mut().enable();
            let (revision, next) = self.vpc(|vpc| (vpc.revision(), vpc.next_transition()));
            if revision != seen {
                return revision;
            }
            let due = async {
                match next {
                    Some(at) => sleep_until(self.started + at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = told => {}
                () = due => {}
            }
        }
    }

    /// The one way to touch the model: whoever waits is told, and metadata that lags has its history.
    fn change_by<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let before = state.vpc.revision();
        let result = change(&mut state, now);
        if state.vpc.revision() != before {
            state.remember(now);
            drop(state);
            self.change.notify_waiters();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The model has no half-done states that a panic elsewhere could leave behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn disturbance(&mut self, action: Action) -> Option<Disturbance> {
        let (at, found) =
            self.injections.iter_mut().enumerate().find_map(|(at, injection)| Some((at, injection.hit(action)?)))?;
        if self.injections[at].is_over() {
            self.injections.remove(at);
        }
        Some(found)
    }

    fn record(&mut self, logged: Logged) {
        *self.calls.entry(logged.request.action()).or_default() += 1;
        self.log.push_back(logged);
        if self.log.len() > LOG {
            self.log.pop_front();
        }
    }

    fn set_imds_lag(&mut self, lag: Duration) {
        self.imds_lag = lag;
        self.history.clear();
        if !lag.is_zero() {
            self.history.push_back((Duration::ZERO, self.vpc.clone()));
        }
    }

    fn remember(&mut self, now: Duration) {
        if self.imds_lag.is_zero() {
            return;
        }
        self.history.push_back((now, self.vpc.clone()));
        // All but the last of those that are old enough are of no use any more.
        let then = now.saturating_sub(self.imds_lag);
        while self.history.get(1).is_some_and(|(at, _)| *at <= then) {
            self.history.pop_front();
        }
    }
}

/// Follows a world, missing nothing: [`Changes::next`] returns at once if there was a change since it last returned.
#[derive(Clone, Debug)]
pub struct Changes {
    world: Arc<World>,
    seen: u64,
}

impl Changes {
    /// The next change. Cancelling it loses nothing.
    pub async fn next(&mut self) {
        self.seen = self.world.past(self.seen).await;
    }
}
