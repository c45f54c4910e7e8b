//! The figures of `make bench`: Berth against what the kernel, a process and a call cost by themselves, measured in the same run.
//!
//! Owns what is measured and how it is told. Absolute times are this machine's; what is promised are the ratios.

mod decide;
mod figure;
mod fill;
mod fleet;
mod full;
mod node;
mod server;
mod spawn;
mod storm;
mod wiring;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, builder::PossibleValuesParser};
use lab::Programs;
use sim::Times;

use self::{
    figure::{Figure, Samples},
    node::{Bed, PREFIX},
};

/// The figures.
const NAMES: [&str; 19] = [
    "cni_add",
    "cni_add_x8",
    "cni_add_x32",
    "cni_del",
    "rss_0",
    "rss_250",
    "restart_250",
    "plugin_size",
    "plan",
    "allocate",
    "fill_110",
    "calls_110_warm_eni",
    "calls_110_warm_ip",
    "fill_110_prefix",
    "calls_110_prefix",
    "calls_110_demand",
    "sim_events",
    "fleet_1000",
    "steady_calls",
];

/// Measures Berth and prints a table.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub struct Options {
    /// Where the figures are written.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only this figure.
    #[arg(long, value_name = "FIGURE", value_parser = PossibleValuesParser::new(NAMES))]
    only: Option<String>,
}

/// Measures, prints each figure as soon as it is there, writes the file.
pub fn run(options: &Options) -> Result<()> {
    take_down_when_interrupted()?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    let mut figures = Vec::new();
    println!("load average {}: behind other work everything takes longer", load_average()?);
    println!("{}", Figure::head());
    let mut tell = |figure: Figure| {
        println!("{}", figure.line());
        figures.push(figure);
    };
    wiring::measure(wanted, &mut tell)?;
    if wanted("rss_0") {
        tell(resident()?);
    }
    if wanted("plugin_size") {
        tell(plugin_size()?);
    }
    full::measure(wanted, &mut tell)?;
    decide::measure(wanted, &mut tell)?;
    fill::measure(wanted, &mut tell)?;
    if wanted("sim_events") {
        tell(storm::measure()?);
    }
    fleet::measure(wanted, &mut tell)?;
    if let Some(path) = &options.json {
        figure::write(path, &figures)?;
        println!("written to {}", path.display());
    }
    let missed: Vec<_> =
        figures.iter().filter(|figure| figure.holds == Some(false)).map(|figure| figure.name).collect();
    match missed.as_slice() {
        [] => println!("every goal is met"),
        missed => println!("goals not met: {}", missed.join(", ")),
    }
    Ok(())
}

/// Of the last minute, five and fifteen minutes.
fn load_average() -> Result<String> {
    let path = "/proc/loadavg";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// The daemon with its warm pool and no pod, each time freshly started.
fn resident() -> Result<Figure> {
    const STARTS: usize = 3;
    let measure = || {
        let bed = Bed::start(Duration::ZERO, Times::INSTANT, &[], |_| Ok(()))?;
        bed.quiet(Duration::from_secs(2))?;
        let resident = bed.resident()?;
        bed.stop()?;
        Ok(resident)
    };
    let measured: Vec<f64> = (0..STARTS).map(|_| measure()).collect::<Result<_>>()?;
    Ok(Figure::absolute("rss_0", "MiB", &Samples::new(measured), 16.0))
}

fn plugin_size() -> Result<Figure> {
    let path = Programs::beside_this_one().path("berth-cni")?;
    let bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
    let Ok(bytes) = u32::try_from(bytes) else { bail!("{} has {bytes} bytes", path.display()) };
    Ok(Figure::absolute("plugin_size", "MiB", &Samples::new([f64::from(bytes) / f64::from(1 << 20)]), 5.0))
}

/// Ctrl-C leaves nothing behind.
fn take_down_when_interrupted() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("interrupt".to_owned()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            if let Err(error) = lab::sweep(PREFIX) {
                eprintln!("bench: {error:#}");
            }
            #[expect(clippy::exit, reason = "the measuring threads wait for what is gone")]
            std::process::exit(130);
        }
    })?;
    Ok(())
}
