//! The least that an ADD or a DEL can cost: a process that starts, asks a server something empty, and has the kernel do the
//! bare work.
//!
//! Owns what the floor program and the server that it asks agree on. It checks nothing, undoes nothing and decides nothing.

mod call;
mod kernel;
mod netlink;

use std::{ffi::OsString, fmt::Write as _, io, net::Ipv4Addr, path::PathBuf};

/// The gRPC service that answers with nothing, and its only method.
pub const SERVICE: &str = "berth.bench.Floor";
/// See [`SERVICE`].
pub const METHOD: &str = "/berth.bench.Floor/Call";

/// The group of the links on the host: all of them are deleted by it.
pub const GROUP: u32 = 7001;

/// The table of the pods' routes.
const TABLE: u32 = 7000;

/// What the server is asked, on a stream without gRPC, and what it answers: about as long as a real request and its answer.
pub const RAW_QUESTION: [u8; 256] = [b'?'; 256];
/// See [`RAW_QUESTION`].
pub const RAW_ANSWER: [u8; 128] = [b'!'; 128];

/// One run of the floor program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// ADD or DEL.
    pub work: Work,
    /// How the server is asked.
    pub call: Call,
    /// The server's socket.
    pub socket: PathBuf,
    /// Names, addresses and indices follow from it.
    pub number: u16,
}

/// What the kernel is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// The pod's link, addresses, routes and neighbours.
    Add {
        /// The pod's namespace.
        netns: PathBuf,
    },
    /// The pod's route.
    Del,
}

/// How the server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One unary call, an empty message there and back.
    Tonic,
    /// Bytes there and back.
    Raw,
}

impl Floor {
    /// As the program's arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        let call = match self.call {
            Call::Tonic => "tonic",
            Call::Raw => "raw",
        };
        let mut arguments = vec![call.into(), self.socket.clone().into(), self.number.to_string().into()];
        if let Work::Add { netns } = &self.work {
            arguments.push(netns.into());
        }
        arguments
    }

    /// From the program's arguments, without its name.
    pub fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let call = match arguments.next()?.to_str()? {
            "tonic" => Call::Tonic,
            "raw" => Call::Raw,
            _ => return None,
        };
        let socket = arguments.next()?.into();
        let number = arguments.next()?.to_str()?.parse().ok()?;
        let work = arguments.next().map_or(Work::Del, |netns| Work::Add { netns: netns.into() });
        Some(Self { work, call, socket, number })
    }

    /// Does it all, and gives what is to be printed.
    pub fn run(&self) -> io::Result<String> {
        call::call(self.call, &self.socket)?;
        match &self.work {
            Work::Add { netns } => kernel::add(self.number, netns)?,
            Work::Del => kernel::del(self.number)?,
        }
        Ok(self.result())
    }

    /// A CNI result of the usual length.
    fn result(&self) -> String {
        let mut text = String::from(r#"{"cniVersion":"1.0.0","interfaces":[{"name":""#);
        let _ = write!(
            text,
            r#"{}","sandbox":""}}],"ips":[{{"address":"{}/32"}}]}}"#,
            link_name(self.number),
            address(self.number)
        );
        text
    }
}

fn link_name(number: u16) -> String {
    format!("floor{number}")
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low)
}

/// Chosen, so that nobody has to ask for it.
fn index(number: u16) -> u32 {
    (1 << 20) + u32::from(number)
}

/// One for each end.
fn macs(number: u16) -> [[u8; 6]; 2] {
    let [high, low] = number.to_be_bytes();
    [[2, 1, 0, 0, high, low], [2, 2, 0, 0, high, low]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_say_everything() {
        for (work, call) in [(Work::Add { netns: "/run/netns/x".into() }, Call::Tonic), (Work::Del, Call::Raw)] {
            let floor = Floor { work, call, socket: "/run/x.sock".into(), number: 7 };
            assert_eq!(Floor::from_arguments(floor.arguments().into_iter()), Some(floor));
        }
        assert_eq!(Floor::from_arguments(std::iter::empty()), None);
    }
}
