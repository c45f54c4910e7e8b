//! Pods that exchange packets all their life, and notice when they are not answered.
//!
//! Owns what silence is too long: a single packet may be lost to a race, a network may not.

use std::{
    net::{SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::record::{Over, Record};
use crate::{host::Host, traffic::Seen};

/// Between an answer and the next question.
const PACE: Duration = Duration::from_millis(60);

/// A packet without an answer for so long is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// A pod that is not answered for so long has lost its network: five packets in a row.
const SILENCE: Duration = Duration::from_secs(1);

/// Before its first answer: the fabric follows EC2 a moment later.
const FIRST: Duration = Duration::from_secs(5);

/// One pod that asks a server on the other node again and again.
pub(super) struct Talk<'a> {
    record: &'a Record,
    over: &'a Over,
    from: Host,
    to: SocketAddrV4,
    socket: UdpSocket,
}

impl<'a> Talk<'a> {
    /// A socket inside the pod, bound to its own address.
    pub(super) fn open(record: &'a Record, over: &'a Over, from: Host, to: SocketAddrV4) -> Result<Self> {
        let socket = from
            .netns
            .enter(|| {
                let socket = UdpSocket::bind(from.at(0))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(AGAIN))?;
                Ok::<_, std::io::Error>(socket)
            })?
            .with_context(|| format!("a socket in {}", from.name))?;
        Ok(Self { record, over, from, to, socket })
    }

    /// Talks until the time is up or the storm is over.
    pub(super) fn last(&self, time: Option<Duration>) {
        let begun = Instant::now();
        let mut waiting: Option<Instant> = None;
        let mut heard = false;
        let mut complained = false;
        while time.is_none_or(|time| begun.elapsed() < time) {
            let asked = *waiting.get_or_insert_with(Instant::now);
            let answered = self.exchange();
            let silence = asked.elapsed();
            if answered {
                self.record.count(|figures| {
                    figures.exchanges += 1;
                    if heard {
                        figures.longest_silence = figures.longest_silence.max(silence);
                    }
                });
                (waiting, heard, complained) = (None, true, false);
            } else if !complained && silence > if heard { SILENCE } else { FIRST } {
                complained = true;
                self.record.complain(format!(
                    "{} ({}) has lost its network: no answer from {} for {silence:.1?}",
                    self.from.name, self.from.address, self.to
                ));
            }
            if self.over.within(if answered { PACE } else { Duration::ZERO }) {
                break;
            }
        }
    }

    /// One packet, and its answer.
    fn exchange(&self) -> bool {
        let mut reply = [0; 128];
        let answered = self.socket.send(b"who am I").and_then(|_| self.socket.recv(&mut reply));
        let Ok(length) = answered else {
            // Refused at once, it would be asked again at once.
            self.over.within(Duration::from_millis(20));
            return false;
        };
        let seen: Option<Seen> = std::str::from_utf8(&reply[..length]).ok().and_then(|text| text.parse().ok());
        if seen.is_none_or(|seen| *seen.source.ip() != self.from.address) {
            self.record.complain(format!("{} ({}) was seen as {seen:?}", self.from.name, self.from.address));
        }
        true
    }
}
