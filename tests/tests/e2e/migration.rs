//! Coming from amazon-vpc-cni: a node with its pods, its rules, its routes and its checkpoint gets our daemon and our plugin.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    process::Command,
};

use lab::{
    Lab, claims,
    legacy::{Fill, Legacy, OldPod},
    node::{Ipamd, Node},
    pods::{Pod, at_once},
    traffic::Transport,
};

use crate::node::{self, books_agree, eventually, leases};

/// An m5.large has 3 ENIs with 9 addresses for pods each: 20 pods, two addresses that none of them has, and five that EC2 still has.
const ENIS: [Fill; 3] = [Fill { assigned: 9, pods: 9 }, Fill { assigned: 9, pods: 9 }, Fill { assigned: 4, pods: 2 }];
const ROOM: usize = 27;

/// A lab, and its first node as amazon-vpc-cni leaves it.
fn prepared(test: &str) -> (Lab, Legacy) {
    let lab = node::lab(test, &["m5.large", "m5.large"]);
    let legacy = Legacy::prepare(&lab, &lab.nodes()[0], &ENIS).expect("a node with pods");
    assert_eq!(legacy.pods.len(), 20);
    (lab, legacy)
}

fn start(lab: &Lab, legacy: &Legacy) -> Ipamd {
    let checkpoint = legacy.checkpoint().display().to_string();
    let settings = [
        ("AWS_VPC_K8S_CNI_BACKING_STORE", checkpoint.as_str()),
        ("WARM_IP_TARGET", "2"),
        ("IP_COOLDOWN_PERIOD", "1"),
        ("BERTH_RECLAIM_AFTER", "2s"),
        ("BERTH_ADD_DEADLINE", "15s"),
    ];
    lab.nodes()[0].start_ipamd(&settings).expect("a daemon")
}

fn addresses(pods: &[OldPod]) -> BTreeSet<Ipv4Addr> {
    pods.iter().map(OldPod::address).collect()
}

fn by_container(pods: &[OldPod]) -> BTreeMap<String, Ipv4Addr> {
    pods.iter().map(|pod| (pod.container_id().to_owned(), pod.address())).collect()
}

/// Links, rules and routes of these pods, as the kernel shows them.
fn objects(node: &Node, pods: &[OldPod]) -> BTreeSet<String> {
    let show = |what: &str| {
        let shown = node.netns().output(Command::new("ip").args(what.split(' '))).expect("ip runs");
        String::from_utf8(shown.stdout).expect("text")
    };
    let lines = [show("-br link show type veth"), show("rule show"), show("route show table main")].concat();
    let names = |line: &str, what: &str| line.split([' ', '@', '/']).any(|word| word == what);
    let theirs =
        |line: &&str| pods.iter().any(|pod| names(line, pod.link()) || names(line, &pod.address().to_string()));
    // A link comes up, and its route with it, some time after its other end did.
    let settled = |word: &&str| !["UP", "DOWN", "LOWERLAYERDOWN", "linkdown"].contains(word) && !word.starts_with('<');
    let words = |line: &str| line.split_whitespace().filter(settled).collect::<Vec<_>>().join(" ");
    lines.lines().filter(theirs).map(words).collect()
}

/// Every old pod talks with the other node, with its neighbour, and with a new pod.
fn all_talk(lab: &Lab, old: &[OldPod], new: Option<&Pod>) {
    let witness = lab.witness();
    let far = lab.nodes()[1].host();
    for (at, pod) in old.iter().enumerate() {
        let (pod, next) = (pod.host(), old[(at + 1) % old.len()].host());
        claims::across(&witness, &pod, far, Transport::Tcp).into_result().expect("out of the node");
        claims::across(&witness, far, &pod, Transport::Udp).into_result().expect("into the node");
        claims::same_node(&witness, &pod, &next, Transport::Tcp).into_result().expect("its neighbour");
        if let Some(new) = new {
            let new = new.host().expect("wired");
            claims::same_node(&witness, &pod, &new, Transport::Tcp).into_result().expect("old to new");
            claims::same_node(&witness, &new, &pod, Transport::Tcp).into_result().expect("new to old");
        }
    }
}

/// Adds pods until the node has no address left; none of them gets one that is in use.
fn fill(node: &Node, count: usize, name: &str, used: &BTreeSet<Ipv4Addr>) -> Vec<Pod> {
    let mut pods: Vec<Pod> = (0..count).map(|n| node.pod(&format!("{name}{n}")).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|added| added.address)) {
        let address = added.expect("an address");
        assert!(!used.contains(&address), "{address} is in use");
    }
    pods
}

