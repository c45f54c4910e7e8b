//! Prefix delegation: /28s by need, single addresses where there are none, both on one ENI, and the mode switched under running pods.

use std::{collections::BTreeMap, net::Ipv4Addr};

use pool::{Ask, Call, Kind, Limits, Policy, Refusal, Warm};

use crate::{
    behaviour::secs,
    world::{Fate, World},
};

fn prefixes(warm: Warm) -> Policy {
    Policy { warm, prefixes: true, ..Policy::default() }
}

fn by_address(warm: u32) -> Warm {
    Warm::Addresses { warm, minimum: 0 }
}

/// What was asked for, in order.
fn asks(world: &World) -> Vec<(&'static str, Ask)> {
    let ask = |call: &Call| match call {
        Call::Assign { ask, .. } => Some(("assign", *ask)),
        Call::CreateEni { ask, .. } => Some(("create", *ask)),
        _ => None,
    };
    world.calls.iter().filter_map(ask).collect()
}

fn leases(world: &World) -> BTreeMap<String, Ipv4Addr> {
    let address = |lease: &pool::Lease| lease.attachments[0].addresses[0];
    world.state.leases().map(|lease| (lease.key.container.clone(), address(lease))).collect()
}

#[test]
fn prefixes_are_asked_for_by_need_in_one_call() {
    for (pods, warm, asked) in [(0, 5, 1), (11, 5, 1), (12, 5, 2), (40, 5, 3), (40, 0, 3), (0, 17, 2)] {
        let mut world = World::of_type(prefixes(by_address(warm)), Limits { enis: 3, addresses_per_eni: 10 });
        world.add_many(pods);
        world.settle();
        assert_eq!(asks(&world), [("assign", Ask::Prefixes(asked))], "{pods} pods, WARM_IP_TARGET={warm}");
    }
}

#[test]
fn a_new_eni_is_created_with_the_prefixes_that_are_missing() {
    let mut world = World::new(prefixes(by_address(5)));
    let tickets = world.add_many(155);
    world.settle();
    assert_eq!(asks(&world), [("assign", Ask::Prefixes(9)), ("create", Ask::Prefixes(1))]);
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.holds(), (2, 0, 10));
}

#[test]
fn warm_prefixes_are_whole_ones() {
    let mut world = World::new(prefixes(Warm::Prefixes(2)));
    world.settle();
    assert_eq!(world.holds(), (1, 0, 2));
    world.add("a");
    world.settle();
    assert_eq!(world.holds(), (1, 0, 3), "two are free again");
}

/// Amazon-vpc-cni asks for as many as are not free, also when fewer addresses are missing.
#[test]
fn warm_prefixes_are_ones_that_nobody_uses() {
    let mut world = World::new(prefixes(by_address(1)));
    world.add_many(17);
    world.settle();
    world.del_many(1..16);
    world.later(secs(31));
    assert_eq!(world.holds(), (1, 0, 2), "each with one pod");
    world.crash_into(prefixes(Warm::Prefixes(2)));
    world.settle();
    assert_eq!(world.holds(), (1, 0, 4), "two addresses are short, and two prefixes");
}

#[test]
fn without_an_aligned_28_single_addresses_come_and_it_is_said_once() {
    let mut world = World::new(prefixes(by_address(5)));
    world.subnet("subnet-1").prefixes = 0;
    let tickets = world.add_many(10);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    let made = asks(&world);
    assert_eq!(made[0], ("assign", Ask::Prefixes(1)));
    let singles: Vec<_> = made.iter().filter(|(_, ask)| matches!(ask, Ask::Addresses(_))).collect();
    assert_eq!(singles[0], &("assign", Ask::Addresses(9)), "the ENI is filled in one call: {made:?}");
    let waits = world.state.explain(world.now()).next;
    assert!(
        waits.iter().any(|next| next.what == "assigning prefixes in subnet-1 goes on" && next.why.is_some()),
        "{waits:?}"
    );
    let (held, calls) = (world.holds(), world.calls.len());
    world.minutes(600);
    assert_eq!(world.told(), ["PrefixFragmented"], "once in ten hours of trying");
    let tried = asks(&world).iter().filter(|(_, ask)| matches!(ask, Ask::Prefixes(_))).count();
    assert!((8..=12).contains(&tried), "a node at rest tried prefixes {tried} times in ten hours");
    assert_eq!((world.holds(), world.calls.len()), (held, calls + tried - 1), "and nothing else");
}

