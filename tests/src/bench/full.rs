//! A node with 250 pods: what the daemon needs for them, and how soon it serves again after it was killed.
//!
//! The pods are real: each has its namespace and went through the plugin.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::pods::{Pod, at_once};
use sim::Times;

use super::{
    figure::{Figure, Samples},
    node::Bed,
};

/// 15 ENIs with 50 addresses each: all that Berth does for a pod it does for each of them.
const INSTANCE_TYPE: &str = "m5.16xlarge";
const PODS: usize = 250;
const AT_A_TIME: usize = 16;
const RESTARTS: usize = 11;

/// The figures among those wanted, each told when it is there.
pub fn measure(wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(Figure)) -> Result<()> {
    if !wanted("rss_250") && !wanted("restart_250") {
        return Ok(());
    }
    let mut bed = Bed::of_type(INSTANCE_TYPE, Duration::ZERO, Times::INSTANT, &[], |_| Ok(()))?;
    let mut pods: Vec<Pod> = (0..PODS).map(|at| bed.node().pod(&format!("pod-{at}"))).collect::<Result<_>>()?;
    for some in pods.chunks_mut(AT_A_TIME) {
        at_once(some, |pod| pod.add().map(|_| ())).into_iter().collect::<Result<()>>()?;
    }
    bed.quiet(Duration::from_secs(2))?;
    bed.addresses("Leased", PODS)?;
    if wanted("rss_250") {
        tell(Figure::absolute("rss_250", "MiB", &Samples::new([bed.resident()?]), 20.0));
    }
    if wanted("restart_250") {
        tell(restart(&mut bed)?);
    }
    drop(pods);
    bed.stop()
}

/// From the start of the daemon, which was killed, to the end of the plugin that found it gone and waited for it.
fn restart(bed: &mut Bed) -> Result<Figure> {
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        let mut pod = bed.node().pod("first")?;
        let calls = bed.calls();
        times.push(bed.restart(&[], || pod.add().map(|_| ()))?);
        bed.addresses("Leased", PODS + 1)?;
        pod.del()?;
        bed.quiet(Duration::from_secs(1))?;
        ensure!(bed.calls() > calls, "the daemon that was started again did not read its ENIs");
    }
    Ok(Figure::absolute("restart_250", "ms", &Samples::millis(times), 100.0))
}