/// Nothing of the pods is left, and all the node's addresses can be had.
fn all_comes_back(lab: &Lab, old: &[OldPod], mut new: Vec<Pod>) {
    let node = &lab.nodes()[0];
    let left = eventually("nothing of the old pods is left in the kernel", node, || {
        let left = objects(node, old);
        left.is_empty().then_some(left)
    });
    assert!(left.is_empty());
    let mut more: Vec<Pod> = (new.len()..ROOM).map(|n| node.pod(&format!("later{n}")).expect("a sandbox")).collect();
    let mut waiting: Vec<usize> = (0..more.len()).collect();
    eventually("every address can be had again", node, || {
        waiting.retain(|&n| more[n].add().is_err());
        waiting.is_empty().then_some(())
    });
    new.append(&mut more);
    assert!(addresses(old).is_subset(&new.iter().filter_map(|pod| Some(pod.added()?.address)).collect()));
    books_agree(lab, node, &new);
    let far = lab.nodes()[1].host();
    for pod in &new {
        let outcome = claims::across(&lab.witness(), &pod.host().expect("wired"), far, Transport::Tcp);
        outcome.into_result().expect("nothing left leads astray");
    }
}

#[test]
fn with_its_checkpoint_every_pod_keeps_its_address_until_its_del() {
    let (lab, legacy) = prepared("takeover");
    let node = &lab.nodes()[0];
    let old = &legacy.pods;
    all_talk(&lab, old, None);
    let (before, of_the_rest) = (objects(node, old), objects(node, &old[15..]));
    let daemon = start(&lab, &legacy);
    eventually("every old pod has its lease", node, || (leases(node) == by_container(old)).then_some(()));
    let new = fill(node, ROOM - old.len(), "new", &addresses(old));
    node.pod("too-many").expect("a sandbox").add().expect_err("every address is in use");
    assert_eq!(objects(node, old), before, "nothing of a running pod was touched");
    all_talk(&lab, old, new.first());

    // A restart goes by the ledger.
    drop(daemon);
    fs::remove_file(legacy.checkpoint()).expect("there was a file");
    let daemon = start(&lab, &legacy);
    assert_eq!(leases(node).len(), ROOM);

    // DEL as runtimes make it: with the namespace, after it is gone, with the daemon down.
    for (at, pod) in old[..15].iter().enumerate() {
        if at % 3 == 1 {
            pod.vanish().expect("ended");
        }
        pod.del().expect("deleted");
        assert_eq!(objects(node, &old[at..=at]), BTreeSet::new(), "DEL clears");
        pod.del().expect("deleting again is fine");
    }
    assert_eq!(objects(node, &old[15..]), of_the_rest, "and nothing of the others");
    all_talk(&lab, &old[15..], new.first());
    drop(daemon);
    for (at, pod) in old[15..].iter().enumerate() {
        if at == 4 {
            pod.vanish().expect("ended");
        }
        pod.del().expect("DEL needs no daemon");
    }
    let _daemon = start(&lab, &legacy);
    all_comes_back(&lab, old, new);
}

#[test]
fn without_its_checkpoint_no_address_in_use_is_allocated() {
    let (lab, legacy) = prepared("unremembered");
    let node = &lab.nodes()[0];
    let old = &legacy.pods;
    fs::remove_file(legacy.checkpoint()).expect("there was a file");
    let before = objects(node, old);
    let daemon = start(&lab, &legacy);
    let new = fill(node, ROOM - old.len(), "new", &addresses(old));
    node.pod("too-many").expect("a sandbox").add().expect_err("every address is in use");
    assert_eq!(objects(node, old), before, "nothing of a running pod was touched");
    all_talk(&lab, old, new.first());
    drop(daemon);
    let _daemon = start(&lab, &legacy);
    assert_eq!(leases(node).len(), new.len(), "nobody knows whose the others are");
    node.pod("still-too-many").expect("a sandbox").add().expect_err("every address is in use");

    let (deleted, vanished) = old.split_at(14);
    for (at, pod) in deleted.iter().enumerate() {
        pod.del().expect("deleted");
        assert_eq!(objects(node, &old[at..=at]), BTreeSet::new(), "DEL clears");
    }
    // A runtime that lost its state makes no DEL.
    for pod in vanished {
        pod.vanish().expect("ended");
    }
    all_comes_back(&lab, old, new);
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_named_and_the_kernel_decides() {
    let (lab, legacy) = prepared("misremembered");
    let node = &lab.nodes()[0];
    let text = fs::read(legacy.checkpoint()).expect("a file");
    fs::write(legacy.checkpoint(), &text[..text.len() / 2]).expect("cut");
    // Beside it, that of another card: one whose pods are gone.
    let gone = r#"{"version":"vpc-cni-ipam/1","allocations":[{"networkName":"aws-cni","containerID":"gone","ifName":"eth0","ipv4":"10.0.0.250","allocationTimestamp":1,"metadata":{"k8sPodNamespace":"default","k8sPodName":"gone"}}]}"#;
    fs::write(legacy.checkpoint().with_file_name("ipam-nic-1.json"), gone).expect("written");
    let _daemon = start(&lab, &legacy);
    let log = node.log();
    let said = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said(&["could not use amazon-vpc-cni's checkpoint", "ipam.json", "it is not a checkpoint"]), "{log}");
    assert!(said(&["read amazon-vpc-cni's checkpoint", "ipam-nic-1.json", "\"dropped\":1"]), "{log}");
    assert!(leases(node).is_empty());
    let new = fill(node, ROOM - legacy.pods.len(), "new", &addresses(&legacy.pods));
    all_talk(&lab, &legacy.pods[..3], new.first());
}
