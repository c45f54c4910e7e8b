//! Sockets inside namespaces: servers that say whom they saw, and clients that ask them.
//!
//! A thread enters the namespace only to open the socket; everything after that happens outside.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, sendto, socket_with, sockopt,
};

use crate::{host::Host, netns::Netns};

/// How often a client asks again over UDP.
const AGAIN: Duration = Duration::from_millis(200);

/// How often a server looks whether it should stop.
const PULSE: Duration = Duration::from_millis(20);

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A connection on which the server speaks first.
    Tcp,
}

/// The connection as the server's socket had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who the server believes it talked to.
    pub source: SocketAddrV4,
    /// The server's own address.
    pub destination: SocketAddrV4,
}

/// What a client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The client's socket.
    pub local: SocketAddrV4,
    /// What the server saw.
    pub seen: Seen,
}

/// Why a client got nothing.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing came back in time.
    #[error("no answer within {0:?}")]
    Silence(Duration),
    /// The network or the peer said no.
    #[error("refused")]
    Refused(#[source] io::Error),
    /// The client could not even try.
    #[error("asking")]
    Asking(#[source] anyhow::Error),
}

/// A server that tells every client which addresses it saw. Stops when dropped.
#[derive(Debug)]
pub struct Echo {
    at: SocketAddrV4,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts a server on a free port of the host's own address.
    pub fn start(host: &Host, transport: Transport) -> Result<Self> {
        Self::start_at(host, transport, 0)
    }

    /// The same on a given port.
    pub fn start_at(host: &Host, transport: Transport, port: u16) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (at, serve): (_, Box<dyn FnOnce() + Send>) = match transport {
            Transport::Udp => {
                let socket = host
                    .netns
                    .enter(|| UdpSocket::bind(host.at(port)))?
                    .with_context(|| format!("binding {}", host.at(port)))?;
                socket.set_read_timeout(Some(PULSE))?;
                (socket.local_addr()?, Box::new(move || serve_udp(&socket, &stopped)))
            }
            Transport::Tcp => {
                let listener = host
                    .netns
                    .enter(|| TcpListener::bind(host.at(port)))?
                    .with_context(|| format!("binding {}", host.at(port)))?;
                sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(PULSE))?;
                (listener.local_addr()?, Box::new(move || serve_tcp(&listener, &stopped)))
            }
        };
        let at = v4(at).context("an IPv4 socket has an IPv4 address")?;
        let server = thread::Builder::new().name(format!("echo {at}")).spawn(serve)?;
        Ok(Self { at, stop, server: Some(server) })
    }

    /// Where the server listens.
    pub fn at(&self) -> SocketAddrV4 {
        self.at
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// One question: from where, to where.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Where the client's socket is opened.
    pub from: &'a Netns,
    /// The client's own address and port; `0.0.0.0:0`: what the kernel chooses.
    pub source: SocketAddrV4,
    /// The address that is dialled.
    pub to: SocketAddrV4,
    /// UDP or TCP.
    pub transport: Transport,
    /// How long to wait. Over UDP the question is repeated within this time.
    pub patience: Duration,
}

