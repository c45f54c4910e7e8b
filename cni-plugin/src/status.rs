//! STATUS: can ADDs be served?
//!
//! Says no only until the daemon has been ready once since the node booted. Never for a lack of addresses or a daemon that is
//! down: a runtime that is told so takes the node out of service, and the node loses the pods that run.

use crate::boot;
use crate::failure::{Code, Failure};
use crate::request::Config;

pub(crate) fn status(config: &Config) -> Result<(), Failure> {
    let sign = config.run_dir.join("ready-once");
    let boot_id = std::fs::read_to_string(&sign).unwrap_or_default();
    if !boot_id.trim().is_empty() && boot_id.trim() == boot::boot_id() {
        return Ok(());
    }
    let message = format!("ipamd has not been ready since the node booted: {} does not say so", sign.display());
    Err(Failure::new(Code::NotAvailable, message))
}
