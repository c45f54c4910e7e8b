//! Teeth for the claims: one rule, route or nftables line of a node is removed, and the claim that needs it must fail.
//!
//! The only place where the lab reads `ip` and `nft` output to act on it: it breaks things, it never repairs Berth.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{iproute, netns::Netns};

/// One line of a node's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The policy rules of this priority, of this mark if one is given.
    Rule {
        /// Priority.
        priority: u32,
        /// The mark it matches, as the kernel shows it (`0x42`).
        mark: Option<u32>,
    },
    /// A route: a table and a destination as `ip route` shows it (`10.0.0.11`, `default`).
    Route {
        /// Table.
        table: u32,
        /// Destination.
        destination: String,
    },
    /// The first line of a chain of the table `ip berth` that contains this text.
    Nft {
        /// Chain.
        chain: &'static str,
        /// Text.
        containing: &'static str,
    },
    /// Reverse path filtering of an ENI's link, which must be loose: made strict.
    LooseFilter {
        /// The link.
        link: String,
    },
    /// Strict reverse path filtering of the link that a pod's route leads to: switched off.
    StrictFilter {
        /// Table of the pod's route.
        table: u32,
        /// The pod's address.
        pod: Ipv4Addr,
    },
}

/// A line of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    /// The node.
    pub node: Netns,
    /// What is removed.
    pub line: Line,
}

impl std::fmt::Display for Mutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.line {
            Line::Rule { priority, mark: None } => write!(f, "rule {priority}"),
            Line::Rule { priority, mark: Some(mark) } => write!(f, "rule {priority} fwmark {mark:#x}"),
            Line::Route { table, destination } => write!(f, "route {destination} in {table}"),
            Line::Nft { chain, containing } => write!(f, "nft {chain}: {containing}"),
            Line::LooseFilter { link } => write!(f, "loose rp_filter of {link}"),
            Line::StrictFilter { .. } => write!(f, "strict rp_filter of the pod's link"),
        }?;
        write!(f, " ({})", self.node.name().rsplit('-').next().unwrap_or_default())
    }
}

/// Puts the line back when dropped.
#[derive(Debug)]
#[must_use = "the line is put back when this is dropped"]
pub struct Removed {
    node: Netns,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    Ip(String),
    Routes(Vec<u8>),
    Nft(String),
    Sysctls(Vec<(String, String)>),
}

impl Mutation {
    /// Removes the line. An error when there is no such line: a mutation of nothing would prove nothing.
    pub fn remove(&self) -> Result<Removed> {
        let undo = match &self.line {
            Line::Rule { priority, mark } => self.remove_rules(*priority, *mark),
            Line::Route { table, destination } => self.remove_route(*table, destination),
            Line::Nft { chain, containing } => self.remove_nft(chain, containing),
            Line::LooseFilter { link } => self.set_filter(link, "1"),
            Line::StrictFilter { table, pod } => {
                link_of(&self.node, *table, *pod).and_then(|link| self.set_filter(&link, "0"))
            }
        };
        Ok(Removed { node: self.node.clone(), undo: undo.with_context(|| format!("removing {self}"))? })
    }

    fn remove_rules(&self, priority: u32, mark: Option<u32>) -> Result<Undo> {
        let shown = iproute::read(&self.node, "ip", &["-d", "-j", "rule", "show", "priority", &priority.to_string()])?;
        let rules: Vec<Rule> = serde_json::from_slice(&shown).context("reading ip's list of rules")?;
        let matching: Vec<Rule> = rules.into_iter().filter(|rule| mark.is_none() || rule.mark() == mark).collect();
        ensure!(!matching.is_empty(), "there is no such rule");
        let script = |verb| {
            let lines = matching.iter().map(|rule| format!("rule {verb} {}\n", rule.words(priority)));
            lines.collect::<Vec<_>>().concat()
        };
        iproute::ip(&self.node, &script("del"))?;
        Ok(Undo::Ip(script("add")))
    }

    fn remove_route(&self, table: u32, destination: &str) -> Result<Undo> {
        let table = table.to_string();
        let saved = iproute::read(&self.node, "ip", &["-4", "route", "save", "table", &table])?;
        let shown = iproute::read(&self.node, "ip", &["-4", "-j", "route", "show", "table", &table])?;
        let routes: Vec<Route> = serde_json::from_slice(&shown).context("reading ip's list of routes")?;
        let route = routes.into_iter().find(|route| route.dst == destination).context("there is no such route")?;
        let metric = route.metric.map(|metric| format!(" metric {metric}")).unwrap_or_default();
        iproute::ip(&self.node, &format!("route del {destination} table {table}{metric}\n"))?;
        Ok(Undo::Routes(saved))
    }

