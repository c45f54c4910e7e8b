//! DEL: with and without the sandbox, its result, the daemon.

use serde_json::Value;

use crate::daemon::Daemon;
use crate::node::{Node, Place};

struct Added {
    node: Node,
    sandbox: Place,
    daemon: Daemon,
    result: Value,
}

fn added() -> Added {
    let (node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    Added { node, sandbox, daemon, result }
}

#[test]
fn a_del_removes_everything_and_so_does_nothing_the_second_time() {
    let Added { mut node, mut sandbox, daemon, result } = added();
    for _ in 0..2 {
        let del = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
        assert_eq!(del.succeed(), "");
        assert_eq!(sandbox.link_names(), [""; 0]);
        node.assert_bare();
    }
    let ledger = daemon.ledger();
    assert!(ledger.leases.is_empty());
    assert_eq!(ledger.releases.len(), 2);
    assert_eq!(ledger.releases[0].address, "10.0.0.101");
    assert!(ledger.releases[0].started_boottime_ns > 0);
}

#[test]
fn a_del_needs_neither_netns_nor_prev_result() {
    let Added { mut node, sandbox: _kept, daemon, .. } = added();
    // containerd's second DEL, here as the first.
    assert_eq!(node.sandbox("DEL", "c1", "web-0", None).succeed(), "");
    node.assert_bare();
    assert!(daemon.ledger().leases.is_empty());
}

#[test]
fn a_del_finds_the_link_when_the_namespaces_path_is_gone_or_is_another() {
    for path in ["/nowhere/at/all", "/proc/self/status"] {
        let Added { mut node, sandbox: _kept, daemon, result } = added();
        let del = node.sandbox("DEL", "c1", "web-0", None).with("CNI_NETNS", path).config("1.0.0", Some(&result));
        assert_eq!(del.succeed(), "");
        node.assert_bare();
        assert!(daemon.ledger().leases.is_empty());
    }
    let Added { mut node, sandbox: _kept, .. } = added();
    let other = Place::new();
    assert_eq!(node.sandbox("DEL", "c1", "web-0", Some(&other)).succeed(), "");
    node.assert_bare();
}

#[test]
fn a_del_of_a_container_that_never_was_succeeds_and_touches_nothing() {
    let Added { mut node, sandbox, daemon, result } = added();
    let before = node.place.links();
    // Another container, whose result and names point at the link of the first.
    let del = node.sandbox("DEL", "c2", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    assert_eq!(del.succeed(), "");
    assert_eq!(node.place.links(), before);
    assert_eq!(node.place.socket.own_routes().expect("listed").len(), 1);
    assert_eq!(daemon.ledger().leases.len(), 1);
}

#[test]
fn a_del_copes_with_a_result_that_is_none() {
    for previous in [serde_json::json!("x"), serde_json::json!({"ips": 3}), serde_json::json!({"ips": [{}]})] {
        let Added { mut node, sandbox, .. } = added();
        let del = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&previous));
        assert_eq!(del.succeed(), "");
        node.assert_bare();
    }
}

#[test]
fn with_the_daemon_down_a_del_cleans_the_kernel_and_leaves_a_note() {
    let Added { mut node, mut sandbox, daemon, result } = added();
    drop(daemon);
    let del = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    assert_eq!(del.succeed(), "");
    assert_eq!(sandbox.link_names(), [""; 0]);
    node.assert_bare();
    let left = datapath::spool::read(&node.run_dir.path().join("spool")).expect("readable");
    let [left] = left.as_slice() else { panic!("{left:?}") };
    let entry = left.entry.as_ref().expect("an entry");
    assert_eq!((entry.key.container_id.as_str(), entry.key.ifname.as_str()), ("c1", "eth0"));
    assert_eq!((entry.namespace.as_str(), entry.pod.as_str()), ("default", "web-0"));
    assert_eq!(entry.address, "10.0.0.101");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    assert_eq!(entry.boot_id, boot_id.trim());
    assert!(entry.started_boottime_ns > 0);
}

#[test]
fn a_daemon_that_refuses_a_release_finds_it_in_the_spool() {
    let Added { mut node, sandbox, daemon, result } = added();
    daemon.ledger().refuse = Some(proto::v1::Reason::LedgerUnavailable);
    let del = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    assert_eq!(del.succeed(), "");
    node.assert_bare();
    assert_eq!(datapath::spool::read(&node.run_dir.path().join("spool")).expect("readable").len(), 1);
}

#[test]
fn a_del_that_can_tell_nobody_cleans_the_kernel_and_asks_to_be_tried_again() {
    let Added { mut node, sandbox, daemon, result } = added();
    drop(daemon);
    std::fs::write(node.run_dir.path().join("spool"), "not a directory").expect("written");
    let del = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    let (code, message) = del.fail();
    assert_eq!((code, message.contains("spool")), (11, true), "{message}");
    node.assert_bare();
}

/// A node whose daemon deletes links of this group; here it never does.
const DOOMED: u32 = 7063;

fn handed_over() -> Added {
    let mut added = added();
    added.daemon.ledger().doomed_group = DOOMED;
    let del = added.node.sandbox("DEL", "c1", "web-0", Some(&added.sandbox)).config("1.0.0", Some(&added.result));
    assert_eq!(del.succeed(), "");
    assert_eq!(added.node.place.links().iter().filter(|link| link.group == DOOMED).count(), 1, "handed over");
    assert_eq!(added.node.place.socket.own_routes().expect("listed"), [], "and cut off before");
    added
}

#[test]
fn a_del_hands_the_link_to_the_daemon_and_so_does_the_next_one() {
    let Added { mut node, sandbox, daemon, result } = handed_over();
    let again = node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    assert_eq!(again.succeed(), "");
    assert_eq!(node.place.links().iter().filter(|link| link.group == DOOMED).count(), 1);
    // Without a daemon nobody would come for it.
    drop(daemon);
    assert_eq!(node.sandbox("DEL", "c1", "web-0", Some(&sandbox)).succeed(), "");
    node.assert_bare();
}

#[test]
fn an_add_for_a_sandbox_whose_link_is_about_to_go_makes_a_new_one() {
    let Added { mut node, sandbox, daemon, .. } = handed_over();
    let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    let groups: Vec<_> = node.place.links().into_iter().filter(|link| link.veth).map(|link| link.group).collect();
    assert_eq!(groups, [7002], "the daemon deletes the other group at any moment");
    assert_eq!(node.place.socket.own_routes().expect("listed").len(), 1);
    node.sandbox("CHECK", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result)).succeed();
    drop(daemon);
}

#[test]
fn a_new_sandbox_of_the_pod_has_the_canonical_name_while_the_old_link_is_about_to_go() {
    let Added { node, sandbox: _old, daemon, result } = handed_over();
    let sandbox = Place::new();
    let again = node.sandbox("ADD", "c2", "web-0", Some(&sandbox)).result();
    assert_eq!(again["interfaces"][0]["name"], result["interfaces"][0]["name"]);
    drop(daemon);
}

#[test]
fn a_check_of_a_sandbox_whose_link_is_about_to_go_says_so() {
    let Added { node, sandbox, daemon, result } = handed_over();
    drop(daemon);
    let check = node.sandbox("CHECK", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result));
    let (_, message) = check.fail();
    assert!(message.contains("route"), "{message}");
}
