//! The proxy that stands between every node and EC2, and does the [`Faults`]: it counts, delays, refuses, loses and ages calls.
//!
//! It knows the backend by its address only, and a call by the `Action` of its form: the lab's own EC2 and any other server of
//! EC2's Query protocol are the same to it. What it does not disturb it passes on as it is. It decides nothing about EC2.
//!
//! A call's effect lies in the middle of its latency: a caller that gives up early may or may not have caused it. Once a call is
//! on its way to the backend nothing stops it.
//!
//! Stale reads are true answers. The backend is asked for the answer as of then (header [`AS_OF`]), which the lab's EC2 gives
//! from its history, up to a minute. A backend that knows no such header leaves it out of its answer; then the oldest answer to
//! the same question that is young enough is given again, and a question never asked before is answered freshly.

pub mod admin;
mod call;
mod memory;

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error as _,
    future, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, Response as HttpResponse, Uri},
    response::{IntoResponse, Response},
};
use sim::{Action, Fault};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

use crate::{
    ec2,
    http::{self, NoAnswer},
    remote::{Remote, RemoteError},
    trouble::{Disturbance, Fate, Faults, When},
    world::{self, World},
};
use call::Call;
use memory::Memory;

/// The header of a request for an answer as it was so many milliseconds ago. A backend that can do it repeats the header.
pub const AS_OF: &str = "x-lab-as-of-ms";

/// EC2 as its callers find it.
#[derive(Debug)]
pub struct Proxy {
    backend: Remote,
    faults: Arc<Faults>,
    memory: Memory,
    started: Instant,
    made_up: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    log: VecDeque<Logged>,
    calls: BTreeMap<Action, u64>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When it arrived, since the proxy started.
    pub at: Duration,
    /// Its action as the caller named it.
    pub action: String,
    /// Its parameters, as a form.
    pub form: Bytes,
    /// What the caller was told.
    pub outcome: Outcome,
}

/// What a caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Accepted,
    /// No, with this code.
    Refused(String),
    /// Nothing.
    Lost,
}

/// What came from the backend, or was made up here.
type Answer = HttpResponse<Bytes>;

/// The log keeps so many calls.
const LOG: usize = 10_000;

