//! The loop with a scripted EC2, a ledger in memory and tokio's paused clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cloud::{Answer, Call, Cloud, Error};
use node::{Allocation, Clock, Handle, Host, Ledger, LedgerError};
use pool::{
    BootTime, DeviceIndex, Entry, Event, FoundLease, InterfaceKind, Key, LeaseKey, Limits, Mac, NodeFacts, Origin, Pod,
    Policy, Record, Refusal, SeenAttachment, SeenEni, WantedEni, Warm,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

/// EC2 with one ENI; every call takes 300 ms.
#[derive(Default)]
struct Ec2 {
    assigned: Mutex<u32>,
    ledger: Memory,
    made: Calls,
}

/// The calls that changed something, and whether they were in the ledger when they were made.
type Calls = Arc<Mutex<Vec<(Call, bool)>>>;

impl Cloud for Ec2 {
    async fn call(&self, call: Call) -> Result<Answer, Error> {
        if !call.is_read() {
            let written =
                self.ledger.0.lock().expect("not poisoned").entries.values().any(
                    |entry| matches!(entry, Entry::Intent(intent) if intent.call == call && intent.doubt.is_none()),
                );
            self.made.lock().expect("not poisoned").push((call.clone(), written));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(match call {
            Call::Discover { .. } => Answer::Discovered(vec![primary(*self.assigned.lock().expect("not poisoned"))]),
            Call::Assign { ask, .. } => {
                let mut assigned = self.assigned.lock().expect("not poisoned");
                let first = *assigned;
                *assigned += ask.places();
                Answer::Assigned { addresses: (first..*assigned).map(nth).collect(), prefixes: Vec::new() }
            }
            Call::Subnets { .. } => Answer::Subnets(Vec::new()),
            Call::Leaked { .. } => Answer::Leaked(Vec::new()),
            _ => Answer::Done,
        })
    }
}

fn nth(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0064 + n)
}

fn primary(assigned: u32) -> SeenEni {
    SeenEni {
        id: "eni-0".into(),
        mac: Mac([2, 0, 0, 0, 0, 0]),
        subnet: "subnet-1".into(),
        primary: Ipv4Addr::new(10, 0, 0, 10),
        secondary: (0..assigned).map(nth).collect(),
        prefixes: Vec::new(),
        description: String::new(),
        tags: BTreeMap::new(),
        groups: BTreeSet::new(),
        kind: InterfaceKind::Interface,
        attachment: Some(SeenAttachment {
            id: "eni-attach-0".into(),
            instance: Some("i-1".into()),
            device: DeviceIndex(0),
            card: 0,
            attached: true,
            delete_on_termination: true,
        }),
    }
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    entries: BTreeMap<Key, Entry>,
    commits: u32,
    refused: u32,
    broken: bool,
}

impl Ledger for Memory {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        Ok(self.0.lock().expect("not poisoned").entries.values().cloned().collect())
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let mut store = self.0.lock().expect("not poisoned");
        if store.broken {
            store.refused += 1;
            return Err(LedgerError { operation: "writing", message: "no space left on device".to_owned() });
        }
        store.commits += 1;
        for record in records {
            match record {
                Record::Put(entry) => drop(store.entries.insert(entry.key(), entry.clone())),
                Record::Remove(key) => drop(store.entries.remove(key)),
            }
        }
        Ok(())
    }
}

/// Every wanted link is there at once.
struct Links(mpsc::UnboundedSender<WantedEni>);

impl Host for Links {
    fn withdraw(&mut self, _: &[pool::Block]) {}

    fn reconcile(&mut self, wanted: Vec<WantedEni>) {
        for eni in wanted {
            drop(self.0.send(eni));
        }
    }
}

struct Ticks(Instant, u128);

impl Clock for Ticks {
    fn now(&self) -> BootTime {
        BootTime(Duration::from_secs(60) + self.0.elapsed())
    }

    fn wall(&self) -> u64 {
        1_700_000_000
    }

    fn luck(&mut self) -> u128 {
        self.1 += 1;
        self.1
    }
}

