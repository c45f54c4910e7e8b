//! A node of ours: the loop that `ipamd` runs, with a ledger in memory, a kernel that carries what it sees, and pods that wait.
//!
//! Owns nothing of what is decided: `pool` does, over this region's EC2.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloud::{Answer, Call, Cloud, Error};
use node::{Allocation, Clock, Handle, Host, Ledger, LedgerError};
use pool::{Block, BootTime, Entry, Event, Key, LeaseKey, Limits, NodeFacts, Pod, Policy, Record, WantedEni};
use rand::Rng as _;
use tokio::sync::Notify;

use super::{AT_ONCE, region::Region};
use crate::{
    Request, Response,
    requests::Describe,
    run::{Luck, translate},
};

/// The nodes booted so long before the fleet starts.
const BOOTED: Duration = Duration::from_secs(100);
/// BERTH_ADD_DEADLINE.
const PATIENCE: Duration = Duration::from_secs(45);
/// A pod that was refused is asked again so soon, by whoever gives addresses: what is compared is them, not the runtime.
pub(crate) const ASKED_AGAIN: Duration = Duration::from_secs(1);
/// A pass over the kernel.
const PASS: Duration = Duration::from_millis(20);

/// A node's daemon, started within a moment of the others, and its pods.
pub(crate) fn start(region: &Arc<Region>, node: usize, pods: usize, policy: Policy) {
    let own = Arc::clone(region);
    region.spawn(async move {
        let wait = Luck::new(own.seed, &format!("{node} starts")).between(Duration::ZERO..AT_ONCE);
        tokio::time::sleep(wait).await;
        let handle = daemon(&own, node, policy);
        let bound = (0..pods).map(|number| pod(node, number)).collect();
        handle.send(Event::Demand(bound));
        for number in 0..pods {
            own.spawn(serve(Arc::clone(&own), handle.clone(), node, number));
        }
    });
}

/// The loop, its kernel and its metadata.
pub(crate) fn daemon(region: &Arc<Region>, node: usize, policy: Policy) -> Handle {
    let luck = |what: &str| Luck::new(region.seed, &format!("{node} {what}"));
    let kernel = Arc::new(Kernel::default());
    let wire =
        Arc::new(Wire { region: Arc::clone(region), kernel: Arc::clone(&kernel), luck: Mutex::new(luck("calls")) });
    let clock = VirtualClock { region: Arc::clone(region), luck: luck("loop") };
    let started = node::start(Arc::clone(&wire), Memory::default(), Worker(Arc::clone(&kernel)), clock, policy);
    let (handle, looped) = started.expect("an empty ledger can be read");
    region.spawn(async move { looped.run().await.expect("a ledger in memory can be written") });
    region.spawn(carry(Arc::clone(region), node, kernel, handle.clone()));
    region.spawn(metadata(Arc::clone(region), node, wire, handle.clone()));
    handle
}

/// A pod's name.
fn pod(node: usize, number: usize) -> Pod {
    Pod { namespace: "default".to_owned(), name: format!("{node}-{number}"), uid: String::new() }
}

/// A pod waits for its address, and is asked again when it is refused.
async fn serve(region: Arc<Region>, handle: Handle, node: usize, number: usize) {
    while let Err(refused) = add(&region, &handle, node, number).await {
        drop(refused);
        region.lock().report.refused += 1;
        tokio::time::sleep(ASKED_AGAIN).await;
    }
    region.pod_served();
}

/// One ADD.
pub(crate) async fn add(region: &Region, handle: &Handle, node: usize, number: usize) -> Result<(), pool::Refusal> {
    let started = now(region);
    let allocation = Allocation {
        key: key(node, number),
        pod: pod(node, number),
        link: format!("eni{node}-{number}"),
        netns: format!("/run/netns/{node}-{number}"),
        started,
        deadline: started.after(PATIENCE),
    };
    handle.allocate(allocation).await.map(drop)
}

/// One DEL.
pub(crate) async fn del(region: &Region, handle: &Handle, node: usize, number: usize) {
    let released = handle.release(key(node, number), now(region)).await;
    released.expect("a ledger in memory can be written");
}

fn key(node: usize, number: usize) -> LeaseKey {
    LeaseKey { container: format!("{node}-{number}"), ifname: "eth0".to_owned() }
}

fn now(region: &Region) -> BootTime {
    BootTime(BOOTED + region.elapsed())
}

