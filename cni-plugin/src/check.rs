//! CHECK: has the sandbox interface what ADD gave it?
//!
//! Compares the kernel with what the daemon believes, and both with the runtime's memory. A daemon that is down is no fault
//! of the pod: then the runtime's memory has to do. Changes nothing.

use datapath::desired::{Route, Target};
use datapath::pod::{self, PodLink, Presence, Wiring};
use ipnet::IpNet;
use proto::v1::CheckRequest;

use crate::add::{Kernel, refused};
use crate::convert;
use crate::daemon::{Daemon, Silence, converse};
use crate::failure::{Code, Failure};
use crate::request::{Config, Sandbox};

pub(crate) fn check(config: &Config, sandbox: &Sandbox) -> Result<(), Failure> {
    let previous = config
        .previous
        .as_ref()
        .ok_or_else(|| Failure::new(Code::Config, "the network configuration has no prevResult, which CHECK needs"))?;
    let given: Vec<IpNet> = previous.ips.iter().filter_map(|ip| ip.address.parse().ok()).collect();
    let mut kernel = Kernel::open(sandbox)?;
    let present = pod::presence(&mut kernel.host, &mut kernel.pod, &sandbox.key).map_err(|e| refused(&e))?;
    let ifname = &sandbox.key.ifname;
    let link = match present {
        Presence::Ours(link) => link,
        Presence::Absent => return Err(broken([format!("there is no link {ifname}")])),
        Presence::Foreign => return Err(broken([format!("link {ifname} is not this container's")])),
    };
    let request = CheckRequest { key: Some(convert::key(&sandbox.key)) };
    let wiring = match converse(Daemon::below(&config.run_dir).check(request))? {
        Ok(answer) => convert::wiring(sandbox, &answer.attachments)?,
        Err(Silence::Refused(failure)) => return Err(failure),
        Err(Silence::Unreachable { .. }) => remembered(&mut kernel, sandbox, &link, &given)?,
    };
    if given != wiring.addresses {
        let list = |nets: &[IpNet]| nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
        let text = format!("ipamd says {}, prevResult says {}", list(&wiring.addresses), list(&given));
        return Err(broken([text]));
    }
    let faults = pod::verify(&mut kernel.host, &mut kernel.pod, &wiring, &link).map_err(|error| refused(&error))?;
    if faults.is_empty() { Ok(()) } else { Err(broken(faults.iter().map(ToString::to_string))) }
}

/// What the sandbox interface should have by the runtime's memory; what that does not know is taken as it is.
fn remembered(kernel: &mut Kernel, sandbox: &Sandbox, link: &PodLink, given: &[IpNet]) -> Result<Wiring, Failure> {
    let state = kernel.host.link_by_index(link.host.index).map_err(|e| refused(&e))?;
    let routes = kernel.host.own_routes_to(link.host.index).map_err(|e| refused(&e))?;
    let to_pod = |route: &&Route| {
        given.contains(&route.destination) && route.target == Target::Link { index: link.host.index, via: None }
    };
    let route = routes.iter().find(to_pod);
    Ok(Wiring {
        key: sandbox.key.clone(),
        namespace: sandbox.pod.namespace.clone(),
        pod: sandbox.pod.name.clone(),
        link_name: link.host.name.clone(),
        addresses: given.to_vec(),
        group: state.map_or(0, |state| state.group),
        table: route.map_or_else(|| datapath::names::Numbering::default().pods_table(), |route| route.table),
        source: route.and_then(|route| route.source),
        mtu: None,
    })
}

fn broken(faults: impl IntoIterator<Item = String>) -> Failure {
    let faults: Vec<_> = faults.into_iter().collect();
    Failure::new(Code::Broken, format!("the sandbox's network is not what it should be: {}", faults.join("; ")))
}
