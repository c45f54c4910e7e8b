//! DEL: the pod's routes and link go, the address goes back to the daemon or into the spool.
//!
//! Succeeds whenever nothing is left to do in the kernel and the daemon has been told, or will read it in the spool.

use datapath::link::LinkIndex;
use datapath::names::{Numbering, fallback_link_name};
use datapath::netns::Netns;
use datapath::pod;
use datapath::spool;
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
    let mut link = Socket::open().and_then(|mut host| {
        let link = find(&mut host, config, sandbox)?;
        Ok((host, link))
    });
    let cut = with_link(&mut link, |host, index| pod::cut_off(host, index).map(|_| ()));
    let told = give_back(config, sandbox, previous_address(config), started);
    let gone = with_link(&mut link, pod::delete);
    link.map_err(|error| refused(&error))?;
    cut.and(gone).map_err(|error| refused(&error))?;
    told
}

type Found = Result<(Socket, Option<LinkIndex>), WireError>;

fn with_link(
    found: &mut Found,
    act: impl FnOnce(&mut Socket, LinkIndex) -> Result<(), WireError>,
) -> Result<(), WireError> {
    match found {
        Ok((host, Some(index))) => act(host, *index),
        _ => Ok(()),
    }
}

fn find(host: &mut Socket, config: &Config, sandbox: &Sandbox) -> Result<Option<LinkIndex>, WireError> {
    // The namespace may be gone, or not be the runtime's any more: the link is found without it too.
    let netns = sandbox.netns.as_deref().and_then(|path| Netns::open(path).ok());
    // As ADD does: `host` stays the node's.
    let mut inside = netns.and_then(|netns| netns.enter().ok().and_then(|()| Socket::open().ok()));
    let found = pod::find(host, inside.as_mut(), &sandbox.key, &names(config, sandbox))?;
    Ok(found.map(|link| link.index))
}

/// Names that the link may have; whichever it is, the link must be this container's own.
fn names(config: &Config, sandbox: &Sandbox) -> Vec<String> {
    let previous = config.previous.iter().flat_map(|previous| &previous.interfaces);
    let mut names: Vec<_> = previous
        .filter(|interface| interface.sandbox.is_empty() && !interface.name.is_empty() && interface.name.len() < 16)
        .map(|interface| interface.name.clone())
        .collect();
    let (namespace, name) = (&sandbox.pod.namespace, &sandbox.pod.name);
    names.push(Numbering::default().link_name(namespace, name));
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

/// Tells the daemon, or leaves it in the spool. Fails only if neither can be done.
pub(crate) fn give_back(config: &Config, sandbox: &Sandbox, address: String, started: u64) -> Result<(), Failure> {
    let request = ReleaseRequest {
        key: Some(convert::key(&sandbox.key)),
        pod: Some(convert::pod(&sandbox.pod)),
        started_boottime_ns: started,
        address: address.clone(),
    };
    let silence = match converse(Daemon::below(&config.run_dir).release(request)) {
        Ok(Ok(_)) => return Ok(()),
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
    spool::leave(&config.run_dir.join("spool"), &entry).map(|_| ()).map_err(|error| Failure {
        code: Code::TryAgain,
        message: format!("{silence}, and the spool cannot be written"),
        details: chain(&error),
    })
}
