//! EC2 alone, in a hurry, for clients to try: `cargo run -p lab --example ec2 -- 127.0.0.1:5100`.

use std::time::Duration;

use lab::{trouble::Faults, world::Settings};
use sim::Times;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5100".to_owned()).parse()?;
    // Long enough for a client to see every state, short enough to wait for.
    let times = Times {
        create: Duration::from_millis(50),
        attach: Duration::from_millis(300),
        device: Duration::from_millis(300),
        detach: Duration::from_millis(300),
        forced_detach: Duration::from_millis(50),
        unplug: Duration::from_millis(100),
        start: Duration::from_millis(100),
        stop: Duration::from_millis(200),
    };
    let settings = Settings { ec2: sim::Settings { times, ..sim::Settings::default() }, ..Settings::default() };
    Ok(lab::proxy::run(address, None, settings, Faults::default()).await?)
}
