//! The fabric is honest only if it refuses: packets that a VPC drops are tried, and each gets through once the check
//! that refuses it is switched off.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::{self, Command},
};

use lab::{
    fabric::{Checks, Direction, Eni, Fabric, INTERNET_ADDRESS, ONPREM_ADDRESS},
    host::Host,
    machine::Machine,
    netns::Netns,
    traffic::{Echo, Question, Transport, forge},
};

/// Port of every forged packet, so that it is told from honest ones.
const FORGED: u16 = 7777;

/// Two instances: `a` with two ENIs, `b` with one; every ENI has a secondary address.
struct Vpc {
    fabric: Fabric,
    a: Machine,
    b: Machine,
    a0: Host,
    a1: Host,
    b0: Host,
    enis: Vec<Eni>,
}

impl Vpc {
    fn new(test: &str) -> Self {
        let prefix = format!("berth-{test}-{}", process::id());
        for netns in Netns::with_prefix(&prefix) {
            netns.remove().expect("a leftover can be removed");
        }
        let fabric =
            Fabric::build(&prefix, &["10.0.0.0/16".parse().expect("a CIDR")]).expect("the fabric can be built");
        let a = Machine::boot(format!("{prefix}-a")).expect("a node");
        let b = Machine::boot(format!("{prefix}-b")).expect("a node");
        let enis = vec![eni(0, 0xa0, [10, 11]), eni(1, 0xa1, [20, 21]), eni(0, 0xb0, [30, 31])];
        let mut vpc = Self { fabric, a0: host(&a, 10), a1: host(&a, 20), b0: host(&b, 30), a, b, enis };
        vpc.follow();
        for (machine, index) in [(&vpc.a, 0), (&vpc.b, 2)] {
            machine.dhcp("node", "eth0", &vpc.enis[index]).expect("eth0 can be configured");
        }
        ip(vpc.a.netns(), "addr add 10.0.0.20/32 dev eth1");
        ip(vpc.a.netns(), "addr add 10.0.0.11/32 dev lo");
        ip(vpc.a.netns(), "addr add 10.0.0.21/32 dev lo");
        ip(vpc.b.netns(), "addr add 10.0.0.31/32 dev lo");
        ip(vpc.a.netns(), "link set eth1 up");
        ip(vpc.a.netns(), "route add default via 10.0.0.1 dev eth1 onlink table 100");
        ip(vpc.a.netns(), "rule add from 10.0.0.20 lookup 100");
        ip(vpc.a.netns(), "rule add from 10.0.0.21 lookup 100");
        vpc
    }

    fn follow(&mut self) -> bool {
        let wanted =
            [(self.a.netns().clone(), self.enis[..2].to_vec()), (self.b.netns().clone(), self.enis[2..].to_vec())];
        self.fabric.follow(&wanted).expect("the fabric can follow")
    }

    fn port(&self, index: usize) -> String {
        format!("p-{}", &self.enis[index].id[self.enis[index].id.len() - 12..])
    }

    fn port_mac(&self, index: usize) -> String {
        let shown = ip(self.fabric.router(), &format!("-j link show dev {}", self.port(index)));
        let links: serde_json::Value = serde_json::from_str(&shown).expect("ip prints JSON");
        links[0]["address"].as_str().expect("a link has an address").to_owned()
    }

    /// Does a forged packet reach anything? Honest traffic over the same ports says when it is decided.
    fn arrives(&self, from: &Host, source: Ipv4Addr, to: Ipv4Addr) -> bool {
        let tap = self.fabric.witness().tap().expect("a tap");
        forge(&from.netns, SocketAddrV4::new(source, FORGED), SocketAddrV4::new(to, FORGED))
            .expect("the kernel sends it");
        let witness = if from.netns == *self.b.netns() { &self.a0 } else { &self.b0 };
        Self::answered(from, from.address, witness);
        tap.crossings()
            .iter()
            .any(|crossing| crossing.direction == Direction::Reached && crossing.source.port() == FORGED)
    }

