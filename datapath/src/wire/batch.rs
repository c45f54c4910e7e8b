//! Requests that go to the kernel together.
//!
//! Owns their encoding, the numbering of the answers and how many fit into one send. Never touches a socket.

use std::ops::Range;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;

use super::request::Change;

/// `NLM_F_ACK`.
const ACKNOWLEDGE: u16 = 4;

/// If each of so many requests is refused, the refusals still fit into the default receive buffer of 208 KiB.
const REQUESTS_PER_SEND: usize = 128;

/// Well below the default send buffer of 208 KiB.
const BYTES_PER_SEND: usize = 32 << 10;

/// Requests in the order in which the kernel carries them out.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    requests: Vec<Encoded>,
}

#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) what: String,
    pub(super) tolerated: &'static [Errno],
    start: usize,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change at the end.
    pub fn push(&mut self, change: Change) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | change.flags;
        let mut packet: NetlinkMessage<RouteNetlinkMessage> =
            NetlinkMessage::new(header, NetlinkPayload::InnerMessage(change.message));
        packet.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + packet.buffer_len().next_multiple_of(4), 0);
        packet.serialize(&mut self.bytes[start..start + packet.header.length as usize]);
        self.requests.push(Encoded { what: change.what, tolerated: change.tolerated, start });
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// No change at all: nothing is sent.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The ranges of requests that are sent together.
    pub(super) fn parts(&self) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut start = 0;
        for position in 1..=self.requests.len() {
            let full = position - start == REQUESTS_PER_SEND
                || position < self.requests.len() && self.end(position) - self.requests[start].start > BYTES_PER_SEND;
            if full || position == self.requests.len() {
                parts.push(start..position);
                start = position;
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// Gives the requests of a part their sequence numbers, asks the last for an acknowledgement, and says how many they are.
    pub(super) fn number(&mut self, part: Range<usize>, first: u32) -> u32 {
        let mut sequence = first;
        for position in part.clone() {
            let header = &mut self.bytes[self.requests[position].start..];
            // struct nlmsghdr: length, type, flags, sequence, port.
            header[8..12].copy_from_slice(&sequence.to_ne_bytes());
            if position + 1 == part.end {
                let flags = u16::from_ne_bytes([header[6], header[7]]) | ACKNOWLEDGE;
                header[6..8].copy_from_slice(&flags.to_ne_bytes());
            }
            sequence = sequence.wrapping_add(1);
        }
        sequence.wrapping_sub(first)
    }

    pub(super) fn bytes(&self, part: Range<usize>) -> &[u8] {
        &self.bytes[self.requests[part.start].start..self.end(part.end - 1)]
    }

    pub(super) fn request(&self, position: usize) -> &Encoded {
        &self.requests[position]
    }

    fn end(&self, position: usize) -> usize {
        self.requests.get(position + 1).map_or(self.bytes.len(), |next| next.start)
    }
}

impl FromIterator<Change> for Batch {
    fn from_iter<T: IntoIterator<Item = Change>>(changes: T) -> Self {
        let mut batch = Self::new();
        batch.extend(changes);
        batch
    }
}

impl Extend<Change> for Batch {
    fn extend<T: IntoIterator<Item = Change>>(&mut self, changes: T) {
        changes.into_iter().for_each(|change| self.push(change));
    }
}
