//! Whether four books agree one to one: the daemons' ledgers, EC2, the kernel, and the driver's own list of living pods.
//!
//! Owns the comparison and its words: each disagreement is one sentence that names the node, the thing, and who says what.
//! Repairs nothing. Meant for moments when nothing is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context, Result};
use datapath::{
    desired::{self, Desired, NodeFacts, Snat, SnatPorts, Target},
    diff::Difference,
    link::{Alias, Link, Mac},
    names::{Numbering, Slot},
    node::link_of,
};
use ipnet::{Ipv4AddrRange, Ipv4Net};
use sim::Attached;

use super::books::Books;
use crate::{
    kernel::{self, Kernel},
    lab::Lab,
    netns::Netns,
    node::Node,
    pods::Pod,
};

/// Everything that does not agree. `pods` are all that live, on all nodes; empty when all is well.
pub fn audit(lab: &Lab, pods: &[Pod]) -> Vec<String> {
    let mut wrong = leaked(lab);
    for node in lab.nodes() {
        let own: Vec<&Pod> = pods.iter().filter(|pod| pod.node().name() == node.name()).collect();
        match Scene::of(lab, node, own) {
            Ok(scene) => wrong.extend(scene.wrong().into_iter().map(|what| format!("node {}: {what}", node.name()))),
            Err(error) => wrong.push(format!("node {}: {error:#}", node.name())),
        }
    }
    wrong.extend(twice(pods));
    wrong
}

/// What keeps a node without pods from its minimum: one ENI, and the spare addresses.
pub fn above_minimum(lab: &Lab, spare: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in lab.nodes() {
        let attached = lab.truth().attached(node.instance());
        let addresses = attached.iter().flat_map(for_pods).count();
        if addresses != spare || attached.len() != 1 {
            let (name, enis) = (node.name(), attached.len());
            wrong.push(format!(
                "node {name}: EC2 has {addresses} addresses for pods on {enis} ENIs, the minimum is {spare} on one"
            ));
        }
    }
    wrong
}

/// The addresses of an ENI that pods may have.
pub(super) fn for_pods(eni: &Attached) -> impl Iterator<Item = Ipv4Addr> {
    let singles = eni.addresses.iter().skip(1).copied();
    singles.chain(eni.prefixes.iter().flat_map(|prefix| Ipv4AddrRange::new(prefix.network(), prefix.broadcast())))
}

/// The same as the kernel is told of them: whole prefixes.
fn confirmed(eni: &Attached) -> impl Iterator<Item = Ipv4Net> {
    eni.addresses.iter().skip(1).map(|address| Ipv4Net::from(*address)).chain(eni.prefixes.iter().copied())
}

/// ENIs that are nobody's: everything in this VPC is made by a launch, or by a daemon for its own node.
fn leaked(lab: &Lab) -> Vec<String> {
    let enis = lab.truth().enis();
    let lost = enis.into_iter().filter(|eni| eni.attachment.is_none());
    lost.map(|eni| format!("EC2 has {} attached to nothing, with {:?} and tags {:?}", eni.id, eni.addresses, eni.tags))
        .collect()
}

/// Addresses that are configured in two pods.
fn twice(pods: &[Pod]) -> Vec<String> {
    let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    for pod in pods {
        for address in kernel::pod_addresses(pod.netns()).unwrap_or_default() {
            if let Some(other) = owners.insert(address, pod.label()) {
                wrong.push(format!("{other} and {} both have {address}", pod.label()));
            }
        }
    }
    wrong
}

/// One node, as everybody sees it at about the same time.
struct Scene<'a> {
    lab: &'a Lab,
    node: &'a Node,
    pods: Vec<&'a Pod>,
    attached: Vec<Attached>,
    books: Books,
    kernel: Kernel,
}

impl<'a> Scene<'a> {
    fn of(lab: &'a Lab, node: &'a Node, pods: Vec<&'a Pod>) -> Result<Self> {
        Ok(Self {
            lab,
            node,
            pods,
            attached: lab.truth().attached(node.instance()),
            books: Books::of(node)?,
            kernel: Kernel::of(node.netns()).context("reading the kernel")?,
        })
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = self.pods_and_leases();
        wrong.extend(self.leases_and_pool());
        wrong.extend(self.pool_and_ec2());
        wrong.extend(self.pods_and_kernel());
        wrong.extend(self.links());
        wrong.extend(self.ec2_and_kernel());
        wrong.extend(self.left_over());
        wrong
    }

