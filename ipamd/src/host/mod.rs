//! The node's kernel, kept as the pool wants it.
//!
//! Owns the thread that configures ENIs' links, routes, rules and the nftables table, and tells the pool which ENIs the kernel carries.
//! Level-triggered: every order replaces the one before, and what failed is tried again. Never decides which ENIs or addresses there
//! are.

mod carry;
mod doomed;
mod lookout;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use datapath::{
    desired::{Snat, SnatPorts},
    names::Numbering,
    netns::Netns,
    node,
    sysctl::Sysctl,
    vpc_cni::Traces,
    wire::{Socket, WireError},
};
use ipnet::Ipv4Net;
use pool::{Block, EniId, Event, FoundLease, LeaseKey, Origin, Pod, SubnetId, WantedEni};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{info, warn};

pub use lookout::Seen;

use crate::config::{self, Wiring};

/// The VPC around the node, as metadata tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The VPC's IPv4 networks.
    pub vpc: Vec<Ipv4Net>,
    /// The subnets of the node's ENIs.
    pub subnets: BTreeMap<SubnetId, Ipv4Net>,
}

/// What the kernel is to be, besides what the pool and the VPC say.
#[derive(Debug, Clone)]
struct Plan {
    numbering: Numbering,
    excluded: Vec<Ipv4Net>,
    external_services: Vec<Ipv4Net>,
    snat: Snat,
    node_ports: bool,
    eni_mtu: u32,
}

impl Plan {
    fn of(wiring: &Wiring) -> Self {
        let ports = match wiring.ports {
            config::SnatPorts::FullyRandom => SnatPorts::FullyRandom,
            config::SnatPorts::Random => SnatPorts::Random,
            config::SnatPorts::AsIs => SnatPorts::Kept,
        };
        Self {
            numbering: wiring.numbering(),
            excluded: wiring.no_snat.clone(),
            external_services: wiring.by_main.clone(),
            snat: if wiring.external_snat { Snat::External } else { Snat::Primary(ports) },
            node_ports: wiring.node_ports,
            eni_mtu: wiring.eni_mtu,
        }
    }
}

/// What node's loop and worker share. The lock is held while routes are written, so that an address that is withdrawn stays withdrawn.
#[derive(Debug, Default)]
struct Wanted(Mutex<Vec<WantedEni>>);

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Vec<WantedEni>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker is told.
#[derive(Debug)]
enum Order {
    /// What is wanted has changed.
    Reconcile,
    /// The VPC around the node.
    Network(Network),
    /// End.
    Stop,
}

/// What the worker tells.
#[derive(Debug)]
pub enum Told {
    /// An event for the pool.
    Event(Event),
    /// The links of all ENIs that the kernel carries.
    Links(BTreeMap<EniId, String>),
    /// Who lives on the node.
    Seen(Seen),
}

/// The node's kernel for the pool's loop.
#[derive(Debug)]
pub struct KernelHost {
    wanted: Arc<Wanted>,
    orders: mpsc::UnboundedSender<Order>,
    socket: Socket,
    numbering: Numbering,
    traces: Traces,
}

