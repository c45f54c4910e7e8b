//! VERSION, STATUS, GC, and the call without a verb.

use crate::node::Node;

#[test]
fn version_names_what_is_supported_in_the_version_it_was_asked_in() {
    let node = Node::new();
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let text = node.call("VERSION").stdin(&format!(r#"{{"cniVersion":"{version}"}}"#)).succeed();
        assert_eq!(text, format!(r#"{{"cniVersion":"{version}","supportedVersions":["0.4.0","1.0.0","1.1.0"]}}"#));
    }
    let latest = r#"{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}"#;
    assert_eq!(node.call("VERSION").stdin("").succeed(), latest);
    assert_eq!(node.call("VERSION").stdin(r#"{"cniVersion":"9.9.9"}"#).succeed(), latest);
    assert_eq!(node.call("VERSION").stdin("{").fail().0, 6);
    // podman fills the other variables with nonsense.
    let podman = node.call("VERSION").with("CNI_IFNAME", "dummy").with("CNI_NETNS", "dummy").stdin("{}");
    assert_eq!(podman.succeed(), latest);
}

#[test]
fn without_a_verb_the_version_goes_to_stderr_and_nothing_to_stdout() {
    let node = Node::new();
    let output = node.call("").without("CNI_COMMAND").run();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), [].as_slice()));
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text, "berth-cni 0.0.0\nCNI protocol versions supported: 0.4.0, 1.0.0, 1.1.0\n");
}

#[test]
fn status_is_code_50_until_the_daemon_was_ready_once_in_this_boot() {
    let node = Node::new();
    let status = || node.call("STATUS").config("1.1.0", None);
    let sign = node.run_dir.path().join("ready-once");
    assert_eq!(status().fail().0, 50);
    std::fs::write(&sign, "another boot\n").expect("written");
    assert_eq!(status().fail().0, 50);
    std::fs::write(&sign, "").expect("written");
    assert_eq!(status().fail().0, 50);
    std::fs::copy("/proc/sys/kernel/random/boot_id", &sign).expect("written");
    // There is no daemon at all, and that does not matter.
    assert_eq!(status().succeed(), "");
}

#[test]
fn gc_does_nothing_and_succeeds() {
    let node = Node::new();
    let mut config = node.config("1.1.0");
    config["cni.dev/valid-attachments"] = serde_json::json!([{"containerID": "c1", "ifname": "eth0"}]);
    assert_eq!(node.call("GC").stdin(&config.to_string()).succeed(), "");
}

#[test]
fn status_and_gc_are_code_1_before_1_1_0() {
    let node = Node::new();
    for (verb, version) in [("STATUS", "1.0.0"), ("STATUS", "0.4.0"), ("GC", "1.0.0"), ("GC", "0.4.0")] {
        assert_eq!(node.call(verb).config(version, None).fail().0, 1, "{verb} {version}");
    }
}
