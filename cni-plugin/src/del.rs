//! DEL: the pod's routes and link go, the address goes back to the daemon or into the spool.
//!
//! Succeeds whenever nothing is left to do in the kernel and the daemon has been told, or will read it in the spool.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use datapath::link::LinkIndex;
use datapath::names::fallback_link_name;
use datapath::netns::Netns;
use datapath::pod;
use datapath::spool;
use datapath::vpc_cni;
use datapath::wire::{Socket, WireError};
use proto::v1::ReleaseRequest;

use crate::add::refused;
use crate::daemon::{Daemon, converse};
use crate::failure::{Code, Failure, chain};
use crate::request::{Config, Sandbox};
use crate::{boot, convert};

pub(crate) fn del(config: &Config, sandbox: &Sandbox) -> Result<(), Failure> {
    let started = boot::boottime_ns();
    // Teardown goes on after a failure: what went wrong first is told, what can be done is done.
    let mut found = Socket::open().and_then(|mut host| {
        let link = find(&mut host, config, sandbox)?;
        Ok((host, link))
    });
    let cut = act(&mut found, |host, link| match link {
        Found::Ours { link, .. } => pod::cut_off(host, link).map(|_| ()),
        Found::VpcCnis(index) => vpc_cni::clear(host, index).map(|_| ()),
        Found::Nothing => Ok(()),
    });
    let told = give_back(config, sandbox, previous_address(config), started);
    let gone = act(&mut found, |host, link| match (link, &told) {
        (Found::Ours { link, up: true }, Ok(Told::Daemon { doomed: Some(group), .. })) => hand_over(host, link, *group),
        (Found::Ours { link, .. }, _) => pod::delete(host, link),
        // Its namespace went first, and the link with it: of a pod that amazon-vpc-cni wired the rules are still there. If they cannot
        // be removed now, the daemon finds them.
        (Found::Nothing, Ok(Told::Daemon { released, .. })) if !released.is_empty() => {
            vpc_cni::clear_rules(host, released).map_or(Ok(()), |_| Ok(()))
        }
        _ => Ok(()),
    });
    found.map_err(|error| refused(&error))?;
    cut.and(gone).map_err(|error| refused(&error))?;
    told.map(|_| ())
}

/// The daemon deletes the link, with others, so that nobody waits for the kernel's RCU here. Also one that starts later: the link's
/// group says so.
fn hand_over(host: &mut Socket, link: LinkIndex, group: u32) -> Result<(), WireError> {
    pod::doom(host, link, group).or_else(|_| pod::delete(host, link))
}

/// What the kernel has for the sandbox interface.
#[derive(Clone, Copy)]
enum Found {
    /// The link that we made. One that is not up was not finished, and the kernel tells nobody of changes to it.
    Ours {
        link: LinkIndex,
        up: bool,
    },
    /// The link that amazon-vpc-cni made before us: its own cached result is kept under another network's name, and does not reach us.
    VpcCnis(LinkIndex),
    Nothing,
}

fn act(
    found: &mut Result<(Socket, Found), WireError>,
    act: impl FnOnce(&mut Socket, Found) -> Result<(), WireError>,
) -> Result<(), WireError> {
    match found {
        Ok((host, link)) => act(host, *link),
        Err(_) => Ok(()),
    }
}

fn find(host: &mut Socket, config: &Config, sandbox: &Sandbox) -> Result<Found, WireError> {
    // The namespace may be gone, or not be the runtime's any more: the link is found without it too.
    let netns = sandbox.netns.as_deref().and_then(|path| Netns::open(path).ok());
    // As ADD does: `host` stays the node's.
    let mut inside = netns.and_then(|netns| netns.enter().ok().and_then(|()| Socket::open().ok()));
    if let Some(link) = pod::find(host, inside.as_mut(), &sandbox.key, &names(config, sandbox))? {
        return Ok(Found::Ours { link: link.index, up: link.up });
    }
    let canonical = config.numbering.link_name(&sandbox.pod.namespace, &sandbox.pod.name);
    let link = vpc_cni::find(host, inside.as_mut(), &sandbox.key.ifname, &canonical)?;
    Ok(link.map_or(Found::Nothing, |link| Found::VpcCnis(link.index)))
}

/// Names that the link may have; whichever it is, the link must be this container's own.
fn names(config: &Config, sandbox: &Sandbox) -> Vec<String> {
    let previous = config.previous.iter().flat_map(|previous| &previous.interfaces);
    let mut names: Vec<_> = previous
        .filter(|interface| interface.sandbox.is_empty() && !interface.name.is_empty() && interface.name.len() < 16)
        .map(|interface| interface.name.clone())
        .collect();
    let (namespace, name) = (&sandbox.pod.namespace, &sandbox.pod.name);
    names.push(config.numbering.link_name(namespace, name));
    let fallbacks: Vec<_> = names
        .iter()
        .map(|canonical| fallback_link_name(canonical, namespace, name, &sandbox.key.container_id))
        .collect();
    names.extend(fallbacks);
    names.dedup();
    names
}

/// The pod's address by the runtime's memory, without its length.
fn previous_address(config: &Config) -> String {
    let first = config.previous.as_ref().and_then(|previous| previous.ips.first());
    let address = first.map(|ip| ip.address.split('/').next().unwrap_or_default());
    address.filter(|text| text.parse::<std::net::IpAddr>().is_ok()).unwrap_or_default().to_owned()
}

/// Who knows of the DEL.
pub(crate) enum Told {
    /// The daemon.
    Daemon {
        /// The addresses of the lease that ended.
        released: BTreeSet<Ipv4Addr>,
        /// It deletes links of this group.
        doomed: Option<u32>,
    },
    /// The next daemon.
    Spool,
}

/// Tells the daemon, or leaves it in the spool. Fails only if neither can be done.
pub(crate) fn give_back(config: &Config, sandbox: &Sandbox, address: String, started: u64) -> Result<Told, Failure> {
    let request = ReleaseRequest {
        key: Some(convert::key(&sandbox.key)),
        pod: Some(convert::pod(&sandbox.pod)),
        started_boottime_ns: started,
        address: address.clone(),
    };
    let silence = match converse(Daemon::below(&config.run_dir).release(request)) {
        Ok(Ok(answer)) => return Ok(convert::told(&answer)),
        Ok(Err(silence)) => silence.to_string(),
        Err(failure) => failure.message,
    };
    let entry = spool::Entry {
        key: sandbox.key.clone(),
        namespace: sandbox.pod.namespace.clone(),
        pod: sandbox.pod.name.clone(),
        address,
        started_boottime_ns: started,
        boot_id: boot::boot_id(),
    };
    spool::leave(&config.run_dir.join("spool"), &entry).map(|_| Told::Spool).map_err(|error| Failure {
        code: Code::TryAgain,
        message: format!("{silence}, and the spool cannot be written"),
        details: chain(&error),
    })
}
