//! CHECK: right, and wrong in every way.

use datapath::wire::request::{Change, LinkSetting};

use crate::daemon::Daemon;
use crate::node::{Node, Place};

#[test]
fn check_is_silent_when_all_is_right_and_names_what_is_not() {
    let (mut node, mut sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    let check = |node: &Node, sandbox: &Place| {
        let call = node.sandbox("CHECK", "c1", "web-0", Some(sandbox)).config("1.0.0", Some(&result));
        let output = call.run();
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    assert_eq!(check(&node, &sandbox), (true, String::new()));

    let link = sandbox.links().remove(0);
    sandbox.change([Change::set_link(link.index, [LinkSetting::Down])]);
    let (fine, text) = check(&node, &sandbox);
    assert!(!fine && text.contains(r#""code":100"#) && text.contains("eth0 is not up"), "{text}");
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).succeed();
    assert_eq!(check(&node, &sandbox), (true, String::new()));

    let routes = node.place.socket.own_routes().expect("listed");
    node.place.change(routes.iter().map(Change::delete_route));
    let (fine, text) = check(&node, &sandbox);
    assert!(!fine && text.contains("route 10.0.0.101/32") && text.contains("missing on the node"), "{text}");
    node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).succeed();

    // Without the daemon the runtime's memory has to do, and it does.
    drop(daemon);
    assert_eq!(check(&node, &sandbox), (true, String::new()));
    node.place.change(routes.iter().map(Change::delete_route));
    let (fine, text) = check(&node, &sandbox);
    assert!(!fine && text.contains("missing on the node"), "{text}");
}

#[test]
fn check_needs_a_result_and_a_lease_and_that_they_agree() {
    let (node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    let mut result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    assert_eq!(node.sandbox("CHECK", "c1", "web-0", Some(&sandbox)).fail().0, 7);
    result["ips"][0]["address"] = "10.0.0.77/32".into();
    let (code, text) = node.sandbox("CHECK", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result)).fail();
    assert_eq!((code, text.contains("prevResult says 10.0.0.77/32")), (100, true), "{text}");
    daemon.ledger().leases.clear();
    let (code, text) = node.sandbox("CHECK", "c1", "web-0", Some(&sandbox)).config("1.0.0", Some(&result)).fail();
    assert_eq!((code, text.starts_with("UnknownSandbox")), (118, true), "{text}");
}

#[test]
fn check_does_not_take_a_missing_or_foreign_link_for_the_pods() {
    let (node, sandbox, empty) = (Node::new(), Place::new(), Place::new());
    let _daemon = Daemon::start(node.run_dir.path());
    let result = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).result();
    let (code, text) = node.sandbox("CHECK", "c1", "web-0", Some(&empty)).config("1.0.0", Some(&result)).fail();
    assert_eq!((code, text.contains("there is no link eth0")), (100, true), "{text}");
    let (code, text) = node.sandbox("CHECK", "c2", "web-0", Some(&sandbox)).config("1.0.0", Some(&result)).fail();
    assert_eq!((code, text.contains("eth0 is not this container's")), (100, true), "{text}");
}
