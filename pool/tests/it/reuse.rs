//! How soon an address is used again: cooling that outlives restarts, the oldest first, and early only where that is asked for.

use std::{net::Ipv4Addr, time::Duration};

use pool::{Limits, Policy, Refusal};

use crate::{
    behaviour::{addresses, secs},
    world::World,
};

/// Every address that the node can have is one of these.
const ONE_ENI: Limits = Limits { enis: 1, addresses_per_eni: 4 };

fn full(policy: Policy) -> (World, Vec<Ipv4Addr>) {
    let mut world = World::of_type(policy, ONE_ENI);
    let tickets = world.add_many(3);
    world.settle();
    let held = tickets.iter().map(|ticket| world.address(*ticket).expect("served")).collect();
    (world, held)
}

#[test]
fn a_restart_does_not_end_cooling() {
    let (mut world, held) = full(addresses(0, 3));
    world.del("p1");
    world.later(secs(3));
    world.crash();
    while world.step() {}
    let hurried = world.add_until("hurried", secs(5));
    assert!(
        matches!(world.refusal(hurried), Some(Refusal::CoolingDown { count: 1, .. })),
        "{:?}",
        world.replies.get(&hurried)
    );
    let patient = world.add("patient");
    while !world.replies.contains_key(&patient) {
        world.later(Duration::from_millis(500));
        world.step();
    }
    assert_eq!(world.address(patient), Some(held[1]));
    assert_eq!(world.at, secs(100) + Duration::from_millis(20) + secs(30), "thirty seconds after its release");
}

#[test]
fn released_addresses_come_back_in_the_order_of_their_release() {
    let (mut world, held) = full(addresses(0, 3));
    for pod in ["p1", "p2", "p0"] {
        world.later(secs(1));
        world.del(pod);
    }
    world.later(secs(40));
    let again: Vec<_> = ["a", "b", "c"].iter().map(|name| world.add(name)).collect();
    let again: Vec<_> = again.iter().map(|ticket| world.address(*ticket).expect("free")).collect();
    assert_eq!(again, [held[1], held[2], held[0]]);
}

#[test]
fn an_address_that_was_never_used_goes_before_one_that_was() {
    for prefixes in [false, true] {
        let mut world = World::new(Policy { prefixes, ..addresses(3, 0) });
        world.settle();
        let first = world.add("a");
        let first = world.address(first).expect("free");
        world.later(secs(1));
        world.del("a");
        world.later(secs(31));
        let second = world.add("b");
        assert!(world.address(second).is_some_and(|address| address != first), "prefixes: {prefixes}");
    }
}

#[test]
fn a_cooling_address_is_used_early_only_where_that_is_allowed() {
    for early_reuse in [false, true] {
        let (mut world, held) = full(Policy { early_reuse, ..addresses(0, 3) });
        world.del("p2");
        world.later(secs(1));
        world.del("p0");
        world.later(secs(1));
        let ticket = world.add_until("next", secs(5));
        world.later(Duration::from_millis(20));
        if early_reuse {
            assert_eq!(world.address(ticket), Some(held[2]), "the one that has cooled for longest");
            assert_eq!((world.told(), world.state.reused_early()), (vec!["CoolingReusedEarly"], 1), "counted and said");
        } else {
            assert!(matches!(world.refusal(ticket), Some(Refusal::CoolingDown { count: 2, .. })));
            assert_eq!((world.told(), world.state.reused_early()), (Vec::new(), 0));
        }
    }
}

#[test]
fn the_address_that_has_cooled_for_longest_on_any_eni_is_used_first() {
    // Pods spread over both; the addresses of the two are not in the order of their release.
    for order in [[0, 5, 1, 4], [3, 2, 4, 1]] {
        let two = Limits { enis: 2, addresses_per_eni: 4 };
        let mut world = World::of_type(Policy { early_reuse: true, ..addresses(0, 6) }, two);
        let again = world.add_many(6);
        world.settle();
        let released: Vec<_> = order
            .iter()
            .map(|n| {
                world.later(secs(1));
                world.del(&format!("p{n}"));
                world.address(again[*n]).expect("served")
            })
            .collect();
        let next: Vec<_> = (0..4).map(|n| world.add(&format!("next{n}"))).collect();
        world.later(Duration::from_millis(20));
        let reused: Vec<_> = next.iter().map(|ticket| world.address(*ticket).expect("early")).collect();
        assert_eq!(reused, released);
    }
}

#[test]
fn nothing_is_used_early_while_something_else_can_be_had() {
    let mut world = World::new(Policy { early_reuse: true, ..addresses(0, 1) });
    world.settle();
    world.add("a");
    world.del("a");
    assert_eq!(world.state.available(), 0);
    let ticket = world.add("b");
    assert_eq!(world.replies.get(&ticket), None, "EC2 has more");
    world.settle();
    assert!(world.address(ticket).is_some());
    assert_eq!(world.state.reused_early(), 0);
}

/// Amazon-vpc-cni counts cooling addresses as available: its pool is full by its own count while every ADD fails.
#[test]
fn cooling_addresses_are_not_counted_as_available_and_a_pod_is_grown_for() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    world.add_many(3);
    world.settle();
    world.del_many(0..3);
    let n = world.state.numbers(world.now());
    assert_eq!((world.state.available(), n.cooling), (3, 3));
    let tickets: Vec<_> = (0..5).map(|n| world.add(&format!("new{n}"))).collect();
    for _ in 0..20 {
        while world.step() {}
        world.later(Duration::from_millis(20));
    }
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "nobody waited for cooling");
}

#[test]
fn a_pod_that_waits_for_cooling_waits_at_most_five_seconds_where_ec2_has_more() {
    let mut world = World::new(addresses(0, 1));
    world.settle();
    world.add("a");
    world.del("a");
    for waited in [26, 10] {
        world.later(secs(waited));
        let before = world.calls.len();
        let begun = world.at;
        let ticket = world.add(&format!("after-{waited}"));
        while !world.replies.contains_key(&ticket) {
            if !world.step() {
                world.later(Duration::from_millis(20));
            }
            assert!(world.since(begun) <= secs(5), "it waits too long");
        }
        assert_eq!(world.calls.len() > before, waited == 10, "four seconds are waited for, more are not");
        world.del(&format!("after-{waited}"));
    }
}
