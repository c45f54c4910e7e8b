//! The kernel's side of the daemon, each test in a network namespace of its own.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
    time::Duration,
};

use ::node::Host as _;
use pool::{DeviceIndex, Mac, Prefix, Slot};

use super::*;

const PRIMARY: &str = "02:00:00:00:00:01";
const SECOND: &str = "02:00:00:00:00:02";

/// A node of its own: a network namespace, and the worker in it.
struct Node {
    netns: Netns,
    /// Where the other ends of its links are.
    vpc: Netns,
    host: KernelHost,
    worker: Worker,
    told: mpsc::UnboundedReceiver<Told>,
}

fn path(netns: &Netns) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
}

impl Node {
    fn start() -> Self {
        let netns = Netns::create().expect("a namespace");
        let vpc = Netns::create().expect("another one");
        let wiring = config::parse(&|_| None).expect("defaults").0.wiring;
        let (host, worker, told) =
            start_in(&wiring, Some(Netns::open(path(&netns)).expect("the same one"))).expect("a worker");
        let node = Self { netns, vpc, host, worker, told };
        node.run("ip link set lo up");
        node
    }

    fn run(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.netns.run(|| Command::new(words[0]).args(&words[1..]).output());
        let output = output.expect("the namespace").expect("the program runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn plug(&self, name: &str, mac: &str) {
        let elsewhere = path(&self.vpc);
        self.run(&format!("ip link add {name} address {mac} type veth peer name {name} netns {elsewhere}"));
    }

    fn know_the_vpc(&self) {
        let net = |text: &str| text.parse().expect("a network");
        let subnets = BTreeMap::from([("subnet-1".into(), net("10.0.0.0/24"))]);
        self.worker.set_network(Network { vpc: vec![net("10.0.0.0/16")], subnets });
    }

    /// Waits until the worker tells this; telling more often than needed is no fault.
    async fn told(&mut self, wanted: Event) {
        let mut before = Vec::new();
        let next = async {
            while let Some(told) = self.told.recv().await {
                match told {
                    Told::Event(event) if event == wanted => return,
                    other => before.push(other),
                }
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(10), next).await;
        assert!(met.is_ok(), "the worker told {before:?} and not {wanted:?}");
    }

    async fn silent(&mut self) {
        let told = tokio::time::timeout(Duration::from_millis(300), self.told.recv()).await;
        assert!(told.is_err(), "{told:?}");
    }
}

fn eni(number: u8, mac: &str, addresses: &[[u8; 4]]) -> WantedEni {
    WantedEni {
        eni: format!("eni-{number}").into(),
        slot: Slot::new(number).expect("a slot"),
        mac: mac.parse::<Mac>().expect("a mac"),
        device: DeviceIndex(u32::from(number) - 1),
        subnet: "subnet-1".into(),
        primary: [10, 0, 0, number].into(),
        addresses: addresses.iter().copied().map(Ipv4Addr::from).collect(),
        prefixes: Vec::new(),
    }
}

fn ready(number: u8) -> Event {
    Event::LinkReady(format!("eni-{number}").into())
}

#[tokio::test]
async fn an_eni_is_carried_from_the_moment_its_link_appears_until_it_goes() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.know_the_vpc();
    node.host.reconcile(vec![eni(1, PRIMARY, &[]), eni(2, SECOND, &[])]);
    node.told(ready(1)).await;

    node.plug("ens6", SECOND);
    node.told(ready(2)).await;
    assert!(node.run("ip route show table 7102").contains("default via 10.0.0.1 dev ens6"), "replies leave by it");
    assert!(
        node.run("ip route show table 7002").contains("10.0.0.0/16 via 10.0.0.1 dev ens6"),
        "the VPC is reached by it"
    );
    assert!(node.run("ip address show dev ens6").contains("inet 10.0.0.2/24"));
    assert!(node.run("ip link show dev ens6").contains("mtu 9001"));
    assert!(node.run("ip rule show").contains("lookup 7102"));
    assert!(node.run("nft list table ip berth").contains("ens6"));

    node.run("ip link del ens6");
    node.told(Event::LinkGone("eni-2".into())).await;
    assert!(!node.run("ip rule show").contains("lookup 7102"));
    assert!(!node.run("nft list table ip berth").contains("ens6"));
    node.worker.stop();
}

#[tokio::test]
async fn every_order_is_answered_for_every_eni_that_is_carried() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.know_the_vpc();
    node.host.reconcile(vec![eni(1, PRIMARY, &[])]);
    node.told(ready(1)).await;
    // The VPC may have come first, and then the order after it tells once more.
    while tokio::time::timeout(Duration::from_millis(300), node.told.recv()).await.is_ok() {}
    for _ in 0..3 {
        node.host.reconcile(vec![eni(1, PRIMARY, &[])]);
        node.told(ready(1)).await;
    }
    node.silent().await;
}

