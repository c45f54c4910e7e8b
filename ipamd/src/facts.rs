//! What the instance is, read until it is known and again every half minute.
//!
//! Owns the reading of metadata, what is remembered of it, and how its failures are told; [`limits`](crate::limits) knows when the type's
//! limits are read. Never on the way of a pod: what is known stays in force while nothing answers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloud::{Answer, Call, Cloud, Kind};
use cloud_aws::{Ec2, InstanceFacts, Metadata, MetadataError, Settings};
use ipnet::Ipv4Net;
use node::{Clock as _, Handle};
use pool::{Event, Limits, Mac, NodeFacts, Refusal, SubnetId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OnceCell};
use tracing::{debug, info, warn};

use crate::{
    clock::NodeClock,
    host::{Network, Worker, chain},
    limits::{LimitsFile, Schedule, refusal},
    metrics::Metrics,
    signs::{Signs, replace},
};

/// How often groups and ranges are read again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often subnets of new ENIs are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait after a failure, growing from the one to the other.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(15);

/// EC2, from the moment its region is known.
#[derive(Debug)]
pub struct LateEc2 {
    ec2: OnceCell<Ec2>,
    known: Notify,
    /// EC2 carried a call out.
    answers: Notify,
    call_timeout: Duration,
    region_within: Duration,
}

/// A call that comes before the region is known waits for it this long.
const REGION_WITHIN: Duration = Duration::from_secs(2);

impl LateEc2 {
    /// Not known yet.
    pub fn new(call_timeout: Duration) -> Self {
        Self {
            ec2: OnceCell::new(),
            known: Notify::new(),
            answers: Notify::new(),
            call_timeout,
            region_within: REGION_WITHIN,
        }
    }

    /// Its region; the first one counts.
    async fn know(&self, region: &str) {
        let settings = Settings { call_timeout: self.call_timeout, ..Settings::new(region) };
        self.ec2.get_or_init(|| client(settings)).await;
        self.known.notify_waiters();
    }

    async fn get(&self) -> &Ec2 {
        loop {
            let known = self.known.notified();
            match self.ec2.get() {
                Some(ec2) => return ec2,
                None => known.await,
            }
        }
    }
}

/// Making a client reads certificates for some 20 ms, in which pods are served all the same.
async fn client(settings: Settings) -> Ec2 {
    let runtime = tokio::runtime::Handle::current();
    let made = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || runtime.block_on(Ec2::new(&settings))).await
    };
    match made {
        Ok(ec2) => ec2,
        // The thread was not to be had, or panicked: once more, here.
        Err(_) => Ec2::new(&settings).await,
    }
}

impl Cloud for LateEc2 {
    async fn call(&self, call: Call) -> Result<Answer, cloud::Error> {
        match tokio::time::timeout(self.region_within, self.get()).await {
            Ok(ec2) => {
                let answer = ec2.call(call).await;
                if answer.is_ok() {
                    self.answers.notify_waiters();
                }
                answer
            }
            Err(_) => Err(cloud::Error {
                action: call.action(),
                kind: Kind::Unreachable,
                code: String::new(),
                message: "the region is not known before instance metadata has answered".to_owned(),
            }),
        }
    }
}

/// What is remembered across restarts of this boot, so that pods get addresses while metadata is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    region: String,
    instance_type: String,
    network: Network,
}

/// What the node is told of the instance, whenever a part of it changes.
#[derive(Debug)]
struct Known {
    handle: Handle,
    told: Mutex<Told>,
}

#[derive(Debug, Clone)]
struct Told {
    facts: NodeFacts,
    /// Why the type's limits cannot be had, or not anew.
    missing: Option<Refusal>,
}

