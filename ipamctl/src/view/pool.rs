//! `ipamctl pool`: the pool on one screen.

use std::fmt::Write as _;

use super::{Shape, held_back, span, table::Columns};
use crate::{
    args::Output,
    convert::{Address, Counts, Eni, Policy, Pool},
};

/// Who, targets, demand, ENIs, what happens next; with `-o wide` every address too.
pub(super) fn screen(pool: &Pool, shape: Shape) -> String {
    let wide = shape.output == Output::Wide;
    let mut text = format!("Node:    {} ({}) {}\n", pool.instance_id, pool.instance_type, pool.node_address);
    let _ = writeln!(
        text,
        "Room:    {} of {} ENIs, {} addresses each beside its own",
        pool.enis.len(),
        pool.limits.enis,
        pool.limits.addresses_per_eni.saturating_sub(1)
    );
    let _ = writeln!(text, "Pool:    {}", by_state(&pool.counts));
    let _ = writeln!(text, "Demand:  {} leased, {} waiting", pool.counts.leased, pool.waiting);
    let _ = writeln!(text, "Targets: {}", targets(&pool.policy));
    if !pool.enis.is_empty() {
        let _ = write!(text, "\n{}", enis(&pool.enis, shape, wide));
    }
    if wide && pool.counts.total > 0 {
        let _ = write!(text, "\n{}", addresses(&pool.enis, shape));
    }
    text.push('\n');
    match pool.next.split_first() {
        None => text.push_str("Next: nothing to do\n"),
        Some((first, rest)) => {
            let _ = writeln!(text, "Next: {first}");
            for line in rest {
                let _ = writeln!(text, "      {line}");
            }
        }
    }
    if let Some(held) = &pool.held {
        text.push_str(&held_back(held));
    }
    text
}

fn enis(enis: &[Eni], shape: Shape, wide: bool) -> String {
    let mut columns = Columns::<&Eni>::new()
        .left("ENI", |eni| eni.eni_id.clone())
        .left("STATE", |eni| eni.state.clone())
        .left("ROLE", |eni| eni.role.clone())
        .left("LINK", |eni| eni.link.clone())
        .left("PRIMARY", |eni| eni.primary_address.clone())
        .right("ADDRESSES", |eni| eni.counts.total.to_string())
        .right("FREE", |eni| eni.counts.free.to_string())
        .right("LEASED", |eni| eni.counts.leased.to_string())
        .right("COOLING", |eni| eni.counts.cooling.to_string());
    if wide {
        columns = columns
            .right("UNVERIFIED", |eni| eni.counts.unverified.to_string())
            .right("QUARANTINED", |eni| eni.counts.quarantined.to_string())
            .right("SLOT", |eni| eni.slot.to_string())
            .right("CARD/DEVICE", |eni| format!("{}/{}", eni.network_card, eni.device_index))
            .left("SUBNET", |eni| eni.subnet_id.clone())
            .left("MAC", |eni| eni.mac.clone())
            .left("OURS", |eni| if eni.created_by_us { "yes" } else { "no" }.to_owned());
    }
    let rows: Vec<&Eni> = enis.iter().collect();
    columns.left("NOTE", |eni| eni.note.clone()).render(&rows, shape.lines)
}

fn addresses(enis: &[Eni], shape: Shape) -> String {
    let rows: Vec<(&Eni, &Address)> =
        enis.iter().flat_map(|eni| eni.addresses.iter().map(move |address| (eni, address))).collect();
    Columns::<(&Eni, &Address)>::new()
        .left("ADDRESS", |(_, address)| address.address.clone())
        .left("ENI", |(eni, _)| eni.eni_id.clone())
        .left("STATE", |(_, address)| address.state.clone())
        .right("FREE IN", |(_, address)| address.until_ms.map(span).unwrap_or_default())
        .left("POD", |(_, address)| address.pod.clone().unwrap_or_default())
        .render(&rows, shape.lines)
}

/// `30 addresses: 12 free, 16 leased, 2 cooling`; the states that should not be are named only when they are.
fn by_state(counts: &Counts) -> String {
    let mut text = format!(
        "{} addresses: {} free, {} leased, {} cooling",
        counts.total, counts.free, counts.leased, counts.cooling
    );
    for (number, state) in [(counts.unverified, "unverified"), (counts.quarantined, "quarantined")] {
        if number > 0 {
            let _ = write!(text, ", {number} {state}");
        }
    }
    text
}

/// The settings under the names by which people set them.
fn targets(policy: &Policy) -> String {
    let mut text = match policy.mode.as_str() {
        "" | "targets" => String::new(),
        mode => format!("BERTH_WARM={mode}, "),
    };
    for (name, value) in [
        ("WARM_ENI_TARGET", policy.warm_eni_target),
        ("WARM_IP_TARGET", policy.warm_ip_target),
        ("MINIMUM_IP_TARGET", policy.minimum_ip_target),
        ("MAX_ENI", policy.max_eni),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "{name}={value}, ");
        }
    }
    let (cooling, surplus) = (span(policy.cooling_ms), span(policy.shrink_after_ms));
    let _ = write!(text, "a released address cools {cooling}, surplus stays {surplus}");
    text
}
