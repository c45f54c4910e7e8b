//! The account that all nodes share: EC2 with its buckets, the instances, and who has been served.
//!
//! Owns what becomes of each call: it takes its time, and it needs a token. Nothing is lost and nothing is stale.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{Fleet, LATENCY, Report};
use crate::{
    Action, Attached, Fault, Request, Response, Settings, Times, Vpc,
    rates::Buckets,
    requests::{CreateSubnet, LaunchEni, LaunchInterface, NewEni, RunInstances, Tags},
    run::Luck,
};

/// What every node is.
const INSTANCE_TYPE: &str = "m5.large";

/// How often an action was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// With success.
    pub accepted: u64,
    /// There was no token.
    pub throttled: u64,
    /// EC2 said no for another reason.
    pub refused: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Region {
    pub(crate) seed: u64,
    pub(crate) instances: Vec<String>,
    began: Instant,
    account: Mutex<Account>,
    served: Notify,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) vpc: Vpc,
    ids: Luck,
    buckets: Option<Buckets>,
    pub(crate) report: Report,
    tasks: Vec<AbortHandle>,
}

impl Region {
    /// A region with the fleet's instances, each in one of three zones. None of its daemons runs.
    pub(crate) fn new(fleet: &Fleet) -> Arc<Self> {
        let mut ids = Luck::new(fleet.seed, "ids");
        let mut vpc = Vpc::new(Settings::default());
        let instances = launch(&mut vpc, &mut ids, fleet.nodes);
        let account = Account {
            vpc,
            ids,
            buckets: (fleet.share > 0.0).then(|| Buckets::new(fleet.share)),
            report: Report::default(),
            tasks: Vec::new(),
        };
        Arc::new(Self {
            seed: fleet.seed,
            instances,
            began: Instant::now(),
            account: Mutex::new(account),
            served: Notify::new(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the fleet started.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// One attempt at one call.
    pub(crate) async fn ask(&self, luck: &Mutex<Luck>, request: Request) -> Result<Response, Fault> {
        let way = || luck.lock().unwrap_or_else(PoisonError::into_inner).between(LATENCY);
        let (there, back) = (way(), way());
        tokio::time::sleep(there).await;
        let answer = self.lock().arrive(self.elapsed(), request);
        tokio::time::sleep(back).await;
        answer
    }

    /// The instance's ENIs as it sees them.
    pub(crate) fn devices(&self, node: usize) -> Vec<Attached> {
        let mut account = self.lock();
        account.vpc.settle(self.elapsed());
        let mut attached = account.vpc.attached(&self.instances[node]);
        attached.retain(|eni| eni.device_visible);
        attached
    }

    /// How long EC2's transitions take.
    pub(crate) fn times(&self) -> Times {
        self.lock().vpc.settings().times
    }

    /// A pod has its address.
    pub(crate) fn pod_served(&self) {
        let now = self.elapsed();
        self.lock().report.served.push(now);
        self.served.notify_one();
    }

    /// Waits until so many pods have their addresses.
    pub(crate) async fn all_served(self: Arc<Self>, pods: usize) {
        while self.lock().report.served.len() < pods {
            self.served.notified().await;
        }
    }

    /// Ends with the run.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(task).abort_handle();
        let mut account = self.lock();
        if account.tasks.len() == account.tasks.capacity() {
            account.tasks.retain(|task| !task.is_finished());
        }
        account.tasks.push(task);
    }

    /// Ends all tasks and takes the report.
    pub(crate) fn end(&self, pods: usize) -> Report {
        let mut account = self.lock();
        for task in std::mem::take(&mut account.tasks) {
            task.abort();
        }
        let mut report = std::mem::take(&mut account.report);
        report.unserved = pods.saturating_sub(report.served.len());
        report
    }
}

impl Account {
    fn arrive(&mut self, now: Duration, request: Request) -> Result<Response, Fault> {
        let action = request.action();
        let asked = self.report.calls.entry(action).or_default();
        if self.buckets.as_mut().is_some_and(|buckets| !buckets.take(now, action)) {
            asked.throttled += 1;
            return Err(Fault::throttled());
        }
        let answer = self.vpc.ec2(now, &mut self.ids.0, request);
        if answer.is_ok() {
            asked.accepted += 1;
        } else {
            asked.refused += 1;
        }
        answer
    }

    /// Calls that EC2 took so far.
    pub(crate) fn taken(&self) -> BTreeMap<Action, u64> {
        self.report.calls.iter().map(|(action, asked)| (*action, asked.accepted + asked.refused)).collect()
    }
}

/// A subnet in each zone, with room for all, and the nodes spread over them.
fn launch(vpc: &mut Vpc, ids: &mut Luck, nodes: usize) -> Vec<String> {
    let mut must = |vpc: &mut Vpc, request| {
        vpc.ec2(Duration::ZERO, &mut ids.0, request).expect("a fleet's instances can be launched")
    };
    let block = |number: usize, length: u8| format!("10.{number}.0.0/{length}").parse().expect("a block");
    let Response::CreateVpc(network) = must(vpc, Request::CreateVpc { cidr: block(0, 16), tags: Tags::new() }) else {
        unreachable!("a create of a VPC answers with one")
    };
    let zones = ["a", "b", "c"];
    let mut instances = Vec::new();
    for (number, letter) in zones.into_iter().enumerate() {
        if number > 0 {
            must(vpc, Request::AssociateVpcCidrBlock { vpc: network.id.clone(), cidr: block(number, 16) });
        }
        let zone = Some(format!("{}{letter}", vpc.settings().region));
        let wanted = CreateSubnet { vpc: network.id.clone(), cidr: block(number, 17), zone, tags: Tags::new() };
        let Response::CreateSubnet(subnet) = must(vpc, Request::CreateSubnet(wanted)) else {
            unreachable!("a create of a subnet answers with one")
        };
        let count = (nodes + zones.len() - 1 - number) / zones.len();
        if count == 0 {
            continue;
        }
        let first = LaunchInterface {
            device_index: 0,
            card: 0,
            eni: LaunchEni::New(NewEni { subnet: subnet.id, ..NewEni::default() }),
            delete_on_termination: None,
        };
        let wanted = RunInstances {
            count: u32::try_from(count).expect("a fleet has fewer nodes"),
            instance_type: INSTANCE_TYPE.to_owned(),
            interfaces: vec![first],
            ..RunInstances::default()
        };
        let Response::RunInstances(made) = must(vpc, Request::RunInstances(wanted)) else {
            unreachable!("a launch answers with instances")
        };
        instances.extend(made.instances.into_iter().map(|instance| instance.id));
    }
    instances
}
