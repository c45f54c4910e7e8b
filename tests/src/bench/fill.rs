//! 110 pods at once on a fresh node, in real time: EC2 takes 300 ms a call, and a device appears 3 s after its attach.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab::{
    Lab,
    pods::{Pod, at_once},
    wait,
};
use sim::{
    Request, Response, Times,
    requests::{CreateNetworkInterface, NewEni},
};

use super::{
    figure::{Figure, Samples},
    node::{Bed, INSTANCE_TYPE, PATIENCE},
};

const PODS: usize = 110;
const LATENCY: Duration = Duration::from_millis(300);
const DEVICE: Duration = Duration::from_secs(3);
const RUNS: usize = 3;

/// Longer than anything that the daemon waits for between two calls: the device, and a little.
const QUIET: Duration = Duration::from_secs(5);

/// How the node is set up, and what is told of it.
#[derive(Debug, Clone, Copy)]
struct Filling {
    environment: &'static [(&'static str, &'static str)],
    calls: (&'static str, f64),
    fill: Option<&'static str>,
}

const FILLINGS: [Filling; 4] = [
    Filling { environment: &[], calls: ("calls_110_warm_eni", 18.0), fill: Some("fill_110") },
    Filling { environment: &[("WARM_IP_TARGET", "5")], calls: ("calls_110_warm_ip", 16.0), fill: None },
    Filling {
        environment: &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")],
        calls: ("calls_110_prefix", 6.0),
        fill: Some("fill_110_prefix"),
    },
    // Nobody says beforehand which pods will come: those that wait are all the demand there is.
    Filling { environment: &[("BERTH_WARM", "demand")], calls: ("calls_110_demand", 16.0), fill: None },
];

/// The figures among those wanted, each told when it is there.
pub fn measure(wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(Figure)) -> Result<()> {
    for filling in FILLINGS {
        let (fills, counts) = (filling.fill.filter(|name| wanted(name)), wanted(filling.calls.0));
        if fills.is_none() && !counts {
            continue;
        }
        let times = if fills.is_some() { RUNS } else { 1 };
        let runs: Vec<Run> = (0..times).map(|_| run(filling.environment)).collect::<Result<_>>()?;
        match fills {
            // Nothing has to be attached for prefixes: it says what that saves, and promises nothing.
            Some(name) if name != "fill_110" => tell(fill(name, &runs).without_goal()),
            Some(name) => tell(fill(name, &runs)),
            None => {}
        }
        if counts {
            tell(calls(filling.calls, &runs));
        }
    }
    Ok(())
}

/// One fresh node, filled.
#[derive(Debug)]
struct Run {
    /// Create, attach and device, one after the other, once, in this VPC.
    once: Duration,
    /// Until each pod had its address.
    served: Vec<Duration>,
    /// Why the others have none.
    failed: Vec<String>,
    /// EC2 calls from the daemon's start until it had nothing more to do.
    calls: u64,
    by_action: String,
}

fn run(environment: &[(&str, &str)]) -> Result<Run> {
    let times = Times { device: DEVICE, attach: DEVICE, ..Times::INSTANT };
    let mut once = Duration::ZERO;
    let bed = Bed::start(LATENCY, times, environment, |lab| {
        once = create_attach_device(lab)?;
        Ok(())
    })?;
    bed.quiet(QUIET)?;
    let mut pods: Vec<Pod> = (0..PODS).map(|at| bed.node().pod(&format!("pod-{at}"))).collect::<Result<_>>()?;
    let begun = Instant::now();
    let (mut served, mut failed) = (Vec::new(), Vec::new());
    for result in at_once(&mut pods, |pod| pod.add().map(|_| begun.elapsed())) {
        match result {
            Ok(time) => served.push(time),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    bed.quiet(QUIET)?;
    let (calls, by_action) = (bed.calls(), bed.calls_by_action());
    drop(pods);
    bed.stop()?;
    Ok(Run { once, served, failed, calls, by_action })
}

fn fill(name: &'static str, runs: &[Run]) -> Figure {
    let last = Samples::seconds(runs.iter().map(|run| run.served.iter().max().copied().unwrap_or_default()));
    let once = Samples::seconds(runs.iter().map(|run| run.once));
    let figure = Figure::relative(name, "s", &last, ("create_attach_device", &once), 1.5).remark("no ADD failed");
    unless_failed(figure, runs)
}

fn calls((name, goal): (&'static str, f64), runs: &[Run]) -> Figure {
    let counts = Samples::new(runs.iter().map(|run| f64::from(u32::try_from(run.calls).unwrap_or(u32::MAX))));
    let remark = runs.first().map(|run| run.by_action.clone()).unwrap_or_default();
    unless_failed(Figure::absolute(name, "calls", &counts, goal).remark(remark), runs)
}

/// No figure holds when a pod was sent away.
fn unless_failed(figure: Figure, runs: &[Run]) -> Figure {
    let failed: Vec<&String> = runs.iter().flat_map(|run| &run.failed).collect();
    match failed.first() {
        None => figure,
        Some(first) => Figure { holds: Some(false), ..figure }.remark(format!(
            "{} of {} ADDs FAILED: {first}",
            failed.len(),
            runs.len() * PODS
        )),
    }
}

/// What one more ENI takes at the very least, on an instance of its own.
fn create_attach_device(lab: &Lab) -> Result<Duration> {
    let nodes = lab.nodes();
    let known = nodes.first().and_then(|node| lab.world().attached(node.instance()).into_iter().next());
    let subnet = known.context("the node has a primary ENI")?.subnet;
    let instance = lab.world().launch(INSTANCE_TYPE, &subnet).context("launching an instance")?;
    let begun = Instant::now();
    let made =
        CreateNetworkInterface { eni: NewEni { subnet, ..NewEni::default() }, ..CreateNetworkInterface::default() };
    let eni = match lab.call(Request::CreateNetworkInterface(made))? {
        Response::CreateNetworkInterface { eni, .. } => eni.id,
        other => anyhow::bail!("CreateNetworkInterface answered {other:?}"),
    };
    lab.call(Request::AttachNetworkInterface {
        eni: eni.clone(),
        instance: instance.clone(),
        device_index: 1,
        card: 0,
    })?;
    let visible =
        || lab.world().attached(&instance).into_iter().find(|attached| attached.eni == eni && attached.device_visible);
    wait::until(PATIENCE, visible).context("the device did not appear")?;
    let took = begun.elapsed();
    lab.world().make(Request::TerminateInstances { instances: vec![instance] }).context("terminating an instance")?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_figure_holds_when_a_pod_was_sent_away() {
        let run = |failed: &[&str]| Run {
            once: Duration::from_secs(4),
            served: vec![Duration::from_secs(4)],
            failed: failed.iter().map(ToString::to_string).collect(),
            calls: 6,
            by_action: String::new(),
        };
        let figures = |runs: &[Run]| [fill("fill_110", runs), calls(("calls_110_prefix", 6.0), runs)];
        assert_eq!(figures(&[run(&[]), run(&[])]).map(|figure| figure.holds), [Some(true); 2]);
        for figure in figures(&[run(&[]), run(&["SubnetExhausted"])]) {
            assert_eq!(figure.holds, Some(false), "{}", figure.name);
            assert_eq!(figure.remark, "1 of 220 ADDs FAILED: SubnetExhausted");
        }
    }
}
