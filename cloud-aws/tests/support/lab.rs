//! The lab's EC2 as a program of its own, its fault proxy in front: `lab` is not this crate's to name.
//!
//! Owns its start and its end, and what is asked of the proxy's admin path. Never looks into it in another way.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::{
    env, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    sync::OnceCell,
};

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const ATTEMPTS: u32 = 5;

/// A running EC2. It ends with this value.
pub struct Lab {
    /// Where it answers.
    pub endpoint: String,
    address: SocketAddr,
    _program: Child,
}

/// Builds it, unless it is built, and waits until it listens.
pub async fn start() -> io::Result<Lab> {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let target = target();
    BUILT.get_or_try_init(|| build(&target)).await?;
    let mut outcome = Err(io::Error::other("not tried"));
    for _ in 0..ATTEMPTS {
        outcome = serve(&target.join("debug/examples/ec2")).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The directory that the other tests are built in, where the lab's EC2 is likely to be already: that of this test is one further in
/// when it is built for a target of its own.
fn target() -> PathBuf {
    let inside = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a temporary directory is inside another");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| inside.to_owned(), PathBuf::from)
}

async fn build(target: &Path) -> io::Result<()> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--package", "lab", "--example", "ec2", "--target-dir"]).arg(target);
    if build.stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR")).status().await?.success() {
        Ok(())
    } else {
        Err(io::Error::other("the lab's EC2 cannot be built"))
    }
}

/// Fails when somebody else took the port first.
async fn serve(program: &Path) -> io::Result<Lab> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut program = Command::new(program).arg(address.to_string()).stdin(Stdio::null()).kill_on_drop(true).spawn()?;
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if let Some(status) = program.try_wait()? {
            return Err(io::Error::other(format!("the lab's EC2 ended: {status}")));
        }
        if Instant::now() > end {
            return Err(io::Error::other(format!("the lab's EC2 does not listen at {address} within {PATIENCE:?}")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(Lab { endpoint: format!("http://{address}"), address, _program: program })
}

/// One call of the proxy's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub action: String,
    /// `accepted`, `lost`, or EC2's code.
    pub outcome: String,
    pub token: Option<String>,
}

impl Lab {
    /// Makes trouble: see the lab's admin path for the form of an order.
    pub async fn fault(&self, order: &Value) {
        let (status, body) = self.admin("POST", "faults", &order.to_string()).await;
        assert_eq!(status, 204, "{order}: {body}");
    }

    /// Ends all trouble and forgets the calls so far.
    pub async fn calm(&self) {
        for path in ["faults", "calls"] {
            let (status, body) = self.admin("DELETE", path, "").await;
            assert_eq!(status, 204, "{path}: {body}");
        }
    }

    /// Calls that came, the oldest first.
    pub async fn log(&self) -> Vec<Logged> {
        let (status, body) = self.admin("GET", "log", "").await;
        assert_eq!(status, 200, "{body}");
        let lines: Value = serde_json::from_str(&body).expect("the log is JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lines = lines.as_array().expect("the log is a list").iter();
        lines
            .map(|line| Logged {
                action: text(&line["action"]),
                outcome: text(&line["outcome"]),
                token: line["request"]["ClientToken"].as_str().map(str::to_owned),
            })
            .collect()
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.exchange(method, path, body).await.expect("the lab answers on its admin path")
    }

    async fn exchange(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).await?;
        let length = body.len();
        let request = format!(
            "{method} /_lab/{path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(answer.clone()))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(head.to_owned()))?;
        Ok((status, body.to_owned()))
    }
}

/// An order of this kind for the call after the next `skip` of this action.
pub fn order(action: &str, kind: &str, when: &str, skip: usize) -> Value {
    json!({"action": action, "kind": kind, "when": when, "skip": skip})
}
