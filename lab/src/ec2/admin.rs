//! The lab's own path on the EC2 server, JSON: how a test or `lab fault` in another process disturbs the world and sees what
//! it did. Its types are the wire's, not the model's.
//!
//! | path | method | what |
//! |---|---|---|
//! | `/_lab/faults` | GET, POST, DELETE | calls to be disturbed: [`FaultOrder`] |
//! | `/_lab/calls` | GET, DELETE | calls so far, by action; start counting anew |
//! | `/_lab/log` | GET | the latest calls, the oldest first |
//! | `/_lab/state` | GET | every ENI as it really is |
//! | `/_lab/settings` | PATCH | [`SettingsPatch`] |

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sim::{Action, Fault};

use crate::{
    trouble::{Disturbance, Injection, Latency, When},
    world::{Outcome, Service, World},
};

/// Calls to be disturbed. `{"action": "AttachNetworkInterface", "kind": "lose", "when": "after"}` loses one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultOrder {
    /// Calls of this action; absent: of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Let so many pass first.
    #[serde(default)]
    pub skip: u32,
    /// Disturb so many; 0: all that follow.
    #[serde(default = "one")]
    pub count: u32,
    /// How.
    pub kind: FaultKind,
    /// Does the call do what was asked, all the same? Not for `delay`.
    #[serde(default)]
    pub when: FaultTime,
    /// EC2's error code, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// EC2's error message, for `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The HTTP status, for `refuse`; absent: 400, or 503 for `RequestLimitExceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How much longer, for `delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
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

/// What to change; what is absent stays. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the setting of the same name in world::Settings and sim::Times")]
pub struct SettingsPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub latency_ms_by_action: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detach_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplug_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imds_lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ec2_reachable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_reachable: Option<bool>,
}

/// One call of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it arrived, since the world began.
    pub at_ms: u64,
    /// The action.
    pub action: String,
    /// `accepted`, `lost`, or EC2's error code.
    pub outcome: String,
    /// The request, for people.
    pub request: String,
}

/// One ENI as it really is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the field of the same name in sim::responses::NetworkInterface")]
pub struct EniState {
    pub eni: String,
    pub status: String,
    pub subnet: String,
    pub mac: String,
    pub addresses: Vec<Ipv4Addr>,
    pub tags: BTreeMap<String, String>,
    pub instance: Option<String>,
    pub device_index: Option<u32>,
    pub attachment_status: Option<String>,
    pub device_visible: bool,
    pub delete_on_termination: Option<bool>,
}

pub(super) fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/_lab/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_lab/calls", get(calls).delete(forget_calls))
        .route("/_lab/log", get(log))
        .route("/_lab/state", get(state))
        .route("/_lab/settings", patch(change_settings))
        .with_state(world)
}

async fn faults(State(world): State<Arc<World>>) -> Response {
    json(&world.injections().iter().map(FaultOrder::from).collect::<Vec<_>>())
}

