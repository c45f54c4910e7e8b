//! The gRPC server on the node's unix socket.
//!
//! Owns the socket, who may use it, and the services. Never decides: every answer comes from [`node::Handle`].

mod inspect;
mod ipam;

use std::{
    future::Future,
    io,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use node::Handle;
use proto::v1::{inspect_server::InspectServer, ipam_server::IpamServer};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::transport::Server;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tracing::warn;

use crate::{convert::Facing, ledger::RunLock, metrics::Metrics, signs::Signs};

/// The name of the socket in the run directory.
pub const SOCKET: &str = "ipamd.sock";

/// The largest request that is read: all the annotations that Kubernetes allows a pod (256 KiB) and the rest of an ADD, or a GC with the keys
/// of a thousand pods.
const REQUEST_LIMIT: usize = 1 << 20;

/// What the services need.
#[derive(Debug)]
pub struct Context {
    /// The node.
    pub handle: Handle,
    /// What attachments say.
    pub facing: Facing,
    /// NETWORK_POLICY_ENFORCING_MODE.
    pub network_policy_mode: String,
    /// BERTH_ADD_DEADLINE.
    pub add_deadline: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What else is known of the node.
    pub signs: Arc<Signs>,
    node_address: OnceLock<Ipv4Addr>,
}

impl Context {
    /// Makes one.
    pub fn new(
        handle: Handle,
        facing: Facing,
        network_policy_mode: String,
        add_deadline: Duration,
        metrics: Arc<Metrics>,
        signs: Arc<Signs>,
    ) -> Self {
        let node_address = OnceLock::new();
        Self { handle, facing, network_policy_mode, add_deadline, metrics, signs, node_address }
    }

    /// The node's own address, which does not change while it runs.
    async fn node_address(&self) -> Option<Ipv4Addr> {
        if let Some(address) = self.node_address.get() {
            return Some(*address);
        }
        let address = self.handle.read(|state, _| state.facts().map(|facts| facts.address)).await??;
        Some(*self.node_address.get_or_init(|| address))
    }
}

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct SocketError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens the socket: 0600 from its first moment on, in place of one that an earlier daemon left.
pub fn listen(_held: &RunLock, run_dir: &Path) -> Result<UnixListener, SocketError> {
    let path = run_dir.join(SOCKET);
    let fresh = run_dir.join("ipamd.sock.new");
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| SocketError { operation, path, source }
    };
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("removing", &fresh)(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed("binding", &fresh))?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).map_err(failed("guarding", &fresh))?;
    std::fs::rename(&fresh, &path).map_err(failed("placing", &path))?;
    Ok(listener)
}

/// Serves until `stop`; requests in flight are finished.
pub async fn serve(
    listener: UnixListener,
    context: Arc<Context>,
    stop: impl Future<Output = ()> + Send,
    health: HealthReporter,
) -> Result<(), tonic::transport::Error> {
    let callers = UnixListenerStream::new(listener).filter_map(|caller| match caller {
        Ok(caller) => admitted(&caller).then_some(Ok(caller)),
        Err(error) => Some(Err(error)),
    });
    Server::builder()
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
        .add_service(IpamServer::new(ipam::Ipam(Arc::clone(&context))).max_decoding_message_size(REQUEST_LIMIT))
        .add_service(InspectServer::new(inspect::Inspect(context)).max_decoding_message_size(REQUEST_LIMIT))
        .serve_with_incoming_shutdown(callers, stop)
        .await
}

/// Root only, whatever became of the socket's mode.
fn admitted(caller: &UnixStream) -> bool {
    match caller.peer_cred() {
        Ok(peer) if peer.uid() == 0 => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), pid = peer.pid(), "turned away a caller that is not root");
            false
        }
        Err(error) => {
            warn!(%error, "turned away a caller that the kernel does not name");
            false
        }
    }
}

#[cfg(test)]
mod tests;
