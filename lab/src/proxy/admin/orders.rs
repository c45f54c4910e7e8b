//! What can be ordered over the admin path: the wire's types, and what each makes of the model's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sim::{Action, Fault};

use crate::trouble::{
    Bucket, Chance, Disturbance, Extent, Faults, Injection, Omission, Omitted, Service, Spread, Trouble, When,
};

/// Calls to be disturbed. `{"action": "AttachNetworkInterface", "kind": "lose", "when": "after"}` loses one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// Calls of this action; absent: of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Let so many pass first.
    #[serde(default)]
    pub skip: u32,
    /// Disturb so many; 0: all that follow.
    #[serde(default = "once")]
    pub count: u32,
    /// The probability for each of them.
    #[serde(default = "always")]
    pub chance: f64,
    /// How.
    pub kind: FaultKind,
    /// Does the call do what was asked, all the same? For `refuse`, `lose` and `hang`.
    #[serde(default)]
    pub when: FaultTime,
    /// EC2's error code, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// EC2's error message, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The HTTP status, for `refuse`; absent: as EC2 does for this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How much longer, for `delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How old an answer, for `stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// See [`Disturbance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// EC2 answers with an error.
    Refuse,
    /// The connection ends without an answer.
    Lose,
    /// No answer comes.
    Hang,
    /// The answer takes longer.
    Delay,
    /// A read is answered as it was a while ago.
    Stale,
}

/// See [`When`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultTime {
    /// Without an effect.
    #[default]
    Before,
    /// With the effect.
    After,
}

/// See [`Trouble::storm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StormOrder {
    /// Same seed, same storm.
    pub seed: u64,
}

/// How long calls take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyOrder {
    /// Calls of this action; absent: of each that has no spread of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `50ms`, `10ms..90ms` or `50ms~1s` (median and 99th percentile of a long tail).
    pub spread: String,
}

/// How often an action may be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketOrder {
    /// Calls of this action; absent: of each that has no bucket of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// So many at once.
    pub burst: u32,
    /// How long until one more may come.
    pub refill_ms: u64,
}

/// What goes wrong with metadata; what is absent stays. `{"omit": "eni-1", "reads": 1}` leaves an ENI out of one listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataOrder {
    /// How far it is behind EC2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<u64>,
    /// How long an answer takes, as in [`LatencyOrder::spread`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// The id of an ENI or an address that it leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omit: Option<String>,
    /// From so many listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<u32>,
    /// For so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

/// What is to be reachable; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReachableOrder {
    /// EC2's API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ec2: Option<bool>,
    /// Metadata, on every node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<bool>,
}

/// Everything that goes wrong now, each as the order that makes it so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is as in Trouble")]
pub struct Listing {
    pub seed: u64,
    pub latency: Vec<LatencyOrder>,
    pub buckets: Vec<BucketOrder>,
    pub faults: Vec<FaultOrder>,
    pub metadata: Vec<MetadataOrder>,
    pub reachable: ReachableOrder,
}

impl FaultOrder {
    /// The next call of any action, before its effect, and nothing said about how.
    pub(crate) fn of(kind: FaultKind) -> Self {
        Self {
            action: None,
            skip: 0,
            count: once(),
            chance: always(),
            kind,
            when: FaultTime::Before,
            code: None,
            message: None,
            status: None,
            delay_ms: None,
            age_ms: None,
        }
    }

    pub(super) fn carry_out(self, faults: &Faults) -> Result<(), String> {
        faults.inject(self.try_into()?);
        Ok(())
    }
}

impl StormOrder {
    pub(super) fn carry_out(self, faults: &Faults) {
        faults.set(Trouble::storm(self.seed));
    }
}

impl LatencyOrder {
    pub(super) fn carry_out(self, faults: &Faults) -> Result<(), String> {
        faults.set_spread(action(self.action)?, spread(&self.spread)?);
        Ok(())
    }
}

impl BucketOrder {
    pub(super) fn carry_out(self, faults: &Faults) -> Result<(), String> {
        let bucket = Bucket { burst: self.burst, refill: Duration::from_millis(self.refill_ms) };
        faults.set_bucket(action(self.action)?, bucket);
        Ok(())
    }
}

impl MetadataOrder {
    pub(super) fn carry_out(self, faults: &Faults) -> Result<(), String> {
        let latency = self.latency.as_deref().map(spread).transpose()?;
        let extent = match (self.reads, self.for_ms) {
            (None | Some(1..), None) => Extent::Reads(self.reads.unwrap_or(1)),
            (None, Some(ms)) => Extent::For(Duration::from_millis(ms)),
            (Some(0), _) => return Err("reads is 0".into()),
            (Some(_), Some(_)) => return Err("either reads or for_ms".into()),
        };
        let what: Option<Omitted> = self
            .omit
            .map(|what| what.parse())
            .transpose()
            .map_err(|error: crate::trouble::NotOmittable| error.to_string())?;
        if what.is_none() && (self.reads.is_some() || self.for_ms.is_some()) {
            return Err("omit is missing".into());
        }
        if let Some(ms) = self.lag_ms {
            faults.set_metadata_lag(Duration::from_millis(ms));
        }
        if let Some(latency) = latency {
            faults.set_metadata_latency(latency);
        }
        if let Some(what) = what {
            faults.omit(Omission { what, extent });
        }
        Ok(())
    }
}

