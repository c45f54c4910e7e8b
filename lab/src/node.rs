//! A node of the lab: the namespace, the daemon in it, and the pods on it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    host::Host,
    lab::EC2_ADDRESS,
    netns::Netns,
    pods::Pod,
    settings::{NodeSettings, Programs, node_directory},
    wait,
};

/// Where the daemon answers `/readyz` and `/metrics`, inside its node.
const HEALTH: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 61678);

/// How long the daemon may take to become ready, and to stop: it promises ten seconds for the latter.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node. Cheap to clone; clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    prefix: String,
    instance: String,
    instance_type: String,
    region: String,
    host: Host,
    programs: Programs,
}

impl Node {
    pub(crate) fn new(
        prefix: &str,
        settings: &NodeSettings,
        host: Host,
        instance: String,
        region: String,
        programs: Programs,
    ) -> Result<Self> {
        let inner = Inner {
            name: settings.name.clone(),
            prefix: prefix.to_owned(),
            instance,
            instance_type: settings.instance_type.clone(),
            region,
            host,
            programs,
        };
        let directory = node_directory(prefix, &inner.name);
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name it has in the lab: `a`, `b`, ...
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// `i-...`
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// `m5.large`
    pub fn instance_type(&self) -> &str {
        &self.inner.instance_type
    }

    /// The node as traffic knows it: its namespace and primary address.
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.inner.host.netns
    }

    /// The daemon's run directory.
    pub fn run_dir(&self) -> PathBuf {
        node_directory(&self.inner.prefix, &self.inner.name)
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("ipamd.sock")
    }

    /// The daemon's log, of all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The last lines of it.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// What Berth's programs need to know on this node.
    pub fn environment(&self) -> Vec<(String, String)> {
        environment(&self.inner.prefix, &self.inner.name, &self.inner.region)
    }

    /// Starts the daemon and waits until it is ready. `environment` comes on top of [`Node::environment`].
    pub fn start_ipamd(&self, environment: &[(&str, &str)]) -> Result<Ipamd> {
        let mut daemon = self.spawn_ipamd(environment)?;
        daemon.wait_ready(PATIENCE)?;
        Ok(daemon)
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn_ipamd(&self, environment: &[(&str, &str)]) -> Result<Ipamd> {
        let program = self.inner.programs.path("ipamd")?;
        let log =
            File::options().create(true).append(true).open(self.log_path()).context("opening the daemon's log")?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.environment())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = self.netns().enter(|| command.spawn())?.context("starting ipamd")?;
        Ok(Ipamd { node: self.clone(), child })
    }

    /// Runs `ipamctl` on the node.
    pub fn ipamctl(&self, args: &[&str]) -> Result<Output> {
        self.run(Command::new(self.inner.programs.path("ipamctl")?).args(args))
    }

    /// Runs a program in the node with Berth's environment.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        self.netns().output(command.envs(self.environment()))
    }

    /// `GET path` of the daemon's metrics and health port: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.netns(), HEALTH, path)
    }

    /// A pod's sandbox on this node: an empty namespace. [`Pod::add`] wires it.
    pub fn pod(&self, name: &str) -> Result<Pod> {
        Pod::new(self, name)
    }

    /// Where a program of Berth is.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.inner.programs.path(name)
    }

    fn log_path(&self) -> PathBuf {
        self.run_dir().join("ipamd.log")
    }
}

/// What Berth's programs need to know on a node of a lab.
pub(crate) fn environment(prefix: &str, node: &str, region: &str) -> Vec<(String, String)> {
    let directory = node_directory(prefix, node);
    let path = |path: &Path| path.display().to_string();
    [
        ("AWS_ENDPOINT_URL_EC2", format!("http://{EC2_ADDRESS}")),
        ("AWS_REGION", region.to_owned()),
        ("AWS_ACCESS_KEY_ID", "lab".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "lab".to_owned()),
        ("BERTH_KUBERNETES", "off".to_owned()),
        ("BERTH_RUN_DIR", path(&directory)),
        ("BERTH_STATE_DIR", path(&directory.join("state"))),
        ("MY_NODE_NAME", node.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A running daemon. Killed when dropped.
#[derive(Debug)]
pub struct Ipamd {
    node: Node,
    child: Child,
}

impl Ipamd {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` says yes. An error at once when the process ends.
    pub fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        let mut last = String::new();
        let ready = wait::until(patience, || match self.child.try_wait() {
            Ok(None) => match self.node.get("/readyz") {
                Ok((200, _)) => Some(Ok(())),
                Ok((status, body)) => {
                    last = format!("{status} {}", body.trim());
                    None
                }
                Err(error) => {
                    last = format!("{error:#}");
                    None
                }
            },
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("ipamd ended with {status}"))),
            Err(error) => Some(Err(error.into())),
        });
        let tail = || format!("on node {}, whose log ends:\n{}", self.node.name(), self.node.log_tail(20));
        match ready {
            Some(ready) => ready.with_context(tail),
            None => bail!("ipamd was not ready within {patience:?} ({last}) {}", tail()),
        }
    }

    /// How it ended, if it did; killed or by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let ended = wait::until(PATIENCE, || self.child.try_wait().transpose());
        ended.with_context(|| format!("ipamd did not end within {PATIENCE:?} of SIGTERM"))?.context("waiting for ipamd")
    }

    /// SIGKILL: what a crash looks like.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing ipamd")?;
        self.child.wait().context("waiting for ipamd")?;
        Ok(())
    }

    /// SIGSTOP: it repairs nothing until [`Ipamd::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to ipamd"))
    }
}

impl Drop for Ipamd {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A small HTTP client for services inside a namespace: status and body.
pub(crate) fn get(netns: &Netns, at: SocketAddrV4, path: &str) -> Result<(u16, String)> {
    request(netns, at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"))
}

/// The same for any request, given whole; it must ask for the connection to be closed.
pub(crate) fn request(netns: &Netns, at: SocketAddrV4, request: &str) -> Result<(u16, String)> {
    exchange(netns.enter(|| TcpStream::connect_timeout(&at.into(), TIMEOUT))?, at.into(), request)
}

/// The same over a connection.
pub(crate) fn exchange(stream: io::Result<TcpStream>, at: SocketAddr, request: &str) -> Result<(u16, String)> {
    let mut stream = stream.with_context(|| format!("connecting to {at}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).with_context(|| format!("reading from {at}"))?;
    let (head, body) = reply.split_once("\r\n\r\n").context("an HTTP reply has a head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an HTTP reply has a status")?;
    Ok((status, body.to_owned()))
}

/// How long an HTTP server of a lab may take.
const TIMEOUT: Duration = Duration::from_secs(5);
