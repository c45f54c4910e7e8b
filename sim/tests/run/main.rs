//! Whole nodes in virtual time: what must hold on many seeds, and with a death at every step.
//!
//! Owns the paused runtime and how many runs there are. `make sim` runs more of them.

mod fleet;
mod seeds;

use std::{
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sim::run::{self, Crash, Scenario, Tally, Trace};

/// Programs that are built to be debugged are thirty times slower: `make test` runs all of it as it is built for release.
const SHARE: u64 = if cfg!(debug_assertions) { 20 } else { 1 };

/// A runtime of its own, whose clock is paused.
fn on_paused<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O can be made").block_on(future)
}

/// One run.
fn play(scenario: &Scenario) -> Trace {
    on_paused(run::run(scenario))
}

/// Events, steps and the rest of many runs; panics with the first trace that does not hold.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    events: u64,
    tally: Tally,
}

/// Plays all of them, on every core.
fn play_all(scenarios: &[Scenario]) -> Sum {
    let (next, sum, failed) = (AtomicUsize::new(0), Mutex::new(Sum::default()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
            let trace = play(scenario);
            let mut sum = sum.lock().expect("no thread panicked");
            sum.runs += 1;
            sum.events += trace.events;
            sum.tally.add(&trace.tally);
            if trace.violation.is_some() {
                failed.lock().expect("no thread panicked").push((scenario.crash, trace));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no thread panicked");
    let told: Vec<String> = failed.iter().map(|(crash, trace)| format!("{crash:?}\n{trace}")).take(3).collect();
    assert!(failed.is_empty(), "{} of {} runs failed:\n{}", failed.len(), scenarios.len(), told.join("\n\n"));
    sum.into_inner().expect("no thread panicked")
}

#[test]
fn what_must_hold_holds_on_every_seed() {
    const SEEDS: u64 = 520 / SHARE;
    let sum = play_all(&(0..SEEDS).map(Scenario::drawn).collect::<Vec<_>>());
    println!("{sum:?}");
    assert!(sum.runs == SEEDS && sum.events * SHARE >= 200_000, "too few events: {sum:?}");
    // A simulation in which nothing happens proves nothing.
    let tally = sum.tally;
    assert!(tally.served * SHARE > 10_000 && tally.released * SHARE > 10_000, "{tally:?}");
    assert!(tally.calls * SHARE > 10_000 && tally.lost * SHARE > 400 && tally.crashes * SHARE > 1_000, "{tally:?}");
}

#[test]
fn a_daemon_may_die_at_every_step() {
    const SEEDS: u64 = 20 / SHARE;
    let mut scenarios = Vec::new();
    for seed in 0..SEEDS {
        let scenario = Scenario::short(seed);
        let whole = play(&scenario);
        assert!(whole.violation.is_none(), "{whole}");
        assert!(whole.events >= 100, "{} events are too few:\n{whole}", whole.events);
        // Deaths at the end of a run are those of its beginning once more.
        let steps = 1..=whole.busy;
        scenarios.extend(steps.map(|step| Scenario { crash: Crash::At(step), ..scenario.clone() }));
    }
    let sum = play_all(&scenarios);
    println!("{sum:?}");
    assert!(sum.runs * SHARE > 1_000, "{sum:?}");
    assert_eq!(sum.tally.crashes, sum.runs, "every run has its death");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..8 {
        let scenario = Scenario::drawn(seed);
        let (one, other) = (play(&scenario), play(&scenario));
        assert!(one.lines.len() > 100, "{one}");
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(play(&Scenario::drawn(1)).lines, play(&Scenario::drawn(2)).lines);
}

#[test]
#[should_panic(expected = "whose clock is paused")]
fn a_clock_that_runs_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    drop(runtime.block_on(run::run(&Scenario::short(0))));
}