struct Running {
    handle: Handle,
    ledger: Memory,
    made: Calls,
    task: JoinHandle<Result<(), LedgerError>>,
    began: Instant,
}

fn run(ledger: Memory) -> Running {
    run_with(ledger, 0, Vec::new())
}

/// With so many addresses on the ENI already, and with leases that the kernel shows.
fn run_with(ledger: Memory, assigned: u32, found: Vec<FoundLease>) -> Running {
    let (links, mut ready) = mpsc::unbounded_channel();
    let began = Instant::now();
    let policy = Policy { warm: Warm::Addresses { warm: 2, minimum: 0 }, ..Policy::default() };
    let made = Calls::default();
    let ec2 = Ec2 { assigned: Mutex::new(assigned), ledger: ledger.clone(), made: Arc::clone(&made) };
    let (handle, node) =
        node::start(Arc::new(ec2), ledger.clone(), Links(links), Ticks(began, 0), policy).expect("an empty ledger");
    handle.send(Event::Found(found));
    let told = handle.clone();
    tokio::spawn(async move {
        while let Some(eni) = ready.recv().await {
            told.send(Event::LinkReady(eni.eni));
        }
    });
    let task = tokio::spawn(node.run());
    handle.send(Event::Facts(NodeFacts {
        instance: "i-1".into(),
        primary: "eni-0".into(),
        address: Ipv4Addr::new(10, 0, 0, 10),
        subnet: "subnet-1".into(),
        vpc: "vpc-1".into(),
        zone: "us-west-2a".to_owned(),
        groups: Vec::new(),
        limits: Some(Limits { enis: 1, addresses_per_eni: 10 }),
    }));
    Running { handle, ledger, made, task, began }
}

impl Running {
    fn now(&self) -> BootTime {
        BootTime(Duration::from_secs(60) + self.began.elapsed())
    }

    fn ask(&self, name: &str) -> Allocation {
        Allocation {
            key: key(name),
            pod: Pod::default(),
            link: format!("eni{name}"),
            netns: String::new(),
            started: self.now(),
            deadline: self.now().after(Duration::from_secs(45)),
        }
    }
}

