//! The lab's own path on the proxy, JSON: how a test or `lab fault` in another process makes trouble and sees what was called.
//! The proxy passes on what else is below [`PATH`]: the lab's EC2 has a path of its own there ([`crate::ec2::admin`]).
//!
//! | path | method | what |
//! |---|---|---|
//! | `/_lab/faults` | GET | everything that goes wrong: [`Listing`] |
//! | `/_lab/faults` | POST | calls to be disturbed: [`FaultOrder`] |
//! | `/_lab/faults` | DELETE | back to how the lab began |
//! | `/_lab/storm` | POST | all at once: [`StormOrder`] |
//! | `/_lab/latency` | POST | [`LatencyOrder`] |
//! | `/_lab/buckets` | POST | [`BucketOrder`] |
//! | `/_lab/metadata` | POST | [`MetadataOrder`] |
//! | `/_lab/reachable` | POST | [`ReachableOrder`] |
//! | `/_lab/calls` | GET, DELETE | calls so far, by action; start counting anew |
//! | `/_lab/log` | GET | the latest calls, the oldest first: [`LogLine`] |

mod orders;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{Outcome, Proxy};
use crate::{
    http::{Refusal, json, parse},
    trouble::{Faults, Service},
};
pub use orders::{
    BucketOrder, FaultKind, FaultOrder, FaultTime, LatencyOrder, Listing, MetadataOrder, ReachableOrder, StormOrder,
};

/// What begins with this is no call of EC2.
pub const PATH: &str = "/_lab/";

/// One call of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it arrived, since the proxy started.
    pub at_ms: u64,
    /// The action.
    pub action: String,
    /// `accepted`, `lost`, or EC2's error code.
    pub outcome: String,
    /// Its parameters.
    pub request: BTreeMap<String, String>,
}

type Answered = Result<StatusCode, Refusal>;

pub(super) fn router(proxy: Arc<Proxy>) -> Router {
    Router::new()
        .route("/_lab/faults", get(faults).post(add_fault).delete(clear))
        .route("/_lab/storm", post(storm))
        .route("/_lab/latency", post(latency))
        .route("/_lab/buckets", post(bucket))
        .route("/_lab/metadata", post(metadata))
        .route("/_lab/reachable", post(reachable))
        .route("/_lab/calls", get(calls).delete(forget_calls))
        .route("/_lab/log", get(log))
        .with_state(proxy)
}

async fn faults(State(proxy): State<Arc<Proxy>>) -> Response {
    json(&Listing::of(&proxy.faults))
}

async fn add_fault(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, FaultOrder::carry_out)
}

async fn clear(State(proxy): State<Arc<Proxy>>) -> StatusCode {
    proxy.faults.clear();
    StatusCode::NO_CONTENT
}

async fn storm(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, |order: StormOrder, faults| {
        order.carry_out(faults);
        Ok(())
    })
}

async fn latency(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, LatencyOrder::carry_out)
}

async fn bucket(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, BucketOrder::carry_out)
}

async fn metadata(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, MetadataOrder::carry_out)
}

async fn reachable(State(proxy): State<Arc<Proxy>>, body: Bytes) -> Answered {
    obey(&proxy, &body, |order: ReachableOrder, faults| {
        for (service, reachable) in [(Service::Ec2, order.ec2), (Service::Metadata, order.metadata)] {
            if let Some(reachable) = reachable {
                faults.set_reachable(service, reachable);
            }
        }
        Ok(())
    })
}

async fn calls(State(proxy): State<Arc<Proxy>>) -> Response {
    json(&proxy.calls().into_iter().map(|(action, count)| (action.name(), count)).collect::<BTreeMap<_, _>>())
}

async fn forget_calls(State(proxy): State<Arc<Proxy>>) -> StatusCode {
    proxy.forget_calls();
    StatusCode::NO_CONTENT
}

async fn log(State(proxy): State<Arc<Proxy>>) -> Response {
    let lines = proxy.log().into_iter().map(|logged| LogLine {
        at_ms: u64::try_from(logged.at.as_millis()).unwrap_or(u64::MAX),
        action: logged.action,
        outcome: match logged.outcome {
            Outcome::Accepted => "accepted".into(),
            Outcome::Lost => "lost".into(),
            Outcome::Refused(code) => code,
        },
        request: form_urlencoded::parse(&logged.form).into_owned().collect(),
    });
    json(&lines.collect::<Vec<_>>()).into_response()
}

fn obey<T: for<'a> Deserialize<'a>>(
    proxy: &Proxy,
    body: &[u8],
    carry_out: impl FnOnce(T, &Faults) -> Result<(), String>,
) -> Answered {
    carry_out(parse(body)?, &proxy.faults).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    Ok(StatusCode::NO_CONTENT)
}
