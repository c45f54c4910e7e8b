//! The built program, as an operator and an init system meet it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use datapath::netns::Netns;
use rustix::process::{Pid, Signal, kill_process};

/// Everything here ends within this.
const PATIENCE: Duration = Duration::from_secs(20);

fn ipamd(settings: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipamd"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(settings.iter().copied()).args(arguments).stdin(Stdio::null());
    command
}

fn run(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    ipamd(settings, arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_bad_configuration_ends_with_64_and_every_mistake() {
    let output = run(&[("WARM_IP_TARGET", "many"), ("ENABLE_IPv6", "true")], &["--max-eni", "none"]);
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stderr);
    for named in ["WARM_IP_TARGET=\"many\"", "ENABLE_IPv6=\"true\"", "MAX_ENI=\"none\""] {
        assert!(said.contains(named), "{named} is not in:\n{said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(run(&[], &["--no-such-flag"]).status.code(), Some(64));
    assert_eq!(run(&[("RUST_LOG", "ipamd=loud")], &[]).status.code(), Some(64));
}

#[test]
fn check_config_prints_the_effective_configuration_and_a_flag_goes_before_the_environment() {
    let output = run(&[("WARM_IP_TARGET", "3"), ("MAX_ENI", "2")], &["--check-config", "--warm-ip-target=5"]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    assert!(
        said.lines().any(|line| line == "WARM_IP_TARGET=5") && said.lines().any(|line| line == "MAX_ENI=2"),
        "{said}"
    );
    assert_eq!(text(&output.stderr), "");
    let misspelt = run(&[("BERTH_SHRINKAFTER", "5m")], &["--check-config"]);
    assert!(misspelt.status.success());
    assert_eq!(
        text(&misspelt.stderr),
        "BERTH_SHRINKAFTER is no variable of this version; is BERTH_SHRINK_AFTER meant?\n"
    );
    assert!(text(&run(&[], &["--version"]).stdout).starts_with("ipamd "));
}

#[test]
fn a_run_directory_that_cannot_be_used_is_named() {
    let output = run(&[("BERTH_RUN_DIR", "/proc/nowhere")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/proc/nowhere"), "{}", text(&output.stderr));
}

#[test]
fn without_nft_the_daemon_ends_and_says_what_it_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let netns = Netns::create().expect("a namespace");
    let mut command = ipamd(&[("PATH", "/nowhere"), ("DISABLE_METRICS", "true")], &[]);
    command.env("BERTH_RUN_DIR", dir.path());
    let output = netns.run(|| command.output()).expect("the namespace").expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("could not use nft"), "{}", text(&output.stderr));
}

/// A daemon on a node where neither metadata nor EC2 answers.
struct Daemon {
    child: Child,
    netns: Netns,
}

impl Daemon {
    fn start(dir: &Path) -> Self {
        let netns = Netns::create().expect("a namespace");
        let settings =
            [("BERTH_KUBERNETES", "off"), ("BERTH_METRICS_BIND", "127.0.0.1:61678"), ("BERTH_EARLY_RESUE", "true")];
        let mut command = ipamd(&settings, &[]);
        command.env("BERTH_RUN_DIR", dir).env("BERTH_STATE_DIR", dir.join("state")).stderr(Stdio::piped());
        let child = netns.run(|| {
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip runs");
            assert!(up.success());
            command.spawn().expect("the program starts")
        });
        Self { child: child.expect("the namespace"), netns }
    }

    /// Status and body of a page.
    fn get(&self, page: &str) -> Option<(u16, String)> {
        let connected = self.netns.run(|| TcpStream::connect("127.0.0.1:61678")).expect("the namespace");
        let mut stream = connected.ok()?;
        write!(stream, "GET {page} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn until(&self, page: &str, met: impl Fn(u16, &str) -> bool) {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < PATIENCE {
            last = self.get(page);
            if last.as_ref().is_some_and(|(status, body)| met(*status, body)) {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{page} still says {last:?}");
    }

    fn stop(mut self) -> (Option<i32>, Duration, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it lives");
        let began = Instant::now();
        let status = self.child.wait().expect("it ends");
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        (status.code(), began.elapsed(), log)
    }
}

#[test]
fn without_metadata_the_daemon_lives_says_why_it_is_not_ready_and_stops_when_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(dir.path());
    daemon.until("/livez", |status, _| status == 200);
    daemon.until("/readyz", |status, body| status == 503 && body.starts_with("CloudUnreachable: instance metadata"));
    daemon.until("/metrics", |status, body| status == 200 && body.contains("berth_build_info"));
    assert!(dir.path().join("alive").exists() && !dir.path().join("ready-once").exists());

    let second = run(&[("BERTH_RUN_DIR", dir.path().to_str().expect("text"))], &[]);
    assert_eq!(second.status.code(), Some(1));
    let holder = format!("process {}", daemon.child.id());
    assert!(text(&second.stderr).contains(&holder), "{}", text(&second.stderr));

    let (code, after, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(after < Duration::from_secs(10), "{after:?}");
    assert!(!dir.path().join("ipamd.sock").exists());
    let misspelt: Vec<_> = log.lines().filter(|line| line.contains("a variable is not known")).collect();
    let [line] = misspelt[..] else { panic!("one line about the misspelt variable:\n{log}") };
    assert!(
        line.contains("BERTH_EARLY_RESUE") && line.contains("BERTH_EARLY_REUSE") && line.contains("WARN"),
        "{line}"
    );
    assert!(log.lines().all(|line| line.starts_with('{')), "JSON, since no person reads it:\n{log}");
}
