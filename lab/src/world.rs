//! The EC2 of a lab: `sim`'s model with a clock and somebody to tell when it changed.
//!
//! Everything that the lab serves (EC2, metadata) or builds (links) reads this one [`World`]. It opens no socket, touches no
//! kernel, and knows no trouble: calls are carried out at once.

use std::{
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use ipnet::Ipv4Net;
use rand::{SeedableRng, rngs::StdRng};
use sim::{
    Attached, Fault, Request, Response, StaleReads, Times, Vpc,
    requests::{CreateSubnet, Describe, LaunchEni, LaunchInterface, NewEni, RunInstances, Tags},
    responses::Instance,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::truth::HISTORY;

/// How a [`World`] begins. Most of it can be changed while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// EC2 itself: its transition times, its guesses.
    pub ec2: sim::Settings,
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
}

impl World {
    /// An empty region. Its clock starts now.
    pub fn new(settings: Settings) -> Arc<Self> {
        // Which reads are stale is for the proxy to say.
        let stale_reads = StaleReads { most: HISTORY, permille: 0 };
        let vpc = Vpc::new(sim::Settings { stale_reads, ..settings.ec2 });
        let state = State { vpc, rng: StdRng::seed_from_u64(settings.seed) };
        Arc::new(Self {
            started: Instant::now(),
            started_at: SystemTime::now(),
            state: Mutex::new(state),
            change: Notify::new(),
        })
    }

    /// A call of EC2, carried out at once.
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

    /// A call answered as it was so long ago, or as far back as the world remembers: one of those that
    /// [can be stale](sim::Action::can_be_stale).
    pub fn read_as_of(&self, age: Duration, request: Request) -> Result<Response, Fault> {
        self.change_by(|state, now| state.read_as_of(age, now, request))
    }

    /// What metadata tells about an instance that shows what was at `as_of`, or what is; `None` for an instance that never was.
    /// An instance knows what it was launched with, however young it is.
    pub fn metadata(&self, instance: &str, as_of: Option<Instant>) -> Option<(Instance, Vec<Ipv4Net>)> {
        self.change_by(|state, now| {
            state.vpc.settle(now);
            let known = state.vpc.described(instance)?;
            let then = as_of.map_or(now, |at| at.saturating_duration_since(self.started)).max(known.launched);
            let age = now.saturating_sub(then);
            let described = if age.is_zero() { Some(known) } else { state.described_as_of(age, now, instance) };
            described.map(|instance| {
                let cidrs = state.vpc.cidrs_of(&instance.vpc);
                (instance, cidrs)
            })
        })
    }

    /// EC2's transition times, for calls from now on.
    pub fn set_times(&self, change: impl FnOnce(&mut Times)) {
        change(&mut self.lock().vpc.settings_mut().times);
    }

    /// Time since the world began: the model's virtual time.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A moment of the model's time on the wall clock.
    pub fn wall_clock(&self, at: Duration) -> SystemTime {
        self.started_at + at
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

    /// The one way to touch the model: whoever waits is told.
    fn change_by<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let before = state.vpc.revision();
        let result = change(&mut state, now);
        if state.vpc.revision() != before {
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
    fn read_as_of(&mut self, age: Duration, now: Duration, request: Request) -> Result<Response, Fault> {
        if request.action().can_be_stale() {
            self.vpc.lag_next_read(age);
        }
        self.vpc.ec2(now, &mut self.rng, request)
    }

    fn described_as_of(&mut self, age: Duration, now: Duration, instance: &str) -> Option<Instance> {
        match self.read_as_of(age, now, Request::DescribeInstances(Describe::one(instance))) {
            Ok(Response::DescribeInstances(page)) => {
                page.items.into_iter().flat_map(|reservation| reservation.instances).next()
            }
            _ => None,
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
