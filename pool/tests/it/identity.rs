//! Whose address it is: ADDs and DELs in every order, sandboxes that vanished, leases found in the kernel, addresses of others.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use pool::{Address, BootTime, EniState, Entry, Event, FoundLease, Key, LeaseKey, Origin, Policy, Refusal};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, World, key, pod},
};

fn ready(warm: u32) -> World {
    let mut world = World::new(addresses(warm, 0));
    world.settle();
    world
}

fn at(seconds: u64) -> BootTime {
    BootTime(secs(seconds))
}

const WAIT: Duration = Duration::from_secs(45);

#[test]
fn a_del_ends_only_what_started_before_it_in_every_order() {
    // Two sandboxes' ADDs and DELs of one container id, as podman stop and start has it; each started at its time and comes in any order.
    let all = [("add", 101), ("del", 102), ("add", 103), ("del", 104)];
    let mut orders = Vec::new();
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| ![a, b].contains(c)) {
                orders.push([a, b, c, 6 - a - b - c]);
            }
        }
    }
    assert_eq!(orders.len(), 24);
    for order in orders {
        for comes in 1..=4 {
            let mut world = ready(3);
            world.at = secs(200);
            let came: Vec<_> = order[..comes].iter().map(|n| all[*n]).collect();
            for (verb, started) in &came {
                match *verb {
                    "add" => drop(world.add_started("a", at(*started), WAIT)),
                    _ => world.del_started("a", at(*started)),
                }
                world.later(secs(1));
            }
            let dels = came.iter().filter(|(verb, _)| *verb == "del").map(|(_, started)| *started).max();
            let lease = world.state.lease(&key("a"));
            // An ADD that comes while another lease of the same key lives gets that one, so what lives is the first that no DEL ends.
            let survives = came.iter().any(|(verb, started)| *verb == "add" && dels.is_none_or(|del| *started > del));
            let ended_after = lease.is_some_and(|lease| dels.is_some_and(|del| lease.started <= at(del)));
            assert!(!ended_after, "{came:?}: {lease:?}");
            if !survives {
                assert_eq!(lease, None, "{came:?}");
            }
        }
    }
}

#[test]
fn a_container_id_that_comes_back_is_served_under_a_new_number() {
    let mut world = ready(3);
    world.add("a");
    let first = world.state.lease(&key("a")).expect("leased").generation;
    world.later(secs(1));
    world.del("a");
    world.later(secs(1));
    let again = world.add("a");
    assert!(world.address(again).is_some());
    assert!(world.state.lease(&key("a")).expect("leased").generation > first);
}

#[test]
fn a_del_from_the_spool_that_is_replayed_late_frees_nothing_newer() {
    let mut world = ready(3);
    world.add("a");
    world.later(secs(1));
    let del = world.now();
    // The daemon was away for it; then the id came back, and only then the spool is read.
    world.later(secs(60));
    world.del("a");
    world.later(secs(1));
    let again = world.add("a");
    world.del_started("a", del);
    world.crash();
    world.del_started("a", del);
    let kept = world.state.lease(&key("a")).map(|lease| lease.attachments[0].addresses[0]);
    assert_eq!(kept, world.address(again));
}

#[test]
fn a_del_of_a_sandbox_that_is_not_known_is_remembered() {
    let mut world = ready(3);
    let started = world.now();
    world.later(secs(1));
    world.del("a");
    world.crash();
    world.settle();
    let late = world.add_started("a", started, WAIT);
    assert_eq!(world.refusal(late), Some(&Refusal::SandboxGone), "also after a restart");
    world.later(secs(601));
    world.event(Event::Tick);
    assert!(!world.ledger.keys().any(|key| matches!(key, Key::Tombstone(_))), "it is forgotten after ten minutes");
}