/// The worker's end for the rest of the daemon.
#[derive(Debug)]
pub struct Worker {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

/// The node cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel is too old.
    #[error(transparent)]
    Kernel(#[from] node::TooOld),
    /// A kernel setting cannot be made.
    #[error(transparent)]
    Sysctl(#[from] datapath::sysctl::SysctlError),
    /// netlink.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The network namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] datapath::netns::NetnsError),
    /// No thread.
    #[error("starting the kernel's thread")]
    Thread(#[source] std::io::Error),
}

/// Checks the kernel and starts the worker; what it tells comes out of the receiver. `reclaim_after` is the time between two looks that
/// both miss a pod's link, before its lease ends.
pub fn start(
    wiring: &Wiring,
    reclaim_after: Duration,
) -> Result<(KernelHost, Worker, mpsc::UnboundedReceiver<Told>), HostError> {
    let kernel = node::check_kernel()?;
    info!(%kernel, "checked the kernel");
    if let Some(change) = Sysctl::FORWARDING.apply()? {
        info!(name = change.name, was = change.was, is = change.is, "changed a kernel setting");
    }
    start_in(wiring, reclaim_after, None)
}

/// The same in another network namespace, without the checks.
fn start_in(
    wiring: &Wiring,
    reclaim_after: Duration,
    netns: Option<Netns>,
) -> Result<(KernelHost, Worker, mpsc::UnboundedReceiver<Told>), HostError> {
    let plan = Plan::of(wiring);
    let open = || match &netns {
        Some(netns) => Socket::open_in(netns),
        None => Socket::open(),
    };
    let (mut socket, working, looking, burying) = (open()?, open()?, open()?, open()?);
    let links = socket.links()?;
    let traces = Traces::read(&mut socket, &links)?;
    let wanted = Arc::<Wanted>::default();
    let (orders, inbox) = mpsc::unbounded_channel();
    let (tell, told) = mpsc::unbounded_channel();
    let numbering = plan.numbering.clone();
    let carry = carry::Carry::new(plan, working, Arc::clone(&wanted), traces.addresses());
    let lookout = lookout::Lookout::new(looking, numbering.clone(), reclaim_after);
    let doomed = doomed::Doomed::start(burying, numbering.doomed_group()).map_err(HostError::Thread)?;
    let thread = std::thread::Builder::new()
        .name("kernel".to_owned())
        .stack_size(512 << 10)
        .spawn(move || match netns {
            Some(netns) => drop(netns.run(|| worker::run(carry, lookout, doomed, inbox, tell))),
            None => worker::run(carry, lookout, doomed, inbox, tell),
        })
        .map_err(HostError::Thread)?;
    let host = KernelHost { wanted, orders: orders.clone(), socket, numbering, traces };
    Ok((host, Worker { orders, thread }, told))
}

impl ::node::Host for KernelHost {
    fn withdraw(&mut self, blocks: &[Block]) {
        let mut wanted = self.wanted.lock();
        for eni in &mut *wanted {
            eni.addresses.retain(|address| !blocks.contains(&Block::Address(*address)));
            eni.prefixes.retain(|prefix| !blocks.contains(&Block::Prefix(*prefix)));
        }
        let nets: Vec<_> = blocks.iter().copied().map(network).collect();
        if let Err(error) = node::let_go(&mut self.socket, &self.numbering, &nets) {
            // The next pass removes them: they are not wanted any more.
            warn!(error = %chain(&error), blocks = blocks.len(), "could not withdraw unreachable routes");
        }
    }

    fn reconcile(&mut self, wanted: Vec<WantedEni>) {
        *self.wanted.lock() = wanted;
        // A worker that has ended was told to, or has said why.
        drop(self.orders.send(Order::Reconcile));
    }
}

impl KernelHost {
    /// What routed to single addresses when the daemon started, and was not ours.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The leases of pods whose links are in the kernel: what is left when the ledger is lost.
    pub fn leases(&mut self) -> Result<Vec<FoundLease>, WireError> {
        let mut leases = Vec::new();
        for pod in node::pods(&mut self.socket, &self.numbering)? {
            let addresses: Vec<_> = pod
                .addresses
                .iter()
                .filter_map(|address| match address {
                    std::net::IpAddr::V4(address) => Some(*address),
                    std::net::IpAddr::V6(_) => None,
                })
                .collect();
            let Some(alias) = pod.alias else {
                warn!(link = pod.link.name, ?addresses, "found a pod's link that does not say whose it is");
                continue;
            };
            for address in addresses {
                leases.push(FoundLease {
                    key: LeaseKey { container: alias.key.container_id.clone(), ifname: alias.key.ifname.clone() },
                    pod: Pod { namespace: alias.namespace.clone(), name: alias.pod.clone(), uid: String::new() },
                    link: pod.link.name.clone(),
                    address,
                    origin: Origin::Found,
                });
            }
        }
        Ok(leases)
    }
}

impl Worker {
    /// The VPC around the node, when it is first known and whenever it changes.
    pub fn set_network(&self, network: Network) {
        drop(self.orders.send(Order::Network(network)));
    }

    /// Ends the thread; the kernel stays as it is.
    pub fn stop(self) {
        drop(self.orders.send(Order::Stop));
        if self.thread.join().is_err() {
            warn!("the kernel's thread panicked");
        }
    }
}

/// What EC2 confirmed for an ENI, as routes name it: a prefix is one route, and not sixteen, unless something else uses a part of it.
fn networks(eni: &WantedEni, foreign: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Net> {
    let mut networks: BTreeSet<Ipv4Net> =
        eni.addresses.iter().map(|address| network(Block::Address(*address))).collect();
    for prefix in &eni.prefixes {
        if foreign.range(prefix.first()..=prefix.last()).next().is_none() {
            networks.insert(network(Block::Prefix(*prefix)));
        } else {
            networks.extend(prefix.addresses().map(Ipv4Net::from));
        }
    }
    networks.retain(|net| net.prefix_len() < 32 || !foreign.contains(&net.addr()));
    networks
}

fn network(block: Block) -> Ipv4Net {
    match block {
        Block::Address(address) => address.into(),
        Block::Prefix(prefix) => Ipv4Net::new_assert(prefix.first(), 28),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
