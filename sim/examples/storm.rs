//! Many seeds on every core: what `make sim` and `make mutants` run.
//!
//! Owns the paused runtime and the summary. Ends with 1 when something did not hold.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use sim::run::{self, Crash, Scenario, Tally, Trace};

/// So many failing seeds are told in full.
const TOLD: usize = 3;

fn main() -> ExitCode {
    let mut seeds = 0..2_000;
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut whole, mut first, mut at) = (false, false, None);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("seeds", count)) => seeds.end = seeds.start + number(count),
            Some(("from", first)) => seeds = number(first)..number(first) + (seeds.end - seeds.start),
            Some(("seed", one)) => (seeds, whole) = (number(one)..number(one) + 1, true),
            Some(("at", step)) => at = Some(number(step)),
            None if argument == "first" => first = true,
            Some(("threads", count)) => threads = usize::try_from(number(count)).unwrap_or(1).max(1),
            _ => {
                eprintln!("storm [from=N] [seeds=N] [threads=N] [first], or storm seed=N for the whole trace of one");
                eprintln!(
                    "first: ends when a seed has failed; at=N: the short scenario of a seed, whose daemon dies at step N"
                );
                return ExitCode::from(64);
            }
        }
    }
    let (next, sum, enough) = (AtomicU64::new(seeds.start), Mutex::new(Sum::default()), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || enough.load(Ordering::Relaxed) {
                        return;
                    }
                    let scenario = match at {
                        Some(step) => Scenario { crash: Crash::At(step), ..Scenario::short(seed) },
                        None => Scenario::drawn(seed),
                    };
                    let trace = play(&scenario);
                    enough.fetch_or(first && trace.violation.is_some(), Ordering::Relaxed);
                    if whole {
                        trace.lines.iter().for_each(|line| println!("{line}"));
                    }
                    sum.lock().expect("no thread panicked").add(trace);
                }
            });
        }
    });
    sum.into_inner().expect("no thread panicked").tell(began)
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// One run on a runtime of its own, whose clock is paused.
fn play(scenario: &Scenario) -> Trace {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be made").block_on(run::run(scenario))
}

#[derive(Default)]
struct Sum {
    runs: u64,
    events: u64,
    steps: u64,
    tally: Tally,
    failed: Vec<Trace>,
}

impl Sum {
    fn add(&mut self, trace: Trace) {
        self.runs += 1;
        self.events += trace.events;
        self.steps += trace.steps;
        self.tally.add(&trace.tally);
        if trace.violation.is_some() {
            self.failed.push(trace);
        }
    }

    fn tell(mut self, began: Instant) -> ExitCode {
        let seconds = began.elapsed().as_secs_f64();
        let tally = self.tally;
        self.failed.sort_by_key(|trace| trace.seed);
        for trace in self.failed.iter().take(TOLD) {
            println!("{trace}\n");
        }
        for trace in self.failed.iter().skip(TOLD) {
            let violation = trace.violation.as_ref().expect("it failed");
            println!("seed {}: {}: {}", trace.seed, violation.invariant, violation.what);
        }
        println!("{} seeds, {} events in {seconds:.1} s of this machine", self.runs, self.events);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.events as f64 / seconds;
        println!(
            "{rate:.0} events/s; {} steps, {} deaths, {} ADDs served, {} not, {} DELs, {} calls, {} unanswered, {} commits refused, {:.0} h",
            self.steps,
            tally.crashes,
            tally.served,
            tally.refused,
            tally.released,
            tally.calls,
            tally.lost,
            tally.unwritten,
            tally.time.as_secs_f64() / 3_600.0
        );
        println!("{:.2} us an event, {} seeds failed", 1e6 / rate, self.failed.len());
        ExitCode::from(u8::from(!self.failed.is_empty()))
    }
}
