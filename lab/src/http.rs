//! HTTP connections of the lab's servers: axum's routing over hyper, so that a request can also end without an answer; and the
//! JSON of their admin paths.

use std::{convert::Infallible, fmt, io};

use axum::{
    Router,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tower::ServiceExt;

/// As a response: there is none, the connection ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoAnswer;

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for NoAnswer {}

/// Serves until the listener fails. Dropping it ends every connection.
pub(crate) async fn serve(listener: TcpListener, app: Router) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(stream, app.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, app: Router) {
    let service = service_fn(move |request| {
        let app = app.clone();
        async move {
            let response = app.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
            let lost = response.extensions().get::<NoAnswer>().copied();
            lost.map_or(Ok(response), Err)
        }
    });
    // How a connection ends is the client's business, or was wanted.
    let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Why an order on an admin path is not carried out.
pub(crate) type Refusal = (StatusCode, String);

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

pub(crate) fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("these types have string keys and no failing parts");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
