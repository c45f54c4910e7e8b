//! Where the log goes.
//!
//! Owns the one subscriber: stderr, as JSON unless a person reads it. `RUST_LOG` goes before the configured level.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogLevel;

/// Starts logging, once. An unusable `RUST_LOG` is the error.
pub fn start(level: LogLevel) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = match std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()) {
        Some(text) => EnvFilter::try_new(text)?,
        // What libraries say below a warning is theirs.
        None => {
            EnvFilter::try_new(format!("warn,ipamd={0},node={0},pool={0},datapath={0},cloud_aws={0}", level.name()))?
        }
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = if stderr().is_terminal() { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    // A second start keeps the first subscriber.
    drop(tracing_subscriber::registry().with(filter).with(lines).try_init());
    Ok(())
}
