//! DEL of pods that amazon-vpc-cni wired before us: no result of ours, no alias, its own rules and route.

use std::process::Command;

use proto::v1::{Address, Attachment};

use crate::daemon::Daemon;
use crate::node::{Node, Place};

/// `eni` and the first 11 digits of sha1("default.web-0").
const WEB_0: &str = "eni0d7763386da";

/// Runs `ip` commands in a namespace, one a line.
fn ip(place: &Place, lines: &[String]) {
    for line in lines {
        let run = || Command::new("ip").args(line.split(' ')).output();
        let output = place.netns.run(run).expect("entered").expect("ip runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn shown(place: &Place, what: &str) -> String {
    let run = || Command::new("ip").args(what.split(' ')).output();
    String::from_utf8(place.netns.run(run).expect("entered").expect("ip runs").stdout).expect("text")
}

/// A pod as amazon-vpc-cni leaves it, its sandbox's interface included.
fn old_pod(node: &Node, link: &str, address: &str) -> Place {
    let sandbox = Place::new();
    let path = sandbox.path().display().to_string();
    ip(
        &node.place,
        &[
            format!("link add {link} type veth peer name eth0 netns {path}"),
            format!("link set {link} up"),
            format!("route add {address}/32 dev {link} scope link"),
            format!("rule add to {address} lookup main pref 512"),
            format!("rule add from {address} lookup 2 pref 1536"),
        ],
    );
    ip(&sandbox, &[format!("addr add {address}/32 dev eth0"), "link set eth0 up".to_owned()]);
    sandbox
}

/// Names of links, rules, routes.
fn left(node: &Node) -> (String, String, String) {
    let links = shown(&node.place, "-br link show type veth");
    let names: Vec<_> = links.lines().filter_map(|line| line.split(['@', ' ']).next()).collect();
    // A route is down with its link until the kernel has noticed that the other end is up.
    let routes = shown(&node.place, "route show table main").replace(" linkdown", "");
    (names.join(" "), shown(&node.place, "rule"), routes)
}

fn assert_gone(node: &Node, address: &str) {
    let (links, rules, routes) = left(node);
    assert!(
        !links.contains(WEB_0) && !rules.contains(address) && !routes.contains(address),
        "{links}\n{rules}\n{routes}"
    );
}

#[test]
fn a_del_clears_what_another_cni_made_for_this_pod_and_nothing_else() {
    for netns in ["given", "gone", "unsaid"] {
        let node = Node::new();
        let daemon = Daemon::start(node.run_dir.path());
        let web = old_pod(&node, WEB_0, "10.0.0.31");
        let _other = old_pod(&node, "eni00000000000", "10.0.0.32");
        for _ in 0..2 {
            let del = node.sandbox("DEL", "old", "web-0", Some(&web).filter(|_| netns == "given"));
            let del = if netns == "gone" { del.with("CNI_NETNS", "/nowhere/at/all") } else { del };
            assert_eq!(del.succeed(), "", "{netns}");
            assert_gone(&node, "10.0.0.31");
            let (links, rules, routes) = left(&node);
            assert!(links.contains("eni00000000000") && routes.contains("10.0.0.32"), "{netns}: {links}\n{routes}");
            assert_eq!(rules.matches("10.0.0.32").count(), 2, "{netns}: {rules}");
        }
        assert_eq!(daemon.ledger().releases.len(), 2, "{netns}");
    }
}

#[test]
fn with_the_daemon_down_the_kernel_is_cleared_too_and_a_note_is_left() {
    let node = Node::new();
    let web = old_pod(&node, WEB_0, "10.0.0.31");
    assert_eq!(node.sandbox("DEL", "old", "web-0", Some(&web)).succeed(), "");
    assert_gone(&node, "10.0.0.31");
    assert_eq!(datapath::spool::read(&node.run_dir.path().join("spool")).expect("readable").len(), 1);
}

#[test]
fn rules_whose_pods_link_went_first_go_by_what_the_daemon_says() {
    let node = Node::new();
    let daemon = Daemon::start(node.run_dir.path());
    let web = old_pod(&node, WEB_0, "10.0.0.31");
    let _other = old_pod(&node, "eni00000000000", "10.0.0.32");
    ip(&node.place, &[format!("link del {WEB_0}")]);
    // Two addresses, of which one is another pod's by now.
    let addresses = ["10.0.0.31/32", "10.0.0.32/32"].map(|cidr| Address { cidr: cidr.to_owned() });
    let lease = Attachment { addresses: addresses.to_vec(), ..Attachment::default() };
    daemon.ledger().leases.insert(("old".to_owned(), "eth0".to_owned()), lease);
    assert_eq!(node.sandbox("DEL", "old", "web-0", Some(&web)).succeed(), "");
    assert_gone(&node, "10.0.0.31");
    assert_eq!(left(&node).1.matches("10.0.0.32").count(), 2);
}

#[test]
fn a_new_sandbox_of_the_pod_leaves_the_old_one_alone_and_goes_without_it() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let web = old_pod(&node, WEB_0, "10.0.0.31");
    let before = left(&node);
    let result = node.sandbox("ADD", "new", "web-0", Some(&sandbox)).result();
    assert_eq!(node.place.links().len(), 2);
    for _ in 0..2 {
        let del = node.sandbox("DEL", "new", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
        assert_eq!(del.succeed(), "");
        assert_eq!(left(&node), before);
    }
    assert_eq!(node.sandbox("DEL", "old", "web-0", Some(&web)).succeed(), "");
    assert_gone(&node, "10.0.0.31");
}

#[test]
fn without_the_sandboxes_namespace_the_configured_prefix_tells_the_link() {
    let node = Node::new();
    let _daemon = Daemon::start(node.run_dir.path());
    let link = WEB_0.replace("eni", "veth");
    let _web = old_pod(&node, &link, "10.0.0.31");
    node.sandbox("DEL", "old", "web-0", None).succeed();
    assert!(left(&node).0.contains(&link), "another prefix");
    let mut config = node.config("1.0.0");
    config["vethPrefix"] = "veth".into();
    node.sandbox("DEL", "old", "web-0", None).stdin(&config.to_string()).succeed();
    let (links, rules, _) = left(&node);
    assert!(!links.contains(&link) && !rules.contains("10.0.0.31"), "{links}\n{rules}");
}
