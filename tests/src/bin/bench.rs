//! `bench`: the figures of `make bench`.

use std::io;

use anyhow::Result;
use clap::Parser as _;
use tests::bench::{Options, run};

fn main() -> Result<()> {
    let options = Options::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    run(&options)
}
