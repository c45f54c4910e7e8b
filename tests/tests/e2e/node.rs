//! What the tests ask of a lab: one to start, the daemon's own books, and whether they agree with EC2 and the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::Ipv4AddrRange;
use lab::{
    Lab, LabSettings,
    cni::{Refusal, Reply},
    node::Node,
    pods::Pod,
    wait,
};
use serde_json::Value;

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A lab with one node of this type per name in `types`.
pub fn lab(test: &str, types: &[&str]) -> Lab {
    let mut settings = LabSettings::with_prefix(format!("bt-{test}")).with_nodes(types);
    settings.world.ec2.times.device = Duration::from_millis(300);
    Lab::start(settings).expect("a lab")
}

/// Waits until `look` finds something; fails with what was there.
#[track_caller]
pub fn eventually<T>(what: &str, node: &Node, look: impl FnMut() -> Option<T>) -> T {
    let found = wait::until(PATIENCE, look);
    found.unwrap_or_else(|| {
        let pool = node.ipamctl(&["pool"]).map(|shown| String::from_utf8_lossy(&shown.stdout).into_owned());
        panic!("not within {PATIENCE:?}: {what}\npool: {pool:?}\nlog:\n{}", node.log_tail(30));
    })
}

/// What `ipamctl … -o json` says.
#[track_caller]
pub fn ask(node: &Node, command: &str) -> Value {
    let output = node.ipamctl(&[command, "-o", "json"]).expect("ipamctl runs");
    assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Container id and address of every lease.
pub fn leases(node: &Node) -> BTreeMap<String, Ipv4Addr> {
    let said = ask(node, "leases");
    let leases = said.as_array().or_else(|| said["leases"].as_array()).unwrap_or_else(|| panic!("no list: {said}"));
    leases
        .iter()
        .map(|lease| {
            let container = lease["container_id"].as_str().expect("an id").to_owned();
            let address = &lease["attachments"][0]["addresses"][0];
            let address = address.as_str().or_else(|| address["cidr"].as_str()).unwrap_or_else(|| panic!("{lease}"));
            (container, address.split('/').next().unwrap_or_default().parse().expect("an address"))
        })
        .collect()
}

/// The addresses that the daemon's pool holds.
pub fn pooled(node: &Node) -> BTreeSet<Ipv4Addr> {
    let pool = ask(node, "pool");
    let enis = pool["enis"].as_array().expect("ENIs");
    enis.iter()
        .flat_map(|eni| eni["addresses"].as_array().expect("addresses"))
        .map(|address| address["address"].as_str().expect("text").parse().expect("an address"))
        .collect()
}

/// The addresses for pods that EC2 has on the node's ENIs, and on ENIs of ours that are attached to nothing.
pub fn assigned(lab: &Lab, node: &Node) -> BTreeSet<Ipv4Addr> {
    let attached = lab.truth().attached(node.instance());
    let single = attached.iter().flat_map(|eni| eni.addresses.iter().skip(1).copied());
    let of_prefixes = attached.iter().flat_map(|eni| &eni.prefixes);
    single.chain(of_prefixes.flat_map(|prefix| Ipv4AddrRange::new(prefix.network(), prefix.broadcast()))).collect()
}

/// The daemon, EC2 and the pods agree: each living pod has its own lease, nobody else has one, and the pool holds what EC2 has.
#[track_caller]
pub fn books_agree(lab: &Lab, node: &Node, pods: &[Pod]) {
    let living: BTreeMap<String, Ipv4Addr> = pods
        .iter()
        .filter(|pod| pod.node().name() == node.name())
        .filter_map(|pod| Some((pod.container_id().to_owned(), pod.added()?.address)))
        .collect();
    let addresses: BTreeSet<_> = living.values().collect();
    assert_eq!(addresses.len(), living.len(), "two pods have one address: {living:?}");
    assert_eq!(leases(node), living, "leases are those of the living pods");
    eventually("the pool holds what EC2 has", node, || (pooled(node) == assigned(lab, node)).then_some(()));
    let assigned = assigned(lab, node);
    assert!(living.values().all(|address| assigned.contains(address)), "{living:?} in {assigned:?}");
}

/// The refusal that a call must have ended in.
#[track_caller]
pub fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Refused(refusal) => refusal,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

/// Host links of pods on a node, by name.
pub fn pod_links(node: &Node) -> BTreeSet<String> {
    let shown = node.netns().output(std::process::Command::new("ip").args(["-j", "link", "show", "type", "veth"]));
    let shown: Value = serde_json::from_slice(&shown.expect("ip runs").stdout).expect("JSON");
    let links = shown.as_array().expect("a list").iter();
    links
        .filter(|link| link["ifalias"].is_string())
        .map(|link| link["ifname"].as_str().expect("a name").to_owned())
        .collect()
}

/// Routes to pods on a node.
pub fn pod_routes(node: &Node) -> BTreeSet<String> {
    let mut list = std::process::Command::new("ip");
    list.args(["-j", "-4", "route", "show", "table", "7000"]);
    let shown = node.netns().output(&mut list).expect("ip runs").stdout;
    let routes: Value = serde_json::from_slice(&shown).unwrap_or(Value::Array(Vec::new()));
    let routes = routes.as_array().expect("a list").iter();
    routes
        .filter(|route| route["dev"].is_string())
        .map(|route| route["dst"].as_str().expect("text").to_owned())
        .collect()
}
