//! Growing in one step and never over a limit; giving back late, slowly and never soon after growing.

use std::time::Duration;

use pool::{Ask, COALESCE, Call, EniState, Event, Kind, Limits, Policy, Refusal, Warm};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, World},
};

const SMALL: Limits = Limits { enis: 3, addresses_per_eni: 4 };

fn asks(world: &World) -> usize {
    world.made(|call| matches!(call, Call::Assign { .. } | Call::CreateEni { .. }))
}

#[test]
fn requests_within_20_ms_are_one_refill() {
    let mut world = World::new(addresses(0, 1));
    world.settle();
    world.add("first");
    let before = asks(&world);
    for n in 0..5 {
        world.add(&format!("p{n}"));
        world.later(Duration::from_millis(3));
    }
    assert_eq!(asks(&world), before, "it waits for others to join");
    assert_eq!(world.state.next_wake(), Some(pool::BootTime(world.at).after(Duration::from_millis(5))));
    world.later(Duration::from_millis(5));
    assert_eq!(COALESCE, Duration::from_millis(20));
    assert!(
        matches!(world.calls.last(), Some(Call::Assign { ask: Ask::Addresses(5), .. })),
        "{:?}",
        world.calls.last()
    );
}

#[test]
fn what_is_missing_beyond_one_eni_is_created_at_once() {
    let mut world = World::of_type(addresses(1, 0), Limits { enis: 5, addresses_per_eni: 4 });
    world.answer(Fate::Answered);
    world.add_many(11);
    world.later(COALESCE);
    let open: Vec<_> = world.open.iter().map(|(_, call)| call.action().name()).collect();
    assert_eq!(
        open,
        ["AssignPrivateIpAddresses", "CreateNetworkInterface", "CreateNetworkInterface", "CreateNetworkInterface"]
    );
    for _ in 0..4 {
        world.answer(Fate::Answered);
    }
    let attaching = world.open.iter().filter(|(_, call)| matches!(call, Call::Attach { .. })).count();
    assert_eq!(attaching, 3, "they are attached beside each other: {:?}", world.open);
    world.settle();
    assert_eq!(world.state.leases().count(), 11);
    assert_eq!((asks(&world), world.over_limit), (4, 0));
}

#[test]
fn at_most_one_assign_is_in_flight_per_eni() {
    let mut world = World::new(addresses(2, 0));
    world.answer(Fate::Answered);
    world.add("a");
    world.later(COALESCE);
    world.add("b");
    world.later(secs(1));
    assert_eq!(world.open.len(), 1, "{:?}", world.open);
    world.answer(Fate::Answered);
    world.later(secs(1));
    assert!(matches!(world.open[0].1, Call::Assign { ask: Ask::Addresses(1), .. }), "the rest: {:?}", world.open);
}

#[test]
fn what_the_eni_of_an_open_assign_has_no_room_for_is_asked_of_a_new_one_at_once() {
    let mut world = World::new(addresses(0, 1));
    world.answer(Fate::Answered);
    world.add_many(5);
    world.later(COALESCE);
    assert!(matches!(world.open[0].1, Call::Assign { ask: Ask::Addresses(5), .. }));
    for n in 0..10 {
        world.add(&format!("more{n}"));
    }
    world.later(COALESCE);
    let created = world.open.iter().find_map(|(_, call)| match call {
        Call::CreateEni { ask, .. } => Some(*ask),
        _ => None,
    });
    assert_eq!(created, Some(Ask::Addresses(6)), "four places are left on the first");
}

#[test]
fn no_limit_is_passed_whatever_is_attached_already() {
    for (foreign, expected) in [(0, 27), (1, 18), (2, 9)] {
        let mut world = World::new(addresses(1, 0));
        for device in 1..=foreign {
            let eni = world.attached_by_hand(&format!("eni-foreign-{device}"), device);
            eni.tags.insert("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned());
        }
        let tickets = world.add_many(30);
        world.settle();
        assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), expected);
        assert_eq!(world.over_limit, 0, "{foreign} foreign ENIs");
        assert_eq!(world.refusal(tickets[29]), Some(&Refusal::EniLimit { limit: 3 }));
    }
}

