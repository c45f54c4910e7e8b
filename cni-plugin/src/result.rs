//! The replies of ADD and VERSION, in the shape of each version of the specification.

use std::path::Path;

use datapath::pod::{PodLink, Wiring};
use serde::Serialize;

use crate::request::CniVersion;

#[derive(Serialize)]
struct AddResult {
    #[serde(rename = "cniVersion")]
    cni_version: &'static str,
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Serialize)]
struct Interface {
    name: String,
    mac: String,
    /// Since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
}

#[derive(Serialize)]
struct Ip {
    /// "4" or "6", before 1.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    interface: usize,
    address: String,
    gateway: String,
}

#[derive(Serialize)]
struct Route {
    dst: String,
    gw: String,
}

#[derive(Serialize)]
struct Dns {}

/// What ADD prints.
pub(crate) fn added(version: CniVersion, netns: &Path, wiring: &Wiring, link: &PodLink) -> String {
    let mtu = wiring.mtu.filter(|_| version >= CniVersion::V1_1_0);
    let interfaces = vec![
        Interface { name: link.host.name.clone(), mac: link.host_mac.to_string(), mtu, sandbox: None },
        Interface {
            name: link.pod.name.clone(),
            mac: link.pod_mac.to_string(),
            mtu,
            sandbox: Some(netns.display().to_string()),
        },
    ];
    let family = |ipv4| if ipv4 { "4" } else { "6" };
    let ips = wiring.addresses.iter().map(|net| Ip {
        version: (version < CniVersion::V1_0_0).then(|| family(net.addr().is_ipv4())),
        interface: 1,
        address: net.to_string(),
        gateway: datapath::pod::gateway_of(net.addr()).to_string(),
    });
    let routes = wiring.gateways().into_iter().map(|gateway| Route {
        dst: if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.to_owned(),
        gw: gateway.to_string(),
    });
    json(&AddResult {
        cni_version: version.as_str(),
        interfaces,
        ips: ips.collect(),
        routes: routes.collect(),
        dns: Dns {},
    })
}

/// What VERSION prints.
pub(crate) fn versions(version: CniVersion) -> String {
    #[derive(Serialize)]
    struct Versions {
        #[serde(rename = "cniVersion")]
        cni_version: &'static str,
        #[serde(rename = "supportedVersions")]
        supported_versions: [&'static str; 3],
    }
    json(&Versions { cni_version: version.as_str(), supported_versions: CniVersion::ALL.map(CniVersion::as_str) })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers serialise")
}
