//! EC2's Query protocol over HTTP, in front of a [`World`]: what aws-sdk-ec2, boto3 and the AWS CLI speak.
//!
//! A request is a form with an `Action`; the answer is XML. Signatures are not looked at. The same server has an admin path
//! ([`admin`]) for whoever runs the lab from another process. It decides nothing about EC2, that is `sim`, and makes no trouble:
//! that is the [proxy](crate::proxy), whose wish for an answer as of a while ago it fulfils.

pub mod admin;
mod params;
mod parse;
mod render;
mod xml;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Response as HttpResponse, StatusCode, Uri, header},
    response::Response,
    routing::any,
};
use sim::Fault;
use tokio::net::TcpListener;

use crate::{http, proxy::AS_OF, world::World};
use params::Params;
pub(crate) use render::dns_name;

/// Serves EC2 and the admin path until the listener fails; dropping it ends every connection.
pub async fn serve(listener: TcpListener, world: Arc<World>) -> io::Result<()> {
    let front = Front { world: Arc::clone(&world), answered: Arc::default() };
    let app = Router::new().route("/", any(query)).with_state(front).merge(admin::router(world));
    http::serve(listener, app).await
}

#[derive(Clone, Debug)]
struct Front {
    world: Arc<World>,
    answered: Arc<AtomicU64>,
}

async fn query(State(front): State<Front>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let number = front.answered.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    // A GET carries in the URI what a POST carries in the body.
    let from_uri = uri.query().unwrap_or_default().as_bytes();
    let pairs = [from_uri, &body[..]].into_iter().flat_map(|part| form_urlencoded::parse(part).into_owned());
    let age = headers.get(AS_OF).and_then(|value| value.to_str().ok()?.parse().ok());
    let request = match parse::request(&Params::new(pairs.collect())) {
        Ok(request) => request,
        Err(fault) => {
            tracing::debug!(%fault, "EC2 request not understood");
            return refusal(&fault, &request_id).map(Into::into);
        }
    };
    let (action, world) = (request.action(), &front.world);
    let (result, as_of) = match age {
        Some(age) if action.can_be_stale() => {
            (world.read_as_of(Duration::from_millis(age), request), Some(HeaderValue::from(age)))
        }
        _ => (world.make(request), None),
    };
    tracing::debug!(%action, refusal = result.as_ref().err().map(tracing::field::display), "EC2 call answered");
    let mut response = match result {
        Ok(response) => {
            let text = render::response(&response, &request_id, |at| world.wall_clock(at));
            reply(StatusCode::OK, &request_id, text)
        }
        Err(fault) => refusal(&fault, &request_id),
    };
    if let Some(as_of) = as_of {
        response.headers_mut().insert(AS_OF, as_of);
    }
    response.map(Into::into)
}

/// A refusal as EC2 sends it.
pub(crate) fn refusal(fault: &Fault, request_id: &str) -> HttpResponse<Bytes> {
    let status = StatusCode::from_u16(fault.http_status).unwrap_or(StatusCode::BAD_REQUEST);
    reply(status, request_id, xml::fault(fault, request_id))
}

fn reply(status: StatusCode, request_id: &str, text: String) -> HttpResponse<Bytes> {
    let mut response = HttpResponse::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
    headers.insert("x-amzn-requestid", HeaderValue::from_str(request_id).expect("an id of hex digits and hyphens"));
    response
}
