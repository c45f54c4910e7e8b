//! What Berth promises about packets, as functions that try it: who the far side saw, and by which ENI each packet went.
//!
//! Every claim is one exchange watched from the router. It holds when the tuple that the far side saw and the ports that
//! the packets crossed are the expected ones; an outcome that does not hold says what differed.

mod exchange;
mod outcome;

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};

use crate::{
    fabric::{Crossing, Direction, INTERNET, ONPREM, Plugged, Witness},
    host::Host,
    node_port::NodePort,
    traffic::{Echo, Question, Transport, forge},
    wait,
};
use exchange::{Exchange, Way};

pub use outcome::Outcome;

/// ICMP type 3 (destination unreachable), code 1 (host).
const HOST_UNREACHABLE: (u8, u8) = (3, 1);

/// Pod to pod, or node to pod, on one node: the source is untouched and nothing leaves the node.
pub fn same_node(witness: &Witness, from: &Host, to: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches {} on the same node as itself", from.name, to.name);
    Exchange::new(from, to, transport, Way::WithinNode).check(witness, claim)
}

/// Between two nodes: the source is untouched, each packet leaves by the ENI of its source and arrives by the ENI of its
/// destination.
pub fn across(witness: &Witness, from: &Host, to: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches {} on another node as itself", from.name, to.name);
    prepared(claim, || {
        let way = Way::Through { client: holder(witness, from.address)?, server: holder(witness, to.address)? };
        Ok(|claim| Exchange::new(from, to, transport, way).check(witness, claim))
    })
}

/// A pod's own connection to the internet: the far side sees the node's primary address, packets go by the primary ENI.
pub fn to_internet(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches the internet as its node", pod.name);
    translated(witness, claim, (node, pod), (witness.internet(), INTERNET), transport)
}

/// A pod's own connection to another network, not excluded from translation: as to the internet.
pub fn to_onprem_translated(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches on-premises as its node", pod.name);
    translated(witness, claim, (node, pod), (witness.onprem(), ONPREM), transport)
}

/// A pod's own connection to a network that is excluded from translation: as itself, by its own ENI.
pub fn to_onprem_untranslated(witness: &Witness, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("{} reaches on-premises as itself by its own ENI", pod.name);
    prepared(claim, || {
        let way = Way::Through { client: holder(witness, pod.address)?, server: ONPREM.to_owned() };
        Ok(|claim| Exchange::new(pod, witness.onprem(), transport, way).check(witness, claim))
    })
}

/// A client outside the VPC connects to a pod: in by the pod's ENI, and the replies leave by the same.
pub fn from_onprem(witness: &Witness, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("on-premises reaches {} and is answered by the same ENI", pod.name);
    prepared(claim, || {
        let way = Way::Through { client: ONPREM.to_owned(), server: holder(witness, pod.address)? };
        Ok(|claim| Exchange::new(witness.onprem(), pod, transport, way).check(witness, claim))
    })
}

/// A connection to a node port: in by the ENI of the dialled address, to a pod on any ENI, and back by the ENI where it
/// came in, the client's address kept.
pub fn by_node_port(witness: &Witness, node: &Host, pod: &Host, transport: Transport) -> Outcome {
    let claim = format!("on-premises reaches {} by a port of {} and is answered by the same ENI", pod.name, node.name);
    prepared(claim, || {
        let way = Way::Through { client: ONPREM.to_owned(), server: holder(witness, node.address)? };
        let port = NodePort::open(node, pod, transport)?;
        Ok(move |claim| {
            let direct = Exchange::new(witness.onprem(), pod, transport, way);
            Exchange { node_port: Some(&port), ..direct }.check(witness, claim)
        })
    })
}

/// A process of the node that uses the primary address of one of its ENIs: out and back by that ENI.
pub fn node_by_eni(witness: &Witness, node: &Host, address: Ipv4Addr, transport: Transport) -> Outcome {
    let claim = format!("a process of {} that is bound to {address} uses that address's ENI", node.name);
    prepared(claim, || {
        let way = Way::Through { client: holder(witness, address)?, server: ONPREM.to_owned() };
        Ok(move |claim| {
            let unbound = Exchange::new(node, witness.onprem(), transport, way);
            Exchange { bound_to: Some(address), expected_source: address, ..unbound }.check(witness, claim)
        })
    })
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
        Err(error) => return Outcome::impossible(claim, &error),
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
        Err(error) => Outcome::impossible(claim, &error),
    }
}

fn translated(
    witness: &Witness,
    claim: String,
    (node, pod): (&Host, &Host),
    (server, place): (&Host, &str),
    transport: Transport,
) -> Outcome {
    prepared(claim, || {
        let way = Way::Through { client: holder(witness, node.address)?, server: place.to_owned() };
        Ok(move |claim| {
            let untranslated = Exchange::new(pod, server, transport, way);
            Exchange { expected_source: node.address, ..untranslated }.check(witness, claim)
        })
    })
}

/// Checks a claim once what it needs is there.
fn prepared<Check: FnOnce(String) -> Outcome>(claim: String, prepare: impl FnOnce() -> Result<Check>) -> Outcome {
    match prepare() {
        Ok(check) => check(claim),
        Err(error) => Outcome::impossible(claim, &error),
    }
}

/// The id of the ENI that holds an address.
fn holder(witness: &Witness, address: Ipv4Addr) -> Result<String> {
    Ok(witness.holder(address)?.eni.id.clone())
}

/// Words for the ENI of a host: `eni-0123 (eth1)`.
pub fn eni_of(witness: &Witness, address: Ipv4Addr) -> String {
    witness
        .holder(address)
        .map_or_else(|_| "no ENI".to_owned(), |Plugged { eni, link, .. }| format!("{} ({link})", eni.id))
}
