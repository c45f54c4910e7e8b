//! An HTTP server on this machine: its address, and connections to it that are used again. It sends every request once: one that
//! may have arrived is never sent again.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderName, Request, Response, header},
};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub(crate) struct Remote {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

/// Why a server has not answered.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// Nobody is there.
    #[error("connecting to {address}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection ended.
    #[error("asking")]
    Ask(#[from] hyper::Error),
    /// The connection ended within the answer.
    #[error("reading the answer")]
    Read(#[from] axum::Error),
}

/// More than any answer has.
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

impl Remote {
    /// It connects when the first request comes.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks, once.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, RemoteError> {
        let mut request = request.map(Body::from);
        strip(request.headers_mut());
        let (response, connection) = self.send(request).await?;
        let (mut parts, body) = response.into_parts();
        strip(&mut parts.headers);
        let body = to_bytes(Body::new(body), MOST).await?;
        self.idle().push(connection);
        Ok(Response::from_parts(parts, body))
    }

    async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(hyper::Response<hyper::body::Incoming>, SendRequest<Body>), RemoteError> {
        loop {
            let idle = self.idle().pop();
            let Some(mut connection) = idle else { break };
            if connection.ready().await.is_err() {
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                // The server had closed it: the request comes back, nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut connection = self.connect().await?;
        Ok((connection.send_request(request).await?, connection))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, RemoteError> {
        let connect = |source| RemoteError::Connect { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender or with the server; how is told to whoever asks.
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
