//! The kernel's side of the daemon, each test in a network namespace of its own.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
    time::Duration,
};

use ::node::Host as _;
use datapath::link::SandboxKey;
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
        let node = Self::start_in(Netns::create().expect("a namespace"), Netns::create().expect("another one"));
        node.run("ip link set lo up");
        node
    }

    fn start_in(netns: Netns, vpc: Netns) -> Self {
        let wiring = config::parse(&|_| None).expect("defaults").0.wiring;
        let (host, worker, told) =
            start_in(&wiring, Duration::from_secs(2), Some(Netns::open(path(&netns)).expect("the same one")))
                .expect("a worker");
        Self { netns, vpc, host, worker, told }
    }

    /// Waits until these are all the links of pods.
    async fn has_links(&self, wanted: &[String]) {
        let mut there = Vec::new();
        let gone = async {
            loop {
                let listed = self.run("ip -o link show type veth");
                there = listed.lines().filter_map(|line| line.split([' ', '@']).nth(1)).map(str::to_owned).collect();
                there.retain(|name: &String| name.starts_with("pod"));
                there.sort();
                if there == wanted {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(10), gone).await;
        assert!(met.is_ok(), "there are {there:?}, not {wanted:?}");
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

    /// What was told of the pods on the node once this is so.
    async fn seen(&mut self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut last = None;
        let next = async {
            while let Some(told) = self.told.recv().await {
                if let Told::Seen(seen) = told {
                    if wanted(&seen) {
                        return Some(seen);
                    }
                    last = Some(seen);
                }
            }
            None
        };
        let met = tokio::time::timeout(Duration::from_secs(10), next).await;
        met.ok().flatten().unwrap_or_else(|| panic!("last seen: {last:?}"))
    }

    /// Nothing is told of ENIs.
    async fn silent(&mut self) {
        let told = async {
            loop {
                match self.told.recv().await {
                    Some(Told::Seen(_)) => {}
                    told => return told,
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_millis(300), told).await;
        assert!(told.is_err(), "{told:?}");
    }

    /// A pod as amazon-vpc-cni wires it, without its sandbox.
    fn old_pod(&self, link: &str, address: &str) {
        let elsewhere = path(&self.vpc);
        for line in [
            format!("ip link add {link} type veth peer name {link} netns {elsewhere}"),
            format!("ip link set {link} up"),
            format!("ip route add {address}/32 dev {link} scope link"),
            format!("ip rule add to {address} lookup main pref 512"),
            format!("ip rule add from {address} lookup 2 pref 1536"),
        ] {
            self.run(&line);
        }
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

#[tokio::test]
async fn nothing_of_ours_stops_packets_to_what_something_else_uses_until_it_is_gone() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.run("ip addr add 10.0.0.1/24 dev eth0");
    node.run("ip link set eth0 up");
    node.old_pod("eni1", "10.0.0.31");
    node.old_pod("eni2", "10.0.0.67");
    node.know_the_vpc();
    let mut wanted = eni(1, PRIMARY, &[[10, 0, 0, 31], [10, 0, 0, 32]]);
    wanted.prefixes =
        ["10.0.0.64", "10.0.0.80"].map(|first| Prefix::new(first.parse().expect("an address")).expect("a /28")).into();
    let old = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 31), Ipv4Addr::new(10, 0, 0, 67)]);
    node.seen(|seen| *seen.foreign() == old).await;
    node.host.reconcile(vec![wanted]);
    node.told(ready(1)).await;
    let stopped = |node: &Node| -> BTreeSet<String> {
        let routes = node.run("ip route show table 7000");
        routes
            .lines()
            .filter_map(|line| line.strip_prefix("unreachable ")?.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    let routes = stopped(&node);
    assert_eq!(routes.len(), 1 + 15 + 1, "{routes:?}");
    assert!(
        routes.contains("10.0.0.32") && routes.contains("10.0.0.66") && routes.contains("10.0.0.80/28"),
        "{routes:?}"
    );
    assert!(!routes.contains("10.0.0.31") && !routes.contains("10.0.0.67"), "{routes:?}");
    assert_eq!(node.run("ip rule").matches("10.0.0.").count(), 4, "nobody's rules are touched");

    // The rules outlive the link, and would lead astray whoever got the address next.
    node.run("ip link del eni2");
    let left = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 31)]);
    node.seen(|seen| *seen.foreign() == left).await;
    assert_eq!(node.run("ip rule").matches("10.0.0.31").count(), 2, "{}", node.run("ip rule"));
    assert!(!node.run("ip rule").contains("10.0.0.67"));
    // A pass follows a look.
    node.host.reconcile(vec![eni(1, PRIMARY, &[[10, 0, 0, 67]])]);
    node.told(ready(1)).await;
    assert_eq!(stopped(&node), BTreeSet::from(["10.0.0.67".to_owned()]));
}

#[tokio::test]
async fn whose_links_are_there_is_told_again_and_again_and_soon_after_one_has_gone() {
    let mut node = Node::start();
    let elsewhere = path(&node.vpc);
    for (link, alias) in [("eni1", "c1 eth0 default/one"), ("eni2", "c2 eth0 default/two"), ("eni3", "")] {
        node.run(&format!("ip link add {link} type veth peer name {link} netns {elsewhere}"));
        node.run(&format!("ip link set {link} group 7001"));
        if alias.is_empty() {
            let mac = SandboxKey { container_id: "c3".to_owned(), ifname: "eth0".to_owned() }.host_mac();
            node.run(&format!("ip link set {link} address {mac}"));
        } else {
            let set = node.netns.run(|| Command::new("ip").args(["link", "set", link, "alias", alias]).status());
            assert!(set.expect("entered").expect("ip runs").success());
        }
    }
    node.old_pod("eni4", "10.0.0.31");
    let lease = |container: &str, link: &str, origin: Origin| pool::Lease {
        key: LeaseKey { container: container.to_owned(), ifname: "eth0".to_owned() },
        generation: pool::Generation(1),
        pod: Pod::default(),
        origin,
        started: pool::BootTime::default(),
        made: pool::BootTime::default(),
        netns: String::new(),
        attachments: vec![pool::Attachment {
            ifname: "eth0".to_owned(),
            link: link.to_owned(),
            path: pool::Path::Pooled { eni: "eni-1".into(), slot: Slot::PRIMARY },
            addresses: Vec::new(),
        }],
    };
    // The link of c3 says nothing; c4 was taken over; c5 and c6 have no link, whatever name theirs had.
    let leases = [
        lease("c1", "eni1", Origin::Allocated),
        lease("c3", "eni3", Origin::Allocated),
        lease("c4", "eni4", Origin::Imported),
        lease("c5", "eni4", Origin::Allocated),
        lease("c6", "eni6", Origin::Imported),
    ];
    let alive =
        |seen: &Seen| -> Vec<String> { seen.sandboxes(leases.iter()).into_iter().map(|key| key.container).collect() };
    node.seen(|seen| alive(seen) == ["c1", "c2", "c3", "c4"]).await;
    node.seen(|seen| alive(seen) == ["c1", "c2", "c3", "c4"]).await;
    node.run("ip link del eni1");
    node.run("ip link del eni4");
    node.seen(|seen| alive(seen) == ["c2", "c3"]).await;
}

#[tokio::test]
async fn links_that_dels_hand_over_go_together_and_living_pods_of_the_same_eni_stay() {
    let mut node = Node::start();
    node.plug("eth0", PRIMARY);
    node.plug("eth1", SECOND);
    node.know_the_vpc();
    node.host.reconcile(vec![eni(1, PRIMARY, &[]), eni(2, SECOND, &[])]);
    node.told(ready(2)).await;
    let elsewhere = path(&node.vpc);
    let pods: Vec<String> = (b'a'..=b'l').map(|n| format!("pod-{}", char::from(n))).collect();
    for pod in &pods {
        node.run(&format!("ip link add {pod} group 7002 type veth peer name {pod} netns {elsewhere}"));
        node.run(&format!("ip link set {pod} up"));
    }
    let (dead, living) = pods.split_at(8);
    for pod in dead {
        node.run(&format!("ip link set {pod} group 7063"));
    }
    node.has_links(living).await;
    // The worker's end: what is handed over then waits for the next daemon.
    let Node { netns, vpc, host, worker, told } = node;
    worker.stop();
    drop((host, told));
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            netns.run(|| Command::new(words[0]).args(&words[1..]).status()).expect("entered").expect("ran").success()
        );
    };
    run("ip link set pod-i group 7063");
    let node = Node::start_in(netns, vpc);
    node.has_links(&living[1..]).await;
    node.worker.stop();
}