#[tokio::test]
async fn nothing_is_touched_before_the_vpc_is_known() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.run("ip route add unreachable 10.0.0.77/32 table 7000 proto 176 metric 4096");
    node.host.reconcile(vec![eni(1, PRIMARY, &[])]);
    node.silent().await;
    assert!(node.run("ip route show table 7000").contains("10.0.0.77"));
    node.know_the_vpc();
    node.told(ready(1)).await;
    assert!(!node.run("ip route show table 7000").contains("10.0.0.77"), "left over, and ours");
}

#[tokio::test]
async fn packets_to_unused_addresses_stop_until_the_address_is_withdrawn() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.know_the_vpc();
    node.host.reconcile(vec![eni(1, PRIMARY, &[[10, 0, 0, 8], [10, 0, 0, 9]]), eni(2, SECOND, &[])]);
    node.told(ready(1)).await;
    let table = node.run("ip route show table 7000");
    assert!(table.contains("unreachable 10.0.0.8") && table.contains("unreachable 10.0.0.9"), "{table}");

    node.host.withdraw(&[Block::Address([10, 0, 0, 9].into())]);
    let table = node.run("ip route show table 7000");
    assert!(table.contains("unreachable 10.0.0.8") && !table.contains("10.0.0.9"), "at once: {table}");

    // A pass that begins before the pool says what it wants now does not put it back.
    node.plug("ens6", SECOND);
    node.told(ready(2)).await;
    let table = node.run("ip route show table 7000");
    assert!(table.contains("unreachable 10.0.0.8") && !table.contains("10.0.0.9"), "{table}");
}

#[tokio::test]
async fn a_prefix_is_one_route_beside_those_of_single_addresses_and_goes_as_one() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.know_the_vpc();
    let prefix: Prefix = "10.0.0.32/28".parse().expect("a prefix");
    let both = WantedEni { prefixes: vec![prefix], ..eni(1, PRIMARY, &[[10, 0, 0, 8]]) };
    node.host.reconcile(vec![both, eni(2, SECOND, &[])]);
    node.told(ready(1)).await;
    let table = node.run("ip route show table 7000");
    let routes: Vec<_> = table.lines().filter(|line| line.contains("unreachable 10.0.0.")).collect();
    assert_eq!(routes.len(), 2, "{table}");
    assert!(table.contains("unreachable 10.0.0.8 ") && table.contains("unreachable 10.0.0.32/28 "), "{table}");

    node.host.withdraw(&[Block::Prefix(prefix)]);
    let table = node.run("ip route show table 7000");
    assert!(table.contains("unreachable 10.0.0.8 ") && !table.contains("10.0.0.32"), "at once: {table}");

    // A pass that begins before the pool says what it wants now does not put it back.
    node.plug("ens6", SECOND);
    node.told(ready(2)).await;
    let table = node.run("ip route show table 7000");
    assert!(table.contains("unreachable 10.0.0.8 ") && !table.contains("10.0.0.32"), "{table}");
}

#[tokio::test]
async fn an_eni_of_an_unknown_subnet_waits_until_metadata_tells_it() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.plug("ens6", SECOND);
    node.know_the_vpc();
    let elsewhere = WantedEni { subnet: "subnet-2".into(), ..eni(2, SECOND, &[]) };
    node.host.reconcile(vec![eni(1, PRIMARY, &[]), elsewhere]);
    node.told(ready(1)).await;
    assert_eq!(node.run("ip rule show").matches("lookup 71").count(), 0, "nothing for the second one yet");
    let net = |text: &str| text.parse().expect("a network");
    let subnets = BTreeMap::from([("subnet-1".into(), net("10.0.0.0/24")), ("subnet-2".into(), net("10.0.0.0/25"))]);
    node.worker.set_network(Network { vpc: vec![net("10.0.0.0/16")], subnets });
    node.told(ready(2)).await;
}

#[tokio::test]
async fn leases_are_found_by_the_links_of_pods() {
    let mut node = Node::start();
    node.run("ip link add enia group 7002 type veth peer name p");
    node.run("ip link set enia up");
    let alias = ["ip", "link", "set", "enia", "alias", "c1 eth0 default/web-0"];
    let set = node.netns.run(|| Command::new(alias[0]).args(&alias[1..]).status());
    assert!(set.expect("the namespace").expect("ip").success());
    node.run("ip route add 10.0.0.9/32 dev enia table 7000 proto 176");
    node.run("ip link add other type veth peer name q");
    let found = node.host.leases().expect("a listing");
    let [lease] = &found[..] else { panic!("one lease: {found:?}") };
    assert_eq!((lease.key.container.as_str(), lease.key.ifname.as_str()), ("c1", "eth0"));
    assert_eq!((lease.pod.to_string().as_str(), lease.link.as_str()), ("default/web-0", "enia"));
    assert_eq!((lease.address, lease.origin), (Ipv4Addr::new(10, 0, 0, 9), Origin::Found));
}
