//! The figures of `/metrics`.
//!
//! Owns their names and labels; no pod, address or ENI is ever a label. What the pool holds is read when a scrape asks for it, the rest
//! is counted where it happens. The `awscni_*` names are amazon-vpc-cni's, with its meaning, so that its dashboards keep working; its
//! counters are gauges here, since OpenMetrics would put `_total` behind the names of counters.

mod picture;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cloud::{Action, Answer, Call, Cloud};
use node::{Ledger, LedgerError};
use pool::{Entry, Record, Refusal};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

pub use picture::Picture;

use picture::PoolFigures;

/// From 100 us, a free address, to 2 minutes, an ENI that is slow to come.
const WAITS: [f64; 15] = [1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Milliseconds, of amazon-vpc-cni's summary: its sum and count are there, and buckets beside.
const LATENCIES: [f64; 6] = [30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0];
/// From 10 us.
const COMMITS: [f64; 9] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.1, 1.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    action: &'static str,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAction {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFunction {
    r#fn: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    version: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfApi {
    api: &'static str,
    error: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfApiError {
    api: &'static str,
    error: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All figures.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pool: Arc<Mutex<Option<Picture>>>,
    allocate: Histogram,
    refusals: Family<OfReason, Counter>,
    calls: Family<OfCall, Counter>,
    call_seconds: Histograms<OfAction>,
    refill_seconds: Histogram,
    commit_seconds: Histogram,
    spool_replayed: Counter,
    awscni_adds: Gauge,
    awscni_dels: Family<OfReason, Gauge>,
    awscni_none_free: Gauge,
    awscni_calls: Family<OfFunction, Gauge>,
    awscni_call_errors: Family<OfFunction, Gauge>,
    awscni_latency: Histograms<OfApi>,
    awscni_api_errors: Family<OfApiError, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let pool = Arc::<Mutex<Option<Picture>>>::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(PoolFigures(Arc::clone(&pool))));
        let waits = || Histogram::new(WAITS);
        let metrics = Self {
            registry: Registry::default(),
            pool,
            allocate: waits(),
            refusals: Family::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(waits),
            refill_seconds: waits(),
            commit_seconds: Histogram::new(COMMITS),
            spool_replayed: Counter::default(),
            awscni_adds: Gauge::default(),
            awscni_dels: Family::default(),
            awscni_none_free: Gauge::default(),
            awscni_calls: Family::default(),
            awscni_call_errors: Family::default(),
            awscni_latency: Family::new_with_constructor(|| Histogram::new(LATENCIES)),
            awscni_api_errors: Family::default(),
        };
        let version: Family<OfVersion, Gauge> = Family::default();
        version.get_or_create(&OfVersion { version: crate::VERSION }).set(1);
        let m = &metrics;
        registry.register("berth_build_info", "Version of the daemon", version.clone());
        registry.register("berth_allocate_seconds", "From request to answer, waiting included", m.allocate.clone());
        registry.register("berth_refusals", "Requests refused, by reason", m.refusals.clone());
        registry.register("berth_ec2_calls", "EC2 calls, by action and outcome", m.calls.clone());
        registry.register("berth_ec2_call_seconds", "How long EC2 calls took", m.call_seconds.clone());
        registry.register(
            "berth_refill_seconds",
            "How long EC2 took to give more addresses: creates and assigns that were done",
            m.refill_seconds.clone(),
        );
        registry.register(
            "berth_ledger_commit_seconds",
            "How long the ledger's commits took",
            m.commit_seconds.clone(),
        );
        registry.register("berth_spool_replayed", "DELs that came by the spool", m.spool_replayed.clone());
        registry.register("awscni_build_info", "Version of the daemon", version);
        registry.register("awscni_add_ip_req_count", "ADD requests", m.awscni_adds.clone());
        registry.register("awscni_del_ip_req_count", "DEL requests that ended a lease", m.awscni_dels.clone());
        registry.register(
            "awscni_no_available_ip_addresses",
            "ADDs refused for want of an address",
            m.awscni_none_free.clone(),
        );
        registry.register("awscni_ec2api_req_count", "EC2 calls", m.awscni_calls.clone());
        registry.register("awscni_ec2api_error_count", "EC2 calls that failed", m.awscni_call_errors.clone());
        registry.register("awscni_aws_api_latency_ms", "How long EC2 calls took", m.awscni_latency.clone());
        registry.register("awscni_aws_api_error_count", "EC2 calls that failed, by code", m.awscni_api_errors.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// The text of a scrape.
    pub fn render(&self, pool: Option<Picture>) -> Result<String, fmt::Error> {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = pool;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// An ADD came in.
    pub fn add_requested(&self) {
        self.awscni_adds.inc();
    }

    /// An ADD was answered.
    pub fn allocated(&self, after: Duration) {
        self.allocate.observe(after.as_secs_f64());
    }

    /// A lease ended by a DEL.
    pub fn released(&self) {
        self.awscni_dels.get_or_create(&OfReason { reason: "PodDeleted" }).inc();
    }

    /// A request was refused.
    pub fn refused(&self, why: &Refusal) {
        self.refusals.get_or_create(&OfReason { reason: why.name() }).inc();
        let none_free = !matches!(
            why,
            Refusal::SandboxGone
                | Refusal::UnknownSandbox
                | Refusal::ConfigInvalid { .. }
                | Refusal::Stopping
                | Refusal::LedgerUnavailable { .. }
        );
        if none_free {
            self.awscni_none_free.inc();
        }
    }

    /// A DEL came by the spool.
    pub fn replayed(&self) {
        self.spool_replayed.inc();
    }

    /// EC2 was called.
    pub fn called<T>(&self, action: Action, outcome: &Result<T, cloud::Error>, after: Duration) {
        if outcome.is_ok() && matches!(action, Action::CreateNetworkInterface | Action::AssignPrivateIpAddresses) {
            self.refill_seconds.observe(after.as_secs_f64());
        }
        let (action, failed) = (action.name(), outcome.as_ref().err());
        let kind = failed.map_or_else(|| "ok".to_owned(), |error| format!("{:?}", error.kind));
        self.calls.get_or_create(&OfCall { action, outcome: kind }).inc();
        self.call_seconds.get_or_create(&OfAction { action }).observe(after.as_secs_f64());
        self.awscni_calls.get_or_create(&OfFunction { r#fn: action }).inc();
        let labels = match failed {
            None => OfApi { api: action, error: "false", status: "200".to_owned() },
            Some(error) => OfApi { api: action, error: "true", status: error.code.clone() },
        };
        self.awscni_latency.get_or_create(&labels).observe(after.as_secs_f64() * 1000.0);
        if let Some(error) = failed {
            self.awscni_call_errors.get_or_create(&OfFunction { r#fn: action }).inc();
            self.awscni_api_errors.get_or_create(&OfApiError { api: action, error: error.code.clone() }).inc();
        }
    }
}

/// Counts the calls of the EC2 inside.
#[derive(Debug)]
pub struct Metered<C> {
    inner: Arc<C>,
    metrics: Arc<Metrics>,
}

impl<C> Metered<C> {
    /// Wraps.
    pub fn new(inner: Arc<C>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<C: Cloud> Cloud for Metered<C> {
    async fn call(&self, call: Call) -> Result<Answer, cloud::Error> {
        let action = call.action();
        let began = std::time::Instant::now();
        let outcome = self.inner.call(call).await;
        self.metrics.called(action, &outcome, began.elapsed());
        outcome
    }
}

/// Times the commits of the ledger inside.
#[derive(Debug)]
pub struct Timed<L> {
    inner: L,
    metrics: Arc<Metrics>,
}

impl<L> Timed<L> {
    /// Wraps.
    pub fn new(inner: L, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<L: Ledger> Ledger for Timed<L> {
    fn load(&mut self) -> Result<Vec<Entry>, LedgerError> {
        self.inner.load()
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), LedgerError> {
        let began = std::time::Instant::now();
        let outcome = self.inner.commit(records);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use pool::{BootTime, EniId, Kind, Policy, State};

    use super::*;

    struct Refuses;

    impl Cloud for Refuses {
        async fn call(&self, call: Call) -> Result<Answer, cloud::Error> {
            let (code, message) = ("RequestLimitExceeded".to_owned(), String::new());
            Err(cloud::Error { action: call.action(), kind: Kind::Throttled, code, message })
        }
    }

    #[test]
    fn a_scrape_has_the_pools_figures_and_what_was_counted() {
        let metrics = Arc::new(Metrics::default());
        metrics.add_requested();
        metrics.allocated(Duration::from_millis(2));
        metrics.refused(&Refusal::AddressLimit);
        metrics.released();
        let cloud = Metered::new(Arc::new(Refuses), Arc::clone(&metrics));
        let mut call = std::pin::pin!(cloud.call(Call::Delete { eni: EniId::from("eni-1") }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_ready());

        let state = State::new(Policy::default());
        let text = metrics.render(Some(Picture::of(&state, BootTime::default()))).expect("text");
        for line in [
            "berth_addresses{state=\"Free\",family=\"ipv4\"} 0",
            "berth_allocate_seconds_count 1",
            "berth_refusals_total{reason=\"AddressLimit\"} 1",
            "berth_ec2_calls_total{action=\"DeleteNetworkInterface\",outcome=\"Throttled\"} 1",
            "berth_ec2_call_seconds_count{action=\"DeleteNetworkInterface\"} 1",
            "berth_build_info{version=\"0.0.0\"} 1",
            "awscni_add_ip_req_count 1",
            "awscni_del_ip_req_count{reason=\"PodDeleted\"} 1",
            "awscni_no_available_ip_addresses 1",
            "awscni_ec2api_req_count{fn=\"DeleteNetworkInterface\"} 1",
            "awscni_ec2api_error_count{fn=\"DeleteNetworkInterface\"} 1",
            "awscni_aws_api_error_count{api=\"DeleteNetworkInterface\",error=\"RequestLimitExceeded\"} 1",
            "awscni_assigned_ip_addresses 0",
            "berth_spool_replayed_total 0",
            "berth_refill_seconds_count 0",
            "berth_prefixes{state=\"Free\"} 0",
            "berth_cooling_reused_early_total 0",
            "berth_demand_addresses 0",
            "awscni_total_ipv4_prefixes 0",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn only_what_gave_addresses_counts_as_a_refill() {
        let metrics = Metrics::default();
        let failed =
            |action| cloud::Error { action, kind: Kind::Throttled, code: String::new(), message: String::new() };
        for action in [Action::CreateNetworkInterface, Action::AssignPrivateIpAddresses, Action::AttachNetworkInterface]
        {
            metrics.called(action, &Ok(()), Duration::from_secs(2));
            metrics.called::<()>(action, &Err(failed(action)), Duration::from_secs(2));
        }
        let text = metrics.render(None).expect("text");
        for line in ["berth_refill_seconds_count 2", "berth_refill_seconds_sum 4.0"] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_node_that_has_stopped_has_no_pool_figures_but_the_others() {
        let text = Metrics::default().render(None).expect("text");
        assert!(
            !text.contains("berth_addresses") && !text.contains("berth_prefixes") && text.contains("berth_build_info"),
            "{text}"
        );
    }
}