impl Proxy {
    /// In front of the server at this address. It connects when the first call comes.
    pub fn new(backend: SocketAddr, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self {
            backend: Remote::at(backend),
            faults,
            memory: Memory::default(),
            started: Instant::now(),
            made_up: AtomicU64::new(0),
            book: Mutex::default(),
        })
    }

    /// Serves EC2 and the admin path until the listener fails; dropping it ends every connection. One proxy can have many
    /// listeners: they share its faults, its buckets and its log.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        self.serve_beside(listener, Router::new()).await
    }

    /// The same, with paths of somebody else's.
    pub(crate) async fn serve_beside(self: Arc<Self>, listener: TcpListener, others: Router) -> io::Result<()> {
        let app = Router::new().fallback(front).with_state(Arc::clone(&self)).merge(admin::router(self)).merge(others);
        http::serve(listener, app).await
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Calls that arrived while EC2 was reachable, by action, since the beginning or the last [`Proxy::forget_calls`]. Each is
    /// counted when its fate is sealed: one whose caller gives up before that never was.
    pub fn calls(&self) -> BTreeMap<Action, u64> {
        self.book().calls.clone()
    }

    /// The latest of them, the oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.book().log.iter().cloned().collect()
    }

    /// Starts counting and logging anew.
    pub fn forget_calls(&self) {
        *self.book() = Book::default();
    }

    /// Time since the proxy started: the log's time.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn answer(self: Arc<Self>, call: Call, request: Request<Bytes>) -> Result<Answer, NoAnswer> {
        let Fate { latency, disturbance } = self.faults.fate(call.action).ok_or(NoAnswer)?;
        let at = self.now();
        pass(latency / 2).await;
        let effect = {
            let (proxy, disturbance) = (Arc::clone(&self), disturbance.clone());
            tokio::spawn(async move {
                let result = proxy.carry_out(&call, request, disturbance.as_ref()).await;
                proxy.record(at, call, &result);
                result
            })
        };
        let result = effect.await.unwrap_or(Err(NoAnswer));
        match disturbance {
            Some(Disturbance::Hang(_)) => future::pending().await,
            Some(Disturbance::Delay(more)) => pass(latency / 2 + more).await,
            _ => pass(latency / 2).await,
        }
        result
    }

    /// Has the backend do it, or not; what the caller is to be told.
    async fn carry_out(
        &self,
        call: &Call,
        mut request: Request<Bytes>,
        disturbance: Option<&Disturbance>,
    ) -> Result<Answer, NoAnswer> {
        let stale = match disturbance {
            Some(Disturbance::Refuse(When::BeforeEffect, fault)) => return Ok(self.refusal(fault)),
            Some(Disturbance::Lose(When::BeforeEffect) | Disturbance::Hang(When::BeforeEffect)) => {
                return Err(NoAnswer);
            }
            Some(Disturbance::Stale(age)) => Some(*age),
            _ => None,
        };
        if let Some(age) = stale {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            request.headers_mut().insert(AS_OF, HeaderValue::from(age));
        }
        let mut answer = self.backend.ask(request).await.map_err(|error| unanswered(&call.name, &error))?;
        let as_of = answer.headers_mut().remove(AS_OF);
        if call.reads() && as_of.is_none() {
            let earlier = stale.and_then(|age| self.memory.recall(call, age));
            self.memory.keep(call, &answer);
            answer = earlier.unwrap_or(answer);
        }
        match disturbance {
            Some(Disturbance::Refuse(When::AfterEffect, fault)) => Ok(self.refusal(fault)),
            Some(Disturbance::Lose(When::AfterEffect) | Disturbance::Hang(When::AfterEffect)) => Err(NoAnswer),
            _ => Ok(answer),
        }
    }

    fn refusal(&self, fault: &Fault) -> Answer {
        let number = self.made_up.fetch_add(1, Ordering::Relaxed);
        ec2::refusal(fault, &format!("00000000-0000-4000-9000-{number:012x}"))
    }

    fn record(&self, at: Duration, call: Call, result: &Result<Answer, NoAnswer>) {
        let outcome = match result {
            Err(NoAnswer) => Outcome::Lost,
            Ok(answer) if answer.status().is_success() => Outcome::Accepted,
            Ok(answer) => Outcome::Refused(code(answer)),
        };
        tracing::debug!(action = call.name, ?outcome, "EC2 call ended");
        let mut book = self.book();
        if let Some(action) = call.action {
            *book.calls.entry(action).or_default() += 1;
        }
        book.log.push_back(Logged { at, action: call.name, form: call.form, outcome });
        if book.log.len() > LOG {
            book.log.pop_front();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn front(State(proxy): State<Arc<Proxy>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let call = Call::of(&uri, &body);
    let mut request = Request::new(body);
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    let result = match call {
        Some(call) => proxy.answer(call, request).await,
        None => proxy.pass_on(request).await,
    };
    result.map_or_else(IntoResponse::into_response, |answer| answer.map(Into::into))
}

impl Proxy {
    /// What is not a call of EC2.
    async fn pass_on(&self, request: Request<Bytes>) -> Result<Answer, NoAnswer> {
        let ours = request.uri().path().starts_with(admin::PATH);
        if !ours && !self.faults.reachable(crate::trouble::Service::Ec2) {
            return Err(NoAnswer);
        }
        let path = request.uri().path().to_owned();
        self.backend.ask(request).await.map_err(|error| unanswered(&path, &error))
    }
}

fn unanswered(asked: &str, error: &RemoteError) -> NoAnswer {
    tracing::warn!(asked, %error, cause = error.source().map(tracing::field::display), "EC2's backend did not answer");
    NoAnswer
}

/// The error code of EC2's XML; without one, the status.
fn code(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(answer.body());
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or_else(|| answer.status().as_str().to_owned(), |(code, _)| code.to_owned())
}

/// The timer's finest is a millisecond: no time is no timer.
async fn pass(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// A proxy at `address`, in front of the server at `backend` or of an EC2 of its own in a new world: serves until it fails.
pub async fn run(
    address: SocketAddr,
    backend: Option<SocketAddr>,
    settings: world::Settings,
    faults: Faults,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let own = match backend {
        Some(_) => None,
        None => Some(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?),
    };
    let backend = match (&own, backend) {
        (Some(own), _) => own.local_addr()?,
        (None, Some(backend)) => backend,
        (None, None) => unreachable!("without a backend there is an EC2 of its own"),
    };
    tracing::info!(address = %listener.local_addr()?, %backend, "EC2 listened");
    let proxy = Proxy::new(backend, Arc::new(faults)).serve(listener);
    match own {
        Some(own) => tokio::try_join!(ec2::serve(own, World::new(settings)), proxy).map(|_| ()),
        None => proxy.await,
    }
}
