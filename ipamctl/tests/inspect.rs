//! The whole CLI against a daemon that answers over a real socket.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    thread::JoinHandle,
};

use ipamctl::{Console, Exit};
use proto::v1::{
    self,
    inspect_server::{Inspect, InspectServer},
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, async_trait};

/// A daemon that knows one pod.
struct Fake;

#[async_trait]
impl Inspect for Fake {
    async fn pool(&self, _: Request<v1::PoolRequest>) -> Result<Response<v1::PoolResponse>, Status> {
        Ok(Response::new(v1::PoolResponse {
            instance_id: "i-1".into(),
            limits: Some(v1::Limits { enis: 3, addresses_per_eni: 10 }),
            ..Default::default()
        }))
    }

    async fn leases(&self, request: Request<v1::LeasesRequest>) -> Result<Response<v1::LeasesResponse>, Status> {
        let asked = request.into_inner();
        let matches = |filter: &str, value: &str| filter.is_empty() || filter == value;
        let mut leases = Vec::new();
        if matches(&asked.pod, "default/web-0") && matches(&asked.address, "10.0.0.11") {
            let pod = v1::Pod { namespace: "default".into(), name: "web-0".into(), uid: String::new() };
            let addresses = vec![v1::Address { cidr: "10.0.0.11/32".into() }];
            leases.push(v1::Lease {
                pod: Some(pod),
                attachments: vec![v1::Attachment { addresses, ..Default::default() }],
                ..Default::default()
            });
        }
        Ok(Response::new(v1::LeasesResponse { leases }))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        match request.into_inner().pod.as_str() {
            "" => Ok(Response::new(v1::ExplainResponse { lines: vec!["all is well".into()], ..Default::default() })),
            "default/held" => {
                let held = v1::Refusal {
                    reason: v1::Reason::EniLimit.into(),
                    message: "all full".into(),
                    ..Default::default()
                };
                Ok(Response::new(v1::ExplainResponse { held: Some(held), ..Default::default() }))
            }
            "default/slow" => std::future::pending().await,
            "default/verifying" => {
                let refusal = v1::Refusal {
                    reason: v1::Reason::Verifying.into(),
                    message: "being checked".into(),
                    ..Default::default()
                };
                Err(proto::refuse(Code::Unavailable, &refusal))
            }
            "default/stranger" => Err(Status::permission_denied("uid 1000")),
            "default/newer" => Err(Status::unimplemented("")),
            pod => Err(Status::not_found(format!("no pod {pod} on this node"))),
        }
    }
}

/// A run directory with a daemon behind its socket, which ends with it.
struct Running {
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let dir = TempDir::new().expect("run directory");
        let listener = UnixListener::bind(dir.path().join("ipamd.sock")).expect("socket");
        listener.set_nonblocking(true).expect("non-blocking");
        let (stop, stopped) = oneshot::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).expect("listener");
                let serve = tonic::transport::Server::builder()
                    .add_service(InspectServer::new(Fake))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    served = serve => served.expect("served"),
                    _ = stopped => {}
                }
            });
        });
        Self { dir, stop: Some(stop), server: Some(server) }
    }

    fn ask(&self, words: &[&str]) -> (Exit, String, String) {
        ask(self.dir.path(), words)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.server.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))), "the fake daemon failed");
    }
}

fn ask(run_dir: &Path, words: &[&str]) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = ["ipamctl", "--run-dir"].map(OsString::from).into_iter().chain([run_dir.into()]);
    let line = line.chain(words.iter().map(OsString::from));
    let exit = ipamctl::run(&mut Console { out: &mut out, err: &mut err, terminal: false }, line);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (exit, text(out), text(err))
}

#[test]
fn the_pool_is_asked_over_the_socket() {
    let (exit, out, err) = Running::start().ask(&["pool"]);
    assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
    assert!(out.starts_with("Node:    i-1"), "{out}");
}

#[test]
fn leases_are_filtered_by_pod_and_address() {
    let daemon = Running::start();
    for words in [
        &["leases"][..],
        &["leases", "--pod", "default/web-0"],
        &["leases", "--address", "10.0.0.11", "--pod", "default/web-0"],
    ] {
        let (exit, out, _) = daemon.ask(words);
        assert_eq!(exit, Exit::Fine, "{words:?}");
        assert!(out.contains("default/web-0  10.0.0.11"), "{words:?}: {out}");
    }
    for words in [&["leases", "--pod", "default/other"], &["leases", "--address", "10.0.0.12"]] {
        assert_eq!(daemon.ask(words), (Exit::BadNews, "no lease\n".to_owned(), String::new()), "{words:?}");
    }
    let (exit, out, _) = daemon.ask(&["-o", "json", "leases", "--pod", "default/other"]);
    assert_eq!((exit, out.as_str()), (Exit::BadNews, "[]\n"));
}

#[test]
fn an_explanation_that_holds_something_back_is_bad_news() {
    let daemon = Running::start();
    assert_eq!(daemon.ask(&["explain"]), (Exit::Fine, "all is well\n".to_owned(), String::new()));
    let held = (Exit::BadNews, "Held: EniLimit: all full\n".to_owned(), String::new());
    assert_eq!(daemon.ask(&["explain", "default/held"]), held);
}

