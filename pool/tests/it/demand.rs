//! Pods that are bound to the node and have no address yet, the caps above them, and a node that takes no new pods.

use std::{collections::BTreeSet, time::Duration};

use pool::{Ask, Call, Event, Limits, Policy, Refusal, Warm};

use crate::{
    behaviour::{addresses, secs},
    world::{World, pod},
};

/// m5.4xlarge.
const BIG: Limits = Limits { enis: 8, addresses_per_eni: 30 };

fn bound(pods: std::ops::Range<u32>) -> Event {
    Event::Demand(pods.map(|n| pod(&format!("p{n}"))).collect())
}

fn writes(world: &World) -> usize {
    world.made(|call| !call.is_read())
}

#[test]
fn bound_pods_are_grown_for_in_one_step_before_they_ask() {
    let mut world = World::of_type(addresses(2, 0), BIG);
    world.settle();
    let before = world.calls.len();
    world.event(bound(0..60));
    world.settle();
    assert_eq!(world.state.available(), 62, "what they want and the target");
    let made: Vec<_> = world.calls[before..].iter().filter(|call| !call.is_read()).collect();
    let asked = |call: &&&Call| matches!(call, Call::Assign { .. } | Call::CreateEni { .. });
    assert_eq!(made.iter().filter(asked).count(), 3, "one assign and two new ENIs: {made:#?}");
    let tickets = world.add_many(60);
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "nobody waits");
}

#[test]
fn nothing_is_asked_for_twice_while_pods_get_their_leases() {
    let mut world = World::of_type(addresses(2, 0), BIG);
    world.event(bound(0..40));
    world.settle();
    let before = writes(&world);
    for n in 0..40 {
        assert_eq!(world.state.numbers(world.now()).demand, 40 - n, "a pod with a lease wants nothing");
        world.add(&format!("p{n}"));
        world.later(Duration::from_millis(100));
        assert_eq!(world.state.numbers(world.now()).supply, 42 - n - 1);
    }
    world.settle();
    assert_eq!(writes(&world), before, "{:?}", world.calls.last());
    // Kubernetes goes on to name them, with their leases.
    world.event(bound(0..40));
    world.minutes(3);
    assert_eq!(writes(&world), before);
    assert_eq!(world.holds().1, 42);
}

#[test]
fn a_pod_that_waits_and_is_bound_counts_once() {
    let mut world = World::of_type(addresses(0, 1), BIG);
    world.add_many(10);
    world.event(bound(0..10));
    let n = world.state.numbers(world.now());
    assert_eq!((n.waiting, n.demand, n.target), (10, 10, 10));
    world.settle();
    assert_eq!(world.holds().1, 10);
}

#[test]
fn demand_that_ends_is_surplus() {
    let mut world = World::of_type(addresses(1, 0), BIG);
    world.event(bound(0..40));
    world.settle();
    assert_eq!(world.holds(), (2, 41, 0));
    world.event(bound(0..0));
    world.minutes(8);
    assert_eq!(world.holds(), (1, 1, 0), "the pods went elsewhere");
}

#[test]
fn warm_by_demand_keeps_one_free_address() {
    let mut world = World::of_type(Policy { warm: Warm::Demand, ..Policy::default() }, BIG);
    world.settle();
    assert_eq!(world.holds(), (1, 1, 0));
    world.event(bound(0..20));
    world.settle();
    assert_eq!(world.holds(), (1, 21, 0));
    world.add_many(20);
    world.minutes(3);
    assert_eq!((world.holds(), world.state.available()), ((1, 21, 0), 1));
    world.del_many(0..20);
    world.event(bound(0..0));
    world.minutes(8);
    assert_eq!(world.holds(), (1, 1, 0));
}

