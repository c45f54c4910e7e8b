//! A node of amazon-vpc-cni-k8s 1.23.1, as far as EC2 sees it: each call, in its order, and each pause between two.
//!
//! Owns a model, made after its sources (named beside each step, as of tag v1.23.1) and after what it did when it was run: a fresh node
//! calls DescribeNetworkInterfaces, CreateTags, DescribeSubnets, ModifyNetworkInterfaceAttribute and AssignPrivateIpAddresses, one each, and a
//! new ENI takes six calls. Where a choice had to be made it is the one that is better for it: its own work takes no time, metadata shows
//! an ENI as soon as its device is there, a pod finds a new address within a second, and no node deletes another one's ENIs as leaked.
//! Kubelet never ends it for not being ready in time. Without reconciliation, which calls EC2 only after something went wrong that cannot go
//! wrong here, but for ENIs that it lost sight of.

use std::{sync::Arc, time::Duration};

use pool::Policy;
use tokio::time::{Instant, sleep, timeout};

use super::{AT_ONCE, berth::ASKED_AGAIN, region::Region, sdk::Sdk};
use crate::{
    Fault, Request, Response,
    requests::{CreateNetworkInterface, Describe, EniAttribute, Filter, NewEni, Tags, Wanted},
    run::Luck,
};

/// `ipPoolMonitorInterval / 2` (`pkg/ipamd/ipamd.go` 60, 784): twice in every round.
const HALF_ROUND: Duration = Duration::from_millis(2_500);
/// `nodeIPPoolReconcileInterval` (ipamd.go 63).
const RECONCILE: Duration = Duration::from_mins(1);
/// `maxENIEC2APIRetries` (`pkg/awsutils/awsutils.go` 61).
const EC2_TRIES: u32 = 12;
/// `eniAttachTime`, `maxRetryCheckENI` (ipamd.go 61).
const SET_UP_AGAIN: (Duration, u32) = (Duration::from_secs(10), 5);
/// Kubelet restarts what ended: at once, then after 10 s, doubling up to 5 min.
const CRASH: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));
/// ENIs of m5.large, and places beside an ENI's own address.
const ENIS: usize = 3;
const PLACES: u32 = 9;

/// A node, started within a moment of the others, and its pods.
pub(crate) fn start(region: &Arc<Region>, node: usize, pods: usize, policy: Policy) {
    let own = Arc::clone(region);
    region.spawn(async move {
        // The same moment as ours.
        let wait = Luck::new(own.seed, &format!("{node} starts")).between(Duration::ZERO..AT_ONCE);
        sleep(wait).await;
        let (mut waiting, mut pause) = (pods, Duration::ZERO);
        for life in 0_u64.. {
            let mut peer = Peer::new(&own, node, life, &policy);
            if peer.init(&mut waiting).await.is_ok() {
                return peer.work(&mut waiting).await;
            }
            own.lock().report.ended += 1;
            sleep(pause).await;
            pause = (pause * 2).clamp(CRASH.0, CRASH.1);
        }
    });
}

/// One process.
struct Peer {
    region: Arc<Region>,
    node: usize,
    sdk: Sdk,
    prefixes: bool,
    max_pods: u32,
    /// In the data store, each with its addresses or prefixes.
    enis: Vec<(String, u32)>,
    /// Pods that have an address.
    assigned: u32,
    acted: Instant,
}

/// The step failed. What was done stays done.
struct Failed;

impl From<Fault> for Failed {
    fn from(_: Fault) -> Self {
        Self
    }
}

impl Peer {
    fn new(region: &Arc<Region>, node: usize, life: u64, policy: &Policy) -> Self {
        Self {
            region: Arc::clone(region),
            node,
            sdk: Sdk::new(Arc::clone(region), Luck::new(region.seed, &format!("{node} life {life}"))),
            prefixes: policy.prefixes,
            max_pods: policy.max_pods.unwrap_or(u32::MAX),
            enis: Vec::new(),
            assigned: 0,
            acted: Instant::now(),
        }
    }

