//! One VPC of a LocalStack as its extension's admin listener tells it, kept up by a long poll, with a minute of history.
//!
//! What LocalStack has no notion of is added here: the moment at which an instance sees an attached ENI's device, and at which it is
//! gone again. It changes nothing in LocalStack.

use std::{
    collections::{BTreeMap, VecDeque},
    future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    body::Bytes,
    http::{Request, StatusCode, header},
};
use sim::{
    Attached, Times,
    requests::InterfaceType,
    responses::{AttachmentStatus, NetworkInterface},
};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{HISTORY, Told, state, state::State};
use crate::remote::{Remote, RemoteError};

/// See the module.
#[derive(Debug)]
pub struct Mirror {
    admin: Remote,
    vpc: String,
    region: String,
    times: Times,
    past: Mutex<Past>,
    /// Counts whatever happened.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Past {
    /// The oldest first.
    looks: VecDeque<(Instant, Arc<State>)>,
    /// By attachment.
    devices: BTreeMap<String, Device>,
    /// When the extension's clock began.
    began: Option<SystemTime>,
}

/// Of an attached ENI, in its instance.
#[derive(Debug, Clone, Copy)]
struct Device {
    appears: Instant,
    leaves: Option<Instant>,
}

/// Why LocalStack's state is not known.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// It was not answered.
    #[error("asking LocalStack's extension for its state")]
    Unanswered(#[from] RemoteError),
    /// Nothing came.
    #[error("LocalStack's extension did not tell its state within {PATIENCE:?}")]
    Late,
    /// It said no.
    #[error("LocalStack's extension answered {status}: {body}")]
    Refused {
        /// How.
        status: StatusCode,
        /// In which words.
        body: String,
    },
    /// What it said is not its state.
    #[error("reading the state that LocalStack's extension told")]
    Form(#[from] serde_json::Error),
}

/// Longer than the extension lets anybody wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions when one failed.
const RETRY: Duration = Duration::from_millis(200);

impl Mirror {
    /// Of this VPC, empty until it is followed. Of the times, those of a device count.
    pub(crate) fn new(admin: SocketAddr, vpc: String, region: String, times: Times) -> Arc<Self> {
        let news = watch::Sender::new(0);
        Arc::new(Self { admin: Remote::at(admin), vpc, region, times, past: Mutex::default(), news })
    }

    /// Keeps it up until dropped.
    pub(crate) async fn follow(self: Arc<Self>) {
        tokio::join!(self.poll(), self.watch_devices());
    }

    async fn poll(&self) {
        loop {
            let seen = self.past().looks.back().map(|(_, state)| state.revision);
            if let Err(error) = self.ask(seen).await {
                tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "could not follow LocalStack");
                sleep(RETRY).await;
            }
        }
    }

    /// Tells of devices that come and go.
    async fn watch_devices(&self) {
        let mut news = self.news.subscribe();
        loop {
            let next = self.past().next_device(Instant::now());
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.news.send_modify(|count| *count += 1),
                told = news.changed() => if told.is_err() { return },
            }
        }
    }

    /// Returns once what is known is no older than this call.
    pub(crate) async fn catch_up(&self) -> Result<(), MirrorError> {
        self.ask(None).await
    }

    async fn ask(&self, after: Option<u64>) -> Result<(), MirrorError> {
        let path = after.map_or_else(|| "/state".to_owned(), |seen| format!("/state?after={seen}"));
        let request = Request::get(path)
            .header(header::HOST, self.admin.address().to_string())
            .body(Bytes::new())
            .expect("a path and an address make a request");
        let answer = timeout(PATIENCE, self.admin.ask(request)).await.map_err(|_| MirrorError::Late)??;
        if !answer.status().is_success() {
            let body = String::from_utf8_lossy(answer.body()).into_owned();
            return Err(MirrorError::Refused { status: answer.status(), body });
        }
        let told: state::Told = serde_json::from_slice(answer.body())?;
        if self.past().add(told.of_vpc(&self.vpc), Instant::now(), &self.times) {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    pub(super) fn attached(&self, instance: &str) -> Vec<Attached> {
        let (past, now) = (self.past(), Instant::now());
        let Some(state) = past.now() else { return Vec::new() };
        let Some(instance) = state.instances.get(instance) else { return Vec::new() };
        let known = |eni: &NetworkInterface| {
            let (own, subnet_cidr) = (eni.attachment.as_ref()?, *state.subnets.get(&eni.subnet)?);
            let device = past.devices.get(&own.id)?;
            let there = device.appears <= now && device.leaves.is_none_or(|at| now < at);
            Some(Attached {
                eni: eni.id.clone(),
                mac: eni.mac,
                device_index: own.device_index,
                card: own.card,
                vpc: eni.vpc.clone(),
                subnet: eni.subnet.clone(),
                subnet_cidr,
                gateway: subnet_cidr.hosts().next().unwrap_or(subnet_cidr.addr()),
                addresses: eni.addresses.clone(),
                prefixes: eni.prefixes.clone(),
                device_visible: there && eni.interface_type != InterfaceType::EfaOnly,
                source_dest_check: eni.source_dest_check,
            })
        };
        instance.interfaces.iter().filter_map(known).collect()
    }

    pub(super) fn enis(&self) -> Vec<NetworkInterface> {
        self.past().now().map(|state| state.enis.clone()).unwrap_or_default()
    }

    pub(super) fn told(&self, instance: &str, as_of: Option<Instant>) -> Option<Told> {
        let past = self.past();
        let knows = |state: &&State| state.instances.contains_key(instance);
        let mut known = past.looks.iter().map(|(at, state)| (*at, &**state)).filter(|(_, state)| knows(state));
        let (_, first) = known.next()?;
        let then = known.take_while(|(at, _)| as_of.is_none_or(|as_of| *at <= as_of)).last();
        let state = then.map_or(first, |(_, state)| state);
        let instance = state.instances.get(instance)?.clone();
        Some(Told {
            launched: past.began.unwrap_or(SystemTime::UNIX_EPOCH) + instance.launched,
            region: self.region.clone(),
            cidrs: state.cidrs.clone(),
            subnets: state.subnets.clone(),
            instance,
        })
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // A look is added whole.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn now(&self) -> Option<&State> {
        self.looks.back().map(|(_, state)| &**state)
    }

    /// Adds what was told, if it is newer than what is known.
    fn add(&mut self, state: State, now: Instant, times: &Times) -> bool {
        let last = self.looks.back().map(|(_, state)| Arc::clone(state));
        if last.as_ref().is_some_and(|last| last.revision >= state.revision) {
            return false;
        }
        self.began.get_or_insert_with(|| SystemTime::now() - state.at);
        let mut devices = BTreeMap::new();
        for eni in &state.enis {
            let Some(own) = &eni.attachment else { continue };
            let device = self.devices.get(&own.id).copied().unwrap_or_else(|| {
                // What an instance is launched with is there when it boots.
                let at_launch = last.as_ref().is_none_or(|last| !last.instances.contains_key(&own.instance));
                Device { appears: if at_launch { now } else { now + times.device }, leaves: None }
            });
            let leaving = own.status == AttachmentStatus::Detaching;
            let leaves = device.leaves.or_else(|| leaving.then(|| now + times.unplug));
            devices.insert(own.id.clone(), Device { leaves, ..device });
        }
        self.devices = devices;
        self.looks.push_back((now, Arc::new(state)));
        // What was true a minute ago is the newest look that is at least as old.
        while self.looks.get(1).is_some_and(|(at, _)| now - *at >= HISTORY) {
            self.looks.pop_front();
        }
        true
    }

    fn next_device(&self, now: Instant) -> Option<Instant> {
        let moments = self.devices.values().flat_map(|device| [Some(device.appears), device.leaves]);
        moments.flatten().filter(|at| *at > now).min()
    }
}