    /// Each living pod has its own lease and its own address inside; nobody else has a lease.
    fn pods_and_leases(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut leases: BTreeMap<&str, _> = self.books.leases.iter().map(|(id, lease)| (id.as_str(), lease)).collect();
        for pod in &self.pods {
            let (label, id) = (pod.label(), pod.container_id());
            let Some(address) = pod.added().map(|added| added.address) else {
                wrong.push(format!("{label} ({id}) lives without an address"));
                continue;
            };
            match leases.remove(id) {
                None => wrong.push(format!("{label} ({id}) lives with {address} and has no lease")),
                Some(lease) if lease.address != address => {
                    wrong.push(format!("{label} ({id}) lives with {address}, its lease says {}", lease.address));
                }
                Some(_) => {}
            }
            match kernel::pod_addresses(pod.netns()) {
                Ok(inside) if inside == [IpAddr::V4(address)] => {}
                inside => wrong.push(format!("{label} ({id}) should have {address} inside and has {inside:?}")),
            }
        }
        let nobodys = leases
            .iter()
            .map(|(id, lease)| format!("{} is leased to {} ({id}), which does not live", lease.address, lease.pod));
        wrong.extend(nobodys);
        wrong
    }

    /// What is leased is in the pool, on that ENI, as leased; and nothing else is.
    fn leases_and_pool(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let addresses = self.books.addresses();
        for lease in self.books.leases.values() {
            match addresses.get(&lease.address) {
                Some((eni, "Leased")) if *eni == lease.eni => {}
                Some((eni, state)) => wrong.push(format!(
                    "{} is leased to {} from {}, and {state} on {eni} in the pool",
                    lease.address, lease.pod, lease.eni
                )),
                None => wrong.push(format!("{} is leased to {} and not in the pool", lease.address, lease.pod)),
            }
        }
        let leased: BTreeSet<Ipv4Addr> = self.books.leases.values().map(|lease| lease.address).collect();
        if leased.len() != self.books.leases.len() {
            wrong.push(format!("{} leases hold {} addresses", self.books.leases.len(), leased.len()));
        }
        let idle = addresses.iter().filter(|(address, (_, state))| *state == "Leased" && !leased.contains(*address));
        wrong.extend(idle.map(|(address, _)| format!("{address} counts as leased and there is no such lease")));
        let counts = &self.books.pool.counts;
        if counts.unverified + counts.quarantined > 0 || self.books.pool.waiting > 0 {
            wrong.push(format!(
                "the pool is not at rest: {} unverified, {} quarantined, {} waiting",
                counts.unverified, counts.quarantined, self.books.pool.waiting
            ));
        }
        wrong
    }

    /// The pool has the ENIs and addresses that EC2 has, and no others.
    fn pool_and_ec2(&self) -> Vec<String> {
        let pool: BTreeSet<(&str, Ipv4Addr)> =
            self.books.addresses().into_iter().map(|(address, (eni, _))| (eni, address)).collect();
        let ec2: BTreeSet<(&str, Ipv4Addr)> =
            self.attached.iter().flat_map(|eni| for_pods(eni).map(|address| (eni.eni.as_str(), address))).collect();
        let leaked =
            ec2.difference(&pool).map(|(eni, address)| format!("EC2 has {address} on {eni}, the pool has not"));
        let invented =
            pool.difference(&ec2).map(|(eni, address)| format!("the pool has {address} on {eni}, EC2 has not"));
        let mut wrong: Vec<String> = leaked.chain(invented).collect();
        let known: BTreeMap<&str, &str> =
            self.books.pool.enis.iter().map(|eni| (eni.id.as_str(), eni.state.as_str())).collect();
        for eni in &self.attached {
            match known.get(eni.eni.as_str()) {
                Some(&"Ready") => {}
                Some(state) => wrong.push(format!("{} is attached, and {state} in the pool", eni.eni)),
                None => wrong.push(format!("{} is attached, and not in the pool", eni.eni)),
            }
        }
        let attached: BTreeSet<&str> = self.attached.iter().map(|eni| eni.eni.as_str()).collect();
        let gone = known.iter().filter(|(id, _)| !attached.contains(*id));
        wrong.extend(gone.map(|(id, state)| format!("the pool has {id} ({state}), EC2 has it not on this node")));
        wrong
    }

