//! The daemon, over its unix socket.
//!
//! Owns connecting, trying again while the daemon restarts, and sorting what comes back into answers, refusals and silence.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::v1::ipam_client::IpamClient;
use proto::v1::{AllocateRequest, AllocateResponse, CheckRequest, CheckResponse, ReleaseRequest, ReleaseResponse};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::failure::{Failure, chain};

/// A restart of the daemon fits in.
const RESTART: Duration = Duration::from_secs(5);

/// How long an ADD waits for the daemon's answer: longer than the daemon lets it wait for an address.
pub(crate) const ALLOCATE: Duration = Duration::from_secs(60);

/// How long DEL and CHECK do: the daemon answers these from memory.
const QUICK: Duration = Duration::from_secs(5);

/// Between two attempts to reach a daemon that is not there.
const PAUSE: Duration = Duration::from_millis(20);

/// How to reach the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// The daemon refused, with a reason.
    Refused(Failure),
    /// The daemon could not be reached, or went away before it answered.
    Unreachable { socket: PathBuf, why: String },
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => f.write_str(&failure.message),
            Self::Unreachable { socket, why } => write!(f, "ipamd at {} does not answer: {why}", socket.display()),
        }
    }
}

impl From<Silence> for Failure {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Refused(failure) => failure,
            Silence::Unreachable { socket, why } => {
                Self::unreachable(format!("ipamd at {} does not answer", socket.display()), why)
            }
        }
    }
}

impl Daemon {
    pub(crate) fn below(run_dir: &Path) -> Self {
        Self { socket: run_dir.join("ipamd.sock") }
    }

    /// Asks for an address; tries again while the daemon restarts.
    pub(crate) async fn allocate(&self, request: AllocateRequest) -> Result<AllocateResponse, Silence> {
        let deadline = Instant::now() + ALLOCATE;
        let mut missing_since: Option<Instant> = None;
        loop {
            let begun = Instant::now();
            let mut request = request.clone();
            // The daemon should give up before we do, so that its reason is told.
            let rest = deadline.saturating_duration_since(begun).saturating_sub(QUICK);
            request.deadline_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
            let error = match self.client(deadline).await {
                Ok(mut client) => match self.ask(deadline, client.allocate(request)).await {
                    Err(error @ Silence::Unreachable { .. }) => error,
                    answer => return answer,
                },
                Err(error) => error,
            };
            let now = Instant::now();
            // A daemon that took the request and kept it for a while was there until now.
            let since = missing_since.filter(|_| now - begun < RESTART).unwrap_or(now);
            missing_since = Some(since);
            if now >= deadline || now - since >= RESTART {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// Gives an address back; one attempt, the spool is for the rest.
    pub(crate) async fn release(&self, request: ReleaseRequest) -> Result<ReleaseResponse, Silence> {
        let deadline = Instant::now() + QUICK;
        let mut client = self.client(deadline).await?;
        self.ask(deadline, client.release(request)).await
    }

    /// What the daemon believes; one attempt.
    pub(crate) async fn check(&self, request: CheckRequest) -> Result<CheckResponse, Silence> {
        let deadline = Instant::now() + QUICK;
        let mut client = self.client(deadline).await?;
        self.ask(deadline, client.check(request)).await
    }

    async fn client(&self, deadline: Instant) -> Result<IpamClient<Channel>, Silence> {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket.display()));
        let endpoint = endpoint.map_err(|error| self.unreachable(chain(&error)))?;
        match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(IpamClient::new(channel)),
            Ok(Err(error)) => Err(self.unreachable(chain(&error))),
            Err(_) => Err(self.unreachable("no connection in time".to_owned())),
        }
    }

    async fn ask<T>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Silence> {
        match timeout_at(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.sort(&status)),
            Err(_) => Err(self.unreachable("no answer in time".to_owned())),
        }
    }

    fn sort(&self, status: &Status) -> Silence {
        if let Some(refusal) = proto::refusal(status) {
            return Silence::Refused(Failure::refused(&refusal));
        }
        match status.code() {
            // What tonic makes of a connection that broke.
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal => self.unreachable(chain(status)),
            _ => Silence::Refused(Failure::new(
                crate::failure::Code::TryAgain,
                format!("ipamd refused without a reason: {} ({:?})", status.message(), status.code()),
            )),
        }
    }

    fn unreachable(&self, why: String) -> Silence {
        Silence::Unreachable { socket: self.socket.clone(), why }
    }
}

/// Runs one conversation with the daemon.
pub(crate) fn converse<T>(conversation: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused(crate::failure::Code::Io, "starting to talk to ipamd", &error))?;
    let said = runtime.block_on(conversation);
    // The process is about to end: giving its memory back page by page would cost the pod 40 us.
    std::mem::forget(runtime);
    Ok(said)
}