#[test]
fn a_limit_that_only_ec2_knows_is_learnt_once() {
    let mut world = World::of_type(addresses(1, 0), SMALL);
    world.enis_allowed = 2;
    let tickets = world.add_many(9);
    world.settle();
    assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), 6);
    assert_eq!(world.refusal(tickets[8]), Some(&Refusal::EniLimit { limit: 2 }));
    let (refused, calls) = (world.over_limit, asks(&world));
    world.add_until("late", secs(1));
    world.minutes(30);
    assert_eq!((world.over_limit, asks(&world)), (refused, calls), "it is not tried again");
    assert_eq!(world.enis.len(), 2, "the ENI that could not be attached is deleted");
    let explained = world.state.explain(world.now());
    assert!(explained.figures.iter().any(|figure| figure.from.starts_with("EC2 refused more")), "{explained:?}");
}

#[test]
fn a_learnt_limit_is_never_below_what_ec2_lets_us_have() {
    let mut world = World::of_type(addresses(1, 0), Limits { enis: 4, addresses_per_eni: 4 });
    world.enis_allowed = 3;
    world.answer(Fate::Answered);
    world.add_many(11);
    while world.open.iter().filter(|(_, call)| matches!(call, Call::Attach { .. })).count() < 3 {
        let attach = world.open.iter().position(|(_, call)| !matches!(call, Call::Attach { .. }));
        match attach {
            Some(at) => {
                world.open.rotate_left(at);
                world.answer(Fate::Answered);
            }
            None => world.later(COALESCE),
        }
    }
    // The third attach is refused before the first two are answered.
    while !matches!(world.open[0].1, Call::Attach { .. }) {
        world.open.rotate_left(1);
    }
    world.answer(Fate::Refused(Kind::InstanceEniLimit));
    world.settle();
    assert_eq!(world.holds().0, 3);
    world.del_many(0..11);
    world.minutes(8);
    assert_eq!(world.holds().0, 1);
    let tickets = world.add_many(9);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "{:?}", world.state.explain(world.now()));
}

#[test]
fn an_eni_on_its_way_out_is_no_reason_to_learn_a_limit() {
    let mut world = World::of_type(addresses(1, 0), SMALL);
    world.add_many(7);
    world.settle();
    assert_eq!(world.holds().0, 3);
    world.del_many(2..7);
    // Until an ENI has just been detached: EC2 counts it for some seconds more.
    while world.made(|call| matches!(call, Call::Detach { .. })) == 0 {
        if !world.step() {
            world.later(secs(1));
        }
    }
    while world.open.iter().any(|(_, call)| matches!(call, Call::Detach { .. })) {
        world.step();
    }
    let tickets: Vec<_> = (0..7).map(|n| world.add(&format!("new{n}"))).collect();
    while !matches!(world.open.front(), Some((_, Call::Attach { .. }))) {
        if world.open.is_empty() {
            world.later(Duration::from_millis(10));
        } else {
            world.answer(Fate::Answered);
        }
    }
    world.answer(Fate::Refused(Kind::InstanceEniLimit));
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "{:?}", world.state.explain(world.now()));
    let most = world.state.explain(world.now()).figures.into_iter().find(|figure| figure.name == "enis at most");
    assert_eq!(most.map(|figure| figure.value), Some(3));
}

#[test]
fn surplus_goes_late_and_not_in_step_with_the_fleet() {
    let mut waits = Vec::new();
    for luck in [0, 0x8000, 0xffff] {
        let mut world = World::new(addresses(1, 0));
        world.add_many(5);
        world.settle();
        world.del_many(0..5);
        world.luck = luck;
        world.later(secs(31));
        let begun = world.at;
        while world.made(|call| matches!(call, Call::Unassign { .. })) == 0 {
            world.later(secs(1));
            assert!(world.since(begun) < secs(100), "surplus never goes");
        }
        waits.push(world.since(begun).as_secs());
    }
    assert_eq!(waits, [60, 76, 90], "a minute, and up to half of it more by luck");
}

