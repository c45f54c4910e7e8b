//! Hands a transaction to `nft`.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use super::{Table, render};

/// Why the table could not be replaced. The one that was in force still is.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is missing, or could not be talked to.
    #[error("running nft")]
    Run(#[source] io::Error),
    /// It refused.
    #[error("nft refused the table: {0}")]
    Refused(String),
}

/// Replaces Berth's table in the namespace of the calling thread.
pub fn apply(table: &Table) -> Result<(), NftError> {
    run(&table.to_json())
}

/// Removes Berth's table; nothing happens when it is not there.
pub fn remove() -> Result<(), NftError> {
    run(&serde_json::to_string(&render::removal()).expect("a ruleset of plain structs serialises"))
}

fn run(json: &str) -> Result<(), NftError> {
    let mut process = Command::new("nft")
        .args(["-j", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftError::Run)?;
    let written = process.stdin.take().expect("stdin is piped").write_all(json.as_bytes());
    let output = process.wait_with_output().map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(NftError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    written.map_err(NftError::Run)
}
