//! ADD: wired, wired again, wired beside others, and not wired at all.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use datapath::link::Link;
use datapath::wire::request::{Change, VethPair};
use proto::v1::Reason;
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::node::{Node, Place};

/// The parts of a result that differ from run to run.
fn without_path(mut result: Value) -> Value {
    result["interfaces"][1]["sandbox"] = json!("NETNS");
    result
}

#[test]
fn the_result_has_the_shape_of_each_version() {
    for (version, expected) in [
        (
            "0.4.0",
            expect_test::expect![[
                r#"{"cniVersion":"0.4.0","interfaces":[{"name":"eni0d7763386da","mac":"f2:35:a5:7c:06:c4"},{"name":"eth0","mac":"76:8e:22:68:33:74","sandbox":"NETNS"}],"ips":[{"version":"4","interface":1,"address":"10.0.0.101/32","gateway":"169.254.1.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
            ]],
        ),
        (
            "1.0.0",
            expect_test::expect![[
                r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eni0d7763386da","mac":"f2:35:a5:7c:06:c4"},{"name":"eth0","mac":"76:8e:22:68:33:74","sandbox":"NETNS"}],"ips":[{"interface":1,"address":"10.0.0.101/32","gateway":"169.254.1.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
            ]],
        ),
        (
            "1.1.0",
            expect_test::expect![[
                r#"{"cniVersion":"1.1.0","interfaces":[{"name":"eni0d7763386da","mac":"f2:35:a5:7c:06:c4","mtu":9001},{"name":"eth0","mac":"76:8e:22:68:33:74","mtu":9001,"sandbox":"NETNS"}],"ips":[{"interface":1,"address":"10.0.0.101/32","gateway":"169.254.1.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
            ]],
        ),
    ] {
        let (node, sandbox) = (Node::new(), Place::new());
        let _daemon = Daemon::start(node.run_dir.path());
        let text = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).config(version, None).succeed();
        expected.assert_eq(&text.replace(&sandbox.path().display().to_string(), "NETNS"));
    }
}

#[test]
fn the_daemon_is_told_who_asks() {
    let (node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    let mut config = node.config("1.0.0");
    config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {"a": "b"}});
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).stdin(&config.to_string()).succeed();
    let ledger = daemon.ledger();
    let [asked] = ledger.allocates.as_slice() else { panic!("{:?}", ledger.allocates) };
    let pod = asked.pod.clone().unwrap_or_default();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("default", "web-0", "u-1"));
    assert_eq!(asked.netns, sandbox.path().display().to_string());
    assert_eq!(asked.annotations.get("a").map(String::as_str), Some("b"));
    assert!(asked.started_boottime_ns > 0 && (45_000..60_000).contains(&asked.deadline_ms), "{asked:?}");
}

#[test]
fn the_same_add_twice_gives_the_same_answer_and_leaves_the_link_alone() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let first = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    let (host, pod) = (node.place.links(), sandbox.links());
    let second = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    assert_eq!(first, second);
    assert_eq!((node.place.links(), sandbox.links()), (host, pod));
}

#[test]
fn the_same_add_mends_what_is_missing() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let first = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    let routes = node.place.socket.own_routes().expect("listed");
    node.place.change(routes.iter().map(Change::delete_route));
    assert_eq!(node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result(), first);
    assert_eq!(node.place.socket.own_routes().expect("listed"), routes);
}

#[test]
fn an_add_that_fails_for_a_pod_that_lives_costs_it_neither_link_nor_address() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).succeed();
    let before = node.place.links();
    // An answer that the plugin cannot use.
    let held = ("c1".to_owned(), "eth0".to_owned());
    daemon.ledger().leases.get_mut(&held).expect("a lease").addresses.clear();
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.contains("ipamd answered with")), (11, true), "{message}");
    assert_eq!(node.place.links(), before);
    assert!(daemon.ledger().releases.is_empty());
}

#[test]
fn a_link_of_a_lease_that_is_not_held_any_more_is_made_anew() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).succeed();
    daemon.ledger().leases.clear();
    let second = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    assert_eq!(second["ips"][0]["address"], "10.0.0.102/32");
    let link = sandbox.links().remove(0);
    let held: Vec<_> = sandbox.socket.addresses(link.index).expect("listed");
    assert_eq!(held.iter().filter(|net| net.addr().is_ipv4()).count(), 1, "{held:?}");
    assert_eq!(node.place.links().len(), 1);
}

#[test]
fn a_container_with_a_very_long_id_is_found_again() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let long = "c".repeat(300);
    let first = node.sandbox("ADD", &long, "web-0", Some(&sandbox)).result();
    assert_eq!(node.sandbox("ADD", &long, "web-0", Some(&sandbox)).result(), first);
    assert_eq!(node.sandbox("DEL", &long, "web-0", None).succeed(), "");
    assert_eq!(sandbox.link_names(), [""; 0]);
    node.assert_bare();
}

