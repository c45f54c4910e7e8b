//! The table of claims x lines: every claim about a path, and the lines of the node without which it must not hold.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;

use crate::{
    claims::{self, Outcome},
    fabric::{ONPREM_CIDR, Witness},
    host::Host,
    mutations::{Line, Mutation},
    traffic::Transport,
};

/// How long a broken path gets to show that it is broken.
const PATIENCE_WHEN_BROKEN: Duration = Duration::from_millis(500);

/// The first secondary ENI's slot; the primary's is 1.
const SECONDARY_SLOT: u32 = 2;
const PODS_TABLE: u32 = 7000;
const REPLY_TABLES: u32 = 7100;
const PODS_RULE: u32 = 512;
const REPLY_RULE: u32 = 1535;
const ENI_RULE: u32 = 1536;
const PRIMARY_ADDRESS_RULE: u32 = 32765;
const REPLY_MARK: u32 = 0x40;

/// One node and what the claims need of it.
#[derive(Debug, Clone)]
pub struct Side {
    /// The node, at its primary address.
    pub node: Host,
    /// The node, at the primary address of its second ENI.
    pub second_eni: Host,
    /// A pod with an address of the primary ENI.
    pub on_primary: Host,
    /// A pod with an address of the second ENI, which has slot 2.
    pub on_secondary: Host,
    /// An address of the second ENI that no pod has.
    pub unused: std::net::Ipv4Addr,
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
    let on = |node: &crate::netns::Netns, line: Line| Mutation { node: node.clone(), line };
    let rule = |priority, mark| Line::Rule { priority, mark };
    let route = |table, destination: String| Line::Route { table, destination };
    let secondary_table = PODS_TABLE + SECONDARY_SLOT;
    let reply_table = REPLY_TABLES + SECONDARY_SLOT;
    let reply_mark = Some(SECONDARY_SLOT | REPLY_MARK);
    let mut teeth = Vec::new();
    let mut tooth = |lines: Vec<Mutation>, check: Box<dyn Fn(&Witness) -> Outcome>| teeth.push(Tooth { check, lines });

    for (from, to) in [(&near.on_primary, &near.on_secondary), (&near.on_secondary, &near.on_primary)] {
        let (from, to) = (from.clone(), to.clone());
        tooth(
            vec![on(here, rule(PODS_RULE, None)), on(here, route(PODS_TABLE, to.address.to_string()))],
            Box::new(move |witness| claims::same_node(witness, &from, &to, Transport::Tcp)),
        );
    }
    for (from, to, lines) in [
        (&near.on_primary, &far.on_primary, vec![on(there, rule(PODS_RULE, None))]),
        (&near.on_primary, &far.on_secondary, vec![on(there, rule(REPLY_RULE, reply_mark))]),
        (
            &near.on_secondary,
            &far.on_primary,
            vec![on(here, rule(ENI_RULE, Some(SECONDARY_SLOT))), on(here, route(secondary_table, vpc.to_string()))],
        ),
        (
            &near.on_secondary,
            &far.on_secondary,
            vec![on(here, rule(ENI_RULE, Some(SECONDARY_SLOT))), on(there, rule(REPLY_RULE, reply_mark))],
        ),
    ] {
        let (from, to) = (from.clone(), to.clone());
        tooth(lines, Box::new(move |witness| claims::across(witness, &from, &to, Transport::Tcp)));
    }
    for pod in [&near.on_primary, &near.on_secondary] {
        let (node, to) = (near.node.clone(), pod.clone());
        tooth(
            vec![on(here, rule(PODS_RULE, None)), on(here, route(PODS_TABLE, to.address.to_string()))],
            Box::new(move |witness| claims::same_node(witness, &node, &to, Transport::Tcp)),
        );
    }
    let translation = || on(here, Line::Nft { chain: "postrouting", containing: "snat to" });
    for pod in [&near.on_primary, &near.on_secondary] {
        let (node, pod) = (near.node.clone(), pod.clone());
        tooth(vec![translation()], Box::new(move |witness| claims::to_internet(witness, &node, &pod, Transport::Tcp)));
    }
    for (pod, excluded) in [
        (&near.on_primary, vec![]),
        (&near.on_secondary, vec![on(here, route(secondary_table, ONPREM_CIDR.to_string()))]),
    ] {
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
    let mut lines = vec![on(here, rule(REPLY_RULE, reply_mark)), on(here, route(reply_table, "default".to_owned()))];
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
        vec![
            on(here, Line::Nft { chain: "prerouting", containing: "ct state new" }),
            on(here, rule(REPLY_RULE, reply_mark)),
        ],
        Box::new(move |witness| claims::by_node_port(witness, &node, &pod, Transport::Tcp)),
    );
    let (node, address) = (near.node.clone(), near.second_eni.address);
    tooth(
        vec![on(here, rule(PRIMARY_ADDRESS_RULE, None))],
        Box::new(move |witness| claims::node_by_eni(witness, &node, address, Transport::Tcp)),
    );
    let (from, unused) = (far.node.clone(), near.unused);
    tooth(
        vec![on(here, route(PODS_TABLE, unused.to_string()))],
        Box::new(move |witness| claims::gone(witness, &from, unused)),
    );
    let (pod, source, to) = (near.on_secondary.clone(), near.unused, far.node.clone());
    tooth(
        vec![on(here, Line::ReversePathFilter { table: PODS_TABLE, pod: pod.address })],
        Box::new(move |witness| claims::spoofed(witness, &pod, source, &to)),
    );
    teeth
}
