//! One exchange between a client and a server, watched from the router.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::Result;

use super::Outcome;
use crate::{
    fabric::{Crossing, Direction, Witness},
    host::Host,
    node_port::NodePort,
    traffic::{Answer, Echo, NoAnswer, Question, Transport},
};

/// Which way both halves of an exchange go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// No packet leaves the node.
    WithinNode,
    /// Requests leave one place and reach another; replies go back by the same two.
    Through { client: String, server: String },
}

/// An exchange and what is expected of it.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) from: &'a Host,
    pub(super) server: &'a Host,
    pub(super) transport: Transport,
    pub(super) way: Way,
    /// Whom the server should see.
    pub(super) expected_source: Ipv4Addr,
    /// The client's own choice of source address.
    pub(super) bound_to: Option<Ipv4Addr>,
    /// Dialled instead of the server's own address.
    pub(super) node_port: Option<&'a NodePort>,
}

impl<'a> Exchange<'a> {
    /// From the client's own address to the server's own.
    pub(super) fn new(from: &'a Host, server: &'a Host, transport: Transport, way: Way) -> Self {
        Self { from, server, transport, way, expected_source: from.address, bound_to: None, node_port: None }
    }

    /// Has it, and compares.
    pub(super) fn check(&self, witness: &Witness, claim: String) -> Outcome {
        let (asked, crossings) = match self.have(witness) {
            Ok(had) => had,
            Err(error) => return Outcome::impossible(claim, &error),
        };
        let mut problems = Vec::new();
        match &asked {
            Ok(answer) => {
                if *answer.seen.source.ip() != self.expected_source {
                    problems.push(format!("{} was expected as the source", self.expected_source));
                }
                problems.extend(self.way.detours(&crossings));
            }
            Err(error) => problems.push(describe(error)),
        }
        let crossings = crossings.into_iter().map(|(_, crossing)| crossing).collect();
        Outcome { claim, answer: asked.ok(), crossings, problems }
    }

    fn have(&self, witness: &Witness) -> Result<Had> {
        let port = self.node_port.map_or(0, NodePort::target_port);
        let echo = Echo::start_at(self.server, self.transport, port)?;
        let dialled = self.node_port.map_or(echo.at(), NodePort::at);
        let tap = witness.tap()?;
        let source = SocketAddrV4::new(self.bound_to.unwrap_or(Ipv4Addr::UNSPECIFIED), 0);
        let direct = Question::new(self.from, dialled, self.transport);
        let asked = Question { source, patience: witness.patience(), ..direct }.ask();
        let halves = tap.crossings().into_iter().filter_map(|crossing| {
            if crossing.destination == dialled {
                Some((Half::Request, crossing))
            } else if crossing.source == dialled {
                Some((Half::Reply, crossing))
            } else {
                None
            }
        });
        Ok((asked, halves.collect()))
    }
}

/// Is a packet on its way to the dialled address, or back from it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    Request,
    Reply,
}

/// The answer, and the packets that led to it.
type Had = (Result<Answer, NoAnswer>, Vec<(Half, Crossing)>);

impl Way {
    /// Where packets were that should not have been there, and where none was that should.
    fn detours(&self, crossings: &[(Half, Crossing)]) -> Vec<String> {
        let went: BTreeSet<(Half, Direction, &str)> =
            crossings.iter().map(|(half, crossing)| (*half, crossing.direction, crossing.place.as_str())).collect();
        let expected: BTreeSet<(Half, Direction, &str)> = match self {
            Self::WithinNode => BTreeSet::new(),
            Self::Through { client, server } => BTreeSet::from([
                (Half::Request, Direction::Left, client.as_str()),
                (Half::Request, Direction::Reached, server.as_str()),
                (Half::Reply, Direction::Left, server.as_str()),
                (Half::Reply, Direction::Reached, client.as_str()),
            ]),
        };
        let words = |(half, direction, place): &(Half, Direction, &str), how: &str| {
            format!("a {half:?} {how} {direction:?} {place}").to_lowercase()
        };
        let unexpected = went.difference(&expected).map(|step| words(step, "unexpectedly"));
        let missing = expected.difference(&went).map(|step| words(step, "never"));
        unexpected.chain(missing).collect()
    }
}

fn describe(error: &NoAnswer) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}
