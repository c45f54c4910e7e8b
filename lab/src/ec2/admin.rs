//! The lab's own path on its EC2, JSON: what really is, and how long things take. The proxy in front passes it on; in front of another
//! EC2 it has the state itself.
//!
//! | path | method | what |
//! |---|---|---|
//! | `/_lab/state` | GET | every ENI as it really is: [`EniState`] |
//! | `/_lab/times` | PATCH | how long EC2's transitions take: [`TimesPatch`] |

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, patch},
};
use serde::{Deserialize, Serialize};

use crate::{
    http::{Refusal, json, parse},
    truth::Truth,
    world::World,
};

/// What to change, in milliseconds; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each is the field of the same name in sim::Times")]
pub struct TimesPatch {
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
    let times = Router::new().route("/_lab/times", patch(change_times)).with_state(Arc::clone(&world));
    state_of(world.into()).merge(times)
}

/// The path that tells what really is.
pub(crate) fn state_of(truth: Truth) -> Router {
    Router::new().route("/_lab/state", get(state)).with_state(truth)
}

async fn state(State(truth): State<Truth>) -> Response {
    let visible = |instance: &str, eni: &str| {
        truth.attached(instance).iter().any(|attached| attached.eni == eni && attached.device_visible)
    };
    let all = truth.enis().into_iter().map(|eni| {
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
    json(&all.collect::<Vec<_>>())
}

async fn change_times(State(world): State<Arc<World>>, body: Bytes) -> Result<StatusCode, Refusal> {
    let patch: TimesPatch = parse(&body)?;
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
    Ok(StatusCode::NO_CONTENT)
}