async fn add_fault(State(world): State<Arc<World>>, body: Bytes) -> Result<Response, (StatusCode, String)> {
    let injection: FaultOrder = parse(&body)?;
    world.inject(Injection::try_from(injection).map_err(bad_request)?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn clear_faults(State(world): State<Arc<World>>) -> StatusCode {
    world.clear_injections();
    StatusCode::NO_CONTENT
}

async fn calls(State(world): State<Arc<World>>) -> Response {
    json(&world.calls().into_iter().map(|(action, count)| (action.name(), count)).collect::<BTreeMap<_, _>>())
}

async fn forget_calls(State(world): State<Arc<World>>) -> StatusCode {
    world.forget_calls();
    StatusCode::NO_CONTENT
}

async fn log(State(world): State<Arc<World>>) -> Response {
    let lines = world.log().into_iter().map(|logged| LogLine {
        at_ms: u64::try_from(logged.at.as_millis()).unwrap_or(u64::MAX),
        action: logged.request.action().to_string(),
        outcome: match logged.outcome {
            Outcome::Accepted => "accepted".into(),
            Outcome::Lost => "lost".into(),
            Outcome::Refused(code) => code,
        },
        request: format!("{:?}", logged.request),
    });
    json(&lines.collect::<Vec<_>>())
}

async fn state(State(world): State<Arc<World>>) -> Response {
    let enis = world.vpc(|vpc| {
        let visible = |instance: &str, eni: &str| {
            vpc.attached(instance).iter().any(|attached| attached.eni == eni && attached.device_visible)
        };
        let all = vpc.enis().into_iter().map(|eni| {
            let own = eni.attachment.as_ref();
            EniState {
                status: eni.status.to_string(),
                mac: eni.mac.to_string(),
                instance: own.map(|own| own.instance.clone()),
                device_index: own.map(|own| own.device_index),
                attachment_status: own.map(|own| own.status.to_string()),
                device_visible: own.is_some_and(|own| visible(&own.instance, &eni.id)),
                delete_on_termination: own.map(|own| own.delete_on_termination),
                eni: eni.id,
                subnet: eni.subnet,
                addresses: eni.addresses,
                tags: eni.tags,
            }
        });
        all.collect::<Vec<_>>()
    });
    json(&enis)
}

async fn change_settings(State(world): State<Arc<World>>, body: Bytes) -> Result<StatusCode, (StatusCode, String)> {
    let patch: SettingsPatch = parse(&body)?;
    apply(&world, &patch).map_err(bad_request)?;
    Ok(StatusCode::NO_CONTENT)
}

fn apply(world: &World, patch: &SettingsPatch) -> Result<(), String> {
    let mut by_action = BTreeMap::new();
    for (name, ms) in &patch.latency_ms_by_action {
        let action: Action = name.parse().map_err(|unknown: sim::requests::UnknownAction| unknown.to_string())?;
        let time = Duration::from_millis(*ms);
        by_action.insert(action, time..=time);
    }
    if patch.latency_ms.is_some() || !by_action.is_empty() {
        let usual = Latency::fixed(Duration::from_millis(patch.latency_ms.unwrap_or(0)));
        world.set_latency(Latency { by_action, ..usual });
    }
    world.set_times(|times| {
        for (time, ms) in [
            (&mut times.create, patch.create_ms),
            (&mut times.attach, patch.attach_ms),
            (&mut times.device, patch.device_ms),
            (&mut times.detach, patch.detach_ms),
            (&mut times.unplug, patch.unplug_ms),
        ] {
            if let Some(ms) = ms {
                *time = Duration::from_millis(ms);
            }
        }
    });
    if let Some(ms) = patch.imds_lag_ms {
        world.set_imds_lag(Duration::from_millis(ms));
    }
    if let Some(reachable) = patch.ec2_reachable {
        world.set_reachable(Service::Ec2, reachable);
    }
    if let Some(reachable) = patch.metadata_reachable {
        world.set_reachable(Service::Metadata, reachable);
    }
    Ok(())
}

impl TryFrom<FaultOrder> for Injection {
    type Error = String;

    fn try_from(order: FaultOrder) -> Result<Self, String> {
        let action = order
            .action
            .map(|name| name.parse().map_err(|unknown: sim::requests::UnknownAction| unknown.to_string()))
            .transpose()?;
        let when = match order.when {
            FaultTime::Before => When::BeforeEffect,
            FaultTime::After => When::AfterEffect,
        };
        let disturbance = match order.kind {
            FaultKind::Lose => Disturbance::Lose(when),
            FaultKind::Hang => Disturbance::Hang(when),
            FaultKind::Delay => Disturbance::Delay(Duration::from_millis(order.delay_ms.ok_or("delay_ms is missing")?)),
            FaultKind::Refuse => {
                let code = order.code.ok_or("code is missing")?;
                let throttled = Fault::throttled();
                let usual = if code == throttled.code { throttled } else { Fault::new(code, "Injected by the lab.") };
                let status = order.status.unwrap_or(usual.http_status);
                let message = order.message.unwrap_or(usual.message);
                Disturbance::Refuse(when, Fault::new(usual.code, message).with_status(status))
            }
        };
        let count = Some(order.count).filter(|count| *count > 0);
        Ok(Self { action, skip: order.skip, count, disturbance })
    }
}

impl From<&Injection> for FaultOrder {
    fn from(injection: &Injection) -> Self {
        let (kind, when) = match &injection.disturbance {
            Disturbance::Refuse(when, _) => (FaultKind::Refuse, *when),
            Disturbance::Lose(when) => (FaultKind::Lose, *when),
            Disturbance::Hang(when) => (FaultKind::Hang, *when),
            Disturbance::Delay(_) => (FaultKind::Delay, When::BeforeEffect),
        };
        let fault = match &injection.disturbance {
            Disturbance::Refuse(_, fault) => Some(fault),
            _ => None,
        };
        let delay = match &injection.disturbance {
            Disturbance::Delay(time) => Some(*time),
            _ => None,
        };
        Self {
            action: injection.action.map(|action| action.name().to_owned()),
            skip: injection.skip,
            count: injection.count.unwrap_or(0),
            kind,
            when: match when {
                When::BeforeEffect => FaultTime::Before,
                When::AfterEffect => FaultTime::After,
            },
            code: fault.map(|fault| fault.code.to_string()),
            message: fault.map(|fault| fault.message.clone()),
            status: fault.map(|fault| fault.http_status),
            delay_ms: delay.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn one() -> u32 {
    1
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| bad_request(error.to_string()))
}

fn bad_request(why: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why)
}

fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("these types have string keys and no failing parts");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
