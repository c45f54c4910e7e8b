//! The table of claims x lines: every claim about a path, and the lines of the node without which it must not hold.

use std::{fmt, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use datapath::names::{Numbering, PRIMARY_ADDRESS_PRIORITY, Slot};
use ipnet::Ipv4Net;

use crate::{
    claims::{self, Outcome},
    fabric::{ONPREM_CIDR, Plugged, Witness},
    host::Host,
    mutations::{Line, Mutation},
    node::Node,
    pods::Pod,
    traffic::Transport,
};

/// How long a broken path gets to show that it is broken.
const PATIENCE_WHEN_BROKEN: Duration = Duration::from_millis(500);

/// The slot of a node's second ENI: the primary's is 1.
const SECOND_SLOT: u8 = 2;

/// One node and what the claims need of it.
#[derive(Debug, Clone)]
pub struct Side {
    /// The node, at its primary address.
    pub node: Host,
    /// The node, at the primary address of its second ENI.
    pub second_eni: Host,
    /// The link of that ENI.
    pub second_link: String,
    /// A pod with an address of the primary ENI.
    pub on_primary: Host,
    /// A pod with an address of the second ENI, which has slot 2.
    pub on_secondary: Host,
    /// An address of the second ENI that no pod has; `None` when pods have them all.
    pub unused: Option<Ipv4Addr>,
}

/// Two nodes of one VPC.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The node whose lines are removed most.
    pub near: Side,
    /// The other one.
    pub far: Side,
    /// The VPC's CIDR.
    pub vpc: Ipv4Net,
    /// How the nodes treat the on-premises network.
    pub onprem: Onprem,
}

impl Side {
    /// A node of a lab and the pods on it, one on each of its first two ENIs. The unused address is one of the second ENI
    /// that none of `pods` has.
    pub fn of(witness: &Witness, node: &Node, pods: &[Pod]) -> Result<Self> {
        let hosts: Vec<Host> =
            pods.iter().filter(|pod| pod.node().name() == node.name()).filter_map(|pod| pod.host().ok()).collect();
        let enis = witness.enis_of(node.netns());
        let [first, second, ..] = enis.as_slice() else { bail!("node {} has fewer than two ENIs", node.name()) };
        let pod_on = |plugged: &Plugged| {
            let host = hosts.iter().find(|host| plugged.eni.addresses.contains(&host.address));
            host.cloned().with_context(|| format!("no pod of node {} is on {}", node.name(), plugged.link))
        };
        let [own, secondary @ ..] = second.eni.addresses.as_slice() else { bail!("{} has no address", second.eni.id) };
        let unused = secondary.iter().find(|address| hosts.iter().all(|host| host.address != **address));
        Ok(Self {
            node: node.host().clone(),
            second_link: second.link.clone(),
            second_eni: Host {
                name: format!("{} by {}", node.name(), second.link),
                address: *own,
                ..node.host().clone()
            },
            on_primary: pod_on(first)?,
            on_secondary: pod_on(second)?,
            unused: unused.copied(),
        })
    }
}

/// Is the on-premises network excluded from translation?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onprem {
    /// Translated like the internet.
    Translated,
    /// In `AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`.
    Excluded,
}

/// A claim about a path, and the lines it stands on.
pub struct Tooth {
    check: Box<dyn Fn(&Witness) -> Outcome>,
    lines: Vec<Mutation>,
}

impl fmt::Debug for Tooth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tooth").field("lines", &self.lines).finish_non_exhaustive()
    }
}

/// One claim with one line removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The claim.
    pub claim: String,
    /// The line.
    pub line: String,
    /// What was wrong then; empty when the claim held all the same, which is a failure of the table.
    pub problems: Vec<String>,
}

/// What [`bite`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// In the order of the claims.
    pub cells: Vec<Cell>,
}

impl Table {
    /// Cells whose claim held without the line: the claim proves nothing, or the line does nothing.
    pub fn toothless(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.problems.is_empty())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width =
            |of: fn(&Cell) -> &str| self.cells.iter().map(|cell| of(cell).chars().count()).max().unwrap_or_default();
        let (claims, lines) = (width(|cell| &cell.claim), width(|cell| &cell.line));
        for cell in &self.cells {
            let verdict = if cell.problems.is_empty() { "HELD".to_owned() } else { cell.problems.join("; ") };
            writeln!(f, "{:claims$}  without  {:lines$}  {verdict}", cell.claim, cell.line)?;
        }
        Ok(())
    }
}

/// Checks every claim whole, then without each of its lines, then whole again. An error when a whole claim does not hold;
/// the caller judges the table.
pub fn bite(witness: &Witness, teeth: &[Tooth]) -> Result<Table> {
    let impatient = witness.clone().with_patience(PATIENCE_WHEN_BROKEN);
    let mut table = Table::default();
    for tooth in teeth {
        (tooth.check)(witness).into_result()?;
        for line in &tooth.lines {
            let removed = line.remove()?;
            let outcome = (tooth.check)(&impatient);
            drop(removed);
            table.cells.push(Cell { claim: outcome.claim, line: line.to_string(), problems: outcome.problems });
        }
        let after = (tooth.check)(witness);
        ensure!(after.holds(), "after its lines were put back: {after}");
    }
    Ok(table)
}

