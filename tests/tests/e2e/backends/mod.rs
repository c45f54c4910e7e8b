//! Scenarios that touch EC2, each on both of the lab's EC2s at once: the lab's own, and a LocalStack, which others wrote.
//!
//! One source, two labs: what holds on one and not on the other fails. The labs of one run share one LocalStack, each with a VPC of its
//! own in it; it ends with the last of them.

mod growth;
mod trouble;

use std::{
    panic::resume_unwind,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use lab::{
    Backend, Lab, LabSettings,
    localstack::{LocalStack, PYTHON, Python},
    node::{Ipamd, Node},
    pods::{Pod, at_once},
};

/// Runs a scenario in two labs with one node of this type each, changed as wanted, side by side.
#[track_caller]
pub fn on_both(test: &str, change: impl Fn(&mut LabSettings), scenario: impl Fn(&Lab) + Sync) {
    let settings = |prefix: String, backend: Backend| {
        let mut settings = LabSettings::with_prefix(prefix).with_nodes(&["m5.large"]);
        settings.backend = backend;
        settings.world.ec2.times.device = std::time::Duration::from_millis(300);
        change(&mut settings);
        settings
    };
    let own = settings(format!("bte-{test}"), Backend::Embedded);
    let other = settings(format!("btl-{test}"), Backend::Running(localstack()));
    thread::scope(|scope| {
        let play = |name: &str, settings: LabSettings| {
            let played = || {
                let lab = Lab::start(settings).expect("a lab");
                scenario(&lab);
                lab.stop().expect("nothing is left");
            };
            // The name is in the message of a panic.
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, played).expect("a thread")
        };
        let both = [play("embedded", own), play("LocalStack", other)];
        let ended = both.map(thread::ScopedJoinHandle::join);
        for result in ended {
            result.unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

/// The LocalStack of this run.
fn localstack() -> Arc<LocalStack> {
    static RUNNING: Mutex<Weak<LocalStack>> = Mutex::new(Weak::new());
    // One test that could not start it says nothing about the next.
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = running.upgrade() {
        return running;
    }
    let settings = LabSettings::default().world.ec2;
    let started = Arc::new(LocalStack::start(&python(), "bt", &settings).expect("a LocalStack"));
    *running = Arc::downgrade(&started);
    started
}

/// The one that is told of, or the one that the project's own command makes.
pub fn python() -> Python {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/venv.sh");
    let known =
        if std::env::var_os(PYTHON).is_some() { Python::of_the_environment() } else { Python::made_by(&script) };
    known.expect("a python with LocalStack")
}

/// Somebody else's ENI with so many secondary addresses, attached to the node at this index: its id.
#[track_caller]
fn foreign(lab: &Lab, device: u32, secondary: u32) -> String {
    let (secondary, device) = (secondary.to_string(), device.to_string());
    let wanted = [
        ("SubnetId", lab.subnet()),
        ("SecondaryPrivateIpAddressCount", &secondary),
        ("TagSpecification.1.ResourceType", "network-interface"),
        ("TagSpecification.1.Tag.1.Key", "node.k8s.amazonaws.com/no_manage"),
        ("TagSpecification.1.Tag.1.Value", "true"),
    ];
    let made = lab.ask("CreateNetworkInterface", &wanted).expect("an ENI");
    let theirs = made.element("networkInterfaceId").expect("its id");
    let attach = [("NetworkInterfaceId", &*theirs), ("InstanceId", first(lab).instance()), ("DeviceIndex", &*device)];
    lab.ask("AttachNetworkInterface", &attach).expect("attached");
    theirs
}

fn first(lab: &Lab) -> &Node {
    &lab.nodes()[0]
}

fn start(lab: &Lab, environment: &[(&str, &str)]) -> Ipamd {
    first(lab).start_ipamd(environment).expect("a daemon")
}

fn sandboxes(lab: &Lab, count: usize) -> Vec<Pod> {
    (0..count).map(|n| first(lab).pod(&format!("p{n}")).expect("a sandbox")).collect()
}

/// All of them at once; all get an address.
#[track_caller]
fn add(pods: &mut [Pod]) {
    for added in at_once(pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
}

/// All of them at once; what those are told that get none.
fn refusals(pods: &mut [Pod]) -> Vec<String> {
    let added = at_once(pods, |pod| pod.add().map(|_| ()));
    added.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect()
}
