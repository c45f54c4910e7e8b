//! What the CNI plugin asks.
//!
//! Owns the calls of the service `Ipam`. Never waits longer than the request allows.

use std::{sync::Arc, time::Instant};

use pool::Refusal;
use proto::v1::{
    AllocateRequest, AllocateResponse, CheckRequest, CheckResponse, CollectRequest, CollectResponse, ReleaseRequest,
    ReleaseResponse, StatusRequest, StatusResponse,
};
use tonic::{Request, Response, Status};
use tracing::warn;

use super::Context;
use crate::{clock::NodeClock, convert};

#[derive(Debug)]
pub(super) struct Ipam(pub(super) Arc<Context>);

impl Ipam {
    fn refuse(&self, why: &Refusal) -> Status {
        self.0.metrics.refused(why);
        convert::status(why, NodeClock::boottime())
    }

    fn malformed(&self, why: convert::Malformed) -> Status {
        warn!(%why, "refused a malformed request");
        self.refuse(&why.into())
    }
}

#[tonic::async_trait]
impl proto::v1::ipam_server::Ipam for Ipam {
    async fn allocate(&self, request: Request<AllocateRequest>) -> Result<Response<AllocateResponse>, Status> {
        let began = Instant::now();
        let Context { handle, facing, network_policy_mode, add_deadline, metrics, .. } = &*self.0;
        metrics.add_requested();
        let now = NodeClock::boottime();
        let allocation = convert::allocation(request.into_inner(), &facing.numbering, now, *add_deadline)
            .map_err(|why| self.malformed(why))?;
        let outcome = handle.allocate(allocation).await;
        metrics.allocated(began.elapsed());
        let lease = outcome.map_err(|why| self.refuse(&why))?;
        let node = self.0.node_address().await;
        Ok(Response::new(convert::allocated(&lease, facing, node, network_policy_mode)))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let ReleaseRequest { key, pod: _, started_boottime_ns, address: _ } = request.into_inner();
        let key = convert::key(key).map_err(|why| self.malformed(why))?;
        let started = convert::started(started_boottime_ns, NodeClock::boottime());
        let lease = self.0.handle.release(key, started).await.map_err(|why| self.refuse(&why))?;
        if lease.is_some() {
            self.0.metrics.released();
        }
        let node = self.0.node_address().await;
        Ok(Response::new(convert::released(lease.as_ref(), &self.0.facing, node)))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let key = convert::key(request.into_inner().key).map_err(|why| self.malformed(why))?;
        let lease = self.0.handle.read(move |state, _| state.lease(&key).cloned()).await;
        let lease = lease.ok_or(Refusal::Stopping).and_then(|lease| lease.ok_or(Refusal::UnknownSandbox));
        let lease = lease.map_err(|why| self.refuse(&why))?;
        let node = self.0.node_address().await;
        Ok(Response::new(convert::checked(&lease, &self.0.facing, node)))
    }

    /// Nothing is reclaimed yet: succeeding is what the runtime needs.
    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectResponse>, Status> {
        for key in request.into_inner().valid {
            convert::key(Some(key)).map_err(|why| self.malformed(why))?;
        }
        Ok(Response::new(CollectResponse::default()))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let held = self.0.signs.held(&self.0.handle).await;
        Ok(Response::new(StatusResponse {
            ready_once: self.0.signs.ready_once(),
            serving: held.is_none(),
            refusal: held.map(|why| convert::refusal(&why, NodeClock::boottime())),
        }))
    }
}