#[test]
fn a_request_that_waits_is_told_when_its_sandbox_is_deleted() {
    let mut world = World::new(addresses(1, 0));
    let before = world.now();
    world.later(Duration::from_millis(1));
    let waits = world.add("a");
    world.del_started("a", before);
    assert_eq!(world.replies.get(&waits), None, "that DEL was another sandbox's");
    world.del("a");
    assert_eq!(world.refusal(waits), Some(&Refusal::SandboxGone));
    world.settle();
    assert_eq!(world.state.leases().count(), 0);
}

fn sweep(world: &mut World, there: &[&str]) {
    world.event(Event::Sandboxes(there.iter().map(|name| key(name)).collect()));
}

#[test]
fn a_sandbox_that_vanished_is_reclaimed_after_the_grace_period_and_said() {
    let mut world = ready(3);
    world.add("stays");
    world.add("gone");
    let address = world.state.lease(&key("gone")).expect("leased").attachments[0].addresses[0];
    world.later(secs(3_600));
    sweep(&mut world, &["stays"]);
    assert_eq!(world.state.leases().count(), 2, "one look is no evidence");
    world.later(secs(59));
    sweep(&mut world, &["stays"]);
    assert_eq!(world.state.leases().count(), 2, "the grace period is a minute");
    world.later(secs(1));
    sweep(&mut world, &["stays"]);
    assert!(world.state.lease(&key("gone")).is_none() && world.state.lease(&key("stays")).is_some());
    assert_eq!(world.told(), ["SandboxReclaimed"]);
    let held = world.state.enis().next().and_then(|eni| eni.addresses.get(address).cloned());
    assert!(matches!(held, Some(Address::Cooling { .. })), "{held:?}");
    // Its DEL comes after all; the id may come back.
    world.del("gone");
    world.later(secs(1));
    let again = world.add("gone");
    assert!(world.address(again).is_some());
}

#[test]
fn a_sandbox_that_is_young_or_was_seen_again_keeps_its_lease() {
    let mut world = ready(3);
    world.add("young");
    for _ in 0..11 {
        sweep(&mut world, &[]);
        world.later(secs(10));
    }
    assert_eq!(world.state.leases().count(), 1, "its ADD may still be under way for two minutes");
    world.later(secs(600));
    for _ in 0..20 {
        sweep(&mut world, &[]);
        world.later(secs(50));
        sweep(&mut world, &["young"]);
        world.later(secs(50));
    }
    assert_eq!(world.state.leases().count(), 1, "never missing for long enough");
}

#[test]
fn a_sandbox_that_vanished_is_reclaimed_by_a_daemon_that_keeps_dying() {
    let mut world = ready(3);
    world.add("gone");
    world.add("back");
    world.later(secs(600));
    for look in 0..13 {
        assert_eq!(world.state.leases().count(), 2, "after {look} looks");
        let there = if look == 6 { &["back"][..] } else { &[] };
        sweep(&mut world, there);
        world.crash();
        world.later(secs(5));
    }
    assert!(world.state.lease(&key("gone")).is_none(), "missing for a minute, over thirteen daemons");
    assert!(world.state.lease(&key("back")).is_some(), "its link was there half a minute ago");
    world.later(secs(60));
    sweep(&mut world, &[]);
    assert_eq!(world.state.leases().count(), 0);
    assert!(!world.ledger.keys().any(|key| matches!(key, Key::Missing(_))), "nothing is kept of those that ended");
}

fn found(name: &str, address: Ipv4Addr) -> Event {
    Event::Found(vec![FoundLease {
        key: key(name),
        pod: pod(name),
        link: format!("eni-{name}"),
        address,
        origin: Origin::Found,
    }])
}

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// A node whose pod `a` has an address, whose ledger is gone, and that has read nothing yet.
fn lost_ledger() -> World {
    let mut world = ready(2);
    let ticket = world.add("a");
    world.settle();
    assert_eq!(world.address(ticket), Some(ONE));
    world.crash_without_ledger();
    world
}