    /// One route and one link per pod, to the right place; no other pod's.
    fn pods_and_kernel(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let numbering = Numbering::default();
        let mut links: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        let names: BTreeMap<u32, &str> =
            self.kernel.links.iter().map(|link| (link.index, link.name.as_str())).collect();
        for link in &self.kernel.links {
            if let Some(alias) = link.alias.as_deref().and_then(|alias| alias.parse::<Alias>().ok()) {
                links.entry(alias.key.container_id).or_default().push(link.index);
            }
        }
        let mut routes: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
        for route in self.kernel.routes.iter().filter(|route| route.table == numbering.pods_table()) {
            if let Target::Link { index, .. } = route.target {
                routes.entry(route.destination.addr()).or_default().push(index);
            }
        }
        for pod in &self.pods {
            let (label, id) = (pod.label(), pod.container_id());
            let found = links.remove(id).unwrap_or_default();
            let Some(address) = pod.added().map(|added| IpAddr::V4(added.address)) else { continue };
            let to_it = routes.remove(&address).unwrap_or_default();
            if found.len() != 1 {
                wrong.push(format!("{label} ({id}) has {} links", found.len()));
            } else if let Some(lease) = self.books.leases.get(id)
                && names[&found[0]] != lease.link
            {
                wrong.push(format!("{label} ({id}) has the link {}, its lease says {}", names[&found[0]], lease.link));
            } else if to_it != found {
                wrong.push(format!("{label} ({id}) has link {found:?}, and the route to {address} leads to {to_it:?}"));
            }
        }
        wrong.extend(
            links.into_iter().map(|(id, found)| format!("links {found:?} of {id}, which does not live, are left")),
        );
        wrong.extend(routes.into_iter().map(|(to, by)| format!("a route to {to} by link {by:?} is left")));
        wrong
    }

    /// Links of pods are looked at elsewhere; all others are the loopback or an attached ENI.
    fn links(&self) -> Vec<String> {
        let macs: BTreeSet<Mac> = self.attached.iter().map(|eni| Mac(eni.mac.0)).collect();
        let known = |link: &&datapath::wire::read::LinkState| {
            link.name == "lo"
                || link.mac.is_some_and(|mac| macs.contains(&mac))
                || link.alias.as_deref().is_some_and(|alias| alias.parse::<Alias>().is_ok())
        };
        let left = self.kernel.links.iter().filter(|link| !known(link));
        left.map(|link| format!("the link {} is nobody's: {link:?}", link.name)).collect()
    }

    /// Routes and rules of ENIs are those that follow from what EC2 has attached.
    fn ec2_and_kernel(&self) -> Vec<String> {
        let slots: BTreeMap<&str, u8> = self.books.pool.enis.iter().map(|eni| (eni.id.as_str(), eni.slot)).collect();
        let mut wrong = Vec::new();
        let mut enis = Vec::new();
        for eni in &self.attached {
            let slot = slots.get(eni.eni.as_str()).and_then(|slot| Slot::new(*slot));
            match (slot, link_of(&self.kernel.links, Mac(eni.mac.0))) {
                (Some(slot), Some(link)) => enis.push(desired::Eni {
                    slot,
                    link: Link { name: link.name.clone(), index: link.index },
                    address: eni.addresses[0],
                    subnet: eni.subnet_cidr,
                    confirmed: confirmed(eni).collect(),
                }),
                // Said elsewhere.
                (None, _) => {}
                (Some(_), None) => wrong.push(format!("{} is attached and has no link", eni.eni)),
            }
        }
        let Some(at) = enis.iter().position(|eni| eni.slot.is_primary()) else { return wrong };
        let facts = NodeFacts {
            numbering: Numbering::default(),
            primary: enis.remove(at),
            secondaries: enis,
            vpc: vec![self.lab.settings().vpc],
            excluded: Vec::new(),
            external_services: Vec::new(),
            snat: Snat::Primary(SnatPorts::FullyRandom),
            node_ports: true,
        };
        let difference = Difference::between(&Desired::of(&facts), &self.kernel.routes, &self.kernel.rules);
        wrong.extend(difference.missing_routes.iter().map(|route| format!("the route {route} is missing")));
        wrong.extend(difference.surplus_routes.iter().map(|route| format!("the route {route} is left")));
        wrong.extend(difference.missing_rules.iter().map(|rule| format!("the rule {rule} is missing")));
        wrong.extend(difference.surplus_rules.iter().map(|rule| format!("the rule {rule} is left")));
        wrong
    }

    /// Nothing in the spool, no namespace but those of living pods.
    fn left_over(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        match datapath::spool::read(&self.node.run_dir().join("spool")) {
            Ok(left) if left.is_empty() => {}
            Ok(left) => wrong.push(format!("{} DELs are in the spool: {left:?}", left.len())),
            Err(error) => wrong.push(format!("{error}")),
        }
        let living: BTreeSet<&Netns> = self.pods.iter().map(|pod| pod.netns()).collect();
        let there = Netns::with_prefix(&format!("{}-", self.node.netns().name()));
        let left = there.iter().filter(|netns| !living.contains(netns));
        wrong.extend(left.map(|netns| format!("the namespace {} is left", netns.name())));
        wrong
    }
}
