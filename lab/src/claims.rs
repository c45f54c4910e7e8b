//! What Berth promises about packets, as functions that try it: who the far side saw, and by which ENI each packet went.
//!
//! Every claim is one exchange watched from the router. It holds when the tuple that the far side saw and the ports that
//! the packets crossed are the expected ones; an outcome that does not hold says what differed.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use anyhow::{Context, Result};

use crate::{
    fabric::{Crossing, Direction, Plugged, Witness},
    host::Host,
    node_port::NodePort,
    traffic::{Answer, Echo, NoAnswer, Question, Transport, forge},
    wait,
};

/// ICMP type 3 (destination unreachable), code 1 (host).
const HOST_UNREACHABLE: (u8, u8) = (3, 1);

/// Names of the hosts outside as the tap calls them.
const INTERNET: &str = "inet";
const ONPREM: &str = "onprem";

/// One try of one claim.
#[derive(Debug)]
pub struct Outcome {
    /// What was claimed, for people.
    pub claim: String,
    /// What the far side saw, if anything came back.
    pub answer: Option<Answer>,
    /// The packets of this exchange, as the router saw them.
    pub crossings: Vec<Crossing>,
    /// What was not as claimed; empty when the claim holds.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Did it happen as claimed?
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    /// One line for people: what was claimed, whom the far side saw, and the ENIs on the way.
    pub fn summary(&self, witness: &Witness) -> String {
        let seen = self.answer.as_ref().map(|answer| format!(": seen as {}", answer.seen.source.ip()));
        let half = |belongs: &dyn Fn(&Crossing) -> bool| {
            let mut places: Vec<String> = Vec::new();
            for crossing in self.crossings.iter().filter(|crossing| belongs(crossing)) {
                let place = witness.place(&crossing.place);
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            places
        };
        let dialled = self.crossings.first().map(|crossing| crossing.destination);
        let out = half(&|crossing| Some(crossing.destination) == dialled);
        let back = half(&|crossing| Some(crossing.destination) != dialled);
        let way = match (out.is_empty(), back.iter().rev().eq(&out)) {
            (true, _) => String::new(),
            (false, true) => format!(", by {} and back", out.join(" > ")),
            (false, false) => format!(", by {}, back by {}", out.join(" > "), back.join(" > ")),
        };
        format!("{}{}{way}", self.claim, seen.unwrap_or_default())
    }

    /// An error with everything that was seen, unless the claim holds.
    pub fn into_result(self) -> Result<Self> {
        if self.holds() { Ok(self) } else { Err(anyhow::anyhow!("{self}")) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.claim)?;
        match &self.answer {
            Some(answer) => write!(f, "{} saw {}", answer.seen.destination, answer.seen.source)?,
            None => write!(f, "no answer")?,
        }
        for crossing in &self.crossings {
            let verb = match crossing.direction {
                Direction::Left => "left",
                Direction::Reached => "reached",
            };
            write!(f, ", {} > {} {verb} {}", crossing.source, crossing.destination, crossing.place)?;
        }
        for problem in &self.problems {
            write!(f, "; but {problem}")?;
        }
        Ok(())
    }
}

/// Which way both halves of an exchange go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// No packet leaves the node.
    WithinNode,
    /// Requests leave one place and reach another; replies go back by the same two.
    Through { client: String, server: String },
}

/// An exchange and what is expected of it.
struct Exchange<'a> {
    claim: String,
    from: &'a Host,
    /// The client's own choice of source address.
    source: Option<Ipv4Addr>,
    server: &'a Host,
    transport: Transport,
    /// Dialled instead of the server's own address.
    node_port: Option<&'a NodePort>,
    expected_source: Ipv4Addr,
    way: Way,
}

/// Pod to pod, or node to pod, on one node: the source is untouched and nothing leaves the node.
pub fn same_node(witness: &Witness, from: &Host, to: &Host, transport: Transport) -> Outcome {
    exchange(
        witness,
        Exchange {
            claim: format!("{} reaches {} on the same node as itself", from.name, to.name),
            from,
            source: None,
            server: to,
            transport,
            node_port: None,
            expected_source: from.address,
            way: Way::WithinNode,
        },
    )
}

