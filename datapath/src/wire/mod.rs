//! A synchronous rtnetlink socket: a batch of changes in one send, all answers read, every error with its errno and the
//! request it belongs to.
//!
//! Owns talking to the kernel. Never decides what to ask for ([`crate::node`], [`crate::pod`]) and never changes the
//! namespace of the calling thread.

mod batch;
pub mod read;
pub mod request;

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
pub use rustix::io::Errno;

pub use self::batch::Batch;
use crate::netns::{Netns, NetnsError};

/// A socket in one network namespace: the one where it was opened, wherever it is used.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Why the kernel could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No socket.
    #[error("opening a netlink socket")]
    Open(#[source] io::Error),
    /// No socket in that namespace.
    #[error("opening a netlink socket in another network namespace")]
    Netns(#[source] NetnsError),
    /// The request did not go out, or the answer did not come in.
    #[error("{operation} on a netlink socket")]
    Transport {
        /// Sending or receiving.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An answer that the packet library cannot read.
    #[error("reading an answer from netlink: {0}")]
    Unreadable(String),
    /// The kernel refused a request.
    #[error("{request}{}", text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was asked, and of which object: `adding route 10.0.0.9/32 in table 7000`.
        request: String,
        /// The errno.
        #[source]
        errno: Errno,
        /// The kernel's own words, where it has some.
        text: Option<String>,
    },
    /// The listing changed under our hands, again and again.
    #[error("listing {0}: interrupted by changes {DUMP_ATTEMPTS} times in a row")]
    Interrupted(&'static str),
}

impl WireError {
    /// The errno of a refusal; `None` when the kernel was not reached.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// How often a dump that was interrupted by changes is repeated.
const DUMP_ATTEMPTS: usize = 16;

/// The kernel fills at most 32 KiB per answer.
const RECEIVE: usize = 32 << 10;

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self, WireError> {
        let open = || {
            let mut inner = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            inner.bind(&SocketAddr::new(0, 0))?;
            // Errors come with the kernel's words, and without a copy of the request.
            inner.set_ext_ack(true)?;
            inner.set_cap_ack(true)?;
            // Without it the kernel ignores what a dump asks for, and lists everything.
            inner.set_netlink_get_strict_chk(true)?;
            inner.connect(&SocketAddr::new(0, 0))?;
            Ok(inner)
        };
        Ok(Self { inner: open().map_err(WireError::Open)?, sequence: 0, buffer: Vec::new() })
    }

    /// Opens a socket in another namespace, by a short-lived thread.
    pub fn open_in(netns: &Netns) -> Result<Self, WireError> {
        netns.run(Self::open).map_err(WireError::Netns)?
    }

    /// Sends all requests of a batch and reads all answers. The kernel works through the whole batch; the first refusal
    /// that its request did not tolerate is the error.
    pub fn send(&mut self, mut batch: Batch) -> Result<(), WireError> {
        let mut refused = None;
        for part in batch.parts() {
            let first = self.sequence.wrapping_add(1);
            let count = batch.number(part.clone(), first);
            self.sequence = self.sequence.wrapping_add(count);
            self.transmit(batch.bytes(part.clone()))?;
            self.read_acknowledgements(first, count, |position, errno, text| {
                let request = batch.request(part.start + position);
                if !request.tolerated.contains(&errno) && refused.is_none() {
                    refused = Some(WireError::Refused { request: request.what.clone(), errno, text });
                }
            })?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Only the last request of a part asks for an acknowledgement: so the answers of a large batch cannot overflow the
    /// receive buffer. Refusals come for each, in order, before it.
    fn read_acknowledgements(
        &mut self,
        first: u32,
        count: u32,
        mut refusal: impl FnMut(usize, Errno, Option<String>),
    ) -> Result<(), WireError> {
        let last = count - 1;
        loop {
            let mut finished = false;
            self.receive(|message| {
                let position = message.header.sequence_number.wrapping_sub(first);
                if let (NetlinkPayload::Error(answer), true) = (message.payload, position <= last) {
                    if answer.code.is_some() {
                        let text = extended_text(&answer.header);
                        refusal(position as usize, Errno::from_raw_os_error(answer.raw_code().abs()), text);
                    }
                    finished |= position == last;
                }
            })?;
            if finished {
                return Ok(());
            }
        }
    }

    /// One object by its identity; `None` when the kernel has no such thing.
    pub(crate) fn get(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, WireError> {
        let sequence = self.ask(message, NLM_F_REQUEST)?;
        let mut answer = None;
        while answer.is_none() {
            self.receive(|message| {
                if message.header.sequence_number != sequence {
                    return;
                }
                answer = match message.payload {
                    NetlinkPayload::InnerMessage(found) => Some(Ok(Some(found))),
                    NetlinkPayload::Error(error) => Some(match Errno::from_raw_os_error(error.raw_code().abs()) {
                        Errno::NODEV | Errno::NOENT | Errno::SRCH => Ok(None),
                        errno => Err(WireError::Refused {
                            request: what.to_owned(),
                            errno,
                            text: extended_text(&error.header),
                        }),
                    }),
                    _ => None,
                };
            })?;
        }
        answer.expect("the loop ends only with an answer")
    }

    /// Everything that matches; repeated when the kernel says that the list changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        what: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, WireError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.ask(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            let (mut found, mut interrupted, mut finished, mut refused) = (Vec::new(), false, false, None);
            while !finished {
                self.receive(|message| {
                    if message.header.sequence_number != sequence {
                        return;
                    }
                    interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                    match message.payload {
                        NetlinkPayload::InnerMessage(one) => found.push(one),
                        NetlinkPayload::Done(_) => finished = true,
                        NetlinkPayload::Error(error) => {
                            let errno = Errno::from_raw_os_error(error.raw_code().abs());
                            refused = Some((errno, extended_text(&error.header)));
                            finished = true;
                        }
                        _ => {}
                    }
                })?;
            }
            match refused {
                // A table that was never made has no routes.
                Some((Errno::NOENT, _)) => return Ok(Vec::new()),
                Some((errno, text)) => {
                    return Err(WireError::Refused { request: format!("listing {what}"), errno, text });
                }
                None if !interrupted => return Ok(found),
                None => {}
            }
        }
        Err(WireError::Interrupted(what))
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<u32, WireError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.transmit(&bytes)?;
        Ok(self.sequence)
    }

    fn transmit(&self, bytes: &[u8]) -> Result<(), WireError> {
        loop {
            match self.inner.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(WireError::Transport { operation: "sending", source }),
            }
        }
    }

    fn receive(&mut self, mut each: impl FnMut(NetlinkMessage<RouteNetlinkMessage>)) -> Result<(), WireError> {
        self.buffer.clear();
        self.buffer.reserve(RECEIVE);
        loop {
            match self.inner.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(WireError::Transport { operation: "receiving", source }),
            }
        }
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| WireError::Unreadable(error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            each(message);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// `NLMSGERR_ATTR_MSG`: the kernel's own words, after the 16 bytes of the refused request's header.
fn extended_text(answer: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const MESSAGE: u16 = 1;
    let mut rest = answer.get(HEADER..)?;
    while let Some((&[l0, l1, k0, k1], _)) = rest.split_first_chunk::<4>() {
        let (length, kind) = (usize::from(u16::from_ne_bytes([l0, l1])), u16::from_ne_bytes([k0, k1]));
        let value = rest.get(4..length)?;
        if kind & 0x3fff == MESSAGE {
            let text = value.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
