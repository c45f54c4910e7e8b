//! What the operator's CLI asks.
//!
//! Owns the calls of the service `Inspect`. Reads only.

use std::sync::Arc;

use pool::{BootTime, Refusal, State};
use proto::v1::{ExplainRequest, ExplainResponse, LeasesRequest, LeasesResponse, PoolRequest, PoolResponse};
use tonic::{Request, Response, Status};

use super::Context;
use crate::{clock::NodeClock, convert};

#[derive(Debug)]
pub(super) struct Inspect(pub(super) Arc<Context>);

impl Inspect {
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State, BootTime) -> T + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let seen = self.0.handle.read(look).await;
        seen.map(Response::new).ok_or_else(|| convert::status(&Refusal::Stopping, NodeClock::boottime()))
    }
}

#[tonic::async_trait]
impl proto::v1::inspect_server::Inspect for Inspect {
    async fn pool(&self, _: Request<PoolRequest>) -> Result<Response<PoolResponse>, Status> {
        let context = Arc::clone(&self.0);
        self.read(move |state, now| {
            let signs = &context.signs;
            convert::pool(state, now, &signs.instance_type(), |eni| signs.link_of(eni))
        })
        .await
    }

    async fn leases(&self, request: Request<LeasesRequest>) -> Result<Response<LeasesResponse>, Status> {
        let context = Arc::clone(&self.0);
        let filter = request.into_inner();
        self.read(move |state, now| convert::leases(state, now, &filter, &context.facing)).await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let pod = request.into_inner().pod;
        self.read(move |state, now| convert::explained(state, now, &pod)).await
    }
}
