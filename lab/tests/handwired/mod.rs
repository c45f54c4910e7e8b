//! A node wired by hand with `ip` and `nft`, the way Berth wires one: what the claims and their teeth are tried on
//! without Berth.

use std::{net::Ipv4Addr, process::Command};

use lab::{
    fabric::{Eni, Fabric},
    host::Host,
    machine::Machine,
    netns::Netns,
    teeth::{Layout, Onprem, Side},
};

/// Two nodes with two ENIs and two pods each.
pub(crate) struct Handwired {
    pub(crate) fabric: Fabric,
    pub(crate) layout: Layout,
    namespaces: Vec<Netns>,
}

impl Handwired {
    pub(crate) fn new(test: &str, onprem: Onprem) -> Self {
        let prefix = format!("berth-{test}-{}", std::process::id());
        for netns in Netns::with_prefix(&prefix) {
            netns.remove().expect("a leftover can be removed");
        }
        let vpc = "10.0.0.0/16".parse().expect("a CIDR");
        let mut fabric = Fabric::build(&prefix, &[vpc]).expect("the fabric can be built");
        let machines = ["a", "b"].map(|node| Machine::boot(format!("{prefix}-{node}")).expect("a node"));
        let enis = [0u8, 1].map(|node| [eni(node, 0), eni(node, 1)]);
        let wanted: Vec<_> =
            machines.iter().zip(&enis).map(|(machine, enis)| (machine.netns().clone(), enis.to_vec())).collect();
        fabric.follow(&wanted).expect("the fabric can follow");
        let mut namespaces: Vec<Netns> = machines.iter().map(|machine| machine.netns().clone()).collect();
        let [near, far] = [0, 1].map(|index| wire(&machines[index], &enis[index], onprem, &mut namespaces));
        Self { fabric, layout: Layout { near, far, vpc, onprem }, namespaces }
    }
}

impl Drop for Handwired {
    fn drop(&mut self) {
        for netns in &self.namespaces {
            let _ = netns.remove();
        }
        self.fabric.remove();
    }
}

fn eni(node: u8, device: u8) -> Eni {
    let address = |last| Ipv4Addr::new(10, 0, node, 10 + 10 * device + last);
    Eni {
        id: format!("eni-000000000000{node:02x}{device:02x}"),
        mac: format!("02:00:00:00:{node:02x}:{device:02x}"),
        device_index: u32::from(device),
        subnet: "10.0.0.0/20".parse().expect("a CIDR"),
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        addresses: vec![address(0), address(1), address(2)],
    }
}

