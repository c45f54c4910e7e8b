//! A daemon that gives every sandbox an address, and does what a test tells it to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use proto::v1::ipam_server::{Ipam, IpamServer};
use proto::v1::{
    Address, AllocateRequest, AllocateResponse, Attachment, CheckRequest, CheckResponse, CollectRequest,
    CollectResponse, Reason, Refusal, ReleaseRequest, ReleaseResponse, StatusRequest, StatusResponse,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::node::NODE;

/// What the daemon was asked, and what it holds.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) leases: BTreeMap<(String, String), Attachment>,
    pub(crate) allocates: Vec<AllocateRequest>,
    pub(crate) releases: Vec<ReleaseRequest>,
    /// Refuse everything for this reason.
    pub(crate) refuse: Option<Reason>,
    /// Speak from an address that the node does not have: the kernel will refuse the pod's route.
    pub(crate) wrong_source: bool,
    /// The group of links that a DEL is to hand over; 0: none.
    pub(crate) doomed_group: u32,
    given: u8,
}

#[derive(Debug, Clone, Default)]
struct Service(Arc<Mutex<Ledger>>);

/// A running daemon; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    service: Service,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn start(run_dir: &Path) -> Self {
        let socket = run_dir.join("ipamd.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Service::default();
        let (path, served) = (socket.clone(), service.clone());
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = UnixListener::bind(&path).expect("bound");
                ready.send(()).expect("somebody waits");
                tonic::transport::Server::builder()
                    .add_service(IpamServer::new(served))
                    .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                        let _ = stopped.await;
                    })
                    .await
                    .expect("served");
            });
        });
        bound.recv().expect("the daemon listens");
        Self { service, stop: Some(stop), thread: Some(thread), socket }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.service.0.lock().expect("no test panicked holding it")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Service {
    fn open(&self) -> Result<MutexGuard<'_, Ledger>, Status> {
        let ledger = self.0.lock().expect("no test panicked holding it");
        match ledger.refuse {
            None => Ok(ledger),
            Some(reason) => Err(proto::refuse(
                tonic::Code::ResourceExhausted,
                &Refusal { reason: reason.into(), message: "so the test says".into(), ..Refusal::default() },
            )),
        }
    }
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn allocate(&self, request: Request<AllocateRequest>) -> Result<Response<AllocateResponse>, Status> {
        let request = request.into_inner();
        let mut ledger = self.open()?;
        ledger.allocates.push(request.clone());
        let (key, pod) = (request.key.unwrap_or_default(), request.pod.unwrap_or_default());
        let held = (key.container_id, key.ifname.clone());
        if !ledger.leases.contains_key(&held) {
            ledger.given += 1;
            let names = datapath::names::Numbering::default();
            let source = if ledger.wrong_source { "10.99.99.99".to_owned() } else { NODE.to_string() };
            let attachment = Attachment {
                ifname: key.ifname,
                link_name: names.link_name(&pod.namespace, &pod.name),
                path: proto::v1::Path::Pooled.into(),
                addresses: vec![Address { cidr: format!("10.0.0.{}/32", 100 + ledger.given) }],
                gateways: vec!["169.254.1.1".into()],
                mtu: 9001,
                link_group: 7002,
                route_table: 7000,
                route_source: source,
                eni_id: "eni-1".into(),
                ..Attachment::default()
            };
            ledger.leases.insert(held.clone(), attachment);
        }
        let attachments = vec![ledger.leases[&held].clone()];
        Ok(Response::new(AllocateResponse { attachments, ..AllocateResponse::default() }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let request = request.into_inner();
        let mut ledger = self.open()?;
        let key = request.key.clone().unwrap_or_default();
        ledger.releases.push(request);
        let attachment = ledger.leases.remove(&(key.container_id, key.ifname));
        let doomed_group = ledger.doomed_group;
        Ok(Response::new(ReleaseResponse { released: attachment.is_some(), attachment, doomed_group }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        let ledger = self.open()?;
        match ledger.leases.get(&(key.container_id, key.ifname)) {
            Some(attachment) => Ok(Response::new(CheckResponse { attachments: vec![attachment.clone()] })),
            None => Err(proto::refuse(
                tonic::Code::NotFound,
                &Refusal { reason: Reason::UnknownSandbox.into(), message: "no lease".into(), ..Refusal::default() },
            )),
        }
    }

    async fn collect(&self, _: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        Ok(Response::new(CollectResponse::default()))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse::default()))
    }
}
