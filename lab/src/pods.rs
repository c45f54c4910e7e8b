//! Pods: plain namespaces that the plugin wires.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    cni::{Call, Reply},
    host::Host,
    netns::Netns,
    node::Node,
};

/// The version the conflist names.
const VERSION: &str = "1.0.0";

/// The Kubernetes namespace of every pod.
const NAMESPACE: &str = "default";

/// Container ids never come again within one process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A sandbox and what the plugin made of it. Its namespace is gone when dropped; a lease, if it still has one, is not:
/// that takes a [`Pod::del`].
#[derive(Debug)]
pub struct Pod {
    node: Node,
    name: String,
    container_id: String,
    netns: Netns,
    added: Option<Added>,
}

/// What an ADD gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// The whole CNI result.
    pub result: Value,
    /// How long the plugin took.
    pub took: Duration,
}

impl Pod {
    pub(crate) fn new(node: &Node, name: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let container_id = format!("{:08x}{number:056x}", std::process::id());
        let netns = Netns::create(format!("{}-{name}-{number}", node.netns().name()))?;
        Ok(Self { node: node.clone(), name: name.to_owned(), container_id, netns, added: None })
    }

    /// ADD.
    pub fn add(&mut self) -> Result<&Added> {
        let begun = Instant::now();
        let result = self.call("ADD", None)?.done().with_context(|| format!("adding {}", self.label()))?;
        let took = begun.elapsed();
        let address = address_of(&result).with_context(|| format!("the result of {}'s ADD: {result}", self.label()))?;
        Ok(self.added.insert(Added { address, result, took }))
    }

    /// DEL, with the result of the ADD as a runtime keeps it.
    pub fn del(&mut self) -> Result<()> {
        let added = self.added.take();
        let previous = added.as_ref().map(|added| &added.result);
        self.call("DEL", previous)?.done().map(|_| ()).with_context(|| format!("deleting {}", self.label()))
    }

    /// Any call of the plugin for this pod.
    pub fn call(&self, command: &str, previous: Option<&Value>) -> Result<Reply> {
        self.prepare(command, previous).run(&self.node)
    }

    /// The call before it is made, for changing it.
    pub fn prepare(&self, command: &str, previous: Option<&Value>) -> Call {
        Call::new(command, &self.container_id, &self.netns.path(), (NAMESPACE, &self.name))
            .configured(&self.node, VERSION, previous)
    }

    /// What the ADD gave, while it holds.
    pub fn added(&self) -> Option<&Added> {
        self.added.as_ref()
    }

    /// The pod as traffic knows it.
    pub fn host(&self) -> Result<Host> {
        let added = self.added.as_ref().with_context(|| format!("{} has no address", self.label()))?;
        Ok(Host { name: self.label(), netns: self.netns.clone(), address: added.address })
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sandbox's id.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The sandbox's namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The node it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// `a/p1`
    pub fn label(&self) -> String {
        format!("{}/{}", self.node.name(), self.name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.netns.kill_processes();
        if let Err(error) = self.netns.remove() {
            tracing::debug!(pod = self.label(), error = format!("{error:#}"), "a pod's namespace was left behind");
        }
    }
}

/// Runs something for all pods at once, one thread each; the results in their order.
pub fn at_once<T: Send>(pods: &mut [Pod], work: impl Fn(&mut Pod) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = pods.iter_mut().map(|pod| scope.spawn(|| work(pod))).collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

fn address_of(result: &Value) -> Result<Ipv4Addr> {
    let cidr = result["ips"][0]["address"].as_str().context("there is no address")?;
    let (address, _) = cidr.split_once('/').context("the address has no prefix length")?;
    address.parse().context("the address is none")
}
