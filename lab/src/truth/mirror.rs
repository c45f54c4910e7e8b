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
        self.past().attached(instance, Instant::now())
    }

    pub(super) fn enis(&self) -> Vec<NetworkInterface> {
        self.past().now().map(|state| state.enis.clone()).unwrap_or_default()
    }

    pub(super) fn told(&self, instance: &str, as_of: Option<Instant>) -> Option<Told> {
        let past = self.past();
        let state = past.when(instance, as_of)?;
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

    fn attached(&self, instance: &str, now: Instant) -> Vec<Attached> {
        let Some(state) = self.now() else { return Vec::new() };
        let Some(instance) = state.instances.get(instance) else { return Vec::new() };
        let known = |eni: &NetworkInterface| {
            let (own, subnet_cidr) = (eni.attachment.as_ref()?, *state.subnets.get(&eni.subnet)?);
            let device = self.devices.get(&own.id)?;
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

    /// What was at that moment, or what is; for an instance that was not there yet, the first that is known of it.
    fn when(&self, instance: &str, as_of: Option<Instant>) -> Option<&State> {
        let mut looks = self.looks.iter().filter(|(_, state)| state.instances.contains_key(instance));
        let (_, first) = looks.next()?;
        let then = looks.take_while(|(at, _)| as_of.is_none_or(|as_of| *at <= as_of)).last();
        Some(then.map_or(first, |(_, state)| state))
    }

    fn next_device(&self, now: Instant) -> Option<Instant> {
        let moments = self.devices.values().flat_map(|device| [Some(device.appears), device.leaves]);
        moments.flatten().filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TIMES: Times = Times { device: Duration::from_secs(2), unplug: Duration::from_millis(500), ..Times::INSTANT };

    fn eni(n: u32, instance: Value) -> Value {
        let attachment = instance.as_str().map(|status| {
            json!({ "id": format!("eni-attach-{n}"), "instance": "i-1", "device": n, "card": 0,
                    "status": status, "delete_on_termination": true })
        });
        json!({ "id": format!("eni-{n}"), "mac": format!("02:00:00:00:00:0{n}"), "vpc": "vpc-1", "subnet": "subnet-1",
                "zone": "us-west-2a", "primary": format!("10.0.0.1{n}"), "secondary": [format!("10.0.0.2{n}")],
                "prefixes": [], "groups": ["sg-1"], "description": "", "tags": {}, "interface_type": "interface",
                "status": "in-use", "attachment": attachment })
    }

    fn look(past: &mut Past, revision: u64, enis: &[Value], at: Instant) -> bool {
        let elsewhere = json!({ "id": "vpc-2", "cidrs": ["172.31.0.0/16"] });
        let told = json!({
            "revision": revision, "at_ms": 5_000,
            "vpcs": [elsewhere, { "id": "vpc-1", "cidrs": ["10.0.0.0/16", "10.1.0.0/16"] }],
            "subnets": [{ "id": "subnet-1", "vpc": "vpc-1", "cidr": "10.0.0.0/24", "zone": "us-west-2a", "free": 200 }],
            "instances": [{ "id": "i-1", "type": "m5.large", "state": "running", "vpc": "vpc-1", "subnet": "subnet-1",
                            "zone": "us-west-2a", "launched_ms": 1_000 }],
            "enis": enis,
        });
        let told: state::Told = serde_json::from_value(told).expect("it is well formed");
        past.add(told.of_vpc("vpc-1"), at, &TIMES)
    }

    fn visible(past: &Past, at: Instant) -> Vec<u32> {
        let attached = past.attached("i-1", at);
        attached.iter().filter(|one| one.device_visible).map(|one| one.device_index).collect()
    }

    #[test]
    fn a_device_comes_after_its_delay_and_goes_before_the_detach_ends() {
        let (mut past, now) = (Past::default(), Instant::now());
        assert!(look(&mut past, 1, &[eni(0, "attached".into())], now));
        assert_eq!(visible(&past, now), [0], "it was launched with that one");
        assert!(look(&mut past, 2, &[eni(0, "attached".into()), eni(1, "attaching".into())], now));
        assert_eq!(past.next_device(now), Some(now + TIMES.device));
        assert_eq!(visible(&past, now), [0]);
        let now = now + TIMES.device;
        assert_eq!(visible(&past, now), [0, 1]);
        assert!(look(&mut past, 3, &[eni(0, "attached".into()), eni(1, "detaching".into())], now));
        assert_eq!(visible(&past, now), [0, 1]);
        let now = now + TIMES.unplug;
        assert_eq!(visible(&past, now), [0]);
        assert_eq!(past.attached("i-1", now).len(), 2, "it is still attached");
        assert_eq!(past.next_device(now), None);
    }

    #[test]
    fn metadata_of_a_while_ago_is_what_was_told_then() {
        let (mut past, start) = (Past::default(), Instant::now());
        let second = |n: u64| start + Duration::from_secs(n);
        look(&mut past, 1, &[eni(0, "attached".into())], second(5));
        look(&mut past, 2, &[eni(0, "attached".into()), eni(1, "attached".into())], second(15));
        let enis =
            |past: &Past, as_of: Option<u64>| past.when("i-1", as_of.map(second)).expect("it was launched").enis.len();
        assert_eq!([enis(&past, None), enis(&past, Some(15)), enis(&past, Some(14))], [2, 2, 1]);
        assert_eq!(enis(&past, Some(0)), 1, "it knows what it was launched with, however young it is");
        assert!(past.when("i-2", None).is_none());
        look(&mut past, 3, &[eni(0, "attached".into())], second(80));
        assert_eq!(past.looks.len(), 2, "a minute ago it was the second look, and no older one is needed");
        assert_eq!([enis(&past, None), enis(&past, Some(79))], [1, 2]);
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let (mut past, now) = (Past::default(), Instant::now());
        assert!(look(&mut past, 7, &[eni(0, "attached".into()), eni(1, "attached".into())], now));
        assert!(!look(&mut past, 6, &[eni(0, "attached".into())], now));
        assert_eq!(past.now().expect("a look").enis.len(), 2);
    }

    #[test]
    fn a_word_that_ec2_does_not_have_is_an_error() {
        let mut told = eni(0, "attached".into());
        told["status"] = "broken".into();
        let told = json!({ "revision": 1, "at_ms": 0, "vpcs": [], "subnets": [], "instances": [], "enis": [told] });
        let error = serde_json::from_value::<state::Told>(told).expect_err("it is no state of an ENI");
        assert!(error.to_string().contains("\"broken\""), "{error}");
    }
}
