//! A node as amazon-vpc-cni leaves it: its ENIs in EC2 and on the node, its pods with their routes and rules, its checkpoint file, and
//! no daemon.
//!
//! Owns making such a node. What each thing looks like is that of amazon-vpc-cni-k8s 1.23 (`pkg/networkutils`,
//! `cmd/routed-eni-cni-plugin/driver`, `pkg/ipamd/datastore`); its iptables chains are left out: nothing here leaves the VPC.

use std::{
    collections::VecDeque,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use datapath::names::Numbering;
use serde_json::{Value, json};
use sim::{
    Request, Response,
    requests::{CreateNetworkInterface, EniAttribute, NewEni, Wanted},
};

use crate::{Lab, cni::Call, fabric::Plugged, host::Host, iproute, node::Node, pods::Pod, wait};

/// How long an attached ENI may take to appear on the node with its addresses.
const DEVICE: Duration = Duration::from_secs(20);
/// The Kubernetes namespace of every pod of a lab.
const NAMESPACE: &str = "default";

/// One ENI of the node: the first is the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Secondary addresses that EC2 has on it.
    pub assigned: u32,
    /// How many of them pods have.
    pub pods: usize,
}

/// What amazon-vpc-cni left on a node. The pods' namespaces are gone when dropped, and with them their links and routes.
#[derive(Debug)]
pub struct Legacy {
    /// The pods, those of the primary ENI first.
    pub pods: Vec<OldPod>,
    checkpoint: PathBuf,
}

/// A pod that amazon-vpc-cni wired.
#[derive(Debug)]
pub struct OldPod {
    pod: Pod,
    address: Ipv4Addr,
    link: String,
}

impl Legacy {
    /// Brings the node there: ENIs, then pods, then the file.
    pub fn prepare(lab: &Lab, node: &Node, enis: &[Fill]) -> Result<Self> {
        node.netns().sysctl(&[("net/ipv4/ip_forward", "1")])?;
        iproute::ip(node.netns(), "rule add fwmark 0x80/0x80 lookup main pref 1024\n")?;
        let mut pods = Vec::new();
        for (device, fill) in (0..).zip(enis) {
            let plugged = eni(lab, node, device, fill.assigned)?;
            let table = if device == 0 { None } else { Some(device + 1) };
            if let Some(table) = table {
                configure(node, &plugged, table)?;
            }
            let mut free: VecDeque<Ipv4Addr> = plugged.eni.addresses.iter().skip(1).copied().collect();
            for _ in 0..fill.pods {
                let address = free.pop_front().with_context(|| format!("{} has too few addresses", plugged.eni.id))?;
                pods.push(OldPod::wire(node, &format!("old-{}", pods.len()), address, table)?);
            }
        }
        let legacy = Self { pods, checkpoint: node.run_dir().join("aws-node").join("ipam.json") };
        legacy.write(&legacy.entries())?;
        Ok(legacy)
    }

    /// Its checkpoint file: for `AWS_VPC_K8S_CNI_BACKING_STORE`.
    pub fn checkpoint(&self) -> &Path {
        &self.checkpoint
    }

    /// What the file says of each pod.
    pub fn entries(&self) -> Vec<Value> {
        self.pods.iter().map(OldPod::entry).collect()
    }

    /// Writes the file anew, with these entries.
    pub fn write(&self, entries: &[Value]) -> Result<()> {
        let text = format!("{}\n", json!({"version": "vpc-cni-ipam/1", "allocations": entries}));
        self.checkpoint.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&self.checkpoint, text).with_context(|| format!("writing {}", self.checkpoint.display()))
    }
}

impl OldPod {
    /// Its name.
    pub fn name(&self) -> &str {
        self.pod.name()
    }

