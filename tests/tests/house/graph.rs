//! Which crate may name which.

use std::collections::BTreeSet;

use crate::{
    exactly, none,
    workspace::{self, Member, Need},
};

/// `(crate, what it may name)`, and what those may name. `tests` may name anything.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("pool", &[]),
    ("datapath", &[]),
    ("proto", &[]),
    ("cloud", &["pool"]),
    ("node", &["cloud"]),
    ("sim", &["node"]),
    ("cloud-aws", &["cloud"]),
    ("ipamd", &["pool", "cloud", "node", "cloud-aws", "datapath", "proto"]),
    ("cni-plugin", &["proto", "datapath"]),
    ("ipamctl", &["proto", "pool", "sim"]),
    ("lab", &["sim", "datapath", "proto"]),
];

/// `(start of an external crate's name, who alone may name it)`. A heavy or wide interface stops at one door.
const DOORS: &[(&str, &[&str])] = &[
    ("aws-", &["cloud-aws"]),
    ("kube", &["ipamd", "tests"]),
    ("k8s-openapi", &["ipamd", "tests"]),
    ("netlink-", &["datapath", "lab", "tests"]),
    ("rtnetlink", &["datapath", "lab", "tests"]),
    ("nftables", &["datapath", "lab", "tests"]),
    ("tonic", &["proto", "ipamd", "cni-plugin", "ipamctl", "lab", "tests"]),
    ("prost", &["proto", "ipamd", "cni-plugin", "ipamctl", "lab", "tests"]),
    ("redb", &["ipamd", "tests"]),
    ("axum", &["ipamd", "lab", "cloud-aws", "tests"]),
];

/// The pure core: all that it may name outside its own tests.
const PURE: (&str, &[&str]) = ("pool", &["ipnet", "serde"]);

/// What the plugin, which starts once per pod, never links.
const NOT_IN_THE_PLUGIN: &[&str] = &["rustls", "ring", "aws-", "kube", "axum", "clap", "regex", "tracing-subscriber"];

/// Everything in the crate's row, and what those may name.
fn allowed(name: &str) -> BTreeSet<&'static str> {
    let mut open: Vec<&str> = vec![name];
    let mut found = BTreeSet::new();
    while let Some(next) = open.pop() {
        let row = MAY_NAME.iter().find(|(row, _)| *row == next).map_or(&[][..], |(_, may)| *may);
        for may in row {
            if found.insert(*may) {
                open.push(may);
            }
        }
    }
    found
}

fn directions(members: &[Member]) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in members.iter().filter(|member| member.name != "tests") {
        let may = allowed(&member.name);
        for need in member.needs.iter().filter(|need| need.ours && !may.contains(need.name.as_str())) {
            complaints.push(format!("{} names {}: it may name {may:?}", member.name, need.name));
        }
        if !MAY_NAME.iter().any(|(row, _)| *row == member.name) {
            complaints.push(format!("{} has no row in MAY_NAME", member.name));
        }
    }
    complaints
}

fn doors(members: &[Member]) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in members {
        for need in member.needs.iter().filter(|need| !need.ours) {
            for (start, who) in DOORS.iter().filter(|(start, _)| need.name.starts_with(start)) {
                if !who.contains(&member.name.as_str()) {
                    complaints.push(format!("{} names {}: only {who:?} may name {start}*", member.name, need.name));
                }
            }
            let (pure, may) = PURE;
            if member.name == pure && !need.dev && !may.contains(&need.name.as_str()) {
                complaints.push(format!("{pure} names {}: it is pure and may name {may:?}", need.name));
            }
        }
    }
    complaints
}

fn homes(members: &[Member], root: &std::path::Path) -> Vec<String> {
    let lost = |member: &&Member| member.dir != root.join(&member.name);
    members.iter().filter(lost).map(|member| format!("{} is in {}", member.name, member.dir.display())).collect()
}

fn weight(linked: &[String]) -> Vec<String> {
    let heavy = |name: &&String| NOT_IN_THE_PLUGIN.iter().any(|heavy| name.starts_with(heavy));
    linked.iter().filter(heavy).map(|name| format!("cni-plugin links {name}")).collect()
}

#[test]
fn dependencies_point_one_way() {
    none(&directions(&workspace::members()));
}

#[test]
fn heavy_interfaces_stop_at_one_door() {
    none(&doors(&workspace::members()));
}

#[test]
fn every_directory_is_named_as_its_crate() {
    none(&homes(&workspace::members(), workspace::root()));
}

#[test]
fn the_plugin_links_nothing_heavy() {
    let linked = workspace::linked_into("cni-plugin");
    assert!(linked.iter().any(|name| name == "tonic"), "the graph was read: {linked:?}");
    none(&weight(&linked));
}

fn member(name: &str, ours: &[&str], external: &[&str]) -> Member {
    let need = |name: &&str, ours| Need { name: (*name).to_owned(), dev: false, ours };
    let needs = ours.iter().map(|name| need(name, true)).chain(external.iter().map(|name| need(name, false))).collect();
    Member { name: name.to_owned(), dir: std::path::Path::new("/top").join(name), needs }
}

#[test]
fn a_wrong_direction_is_seen() {
    exactly(&directions(&[member("pool", &["cloud"], &[])]), &["pool names cloud"]);
    exactly(&directions(&[member("sim", &["lab"], &[])]), &["sim names lab"]);
    exactly(&directions(&[member("cni-plugin", &["proto", "pool"], &[])]), &["cni-plugin names pool"]);
    exactly(&directions(&[member("cloud", &["cloud-aws"], &[])]), &["cloud names cloud-aws"]);
    exactly(&directions(&[member("shed", &[], &[])]), &["shed has no row"]);
    // Through what it may name, and tests to anything.
    exactly(&directions(&[member("lab", &["sim", "pool"], &[]), member("tests", &["ipamd"], &[])]), &[]);
}

#[test]
fn a_dev_dependency_counts_too() {
    let mut node = member("node", &["sim"], &[]);
    node.needs[0].dev = true;
    exactly(&directions(&[node]), &["node names sim"]);
}

#[test]
fn a_second_door_is_seen() {
    exactly(&doors(&[member("node", &[], &["aws-sdk-ec2", "tokio"])]), &["node names aws-sdk-ec2"]);
    exactly(&doors(&[member("ipamd", &[], &["netlink-packet-route", "aws-config"])]), &["netlink-", "aws-config"]);
    exactly(&doors(&[member("node", &[], &["tonic", "kube-client"])]), &["tonic", "kube-client"]);
    exactly(&doors(&[member("pool", &[], &["serde", "rand"])]), &["pool names rand"]);
    exactly(&doors(&[member("datapath", &[], &["nftables"]), member("cloud-aws", &[], &["aws-config"])]), &[]);
}

#[test]
fn a_crate_in_another_directory_is_seen() {
    let mut moved = member("cni-plugin", &[], &[]);
    moved.dir = "/top/plugin".into();
    exactly(
        &homes(&[moved, member("pool", &[], &[])], std::path::Path::new("/top")),
        &["cni-plugin is in /top/plugin"],
    );
}

#[test]
fn tls_in_the_plugin_is_seen() {
    exactly(&weight(&["tonic", "rustls-webpki", "aws-config"].map(str::to_owned)), &["rustls-webpki", "aws-config"]);
}
