//! EC2's Query protocol over HTTP, in front of a [`World`]: what aws-sdk-ec2, boto3 and the AWS CLI speak.
//!
//! A request is a form with an `Action`; the answer is XML. Signatures are not looked at. The same server has an admin path
//! (`/_lab/...`, [`admin`]) for whoever runs the lab from another process. It decides nothing about EC2: that is `sim`.

pub mod admin;
mod params;
mod parse;
mod render;
mod xml;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::any,
};
use sim::Fault;
use tokio::net::TcpListener;

use crate::{
    http::{self, NoAnswer},
    world::{Service, Settings, Trouble, World},
};
use params::Params;
pub(crate) use render::dns_name;

/// Serves EC2 and the admin path until the listener fails; dropping it ends every connection.
pub async fn serve(listener: TcpListener, world: Arc<World>) -> io::Result<()> {
    let front = Front { world: Arc::clone(&world), answered: Arc::default() };
    let app = Router::new().route("/", any(query)).with_state(front).merge(admin::router(world));
    http::serve(listener, app).await
}

/// EC2 alone in a new world, for playing with a client: serves until it fails.
pub async fn run(address: SocketAddr, settings: Settings) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "EC2 listened");
    serve(listener, World::new(settings)).await
}

#[derive(Clone, Debug)]
struct Front {
    world: Arc<World>,
    answered: Arc<AtomicU64>,
}

async fn query(State(front): State<Front>, uri: Uri, body: Bytes) -> Response {
    if !front.world.reachable(Service::Ec2) {
        return NoAnswer.into_response();
    }
    let number = front.answered.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("00000000-0000-4000-8000-{number:012x}");
    // A GET carries in the URI what a POST carries in the body.
    let from_uri = uri.query().unwrap_or_default().as_bytes();
    let pairs = [from_uri, &body[..]].into_iter().flat_map(|part| form_urlencoded::parse(part).into_owned());
    let answer = answer(&front.world, pairs.collect(), &request_id).await;
    match answer {
        Ok(text) => reply(StatusCode::OK, &request_id, text),
        Err(Trouble::Refused(fault)) => {
            let status = StatusCode::from_u16(fault.http_status).unwrap_or(StatusCode::BAD_REQUEST);
            reply(status, &request_id, xml::fault(&fault, &request_id))
        }
        Err(Trouble::Lost) => NoAnswer.into_response(),
    }
}

async fn answer(world: &World, pairs: BTreeMap<String, String>, request_id: &str) -> Result<String, Trouble> {
    let request = parse::request(&Params::new(pairs)).map_err(|fault| {
        tracing::debug!(%fault, "EC2 request not understood");
        Trouble::Refused(fault)
    })?;
    let action = request.action();
    let response = world.call(request).await.inspect_err(|trouble| {
        tracing::debug!(%action, ?trouble, "EC2 call failed");
    })?;
    tracing::debug!(%action, "EC2 call answered");
    Ok(render::response(&response, request_id, |at| world.wall_clock(at)))
}

fn reply(status: StatusCode, request_id: &str, text: String) -> Response {
    let headers = [(header::CONTENT_TYPE.as_str(), "text/xml;charset=UTF-8"), ("x-amzn-requestid", request_id)];
    (status, headers, text).into_response()
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}