#[test]
fn a_second_sandbox_of_a_pod_does_not_take_the_firsts_network() {
    let (mut node, old, new) = (Node::new(), Place::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let first = node.sandbox("ADD", "c1", "web-0", Some(&old)).result();
    let second = node.sandbox("ADD", "c2", "web-0", Some(&new)).result();
    assert_eq!(first["interfaces"][0]["name"], second["interfaces"][0]["name"]);
    assert_eq!(node.place.links().len(), 2);
    assert_eq!(node.sandbox("CHECK", "c1", "web-0", Some(&old)).config("1.0.0", Some(&first)).succeed(), "");
    assert_eq!(node.sandbox("CHECK", "c2", "web-0", Some(&new)).config("1.0.0", Some(&second)).succeed(), "");

    // The first one's result names what is now the second one's link; its DEL must not take it.
    node.sandbox("DEL", "c1", "web-0", Some(&old)).config("1.0.0", Some(&first)).succeed();
    assert_eq!(node.sandbox("CHECK", "c2", "web-0", Some(&new)).config("1.0.0", Some(&second)).succeed(), "");
    assert_eq!(node.place.links().len(), 1);
}

#[test]
fn an_interface_name_taken_by_something_else_is_refused_before_the_daemon_is_asked() {
    let (mut node, mut sandbox, other) = (Node::new(), Place::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    sandbox.change([Change::create_veth(&VethPair {
        host: Link { name: "eth0".to_owned(), index: 7 },
        host_mac: "02:00:00:00:00:01".parse().expect("a MAC"),
        group: 0,
        pod: Link { name: "x".to_owned(), index: 7 },
        pod_mac: "02:00:00:00:00:02".parse().expect("a MAC"),
        netns: &other.netns,
        mtu: None,
    })]);
    let before = sandbox.links();
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.contains("CNI_IFNAME: eth0 is taken")), (4, true), "{message}");
    assert!(daemon.ledger().allocates.is_empty(), "the daemon was asked");
    assert_eq!(sandbox.links(), before);
    node.assert_bare();
}

#[test]
fn another_containers_link_in_the_sandbox_is_not_ours_either() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).succeed();
    let before = (node.place.links(), sandbox.links());
    let (code, message) = node.sandbox("ADD", "c2", "web-1", Some(&sandbox)).fail();
    assert_eq!(code, 4, "{message}");
    assert_eq!(daemon.ledger().leases.len(), 1);
    assert_eq!((node.place.links(), sandbox.links()), before);
}

#[test]
fn when_the_kernel_refuses_nothing_is_left_in_kernel_or_pool() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    daemon.ledger().wrong_source = true;
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.contains("adding route 10.0.0.101/32")), (5, true), "{message}");
    assert_eq!(sandbox.link_names(), [""; 0]);
    let ledger = daemon.ledger();
    assert!(ledger.leases.is_empty(), "{ledger:?}");
    // The lease was made after the ADD started: the release must be younger, or it would not be meant.
    assert!(ledger.releases[0].started_boottime_ns > ledger.allocates[0].started_boottime_ns);
    drop(ledger);
    node.assert_bare();
}

#[test]
fn a_refusal_of_the_daemon_reaches_the_runtime_with_its_reason_and_code() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    for (reason, code) in [
        (Reason::SubnetExhausted, 11),
        (Reason::WarmingUp, 11),
        (Reason::LedgerUnavailable, 11),
        (Reason::EniLimit, 104),
        (Reason::ConfigInvalid, 119),
    ] {
        daemon.ledger().refuse = Some(reason);
        let (found, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
        assert_eq!((found, message), (code, format!("{reason:?}: so the test says")));
    }
    node.assert_bare();
}

#[test]
fn an_add_waits_for_a_daemon_that_restarts() {
    let (node, sandbox) = (Node::new(), Place::new());
    let run_dir = node.run_dir.path().to_owned();
    let started = std::thread::scope(|scope| {
        let late = scope.spawn(move || {
            // Not before the plugin has found nobody: its process exists by then.
            std::thread::park_timeout(Duration::from_millis(700));
            Daemon::start(&run_dir)
        });
        let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
        assert_eq!(without_path(result)["ips"][0]["address"], "10.0.0.101/32");
        late.join().expect("started")
    });
    assert_eq!(started.ledger().leases.len(), 1);
}

#[test]
fn an_add_asks_again_when_the_daemon_dies_with_its_request() {
    let (node, sandbox) = (Node::new(), Place::new());
    let run_dir = node.run_dir.path().to_owned();
    let socket = run_dir.join("ipamd.sock");
    let doomed = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let daemon = std::thread::scope(|scope| {
        let next = scope.spawn(move || {
            let (mut connection, _) = doomed.accept().expect("the plugin calls");
            // The request is on its way; it ends without an answer.
            let _ = connection.read(&mut [0; 4096]).expect("it says something");
            drop((connection, doomed));
            std::fs::remove_file(&socket).expect("removed");
            Daemon::start(&run_dir)
        });
        let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
        assert_eq!(result["ips"][0]["address"], "10.0.0.101/32");
        next.join().expect("started")
    });
    assert_eq!(daemon.ledger().allocates.len(), 1);
}

#[test]
fn something_that_is_no_daemon_is_a_daemon_that_is_down() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let listener = std::os::unix::net::UnixListener::bind(node.run_dir.path().join("ipamd.sock")).expect("bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = connection.expect("a call").write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.starts_with("DaemonUnreachable: ")), (11, true), "{message}");
    node.assert_bare();
}

#[test]
fn without_a_daemon_an_add_gives_up_after_five_seconds_and_says_to_try_again() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let start = Instant::now();
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.starts_with("DaemonUnreachable: ")), (11, true), "{message}");
    let waited = start.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(8)).contains(&waited), "{waited:?}");
    node.assert_bare();
}

#[test]
fn a_socket_that_nobody_listens_on_is_a_daemon_that_is_down() {
    let (node, sandbox) = (Node::new(), Place::new());
    let socket = node.run_dir.path().join("ipamd.sock");
    drop(std::os::unix::net::UnixListener::bind(socket).expect("bound"));
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).fail();
    assert_eq!((code, message.starts_with("DaemonUnreachable: ")), (11, true), "{message}");
}

#[test]
fn outside_kubernetes_the_container_stands_for_the_pod() {
    let (node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).without("CNI_ARGS").succeed();
    let pod = daemon.ledger().allocates[0].pod.clone().unwrap_or_default();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("default", "c1"));
}
