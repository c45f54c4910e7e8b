//! A node with ENIs on a VPC's router, pods on the node, and what they hear from each other.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use datapath::desired::{Desired, Eni, NodeFacts, Route, Snat, SnatPorts, Target};
use datapath::link::{Link, LinkIndex, Mac, SandboxKey};
use datapath::names::{MAIN_TABLE, Numbering, Slot};
use datapath::netns::Netns;
use datapath::node::{self, EniLink};
use datapath::pod::{self, PodLink, Wiring};
use datapath::wire::request::{Change, Connected, LinkSetting, VethPair};
use datapath::wire::{Batch, Socket};
use ipnet::{IpNet, Ipv4Net};

pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
/// On the router, inside the VPC.
pub(crate) const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 9);
/// On the router, outside the VPC.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A namespace, a netlink socket into it, and its end.
pub(crate) struct Place {
    pub(crate) netns: Netns,
    pub(crate) socket: Socket,
}

impl Place {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().expect("a network namespace");
        let mut socket = Socket::open_in(&netns).expect("a netlink socket");
        socket.send(Batch::from_iter([Change::set_link(1, [LinkSetting::Up])])).expect("lo up");
        Self { netns, socket }
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).expect("the namespace can be entered")
    }

    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.socket.send(changes.into_iter().collect()).expect("the kernel agrees");
    }

    /// A UDP socket here, wherever it is used.
    pub(crate) fn udp(&self, address: Ipv4Addr, port: u16) -> UdpSocket {
        let socket = self.run(|| UdpSocket::bind((address, port))).expect("a UDP socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        socket
    }

    /// Runs a program here; what it printed.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(|| std::process::Command::new(program).args(arguments).output()).expect("it runs");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn write_sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{name}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub(crate) fn read_sysctl(&self, name: &str) -> String {
        let path = format!("/proc/sys/{name}");
        let text = self.run(|| std::fs::read_to_string(&path));
        text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }

    /// How many ICMP errors "destination unreachable" came in.
    pub(crate) fn told_unreachable(&self) -> u64 {
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("counters");
        let mut icmp = table.lines().filter_map(|line| line.strip_prefix("Icmp: "));
        let (names, values) = (icmp.next().expect("names"), icmp.next().expect("values"));
        let named = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "InDestUnreachs");
        named.and_then(|(_, value)| value.parse().ok()).expect("a count")
    }

    /// Packets that left by a link.
    pub(crate) fn sent_by(&self, link: &str) -> u64 {
        let table = self.run(|| std::fs::read_to_string("/proc/thread-self/net/dev")).expect("counters");
        let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{link}:")));
        let line = line.unwrap_or_else(|| panic!("no link {link} in {table}"));
        line.split_whitespace()
            .nth(9)
            .and_then(|field| field.parse().ok())
            .expect("the tenth field counts packets sent")
    }
}

/// A message goes from one socket to an address; from whom the other socket heard it.
///
/// Sent again when it does not arrive: a link drops packets until the kernel has noticed, some time after it was set up,
/// that the other end is up too.
pub(crate) fn deliver(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> SocketAddr {
    const ATTEMPTS: usize = 40;
    for _ in 0..ATTEMPTS {
        from.send_to(b"hello", to).expect("it can be sent");
        let mut buffer = [0; 64];
        match at.recv_from(&mut buffer) {
            Ok((length, heard_from)) => {
                assert_eq!(&buffer[..length], b"hello");
                return heard_from;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
        }
    }
    panic!("nothing arrived at {to} in {ATTEMPTS} attempts");
}

pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("1..=62")
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

pub(crate) fn host(address: Ipv4Addr) -> IpNet {
    IpNet::from(IpAddr::V4(address))
}

fn mac(last: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 0, last])
}

/// A node with two ENIs, both on a router that is the VPC and the world.
pub(crate) struct Vpc {
    pub(crate) node: Place,
    pub(crate) router: Place,
    pub(crate) facts: NodeFacts,
}

const ROUTER_LINKS: [LinkIndex; 2] = [101, 102];