#[test]
fn prefixes_are_taken_again_when_there_are_some() {
    let mut world = World::new(prefixes(by_address(5)));
    world.subnet("subnet-1").prefixes = 0;
    world.add_many(3);
    world.settle();
    let pods = leases(&world);
    assert_eq!(world.holds(), (1, 8, 0));
    world.subnet("subnet-1").prefixes = 4;
    world.minutes(75);
    assert_eq!(world.holds(), (1, 3, 1), "the pods' own addresses and one prefix, on one ENI");
    assert_eq!(leases(&world), pods);
    let next = world.add("next");
    assert!(world.address(next).is_some_and(|address| address.octets()[1] == 8), "out of the prefix");
    world.del_many(0..3);
    world.minutes(15);
    assert_eq!(world.holds(), (1, 0, 1), "nothing is left of the fallback");
    world.subnet("subnet-1").prefixes = 0;
    world.add_many(20);
    world.settle();
    assert_eq!(world.told(), ["PrefixFragmented", "PrefixFragmented"], "each time that it begins");
}

#[test]
fn whatever_ec2_has_against_prefixes_single_addresses_can_be_had() {
    let mut world = World::new(prefixes(by_address(5)));
    world.answer(Fate::Answered);
    let ticket = world.add("a");
    world.later(secs(1));
    assert!(matches!(world.open[0].1, Call::Assign { ask: Ask::Prefixes(1), .. }));
    world.answer(Fate::Refused(Kind::Invalid));
    world.settle();
    assert!(world.address(ticket).is_some());
    assert_eq!(world.told(), Vec::<&str>::new(), "it is not the subnet's fault");
}

#[test]
fn a_subnet_with_neither_prefixes_nor_addresses_is_exhausted() {
    let mut world = World::new(prefixes(by_address(5)));
    (world.subnet("subnet-1").prefixes, world.subnet("subnet-1").free) = (0, 0);
    let ticket = world.add("a");
    for _ in 0..40 {
        if !world.step() {
            world.later(pool::COALESCE);
        }
    }
    assert_eq!(world.refusal(ticket), Some(&Refusal::SubnetExhausted { subnet: "subnet-1".into() }));
}

#[test]
fn only_whole_free_prefixes_go_back() {
    let mut world = World::new(prefixes(by_address(1)));
    world.add_many(40);
    world.settle();
    assert_eq!(world.holds(), (1, 0, 3));
    // One pod stays in each prefix.
    let mut stay: BTreeMap<u32, String> = BTreeMap::new();
    for (pod, address) in leases(&world) {
        stay.entry(u32::from(address) / 16).or_insert(pod);
    }
    assert_eq!(stay.len(), 3);
    for pod in leases(&world).into_keys().filter(|pod| !stay.values().any(|stays| stays == pod)) {
        world.del(&pod);
    }
    world.minutes(10);
    assert_eq!(world.holds(), (1, 0, 3), "each prefix has a pod");
    let goes = stay.into_values().next().expect("three");
    world.del(&goes);
    world.later(secs(29));
    assert_eq!(world.made(|call| matches!(call, Call::Unassign { .. })), 0, "it cools");
    world.minutes(5);
    assert_eq!(world.holds(), (1, 0, 2));
    let given_back: Vec<_> = world.calls.iter().filter(|call| matches!(call, Call::Unassign { .. })).collect();
    assert!(
        matches!(given_back[..], [Call::Unassign { addresses, prefixes, .. }] if addresses.is_empty() && prefixes.len() == 1)
    );
}

