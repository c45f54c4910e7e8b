//! A stream of links that appear, change and vanish, for the daemon.
//!
//! Owns the subscription to rtnetlink's link events. Never changes anything, and keeps no picture of its own: a receiver
//! that fell behind is told so and has to list the links again.

use std::io;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rustix::io::Errno;

use crate::wire::read::{LinkState, link_state};

/// `RTMGRP_LINK`.
const LINK_EVENTS: u32 = 1;

/// Something happened to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// It appeared, or something about it changed: its name, its state, its MTU.
    Present(LinkState),
    /// It is gone from this namespace.
    Gone(LinkState),
    /// Events were lost: list the links again.
    Missed,
}

/// Link events of the namespace in which it was opened.
pub struct LinkWatch {
    socket: TokioSocket,
    pending: std::collections::VecDeque<LinkEvent>,
}

impl std::fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkWatch").field("pending", &self.pending).finish_non_exhaustive()
    }
}

/// Why there are no link events.
#[derive(Debug, thiserror::Error)]
#[error("{operation} link events")]
pub struct WatchError {
    operation: &'static str,
    #[source]
    source: io::Error,
}

impl LinkWatch {
    /// Subscribes. Events from now on are seen; what is there already has to be listed, after this.
    pub fn open() -> Result<Self, WatchError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, LINK_EVENTS))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| WatchError { operation: "subscribing to", source })?;
        Ok(Self { socket, pending: std::collections::VecDeque::new() })
    }

    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<LinkEvent, WatchError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let bytes = match self.socket.recv_from_full().await {
                Ok((bytes, _)) => bytes,
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Ok(LinkEvent::Missed);
                }
                Err(source) => return Err(WatchError { operation: "receiving", source }),
            };
            self.read(&bytes);
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            // An event that cannot be read might have been about a link of ours.
            let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
                self.pending.push_back(LinkEvent::Missed);
                return;
            };
            let length = (message.header.length as usize).next_multiple_of(4).max(1);
            if let NetlinkPayload::InnerMessage(message) = message.payload {
                let gone = matches!(message, RouteNetlinkMessage::DelLink(_));
                let wrap = if gone { LinkEvent::Gone } else { LinkEvent::Present };
                self.pending.extend(link_state(message).map(wrap));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