impl Known {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        let Told { facts, missing } = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut told);
            told.clone()
        };
        self.handle.send(Event::Facts(facts));
        if let Some(why) = missing {
            self.handle.send(Event::FactsMissing(why));
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Told) -> T) -> T {
        look(&self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where everything goes.
#[derive(Debug)]
pub struct Facts {
    /// The node.
    pub handle: Handle,
    /// EC2, which needs its region.
    pub ec2: Arc<LateEc2>,
    /// The kernel's side, which needs the VPC.
    pub kernel: Arc<Worker>,
    /// Where the instance's type is shown.
    pub signs: Arc<Signs>,
    /// Counts DescribeInstanceTypes.
    pub metrics: Arc<Metrics>,
    /// BERTH_RUN_DIR.
    pub run_dir: PathBuf,
    /// BERTH_STATE_DIR.
    pub state_dir: PathBuf,
    /// This boot.
    pub boot: String,
}

impl Facts {
    /// What an earlier daemon of this boot knew, for now.
    async fn recall(&self) {
        let path = self.remembered_at();
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        match serde_json::from_str::<Remembered>(&text) {
            Ok(known) if known.boot == self.boot => {
                let Remembered { boot: _, region, instance_type, network } = known;
                self.kernel.set_network(network);
                self.signs.set_instance_type(&instance_type);
                self.ec2.know(&region).await;
                debug!(region, instance_type, "recalled the instance");
            }
            Ok(_) => {}
            Err(error) => warn!(%error, file = %path.display(), "could not read what was remembered of the instance"),
        }
    }

    /// Reads until everything is known, then again and again; never ends.
    pub async fn keep(self) {
        self.recall().await;
        let metadata = Metadata::new();
        let instance = self.instance(&metadata).await;
        self.ec2.know(&instance.region).await;
        self.signs.set_instance_type(&instance.instance_type);
        let network = Network {
            vpc: instance.surroundings.vpc_cidrs.clone(),
            subnets: BTreeMap::from([(instance.subnet.clone(), instance.subnet_cidr)]),
        };
        self.tell_network(&instance, &network);
        let file = LimitsFile::new(self.state_dir.clone());
        let remembered = file.get(&instance.instance_type);
        let facts = NodeFacts {
            instance: instance.instance.clone(),
            primary: instance.primary.clone(),
            address: instance.address,
            subnet: instance.subnet.clone(),
            vpc: instance.vpc.clone(),
            zone: instance.zone.clone(),
            groups: instance.surroundings.groups.clone(),
            limits: remembered.map(|remembered| remembered.limits),
        };
        info!(
            instance = %facts.instance,
            instance_type = instance.instance_type,
            address = %facts.address,
            subnet = %facts.subnet,
            "learnt what the instance is"
        );
        let known = Known { handle: self.handle.clone(), told: Mutex::new(Told { facts, missing: None }) };
        known.tell(|_| {});
        let first = Schedule::first(remembered, luck());
        tokio::join!(
            self.keep_surroundings(&metadata, &instance, network, &known),
            self.keep_limits(&instance.instance_type, &file, first, &known),
        );
    }

    /// Reads groups, ranges and subnets again and again; never ends.
    async fn keep_surroundings(
        &self,
        metadata: &Metadata,
        instance: &InstanceFacts,
        mut network: Network,
        known: &Known,
    ) {
        let mut again = tokio::time::Instant::now() + AGAIN;
        let mut silent = false;
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(found) = self.new_subnets(metadata, &network).await {
                network.subnets.extend(found);
                self.tell_network(instance, &network);
            }
            if tokio::time::Instant::now() < again {
                continue;
            }
            again = tokio::time::Instant::now() + AGAIN;
            match metadata.surroundings(instance.mac).await {
                Ok(now) => {
                    if std::mem::take(&mut silent) {
                        info!("instance metadata answers again");
                    }
                    if now.vpc_cidrs != network.vpc {
                        info!(was = ?network.vpc, is = ?now.vpc_cidrs, "the VPC's ranges have changed");
                        network.vpc = now.vpc_cidrs;
                        self.tell_network(instance, &network);
                    }
                    let groups = known.read(|told| told.facts.groups.clone());
                    if now.groups != groups {
                        info!(was = ?groups, is = ?now.groups, "the primary ENI's security groups have changed");
                        known.tell(|told| told.facts.groups = now.groups);
                    }
                }
                Err(error) if !silent => {
                    silent = true;
                    warn!(error = %chain(&error), "could not read instance metadata again; what is known stays in force");
                }
                Err(_) => {}
            }
        }
    }

    /// Reads the type's limits when they are missing or old; never ends.
    async fn keep_limits(&self, instance_type: &str, file: &LimitsFile, first: Duration, known: &Known) {
        let (mut schedule, mut wait, mut silent) = (Schedule::default(), first, false);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // It answers again: pods that need the limits should not wait for our pause.
                () = self.ec2.answers.notified(), if silent => {}
            }
            match self.ask_limits(instance_type).await {
                Ok(limits) => {
                    file.keep(instance_type, limits);
                    let Limits { enis, addresses_per_eni } = limits;
                    if known.read(|told| told.facts.limits != Some(limits) || told.missing.is_some()) {
                        info!(instance_type, enis, addresses_per_eni, "learnt what the instance's type allows");
                        known.tell(|told| (told.facts.limits, told.missing) = (Some(limits), None));
                    }
                    wait = schedule.told(luck());
                    silent = false;
                }
                Err(error) => {
                    wait = schedule.failed(error.kind, luck());
                    silent = matches!(error.kind, Kind::Unreachable | Kind::Uncertain);
                    let why = refusal(&error);
                    if known.read(|told| told.missing.as_ref() != Some(&why)) {
                        let without = known.read(|told| told.facts.limits.is_none());
                        warn!(%error, reason = why.name(), again_in = ?wait, instance_type, without, "could not read the limits of the instance's type");
                        known.tell(|told| told.missing = Some(why));
                    }
                }
            }
        }
    }

    async fn instance(&self, metadata: &Metadata) -> InstanceFacts {
        let mut wait = RETRY_FIRST;
        loop {
            match metadata.facts().await {
                Ok(instance) => return instance,
                Err(error) => {
                    warn!(error = %chain(&error), again_in = ?wait, "could not read instance metadata");
                    self.handle.send(Event::FactsMissing(metadata_refusal(&error)));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MOST);
                }
            }
        }
    }

    async fn ask_limits(&self, instance_type: &str) -> Result<Limits, cloud::Error> {
        let ec2 = self.ec2.get().await;
        let began = std::time::Instant::now();
        let answer = ec2.instance_limits(instance_type).await;
        self.metrics.called(cloud::Action::DescribeInstanceTypes, &answer, began.elapsed());
        answer
    }

    /// Subnets of ENIs that nobody has told yet: those of ENIs that we did not create.
    async fn new_subnets(&self, metadata: &Metadata, network: &Network) -> Option<BTreeMap<SubnetId, Ipv4Net>> {
        let wanted: Vec<(SubnetId, Mac)> = self
            .handle
            .read(|state, _| state.wanted().into_iter().map(|eni| (eni.subnet, eni.mac)).collect())
            .await
            .unwrap_or_default();
        let mut found = BTreeMap::new();
        for (subnet, mac) in wanted {
            if network.subnets.contains_key(&subnet) || found.contains_key(&subnet) {
                continue;
            }
            match metadata.subnet_cidr(mac).await {
                Ok(cidr) => drop(found.insert(subnet, cidr)),
                Err(error) => debug!(%subnet, error = %chain(&error), "metadata does not know the subnet yet"),
            }
        }
        (!found.is_empty()).then_some(found)
    }

    fn tell_network(&self, instance: &InstanceFacts, network: &Network) {
        self.kernel.set_network(network.clone());
        let remembered = Remembered {
            boot: self.boot.clone(),
            region: instance.region.clone(),
            instance_type: instance.instance_type.clone(),
            network: network.clone(),
        };
        keep(&self.remembered_at(), &serde_json::json!(remembered));
    }

    fn remembered_at(&self) -> PathBuf {
        self.run_dir.join("instance.json")
    }
}