#[test]
fn nothing_goes_back_soon_after_growing() {
    let policy = Policy { shrink_after: secs(300), ..addresses(1, 0) };
    let mut world = World::new(policy);
    world.add_many(5);
    world.settle();
    world.del_many(0..5);
    world.later(secs(31));
    // Four minutes of surplus, then a burst that grows, and goes again at once.
    world.later(secs(240));
    for n in 0..8 {
        world.add(&format!("new{n}"));
    }
    world.settle();
    let grown = world.at;
    for n in 0..8 {
        world.del(&format!("new{n}"));
    }
    while world.made(|call| matches!(call, Call::Unassign { .. })) == 0 {
        world.later(secs(1));
        assert!(world.since(grown) < secs(1_000), "surplus never goes");
    }
    assert!(world.since(grown) >= secs(330), "after {:?}: the surplus is counted anew", world.since(grown));
}

#[test]
fn an_eni_drains_and_goes_with_its_addresses_withdrawn_first() {
    let mut world = World::new(Policy { warm: Warm::Enis(1), ..Policy::default() });
    world.add_many(9);
    world.settle();
    assert_eq!(world.holds(), (2, 18, 0));
    world.del_many(0..9);
    let seen = |world: &World| world.state.enis().find(|eni| eni.record.created).map(|eni| eni.record.state.clone());
    let mut states = Vec::new();
    for _ in 0..300 {
        world.later(secs(1));
        while world.open.is_empty() && world.step() {}
        let state = seen(&world);
        if states.last() != Some(&state) {
            states.push(state);
        }
        if let Some((_, Call::Detach { eni, .. })) = world.open.front() {
            let carried = world.carried.iter().find(|carried| carried.eni == *eni);
            assert!(carried.is_none_or(|carried| carried.addresses.is_empty()), "the kernel was told before");
        }
        world.step();
    }
    assert_eq!(
        states,
        [Some(EniState::Ready), Some(EniState::Detaching), Some(EniState::Leaving), None],
        "{:?}",
        world.calls
    );
    assert_eq!(world.enis.len(), 1);
}

#[test]
fn steady_churn_neither_assigns_nor_gives_back() {
    for policy in [addresses(3, 0), Policy::default(), Policy { prefixes: true, ..addresses(3, 0) }] {
        let mut world = World::of_type(policy.clone(), Limits { enis: 4, addresses_per_eni: 15 });
        let (mut calls, mut asked) = (0, Vec::new());
        // A job a second that runs for ten: ten run, thirty cool.
        for second in 0..600_u32 {
            asked.push((world.at, world.add(&format!("p{second}"))));
            for _ in 0..3 {
                world.later(COALESCE);
                while world.step() {}
            }
            if let Some(done) = second.checked_sub(10) {
                world.del(&format!("p{done}"));
            }
            world.at = secs(200 + u64::from(second));
            world.event(Event::Tick);
            asked.retain(|(_, ticket)| world.address(*ticket).is_none());
            let longest = asked.first().map_or(Duration::ZERO, |(at, _)| world.since(*at));
            assert!(longest <= secs(5), "{second} s: somebody waits for {longest:?}");
            if second == 200 {
                calls = world.made(|call| !call.is_read());
            }
        }
        assert_eq!(world.made(|call| !call.is_read()), calls, "{policy:?}");
    }
}

#[test]
fn a_pool_at_rest_asks_for_nothing_but_the_hourly_look() {
    let mut world = World::new(Policy::default());
    world.add_many(12);
    world.minutes(3);
    let calls = world.calls.len();
    world.looks.clear();
    world.minutes(60 * 5);
    assert_eq!(world.calls.len(), calls);
    let of = |what: fn(&Call) -> bool| world.looks.iter().filter(|look| what(look)).count();
    assert_eq!(of(|look| matches!(look, Call::Leaked { .. })), 5, "{:?}", world.looks);
    // What was known of the subnets when the pool last grew has grown old.
    assert!(world.looks.len() <= 6, "{:?}", world.looks);
}
