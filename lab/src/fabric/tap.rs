//! Every packet that crosses the router's ports, by the ENI it left or reached.
//!
//! A packet socket in the router's namespace: the kernel queues a copy of each frame before the packet goes on, so once
//! an answer has arrived everything that led to it is here. Costs the path something: none is open while anything is
//! measured.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::Mutex,
};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with, sockopt};

use crate::netns::Netns;

/// Room for what crosses between two looks.
const BUFFER: usize = 8 << 20;

/// Which way a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the ENI into the VPC.
    Left,
    /// From the VPC to the ENI.
    Reached,
}

/// One IPv4 packet at one port. A forwarded packet is two of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// The ENI's id, or `inet` or `onprem` for the hosts outside.
    pub place: String,
    /// From there or to there.
    pub direction: Direction,
    /// IP protocol number.
    pub protocol: u8,
    /// As on the wire at this port; port 0 where the protocol has none.
    pub source: SocketAddrV4,
    /// As on the wire at this port; port 0 where the protocol has none.
    pub destination: SocketAddrV4,
    /// Type and code of an ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// Hops left.
    pub ttl: u8,
}

/// A packet socket over all ports of the router.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    /// MAC to ENI id.
    places: BTreeMap<String, String>,
    seen: Mutex<Vec<Crossing>>,
}

impl Tap {
    pub(super) fn open(router: &Netns, places: BTreeMap<String, String>) -> Result<Self> {
        let socket = router
            .enter(|| socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, Some(eth::ALL)))?
            .context("opening a packet socket")?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).context("enlarging the packet socket's buffer")?;
        Ok(Self { socket, places, seen: Mutex::default() })
    }

    /// Everything that has crossed since the tap was opened, in order.
    pub fn crossings(&self) -> Vec<Crossing> {
        let mut frame = [0; 128];
        let mut seen = self.seen.lock().expect("no reader panics while holding the list");
        while let Ok((length, _)) = recv(&self.socket, frame.as_mut_slice(), RecvFlags::DONTWAIT) {
            if let Some(crossing) = frame.get(..length).and_then(|frame| self.read(frame)) {
                seen.push(crossing);
            }
        }
        seen.clone()
    }

    fn read(&self, frame: &[u8]) -> Option<Crossing> {
        let (to, rest) = frame.split_first_chunk::<6>()?;
        let (from, rest) = rest.split_first_chunk::<6>()?;
        let packet = rest.strip_prefix(&[0x08, 0x00])?;
        let (place, direction) = match (self.places.get(&mac(*from)), self.places.get(&mac(*to))) {
            (Some(place), _) => (place, Direction::Left),
            (None, Some(place)) => (place, Direction::Reached),
            (None, None) => return None,
        };
        let (header, _) = packet.split_first_chunk::<20>()?;
        let payload = packet.get(usize::from(header[0] & 0x0f) * 4..)?;
        let protocol = header[9];
        let ports = match (protocol, payload) {
            (6 | 17, [a, b, c, d, ..]) => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
            _ => (0, 0),
        };
        let icmp = match (protocol, payload) {
            (1, [kind, code, ..]) => Some((*kind, *code)),
            _ => None,
        };
        let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        Some(Crossing {
            place: place.clone(),
            direction,
            protocol,
            source: SocketAddrV4::new(address(12), ports.0),
            destination: SocketAddrV4::new(address(16), ports.1),
            icmp,
            ttl: header[8],
        })
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