fn wire(machine: &Machine, enis: &[Eni; 2], onprem: Onprem, namespaces: &mut Vec<Netns>) -> Side {
    let netns = machine.netns();
    let name = netns.name().rsplit('-').next().expect("names have parts").to_owned();
    let node = machine.dhcp(&name, "eth0", &enis[0]).expect("eth0 can be configured");
    let second = enis[1].addresses[0];
    let excluded = match onprem {
        Onprem::Translated => "192.0.2.0/24",
        Onprem::Excluded => "192.168.100.0/24",
    };
    run(netns, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.eth0.rp_filter=2 net.ipv4.conf.eth1.rp_filter=2");
    for line in [
        format!("addr add {second}/20 dev eth1 noprefixroute"),
        "link set eth1 up".to_owned(),
        "route add 10.0.0.1 dev eth1 scope link table 7002".to_owned(),
        "route add 10.0.0.0/16 via 10.0.0.1 dev eth1 table 7002".to_owned(),
        format!("route add {excluded} via 10.0.0.1 dev eth1 table 7002"),
        "route add 10.0.0.1 dev eth1 scope link table 7102".to_owned(),
        "route add default via 10.0.0.1 dev eth1 table 7102".to_owned(),
        "rule add priority 512 lookup 7000 protocol 176".to_owned(),
        "rule add priority 1535 fwmark 0x42/0x7f lookup 7102 protocol 176".to_owned(),
        "rule add priority 1536 fwmark 0x2/0x7f lookup 7002 protocol 176".to_owned(),
        format!("rule add priority 32765 from {second} lookup 7102 protocol 176"),
    ] {
        run(netns, &format!("ip {line}"));
    }
    for address in enis.iter().flat_map(|eni| &eni.addresses[1..]) {
        run(netns, &format!("ip route add unreachable {address} table 7000 metric 4096"));
    }
    let table = format!(
        "table ip berth {{
           set vpc {{ type ipv4_addr; flags interval; elements = {{ 10.0.0.0/16 }}; }}
           set no_snat {{ type ipv4_addr; flags interval; elements = {{ {excluded} }}; }}
           chain slot2 {{ meta mark set meta mark & 0xffffff80 | 0x02 accept; }}
           chain reply2 {{ meta mark set meta mark & 0xffffff80 | 0x42 accept; }}
           chain primary {{ accept; }}
           chain in1 {{ ct mark set ct mark & 0xffffff80 | 0x01 accept; }}
           chain in2 {{ ct mark set ct mark & 0xffffff80 | 0x02 accept; }}
           chain reply {{
             ct mark & 0x7f vmap {{ 0x01 : goto primary, 0x02 : goto reply2 }}
             meta iifgroup vmap {{ 7002 : goto reply2 }}
           }}
           chain prerouting {{
             type filter hook prerouting priority -90;
             ct direction reply goto reply
             meta iifgroup vmap {{ 7002 : goto slot2 }}
             ct state new meta iifname vmap {{ \"eth0\" : goto in1, \"eth1\" : goto in2 }}
           }}
           chain postrouting {{
             type nat hook postrouting priority 100;
             meta iifgroup 7001-7062 oifname \"eth0\" ip daddr != @vpc ip daddr != @no_snat snat to {} fully-random
           }}
         }}",
        node.address
    );
    run_with(netns, Command::new("nft").arg(table.replace('\n', ";").replace("{;", "{").replace(";;", ";")));
    let mut pod = |slot: u8, eni: &Eni| {
        let address = eni.addresses[1];
        let (pod_name, link) = (format!("{name}/pod{slot}"), format!("enipod{slot}"));
        let pod = Netns::create(format!("{}-pod{slot}", netns.name())).expect("a pod's namespace");
        run(
            netns,
            &format!(
                "ip link add {link} group {} address 02:00:00:00:0e:01 type veth peer name eth0 netns {}",
                7000 + u16::from(slot),
                pod.name()
            ),
        );
        run(netns, &format!("ip link set {link} up"));
        run(netns, &format!("sysctl -qw net.ipv4.conf.{link}.rp_filter=1"));
        run(netns, &format!("ip route add {address} dev {link} src {} table 7000", node.address));
        for line in [
            "link set eth0 up".to_owned(),
            format!("addr add {address}/32 dev eth0"),
            "route add 169.254.1.1 dev eth0 scope link".to_owned(),
            "route add default via 169.254.1.1 dev eth0".to_owned(),
            "neigh add 169.254.1.1 lladdr 02:00:00:00:0e:01 dev eth0 nud permanent".to_owned(),
        ] {
            run(&pod, &format!("ip {line}"));
        }
        namespaces.push(pod.clone());
        Host { name: pod_name, netns: pod, address }
    };
    let (on_primary, on_secondary) = (pod(1, &enis[0]), pod(2, &enis[1]));
    let second_eni = Host { name: format!("{name} by eth1"), address: second, ..node.clone() };
    Side {
        node,
        second_eni,
        second_link: "eth1".to_owned(),
        on_primary,
        on_secondary,
        unused: Some(enis[1].addresses[2]),
    }
}

fn run(netns: &Netns, line: &str) {
    let mut words = line.split(' ');
    run_with(netns, Command::new(words.next().expect("a program")).args(words));
}

fn run_with(netns: &Netns, command: &mut Command) {
    let output = netns.output(command).expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