    /// `nodeInit` (ipamd.go 458). What fails here ends the process, but for the groups and what the ENIs' subnets are.
    async fn init(&mut self, waiting: &mut usize) -> Result<(), Failed> {
        self.describe_all().await?;
        let tags = Tags::from([(INSTANCE_TAG.to_owned(), self.instance())]);
        for device in self.region.devices(self.node) {
            let eni = device.eni;
            let tagged = self.region.lock().vpc.enis.get(&eni).is_some_and(|eni| eni.tags.contains_key(INSTANCE_TAG));
            if !tagged {
                // `TagENI` (awsutils.go 1398).
                let tag = Request::CreateTags { resources: vec![eni.clone()], tags: tags.clone() };
                self.sdk.tries(&tag, 5, Duration::from_millis(500), 30).await?;
            }
            let mut set_up = self.set_up(&eni).await;
            for _ in 0..SET_UP_AGAIN.1 {
                if set_up.is_ok() {
                    break;
                }
                sleep(SET_UP_AGAIN.0).await;
                set_up = self.set_up(&eni).await;
            }
            // `RefreshSGIDs` (awsutils.go 678): the same groups again, and a failure is only logged.
            let groups = EniAttribute::Groups(Vec::new());
            drop(self.sdk.call(&Request::ModifyNetworkInterfaceAttribute { eni, attribute: groups }).await);
        }
        // `handlePreScaling` (ipamd.go 674): a failed assign ends the process, a failed ENI does not.
        if self.is_low() {
            self.grow().await?;
        }
        self.region.spawn(leaked(Arc::clone(&self.region), self.node));
        self.serve(waiting);
        Ok(())
    }

    /// `StartNodeIPPoolManager` (ipamd.go 769): one action in a round.
    async fn work(mut self, waiting: &mut usize) {
        loop {
            sleep(HALF_ROUND).await;
            if self.is_low() {
                drop(self.grow().await);
            }
            self.serve(waiting);
            sleep(HALF_ROUND).await;
            // `nodeIPPoolReconcile` (ipamd.go 1570): attached ENIs that are not in the data store.
            if self.acted.elapsed() > RECONCILE {
                self.acted = Instant::now();
                let known = |eni: &str| self.enis.iter().any(|(known, _)| known == eni);
                let lost: Vec<_> = self.region.devices(self.node).into_iter().filter(|eni| !known(&eni.eni)).collect();
                if !lost.is_empty() && self.describe_all().await.is_ok() {
                    for eni in lost {
                        drop(self.set_up(&eni.eni).await);
                    }
                }
                self.serve(waiting);
            }
        }
    }

    /// `isDatastorePoolTooLow` (ipamd.go 2623), with WARM_ENI_TARGET=1 or WARM_PREFIX_TARGET=1.
    fn is_low(&self) -> bool {
        let each = if self.prefixes { 16 } else { PLACES };
        self.total() < self.max_pods && self.total() - self.assigned < each
    }

    fn total(&self) -> u32 {
        self.enis.iter().map(|(_, places)| places).sum::<u32>() * if self.prefixes { 16 } else { 1 }
    }

    /// `increaseDatastorePool` (ipamd.go 968): one assign where there is room, else one ENI.
    async fn grow(&mut self) -> Result<(), Failed> {
        if let Some(at) = self.enis.iter().position(|(_, places)| *places < PLACES) {
            self.assign(at).await?;
            self.acted = Instant::now();
        } else if self.enis.len() < ENIS && self.allocate_eni().await.is_ok() {
            self.acted = Instant::now();
        }
        Ok(())
    }