impl<'a> Question<'a> {
    /// A question from any socket of the host, with a patience of two seconds.
    pub fn new(from: &'a Host, to: SocketAddrV4, transport: Transport) -> Self {
        Self {
            from: &from.netns,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
            to,
            transport,
            patience: Duration::from_secs(2),
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self) -> Result<Answer, NoAnswer> {
        match self.transport {
            Transport::Udp => self.ask_udp(),
            Transport::Tcp => self.ask_tcp(),
        }
    }

    fn ask_udp(&self) -> Result<Answer, NoAnswer> {
        let socket = self.open(|| {
            let socket = UdpSocket::bind(self.source)?;
            socket.connect(self.to)?;
            socket.set_read_timeout(Some(AGAIN.min(self.patience)))?;
            Ok(socket)
        })?;
        let deadline = Instant::now() + self.patience;
        let mut reply = [0; 128];
        while Instant::now() < deadline {
            socket.send(b"who am I").map_err(NoAnswer::Refused)?;
            match socket.recv(&mut reply) {
                Ok(length) => return self.answer(&reply[..length], socket.local_addr().map_err(NoAnswer::Refused)?),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(NoAnswer::Refused(error)),
            }
        }
        Err(NoAnswer::Silence(self.patience))
    }

    fn ask_tcp(&self) -> Result<Answer, NoAnswer> {
        let socket = self.open(|| {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            // A blocking connect() gives up after the send timeout (socket(7)).
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(self.patience))?;
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(self.patience))?;
            bind(&socket, &self.source)?;
            Ok(socket)
        })?;
        let mut stream = match connect(&socket, &self.to) {
            Ok(()) => TcpStream::from(socket),
            Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::TIMEDOUT) => {
                return Err(NoAnswer::Silence(self.patience));
            }
            Err(error) => return Err(NoAnswer::Refused(error.into())),
        };
        let mut reply = Vec::new();
        match stream.read_to_end(&mut reply) {
            Ok(_) => self.answer(&reply, stream.local_addr().map_err(NoAnswer::Refused)?),
            Err(error) if is_timeout(&error) => Err(NoAnswer::Silence(self.patience)),
            Err(error) => Err(NoAnswer::Refused(error)),
        }
    }

    fn open<T: Send>(&self, open: impl FnOnce() -> io::Result<T> + Send) -> Result<T, NoAnswer> {
        match self.from.enter(open) {
            Ok(Ok(socket)) => Ok(socket),
            // No route is an answer of the network, too.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable) => {
                Err(NoAnswer::Refused(error))
            }
            Ok(Err(error)) => Err(NoAnswer::Asking(error.into())),
            Err(error) => Err(NoAnswer::Asking(error)),
        }
    }

    fn answer(&self, reply: &[u8], local: std::net::SocketAddr) -> Result<Answer, NoAnswer> {
        let seen = std::str::from_utf8(reply).ok().and_then(|text| text.parse().ok());
        match (seen, v4(local)) {
            (Some(seen), Some(local)) => Ok(Answer { local, seen }),
            _ => Err(NoAnswer::Asking(anyhow::anyhow!(
                "the server at {} answered {:?}",
                self.to,
                String::from_utf8_lossy(reply)
            ))),
        }
    }
}

/// Sends one UDP packet with any source address, past everything that would choose an honest one (`raw(7)`).
pub fn forge(from: &Netns, source: SocketAddrV4, to: SocketAddrV4) -> Result<()> {
    let socket = from
        .enter(|| socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW)))?
        .context("opening a raw socket")?;
    sendto(&socket, &udp_packet(source, to, b"forged"), SendFlags::empty(), &to)
        .with_context(|| format!("sending from {source} to {to}"))?;
    Ok(())
}

/// An IPv4 packet with a UDP datagram. The kernel fills in the header's checksum; UDP's may be zero.
fn udp_packet(source: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let datagram = u16::try_from(8 + payload.len()).expect("the payload is a few bytes");
    let mut packet = vec![0x45, 0];
    packet.extend((20 + datagram).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(source.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(source.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(datagram.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut question = [0; 128];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((_, peer)) = socket.recv_from(&mut question)
            && let Ok(local) = socket.local_addr()
        {
            // A reply that cannot be sent shows at the client.
            let _ = socket.send_to(format!("{peer} {local}").as_bytes(), peer);
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok((mut stream, peer)) = listener.accept()
            && let Ok(local) = stream.local_addr()
        {
            // In one piece: one packet.
            let _ = stream.write_all(format!("{peer} {local}").as_bytes());
        }
    }
}

impl FromStr for Seen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (source, destination) = text.split_once(' ').context("two addresses")?;
        Ok(Self { source: source.parse()?, destination: destination.parse()? })
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn v4(address: std::net::SocketAddr) -> Option<SocketAddrV4> {
    match address {
        std::net::SocketAddr::V4(address) => Some(address),
        std::net::SocketAddr::V6(_) => None,
    }
}
