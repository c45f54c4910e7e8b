//! `lab up`, `exec`, `fault`, `down`: a lab that a person plays in.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command, Output},
    time::Duration,
};

use lab::{netns::Netns, wait};

/// A prefix of one test; whatever it names is gone afterwards.
struct Prefix(String);

impl Prefix {
    fn new(test: &str) -> Self {
        Self(format!("berth-{test}-{}", process::id()))
    }

    fn lab(&self, args: &str) -> Output {
        let mut words = args.split(' ');
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg(words.next().expect("a command")).args(["--prefix", &self.0]).args(words);
        command.output().expect("lab runs")
    }

    fn succeeds(&self, args: &str) -> String {
        let output = self.lab(args);
        assert!(output.status.success(), "lab {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("lab prints text")
    }

    fn fails(&self, args: &str) -> String {
        let output = self.lab(args);
        assert!(!output.status.success(), "lab {args}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("lab prints text")
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from("/run").join(&self.0)
    }

    fn is_gone(&self) -> bool {
        Netns::with_prefix(&self.0).is_empty()
            && !self.folder().exists()
            && !self.folder().with_extension("log").exists()
    }

    fn holder(&self) -> String {
        let written = fs::read_to_string(self.folder().join("hold.pid")).expect("a lab that is up says who holds it");
        written.split(' ').next().expect("a pid").to_owned()
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.lab("down");
    }
}

#[test]
fn a_lab_stays_up_until_it_is_taken_down() {
    let prefix = Prefix::new("up");
    let said = prefix.succeeds("up --bare --nodes 3 --instance-type m5.large");
    assert!(said.contains("c (m5.large)"), "{said}");

    let links = prefix.succeeds("exec a -- ip -br addr");
    assert!(links.contains("eth0") && links.contains("10.0.0.4/20"), "{links}");
    let environment = prefix.succeeds("exec b -- env");
    assert!(environment.contains(&format!("BERTH_RUN_DIR=/run/{}/b", prefix.0)), "{environment}");
    assert!(environment.contains("AWS_ENDPOINT_URL_EC2=http://127.0.0.1:4566"), "{environment}");
    assert!(prefix.fails("exec d -- true").contains("node d"));

    assert!(prefix.fails("up --bare").contains("is up already"));

    prefix.succeeds("down");
    assert!(prefix.is_gone(), "{:?}", Netns::with_prefix(&prefix.0));
    prefix.succeeds("down");
}

#[test]
fn faults_are_ordered_from_another_process() {
    let prefix = Prefix::new("fault");
    prefix.succeeds("up --bare --nodes 1 --call-latency 1ms");
    let describe = "exec a -- curl -sS -m 5 http://127.0.0.1:4566/ -d Action=DescribeVpcs -d Version=2016-11-15";
    assert!(prefix.succeeds(describe).contains("<DescribeVpcsResponse"));
    prefix.succeeds("fault refuse DescribeVpcs RequestLimitExceeded");
    assert!(prefix.succeeds("fault list").contains("DescribeVpcs"));
    assert!(prefix.succeeds(describe).contains("RequestLimitExceeded"));
    assert!(prefix.succeeds(describe).contains("<DescribeVpcsResponse"));
    prefix.succeeds("fault lose DescribeVpcs --count 0");
    prefix.fails(describe);
    prefix.succeeds("fault clear");
    assert!(prefix.succeeds(describe).contains("<DescribeVpcsResponse"));
    assert!(prefix.succeeds("fault calls").contains("DescribeVpcs"));
    assert!(prefix.fails("fault refuse NoSuchAction Denied").contains("NoSuchAction"));
    prefix.succeeds("down");
    assert!(prefix.fails("fault list").contains("no lab"));
}

#[test]
fn down_clears_up_after_a_killed_lab_and_up_starts_over_one() {
    let prefix = Prefix::new("killed");
    for again in [false, true] {
        prefix.succeeds("up --bare --nodes 1");
        let holder = prefix.holder();
        assert!(Command::new("kill").args(["-9", &holder]).status().expect("kill runs").success());
        let ended = wait::until(Duration::from_secs(10), || {
            let stat = fs::read_to_string(format!("/proc/{holder}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
        assert!(ended.is_some(), "the process {holder} survived SIGKILL");
        assert!(!Netns::with_prefix(&prefix.0).is_empty());
        if again {
            prefix.succeeds("down");
            assert!(prefix.is_gone());
        }
    }
}

#[test]
fn bad_usage_ends_with_64() {
    for args in [&["up", "--nodes", "0"][..], &["frobnicate"], &["exec", "a"], &["up", "--call-latency", "soon"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(args).output().expect("lab runs");
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
