//! rtnetlink with nothing around it: bytes that are put one after the other, one send, one acknowledgement.

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `NLMSG_ERROR`: also an acknowledgement, with errno 0.
const ERROR: u16 = 2;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// `NLM_F_CREATE | NLM_F_EXCL`
pub(super) const CREATE: u16 = 0x400 | 0x200;

/// Length, type, flags, sequence, port.
const HEADER: usize = 16;

/// Requests that are sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    last: usize,
    count: u32,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(1024), last: 0, count: 0 }
    }

    /// Begins a request with its fixed header; [`Batch::put`] and [`Batch::nest`] add to it.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.last = self.bytes.len();
        self.count += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.measure(self.last, 4);
        self
    }

    /// An attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |batch| batch.bytes.extend_from_slice(value))
    }

    /// An attribute with more inside.
    pub(super) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        inside(self);
        self.measure(at, 2);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.measure(self.last, 4);
        self
    }

    /// A fixed header in the middle of an attribute.
    pub(super) fn fixed(&mut self, fixed: &[u8]) {
        self.bytes.extend_from_slice(fixed);
    }

    /// Sends everything and waits for the last answer.
    pub(super) fn send(mut self, socket: &OwnedFd) -> io::Result<()> {
        let flags = &mut self.bytes[self.last + 6..self.last + 8];
        let all = u16::from_ne_bytes([flags[0], flags[1]]) | ACKNOWLEDGE;
        flags.copy_from_slice(&all.to_ne_bytes());
        send(socket, &self.bytes, SendFlags::empty())?;
        let mut buffer = [0; 4096];
        loop {
            let (length, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some(answer) = rest.get(..HEADER + 4) {
                let word = |at: usize| u32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
                let (length, kind, sequence) = (word(0) as usize, u16::from_ne_bytes([answer[4], answer[5]]), word(8));
                if kind == ERROR && word(HEADER) != 0 {
                    let errno = word(HEADER).wrapping_neg().cast_signed();
                    return Err(io::Error::other(format!(
                        "request {sequence}: {}",
                        io::Error::from_raw_os_error(errno)
                    )));
                }
                if kind == ERROR && sequence == self.count {
                    return Ok(());
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Writes the length of what begins at `at` into its first bytes.
    fn measure(&mut self, at: usize, width: usize) {
        let length = u32::try_from(self.bytes.len() - at).expect("a batch is small").to_ne_bytes();
        self.bytes[at..at + width].copy_from_slice(&length[..width]);
    }
}

/// A socket in the namespace of the calling thread.
pub(super) fn open() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
}
