//! The storm: daemons killed at random moments under pods in churn and a sick EC2, over the built programs; and the audit that
//! follows it, which must see every disagreement.
//!
//! `BERTH_BIN_DIR` says where the programs are; `make test` sets it. `make soak` is the same with a thousand kills.

use std::{collections::BTreeSet, io::Write as _, net::Ipv4Addr, process::Command, time::Duration};

use lab::{
    Lab, LabSettings,
    node::Ipamd,
    pods::{Pod, at_once},
    storm::{self, Settings, audit},
    wait,
};
use sim::{
    AddressOrder, Request,
    requests::{CreateNetworkInterface, NewEni, Wanted},
};

const PATIENCE: Duration = Duration::from_secs(20);

const SETTINGS: [(&str, &str); 3] =
    [("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "1"), ("BERTH_SHRINK_AFTER", "100ms")];

#[test]
fn after_fifty_kills_ledger_ec2_kernel_and_pods_agree_and_no_pod_lost_its_network() {
    let settings = Settings::new("bt-storm", 4);
    let figures = storm::run(&settings, |_| {}).unwrap_or_else(|wrong| panic!("{wrong:#}"));
    // Not `println!`, which the test harness keeps to itself when all is well: the figures are for people.
    writeln!(std::io::stdout(), "a storm, seed {}:\n{figures}", settings.seed).expect("stdout is open");
    assert_eq!(figures.kills, 50);
    assert!(figures.kills_in_flight >= 5, "daemons die in the middle of something: {figures}");
    assert!(figures.adds >= 60 && figures.exchanges >= 500 && figures.looks >= 20, "there was life: {figures}");
}

fn start(lab: &Lab) -> Vec<Ipamd> {
    lab.nodes().iter().map(|node| node.start_ipamd(&SETTINGS).expect("a daemon")).collect()
}

fn added(lab: &Lab, node: usize, count: usize) -> Vec<Pod> {
    let node = &lab.nodes()[node];
    let mut pods: Vec<Pod> = (0..count).map(|n| node.pod(&format!("p{n}")).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
    pods
}

#[track_caller]
fn agrees(lab: &Lab, pods: &[Pod]) {
    let mut last = Vec::new();
    let agreed = wait::until(PATIENCE, || {
        last = audit(lab, pods);
        last.is_empty().then_some(())
    });
    assert!(agreed.is_some(), "not within {PATIENCE:?}: {last:#?}");
}

#[track_caller]
fn names(lab: &Lab, pods: &[Pod], expected: &[String]) {
    let wrong = audit(lab, pods);
    for part in expected {
        assert!(wrong.iter().any(|said| said.contains(part)), "{part:?} is not said: {wrong:#?}");
    }
}

#[track_caller]
fn ip(netns: &lab::netns::Netns, words: &str) {
    let done = netns.output(Command::new("ip").args(words.split(' '))).expect("ip runs");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

fn words(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

#[test]
fn the_audit_names_everything_that_does_not_agree() {
    let lab = Lab::start(LabSettings::with_prefix("bt-audit")).expect("a lab");
    let _daemons = start(&lab);
    let mut pods = added(&lab, 0, 3);
    agrees(&lab, &pods);
    let node = &lab.nodes()[0];
    let address = |pod: &Pod| pod.added().expect("added").address;

    // The driver's own record leaves a pod out: it has a lease, a link, a route and a namespace of nobody.
    let unknown = pods.pop().expect("three");
    let (its, id) = (address(&unknown), unknown.container_id().to_owned());
    names(
        &lab,
        &pods,
        &[
            format!("node a: {its} is leased to default/p2 ({id}), which does not live"),
            format!("of {id}, which does not live, are left"),
            format!("a route to {its} by link"),
            format!("the namespace {} is left", unknown.netns().name()),
        ],
    );
    pods.push(unknown);

    let sandbox = node.pod("bare").expect("a sandbox");
    pods.push(sandbox);
    names(&lab, &pods, &words(&["lives without an address"]));
    pods.pop();
    agrees(&lab, &pods);

    // An ENI attached to nothing, and an address that only EC2 knows.
    let attached = lab.world().attached(node.instance()).swap_remove(0);
    let eni = NewEni { subnet: attached.subnet.clone(), ..NewEni::default() };
    let made = lab.call(Request::CreateNetworkInterface(CreateNetworkInterface { eni, ..Default::default() }));
    let sim::Response::CreateNetworkInterface { eni: leaked, .. } = made.expect("an ENI") else { panic!("an ENI") };
    names(&lab, &pods, &[format!("EC2 has {} attached to nothing", leaked.id)]);
    lab.call(Request::DeleteNetworkInterface { eni: leaked.id }).expect("deleted");
    let wanted = Wanted::These(vec![Ipv4Addr::new(10, 0, 9, 9)]);
    let assign = Request::AssignPrivateIpAddresses { eni: attached.eni.clone(), wanted, allow_reassignment: false };
    lab.call(assign).expect("assigned");
    let extra = format!("node a: EC2 has 10.0.9.9 on {}, the pool has not", attached.eni);
    names(&lab, &pods, &[extra, "the route 10.0.9.9/32 unreachable in table 7000 is missing".to_owned()]);
    let addresses = vec![Ipv4Addr::new(10, 0, 9, 9)];
    let unassign = Request::UnassignPrivateIpAddresses { eni: attached.eni.clone(), addresses, prefixes: Vec::new() };
    lab.call(unassign).expect("unassigned");
    agrees(&lab, &pods);

    // The kernel: too little, too much.
    let (first, second) = (&pods[0], &pods[1]);
    ip(node.netns(), &format!("route del {} table 7000 metric 0", address(first)));
    ip(node.netns(), "rule add fwmark 7 lookup 7003 priority 1536 protocol 176");
    ip(node.netns(), "link add stray type veth peer name stray1");
    ip(second.netns(), "addr add 10.0.9.8/32 dev eth0");
    names(
        &lab,
        &pods,
        &[
            format!("and the route to {} leads to []", address(first)),
            "the rule 1536: fwmark 0x7/0xffffffff lookup 7003 is left".to_owned(),
            "the link stray is nobody's".to_owned(),
            format!("{} ({}) should have {} inside", second.label(), second.container_id(), address(second)),
        ],
    );
    ip(node.netns(), "rule del fwmark 7 lookup 7003 priority 1536 protocol 176");
    ip(node.netns(), "link del stray");
    ip(second.netns(), "addr del 10.0.9.8/32 dev eth0");

    // A pod that has another's address inside.
    ip(second.netns(), &format!("addr add {}/32 dev eth0", address(first)));
    names(&lab, &pods, &[format!("{} and {} both have {}", first.label(), second.label(), address(first))]);
}

#[test]
fn an_address_that_one_node_gave_back_serves_the_other_and_is_left_nowhere() {
    let mut settings = LabSettings::with_prefix("bt-cross");
    // So few addresses that both nodes cannot have enough of them at once.
    settings.subnet = "10.0.0.0/27".parse().expect("a CIDR");
    settings.world.ec2.address_order = AddressOrder::FirstFit;
    settings.world.ec2.times.device = Duration::from_millis(200);
    let lab = Lab::start(settings).expect("a lab");
    let _daemons = start(&lab);
    let mut had = BTreeSet::new();
    for round in 0..4 {
        let mut pods = added(&lab, round % 2, 12);
        agrees(&lab, &pods);
        let now: BTreeSet<Ipv4Addr> = pods.iter().filter_map(|pod| Some(pod.added()?.address)).collect();
        assert_eq!(now.len(), pods.len());
        if round > 0 {
            assert!(now.intersection(&had).next().is_some(), "round {round}: {now:?} has none of {had:?}");
        }
        for deleted in at_once(&mut pods, Pod::del) {
            deleted.expect("deleted");
        }
        drop(pods);
        had = now;
        let shrunk = wait::until(PATIENCE, || storm::above_minimum(&lab, 2).is_empty().then_some(()));
        assert!(shrunk.is_some(), "round {round}: {:?}", storm::above_minimum(&lab, 2));
    }
}
