//! What a lab tells about its trouble, for people: a line each. Programs read the JSON that it is made of.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::{Context, Result};

use crate::{
    ec2::admin::EniState,
    proxy::admin::{BucketOrder, FaultKind, FaultOrder, FaultTime, LatencyOrder, Listing, LogLine, MetadataOrder},
};

/// Everything that goes wrong: each as the order that makes it so.
pub(super) fn list(json: &str) -> Result<String> {
    let Listing { seed: _, latency, buckets, faults, metadata, reachable } = parse(json)?;
    let mut lines: Vec<String> = latency.iter().map(of_latency).collect();
    lines.extend(buckets.iter().map(of_bucket));
    lines.extend(faults.iter().map(of_fault));
    lines.extend(metadata.iter().flat_map(of_metadata));
    let cut_off = |name: &str, reachable: Option<bool>| (reachable == Some(false)).then(|| format!("{name} false"));
    lines.extend(cut_off("reachable", reachable.ec2));
    lines.extend(cut_off("metadata reachable", reachable.metadata));
    Ok(lines.join("\n"))
}

/// How many calls of which action.
pub(super) fn calls(json: &str) -> Result<String> {
    let calls: BTreeMap<String, u64> = parse(json)?;
    Ok(calls.iter().map(|(action, count)| format!("{count:>6}  {action}")).collect::<Vec<_>>().join("\n"))
}

/// A line per call.
pub(super) fn log(json: &str) -> Result<String> {
    let lines: Vec<LogLine> = parse(json)?;
    let wide = |of: fn(&LogLine) -> &str| lines.iter().map(|line| of(line).len()).max().unwrap_or_default();
    let (action, outcome) = (wide(|line| &line.action), wide(|line| &line.outcome));
    let line = |line: &LogLine| {
        let seconds = Duration::from_millis(line.at_ms).as_secs_f64();
        let mut text = format!("{seconds:>9.3}s  {:action$}  {:outcome$} ", line.action, line.outcome);
        let parameters = line.request.iter().filter(|(name, _)| !["Action", "Version"].contains(&name.as_str()));
        for (name, value) in parameters {
            write!(text, " {name}={value}").expect("writing to a string does not fail");
        }
        text.trim_end().to_owned()
    };
    Ok(lines.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// A line per ENI.
pub(super) fn state(json: &str) -> Result<String> {
    let enis: Vec<EniState> = parse(json)?;
    let line = |eni: &EniState| {
        let addresses: Vec<String> = eni.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(" ");
        match (&eni.instance, eni.device_index, &eni.attachment_status) {
            (Some(instance), Some(device), Some(status)) => {
                let unseen = if eni.device_visible { "" } else { ", not seen yet" };
                format!("{}  {instance} device {device} {status}{unseen}  {addresses}", eni.eni)
            }
            _ => format!("{}  {}  {addresses}", eni.eni, eni.status),
        }
    };
    Ok(enis.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).context("reading what the lab tells")
}

fn of_latency(order: &LatencyOrder) -> String {
    format!("latency {} {}", action(order.action.as_deref()), order.spread)
}

fn of_bucket(order: &BucketOrder) -> String {
    let action = action(order.action.as_deref());
    format!("bucket {action} --burst {} --refill {}", order.burst, time(order.refill_ms))
}

fn of_fault(order: &FaultOrder) -> String {
    let name = match order.kind {
        FaultKind::Refuse => "refuse",
        FaultKind::Lose => "lose",
        FaultKind::Hang => "hang",
        FaultKind::Delay => "delay",
        FaultKind::Stale => "stale",
    };
    let mut words = vec![name.to_owned(), action(order.action.as_deref()).to_owned()];
    words.extend(order.code.clone());
    words.extend(order.delay_ms.or(order.age_ms).map(time));
    words.extend(order.message.as_ref().map(|message| format!("--message {message:?}")));
    words.extend((order.skip > 0).then(|| format!("--skip {}", order.skip)));
    words.extend((order.count != 1).then(|| format!("--count {}", order.count)));
    words.extend((order.chance < 1.0).then(|| format!("--chance {}", order.chance)));
    words.extend((order.when == FaultTime::After).then(|| "--after-effect".to_owned()));
    words.join(" ")
}

fn of_metadata(order: &MetadataOrder) -> Vec<String> {
    let lag = order.lag_ms.filter(|ms| *ms > 0).map(|ms| format!("metadata lag {}", time(ms)));
    let latency = order.latency.as_ref().filter(|spread| *spread != "0s");
    let latency = latency.map(|spread| format!("metadata latency {spread}"));
    let omitted = order.omit.as_ref().map(|what| {
        let reads = order.reads.map(|reads| format!(" --reads {reads}")).unwrap_or_default();
        let long = order.for_ms.map(|ms| format!(" --for {}", time(ms))).unwrap_or_default();
        format!("metadata omit {what}{reads}{long}")
    });
    [lag, latency, omitted].into_iter().flatten().collect()
}

fn action(name: Option<&str>) -> &str {
    name.unwrap_or("any")
}

fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string().replace(' ', "")
}
