//! Where the log goes.
//!
//! Owns the one subscriber: stderr, as JSON unless a person reads it. `RUST_LOG` goes before the configured level; it is read as
//! `target=level` parts with commas between them, without the spans and regular expressions of tracing's `EnvFilter`, whose code alone
//! would be half a megabyte of the daemon's memory.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{
    Layer as _,
    filter::{ParseError, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::LogLevel;

/// Our own crates; what libraries say below a warning is theirs.
const OURS: [&str; 5] = ["ipamd", "node", "pool", "datapath", "cloud_aws"];

/// Starts logging, once. An unusable `RUST_LOG` is the error.
pub fn start(level: LogLevel) -> Result<(), ParseError> {
    let asked = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = filter(asked.as_deref(), level)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let lines = if stderr().is_terminal() { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    // A second start keeps the first subscriber.
    drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
    Ok(())
}

fn filter(asked: Option<&str>, level: LogLevel) -> Result<Targets, ParseError> {
    let default = || OURS.map(|name| format!("{name}={}", level.name())).join(",") + ",warn";
    asked.map_or_else(default, str::to_owned).parse()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_configured_level_is_for_our_own_crates_and_rust_log_goes_before_it() {
        let ours = filter(None, LogLevel::Debug).expect("a filter");
        assert!(ours.would_enable("node::run", &Level::DEBUG) && !ours.would_enable("hyper", &Level::INFO));
        assert!(ours.would_enable("hyper", &Level::WARN));
        let asked = filter(Some("hyper=trace"), LogLevel::Debug).expect("a filter");
        assert!(asked.would_enable("hyper", &Level::TRACE) && !asked.would_enable("node::run", &Level::ERROR));
        assert!(filter(Some("hyper=loud"), LogLevel::Info).is_err());
    }
}