impl Vpc {
    pub(crate) fn new() -> Self {
        let (mut node, mut router) = (Place::new(), Place::new());
        for (number, index) in ROUTER_LINKS.into_iter().enumerate() {
            let number = u8::try_from(number).expect("two");
            router.change([Change::create_veth(&VethPair {
                host: Link { name: format!("port{number}"), index },
                host_mac: mac(0x80 + number),
                group: 0,
                pod: Link { name: format!("eth{number}"), index: 10 + u32::from(number) },
                pod_mac: mac(number),
                netns: &node.netns,
                mtu: None,
            })]);
        }
        let to = |index, destination: IpNet| Route {
            table: MAIN_TABLE,
            destination,
            target: Target::Link { index, via: None },
            source: None,
            metric: 0,
        };
        router.change([GATEWAY, INSIDE, OUTSIDE].map(|address| Change::add_address(1, host(address), Connected::Yes)));
        router.change([
            Change::add_route(&to(ROUTER_LINKS[0], host(NODE))),
            Change::add_route(&to(ROUTER_LINKS[1], host(SECOND))),
        ]);
        router.write_sysctl("net/ipv4/ip_forward", "1");
        // As a node boots: the primary ENI with its address and a default route.
        node.change([
            Change::set_link(10, [LinkSetting::Up]),
            Change::add_address(10, IpNet::new_assert(NODE.into(), 24), Connected::Yes),
        ]);
        // By hand: a route that the library makes counts as Berth's.
        node.tool("ip", &["route", "add", "default", "via", &GATEWAY.to_string(), "dev", "eth0"]);
        let eni = EniLink { mac: mac(1), address: SECOND, subnet: net("10.0.0.0/24"), mtu: None };
        let second = node::configure_eni(&mut node.socket, &eni).expect("configured").expect("there");
        let eni = |number, link, address| Eni {
            slot: slot(number),
            link,
            address,
            subnet: net("10.0.0.0/24"),
            confirmed: BTreeSet::new(),
        };
        let facts = NodeFacts {
            numbering: Numbering::default(),
            primary: eni(1, Link { name: "eth0".to_owned(), index: 10 }, NODE),
            secondaries: vec![eni(2, second, SECOND)],
            vpc: vec![net("10.0.0.0/16")],
            excluded: vec![net("192.168.0.0/16")],
            external_services: Vec::new(),
            snat: Snat::Primary(SnatPorts::FullyRandom),
            node_ports: true,
        };
        Self { node, router, facts }
    }

    /// The node brought to the desired state.
    pub(crate) fn installed() -> Self {
        let mut vpc = Self::new();
        vpc.install();
        vpc
    }

    pub(crate) fn install(&mut self) -> node::Installed {
        let desired = Desired::of(&self.facts);
        let Place { netns, socket } = &mut self.node;
        netns.run(|| node::install(socket, &desired)).expect("entered").expect("installed")
    }

    /// A pod with an address of an ENI; the router delivers it to that ENI only, as a VPC does.
    pub(crate) fn pod(&mut self, number: u8, address: Ipv4Addr) -> Pod {
        let port = usize::from(number - 1);
        self.router.change([
            Change::add_route(&Route {
                table: MAIN_TABLE,
                destination: host(address),
                target: Target::Link { index: ROUTER_LINKS[port], via: None },
                source: None,
                metric: 0,
            }),
            Change::add_neighbour(ROUTER_LINKS[port], address.into(), mac(number - 1)),
        ]);
        let mut place = Place::new();
        let wiring = wiring(&format!("pod-{address}"), slot(number), address);
        let link = pod::wire(&mut self.node.socket, &mut place.socket, &place.netns, &wiring).expect("wired");
        Pod { place, wiring, link }
    }
}

pub(crate) struct Pod {
    pub(crate) place: Place,
    pub(crate) wiring: Wiring,
    pub(crate) link: PodLink,
}

/// What a pod of that name is to have.
pub(crate) fn wiring(name: &str, slot: Slot, address: Ipv4Addr) -> Wiring {
    let names = Numbering::default();
    Wiring {
        key: SandboxKey { container_id: format!("sandbox-of-{name}"), ifname: "eth0".to_owned() },
        namespace: "default".to_owned(),
        pod: name.to_owned(),
        link_name: names.link_name("default", name),
        addresses: vec![host(address)],
        group: names.group(slot),
        table: names.pods_table(),
        source: Some(NODE.into()),
        mtu: Some(9001),
    }
}
