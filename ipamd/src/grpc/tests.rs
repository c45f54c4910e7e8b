//! The services over a real socket: who may ask, what is answered, what is refused.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

use datapath::names::Numbering;
use node::LedgerError;
use proto::v1::{self, inspect_client::InspectClient, ipam_client::IpamClient};
use tokio::task::JoinHandle;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::*;
use crate::fake;

struct Daemon {
    dir: tempfile::TempDir,
    lock: RunLock,
    handle: Handle,
    stop: tokio::sync::watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    node: JoinHandle<Result<(), LedgerError>>,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = RunLock::take(dir.path()).expect("the lock");
        let (handle, node) = fake::node();
        let facing = Facing { numbering: Numbering::default(), mtu: 9001 };
        let signs = Arc::new(Signs::new(dir.path(), "boot-1"));
        let context = Arc::new(Context::new(
            handle.clone(),
            facing,
            "standard".to_owned(),
            Duration::from_secs(45),
            Arc::new(Metrics::default()),
            Arc::clone(&signs),
        ));
        let listener = listen(&lock, dir.path()).expect("a socket");
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let health = HealthReporter::new();
        tokio::spawn(signs.keep(handle.clone(), health.clone()));
        let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let server = tokio::spawn(serve(listener, context, until, health));
        Self { dir, lock, handle, stop, server, node }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    fn learn(&self) {
        self.handle.send(fake::facts());
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket().display())).expect("a path");
        endpoint.connect().await.expect("the daemon listens")
    }

    async fn health(&self) -> ServingStatus {
        let request = HealthCheckRequest { service: "berth.v1.Ipam".to_owned() };
        let answer = HealthClient::new(self.channel().await).check(request).await;
        answer.map_or(ServingStatus::ServiceUnknown, |answer| answer.into_inner().status())
    }

    async fn eventually(&self, wanted: ServingStatus) {
        self.until(&format!("health is {wanted:?}"), async || self.health().await == wanted).await;
    }

    async fn waiting(&self, wanted: usize) {
        let waits = async || self.handle.read(|state, _| state.waiting()).await == Some(wanted);
        self.until(&format!("{wanted} requests wait"), waits).await;
    }

    async fn until(&self, what: &str, met: impl AsyncFn() -> bool) {
        let met = async {
            while !met().await {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), met).await.is_err() {
            let state = self.handle.read(|state, now| format!("{:?}", state.explain(now))).await;
            panic!("not within 10 s: {what}; the pool: {state:?}");
        }
    }
}