/// What is not kept is read again after a restart.
fn keep(path: &Path, content: &serde_json::Value) {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(error) = written.and_then(|()| replace(path, &format!("{content}\n"))) {
        warn!(%error, file = %path.display(), "could not keep what was learnt");
    }
}

/// From 0 to 1.
fn luck() -> f64 {
    let bits = u32::try_from(NodeClock.luck() & u128::from(u32::MAX)).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

fn metadata_refusal(error: &MetadataError) -> Refusal {
    let action = "instance metadata".to_owned();
    match error {
        MetadataError::Unreachable { .. } => Refusal::CloudUnreachable { action },
        MetadataError::Missing { path } => Refusal::CloudError { action, code: format!("no {path}") },
        MetadataError::Refused { status, .. } => Refusal::CloudError { action, code: format!("status {status}") },
        other => Refusal::CloudError { action, code: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ec2_is_unreachable_until_its_region_is_known() {
        let ec2 = LateEc2 { region_within: Duration::ZERO, ..LateEc2::new(Duration::from_secs(1)) };
        let refused = ec2.call(Call::Describe { eni: "eni-1".into() }).await.expect_err("no region");
        assert_eq!(refused.kind, Kind::Unreachable);
    }

    #[test]
    fn metadata_that_is_switched_off_is_told_with_its_status() {
        let off = MetadataError::Refused { path: "mac".to_owned(), status: 403 };
        assert_eq!(
            metadata_refusal(&off),
            Refusal::CloudError { action: "instance metadata".into(), code: "status 403".into() }
        );
    }
}
