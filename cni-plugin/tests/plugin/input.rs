//! Input that cannot be right: an error object with the right code, and nothing done.

use serde_json::json;

use crate::daemon::Daemon;
use crate::node::{Node, Place};

/// A container id, a name and a namespace that would do.
fn refuse_each(cases: &[(&str, &str, u64, &str)]) {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    for (variable, value, code, text) in cases {
        for verb in ["ADD", "CHECK"] {
            let call = node.sandbox(verb, "c1", "web-0", Some(&sandbox)).with(variable, value);
            let (found, message) = call.fail();
            assert_eq!((found, message.contains(text)), (*code, true), "{verb} {variable}={value:?}: {message}");
        }
    }
    assert!(daemon.ledger().allocates.is_empty(), "the daemon was asked");
    node.assert_bare();
}

#[test]
fn stdin_that_is_no_configuration_is_code_6() {
    let (mut node, sandbox) = (Node::new(), Place::new());
    let daemon = Daemon::start(node.run_dir.path());
    let whole = node.config("1.0.0").to_string();
    let half = &whole[..whole.len() / 2];
    for text in ["", " \n", "garbage", half, "[]", "\"text\"", "null", r#"{"cniVersion":1}"#, "\u{0}\u{1}"] {
        for verb in ["ADD", "DEL", "CHECK"] {
            let (code, message) = node.sandbox(verb, "c1", "web-0", Some(&sandbox)).stdin(text).fail();
            assert_eq!(code, 6, "{verb} {text:?}: {message}");
        }
    }
    assert!(daemon.ledger().allocates.is_empty() && daemon.ledger().releases.is_empty());
    node.assert_bare();
}

#[test]
fn a_version_that_is_not_supported_is_code_1() {
    let (node, sandbox) = (Node::new(), Place::new());
    for version in ["0.2.0", "0.3.1", "1.2.0", "9.9.9", "", "one"] {
        let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).config(version, None).fail();
        assert_eq!((code, message.contains("supported: 0.4.0, 1.0.0, 1.1.0")), (1, true), "{message}");
    }
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).stdin(r#"{"name":"berth"}"#).fail();
    assert_eq!((code, message.contains("cniVersion is missing")), (1, true), "{message}");
}

#[test]
fn a_configuration_that_cannot_work_is_code_7() {
    let (node, sandbox) = (Node::new(), Place::new());
    for (field, value) in
        [("name", json!("")), ("name", json!(null)), ("runDir", json!("relative")), ("vethPrefix", json!("five5"))]
    {
        let mut config = node.config("1.0.0");
        config[field] = value;
        let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).stdin(&config.to_string()).fail();
        assert_eq!((code, message.contains(field)), (7, true), "{message}");
    }
}

#[test]
fn a_field_that_asks_for_somebody_elses_addresses_is_code_2() {
    let (node, sandbox) = (Node::new(), Place::new());
    let mut config = node.config("1.0.0");
    config["ipam"] = json!({"type": "host-local"});
    let (code, message) = node.sandbox("ADD", "c1", "web-0", Some(&sandbox)).stdin(&config.to_string()).fail();
    assert_eq!((code, message.contains("ipam") && message.contains("host-local")), (2, true), "{message}");
}

#[test]
fn missing_variables_are_code_4_and_all_named() {
    let node = Node::new();
    let (code, message) = node.call("ADD").fail();
    assert_eq!((code, message.as_str()), (4, "missing CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"));
    let (code, message) = node.call("DEL").fail();
    assert_eq!((code, message.as_str()), (4, "missing CNI_CONTAINERID, CNI_IFNAME"));
    let (code, message) = node.sandbox("CHECK", "c1", "web-0", None).fail();
    assert_eq!((code, message.as_str()), (4, "missing CNI_NETNS"));
}

#[test]
fn malformed_variables_are_code_4_and_named() {
    refuse_each(&[
        ("CNI_CONTAINERID", "-begins-with-a-dash", 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "has space", 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "has/slash", 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "ümlaut", 4, "CNI_CONTAINERID"),
        ("CNI_IFNAME", "sixteen-bytes-xx", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "..", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "a/b", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "a:b", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "a b", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "eth%d", 4, "CNI_IFNAME"),
        ("CNI_ARGS", "K8S_POD_NAME", 4, "CNI_ARGS"),
        ("CNI_ARGS", "K8S_POD_NAME=a b", 4, "CNI_ARGS"),
        ("CNI_COMMAND", "add", 4, "CNI_COMMAND"),
        ("CNI_COMMAND", "DESTROY", 4, "CNI_COMMAND"),
    ]);
}

#[test]
fn a_namespace_that_is_not_there_or_is_none_is_code_4_and_named() {
    let mut node = Node::new();
    let daemon = Daemon::start(node.run_dir.path());
    for path in ["/nowhere/at/all", "/proc/self/status", "/proc/self/ns/uts", "/"] {
        let call = node.sandbox("ADD", "c1", "web-0", None).with("CNI_NETNS", path);
        let (code, message) = call.fail();
        assert_eq!((code, message.contains("CNI_NETNS")), (4, true), "{path}: {message}");
    }
    assert!(daemon.ledger().allocates.is_empty(), "the daemon was asked");
    node.assert_bare();
}
