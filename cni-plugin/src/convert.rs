//! The protocol's types into the plugin's own: the only place that reads an answer of the daemon.

use std::net::IpAddr;

use datapath::link::SandboxKey;
use datapath::pod::Wiring;
use ipnet::{IpNet, Ipv4Net};
use proto::v1::{Attachment, LeaseKey, Path, Pod as ProtoPod, ReleaseResponse};

use crate::del::Told;
use crate::failure::{Code, Failure};
use crate::request::{Pod, Sandbox};

pub(crate) fn key(key: &SandboxKey) -> LeaseKey {
    LeaseKey { container_id: key.container_id.clone(), ifname: key.ifname.clone() }
}

pub(crate) fn pod(pod: &Pod) -> ProtoPod {
    ProtoPod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// What the sandbox interface is to have, from the daemon's attachments.
pub(crate) fn wiring(sandbox: &Sandbox, attachments: &[Attachment]) -> Result<Wiring, Failure> {
    let [attachment] = attachments else {
        return Err(unusable(&format!("{} attachments, one is supported", attachments.len())));
    };
    if !matches!(attachment.path(), Path::Pooled | Path::Unspecified) {
        return Err(unusable(&format!("an attachment by {}", attachment.path().as_str_name())));
    }
    if attachment.ifname != sandbox.key.ifname {
        return Err(unusable(&format!("an attachment for {:?}", attachment.ifname)));
    }
    let addresses: Vec<IpNet> = attachment
        .addresses
        .iter()
        .map(|address| address.cidr.parse().map_err(|_| unusable(&format!("address {:?}", address.cidr))))
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() || addresses.iter().any(|net| net.prefix_len() != net.max_prefix_len()) {
        return Err(unusable("an attachment whose addresses are not single ones"));
    }
    let source: Option<IpAddr> = match attachment.route_source.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| unusable(&format!("route source {text:?}")))?),
    };
    if attachment.link_name.is_empty() || attachment.link_name.len() > 15 {
        return Err(unusable(&format!("link name {:?}", attachment.link_name)));
    }
    Ok(Wiring {
        key: sandbox.key.clone(),
        namespace: sandbox.pod.namespace.clone(),
        pod: sandbox.pod.name.clone(),
        link_name: attachment.link_name.clone(),
        addresses,
        group: attachment.link_group,
        table: attachment.route_table,
        source,
        mtu: Some(attachment.mtu).filter(|&mtu| mtu > 0),
    })
}

/// What the daemon says of a release; addresses that cannot be read are not needed.
pub(crate) fn told(answer: &ReleaseResponse) -> Told {
    let addresses = answer.attachment.iter().flat_map(|attachment| &attachment.addresses);
    Told::Daemon {
        released: addresses.filter_map(|address| address.cidr.parse::<Ipv4Net>().ok()).map(|net| net.addr()).collect(),
        doomed: Some(answer.doomed_group).filter(|group| *group > 0),
    }
}

fn unusable(what: &str) -> Failure {
    Failure::new(Code::TryAgain, format!("ipamd answered with {what}"))
}
