//! ADD: an address from the daemon, a link in the kernel.

use datapath::netns::{Netns, NetnsError};
use datapath::pod::{self, PodLink, Presence, Wiring, WiringError};
use datapath::wire::{Socket, WireError};
use proto::v1::AllocateRequest;

use crate::daemon::{Daemon, converse};
use crate::del::give_back;
use crate::failure::{Code, Failure, chain};
use crate::request::{Config, Sandbox, invalid};
use crate::{boot, convert, result};

pub(crate) fn add(config: &Config, sandbox: &Sandbox) -> Result<String, Failure> {
    let started = boot::boottime_ns();
    let mut kernel = Kernel::open(sandbox)?;
    // The same ADD at the same time: the second one finds the first one's link, and never takes its address back.
    kernel.netns.lock().map_err(|error| unusable_netns(&error))?;
    // A name that is taken is known before the daemon is asked, so that nothing is left in the pool.
    let present = pod::presence(&mut kernel.host, &mut kernel.pod, &sandbox.key).map_err(|e| refused(&e))?;
    if present == Presence::Foreign {
        return Err(ifname_taken(&sandbox.key.ifname));
    }
    let daemon = Daemon::below(&config.run_dir);
    let request = AllocateRequest {
        key: Some(convert::key(&sandbox.key)),
        netns: kernel.netns.path().display().to_string(),
        pod: Some(convert::pod(&sandbox.pod)),
        annotations: config.annotations.clone(),
        started_boottime_ns: started,
        deadline_ms: 0,
    };
    let answer = converse(daemon.allocate(request))??;
    let lives = matches!(present, Presence::Ours(_));
    let wired =
        convert::wiring(sandbox, &answer.attachments).and_then(|wiring| Ok((kernel.wire(present, &wiring)?, wiring)));
    match wired {
        Ok((link, wiring)) => Ok(result::added(config.version, kernel.netns.path(), &wiring, &link)),
        // A pod that has its network already keeps its address, whatever this ADD failed on.
        Err(failure) if lives => Err(failure),
        Err(mut failure) => {
            // Now, not when this ADD started: the lease was made in between.
            if let Err(also) = give_back(config, sandbox, String::new(), boot::boottime_ns()) {
                failure.details.push_str("; giving the address back: ");
                failure.details.push_str(&also.message);
            }
            Err(failure)
        }
    }
}

/// Sockets into both namespaces.
pub(crate) struct Kernel {
    pub(crate) netns: Netns,
    pub(crate) host: Socket,
    pub(crate) pod: Socket,
}

impl Kernel {
    pub(crate) fn open(sandbox: &Sandbox) -> Result<Self, Failure> {
        let path = sandbox.netns.as_deref().expect("ADD and CHECK are not parsed without CNI_NETNS");
        let netns = Netns::open(path).map_err(|error| unusable_netns(&error))?;
        let host = Socket::open().map_err(|e| refused(&e))?;
        // This process has no other thread, and the daemon's socket is a path: nothing needs the node's namespace any more.
        netns.enter().map_err(|error| unusable_netns(&error))?;
        Ok(Self { host, netns, pod: Socket::open().map_err(|e| refused(&e))? })
    }

    /// A link that is there already is left alone, unless something about it is missing.
    fn wire(&mut self, present: Presence, wiring: &Wiring) -> Result<PodLink, Failure> {
        let Self { netns, host, pod } = self;
        if let Presence::Ours(link) = present {
            let state = host.link_by_index(link.host.index).map_err(|e| refused(&e))?;
            let held = pod.addresses(link.pod.index).map_err(|e| refused(&e))?;
            // In another group it is of a lease on another ENI, or a DEL has handed it over and it is about to go.
            let another_lease = state.is_none_or(|state| state.group != wiring.group)
                || !held.iter().any(|net| wiring.addresses.contains(net))
                    && held.iter().any(|net| net.addr().is_ipv4());
            if !another_lease {
                let faults = pod::verify(host, pod, wiring, &link).map_err(|e| refused(&e))?;
                if !faults.is_empty() {
                    pod::complete(host, pod, wiring, &link).map_err(|e| refused(&e))?;
                }
                return Ok(link);
            }
            // Of a lease that this container does not hold any more: the pod would speak from somebody else's address.
            pod::delete(host, link.host.index).map_err(|e| refused(&e))?;
        }
        pod::wire(host, pod, netns, wiring).map_err(|error| match error {
            WiringError::IfnameTaken(name) => ifname_taken(&name),
            WiringError::Kernel { undo: Some(ref undo), .. } => Failure {
                details: format!("{}; undoing it: {}", chain(&error), chain(undo)),
                ..Failure::new(Code::Io, "wiring the sandbox")
            },
            error => Failure::caused(Code::Io, "wiring the sandbox", &error),
        })
    }
}

fn ifname_taken(name: &str) -> Failure {
    invalid("CNI_IFNAME", &format!("{name} is taken in the sandbox by a link that is not this container's"))
}

fn unusable_netns(error: &NetnsError) -> Failure {
    match error {
        NetnsError::Open { .. } | NetnsError::NotANetns(_) => invalid("CNI_NETNS", &chain(error)),
        NetnsError::Kernel { .. } => Failure::caused(Code::Io, "entering the sandbox", error),
    }
}

pub(crate) fn refused(error: &WireError) -> Failure {
    Failure::caused(Code::Io, "the kernel refused", error)
}