#[test]
fn a_lease_found_in_the_kernel_holds_its_address_from_the_first_read_on() {
    let mut world = lost_ledger();
    world.event(found("a", ONE));
    assert!(world.ledger.contains_key(&Key::Found(ONE)), "written down before EC2 has said anything");
    world.settle();
    let lease = world.state.lease(&key("a")).expect("a pod has it");
    assert_eq!((lease.origin, lease.attachments[0].addresses[0]), (Origin::Found, ONE));
    assert!(!world.ledger.contains_key(&Key::Found(ONE)), "it is a lease now");
    let tickets = world.add_many(26);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some_and(|address| address != ONE)));
    let full = world.add("full");
    world.settle();
    assert!(world.refusal(full).is_some(), "the found one counts");
}

#[test]
fn a_crash_between_finding_a_lease_and_reading_ec2_loses_nothing() {
    let mut world = lost_ledger();
    world.event(found("a", ONE));
    // The second start has a ledger, so nobody looks into the kernel again.
    world.crash();
    world.settle();
    assert!(world.state.lease(&key("a")).is_some());
    world.crash();
    world.settle();
    assert!(world.state.lease(&key("a")).is_some());
}

#[test]
fn a_lease_found_after_the_address_was_confirmed_takes_it() {
    for cooling in [false, true] {
        let mut world = ready(1);
        if cooling {
            world.add("before");
            world.del("before");
        }
        world.event(found("a", ONE));
        assert!(world.state.lease(&key("a")).is_some());
        assert_eq!(world.told(), Vec::<&str>::new());
    }
}

#[test]
fn what_is_known_already_is_not_found_again() {
    let mut world = ready(3);
    let ticket = world.add("a");
    let address = world.address(ticket).expect("leased");
    world.event(found("a", Ipv4Addr::new(10, 0, 0, 101)));
    world.event(found("other", address));
    assert!(!world.ledger.contains_key(&Key::Found(address)), "nor kept for later, when the pod has gone");
    world.add("deleted");
    world.del("deleted");
    world.event(found("deleted", Ipv4Addr::new(10, 0, 0, 102)));
    assert_eq!(world.state.leases().map(|lease| lease.key.clone()).collect::<Vec<_>>(), [key("a")]);
    assert_eq!(world.state.lease(&key("a")).map(|lease| lease.attachments[0].addresses[0]), Some(address));
}

#[test]
fn a_found_lease_whose_sandbox_is_deleted_before_ec2_was_read_is_none() {
    let mut world = lost_ledger();
    world.event(found("a", ONE));
    world.del("a");
    assert!(!world.ledger.contains_key(&Key::Found(ONE)));
    world.settle();
    assert_eq!(world.state.leases().count(), 0);
}

#[test]
fn a_found_address_that_ec2_does_not_show_is_nobodys_and_nobody_gets_it() {
    let mut world = lost_ledger();
    world.enis.get_mut("eni-0").expect("there").secondary.retain(|address| *address != ONE);
    world.event(found("a", ONE));
    world.settle();
    assert!(world.state.lease(&key("a")).is_none());
    assert!(world.ledger.contains_key(&Key::Found(ONE)), "EC2 may show it later");
    // It does: an assign gets that very address.
    world.add_many(3);
    world.settle();
    assert_eq!(world.state.lease(&key("a")).map(|lease| lease.attachments[0].addresses[0]), Some(ONE));
}

fn quarantined(world: &World) -> Vec<Ipv4Addr> {
    let of = |eni: &pool::Eni| {
        let held = eni.addresses.iter().filter(|(_, held)| matches!(held, Address::Quarantined(_)));
        held.map(|(address, _)| address).collect::<Vec<_>>()
    };
    world.state.enis().flat_map(of).collect()
}