#[test]
fn new_pods_fill_the_fullest_prefix_so_that_others_empty() {
    let mut world = World::new(prefixes(by_address(1)));
    world.add_many(40);
    world.settle();
    world.del_many(3..40);
    world.later(secs(31));
    // There is surplus now: the next pods go where pods are.
    for n in 0..8 {
        let ticket = world.add(&format!("new{n}"));
        assert!(world.address(ticket).is_some());
    }
    let used: std::collections::BTreeSet<_> = leases(&world).values().map(|address| u32::from(*address) / 16).collect();
    assert_eq!(used.len(), 1, "{:?}", leases(&world));
}

#[test]
fn switched_on_a_node_full_of_free_addresses_reaches_the_density_of_prefixes() {
    let mut world = World::new(Policy { warm: Warm::Enis(3), ..Policy::default() });
    world.settle();
    assert_eq!(world.holds(), (3, 27, 0), "all places are taken");
    world.crash_into(prefixes(by_address(5)));
    world.minutes(10);
    let (_, singles, prefixes) = world.holds();
    assert_eq!((singles, prefixes), (0, 1), "what is not of the wanted kind has gone");
    let tickets = world.add_many(110);
    world.settle();
    assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), 110);
    assert_eq!(world.over_limit, 0);
}

#[test]
fn free_addresses_stay_until_prefixes_are_there() {
    let mut world = World::new(Policy { warm: by_address(5), ..Policy::default() });
    world.settle();
    world.refusing.insert(pool::Action::AssignPrivateIpAddresses, Kind::Denied);
    world.refusing.insert(pool::Action::CreateNetworkInterface, Kind::Denied);
    world.crash_into(prefixes(by_address(5)));
    world.minutes(10);
    assert_eq!((world.holds(), world.state.available()), ((1, 5, 0), 5), "they are all there is");
    world.refusing.clear();
    world.minutes(10);
    assert_eq!(world.holds(), (1, 0, 1));
}

#[test]
fn switched_on_and_off_no_running_pod_is_touched() {
    let singles = Policy { warm: by_address(3), ..Policy::default() };
    let mut world = World::new(singles.clone());
    world.add_many(12);
    world.settle();
    let first = leases(&world);
    assert_eq!(world.holds(), (2, 15, 0));

    world.crash_into(prefixes(by_address(3)));
    world.minutes(10);
    assert_eq!(leases(&world), first);
    let (_, held, whole) = world.holds();
    assert_eq!((held, whole), (12, 1), "the pods' addresses stay, the free ones went, one prefix came");
    for n in 0..9 {
        world.add(&format!("new{n}"));
    }
    world.settle();
    let both = leases(&world);
    assert!(first.iter().all(|(pod, address)| both.get(pod) == Some(address)));

    world.crash_into(singles);
    world.minutes(10);
    assert_eq!(leases(&world), both);
    let (_, held, whole) = world.holds();
    assert_eq!((held, whole), (15, 1), "three free single ones; the prefix has pods");
    for n in 0..9 {
        world.del(&format!("new{n}"));
    }
    world.minutes(10);
    assert_eq!(leases(&world), first);
    assert_eq!(world.holds(), (2, 15, 0), "as if it had never been on");
    assert_eq!(world.over_limit, 0, "no ENI was ever asked to hold more than it can");
}

#[test]
fn switched_on_a_node_full_of_pods_changes_as_they_go() {
    let mut world = World::new(Policy { warm: by_address(1), ..Policy::default() });
    world.add_many(27);
    world.settle();
    world.crash_into(prefixes(by_address(1)));
    world.minutes(3);
    assert_eq!(world.holds(), (3, 27, 0), "every place has a pod");
    assert_eq!(world.state.explain(world.now()).held, Some(Refusal::EniLimit { limit: 3 }));
    world.del("p0");
    world.minutes(5);
    assert_eq!(world.holds(), (3, 26, 1), "the first place that came free is a prefix now");
    let tickets: Vec<_> = (0..16).map(|n| world.add(&format!("new{n}"))).collect();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.over_limit, 0);
}
