//! A node to run the plugin on, sandboxes, and calls of the plugin.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use datapath::netns::Netns;
use datapath::wire::read::LinkState;
use datapath::wire::request::{Change, Connected, LinkSetting};
use datapath::wire::{Batch, Socket};
use ipnet::IpNet;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);

/// A namespace with a netlink socket into it.
pub(crate) struct Place {
    pub(crate) netns: Netns,
    pub(crate) socket: Socket,
}

impl Place {
    pub(crate) fn new() -> Self {
        let netns = Netns::create().expect("a network namespace");
        let socket = Socket::open_in(&netns).expect("a netlink socket");
        Self { netns, socket }
    }

    /// A path by which another process can open the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_fd().as_raw_fd()).into()
    }

    pub(crate) fn change(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.socket.send(changes.into_iter().collect()).expect("the kernel agrees");
    }

    pub(crate) fn links(&mut self) -> Vec<LinkState> {
        let mut links = self.socket.links().expect("listed");
        links.retain(|link| link.name != "lo");
        links
    }

    pub(crate) fn link_names(&mut self) -> Vec<String> {
        self.links().into_iter().map(|link| link.name).collect()
    }
}

/// A node with its primary address, and a run directory.
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) run_dir: TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        let mut place = Place::new();
        let primary = IpNet::from(IpAddr::V4(NODE));
        place
            .socket
            .send(Batch::from_iter([
                Change::set_link(1, [LinkSetting::Up]),
                Change::add_address(1, primary, Connected::Yes),
            ]))
            .expect("the node has its address");
        Self { place, run_dir: tempfile::tempdir().expect("a run directory") }
    }

    pub(crate) fn config(&self, version: &str) -> Value {
        json!({"cniVersion": version, "name": "berth", "type": "berth-cni", "runDir": self.run_dir.path()})
    }

    /// Nothing of a pod is left: no link, no route.
    pub(crate) fn assert_bare(&mut self) {
        assert_eq!(self.place.link_names(), [""; 0]);
        assert_eq!(self.place.socket.own_routes().expect("listed"), []);
    }

    pub(crate) fn call(&self, command: &str) -> Call<'_> {
        Call {
            node: self,
            variables: vec![("CNI_COMMAND".to_owned(), command.to_owned()), ("CNI_PATH".to_owned(), "/opt".to_owned())],
            stdin: self.config("1.0.0").to_string(),
        }
    }

    /// ADD, DEL or CHECK of a container's `eth0`, as containerd would call it.
    pub(crate) fn sandbox(&self, command: &str, container: &str, pod: &str, place: Option<&Place>) -> Call<'_> {
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID=u-1");
        let netns = place.map(|place| place.path().display().to_string()).unwrap_or_default();
        self.call(command)
            .with("CNI_CONTAINERID", container)
            .with("CNI_IFNAME", "eth0")
            .with("CNI_NETNS", &netns)
            .with("CNI_ARGS", &arguments)
    }
}

/// One call of the plugin.
pub(crate) struct Call<'a> {
    node: &'a Node,
    variables: Vec<(String, String)>,
    stdin: String,
}

impl Call<'_> {
    /// With a variable, in place of one of that name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    /// With another version of the specification, and the result of the ADD.
    pub(crate) fn config(self, version: &str, previous: Option<&Value>) -> Self {
        let mut config = self.node.config(version);
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        self.stdin(&config.to_string())
    }

    pub(crate) fn run(self) -> Output {
        let spawn = || {
            Command::new(env!("CARGO_BIN_EXE_berth-cni"))
                .env_clear()
                .envs(self.variables)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let mut process = self.node.place.netns.run(spawn).expect("entered").expect("the plugin starts");
        // A plugin that does not read its stdin is no failure of the test.
        let _ = process.stdin.take().expect("piped").write_all(self.stdin.as_bytes());
        process.wait_with_output().expect("it ends")
    }

    /// Succeeds, and prints this.
    pub(crate) fn succeed(self) -> String {
        let output = self.run();
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{}: {stdout}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        stdout
    }

    /// Succeeds, and prints this object.
    pub(crate) fn result(self) -> Value {
        let text = self.succeed();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Fails with this error object and exit code 1; its code and its message.
    pub(crate) fn fail(self) -> (u64, String) {
        let output = self.run();
        let stdout = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(1), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
        let object: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}"));
        let version = object["cniVersion"].as_str().unwrap_or_default();
        assert!(["0.4.0", "1.0.0", "1.1.0"].contains(&version), "{stdout}");
        let text = format!(
            "{} {}",
            object["msg"].as_str().unwrap_or_default(),
            object["details"].as_str().unwrap_or_default()
        );
        (object["code"].as_u64().unwrap_or_else(|| panic!("{stdout}")), text.trim_end().to_owned())
    }
}