#[test]
fn an_address_that_something_else_uses_is_never_leased_and_cools_when_it_is_free_again() {
    for prefixes in [false, true] {
        let mut world = World::new(Policy { prefixes, ..addresses(3, 0) });
        world.settle();
        let used = world.state.enis().next().and_then(|eni| eni.addresses.iter().next()).expect("an address").0;
        world.event(Event::Foreign(BTreeSet::from([used])));
        assert_eq!((quarantined(&world), world.told()), (vec![used], vec!["ForeignAddresses"]));
        world.event(Event::Foreign(BTreeSet::from([used])));
        assert_eq!(world.told().len(), 1, "said once");
        let tickets = world.add_many(8);
        world.settle();
        assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some_and(|address| address != used)));
        world.del_many(0..8);
        world.minutes(6);
        world.crash();
        world.settle();
        assert_eq!(quarantined(&world), [used], "still there after a restart, and never given back");
        world.event(Event::Foreign(BTreeSet::new()));
        let held = world.state.enis().next().and_then(|eni| eni.addresses.get(used).cloned());
        assert!(matches!(held, Some(Address::Cooling { .. })), "{held:?}");
    }
}

#[test]
fn an_address_that_something_else_uses_is_not_leased_when_ec2_gives_it() {
    let mut world = World::new(addresses(3, 0));
    world.event(Event::Foreign(BTreeSet::from([ONE])));
    world.settle();
    assert_eq!(quarantined(&world), [ONE]);
    assert_eq!(world.state.available(), 3, "another one was asked for instead");
}

#[test]
fn a_lease_of_ours_is_not_somebody_elses() {
    let mut world = ready(2);
    world.add("a");
    world.event(Event::Foreign(BTreeSet::from([ONE])));
    assert_eq!((world.state.leases().count(), quarantined(&world)), (1, Vec::new()));
}

/// What amazon-vpc-cni does with one read of metadata that leaves an attached ENI out: fifteen addresses given to second pods.
#[test]
fn absence_from_every_read_for_an_hour_gives_no_live_address_away() {
    let mut world = World::new(addresses(2, 0));
    world.add_many(15);
    world.settle();
    let held: BTreeSet<_> = world.state.leases().map(|lease| lease.attachments[0].addresses[0]).collect();
    let hidden = world.enis.keys().find(|id| *id != "eni-0").cloned().expect("a second ENI");
    world.crash();
    for _ in 0..3_600 {
        let seen = world.enis[&hidden].clone();
        if let Some((id, call)) = world.open.pop_front() {
            let answer = match &call {
                pool::Call::Discover { .. } => Some(pool::Answer::Discovered(vec![world.enis["eni-0"].clone()])),
                pool::Call::Describe { eni } if eni.as_str() == hidden => Some(pool::Answer::Described(None)),
                _ => None,
            };
            if let Some(answer) = answer {
                world.event(Event::Answered(id, Ok(answer)));
            } else {
                world.open.push_front((id, call));
                world.answer(Fate::Answered);
            }
        }
        assert_eq!(world.enis.get(&hidden), Some(&seen), "nothing is done to it");
        if world.links.is_empty() {
            world.links.insert("eni-0".to_owned());
            world.event(Event::LinkReady("eni-0".into()));
        }
        world.later(secs(1));
    }
    let eni = world.state.enis().find(|eni| eni.record.id.as_str() == hidden).expect("it is kept");
    assert!(matches!(eni.record.state, EniState::Quarantined(_)), "{:?}", eni.record.state);
    assert_eq!(world.state.leases().count(), 15);
    let quarantined = |world: &World| world.told().iter().filter(|told| **told == "EniQuarantined").count();
    assert_eq!(quarantined(&world), 1, "said once");
    for n in 0..11 {
        if let Some(address) = {
            let ticket = world.add(&format!("new{n}"));
            world.settle();
            world.address(ticket)
        } {
            assert!(!held.contains(&address), "{address} has two pods");
        }
    }
    world.minutes(6);
    assert_eq!((quarantined(&world), world.told().last()), (1, Some(&"EniTrusted")));
}

#[test]
fn every_lease_is_in_the_ledger_and_nothing_else_is() {
    let mut world = ready(3);
    world.add_many(5);
    world.settle();
    world.del_many(0..2);
    let kept: BTreeSet<LeaseKey> = world
        .ledger
        .values()
        .filter_map(|entry| match entry {
            Entry::Lease(lease) => Some(lease.key.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(kept, world.state.leases().map(|lease| lease.key.clone()).collect());
    assert_eq!(kept.len(), 3);
}