/// Between two nodes: the source is untouched, each packet leaves by the ENI of its source and arrives by the ENI of its
/// destination.
pub fn across(witness: &Witness, from: &Host, to: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches {} on another node as itself", from.name, to.name);
    let way = witness.holder(from.address).and_then(|client| {
        Ok(Way::Through { client: client.eni.id.clone(), server: witness.holder(to.address)?.eni.id.clone() })
    });
    match way {
        Ok(way) => exchange(
            witness,
            Exchange {
                claim,
                from,
                source: None,
                server: to,
                transport,
                node_port: None,
                expected_source: from.address,
                way,
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

/// A pod's own connection to the internet: the far side sees the node's primary address, packets go by the primary ENI.
pub fn to_internet(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches the internet as its node", pod.name);
    translated(witness, claim, node, pod, witness.internet(), INTERNET, transport)
}

/// A pod's own connection to another network, not excluded from translation: as to the internet.
pub fn to_onprem_translated(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches on-premises as its node", pod.name);
    translated(witness, claim, node, pod, witness.onprem(), ONPREM, transport)
}

/// A pod's own connection to a network that is excluded from translation: as itself, by its own ENI.
pub fn to_onprem_untranslated(witness: &Witness, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches on-premises as itself by its own ENI", pod.name);
    match witness.holder(pod.address) {
        Ok(own) => exchange(
            witness,
            Exchange {
                claim,
                from: pod,
                source: None,
                server: witness.onprem(),
                transport,
                node_port: None,
                expected_source: pod.address,
                way: Way::Through { client: own.eni.id.clone(), server: ONPREM.to_owned() },
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

/// A client outside the VPC connects to a pod: in by the pod's ENI, and the replies leave by the same.
pub fn from_onprem(witness: &Witness, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("on-premises reaches {} and is answered by the same ENI", pod.name);
    match witness.holder(pod.address) {
        Ok(own) => exchange(
            witness,
            Exchange {
                claim,
                from: witness.onprem(),
                source: None,
                server: pod,
                transport,
                node_port: None,
                expected_source: witness.onprem().address,
                way: Way::Through { client: ONPREM.to_owned(), server: own.eni.id.clone() },
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

/// A connection to a node port: in by the ENI of the dialled address, to a pod on any ENI, and back by the ENI where it
/// came in, the client's address kept.
pub fn by_node_port(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("on-premises reaches {} by a port of {} and is answered by the same ENI", pod.name, node.name);
    let prepared = witness.holder(node.address).and_then(|by| Ok((by, NodePort::open(node, pod, transport)?)));
    match prepared {
        Ok((by, node_port)) => exchange(
            witness,
            Exchange {
                claim,
                from: witness.onprem(),
                source: None,
                server: pod,
                transport,
                node_port: Some(&node_port),
                expected_source: witness.onprem().address,
                way: Way::Through { client: ONPREM.to_owned(), server: by.eni.id.clone() },
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

/// A process of the node that uses the primary address of one of its ENIs: out and back by that ENI.
pub fn node_by_eni(witness: &Witness, node: &Host, address: Ipv4Addr, transport: Transport) -> Outcome {
    let claim = format!("a process of {} that is bound to {address} uses that address's ENI", node.name);
    match witness.holder(address) {
        Ok(own) => exchange(
            witness,
            Exchange {
                claim,
                from: node,
                source: Some(address),
                server: witness.onprem(),
                transport,
                node_port: None,
                expected_source: address,
                way: Way::Through { client: own.eni.id.clone(), server: ONPREM.to_owned() },
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

/// A packet from another node to an assigned address that no pod has: the node says so to the sender, and never sends it
/// back into the VPC.
pub fn gone(witness: &Witness, from: &Host, address: Ipv4Addr) -> Outcome {
    /// Nobody listens at this port; it tells these packets from all others.
    const PORT: u16 = 6667;
    let claim = format!("{address}, which no pod has, is unreachable for {}", from.name);
    let to = SocketAddrV4::new(address, PORT);
    let tried = witness.holder(address).and_then(|own| {
        let tap = witness.tap()?;
        forge(&from.netns, from.at(PORT), to)?;
        let told =
            |crossing: &Crossing| crossing.icmp == Some(HOST_UNREACHABLE) && *crossing.destination.ip() == from.address;
        wait::until(witness.patience(), || {
            tap.crossings()
                .into_iter()
                .any(|crossing| told(&crossing) && crossing.direction == Direction::Reached)
                .then_some(())
        });
        let crossings = tap.crossings().into_iter().filter(|crossing| crossing.destination == to || told(crossing));
        Ok((own.eni.id.clone(), crossings.collect::<Vec<_>>()))
    });
    let (own, crossings) = match tried {
        Ok(tried) => tried,
        Err(error) => return impossible(claim, &error),
    };
    let mut problems = Vec::new();
    if !crossings.iter().any(|crossing| crossing.icmp.is_some()) {
        problems.push("the sender was not told".to_owned());
    }
    let at_the_node = |direction| {
        let here = |crossing: &&Crossing| {
            crossing.destination == to && crossing.place == own && crossing.direction == direction
        };
        crossings.iter().filter(here).count()
    };
    if at_the_node(Direction::Reached) == 0 {
        problems.push("the packet never reached the node".to_owned());
    }
    let sent_back = at_the_node(Direction::Reached).saturating_sub(1);
    if sent_back > 0 {
        problems.push(format!("the node sent it back into the VPC {sent_back} times"));
    }
    // A loop would fill the line.
    let crossings = crossings.into_iter().take(4).collect();
    Outcome { claim, answer: None, crossings, problems }
}

/// A pod that sends from an address that is not its own: nothing leaves its node.
pub fn spoofed(witness: &Witness, pod: &Host, source: Ipv4Addr, to: &Host) -> Outcome {
    const FROM: u16 = 6666;
    let claim = format!("{} cannot send as {source}", pod.name);
    let tried = witness.tap().and_then(|tap| {
        forge(&pod.netns, SocketAddrV4::new(source, FROM), to.at(FROM))?;
        // Honest traffic over the same links, in order behind the forged packet: when it is through, so is the other.
        let echo = Echo::start(to, Transport::Udp)?;
        let honest = Question { patience: witness.patience(), ..Question::new(pod, echo.at(), Transport::Udp) };
        honest.ask().context("the honest packet behind the forged one")?;
        Ok(tap.crossings())
    });
    match tried {
        Ok(crossings) => {
            let crossings: Vec<Crossing> =
                crossings.into_iter().filter(|crossing| crossing.destination == to.at(FROM)).collect();
            let problems =
                if crossings.is_empty() { vec![] } else { vec!["the forged packet left the node".to_owned()] };
            Outcome { claim, answer: None, crossings, problems }
        }
        Err(error) => impossible(claim, &error),
    }
}

fn translated(
    witness: &Witness,
    claim: String,
    node: &Host,
    pod: &Host,
    server: &Host,
    place: &str,
    transport: Transport,
) -> Outcome {
    match witness.holder(node.address) {
        Ok(primary) => exchange(
            witness,
            Exchange {
                claim,
                from: pod,
                source: None,
                server,
                transport,
                node_port: None,
                expected_source: node.address,
                way: Way::Through { client: primary.eni.id.clone(), server: place.to_owned() },
            },
        ),
        Err(error) => impossible(claim, &error),
    }
}

fn exchange(witness: &Witness, exchange: Exchange<'_>) -> Outcome {
    match try_exchange(witness, &exchange) {
        Ok((asked, crossings)) => {
            let mut problems = Vec::new();
            match &asked {
                Ok(answer) if *answer.seen.source.ip() != exchange.expected_source => {
                    problems.push(format!("{} was expected as the source", exchange.expected_source));
                }
                Ok(_) => {}
                Err(error) => problems.push(describe(error)),
            }
            if asked.is_ok() {
                problems.extend(detours(&exchange.way, &crossings));
            }
            let crossings = crossings.into_iter().map(|(_, crossing)| crossing).collect();
            Outcome { claim: exchange.claim, answer: asked.ok(), crossings, problems }
        }
        Err(error) => impossible(exchange.claim, &error),
    }
}

/// Is a packet on its way to the dialled address, or back from it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    Request,
    Reply,
}

type Exchanged = (Result<Answer, NoAnswer>, Vec<(Half, Crossing)>);

fn try_exchange(witness: &Witness, exchange: &Exchange<'_>) -> Result<Exchanged> {
    let echo = match exchange.node_port {
        Some(node_port) => Echo::start_at(exchange.server, exchange.transport, node_port.target_port())?,
        None => Echo::start(exchange.server, exchange.transport)?,
    };
    let dialled = exchange.node_port.map_or(echo.at(), NodePort::at);
    let tap = witness.tap()?;
    let source = SocketAddrV4::new(exchange.source.unwrap_or(Ipv4Addr::UNSPECIFIED), 0);
    let question =
        Question { source, patience: witness.patience(), ..Question::new(exchange.from, dialled, exchange.transport) };
    let asked = question.ask();
    let crossings = tap.crossings().into_iter().filter_map(|crossing| {
        if crossing.destination == dialled {
            Some((Half::Request, crossing))
        } else if crossing.source == dialled {
            Some((Half::Reply, crossing))
        } else {
            None
        }
    });
    Ok((asked, crossings.collect()))
}

fn detours(way: &Way, crossings: &[(Half, Crossing)]) -> Vec<String> {
    let went: BTreeSet<(Half, Direction, &str)> =
        crossings.iter().map(|(half, crossing)| (*half, crossing.direction, crossing.place.as_str())).collect();
    let expected: BTreeSet<(Half, Direction, &str)> = match way {
        Way::WithinNode => BTreeSet::new(),
        Way::Through { client, server } => BTreeSet::from([
            (Half::Request, Direction::Left, client.as_str()),
            (Half::Request, Direction::Reached, server.as_str()),
            (Half::Reply, Direction::Left, server.as_str()),
            (Half::Reply, Direction::Reached, client.as_str()),
        ]),
    };
    let describe = |(half, direction, place): &(Half, Direction, &str), verb: &str| {
        format!("a {half:?} {verb} {direction:?} {place}").to_lowercase()
    };
    let unexpected = went.difference(&expected).map(|step| describe(step, "unexpectedly"));
    let missing = expected.difference(&went).map(|step| describe(step, "never"));
    unexpected.chain(missing).collect()
}

fn describe(error: &NoAnswer) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn impossible(claim: String, error: &anyhow::Error) -> Outcome {
    Outcome { claim, answer: None, crossings: Vec::new(), problems: vec![format!("it could not be tried: {error:#}")] }
}

/// Words for the ENI of a host: `eni-0123 (eth1)`.
pub fn eni_of(witness: &Witness, address: Ipv4Addr) -> String {
    witness
        .holder(address)
        .map_or_else(|_| "no ENI".to_owned(), |Plugged { eni, link, .. }| format!("{} ({link})", eni.id))
}
