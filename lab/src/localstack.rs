//! A LocalStack of the lab's: started on free ports of loopback with a directory of its own, found again and ended by its pid.
//!
//! Owns `/run/NAME-localstack` and the process. What LocalStack's EC2 does is not decided here but by the extension in the folder
//! `localstack` of the checkout, which its python brings along.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use serde_json::json;
use sim::{AddressOrder, PrefixShortage, Times};

use crate::{interrupt, node, process::Process, settings::directory_of, wait};

/// A python that has LocalStack and the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python(PathBuf);

/// A running LocalStack. Dropping it ends it.
#[derive(Debug)]
pub struct LocalStack {
    process: Child,
    directory: PathBuf,
    ec2: SocketAddr,
    admin: SocketAddr,
}

/// Where its python's path is looked for.
pub const PYTHON: &str = "BERTH_LOCALSTACK_PYTHON";

/// How long it may take to come up. On a busy machine, and the first time, it takes many seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the kernel may take to end it.
const END: Duration = Duration::from_secs(10);

/// So much of its log is shown when it does not come up.
const TAIL: usize = 30;

impl Python {
    /// The one at this path, which must exist.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        ensure!(
            path.is_file(),
            "{} is no python with LocalStack: localstack/venv.sh makes one and prints its path, which {PYTHON} tells",
            path.display()
        );
        Ok(Self(path))
    }

    /// The one that [`PYTHON`] tells of.
    pub fn of_the_environment() -> Result<Self> {
        let told = std::env::var_os(PYTHON).with_context(|| {
            format!("{PYTHON} is not set: localstack/venv.sh makes a python with LocalStack and prints its path")
        })?;
        Self::at(told)
    }

    /// The one that a script makes, and prints the path of: `localstack/venv.sh`.
    pub fn made_by(script: &Path) -> Result<Self> {
        let mut command = Command::new(script);
        let made = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let made = made.with_context(|| format!("running {}", script.display()))?;
        ensure!(made.status.success(), "{}: {}", script.display(), made.status);
        Self::at(String::from_utf8_lossy(&made.stdout).trim())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl LocalStack {
    /// Starts one and waits until it answers. Ends one that an earlier run left under this name. Where EC2's documentation
    /// leaves something open, it does as `ec2` says.
    pub fn start(python: &Python, name: &str, ec2: &sim::Settings) -> Result<Self> {
        clean(name)?;
        ensure!(!interrupt::ending(), "not starting LocalStack: everything is being taken down");
        let directory = directory_for(name);
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let (gateway, admin) = free_ports()?;
        let log = File::create(directory.join("log")).context("making LocalStack's log")?;
        let mut command = Command::new(&python.0);
        command
            .args(["-m", "localstack.runtime.main"])
            .env_clear()
            .envs(environment(&directory, gateway, admin))
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn().with_context(|| format!("starting LocalStack with {}", python.0.display()))?;
        let mut started = Self { process, directory, ec2: gateway, admin };
        Process::of(&started.process)?.write(&pid_file(name))?;
        started.wait()?;
        ask(admin, "PATCH", "/settings", &settings(ec2).to_string()).context("telling LocalStack its settings")?;
        Ok(started)
    }

    /// Where its EC2 listens.
    pub fn ec2(&self) -> SocketAddr {
        self.ec2
    }

    /// Where its extension tells the truth.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    fn wait(&mut self) -> Result<()> {
        let mut last = String::new();
        let up = wait::until(PATIENCE, || match self.process.try_wait() {
            Ok(None) => match ask(self.admin, "GET", "/health", "").and_then(|_| Ok(TcpStream::connect(self.ec2)?)) {
                Ok(_) => Some(Ok(())),
                Err(error) => {
                    last = format!("{error:#}");
                    None
                }
            },
            Ok(Some(status)) => Some(Err(anyhow!("it ended with {status}"))),
            Err(error) => Some(Err(error.into())),
        });
        let up = up.unwrap_or_else(|| Err(anyhow!("nothing after {PATIENCE:?} ({last})")));
        up.with_context(|| format!("LocalStack did not come up; its log ends:\n{}", self.log_tail()))
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        // It has nothing to save. Ended already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Err(error) = remove(&self.directory) {
            tracing::error!(error = format!("{error:#}"), "LocalStack left something behind");
        }
    }
}

/// Ends the LocalStack of this name, whoever started it, and removes its files.
pub(crate) fn clean(name: &str) -> Result<()> {
    if let Some(left) = Process::in_file(&pid_file(name)) {
        // It may end by itself meanwhile.
        let _ = left.signal(Signal::KILL);
        if wait::until(END, || (!left.lives()).then_some(())).is_none() {
            bail!("LocalStack, process {}, does not end", left.number());
        }
        tracing::debug!(pid = left.number(), "ended a LocalStack that was left");
    }
    remove(&directory_for(name))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn directory_for(name: &str) -> PathBuf {
    directory_of(&format!("{name}-localstack"))
}

fn pid_file(name: &str) -> PathBuf {
    directory_for(name).join("pid")
}

/// Two ports that nobody listens at now.
fn free_ports() -> Result<(SocketAddr, SocketAddr)> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port of loopback");
    let (one, other) = (listen()?, listen()?);
    Ok((one.local_addr()?, other.local_addr()?))
}

/// Hypercorn, because LocalStack's other server listens on every address of the machine, whatever it is told.
fn environment(directory: &Path, ec2: SocketAddr, admin: SocketAddr) -> Vec<(String, String)> {
    let root = directory.join("root").display().to_string();
    let inherited =
        ["PATH", "HOME", "XDG_CACHE_HOME"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let own = [
        ("SERVICES", "ec2,sts,iam".to_owned()),
        ("GATEWAY_SERVER", "hypercorn".to_owned()),
        ("GATEWAY_LISTEN", ec2.to_string()),
        ("SKIP_SSL_CERT_DOWNLOAD", "1".to_owned()),
        ("DISABLE_EVENTS", "1".to_owned()),
        ("OVERRIDE_IN_DOCKER", "0".to_owned()),
        ("FILESYSTEM_ROOT", root),
        ("BERTH_EC2_ADMIN", admin.to_string()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ];
    inherited.chain(own).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What the extension calls them (`localstack/README.md`).
fn settings(ec2: &sim::Settings) -> serde_json::Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let Times { create, attach, device, detach, forced_detach, unplug, start, stop } = ec2.times;
    json!({
        "times": {
            "create": ms(create), "attach": ms(attach), "device": ms(device), "detach": ms(detach),
            "forced_detach": ms(forced_detach), "unplug": ms(unplug), "start": ms(start), "stop": ms(stop),
        },
        "address_order": match ec2.address_order {
            AddressOrder::NextFit => "next_fit",
            AddressOrder::FirstFit => "first_fit",
        },
        "prefix_shortage": match ec2.prefix_shortage {
            PrefixShortage::FreeAddresses => "free_addresses",
            PrefixShortage::Parameter => "parameter",
        },
        "eni_quota": ec2.eni_quota,
    })
}

/// Asks the extension's listener.
fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Result<String> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let (status, answer) = node::exchange(TcpStream::connect(admin), admin, &request)?;
    ensure!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    Ok(answer)
}