    fn answered(from: &Host, source: Ipv4Addr, to: &Host) {
        let echo = Echo::start(to, Transport::Udp).expect("an echo server");
        let question =
            Question { source: SocketAddrV4::new(source, 0), ..Question::new(from, echo.at(), Transport::Udp) };
        let answer = question.ask().unwrap_or_else(|error| panic!("{source} to {to:?}: {error}"));
        assert_eq!(*answer.seen.source.ip(), source, "the VPC translates nothing");
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        let _ = self.a.netns().remove();
        let _ = self.b.netns().remove();
        self.fabric.remove();
    }
}

fn eni(device_index: u32, last: u8, addresses: [u8; 2]) -> Eni {
    Eni {
        id: format!("eni-0000000000000{last:04x}"),
        mac: format!("02:00:00:00:00:{last:02x}"),
        device_index,
        subnet: "10.0.0.0/20".parse().expect("a CIDR"),
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        addresses: addresses.map(|last| Ipv4Addr::new(10, 0, 0, last)).to_vec(),
    }
}

fn host(machine: &Machine, last: u8) -> Host {
    Host { name: format!("10.0.0.{last}"), netns: machine.netns().clone(), address: Ipv4Addr::new(10, 0, 0, last) }
}

fn ip(netns: &Netns, args: &str) -> String {
    let output = netns.output(Command::new("ip").args(args.split(' '))).expect("ip runs");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip prints text")
}

#[test]
fn honest_traffic_passes_untranslated_by_every_eni() {
    let vpc = Vpc::new("honest");
    let node_a = |last| host(&vpc.a, last);
    for source in [10, 11, 20, 21] {
        let from = node_a(source);
        Vpc::answered(&from, from.address, &vpc.b0);
        Vpc::answered(&from, from.address, &host(&vpc.b, 31));
        Vpc::answered(&from, from.address, vpc.fabric.onprem());
        Vpc::answered(vpc.fabric.onprem(), ONPREM_ADDRESS, &from);
    }
    for primary in [&vpc.a0, &vpc.a1] {
        Vpc::answered(primary, primary.address, vpc.fabric.internet());
        Vpc::answered(vpc.fabric.internet(), INTERNET_ADDRESS, primary);
    }
}

#[test]
fn what_a_vpc_drops_is_dropped_and_passes_once_its_check_is_off() {
    let mut vpc = Vpc::new("drops");
    let at = |last| Ipv4Addr::new(10, 0, 0, last);
    let (a0, a1, b0, internet) = (vpc.a0.clone(), vpc.a1.clone(), vpc.b0.clone(), vpc.fabric.internet().clone());
    let no_source = Checks { source: false, ..Checks::default() };
    let no_gateway = Checks { internet_gateway: false, ..Checks::default() };
    let cases = [
        ("an address that nobody has", &a0, at(99), b0.address, no_source),
        ("an address outside the VPC", &a0, Ipv4Addr::new(198, 51, 100, 1), b0.address, no_source),
        ("an address of another ENI of the same instance", &a0, at(21), b0.address, no_source),
        ("the primary address of another ENI of the same instance", &a0, a1.address, b0.address, no_source),
        ("an address of another instance", &a0, at(31), b0.address, no_source),
        ("a secondary address to the internet", &a0, at(11), INTERNET_ADDRESS, no_gateway),
        ("the internet to a secondary address", &internet, INTERNET_ADDRESS, at(31), no_gateway),
    ];
    for (what, from, source, to, off) in cases {
        assert!(!vpc.arrives(from, source, to), "{what} was delivered");
        vpc.fabric.check(off).expect("a check can be switched off");
        assert!(vpc.arrives(from, source, to), "{what} was not delivered although {off:?}");
        vpc.fabric.check(Checks::default()).expect("the checks can be switched on");
    }
}