    /// `tryAssignIPs`, `tryAssignPrefixes` (ipamd.go 1115, 1217): when EC2 refuses, one address is asked for at once; when EC2 says that
    /// there is no room, what the ENI has is read.
    async fn assign(&mut self, at: usize) -> Result<(), Failed> {
        let (eni, places) = self.enis[at].clone();
        let most = PLACES - places;
        for count in [if self.prefixes { 1 } else { most }, 1] {
            let wanted = self.wanted(count);
            let assign = Request::AssignPrivateIpAddresses { eni: eni.clone(), wanted, allow_reassignment: false };
            match self.sdk.call(&assign).await {
                Ok(_) => {
                    self.enis[at].1 += count;
                    return Ok(());
                }
                Err(fault) if fault.code == "PrivateIpAddressLimitExceeded" => {
                    self.sdk.call(&describe_enis(&eni)).await?;
                    self.enis[at].1 = self.holds(&eni);
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        Err(Failed)
    }

    /// `tryAllocateENI` (ipamd.go 1050), `AllocENI` (awsutils.go 978).
    async fn allocate_eni(&mut self) -> Result<(), Failed> {
        let eni = self.create().await?;
        let Ok(attachment) = self.attach(&eni).await else {
            return self.delete(&eni).await;
        };
        let attribute = EniAttribute::DeleteOnTermination { attachment: attachment.clone(), delete: true };
        let protect = Request::ModifyNetworkInterfaceAttribute { eni: eni.clone(), attribute };
        if self.sdk.call(&protect).await.is_err() {
            // `FreeENI` (awsutils.go 1432).
            self.sdk.call(&describe_enis(&eni)).await?;
            let detach = Request::DetachNetworkInterface { attachment, force: false };
            self.sdk.tries(&detach, EC2_TRIES, Duration::from_millis(200), 15).await?;
            sleep(Duration::from_secs(2)).await;
            return self.delete(&eni).await;
        }
        // `waitForENIAndIPsAttached` (awsutils.go 2125).
        let mut pause = Duration::from_millis(100);
        while !self.region.devices(self.node).iter().any(|device| device.eni == eni) {
            sleep(self.sdk.between(pause, pause + pause * 15 / 100)).await;
            pause *= 2;
        }
        self.set_up(&eni).await
    }

    /// `createENI` (awsutils.go 1125): in the subnet of the zone, and in the node's own if the subnets cannot be read and a second reading,
    /// of whether it may be used, works.
    async fn create(&mut self) -> Result<String, Failed> {
        if self.sdk.call(&self.describe_subnets()).await.is_err() {
            self.sdk.call(&self.describe_subnets()).await?;
        }
        let subnet = self.region.lock().vpc.described(&self.instance()).map(|instance| instance.subnet);
        let create = CreateNetworkInterface {
            eni: NewEni {
                subnet: subnet.unwrap_or_default(),
                secondary: self.wanted(if self.prefixes { 1 } else { PLACES }),
                description: format!("aws-K8S-{}", self.instance()),
                ..NewEni::default()
            },
            tags: Tags::from([(INSTANCE_TAG.to_owned(), self.instance())]),
            client_token: None,
        };
        match self.sdk.call(&Request::CreateNetworkInterface(create)).await? {
            Response::CreateNetworkInterface { eni, .. } => Ok(eni.id),
            other => unreachable!("CreateNetworkInterface answered {other:?}"),
        }
    }

    /// `attachENI` (awsutils.go 1023): DescribeInstances says which device number is free.
    async fn attach(&mut self, eni: &str) -> Result<String, Failed> {
        let instance = self.instance();
        let device = match self.sdk.call(&Request::DescribeInstances(Describe::one(&instance))).await? {
            Response::DescribeInstances(page) => {
                let interfaces = &page.items[0].instances[0].interfaces;
                let taken = |device| {
                    let at =
                        |eni: &crate::responses::NetworkInterface| eni.attachment.as_ref().map(|own| own.device_index);
                    interfaces.iter().any(|eni| at(eni) == Some(device))
                };
                (0..100).find(|device| !taken(*device)).unwrap_or_default()
            }
            other => unreachable!("DescribeInstances answered {other:?}"),
        };
        let attach = Request::AttachNetworkInterface { eni: eni.to_owned(), instance, device_index: device, card: 0 };
        match self.sdk.call(&attach).await? {
            Response::AttachNetworkInterface { attachment, .. } => Ok(attachment),
            other => unreachable!("AttachNetworkInterface answered {other:?}"),
        }
    }

    /// `deleteENI` (awsutils.go 1524), always after a failure. A minute is the longest pause.
    async fn delete(&mut self, eni: &str) -> Result<(), Failed> {
        let delete = Request::DeleteNetworkInterface { eni: eni.to_owned() };
        self.sdk.tries(&delete, EC2_TRIES, Duration::from_millis(500), 15).await?;
        Err(Failed)
    }

    /// `setupENI` (ipamd.go 1267): the ENI is in the data store first, and has its addresses only when its subnet could be read.
    async fn set_up(&mut self, eni: &str) -> Result<(), Failed> {
        if !self.enis.iter().any(|(known, _)| known == eni) {
            self.enis.push((eni.to_owned(), 0));
        }
        self.sdk.call(&self.describe_subnets()).await?;
        let holds = self.holds(eni);
        for (known, places) in &mut self.enis {
            if known == eni {
                *places = holds;
            }
        }
        Ok(())
    }

    /// `DescribeAllENIs` (awsutils.go 1662), each try within ten seconds.
    async fn describe_all(&mut self) -> Result<(), Failed> {
        let ids = self.region.devices(self.node).into_iter().map(|device| device.eni).collect();
        let request = Request::DescribeNetworkInterfaces(Describe { ids, ..Describe::default() });
        for number in 0..EC2_TRIES {
            if let Ok(Ok(_)) = timeout(Duration::from_secs(10), self.sdk.call(&request)).await {
                return Ok(());
            }
            sleep(Duration::from_millis(u64::from(number) * 10)).await;
        }
        Err(Failed)
    }

    /// Pods that were refused find what there is now when they are asked again.
    fn serve(&mut self, waiting: &mut usize) {
        let free = usize::try_from(self.total() - self.assigned).unwrap_or(usize::MAX);
        for _ in 0..free.min(*waiting) {
            *waiting -= 1;
            self.assigned += 1;
            let (region, wait) = (Arc::clone(&self.region), self.sdk.between(Duration::ZERO, ASKED_AGAIN));
            self.region.spawn(async move {
                sleep(wait).await;
                region.pod_served();
            });
        }
    }

    /// What metadata or EC2 shows on an ENI.
    fn holds(&self, eni: &str) -> u32 {
        let shown = self.region.devices(self.node).into_iter().find(|device| device.eni == eni);
        let places =
            shown.map_or(0, |device| if self.prefixes { device.prefixes.len() } else { device.addresses.len() - 1 });
        u32::try_from(places).unwrap_or(u32::MAX)
    }

    fn wanted(&self, count: u32) -> Wanted {
        if self.prefixes { Wanted::Prefixes(count) } else { Wanted::Count(count) }
    }

    fn instance(&self) -> String {
        self.region.instances[self.node].clone()
    }

    fn describe_subnets(&self) -> Request {
        let described =
            self.region.lock().vpc.described(&self.instance()).map(|instance| (instance.vpc, instance.zone));
        let (vpc, zone) = described.unwrap_or_default();
        let filter = |name: &str, value| Filter { name: name.to_owned(), values: vec![value] };
        let filters = vec![filter("vpc-id", vpc), filter("availability-zone", zone)];
        Request::DescribeSubnets(Describe { filters, ..Describe::default() })
    }
}

/// `cleanUpLeakedENIs` (awsutils.go 2294): within five minutes and then once an hour.
async fn leaked(region: Arc<Region>, node: usize) {
    let sdk = Sdk::new(Arc::clone(&region), Luck::new(region.seed, &format!("{node} leaked")));
    sleep(sdk.between(Duration::ZERO, Duration::from_secs(300))).await;
    loop {
        let found = Describe { max_results: Some(1_000), ..Describe::matching("status", "available") };
        drop(sdk.call(&Request::DescribeNetworkInterfaces(found)).await);
        sleep(Duration::from_hours(1)).await;
    }
}

fn describe_enis(eni: &str) -> Request {
    Request::DescribeNetworkInterfaces(Describe::one(eni))
}

/// Both CNIs' own.
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