#[test]
fn an_unknown_pod_is_bad_news_and_every_other_refusal_could_not_be_asked() {
    let daemon = Running::start();
    let said = |pod: &str| {
        let (exit, out, err) = daemon.ask(&["explain", pod]);
        assert_eq!(out, "", "{pod}");
        (exit, err)
    };
    assert_eq!(said("default/gone"), (Exit::BadNews, "ipamctl: no pod default/gone on this node\n".into()));
    assert_eq!(
        said("default/verifying"),
        (Exit::Unasked, "ipamctl: ipamd cannot say (Verifying): being checked\n".into())
    );
    let (exit, err) = said("default/stranger");
    assert!(exit == Exit::Unasked && err.contains("root only"), "{err}");
    let (exit, err) = said("default/newer");
    assert!(exit == Exit::Unasked && err.contains("older than ipamctl"), "{err}");
}

#[test]
fn a_daemon_that_does_not_answer_is_given_up_on() {
    let (exit, _, err) = Running::start().ask(&["--timeout", "50ms", "explain", "default/slow"]);
    assert_eq!(exit, Exit::Unasked);
    assert!(err.starts_with("ipamctl: ipamd did not answer within 50ms"), "{err}");
}

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let dir = TempDir::new().expect("run directory");
    let (exit, out, err) = ask(dir.path(), &["pool"]);
    assert_eq!((exit, out.as_str()), (Exit::Unasked, ""));
    assert!(err.contains("ipamd.sock does not exist") && err.contains("BERTH_RUN_DIR"), "{err}");

    // A socket file that outlived its process.
    drop(UnixListener::bind(dir.path().join("ipamd.sock")).expect("socket"));
    let (exit, _, err) = ask(dir.path(), &["pool"]);
    assert_eq!(exit, Exit::Unasked);
    assert!(err.contains("nobody listens"), "{err}");
}

#[test]
fn a_socket_that_speaks_something_else_is_named() {
    let dir = TempDir::new().expect("run directory");
    let listener = UnixListener::bind(dir.path().join("ipamd.sock")).expect("socket");
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        io::Write::write_all(&mut stream, b"220 mail.example.com ESMTP\r\n").expect("greeted");
        // Until the other side hangs up.
        drop(io::copy(&mut stream, &mut io::sink()));
    });
    let (exit, _, err) = ask(dir.path(), &["pool"]);
    stranger.join().expect("stranger ended");
    assert_eq!(exit, Exit::Unasked);
    assert!(err.contains("ipamctl: "), "{err}");
}

#[test]
fn a_wrong_command_line_is_usage() {
    let dir = TempDir::new().expect("run directory");
    for words in [
        &["leases", "--pod", "web-0"][..],
        &["leases", "--pod", "/web-0"],
        &["leases", "--address", "10.0.0"],
        &["explain", "a/b/c"],
        &["-o", "yaml", "pool"],
        &["--timeout", "soon", "pool"],
        &["drain"],
        &[],
    ] {
        let (exit, out, err) = ask(dir.path(), words);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{words:?}");
        assert!(!err.is_empty(), "{words:?}");
    }
}

#[test]
fn help_is_an_answer_and_knows_its_name() {
    let dir = TempDir::new().expect("run directory");
    let (exit, out, err) = ask(dir.path(), &["--help"]);
    assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
    assert!(out.contains("Usage: ipamctl "), "{out}");

    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console { out: &mut out, err: &mut err, terminal: false };
    ipamctl::run(&mut console, ["/opt/bin/kubectl-berth", "--help"].map(OsString::from));
    let out = String::from_utf8_lossy(&out);
    assert!(out.contains("Usage: kubectl berth "), "{out}");
}

/// The built program, copied to where everyone may run it.
fn program(dir: &TempDir) -> Command {
    let copy = dir.path().join("ipamctl");
    fs::copy(env!("CARGO_BIN_EXE_ipamctl"), &copy).expect("copied");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open directory");
    let mut command = Command::new(copy);
    command.env_remove("BERTH_RUN_DIR").stdin(Stdio::null());
    command
}

#[test]
fn the_program_ends_with_the_documented_codes() {
    let dir = TempDir::new().expect("directory");
    let daemon = Running::start();
    let code = |words: &[&str]| {
        let output = program(&dir).env("BERTH_RUN_DIR", daemon.dir.path()).args(words).output().expect("started");
        output.status.code()
    };
    assert_eq!(code(&["pool"]), Some(0));
    assert_eq!(code(&["leases", "--pod", "default/other"]), Some(1));
    assert_eq!(code(&["--run-dir", "/nowhere", "pool"]), Some(2));
    assert_eq!(code(&["drain"]), Some(64));
}

#[test]
fn without_root_it_says_that_the_socket_is_roots() {
    let dir = TempDir::new().expect("directory");
    let daemon = Running::start();
    let socket = daemon.dir.path().join("ipamd.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("root only");
    fs::set_permissions(daemon.dir.path(), fs::Permissions::from_mode(0o755)).expect("open directory");
    let Output { status, stderr, .. } = program(&dir)
        .arg("--run-dir")
        .arg(daemon.dir.path())
        .arg("pool")
        .uid(65_534)
        .gid(65_534)
        .output()
        .expect("started");
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("is for root only: run ipamctl as root"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = TempDir::new().expect("directory");
    let daemon = Running::start();
    let (reader, writer) = io::pipe().expect("pipe");
    drop(reader);
    let mut command = program(&dir);
    command.arg("--run-dir").arg(daemon.dir.path()).args(["-o", "json", "pool"]).stdout(writer).stderr(Stdio::piped());
    let output = command.output().expect("started");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
