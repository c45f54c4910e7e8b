//! A server that says what a test wants said, and remembers what it was asked.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod metadata;
pub mod sites;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as a form: what EC2's Query protocol sends.
    pub form: BTreeMap<String, String>,
}

impl Request {
    /// A field of the form, empty when it was not sent.
    pub fn field(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }

    /// EC2's action.
    pub fn action(&self) -> &str {
        self.field("Action")
    }
}

/// What to say.
pub enum Reply {
    /// A whole answer.
    Say(u16, String),
    /// A whole answer, with status 200, after this time.
    Late(Duration, String),
    /// Nothing: the connection ends.
    Close,
    /// Nothing, and the connection stays.
    Hang,
    /// The beginning of a longer answer; then the connection ends.
    Cut(String),
    /// These bytes, whatever they are; the connection stays.
    Raw(Vec<u8>),
    /// These bytes; then the connection is reset.
    Reset(Vec<u8>),
}

/// An answer of EC2: the fields in the root element of the action.
pub fn answer(action: &str, fields: &str) -> Reply {
    Reply::Say(200, document(action, fields))
}

/// Its XML.
pub fn document(action: &str, fields: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>00000000-0000-4000-8000-000000000001</requestId>{fields}</{action}Response>"#
    )
}

/// A refusal of EC2.
pub fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::Say(status, refusal_document(code, message))
}

/// Its XML.
pub fn refusal_document(code: &str, message: &str) -> String {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>00000000-0000-4000-8000-000000000002</RequestID></Response>"#
    )
}

/// A running server; it ends with this value.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts one on a port of its own. `script` gets each request.
    pub async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), script).await
    }

    /// The same at this address.
    pub async fn at(address: SocketAddr, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            // They end with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&script), Arc::clone(&log)));
            }
        });
        Self { address, seen, task }
    }

    /// Ends it and its connections; its address, which is free.
    pub async fn end(mut self) -> SocketAddr {
        self.task.abort();
        // That it was aborted is known.
        let _ended = (&mut self.task).await;
        self.address
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it answers, as somebody would say who takes it for a TLS server.
    pub fn https(&self) -> String {
        format!("https://{}", self.address)
    }

    /// An address at which nobody answers.
    pub fn nobody() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        format!("http://{}", listener.local_addr().expect("a bound socket has an address"))
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only request there was.
    pub fn only_request(&self) -> Request {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "one request, not {seen:#?}");
        seen.remove(0)
    }
}

/// Metadata's tokens come with it; nobody minds it elsewhere.
const TOKEN_LIFE: &str = "x-aws-ec2-metadata-token-ttl-seconds: 21600";

async fn converse(stream: TcpStream, script: Arc<impl Fn(&Request) -> Reply>, log: Arc<Mutex<Vec<Request>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let reply = script(&request);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let (status, length, body) = match reply {
            Reply::Say(status, body) => (status, body.len(), body),
            Reply::Late(after, body) => {
                tokio::time::sleep(after).await;
                (200, body.len(), body)
            }
            Reply::Cut(body) => (200, body.len() + 100, body),
            Reply::Raw(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
                continue;
            }
            Reply::Reset(bytes) => {
                // What has not arrived yet may be lost with it: that is what a reset is.
                let _lost = stream.write_all(&bytes).await;
                let _lost = stream.flush().await;
                let _already_gone = stream.get_ref().set_zero_linger();
                return;
            }
            Reply::Close => return,
            Reply::Hang => return std::future::pending().await,
        };
        let whole = [head(status, length).as_bytes(), body.as_bytes()].concat();
        if stream.write_all(&whole).await.is_err() || length != body.len() {
            return;
        }
    }
}

/// The head of an answer whose body has this length.
pub fn head(status: u16, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} as scripted\r\ncontent-length: {length}\r\ncontent-type: text/xml\r\n{TOKEN_LIFE}\r\n\r\n"
    )
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut request = Request::default();
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut first = line.split_whitespace();
    request.method = first.next()?.to_owned();
    request.path = first.next()?.to_owned();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.form = form_urlencoded::parse(&body).into_owned().collect();
    Some(request)
}
