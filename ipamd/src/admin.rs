//! HTTP for machines that watch: `/metrics`, `/livez`, `/readyz`.
//!
//! Owns the three pages. Never changes anything.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use node::Handle;
use pool::Refusal;
use tokio::net::TcpListener;

use crate::{
    metrics::{Metrics, Picture},
    signs::Signs,
};

/// What the pages are made from.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The node.
    pub handle: Handle,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// Readiness.
    pub signs: Arc<Signs>,
}

/// Opens the port.
pub async fn listen(bind: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(bind).await
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(admin);
    axum::serve(listener, pages).await
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let picture = admin.handle.read(Picture::of).await;
    match admin.metrics.render(picture) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Alive is a loop that answers.
async fn livez(State(admin): State<Admin>) -> Response {
    match admin.handle.read(|_, _| ()).await {
        Some(()) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the node's loop has ended\n").into_response(),
    }
}

/// Ready is a pool that serves. The body says why it does not, and below that, a line each, what EC2 refuses the node: with what it has
/// it may serve all the same.
async fn readyz(State(admin): State<Admin>) -> Response {
    let held = admin.signs.held(&admin.handle).await;
    let troubles = admin.signs.troubles(&admin.handle).await;
    let line = |why: &Refusal| format!("{}: {why}\n", why.name());
    let below: String = troubles.iter().filter(|trouble| held.as_ref() != Some(trouble)).map(line).collect();
    match held {
        None => format!("ok\n{below}").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, line(&why) + &below).into_response(),
    }
}
