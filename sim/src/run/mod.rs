//! Whole nodes in virtual time: the loop that `ipamd` runs, over this crate's EC2, with everything that can go wrong.
//!
//! [`run`] plays a [`Scenario`] and checks after every step what must hold, against the truth and not against what the pool believes.
//! Everything comes from the seed: the same scenario gives the same [`Trace`]. It must run on a current-thread tokio runtime whose clock
//! is paused; whoever calls it makes one, since that needs a feature of tokio that no program ships with.

mod clock;
mod closing;
mod daemon;
mod disk;
mod ec2;
mod groups;
mod inspect;
mod kernel;
mod pods;
mod scenario;
mod script;
mod trace;
pub(crate) mod translate;
mod truth;
mod witness;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pool::{BootTime, Limits, NodeFacts};

pub(crate) use scenario::Luck;
pub use scenario::{Churn, Crash, Faults, Scenario};
pub use trace::{Invariant, Tally, Trace, Violation};

use self::world::{Machine, Sim, World};
use crate::{
    Request, Response, Settings, StaleReads, Vpc,
    requests::{CreateNetworkInterface, CreateSubnet, LaunchEni, LaunchInterface, NewEni, RunInstances, Tags},
    responses::Subnet,
};

/// Plays a scenario to its end, or until something does not hold.
///
/// # Panics
///
/// When the runtime's clock is not paused: `tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true)`.
pub async fn run(scenario: &Scenario) -> Trace {
    paused().await;
    let sim = Sim::new(world(scenario));
    sim.say(format_args!("{scenario:?}"));
    let nodes = scenario.nodes;
    sim.spawn(kernel::watch(Arc::clone(&sim)));
    for node in 0..nodes {
        sim.spawn(inspect::watch(Arc::clone(&sim), node));
        sim.spawn(daemon::keep(Arc::clone(&sim), node));
    }
    let whole = async {
        script::play(&sim).await;
        closing::close(&sim).await;
    };
    tokio::select! {
        biased;
        () = broken(&sim) => {}
        () = whole => {}
    }
    sim.end()
}

async fn broken(sim: &Sim) {
    loop {
        sim.over.notified().await;
        if sim.lock().violation.is_some() {
            return;
        }
    }
}

/// A clock that runs would make a run last for hours.
pub(crate) async fn paused() {
    const NAP: Duration = Duration::from_millis(500);
    let began = std::time::Instant::now();
    tokio::time::sleep(NAP).await;
    assert!(began.elapsed() < NAP, "sim::run needs a tokio runtime whose clock is paused (start_paused)");
}

/// A VPC with its nodes, before any daemon.
fn world(scenario: &Scenario) -> World {
    let stale_reads = StaleReads { most: scenario.faults.stale, permille: 0 };
    let settings = Settings { times: scenario.times, stale_reads, ..Settings::default() };
    let mut vpc = Vpc::new(settings);
    let mut ids = Luck::new(scenario.seed, "ids");
    let mut must = |vpc: &mut Vpc, request: Request| {
        vpc.ec2(Duration::ZERO, &mut ids.0, request).expect("a scenario's VPC can be made")
    };
    let Response::CreateVpc(network) =
        must(&mut vpc, Request::CreateVpc { cidr: "10.0.0.0/16".parse().expect("a block"), tags: Tags::new() })
    else {
        unreachable!("a create of a VPC answers with one")
    };
    let mut subnet = |vpc: &mut Vpc, cidr, tags| {
        let wanted = CreateSubnet { vpc: network.id.clone(), cidr, zone: None, tags };
        let Response::CreateSubnet(subnet) = must(vpc, Request::CreateSubnet(wanted)) else {
            unreachable!("a create of a subnet answers with one")
        };
        subnet
    };
    let first = subnet(&mut vpc, scenario.subnet, Tags::new());
    if let Some(cidr) = scenario.second_subnet {
        subnet(&mut vpc, cidr, Tags::from([("kubernetes.io/role/cni".to_owned(), "1".to_owned())]));
    }
    let subnet = first;
    let mut machines = Vec::new();
    for _ in 0..scenario.nodes {
        let first = LaunchInterface {
            device_index: 0,
            card: 0,
            eni: LaunchEni::New(NewEni { subnet: subnet.id.clone(), ..NewEni::default() }),
            delete_on_termination: None,
        };
        let wanted = RunInstances {
            count: 1,
            instance_type: scenario.instance_type.to_owned(),
            interfaces: vec![first],
            ..RunInstances::default()
        };
        let Response::RunInstances(made) = must(&mut vpc, Request::RunInstances(wanted)) else {
            unreachable!("a launch answers with instances")
        };
        machines.push(machine(scenario, &vpc, &made.instances[0].id));
    }
    neighbours(scenario, &mut vpc, &mut ids, &subnet);
    World::new(scenario.clone(), vpc, ids, machines)
}

/// Others have addresses of the subnet, here and there: there may be no whole /28 left.
fn neighbours(scenario: &Scenario, vpc: &mut Vpc, ids: &mut Luck, subnet: &Subnet) {
    let mut luck = Luck::new(scenario.seed, "neighbours");
    let hosts: Vec<_> = scenario.subnet.hosts().collect();
    for _ in 0..scenario.neighbours {
        let primary = Some(*luck.one_of(&hosts));
        let eni = NewEni { subnet: subnet.id.clone(), primary, ..NewEni::default() };
        let wanted = CreateNetworkInterface { eni, ..CreateNetworkInterface::default() };
        // An address that somebody has already stays his.
        drop(vpc.ec2(Duration::ZERO, &mut ids.0, Request::CreateNetworkInterface(wanted)));
    }
}

fn machine(scenario: &Scenario, vpc: &Vpc, instance: &str) -> Machine {
    let primary = vpc.attached(instance).remove(0);
    let limits = vpc.instances[instance].limits;
    let facts = NodeFacts {
        instance: instance.into(),
        primary: primary.eni.as_str().into(),
        address: primary.addresses[0],
        subnet: primary.subnet.as_str().into(),
        vpc: primary.vpc.as_str().into(),
        zone: vpc.subnets[&primary.subnet].zone.clone(),
        groups: Vec::new(),
        limits: Some(Limits { enis: limits.cards[0].min(limits.enis), addresses_per_eni: limits.ipv4_per_eni }),
    };
    Machine {
        instance: instance.into(),
        facts,
        policy: scenario.policy.clone(),
        disk: BTreeMap::new(),
        full_until: BootTime::default(),
        was_full: None,
        spool: Vec::new(),
        wanted: Vec::new(),
        carried: BTreeSet::new(),
        routes: BTreeSet::new(),
        links: BTreeSet::new(),
        bound: BTreeSet::new(),
        strange: BTreeSet::new(),
        kept_off: BTreeSet::new(),
        forgot: false,
        unsettled: false,
        asked: BTreeMap::new(),
        denials: 0,
        network: false,
        announce: false,
        stopping: false,
        daemon: 0,
        dead: false,
        handle: None,
        reasons: BTreeMap::new(),
    }
}