    fn remove_nft(&self, chain: &str, containing: &str) -> Result<Undo> {
        let listed = iproute::read(&self.node, "nft", &["-s", "list", "table", "ip", "berth"])?;
        let table = String::from_utf8(listed).context("nft prints text")?;
        let mut in_chain = false;
        let mut removed = false;
        let without: Vec<&str> = table
            .lines()
            .filter(|line| {
                match line.trim().strip_suffix(" {") {
                    Some(opening) => in_chain = opening == format!("chain {chain}"),
                    None if line.trim() == "}" => in_chain = false,
                    None => {}
                }
                let hit = in_chain && !removed && line.contains(containing);
                removed |= hit;
                !hit
            })
            .collect();
        ensure!(removed, "there is no such line in:\n{table}");
        iproute::nft(&self.node, &replacement(&without.join("\n")))?;
        Ok(Undo::Nft(replacement(&table)))
    }

    /// The kernel takes the stricter of `all` and the link's own (ip-sysctl), so `all` must not be in the way.
    fn set_filter(&self, link: &str, value: &str) -> Result<Undo> {
        let own = format!("net/ipv4/conf/{link}/rp_filter");
        let all = "net/ipv4/conf/all/rp_filter".to_owned();
        let before = [(own.clone(), self.node.read_sysctl(&own)?), (all.clone(), self.node.read_sysctl(&all)?)];
        ensure!(before[0].1 != value, "it is {value} already");
        self.node.sysctl(&[(&own, value), (&all, "0")])?;
        Ok(Undo::Sysctls(before.to_vec()))
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let done = match &self.undo {
            Undo::Ip(lines) => iproute::ip(&self.node, lines),
            Undo::Nft(script) => iproute::nft(&self.node, script),
            Undo::Routes(saved) => iproute::restore_routes(&self.node, saved),
            Undo::Sysctls(before) => {
                let settings: Vec<(&str, &str)> =
                    before.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                self.node.sysctl(&settings)
            }
        };
        if let Err(error) = done {
            tracing::error!(
                node = self.node.name(),
                error = format!("{error:#}"),
                "a removed line could not be put back"
            );
        }
    }
}

/// The link that a host route leads to.
fn link_of(node: &Netns, table: u32, address: Ipv4Addr) -> Result<String> {
    let shown = iproute::read(node, "ip", &["-4", "-j", "route", "show", "table", &table.to_string()])?;
    let routes: Vec<Route> = serde_json::from_slice(&shown).context("reading ip's list of routes")?;
    let route = routes.into_iter().find(|route| route.dst == address.to_string() && route.dev.is_some());
    route.and_then(|route| route.dev).with_context(|| format!("{address} has no route in table {table}"))
}

fn replacement(table: &str) -> String {
    format!("table ip berth\ndelete table ip berth\n{table}\n")
}

/// What `ip -j rule` says of a rule, as far as it takes to delete it and make it again.
#[derive(Debug, Deserialize)]
struct Rule {
    src: String,
    srclen: Option<u8>,
    dst: Option<String>,
    dstlen: Option<u8>,
    fwmark: Option<String>,
    fwmask: Option<String>,
    table: String,
    protocol: Option<String>,
}

impl Rule {
    fn mark(&self) -> Option<u32> {
        u32::from_str_radix(self.fwmark.as_deref()?.trim_start_matches("0x"), 16).ok()
    }

    fn words(&self, priority: u32) -> String {
        let cidr = |address: &str, length: Option<u8>| match length {
            Some(length) => format!("{address}/{length}"),
            None => address.to_owned(),
        };
        let mut words = vec![format!("priority {priority} from {}", cidr(&self.src, self.srclen))];
        words.extend(self.dst.as_ref().map(|dst| format!("to {}", cidr(dst, self.dstlen))));
        let mask = self.fwmask.as_deref().unwrap_or("0xffffffff");
        words.extend(self.fwmark.as_ref().map(|mark| format!("fwmark {mark}/{mask}")));
        words.push(format!("lookup {}", self.table));
        words.extend(self.protocol.as_ref().map(|protocol| format!("protocol {protocol}")));
        words.join(" ")
    }
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    dev: Option<String>,
    metric: Option<u32>,
}
