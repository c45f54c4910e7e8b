//! One question to the server, and its answer.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::{Call, METHOD, RAW_ANSWER, RAW_QUESTION};

pub(super) fn call(how: Call, socket: &Path) -> io::Result<()> {
    match how {
        Call::Tonic => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tonic(socket)),
        Call::Raw => raw(socket),
    }
}

async fn tonic(socket: &Path) -> io::Result<()> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(io::Error::other)?;
    let mut client = Grpc::new(endpoint.connect().await.map_err(io::Error::other)?);
    client.ready().await.map_err(io::Error::other)?;
    let codec = ProstCodec::<(), ()>::default();
    client.unary(Request::new(()), PathAndQuery::from_static(METHOD), codec).await.map_err(io::Error::other)?;
    Ok(())
}

fn raw(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket.with_extension("raw"))?;
    stream.write_all(&RAW_QUESTION)?;
    stream.read_exact(&mut [0; RAW_ANSWER.len()])
}
