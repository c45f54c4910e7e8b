//! A node port as kube-proxy would make one: destination NAT in the node, in a table of the lab's own.

use std::{
    net::SocketAddrV4,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::Result;

use crate::{host::Host, iproute, traffic::Transport};

/// The pod's side of every node port.
const TARGET: u16 = 8080;

/// Kubernetes' range begins here; each node port gets the next number, so that two never meet.
static NEXT: AtomicU16 = AtomicU16::new(30_000);

/// Connections to a port of the node reach a pod, the client's address kept. Gone when dropped.
#[derive(Debug)]
pub struct NodePort {
    node: Host,
    port: u16,
}

impl NodePort {
    /// Opens a port of `node` that leads to `pod`.
    pub fn open(node: &Host, pod: &Host, transport: Transport) -> Result<Self> {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let protocol = match transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let (at, target) = (node.address, pod.at(TARGET));
        iproute::nft(
            &node.netns,
            &format!(
                "add table ip lab_{port}\n\
                 add chain ip lab_{port} arriving {{ type nat hook prerouting priority dstnat; }}\n\
                 add rule ip lab_{port} arriving ip daddr {at} {protocol} dport {port} dnat to {target}\n"
            ),
        )?;
        Ok(Self { node: node.clone(), port })
    }

    /// What clients dial.
    pub fn at(&self) -> SocketAddrV4 {
        self.node.at(self.port)
    }

    /// Where the pod has to listen.
    pub fn target_port(&self) -> u16 {
        TARGET
    }
}

impl Drop for NodePort {
    fn drop(&mut self) {
        if let Err(error) = iproute::nft(&self.node.netns, &format!("delete table ip lab_{}\n", self.port)) {
            tracing::debug!(error = format!("{error:#}"), "a node port was left behind");
        }
    }
}
