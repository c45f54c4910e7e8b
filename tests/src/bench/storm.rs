//! How fast whole nodes are simulated, on one core.
//!
//! Owns the reading of what the simulation prints; it runs as a program of its own, since its clock is paused by a feature of tokio that
//! nothing else here has.

use std::process::Command;

use anyhow::{Context, Result, bail};
use lab::Programs;

use super::figure::{Figure, Samples};

/// So many samples of so many seeds.
const SAMPLES: u32 = 5;
const SEEDS: u32 = 100;
/// 10,000 events/s.
const GOAL: f64 = 100.0;

/// Microseconds per event: what is applied to a pool's state, and what EC2 answers.
pub fn measure() -> Result<Figure> {
    let storm = Programs::beside_this_one().path("storm")?;
    let sample = |number: u32| {
        let output = Command::new(&storm)
            .args([format!("from={}", number * SEEDS), format!("seeds={SEEDS}"), "threads=1".to_owned()])
            .output()
            .with_context(|| format!("running {}", storm.display()))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let per_event = said.lines().find_map(|line| line.split_once(" us an event")?.0.parse::<f64>().ok());
        match per_event {
            Some(per_event) if output.status.success() => Ok(per_event),
            _ => bail!("the simulation failed:\n{said}"),
        }
    };
    let samples = Samples::new((0..SAMPLES).map(sample).collect::<Result<Vec<f64>>>()?);
    let remark = format!("{:.0} events/s", 1e6 / samples.median());
    Ok(Figure::absolute("sim_events", "us", &samples, GOAL).remark(remark))
}
