//! The server that the floor asks: it answers with nothing, at once.

use std::{convert::Infallible, path::Path};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    runtime::Runtime,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use crate::floor::{RAW_ANSWER, RAW_QUESTION, SERVICE};

/// A running server. Gone when dropped.
#[derive(Debug)]
pub struct FloorServer {
    _runtime: Runtime,
}

impl FloorServer {
    /// Listens at `socket` for gRPC, and beside it, with the ending `raw`, for bytes.
    pub fn start(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listen = |path: &Path| UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()));
        let entered = runtime.enter();
        let (grpc, raw) = (listen(socket)?, listen(&socket.with_extension("raw"))?);
        drop(entered);
        runtime.spawn(Server::builder().add_service(Nothing).serve_with_incoming(UnixListenerStream::new(grpc)));
        runtime.spawn(async move {
            while let Ok((stream, _)) = raw.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        Ok(Self { _runtime: runtime })
    }
}

async fn answer(mut stream: UnixStream) {
    // Whoever asks sees for itself when there is no answer.
    if stream.read_exact(&mut [0; RAW_QUESTION.len()]).await.is_ok() {
        let _ = stream.write_all(&RAW_ANSWER).await;
    }
}

/// A service with one method.
#[derive(Debug, Clone, Copy)]
struct Nothing;

impl NamedService for Nothing {
    const NAME: &'static str = SERVICE;
}

impl UnaryService<()> for Nothing {
    type Response = ();
    type Future = BoxFuture<Response<()>, Status>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        Box::pin(async { Ok(Response::new(())) })
    }
}

impl Service<http::Request<Body>> for Nothing {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async { Ok(Grpc::new(ProstCodec::<(), ()>::default()).unary(Self, request).await) })
    }
}
