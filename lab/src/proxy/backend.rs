//! The server behind the proxy: an address, and connections to it that are used again.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Request, header},
};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use super::{AS_OF, Answer};

#[derive(Debug)]
pub(super) struct Backend {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// Why the backend has not answered.
#[derive(Debug, Error)]
pub(super) enum BackendError {
    #[error("connecting to {address}: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("asking: {0}")]
    Ask(#[from] hyper::Error),
    #[error("reading the answer: {0}")]
    Read(#[from] axum::Error),
}

/// More than any answer of EC2 has.
const MOST: usize = 64 << 20;

/// What belongs to one connection, not to the message (RFC 9110, 7.6.1), and what hyper writes itself.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Backend {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Asks, once: a request that may have arrived is never sent again. `as_of`: for the answer as it was so long ago.
    pub(super) async fn ask(&self, request: Request<Bytes>, as_of: Option<Duration>) -> Result<Answer, BackendError> {
        let mut request = request.map(Body::from);
        let headers = request.headers_mut();
        strip(headers);
        if let Some(age) = as_of {
            headers.insert(AS_OF, HeaderValue::from(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        }
        let (response, connection) = self.send(request).await?;
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let body = to_bytes(Body::new(body), MOST).await?;
        self.idle().push(connection);
        Ok(Answer::from_parts(parts, body))
    }

    async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(hyper::Response<hyper::body::Incoming>, SendRequest<Body>), BackendError> {
        loop {
            let idle = self.idle().pop();
            let Some(mut connection) = idle else { break };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                // The backend had closed it: the request comes back, nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut connection = self.connect().await?;
        Ok((connection.send_request(request).await?, connection))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, BackendError> {
        let connect = |source| BackendError::Connect { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender or with the backend; how is told to whoever asks.
        tokio::spawn(async move {
            let _ended = connection.await;
        });
        Ok(sender)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in &OF_THE_CONNECTION {
        headers.remove(name);
    }
}