fn add(container: &str) -> v1::AllocateRequest {
    v1::AllocateRequest {
        key: Some(v1::LeaseKey { container_id: container.to_owned(), ifname: "eth0".to_owned() }),
        netns: "/run/netns/x".to_owned(),
        pod: Some(v1::Pod { namespace: "default".to_owned(), name: container.to_owned(), uid: String::new() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_plugins_calls_are_answered() {
    let daemon = Daemon::start();
    daemon.learn();
    let mut ipam = IpamClient::new(daemon.channel().await);
    let first = ipam.allocate(add("c1")).await.expect("an address").into_inner();
    let [attachment] = &first.attachments[..] else { panic!("one attachment: {first:?}") };
    assert_eq!(attachment.addresses[0].cidr, "10.0.0.11/32");
    assert_eq!((attachment.link_group, attachment.route_table, attachment.mtu), (7001, 7000, 9001));
    assert_eq!((attachment.route_source.as_str(), attachment.eni_id.as_str()), ("10.0.0.10", "eni-1"));
    assert_eq!((attachment.ifname.as_str(), &attachment.gateways[..]), ("eth0", &["169.254.1.1".to_owned()][..]));
    assert_eq!(first.network_policy_mode, "standard");

    assert_eq!(ipam.allocate(add("c1")).await.expect("the same").into_inner(), first);
    let checked = ipam.check(v1::CheckRequest { key: add("c1").key }).await.expect("a lease").into_inner();
    assert_eq!(checked.attachments, first.attachments);
    let unknown = ipam.check(v1::CheckRequest { key: add("c9").key }).await.expect_err("no lease");
    assert_eq!(unknown.code(), Code::NotFound);

    ipam.allocate(add("c2")).await.expect("the other address");
    let full = ipam.allocate(add("c3")).await.expect_err("no third address");
    let why = proto::refusal(&full).expect("a detail");
    assert_eq!((full.code(), why.reason()), (Code::ResourceExhausted, v1::Reason::EniLimit), "{why:?}");

    let mut inspect = InspectClient::new(daemon.channel().await);
    let filter = v1::LeasesRequest { pod: "default/c2".to_owned(), ..Default::default() };
    let leases = inspect.leases(filter).await.expect("leases").into_inner().leases;
    assert_eq!(leases.len(), 1);
    let pool = inspect.pool(v1::PoolRequest {}).await.expect("a pool").into_inner();
    assert_eq!((pool.counts.expect("counts").leased, pool.enis[0].addresses.len()), (2, 2));
    let pod = "default/c1".to_owned();
    let explained = inspect.explain(v1::ExplainRequest { pod }).await.expect("lines").into_inner();
    assert!(explained.lines[0].contains("10.0.0.11 of eni-1"), "{explained:?}");

    let del = |container: &str| v1::ReleaseRequest { key: add(container).key, ..Default::default() };
    let gone = ipam.release(del("c1")).await.expect("released").into_inner();
    assert!(gone.released && gone.attachment.is_some());
    assert!(!ipam.release(del("c1")).await.expect("again").into_inner().released);
    ipam.collect(v1::CollectRequest { valid: Vec::new() }).await.expect("nothing to do");
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_names_the_field() {
    let daemon = Daemon::start();
    let mut ipam = IpamClient::new(daemon.channel().await);
    let refused = ipam.allocate(v1::AllocateRequest::default()).await.expect_err("no key");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("container id"), "{}", refused.message());
    let large = v1::AllocateRequest { netns: "x".repeat(REQUEST_LIMIT), ..add("c1") };
    assert_eq!(ipam.allocate(large).await.expect_err("too large").code(), Code::OutOfRange);
}

#[tokio::test]
async fn health_and_status_say_no_until_the_facts_are_known() {
    let daemon = Daemon::start();
    let mut ipam = IpamClient::new(daemon.channel().await);
    daemon.eventually(ServingStatus::NotServing).await;
    let before = ipam.status(v1::StatusRequest {}).await.expect("a status").into_inner();
    assert!(!before.serving && !before.ready_once && before.refusal.is_some(), "{before:?}");
    daemon.learn();
    daemon.eventually(ServingStatus::Serving).await;
    let after = ipam.status(v1::StatusRequest {}).await.expect("a status").into_inner();
    assert!(after.serving && after.refusal.is_none(), "{after:?}");
    daemon
        .until("ready-once holds the boot id", async || {
            std::fs::read_to_string(daemon.dir.path().join("ready-once")).is_ok_and(|held| held == "boot-1")
        })
        .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_waits_no_more() {
    let daemon = Daemon::start();
    let mut ipam = IpamClient::new(daemon.channel().await);
    let waiting = tokio::spawn(async move { ipam.allocate(add("c1")).await });
    daemon.waiting(1).await;
    waiting.abort();
    daemon.waiting(0).await;
}

#[tokio::test]
async fn an_add_that_waits_when_the_daemon_stops_is_told_so() {
    let daemon = Daemon::start();
    let mut ipam = IpamClient::new(daemon.channel().await);
    let waiting = tokio::spawn(async move { ipam.allocate(add("c1")).await });
    daemon.waiting(1).await;
    daemon.stop.send_replace(true);
    daemon.handle.stop();
    let refused = waiting.await.expect("no panic").expect_err("no address");
    assert_eq!(proto::refusal(&refused).map(|why| why.reason()), Some(v1::Reason::Stopping), "{refused:?}");
    let ends = async { (daemon.node.await, daemon.server.await) };
    let (node, server) = tokio::time::timeout(Duration::from_secs(10), ends).await.expect("both end");
    assert!(node.expect("no panic").is_ok() && server.expect("no panic").is_ok());
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_takes_a_stale_ones_place() {
    let daemon = Daemon::start();
    let mode = |path: &Path| std::fs::metadata(path).expect("a socket").permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.socket()), 0o600);
    drop(listen(&daemon.lock, daemon.dir.path()).expect("in its place"));
    assert_eq!(mode(&daemon.socket()), 0o600);
}

#[tokio::test]
async fn a_caller_that_is_not_root_is_turned_away_whatever_the_sockets_mode() {
    use std::io::Read as _;

    let daemon = Daemon::start();
    for open in [daemon.dir.path(), &daemon.socket()] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o777)).expect("opened wide");
    }
    let socket = daemon.socket();
    let read = tokio::task::spawn_blocking(move || {
        // Only this thread becomes somebody else.
        std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may become nobody");
            let mut caller = std::os::unix::net::UnixStream::connect(socket).expect("the mode allows it");
            caller.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            caller.read(&mut [0; 1])
        })
        .join()
        .expect("no panic")
    });
    // An HTTP/2 server speaks first: an admitted caller reads its settings.
    assert_eq!(read.await.expect("no panic").expect("closed, not silent"), 0);
}