fn key(name: &str) -> LeaseKey {
    LeaseKey { container: name.to_owned(), ifname: "eth0".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn an_add_waits_for_the_refill_in_flight_and_no_longer() {
    let node = run(Memory::default());
    let lease = node.handle.allocate(node.ask("a")).await.expect("served");
    assert_eq!(lease.attachments.len(), 1);
    // A read and an assign of 300 ms each, and 20 ms for others to come.
    let waited = node.began.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_millis(660)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_written_down_before_it_is_answered() {
    let node = run(Memory::default());
    let lease = node.handle.allocate(node.ask("a")).await.expect("served");
    let store = node.ledger.0.lock().expect("not poisoned");
    assert_eq!(store.entries.get(&Key::Lease(key("a"))), Some(&Entry::Lease(lease)));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_cannot_be_written_refuses_and_says_so_and_recovers() {
    let node = run(Memory::default());
    node.handle.allocate(node.ask("a")).await.expect("served");
    node.ledger.0.lock().expect("not poisoned").broken = true;
    let refused = node.handle.allocate(node.ask("b")).await;
    assert_eq!(refused, Err(Refusal::LedgerUnavailable { what: "no space left on device".to_owned() }));
    node.ledger.0.lock().expect("not poisoned").broken = false;
    node.handle.allocate(node.ask("b")).await.expect("the disk has room again");
    let leases = node.handle.read(|state, _| state.leases().map(|lease| lease.key.clone()).collect::<Vec<_>>()).await;
    assert_eq!(leases, Some(vec![key("a"), key("b")]));
}

impl Memory {
    fn set_broken(&self, broken: bool) {
        self.0.lock().expect("not poisoned").broken = broken;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_the_ledger_before_it_is_made() {
    let node = run(Memory::default());
    for name in ["a", "b", "c", "d", "e"] {
        node.handle.allocate(node.ask(name)).await.expect("served");
    }
    let made = node.made.lock().expect("not poisoned");
    assert!(made.len() >= 2 && made.iter().all(|(_, written)| *written), "{made:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_ledger_no_call_is_made_and_it_is_tried_now_and_then() {
    let ledger = Memory::default();
    ledger.set_broken(true);
    let node = run(ledger.clone());
    tokio::time::sleep(Duration::from_mins(1)).await;
    let refused = ledger.0.lock().expect("not poisoned").refused;
    assert!((50..70).contains(&refused), "tried {refused} times in a minute");
    assert_eq!(*node.made.lock().expect("not poisoned"), [], "what is not written down is not done");
    ledger.set_broken(false);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let addresses = node.handle.read(|state, _| state.enis().map(|eni| eni.addresses.len()).sum::<usize>()).await;
    assert_eq!(addresses, Some(2), "warm without anybody asking for an address");
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_that_was_found_keeps_its_address_over_a_full_disk() {
    let ledger = Memory::default();
    ledger.set_broken(true);
    let pod = Pod { namespace: "default".to_owned(), ..Pod::default() };
    let found = FoundLease { key: key("x"), pod, link: "enix".to_owned(), address: nth(0), origin: Origin::Found };
    let node = run_with(ledger.clone(), 2, vec![found]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let refused = node.handle.allocate(node.ask("a")).await;
    assert!(matches!(refused, Err(Refusal::LedgerUnavailable { .. })), "{refused:?}");
    ledger.set_broken(false);
    for name in ["a", "b"] {
        let lease = node.handle.allocate(node.ask(name)).await.expect("served");
        assert_ne!(lease.attachments[0].addresses, [nth(0)], "a running pod's");
    }
    let held = node.handle.read(|state, _| state.lease(&key("x")).map(|lease| lease.attachments[0].addresses.clone()));
    assert_eq!(held.await, Some(Some(vec![nth(0)])));
}

#[tokio::test(start_paused = true)]
async fn a_del_that_cannot_be_written_is_refused_and_done_once_it_can() {
    let node = run(Memory::default());
    node.handle.allocate(node.ask("a")).await.expect("served");
    node.ledger.set_broken(true);
    let refused = node.handle.release(key("a"), node.now()).await;
    assert!(matches!(refused, Err(Refusal::LedgerUnavailable { .. })), "{refused:?}");
    assert!(node.handle.read(|state, _| state.leases().count()).await == Some(1), "not written down, not released");
    node.ledger.set_broken(false);
    node.handle.release(key("a"), node.now()).await.expect("written");
    assert_eq!(node.handle.read(|state, _| state.leases().count()).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_waits_no_longer() {
    let node = run(Memory::default());
    let given_up = tokio::time::timeout(Duration::from_millis(100), node.handle.allocate(node.ask("a"))).await;
    assert!(given_up.is_err());
    assert_eq!(node.handle.read(|state, _| state.waiting()).await, Some(0));
    node.handle.allocate(node.ask("b")).await.expect("served");
    assert_eq!(node.handle.read(|state, _| state.leases().count()).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_refuses_and_ends_and_frees_nothing() {
    let node = run(Memory::default());
    node.handle.allocate(node.ask("a")).await.expect("served");
    node.handle.stop();
    assert_eq!(node.handle.allocate(node.ask("b")).await, Err(Refusal::Stopping));
    node.task.await.expect("no panic").expect("a clean end");
    assert!(node.ledger.0.lock().expect("not poisoned").entries.contains_key(&Key::Lease(key("a"))));
}

#[tokio::test(start_paused = true)]
async fn a_node_at_rest_writes_nothing() {
    let node = run(Memory::default());
    node.handle.allocate(node.ask("a")).await.expect("served");
    tokio::time::sleep(Duration::from_mins(5)).await;
    let before = node.ledger.0.lock().expect("not poisoned").commits;
    tokio::time::sleep(Duration::from_hours(5)).await;
    assert_eq!(node.ledger.0.lock().expect("not poisoned").commits, before);
}