    /// The sandbox's id.
    pub fn container_id(&self) -> &str {
        self.pod.container_id()
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The host's end of its link.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// The pod as traffic knows it.
    pub fn host(&self) -> Host {
        Host { name: self.pod.label(), netns: self.pod.netns().clone(), address: self.address }
    }

    /// DEL by our plugin, as a runtime that has no result for our network makes it.
    pub fn del(&self) -> Result<()> {
        self.prepare_del().run(self.pod.node())?.done().map(|_| ()).with_context(|| format!("deleting {}", self.name()))
    }

    /// That call before it is made.
    pub fn prepare_del(&self) -> Call {
        self.pod.prepare("DEL", None)
    }

    /// Its sandbox ends without a DEL.
    pub fn vanish(&self) -> Result<()> {
        self.pod.netns().remove()
    }

    /// What the checkpoint file says of it.
    pub fn entry(&self) -> Value {
        json!({
            "networkName": "aws-cni",
            "containerID": self.container_id(),
            "ifName": "eth0",
            "ipv4": self.address,
            "allocationTimestamp": 1_712_345_678_901_234_567_u64,
            "metadata": {"k8sPodNamespace": NAMESPACE, "k8sPodName": self.name(), "interfacesCount": 1},
        })
    }

    fn wire(node: &Node, name: &str, address: Ipv4Addr, table: Option<u32>) -> Result<Self> {
        let pod = node.pod(name)?;
        let link = Numbering::default().link_name(NAMESPACE, name);
        let sandbox = pod.netns().name().to_owned();
        let octets = address.octets();
        let mac = format!("06:{:02x}:{:02x}:{:02x}:{:02x}:01", octets[0], octets[1], octets[2], octets[3]);
        let from = table.map(|table| format!("rule add from {address} lookup {table} pref 1536\n")).unwrap_or_default();
        iproute::ip(
            node.netns(),
            &format!(
                "link add {link} address {mac} type veth peer name eth0 netns {sandbox}\nlink set {link} up\n\
                 route replace {address}/32 dev {link} scope link\n\
                 rule add to {address} lookup main pref 512\n{from}"
            ),
        )?;
        iproute::ip(
            pod.netns(),
            &format!(
                "link set eth0 up\naddr add {address}/32 dev eth0\nroute add 169.254.1.1 dev eth0 scope link\n\
                 route add default via 169.254.1.1 dev eth0\nneigh add 169.254.1.1 lladdr {mac} dev eth0 nud permanent\n"
            ),
        )?;
        Ok(Self { pod, address, link })
    }
}

/// An ENI with so many secondary addresses at this device index, once the node has its link.
fn eni(lab: &Lab, node: &Node, device: u32, assigned: u32) -> Result<Plugged> {
    let attached = lab.world().attached(node.instance());
    let primary = attached.first().context("the node has no ENI")?;
    let id = if device == 0 {
        let wanted = Wanted::Count(assigned);
        lab.world()
            .make(Request::AssignPrivateIpAddresses { eni: primary.eni.clone(), wanted, allow_reassignment: false })
            .context("assigning addresses to the primary ENI")?;
        primary.eni.clone()
    } else {
        attach(lab, node, &primary.subnet, device, assigned)?
    };
    let found = wait::until(DEVICE, || {
        let witness = lab.witness();
        let found = witness.enis_of(node.netns()).into_iter().find(|plugged| plugged.eni.id == id).cloned();
        found.filter(|plugged| plugged.eni.addresses.len() > usize::try_from(assigned).unwrap_or(usize::MAX))
    });
    found.with_context(|| format!("{id} did not appear on the node"))
}

fn attach(lab: &Lab, node: &Node, subnet: &str, device: u32, assigned: u32) -> Result<String> {
    let instance = node.instance();
    let tags = [
        ("node.k8s.amazonaws.com/instance_id", instance),
        ("node.k8s.amazonaws.com/createdAt", "2024-04-05T19:34:38Z"),
        ("eks:eni:owner", "amazon-vpc-cni"),
    ];
    let created = lab.world().make(Request::CreateNetworkInterface(CreateNetworkInterface {
        eni: NewEni {
            subnet: subnet.to_owned(),
            secondary: Wanted::Count(assigned),
            description: format!("aws-K8S-{instance}"),
            ..NewEni::default()
        },
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        client_token: None,
    }));
    let eni = match created.context("creating an ENI")? {
        Response::CreateNetworkInterface { eni, .. } => eni.id,
        other => bail!("CreateNetworkInterface answered {other:?}"),
    };
    let attached = lab.world().make(Request::AttachNetworkInterface {
        eni: eni.clone(),
        instance: instance.to_owned(),
        device_index: device,
        card: 0,
    });
    let attachment = match attached.context("attaching an ENI")? {
        Response::AttachNetworkInterface { attachment, .. } => attachment,
        other => bail!("AttachNetworkInterface answered {other:?}"),
    };
    let attribute = EniAttribute::DeleteOnTermination { attachment, delete: true };
    lab.world()
        .make(Request::ModifyNetworkInterfaceAttribute { eni: eni.clone(), attribute })
        .context("protecting an ENI")?;
    Ok(eni)
}

/// The link of a secondary ENI, its table and its rule.
fn configure(node: &Node, plugged: &Plugged, table: u32) -> Result<()> {
    let (link, eni) = (&plugged.link, &plugged.eni);
    let primary = *eni.addresses.first().context("an ENI has an address")?;
    ensure!(primary != eni.gateway, "the gateway is nobody's address");
    let (subnet, gateway) = (eni.subnet, eni.gateway);
    let prefix = subnet.prefix_len();
    iproute::ip(
        node.netns(),
        &format!(
            "link set {link} up\naddr add {primary}/{prefix} dev {link}\n\
             route replace {gateway} dev {link} scope link table {table}\n\
             route replace default via {gateway} dev {link} table {table}\n\
             route del {subnet} dev {link} scope link src {primary}\n\
             rule add from {primary} lookup {table} pref 32765\n"
        ),
    )
}
