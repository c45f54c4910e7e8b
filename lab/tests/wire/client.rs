//! A world with its servers on free ports of loopback, EC2 behind the proxy, and the plainest of HTTP clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lab::{
    proxy::Proxy,
    trouble::Faults,
    world::{Settings, World},
};
use sim::Times;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A VPC with one subnet, EC2 over HTTP, and no waiting unless a test wants it.
pub(crate) struct Lab {
    pub(crate) world: Arc<World>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    pub(crate) ec2: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::with(Times::INSTANT).await
    }

    pub(crate) async fn with(times: Times) -> Self {
        let ec2 = sim::Settings { times, ..sim::Settings::default() };
        let world = World::new(Settings { ec2, ..Settings::default() });
        let vpc = world.create_vpc("10.0.0.0/16".parse().expect("a block")).expect("a VPC can be made");
        let block = "10.0.0.0/24".parse().expect("a block");
        let subnet = world.create_subnet(&vpc, block, None).expect("a subnet can be made");
        let (listener, backend) = listen().await;
        tokio::spawn(lab::ec2::serve(listener, Arc::clone(&world)));
        let faults = Arc::new(Faults::default());
        let proxy = Proxy::new(backend, Arc::clone(&faults));
        let (listener, ec2) = listen().await;
        tokio::spawn(Arc::clone(&proxy).serve(listener));
        Self { world, proxy, faults, vpc, subnet, ec2 }
    }

    /// The metadata server of an instance.
    pub(crate) async fn metadata(&self, instance: &str) -> SocketAddr {
        let (listener, address) = listen().await;
        let (world, faults) = (Arc::clone(&self.world), Arc::clone(&self.faults));
        tokio::spawn(lab::imds::serve(listener, world, faults, instance.to_owned()));
        address
    }

    pub(crate) fn launch(&self) -> String {
        self.world.launch("m5.large", &self.subnet).expect("there is room")
    }

    /// A call of the Query protocol; `None` if the connection ended without an answer.
    pub(crate) async fn try_call(&self, parameters: &[(&str, &str)]) -> Option<Answer> {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        self.admin("POST", "/", &form).await
    }

    pub(crate) async fn call(&self, parameters: &[(&str, &str)]) -> Answer {
        self.try_call(parameters).await.unwrap_or_else(|| panic!("no answer to {parameters:?}"))
    }

    /// A call that must succeed; the text of the first element of that name in its answer.
    pub(crate) async fn value(&self, parameters: &[(&str, &str)], element: &str) -> String {
        let answer = self.call(parameters).await;
        assert_eq!(answer.status, 200, "{parameters:?}: {answer:?}");
        answer.element(element)
    }

    pub(crate) async fn create_eni(&self) -> String {
        let call = [("Action", "CreateNetworkInterface"), ("SubnetId", &self.subnet)];
        self.value(&call, "networkInterfaceId").await
    }

    pub(crate) async fn attach(&self, eni: &str, instance: &str) -> String {
        let call = [
            ("Action", "AttachNetworkInterface"),
            ("NetworkInterfaceId", eni),
            ("InstanceId", instance),
            ("DeviceIndex", "1"),
        ];
        self.value(&call, "attachmentId").await
    }

    pub(crate) async fn admin(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        request(self.ec2, method, path, &[], body).await
    }

    /// Makes EC2 misbehave, as another process does it.
    pub(crate) async fn fault(&self, order: &str) {
        self.order("faults", order).await;
    }

    /// Any order over the admin path; it must be accepted.
    pub(crate) async fn order(&self, path: &str, order: &str) {
        let answer = self.admin("POST", &format!("/_lab/{path}"), order).await.expect("the admin path answers");
        assert_eq!(answer.status, 204, "{order}: {answer:?}");
    }
}

/// A free port of loopback.
pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

impl Answer {
    /// The text of the first element of that name.
    pub(crate) fn element(&self, name: &str) -> String {
        let text = self.body.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
        text.unwrap_or_else(|| panic!("no <{name}> in {self:?}")).0.to_owned()
    }

    /// EC2's error code.
    pub(crate) fn code(&self) -> String {
        self.element("Code")
    }

    /// The body with a line per element, for people; what changes from run to run is left out.
    pub(crate) fn pretty(&self) -> String {
        let mut text = String::new();
        for part in self.body.replace("><", ">\n<").lines() {
            let line = match part.split_once("Time>") {
                Some((name, _)) if name.starts_with('<') => format!("{name}Time>...</{}Time>", &name[1..]),
                _ => part.to_owned(),
            };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// One request on a connection of its own; `None` if it ended without an answer.
pub(crate) async fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    tokio::time::timeout(PATIENCE, exchange(server, method, path, headers, body))
        .await
        .unwrap_or_else(|_| panic!("{method} {path} took longer than {PATIENCE:?}"))
}

async fn exchange(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let given: String = headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n{given}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.expect("the server reads");
    let mut answer = String::new();
    // A connection that is reset has no answer either.
    let _read = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Some(Answer { status, headers: headers.to_owned(), body: body.to_owned() })
}
