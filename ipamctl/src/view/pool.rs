//! `ipamctl pool`: the pool on one screen.

use std::fmt::Write as _;

use super::{Shape, held_back, span, table::Columns};
use crate::{
    args::Output,
    convert::{Address, Counts, Eni, Policy, Pool, Prefix, Subnet},
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
    let _ = writeln!(text, "Pool:    {}", held(pool));
    let _ = writeln!(text, "Demand:  {}", demand(pool));
    let _ = writeln!(text, "Targets: {}", targets(&pool.policy));
    if let Some(line) = subnets_in_short(&pool.subnets) {
        let _ = writeln!(text, "Subnets: {line}");
    }
    if !pool.enis.is_empty() {
        let _ = write!(text, "\n{}", enis(&pool.enis, shape, wide));
    }
    if wide && pool.counts.total > 0 {
        let _ = write!(text, "\n{}", addresses(&pool.enis, shape));
    }
    if wide && !pool.subnets.is_empty() {
        let _ = write!(text, "\n{}", subnets(&pool.subnets, shape));
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
        .right("ADDRESSES", |eni| eni.counts.total.to_string());
    if enis.iter().any(|eni| !eni.prefixes.is_empty()) {
        columns = columns.right("PREFIXES", |eni| eni.prefixes.len().to_string());
    }
    columns = columns
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

/// A line of the addresses: a prefix stands for those of its addresses that are free.
enum Row<'a> {
    Prefix(&'a Eni, &'a Prefix),
    Address(&'a Eni, &'a Address),
}

impl Row<'_> {
    fn what(&self) -> String {
        match self {
            Self::Prefix(_, prefix) => prefix.cidr.clone(),
            Self::Address(_, address) => address.address.clone(),
        }
    }

    fn eni(&self) -> String {
        match self {
            Self::Prefix(eni, _) | Self::Address(eni, _) => eni.eni_id.clone(),
        }
    }

    fn state(&self) -> String {
        match self {
            Self::Prefix(_, prefix) if prefix.state == "Usable" => {
                format!("{} of {} free", prefix.counts.free, prefix.counts.total)
            }
            Self::Prefix(_, prefix) => prefix.state.clone(),
            Self::Address(_, address) => address.state.clone(),
        }
    }

    fn address(&self) -> Option<&Address> {
        match self {
            Self::Prefix(..) => None,
            Self::Address(_, address) => Some(address),
        }
    }
}

fn addresses(enis: &[Eni], shape: Shape) -> String {
    let mut rows = Vec::new();
    for eni in enis {
        for prefix in &eni.prefixes {
            rows.push(Row::Prefix(eni, prefix));
            // What it says of itself needs no line of its own.
            let plain = if prefix.state == "Usable" { "Free" } else { prefix.state.as_str() };
            let of_it = eni.addresses.iter().filter(|one| one.prefix.as_ref() == Some(&prefix.cidr));
            rows.extend(of_it.filter(|one| one.state != plain).map(|one| Row::Address(eni, one)));
        }
        rows.extend(eni.addresses.iter().filter(|one| one.prefix.is_none()).map(|one| Row::Address(eni, one)));
    }
    Columns::<Row<'_>>::new()
        .left("ADDRESS", Row::what)
        .left("ENI", Row::eni)
        .left("STATE", Row::state)
        .right("FREE IN", |row| row.address().and_then(|one| one.until_ms).map(span).unwrap_or_default())
        .left("POD", |row| row.address().and_then(|one| one.pod.clone()).unwrap_or_default())
        .render(&rows, shape.lines)
}

/// `30 addresses: 12 free, 16 leased, 2 cooling; 1 prefix among them`; what is rare is named only when it is there.
fn held(pool: &Pool) -> String {
    let mut text = format!("{} addresses: {}", pool.counts.total, by_state(&pool.counts));
    match pool.enis.iter().map(|eni| eni.prefixes.len()).sum() {
        0 => {}
        1 => text.push_str("; 1 prefix among them"),
        prefixes => drop(write!(text, "; {prefixes} prefixes among them")),
    }
    if pool.cooling_reused_early > 0 {
        let _ = write!(text, "; {} leased before they had cooled", pool.cooling_reused_early);
    }
    text
}

fn demand(pool: &Pool) -> String {
    let mut text = format!("{} leased, {} waiting", pool.counts.leased, pool.waiting);
    if pool.demand > 0 {
        let _ = write!(text, ", {} bound to the node without an address", pool.demand);
    }
    text
}

/// `2 with 300 free addresses, 1 excluded, 1 paused`.
fn subnets_in_short(subnets: &[Subnet]) -> Option<String> {
    let chosen = || subnets.iter().filter(|subnet| subnet.state == "Chosen");
    let free: u64 = chosen().map(|subnet| u64::from(subnet.free)).sum();
    let mut text = format!("{} with {free} free addresses", chosen().count());
    let excluded = subnets.iter().filter(|subnet| subnet.state == "Excluded").count();
    let paused = subnets.iter().filter(|subnet| subnet.paused_ms.is_some()).count();
    for (number, what) in [(excluded, "excluded"), (paused, "paused")] {
        if number > 0 {
            let _ = write!(text, ", {number} {what}");
        }
    }
    (!subnets.is_empty()).then_some(text)
}

fn subnets(subnets: &[Subnet], shape: Shape) -> String {
    let rows: Vec<&Subnet> = subnets.iter().collect();
    Columns::<&Subnet>::new()
        .left("SUBNET", |subnet| subnet.subnet_id.clone())
        .right("FREE", |subnet| subnet.free.to_string())
        .left("STATE", |subnet| subnet.state.clone())
        .right("PAUSED", |subnet| subnet.paused_ms.map(span).unwrap_or_default())
        .render(&rows, shape.lines)
}

/// `12 free, 16 leased, 2 cooling`; the states that should not be are named only when they are.
fn by_state(counts: &Counts) -> String {
    let mut text = format!("{} free, {} leased, {} cooling", counts.free, counts.leased, counts.cooling);
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
    if policy.prefix_delegation {
        text.push_str("ENABLE_PREFIX_DELEGATION=true, ");
    }
    for (name, value) in [
        ("WARM_ENI_TARGET", policy.warm_eni_target),
        ("WARM_IP_TARGET", policy.warm_ip_target),
        ("MINIMUM_IP_TARGET", policy.minimum_ip_target),
        ("WARM_PREFIX_TARGET", policy.warm_prefix_target),
        ("MAX_ENI", policy.max_eni),
        ("BERTH_MAX_PODS", policy.max_pods),
    ] {
        if let Some(value) = value {
            let _ = write!(text, "{name}={value}, ");
        }
    }
    if policy.early_reuse {
        text.push_str("BERTH_EARLY_REUSE=true, ");
    }
    let (cooling, surplus) = (span(policy.cooling_ms), span(policy.shrink_after_ms));
    let _ = write!(text, "a released address cools {cooling}, surplus stays {surplus}");
    text
}