/// Every path claim over two nodes, with the lines that carry it on a node wired by Berth with its default numbers.
pub fn of_berth(layout: &Layout) -> Vec<Tooth> {
    let Layout { near, far, vpc, onprem } = layout;
    let (here, there) = (&near.node.netns, &far.node.netns);
    let numbers = Numbering::default();
    let slot = Slot::new(SECOND_SLOT).expect("2 is a slot");
    let (pods_table, eni_table, reply_table) =
        (numbers.pods_table(), numbers.eni_table(slot), numbers.reply_table(slot));
    let pods_rule = || Line::Rule { priority: numbers.pods_priority(), mark: None };
    let eni_rule = || Line::Rule { priority: numbers.eni_priority(), mark: Some(numbers.mark(slot)) };
    let reply_rule = || Line::Rule { priority: numbers.reply_priority(), mark: Some(numbers.reply_mark(slot)) };
    let on = |node: &crate::netns::Netns, line: Line| Mutation { node: node.clone(), line };
    let route = |table, destination: String| Line::Route { table, destination };
    let mut teeth = Vec::new();
    let mut tooth = |lines: Vec<Mutation>, check: Box<dyn Fn(&Witness) -> Outcome>| teeth.push(Tooth { check, lines });

    for (from, to) in [(&near.on_primary, &near.on_secondary), (&near.on_secondary, &near.on_primary)] {
        let (from, to) = (from.clone(), to.clone());
        tooth(
            vec![on(here, pods_rule()), on(here, route(pods_table, to.address.to_string()))],
            Box::new(move |witness| claims::same_node(witness, &from, &to, Transport::Tcp)),
        );
    }
    for (from, to, lines) in [
        (&near.on_primary, &far.on_primary, vec![on(there, pods_rule())]),
        (&near.on_primary, &far.on_secondary, vec![on(there, reply_rule())]),
        (&near.on_secondary, &far.on_primary, vec![on(here, eni_rule()), on(here, route(eni_table, vpc.to_string()))]),
        (&near.on_secondary, &far.on_secondary, vec![on(here, eni_rule()), on(there, reply_rule())]),
    ] {
        let (from, to) = (from.clone(), to.clone());
        tooth(lines, Box::new(move |witness| claims::across(witness, &from, &to, Transport::Tcp)));
    }
    for pod in [&near.on_primary, &near.on_secondary] {
        let (node, to) = (near.node.clone(), pod.clone());
        tooth(
            vec![on(here, pods_rule()), on(here, route(pods_table, to.address.to_string()))],
            Box::new(move |witness| claims::same_node(witness, &node, &to, Transport::Tcp)),
        );
    }
    let translation = || on(here, Line::Nft { chain: "postrouting", containing: "snat to" });
    for pod in [&near.on_primary, &near.on_secondary] {
        let (node, pod) = (near.node.clone(), pod.clone());
        tooth(vec![translation()], Box::new(move |witness| claims::to_internet(witness, &node, &pod, Transport::Tcp)));
    }
    for (pod, excluded) in
        [(&near.on_primary, vec![]), (&near.on_secondary, vec![on(here, route(eni_table, ONPREM_CIDR.to_string()))])]
    {
        let (node, pod) = (near.node.clone(), pod.clone());
        match onprem {
            Onprem::Translated => tooth(
                vec![translation()],
                Box::new(move |witness| claims::to_onprem_translated(witness, &node, &pod, Transport::Tcp)),
            ),
            Onprem::Excluded => {
                tooth(excluded, Box::new(move |witness| claims::to_onprem_untranslated(witness, &pod, Transport::Tcp)));
            }
        }
    }
    let pod = near.on_secondary.clone();
    let mut lines = vec![
        on(here, reply_rule()),
        on(here, route(reply_table, "default".to_owned())),
        on(here, Line::LooseFilter { link: near.second_link.clone() }),
    ];
    if *onprem == Onprem::Translated {
        // An excluded network is in the ENI's own table: a reply that is taken for a pod's own packet goes the same way.
        lines.push(on(here, Line::Nft { chain: "prerouting", containing: "ct direction reply" }));
    }
    tooth(lines, Box::new(move |witness| claims::from_onprem(witness, &pod, Transport::Tcp)));
    let (node, pod) = (near.node.clone(), near.on_secondary.clone());
    tooth(
        vec![on(here, Line::Nft { chain: "prerouting", containing: "ct state new" })],
        Box::new(move |witness| claims::by_node_port(witness, &node, &pod, Transport::Tcp)),
    );
    let (node, pod) = (near.second_eni.clone(), near.on_primary.clone());
    tooth(
        vec![on(here, Line::Nft { chain: "prerouting", containing: "ct state new" }), on(here, reply_rule())],
        Box::new(move |witness| claims::by_node_port(witness, &node, &pod, Transport::Tcp)),
    );
    let (node, address) = (near.node.clone(), near.second_eni.address);
    tooth(
        vec![on(here, Line::Rule { priority: PRIMARY_ADDRESS_PRIORITY, mark: None })],
        Box::new(move |witness| claims::node_by_eni(witness, &node, address, Transport::Tcp)),
    );
    // Without an address to try them with, these two claims do not hold.
    let unused = near.unused.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let from = far.node.clone();
    tooth(
        vec![on(here, route(pods_table, unused.to_string()))],
        Box::new(move |witness| claims::gone(witness, &from, unused)),
    );
    let (pod, source, to) = (near.on_secondary.clone(), unused, far.node.clone());
    tooth(
        vec![on(here, Line::StrictFilter { table: pods_table, pod: pod.address })],
        Box::new(move |witness| claims::spoofed(witness, &pod, source, &to)),
    );
    teeth
}