#[test]
fn warm_by_demand_keeps_one_prefix() {
    let policy = Policy { warm: Warm::Demand, prefixes: true, ..Policy::default() };
    let mut world = World::of_type(policy, BIG);
    world.event(bound(0..40));
    world.settle();
    assert_eq!(world.holds(), (1, 0, 3));
    world.event(bound(0..0));
    world.minutes(8);
    assert_eq!(world.holds(), (1, 0, 1));
}

#[test]
fn not_more_is_held_than_pods_that_the_node_can_run() {
    for warm in [Warm::Addresses { warm: 20, minimum: 0 }, Warm::Addresses { warm: 0, minimum: 40 }] {
        let mut world = World::of_type(Policy { warm, max_pods: Some(17), ..Policy::default() }, BIG);
        world.settle();
        assert_eq!(world.holds().1, 17, "{warm:?}");
        world.add_many(10);
        world.minutes(2);
        assert_eq!(world.holds().1, 17, "{warm:?}");
    }
    // A pod that asks is there, whatever the limit says.
    let mut world = World::of_type(Policy { max_pods: Some(3), ..addresses(5, 0) }, BIG);
    let tickets = world.add_many(5);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.holds().1, 5);
}

#[test]
fn a_draining_node_neither_grows_nor_gives_enis_back() {
    let mut world = World::of_type(addresses(2, 0), Limits { enis: 3, addresses_per_eni: 4 });
    world.add_many(5);
    world.settle();
    assert_eq!(world.holds(), (3, 7, 0));
    world.event(Event::Draining(true));
    let tickets: Vec<_> = ["x", "y", "z"].iter().map(|name| world.add_until(name, secs(5))).collect();
    assert!(world.address(tickets[1]).is_some(), "what is free is leased");
    assert_eq!(world.refusal(tickets[2]), Some(&Refusal::NodeDraining), "{:?}", world.replies);
    world.event(bound(0..20));
    world.minutes(2);
    assert_eq!(world.holds(), (3, 7, 0));
    world.event(bound(0..0));
    world.del_many(0..5);
    world.del("x");
    world.del("y");
    world.minutes(10);
    assert_eq!(world.made(|call| matches!(call, Call::Detach { .. })), 0);
    assert_eq!(world.holds().0, 3);
    world.event(Event::Draining(false));
    world.minutes(10);
    assert_eq!(world.holds(), (1, 2, 0), "it takes pods again, and goes on as usual");
}

#[test]
fn a_draining_node_says_that_it_waits_for_what_cools() {
    let mut world = World::of_type(addresses(0, 1), Limits { enis: 1, addresses_per_eni: 2 });
    world.settle();
    world.add("a");
    world.event(Event::Draining(true));
    world.del("a");
    let ticket = world.add("b");
    assert_eq!(world.replies.get(&ticket), None, "an address will have cooled before its deadline");
    world.later(secs(31));
    assert!(world.address(ticket).is_some());
}

#[test]
fn a_draining_node_goes_on_as_usual_where_that_is_asked_for() {
    let policy = Policy { manage_unschedulable: true, ..addresses(2, 0) };
    let mut world = World::of_type(policy, Limits { enis: 3, addresses_per_eni: 4 });
    world.event(Event::Draining(true));
    let tickets = world.add_many(5);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.holds(), (3, 7, 0));
    world.del_many(0..5);
    world.minutes(10);
    assert_eq!(world.holds(), (1, 2, 0));
}

#[test]
fn demand_and_draining_are_told_anew_after_a_restart() {
    let mut world = World::of_type(addresses(1, 0), BIG);
    world.event(Event::Draining(true));
    world.event(Event::Demand(BTreeSet::from([pod("a"), pod("b")])));
    world.settle();
    world.crash();
    assert_eq!(world.state.numbers(world.now()).demand, 0);
    world.settle();
    assert_eq!(world.holds().1, 1, "not draining as far as anybody said");
    let asked = |call: &Call| matches!(call, Call::Assign { ask: Ask::Addresses(1), .. });
    assert_eq!(world.made(asked), 1);
}
