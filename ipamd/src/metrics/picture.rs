//! What the pool holds, as a scrape shows it.
//!
//! Owns the figures that are read off the pool. Never keeps one from scrape to scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use pool::{Action, BootTime, EniState, Prefix, PrefixState, State, Tally, Waits};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// What the pool holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    addresses: BTreeMap<&'static str, i64>,
    prefixes: BTreeMap<&'static str, i64>,
    enis: BTreeMap<String, i64>,
    waiting: i64,
    wanted: i64,
    reused_early: u64,
    enis_at_most: i64,
    addresses_at_most: i64,
    budget_waits: BTreeMap<Action, Waits>,
}

impl Picture {
    /// Reads the pool.
    pub fn of(state: &State, now: BootTime) -> Self {
        let none = |states: &[&'static str]| states.iter().map(|name| (*name, 0)).collect::<BTreeMap<_, i64>>();
        let mut addresses = none(&["Unverified", "Free", "Leased", "Cooling", "Quarantined"]);
        let mut prefixes = none(&["Unverified", "Free", "Used"]);
        let mut enis = BTreeMap::new();
        let mut foreign = 0;
        for eni in state.enis() {
            *enis.entry(eni.record.state.to_string()).or_default() += 1;
            foreign += i64::from(!eni.holds_pods() && !matches!(eni.record.state, EniState::Detached));
            let Tally { free, leased, cooling, unverified, quarantined } = eni.tally();
            for (state, number) in [
                ("Free", free),
                ("Leased", leased),
                ("Cooling", cooling),
                ("Unverified", unverified),
                ("Quarantined", quarantined),
            ] {
                *addresses.entry(state).or_default() += i64::from(number);
            }
            for (_, held) in eni.addresses.prefixes() {
                let state = match held.state() {
                    _ if held.is_used() => "Used",
                    PrefixState::Usable { .. } => "Free",
                    PrefixState::Unverified { .. } => "Unverified",
                };
                *prefixes.entry(state).or_default() += 1;
            }
        }
        let numbers = state.numbers(now);
        let each = if state.policy().prefixes { Prefix::SIZE } else { 1 };
        let limits = state.facts().map(|_| state.limits());
        let cap = state.policy().max_eni.map_or(i64::MAX, i64::from);
        let enis_at_most = limits.map_or(0, |limits| i64::from(limits.enis).min(cap) - foreign);
        Self {
            addresses,
            prefixes,
            enis,
            waiting: numbers.waiting.into(),
            wanted: numbers.waiting.max(numbers.demand).into(),
            reused_early: state.reused_early(),
            enis_at_most,
            addresses_at_most: limits.map_or(0, |limits| i64::from(limits.secondary() * each) * enis_at_most),
            budget_waits: state.budget_waits().collect(),
        }
    }
}

/// The pool's figures of a scrape.
#[derive(Debug)]
pub(super) struct PoolFigures(pub(super) Arc<Mutex<Option<Picture>>>);

impl Collector for PoolFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(picture) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return Ok(()) };
        let Picture {
            addresses,
            prefixes,
            enis,
            waiting,
            wanted,
            reused_early,
            enis_at_most,
            addresses_at_most,
            budget_waits,
        } = picture;
        let leased = addresses.get("Leased").copied().unwrap_or_default();
        let quarantined = addresses.get("Quarantined").copied().unwrap_or_default();
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge(&mut encoder, "berth_demand_addresses", "Addresses that pods want and do not have", wanted)?;
        gauge(&mut encoder, "berth_allocate_waiting", "Requests that wait for an address", waiting)?;
        gauge(&mut encoder, "berth_quarantined_addresses", "Addresses that nothing explains", quarantined)?;
        gauge(&mut encoder, "awscni_eni_max", "ENIs that the instance may have", enis_at_most)?;
        gauge(&mut encoder, "awscni_ip_max", "Addresses that the instance may have", addresses_at_most)?;
        gauge(&mut encoder, "awscni_eni_allocated", "ENIs", enis.values().sum())?;
        gauge(&mut encoder, "awscni_total_ip_addresses", "Addresses", addresses.values().sum())?;
        gauge(&mut encoder, "awscni_assigned_ip_addresses", "Addresses leased to pods", leased)?;
        gauge(&mut encoder, "awscni_total_ipv4_prefixes", "IPv4 prefixes", prefixes.values().sum())?;

        let help = "Cooling addresses that were leased before their time";
        ConstCounter::new(reused_early).encode(encoder.encode_descriptor(
            "berth_cooling_reused_early",
            help,
            None,
            MetricType::Counter,
        )?)?;
        let mut family =
            encoder.encode_descriptor("berth_addresses", "Addresses, by state", None, MetricType::Gauge)?;
        for (state, value) in &addresses {
            let labels = [("state", *state), ("family", "ipv4")];
            ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("berth_prefixes", "Prefixes, by state", None, MetricType::Gauge)?;
        for (state, value) in &prefixes {
            let labels = [("state", *state)];
            ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor("berth_enis", "ENIs, by state", None, MetricType::Gauge)?;
        for (state, value) in &enis {
            let labels = [("state", state.as_str())];
            ConstGauge::new(*value).encode(family.encode_family(&labels)?)?;
        }
        let help = "How long EC2 calls waited for the node's budget, by action";
        let mut family =
            encoder.encode_descriptor("berth_ec2_budget_wait_seconds", help, None, MetricType::Histogram)?;
        for (action, Waits { calls, total }) in &budget_waits {
            let labels = [("action", action.name())];
            // A sum and a count: the one bucket that there has to be says no more than the count.
            let all = [(f64::INFINITY, *calls)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total.as_secs_f64(), *calls, &all, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pool::Policy;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn waits_for_the_nodes_budget_are_a_sum_and_a_count_by_action() {
        let state = State::new(Policy::default());
        let waits = Waits { calls: 3, total: Duration::from_millis(1_500) };
        let budget_waits = BTreeMap::from([(Action::CreateTags, Waits::default()), (Action::DescribeSubnets, waits)]);
        let picture = Picture { budget_waits, ..Picture::of(&state, BootTime::default()) };
        let text = Metrics::default().render(Some(picture)).expect("text");
        for line in [
            "berth_ec2_budget_wait_seconds_sum{action=\"DescribeSubnets\"} 1.5",
            "berth_ec2_budget_wait_seconds_count{action=\"DescribeSubnets\"} 3",
            "berth_ec2_budget_wait_seconds_count{action=\"CreateTags\"} 0",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }
}
