//! The lab's only use of `ip` and `nft`: whole batches, one process each.
//!
//! Never on a path that is measured, and never read to decide anything but what the lab itself prints or breaks.

use std::{
    fs::File,
    io::{Seek, Write},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::netns::Netns;

/// Runs `ip` commands, one a line, in the namespace; stops at the first that fails.
pub(crate) fn ip(netns: &Netns, lines: &str) -> Result<()> {
    if lines.trim().is_empty() {
        return Ok(());
    }
    feed(netns, Command::new("ip").args(["-batch", "-"]), lines)
}

/// The same, going on after failures: for taking things away that may be gone already.
pub(crate) fn ip_tolerant(netns: &Netns, lines: &str) {
    if lines.is_empty() {
        return;
    }
    if let Err(error) = feed(netns, Command::new("ip").args(["-force", "-batch", "-"]), lines) {
        tracing::debug!(netns = netns.name(), error = format!("{error:#}"), "some ip commands failed");
    }
}

/// Loads an nftables script in one transaction.
pub(crate) fn nft(netns: &Netns, script: &str) -> Result<()> {
    if script.trim().is_empty() {
        return Ok(());
    }
    feed(netns, Command::new("nft").args(["-f", "-"]), script)
}

/// What a program printed, when it succeeded.
pub(crate) fn read(netns: &Netns, program: &str, args: &[&str]) -> Result<Vec<u8>> {
    let output = netns.output(Command::new(program).args(args))?;
    check(output, || format!("{program} {}", args.join(" "))).map(|output| output.stdout)
}

/// Puts back what `ip route save` printed. Routes that are still there stay: `ip` takes EEXIST for success here.
pub(crate) fn restore_routes(netns: &Netns, saved: &[u8]) -> Result<()> {
    // ip seeks in its standard input, so a pipe will not do.
    let mut file = File::from(memfd_create("routes", MemfdFlags::CLOEXEC).context("making a file of routes")?);
    file.write_all(saved)?;
    file.rewind()?;
    let output = netns.enter(|| Command::new("ip").args(["route", "restore"]).stdin(file).output())??;
    check(output, || "ip route restore".to_owned()).map(|_| ())
}

/// Runs a program with bytes on its standard input.
fn feed_bytes(netns: &Netns, command: &mut Command, input: &[u8]) -> Result<Output> {
    netns
        .enter(|| {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let mut stdin = child.stdin.take().expect("standard input is piped");
            // A program that ends without reading all its input says why on standard error.
            let written = stdin.write_all(input);
            drop(stdin);
            let output = child.wait_with_output()?;
            if output.status.success() { written.map(|()| output) } else { Ok(output) }
        })?
        .with_context(|| format!("running {command:?} in {}", netns.name()))
}

fn feed(netns: &Netns, command: &mut Command, input: &str) -> Result<()> {
    let output = feed_bytes(netns, command, input.as_bytes())?;
    check(output, || format!("{command:?} in {} with input:\n{input}", netns.name())).map(|_| ())
}

fn check(output: Output, what: impl FnOnce() -> String) -> Result<Output> {
    if !output.status.success() {
        bail!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}
