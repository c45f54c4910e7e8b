//! The daemon ends, in every way, and comes back: no lease is lost, no address is doubled, none leaks.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use lab::{
    Lab,
    node::Ipamd,
    pods::{Pod, at_once},
    trouble::Service,
    wait,
};

use crate::node::{self, PATIENCE, books_agree, eventually, leases};

const SETTINGS: [(&str, &str); 2] = [("WARM_IP_TARGET", "4"), ("IP_COOLDOWN_PERIOD", "1")];

fn start(lab: &Lab) -> Ipamd {
    lab.nodes()[0].start_ipamd(&SETTINGS).expect("a daemon")
}

fn sandboxes(lab: &Lab, count: usize) -> Vec<Pod> {
    (0..count).map(|n| lab.nodes()[0].pod(&format!("p{n}")).expect("a sandbox")).collect()
}

/// As a runtime: an ADD that fails is followed by a DEL, and a DEL that fails is repeated.
fn add_or_del(pod: &mut Pod) {
    if pod.added().is_some() || pod.add().is_err() {
        let deleted = wait::until(PATIENCE, || pod.del().ok());
        deleted.unwrap_or_else(|| panic!("{} cannot be deleted", pod.label()));
    }
}

#[test]
fn killed_in_a_burst_ten_times_it_loses_nothing() {
    let lab = node::lab("kill", &["m5.4xlarge"]);
    let node = &lab.nodes()[0];
    let mut pods = sandboxes(&lab, 30);
    let mut daemon = start(&lab);
    for round in 0..10 {
        let done = AtomicUsize::new(0);
        // Killed early in the burst, in its middle, or late: another moment each round.
        let moment = round * 3;
        daemon = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                wait::until(PATIENCE, || (done.load(Ordering::Relaxed) >= moment).then_some(()))
                    .expect("the burst goes on");
                daemon.kill().expect("killed");
                start(&lab)
            });
            at_once(&mut pods, |pod| {
                add_or_del(pod);
                done.fetch_add(1, Ordering::Relaxed);
            });
            killer.join().expect("the daemon is back")
        });
        eventually("what DELs left in the spool is read", node, || {
            let spooled = fs::read_dir(node.run_dir().join("spool")).map_or(0, Iterator::count);
            (spooled == 0).then_some(())
        });
        let living = pods.iter().filter(|pod| pod.added().is_some()).count();
        eventually("leases are those of the living pods", node, || (leases(node).len() == living).then_some(()));
        books_agree(&lab, node, &pods);
        assert_eq!(node::pod_routes(node).len(), living, "round {round}: routes of the living and no others");
    }
}

#[test]
fn it_stops_at_sigterm_frees_nothing_and_goes_on_where_it_was() {
    let lab = node::lab("term", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut pods = sandboxes(&lab, 3);
    let daemon = start(&lab);
    for pod in &mut pods {
        pod.add().expect("an address");
    }
    eventually("warm again", node, || (node::ask(node, "pool")["counts"]["free"].as_u64() >= Some(4)).then_some(()));
    books_agree(&lab, node, &pods);
    let before = leases(node);
    let ec2 = node::assigned(&lab, node);
    assert_eq!(daemon.stop().expect("it ends").code(), Some(0));
    assert_eq!(node::assigned(&lab, node), ec2, "nothing was given back");
    let _daemon = start(&lab);
    assert_eq!(leases(node), before);
    let again = pods[0].call("ADD", None).expect("the plugin runs").done().expect("the same ADD");
    assert_eq!(again, pods[0].added().expect("added").result, "the same answer");
    books_agree(&lab, node, &pods);
}

#[test]
fn free_addresses_of_this_boot_are_served_without_ec2_and_metadata() {
    let lab = node::lab("island", &["m5.large"]);
    let mut pods = sandboxes(&lab, 2);
    let daemon = start(&lab);
    pods[0].add().expect("an address");
    let node = &lab.nodes()[0];
    eventually("warm again", node, || (node::ask(node, "pool")["counts"]["free"].as_u64() >= Some(4)).then_some(()));
    daemon.kill().expect("killed");
    lab.faults().set_reachable(Service::Ec2, false);
    lab.faults().set_reachable(Service::Metadata, false);
    let _daemon = start(&lab);
    pods[1].add().expect("a free address by the ledger");
    assert_eq!(leases(node).len(), 2);
}

#[test]
fn a_lost_ledger_is_rebuilt_from_the_kernel_and_ec2() {
    let lab = node::lab("lost", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut pods = sandboxes(&lab, 14);
    let daemon = start(&lab);
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
    daemon.kill().expect("killed");
    fs::remove_file(node.run_dir().join("ledger.redb")).expect("there was a ledger");
    let _daemon = start(&lab);
    eventually("every running pod has its lease", node, || (leases(node).len() == 14).then_some(()));
    books_agree(&lab, node, &pods);
    let mut more = sandboxes(&lab, 3);
    for pod in &mut more {
        pod.add().expect("an address that nobody has");
    }
    pods.extend(more);
    books_agree(&lab, node, &pods);
}

#[test]
fn a_ledger_that_cannot_be_read_is_set_aside_and_no_pod_notices() {
    let lab = node::lab("garbage", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut pods = sandboxes(&lab, 2);
    let daemon = start(&lab);
    for pod in &mut pods {
        pod.add().expect("an address");
    }
    daemon.kill().expect("killed");
    let ledger = node.run_dir().join("ledger.redb");
    let bytes = fs::read(&ledger).expect("a ledger");
    fs::write(&ledger, &bytes[..bytes.len() / 3]).expect("truncated");
    let _daemon = start(&lab);
    eventually("every running pod has its lease", node, || (leases(node).len() == 2).then_some(()));
    books_agree(&lab, node, &pods);
    let aside = fs::read_dir(node.run_dir()).expect("a directory").flatten().map(|entry| entry.file_name());
    let aside: Vec<_> = aside.filter(|name| name.to_string_lossy().starts_with("ledger.redb.")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
}

#[test]
fn a_del_without_the_daemon_cleans_the_kernel_and_is_told_later() {
    let lab = node::lab("spool", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut pods = sandboxes(&lab, 3);
    let daemon = start(&lab);
    for pod in &mut pods {
        pod.add().expect("an address");
    }
    daemon.kill().expect("killed");
    pods[0].del().expect("DEL needs no daemon");
    let without_namespace = {
        let mut call = pods[1].prepare("DEL", None);
        call.netns = std::path::PathBuf::new();
        call
    };
    without_namespace.run(node).expect("the plugin runs").done().expect("DEL needs no namespace and no result");
    assert_eq!(node::pod_links(node).len(), 1, "both links are gone: {:?}", node::pod_links(node));
    assert_eq!(node::pod_routes(node).len(), 1, "both routes are gone");
    let _daemon = start(&lab);
    let last = pods[2].container_id().to_owned();
    eventually("the spool is read", node, || leases(node).into_keys().eq([last.clone()]).then_some(()));
}
