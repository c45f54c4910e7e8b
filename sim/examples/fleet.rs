//! A thousand nodes that start at once, ours and the peer's, and the day of one node: what `make bench` reads.
//!
//! Owns the paused runtime and how it is told. `fleet seed=N [nodes=N] [pods=N] [share=X] [prefixes]
//! [berth|peer]`, or `fleet day`.

use std::{process::ExitCode, time::Instant};

use sim::fleet::{self, Churning, Fleet, Report, Strategy};

fn main() -> ExitCode {
    let mut fleet = Fleet::thousand(0, false, Strategy::Berth);
    let (mut day, mut only, mut share) = (false, None, None);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("seed", seed)) => fleet.seed = number(seed) as u64,
            Some(("nodes", nodes)) => fleet.nodes = number(nodes),
            Some(("pods", pods)) => fleet.pods = number(pods),
            Some(("share", of)) => share = of.parse().ok(),
            None if argument == "prefixes" => fleet.prefixes = true,
            None if argument == "berth" => only = Some(Strategy::Berth),
            None if argument == "peer" => only = Some(Strategy::Peer),
            None if argument == "day" => day = true,
            _ => {
                eprintln!("fleet [seed=N] [nodes=N] [pods=N] [share=X] [prefixes] [berth|peer], or fleet day");
                eprintln!(
                    "share: so much of EC2's published rates; without it as much as so many of a thousand nodes have"
                );
                return ExitCode::from(64);
            }
        }
    }
    if day {
        return steady(fleet.seed);
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of published rates")]
    let equal = fleet.nodes as f64 / 1_000.0;
    fleet.share = share.unwrap_or(equal);
    println!("bound {}", fleet.bound());
    for strategy in [Strategy::Berth, Strategy::Peer] {
        if only.is_none_or(|only| only == strategy) {
            let began = Instant::now();
            let report = play(&Fleet { strategy, ..fleet.clone() });
            print!("{} {report}", format!("{strategy:?}").to_lowercase());
            println!("  in {:.1} s of this machine", began.elapsed().as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

fn steady(seed: u64) -> ExitCode {
    for churning in [Churning::Never, Churning::Lightly] {
        let day = on_paused(fleet::day(seed, pool::Policy::default(), churning));
        println!("{} {day}", format!("{churning:?}").to_lowercase());
    }
    ExitCode::SUCCESS
}

fn play(fleet: &Fleet) -> Report {
    on_paused(fleet::run(fleet))
}

/// On a runtime of its own, whose clock is paused.
fn on_paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be made").block_on(future)
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}