#[test]
fn a_frame_with_another_mac_is_dropped() {
    let mut vpc = Vpc::new("mac");
    let (a0, b0) = (vpc.a0.clone(), vpc.b0.clone());
    let gateway_mac = vpc.port_mac(0);
    for (off, arrives) in [(Checks::default(), false), (Checks { mac: false, ..Checks::default() }, true)] {
        vpc.fabric.check(off).expect("checks can be set");
        let tap = vpc.fabric.witness().tap().expect("a tap");
        ip(vpc.a.netns(), "link set eth0 address 02:00:00:00:66:66");
        ip(vpc.a.netns(), &format!("neigh replace 10.0.0.1 lladdr {gateway_mac} dev eth0 nud permanent"));
        forge(&a0.netns, a0.at(FORGED), b0.at(FORGED)).expect("the kernel sends it");
        ip(vpc.a.netns(), "link set eth0 address 02:00:00:00:00:a0");
        Vpc::answered(&a0, a0.address, &b0);
        let reached = tap.crossings().into_iter().any(|crossing| crossing.destination.port() == FORGED);
        assert_eq!(reached, arrives, "with {off:?}: {:?}", tap.crossings());
    }
}

#[test]
fn an_address_is_dead_the_moment_it_is_unassigned_and_lives_where_it_went() {
    let mut vpc = Vpc::new("moved");
    let (a0, a1, b0) = (vpc.a0.clone(), vpc.a1.clone(), vpc.b0.clone());
    let moved = Ipv4Addr::new(10, 0, 0, 11);
    let moved_host = host(&vpc.a, 11);
    Vpc::answered(&moved_host, moved, &b0);

    vpc.enis[0].addresses.retain(|address| *address != moved);
    assert!(vpc.follow());
    assert!(!vpc.arrives(&a0, moved, b0.address), "as a source");
    assert!(!vpc.arrives(&b0, b0.address, moved), "as a destination");
    // A mapping that somebody forgot to take away is caught by the destination check.
    let (port, mac) = (vpc.port(0), vpc.enis[0].mac.clone());
    ip(vpc.fabric.router(), &format!("route add {moved}/32 dev {port}"));
    ip(vpc.fabric.router(), &format!("neigh replace {moved} lladdr {mac} nud permanent dev {port}"));
    assert!(!vpc.arrives(&b0, b0.address, moved), "by a stale mapping");
    vpc.fabric.check(Checks { destination: false, ..Checks::default() }).expect("a check can be switched off");
    assert!(vpc.arrives(&b0, b0.address, moved), "without the destination check");
    vpc.fabric.check(Checks::default()).expect("the checks can be switched on");

    vpc.enis[1].addresses.push(moved);
    assert!(vpc.follow());
    ip(vpc.a.netns(), "rule add from 10.0.0.11 lookup 100");
    let tap = vpc.fabric.witness().tap().expect("a tap");
    Vpc::answered(&a1, moved, &b0);
    let by = |direction| {
        let crossing = tap
            .crossings()
            .into_iter()
            .find(|crossing| crossing.direction == direction && crossing.place != vpc.enis[2].id);
        crossing.expect("a packet crossed").place
    };
    assert_eq!((by(Direction::Left), by(Direction::Reached)), (vpc.enis[1].id.clone(), vpc.enis[1].id.clone()));
}

#[test]
fn a_detached_eni_takes_its_link_with_it() {
    let mut vpc = Vpc::new("detached");
    let second = vpc.enis.remove(1);
    let wanted = [(vpc.a.netns().clone(), vpc.enis[..1].to_vec()), (vpc.b.netns().clone(), vpc.enis[1..].to_vec())];
    assert!(vpc.fabric.follow(&wanted).expect("the fabric can follow"));
    let output = vpc.a.netns().output(Command::new("ip").args(["link", "show", "eth1"])).expect("ip runs");
    assert!(!output.status.success(), "eth1 is still there");
    assert_eq!(vpc.fabric.holder(second.addresses[1]), None);
    assert!(!vpc.fabric.follow(&wanted).expect("the fabric can follow"), "nothing is left to do");
}
