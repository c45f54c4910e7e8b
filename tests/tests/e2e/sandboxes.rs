//! What runtimes do with sandboxes, seen from the plugin: repeats, twins, names that are taken.

use std::process::Command;

use lab::{claims, pods::Pod, traffic::Transport};

use crate::node::{self, books_agree, eventually, leases, refusal};

#[test]
fn the_same_add_twice_gets_the_same_answer_and_leaves_the_link_untouched() {
    let lab = node::lab("twice", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pod = node.pod("p").expect("a sandbox");
    let first = pod.add().expect("an address").result.clone();
    // What the plugin made; the kernel's own words about it (operstate, IPv6 autoconfiguration) change by themselves.
    let links = || {
        let show = |what: &[&str]| {
            let shown = pod.netns().output(Command::new("ip").args(["-j", "-4"]).args(what)).expect("ip runs");
            serde_json::from_slice::<serde_json::Value>(&shown.stdout).expect("JSON")
        };
        let link = &show(&["addr", "show", "eth0"])[0];
        let made = (link["ifindex"].clone(), link["address"].clone(), link["mtu"].clone(), link["addr_info"].clone());
        (made, show(&["route", "show"]), show(&["neigh", "show", "nud", "permanent"]))
    };
    let before = links();
    let again = pod.call("ADD", None).expect("the plugin runs").done().expect("served again");
    assert_eq!(again, first);
    assert_eq!(links(), before);
    books_agree(&lab, node, std::slice::from_ref(&pod));
}

#[test]
fn a_second_sandbox_of_one_pod_leaves_the_first_its_network() {
    let lab = node::lab("twins", &["m5.large", "m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut old = node.pod("web-0").expect("a sandbox");
    let mut new = node.pod("web-0").expect("a sandbox");
    let (first, second) = (old.add().expect("an address").address, new.add().expect("another address").address);
    assert_ne!(first, second);
    let far = lab.nodes()[1].host();
    for pod in [&old, &new] {
        let outcome = claims::across(&lab.witness(), &pod.host().expect("wired"), far, Transport::Tcp);
        outcome.into_result().expect("both are on the network");
    }
    // By then the old sandbox's result names a link that is the new one's.
    old.del().expect("deleted");
    let outcome = claims::across(&lab.witness(), &new.host().expect("wired"), far, Transport::Tcp);
    outcome.into_result().expect("the living one still is");
    books_agree(&lab, node, &[old, new]);
}

#[test]
fn an_interface_name_that_is_taken_is_refused_and_nothing_is_left() {
    let lab = node::lab("taken", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let pod = node.pod("p").expect("a sandbox");
    let made =
        pod.netns().output(Command::new("ip").args(["link", "add", "eth0", "type", "veth", "peer", "name", "x"]));
    assert!(made.expect("ip runs").status.success());
    let refused = refusal(pod.call("ADD", None).expect("the plugin runs"));
    assert!(refused.msg.contains("eth0"), "{refused}");
    assert!(leases(node).is_empty());
    assert!(node::pod_links(node).is_empty());
    assert!(node::pod_routes(node).is_empty());
}

#[test]
fn a_failed_repeat_of_an_add_leaves_a_running_pod_its_lease() {
    let lab = node::lab("repeat", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pod = node.pod("p").expect("a sandbox");
    pod.add().expect("an address");
    let mut call = pod.prepare("ADD", None);
    call.netns = "/run/netns/there-is-no-such-namespace".into();
    refusal(call.run(node).expect("the plugin runs"));
    assert_eq!(leases(node).len(), 1);
}

#[test]
fn check_sees_what_is_missing() {
    let lab = node::lab("check", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pod = node.pod("p").expect("a sandbox");
    let added = pod.add().expect("an address").result.clone();
    pod.call("CHECK", Some(&added)).expect("the plugin runs").done().expect("all is there");
    let address = pod.added().expect("added").address.to_string();
    let mut remove = Command::new("ip");
    remove.args(["route", "del", &address, "table", "7000"]);
    assert!(node.netns().output(&mut remove).expect("ip runs").status.success());
    let refused = refusal(pod.call("CHECK", Some(&added)).expect("the plugin runs"));
    assert!(format!("{} {}", refused.msg, refused.details).contains(&address), "{refused}");
}

#[test]
fn a_deleted_pods_link_and_route_are_gone_and_its_address_cools() {
    let lab = node::lab("del", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    let mut pod: Pod = node.pod("p").expect("a sandbox");
    pod.add().expect("an address");
    pod.del().expect("deleted");
    eventually("the link is gone", node, || node::pod_links(node).is_empty().then_some(()));
    assert!(node::pod_routes(node).is_empty());
    assert_eq!(node::ask(node, "pool")["counts"]["cooling"].as_u64(), Some(1));
    pod.del().expect("DEL again is fine");
    let mut without = pod.prepare("DEL", None);
    without.netns = std::path::PathBuf::new();
    without.run(node).expect("the plugin runs").done().expect("and without a namespace");
}

#[test]
fn the_same_add_many_times_at_once_leaves_one_pod_with_its_lease() {
    let lab = node::lab("same", &["m5.large"]);
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[]).expect("a daemon");
    for round in 0..4 {
        let mut pod = node.pod(&format!("p{round}")).expect("a sandbox");
        let results: Vec<_> = std::thread::scope(|scope| {
            let adds: Vec<_> = (0..6).map(|_| scope.spawn(|| pod.call("ADD", None))).collect();
            adds.into_iter()
                .map(|add| add.join().expect("no panic").expect("it runs").done().expect("served"))
                .collect()
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:#?}");
        let added = pod.add().expect("served again").result.clone();
        assert_eq!(added, results[0]);
        books_agree(&lab, node, std::slice::from_ref(&pod));
        pod.del().expect("deleted");
    }
}