impl Listing {
    pub(super) fn of(faults: &Faults) -> Self {
        let Trouble { seed, latency, buckets, injections, metadata } = faults.trouble();
        let spread =
            |action: Option<Action>, spread: &Spread| LatencyOrder { action: name(action), spread: spread.to_string() };
        let bucket = |action: Option<Action>, bucket: Bucket| BucketOrder {
            action: name(action),
            burst: bucket.burst,
            refill_ms: ms(bucket.refill),
        };
        let mut latencies = vec![spread(None, &latency.usual)];
        latencies.extend(latency.by_action.iter().map(|(action, times)| spread(Some(*action), times)));
        let named = buckets.by_action.iter().map(|(action, own)| bucket(Some(*action), *own));
        let reachable = |service| Some(faults.reachable(service));
        let mut of_metadata = vec![MetadataOrder {
            lag_ms: Some(ms(metadata.lag)),
            latency: Some(metadata.latency.to_string()),
            ..MetadataOrder::default()
        }];
        of_metadata.extend(metadata.omissions.iter().map(MetadataOrder::from));
        Self {
            seed,
            latency: latencies,
            buckets: buckets.usual.map(|own| bucket(None, own)).into_iter().chain(named).collect(),
            faults: injections.iter().map(FaultOrder::from).collect(),
            metadata: of_metadata,
            reachable: ReachableOrder { ec2: reachable(Service::Ec2), metadata: reachable(Service::Metadata) },
        }
    }
}

impl From<&Omission> for MetadataOrder {
    fn from(omission: &Omission) -> Self {
        let (reads, for_ms) = match omission.extent {
            Extent::Reads(left) => (Some(left), None),
            Extent::For(time) => (None, Some(ms(time))),
        };
        Self { omit: Some(omission.what.to_string()), reads, for_ms, ..Self::default() }
    }
}

impl TryFrom<FaultOrder> for Injection {
    type Error = String;

    fn try_from(order: FaultOrder) -> Result<Self, String> {
        let when = match order.when {
            FaultTime::Before => When::BeforeEffect,
            FaultTime::After => When::AfterEffect,
        };
        let time = |ms: Option<u64>, name: &str| ms.map(Duration::from_millis).ok_or(format!("{name} is missing"));
        let disturbance = match order.kind {
            FaultKind::Lose => Disturbance::Lose(when),
            FaultKind::Hang => Disturbance::Hang(when),
            FaultKind::Delay => Disturbance::Delay(time(order.delay_ms, "delay_ms")?),
            FaultKind::Stale => Disturbance::Stale(time(order.age_ms, "age_ms")?),
            FaultKind::Refuse => {
                let code = order.code.ok_or("code is missing")?;
                let usual = usual(code);
                let status = order.status.unwrap_or(usual.http_status);
                if !(400..600).contains(&status) {
                    return Err(format!("{status} is no HTTP status of a refusal"));
                }
                let message = order.message.unwrap_or(usual.message);
                Disturbance::Refuse(when, Fault::new(usual.code, message).with_status(status))
            }
        };
        Ok(Self {
            action: action(order.action)?,
            skip: order.skip,
            count: Some(order.count).filter(|count| *count > 0),
            chance: Chance::new(order.chance).ok_or_else(|| format!("{} is no probability", order.chance))?,
            disturbance,
        })
    }
}

impl From<&Injection> for FaultOrder {
    fn from(injection: &Injection) -> Self {
        let mut order = Self {
            action: name(injection.action),
            skip: injection.skip,
            count: injection.count.unwrap_or(0),
            chance: injection.chance.probability(),
            ..Self::of(FaultKind::Lose)
        };
        let time = |when: &When| match when {
            When::BeforeEffect => FaultTime::Before,
            When::AfterEffect => FaultTime::After,
        };
        match &injection.disturbance {
            Disturbance::Lose(when) => (order.kind, order.when) = (FaultKind::Lose, time(when)),
            Disturbance::Hang(when) => (order.kind, order.when) = (FaultKind::Hang, time(when)),
            Disturbance::Delay(more) => (order.kind, order.delay_ms) = (FaultKind::Delay, Some(ms(*more))),
            Disturbance::Stale(age) => (order.kind, order.age_ms) = (FaultKind::Stale, Some(ms(*age))),
            Disturbance::Refuse(when, fault) => {
                (order.kind, order.when) = (FaultKind::Refuse, time(when));
                order.code = Some(fault.code.to_string());
                order.message = Some(fault.message.clone());
                order.status = Some(fault.http_status);
            }
        }
        order
    }
}

/// A refusal with this code as EC2 words it, as far as it is known.
fn usual(code: String) -> Fault {
    let throttled = Fault::throttled();
    match code.as_str() {
        known if known == throttled.code => throttled,
        "InternalError" => Fault::new(code, "An internal error has occurred").with_status(500),
        "Unavailable" | "ServiceUnavailable" | "InternalFailure" => Fault::new(code, INJECTED).with_status(503),
        _ => Fault::new(code, INJECTED),
    }
}

const INJECTED: &str = "Injected by the lab.";

fn action(name: Option<String>) -> Result<Option<Action>, String> {
    name.map(|name| name.parse().map_err(|unknown: sim::requests::UnknownAction| unknown.to_string())).transpose()
}

fn name(action: Option<Action>) -> Option<String> {
    action.map(|action| action.name().to_owned())
}

fn spread(text: &str) -> Result<Spread, String> {
    text.parse().map_err(|error: crate::trouble::NotASpread| error.to_string())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn once() -> u32 {
    1
}

fn always() -> f64 {
    1.0
}
