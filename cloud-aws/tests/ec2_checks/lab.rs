//! The lab's EC2 as a program of its own: `lab` is not this crate's to name.

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A running EC2. It ends with this value.
pub struct Lab {
    /// Where it answers.
    pub endpoint: String,
    _program: Child,
}

/// Builds it, unless it is built, and waits until it listens.
pub async fn start() -> io::Result<Lab> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a temporary directory is inside the target directory");
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--package", "lab", "--example", "ec2", "--target-dir"]).arg(target);
    if !build.stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR")).status().await?.success() {
        return Err(io::Error::other("the lab's EC2 cannot be built"));
    }
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut program = Command::new(target.join("debug/examples/ec2"))
        .arg(address.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
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
    Ok(Lab { endpoint: format!("http://{address}"), _program: program })
}
