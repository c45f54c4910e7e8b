//! Questions to the daemon on this node.
//!
//! Owns the connection and every way in which it can fail, each with what to do about it. Never shows anything.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use proto::v1::{self, inspect_client::InspectClient};
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{args::PodName, convert};

/// The daemon was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unasked {
    /// No socket at the path.
    #[error(
        "{0} does not exist: ipamd is not running on this node, or has another run directory (--run-dir, BERTH_RUN_DIR)"
    )]
    NoSocket(PathBuf),
    /// A socket, but no process behind it.
    #[error("nobody listens on {0}: ipamd has ended; start it, its log says why")]
    NobodyListens(PathBuf),
    /// The socket is root's.
    #[error("{0} is for root only: run ipamctl as root on the node")]
    NotRoot(PathBuf),
    /// Something else between us and the socket.
    #[error("connecting to {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What listens there does not speak gRPC.
    #[error("{path} does not speak gRPC: is it ipamd's socket?")]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What tonic said.
        source: tonic::transport::Error,
    },
    /// No answer in time.
    #[error("ipamd did not answer within {}: it is stuck or stopped; look at its /livez and its log", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The daemon does not know the question.
    #[error("this ipamd does not know the question: it is older than ipamctl; use the ipamctl of its release")]
    Older,
    /// The daemon refused, with a reason of the closed set.
    #[error("ipamd cannot say ({reason}): {message}")]
    Refused {
        /// The reason's name.
        reason: String,
        /// The sentence.
        message: String,
    },
    /// What was asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The connection or the daemon failed in another way.
    #[error("asking ipamd failed ({code:?}): {message}; its log may say more")]
    Failed {
        /// gRPC's code.
        code: Code,
        /// The message that came with it.
        message: String,
    },
}

/// A connection to the daemon.
pub(crate) struct Daemon {
    client: InspectClient<Channel>,
    socket: PathBuf,
    timeout: Duration,
}

impl Daemon {
    /// Connects to `ipamd.sock` in the run directory. `timeout` bounds the connection and then each question.
    pub(crate) async fn connect(run_dir: &Path, timeout: Duration) -> Result<Self, Unasked> {
        let socket = run_dir.join("ipamd.sock");
        let stream = tokio::time::timeout(timeout, UnixStream::connect(&socket))
            .await
            .map_err(|_| Unasked::Silent(timeout))?
            .map_err(|source| unreachable(&socket, source))?;
        // The stream is made here, so that its io::Error is at hand as a value; tonic gets it once.
        let stream = Mutex::new(Some(TokioIo::new(stream)));
        let connector = tower::service_fn(move |_| {
            let stream = stream.lock().ok().and_then(|mut held| held.take());
            std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        let endpoint = Endpoint::from_static("http://ipamd");
        let channel = tokio::time::timeout(timeout, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| Unasked::Silent(timeout))?
            .map_err(|source| Unasked::Foreign { path: socket.clone(), source })?;
        Ok(Self { client: InspectClient::new(channel), socket, timeout })
    }

    /// ENIs, addresses, targets, demand.
    pub(crate) async fn pool(&mut self) -> Result<v1::PoolResponse, Unasked> {
        let asked = tokio::time::timeout(self.timeout, self.client.pool(v1::PoolRequest {})).await;
        self.answered(asked)
    }

    /// The leases of one pod, of one address, or all.
    pub(crate) async fn leases(
        &mut self,
        pod: Option<&PodName>,
        address: Option<IpAddr>,
    ) -> Result<v1::LeasesResponse, Unasked> {
        let request = v1::LeasesRequest { pod: text(pod), address: text(address) };
        let asked = tokio::time::timeout(self.timeout, self.client.leases(request)).await;
        self.answered(asked)
    }

    /// Why the pool is what it is, or why a pod has no address.
    pub(crate) async fn explain(&mut self, pod: Option<&PodName>) -> Result<v1::ExplainResponse, Unasked> {
        let asked =
            tokio::time::timeout(self.timeout, self.client.explain(v1::ExplainRequest { pod: text(pod) })).await;
        self.answered(asked)
    }

    fn answered<T>(
        &self,
        asked: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
    ) -> Result<T, Unasked> {
        let answer = asked.map_err(|_| Unasked::Silent(self.timeout))?;
        answer.map(tonic::Response::into_inner).map_err(|status| refused(&self.socket, &status))
    }
}

/// A filter as the protocol has it: empty for none.
fn text(filter: Option<impl ToString>) -> String {
    filter.map(|value| value.to_string()).unwrap_or_default()
}

fn unreachable(socket: &Path, source: io::Error) -> Unasked {
    let path = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Unasked::NoSocket(path),
        io::ErrorKind::ConnectionRefused => Unasked::NobodyListens(path),
        io::ErrorKind::PermissionDenied => Unasked::NotRoot(path),
        _ => Unasked::Connect { path, source },
    }
}

fn refused(socket: &Path, status: &Status) -> Unasked {
    if status.code() == Code::NotFound {
        return Unasked::NotFound(status.message().to_owned());
    }
    if let Some(refusal) = proto::refusal(status).map(convert::refusal) {
        return Unasked::Refused { reason: refusal.reason, message: refusal.message };
    }
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => Unasked::NotRoot(socket.to_owned()),
        Code::Unimplemented => Unasked::Older,
        code => Unasked::Failed { code, message: status.message().to_owned() },
    }
}