/// What the instance is. EC2 is asked for the limits of its type, as `ipamd` does where no disk knows them.
async fn metadata(region: Arc<Region>, node: usize, wire: Arc<Wire>, handle: Handle) {
    const FIRST: Duration = Duration::from_secs(4);
    const MOST: Duration = Duration::from_mins(5);
    let instance = region.lock().vpc.described(&region.instances[node]).expect("it was launched");
    let primary = &instance.interfaces[0];
    let facts = NodeFacts {
        instance: instance.id.as_str().into(),
        primary: primary.id.as_str().into(),
        address: primary.addresses[0],
        subnet: instance.subnet.as_str().into(),
        vpc: instance.vpc.as_str().into(),
        zone: instance.zone.clone(),
        groups: primary.groups.iter().map(|(id, _)| id.as_str().into()).collect(),
        limits: None,
    };
    handle.send(Event::Facts(facts.clone()));
    let mut wait = FIRST;
    loop {
        let types = Describe { ids: vec![instance.instance_type.clone()], ..Describe::default() };
        match region.ask(&wire.luck, Request::DescribeInstanceTypes(types)).await {
            Ok(Response::DescribeInstanceTypes(page)) => {
                let limits = page.items[0];
                let limits = Limits { enis: limits.enis, addresses_per_eni: limits.ipv4_per_eni };
                return handle.send(Event::Facts(NodeFacts { limits: Some(limits), ..facts }));
            }
            Ok(other) => unreachable!("DescribeInstanceTypes answered {other:?}"),
            Err(_) => {
                let action = crate::Action::DescribeInstanceTypes.name().to_owned();
                handle.send(Event::FactsMissing(pool::Refusal::Throttled { action }));
                let later = wire.luck.lock().unwrap_or_else(PoisonError::into_inner).between(wait / 2..wait);
                tokio::time::sleep(later).await;
                wait = (wait * 2).min(MOST);
            }
        }
    }
}

/// EC2 as this node reaches it: one attempt a call.
#[derive(Debug)]
struct Wire {
    region: Arc<Region>,
    kernel: Arc<Kernel>,
    luck: Mutex<Luck>,
}

impl Cloud for Wire {
    async fn call(&self, call: Call) -> Result<Answer, Error> {
        match self.region.ask(&self.luck, translate::request(&call)).await {
            Ok(response) => {
                if matches!(call, Call::Attach { .. }) {
                    self.device_comes();
                }
                Ok(translate::answer(&call, response))
            }
            Err(fault) => translate::refusal(&call, &fault),
        }
    }
}

impl Wire {
    /// The kernel notices the new device.
    fn device_comes(&self) {
        let (after, kernel) = (self.region.times().device, Arc::clone(&self.kernel));
        self.region.spawn(async move {
            tokio::time::sleep(after).await;
            kernel.changed.notify_one();
        });
    }
}

/// The links that the daemon wants to be carried.
#[derive(Debug, Default)]
struct Kernel {
    wanted: Mutex<BTreeSet<String>>,
    changed: Notify,
}

/// The kernel as the loop reaches it.
struct Worker(Arc<Kernel>);

impl Host for Worker {
    fn withdraw(&mut self, _: &[Block]) {}

    fn reconcile(&mut self, wanted: Vec<WantedEni>) {
        let wanted = wanted.into_iter().map(|eni| eni.eni.to_string()).collect();
        *self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        self.0.changed.notify_one();
    }
}

/// Says which of the wanted links are there, whenever that may have changed. Never ends.
async fn carry(region: Arc<Region>, node: usize, kernel: Arc<Kernel>, handle: Handle) {
    loop {
        kernel.changed.notified().await;
        tokio::time::sleep(PASS).await;
        let wanted = kernel.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for device in region.devices(node) {
            if wanted.contains(&device.eni) {
                handle.send(Event::LinkReady(device.eni.as_str().into()));
            }
        }
    }
}

/// A ledger that nothing happens to.
#[derive(Debug, Default)]
struct Memory(BTreeMap<Key, Entry>);

impl Ledger for Memory {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        Ok(self.0.values().cloned().collect())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        for record in records {
            match record {
                Record::Put(entry) => drop(self.0.insert(entry.key(), entry.clone())),
                Record::Remove(key) => drop(self.0.remove(key)),
            }
        }
        Ok(())
    }
}

/// Virtual time and drawn luck.
#[derive(Debug)]
struct VirtualClock {
    region: Arc<Region>,
    luck: Luck,
}

impl Clock for VirtualClock {
    fn now(&self) -> BootTime {
        now(&self.region)
    }

    fn wall(&self) -> u64 {
        1_700_000_000 + self.region.elapsed().as_secs()
    }

    fn luck(&mut self) -> u128 {
        u128::from(self.luck.0.next_u64()) << 64 | u128::from(self.luck.0.next_u64())
    }
}
