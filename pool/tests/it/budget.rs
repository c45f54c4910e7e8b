//! How fast EC2 is asked: buckets, who goes first, and slowing down.

use std::{collections::BTreeMap, time::Duration};

use pool::{Action, Ask, Budget, COALESCE, Call, Event, Kind, Limits, Policy, Refusal, Waits};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, World, pod},
};

/// A node that has so many tokens for an action, and gets another one each ten seconds.
fn with_budget(policy: Policy, action: Action, burst: u32) -> Policy {
    let budgets = BTreeMap::from([(action, Budget { burst, refill: secs(10) })]);
    Policy { budgets, ..policy }
}

fn waits(world: &World, action: Action) -> Waits {
    world.state.budget_waits().find(|(of, _)| *of == action).map(|(_, waits)| waits).unwrap_or_default()
}

fn assigns(world: &World) -> usize {
    world.made(|call| matches!(call, Call::Assign { .. }))
}

/// All that can happen without time passing.
fn at_once(world: &mut World) {
    while world.step() {}
}

const ASSIGN: Action = Action::AssignPrivateIpAddresses;

#[test]
fn a_call_beyond_the_budget_comes_when_there_is_a_token_and_asks_for_what_is_missing_then() {
    let mut world = World::of_type(with_budget(addresses(0, 1), ASSIGN, 1), Limits { enis: 2, addresses_per_eni: 30 });
    world.settle();
    world.later(secs(10));
    let early = world.add_many(3);
    world.later(COALESCE);
    world.step();
    assert_eq!(assigns(&world), 2, "a second token is there: {:?}", world.calls);
    let late: Vec<_> = (3..6).map(|n| world.add(&format!("p{n}"))).collect();
    world.later(COALESCE);
    assert_eq!(assigns(&world), 2, "and no third one");
    let explained = world.state.explain(world.now());
    assert!(explained.next.iter().any(|next| next.what == "AssignPrivateIpAddresses goes on"), "{explained:#?}");
    assert!(format!("{explained:?}").contains("BERTH_EC2_BUDGET"), "{explained:#?}");
    assert!(matches!(explained.held, Some(Refusal::Throttled { .. })), "{explained:#?}");
    let wake = world.state.next_wake().expect("it waits for a token");
    world.later(secs(1));
    let last = world.add("last");
    let wait = wake.0.saturating_sub(world.at) + COALESCE;
    world.later(wait);
    world.later(COALESCE);
    assert!(matches!(world.calls.last(), Some(Call::Assign { ask: Ask::Addresses(4), .. })), "{:?}", world.calls);
    world.settle();
    assert!(early.into_iter().chain(late).chain([last]).all(|ticket| world.address(ticket).is_some()));
    let waited = waits(&world, ASSIGN);
    assert!(waited.calls == 1 && waited.total >= secs(9) && waited.total <= secs(11), "{waited:?}");
}

#[test]
fn a_pod_that_no_token_comes_in_time_for_is_told_so() {
    let mut world = World::new(with_budget(addresses(0, 1), ASSIGN, 1));
    world.settle();
    let short = world.add("has-the-one-address");
    assert!(world.address(short).is_some());
    world.add("takes-the-token");
    world.later(COALESCE);
    world.settle();
    let hopeless = world.add_until("cannot-wait", secs(2));
    world.later(COALESCE);
    let refusal = world.refusal(hopeless).expect("told at once: the token comes later than its deadline");
    assert_eq!(*refusal, Refusal::Throttled { action: ASSIGN.name().to_owned() });
}

#[test]
fn the_last_tokens_are_for_pods_that_wait() {
    let mut world = World::of_type(with_budget(addresses(4, 0), ASSIGN, 4), Limits { enis: 1, addresses_per_eni: 60 });
    // Three of four tokens go into warming up for one pod after the other; each leaves a quarter of the bucket.
    world.settle();
    for n in 0..3 {
        world.add(&format!("p{n}"));
        world.later(COALESCE);
        at_once(&mut world);
    }
    let before = assigns(&world);
    assert_eq!(before, 3, "{:?}", world.calls);
    let explained = world.state.explain(world.now());
    assert!(explained.next.iter().any(|next| next.what == "AssignPrivateIpAddresses goes on"), "{explained:#?}");
    // Pods that no free address is left for have the last one.
    for n in 3..8 {
        world.add(&format!("p{n}"));
    }
    world.later(COALESCE);
    assert_eq!(assigns(&world), before + 1, "{:?}", world.calls);
}

#[test]
fn demand_is_as_urgent_as_pods_that_wait() {
    let mut world = World::of_type(with_budget(addresses(1, 0), ASSIGN, 4), Limits { enis: 1, addresses_per_eni: 60 });
    world.settle();
    for n in 0..2 {
        world.add(&format!("p{n}"));
        world.later(COALESCE);
        at_once(&mut world);
    }
    let before = assigns(&world);
    world.event(Event::Demand((0..9).map(|n| pod(&format!("bound{n}"))).collect()));
    world.later(COALESCE);
    assert_eq!(assigns(&world), before + 1, "{:?}", world.calls);
}

#[test]
fn giving_back_leaves_half_of_the_tokens() {
    let unassign = Action::UnassignPrivateIpAddresses;
    let mut policy = with_budget(addresses(0, 1), unassign, 4);
    policy.cooling = secs(1);
    let mut world = World::of_type(policy, Limits { enis: 1, addresses_per_eni: 60 });
    world.settle();
    world.add_many(6);
    world.settle();
    let given = |world: &World| world.made(|call| matches!(call, Call::Unassign { .. }));
    for n in 0..4 {
        world.del(&format!("p{n}"));
        world.minutes(2);
    }
    assert!(given(&world) >= 3, "with time for new tokens in between: {:?}", world.calls);
    assert_eq!(world.holds().1, 2);
}

#[test]
fn throttling_slows_an_action_down_more_each_time_and_no_other_action() {
    let mut world = World::of_type(addresses(0, 1), Limits { enis: 4, addresses_per_eni: 4 });
    world.settle();
    world.refusing.insert(ASSIGN, Kind::Throttled);
    // The pod stays in the queue: a node that may try again is no reason to send it away.
    world.luck = 0xffff_0000;
    world.add_until("a", secs(100_000));
    world.add_until("b", secs(100_000));
    world.later(COALESCE);
    let mut gaps = Vec::new();
    for _ in 0..11 {
        while world.open.front().is_none_or(|(_, call)| call.action() != ASSIGN) {
            let wake = world.state.next_wake().expect("it will try again");
            if wake.0 > world.at {
                gaps.push(wake.0.saturating_sub(world.at));
            }
            world.at = wake.0;
            world.event(Event::Tick);
        }
        world.answer(Fate::Answered);
    }
    let seconds: Vec<u64> =
        gaps.iter().map(|gap| (*gap + Duration::from_millis(500)).as_secs()).filter(|gap| *gap > 0).collect();
    assert_eq!(seconds, [10, 20, 40, 48, 48, 48, 48, 48, 48, 48], "with the worst of luck");
    // With the best of luck it is half of that: a fleet is spread over the other half.
    world.luck = 0;
    world.refusing.clear();
    world.minutes(5);
    assert_eq!(world.state.leases().count(), 2);
}

#[test]
fn what_ec2_accepts_makes_an_action_faster_again() {
    let mut world = World::of_type(addresses(1, 0), Limits { enis: 1, addresses_per_eni: 60 });
    world.settle();
    world.luck = 0xffff_0000;
    world.refusing.insert(ASSIGN, Kind::Throttled);
    world.add_until("first", secs(100_000));
    world.later(COALESCE);
    for _ in 0..4 {
        world.answer(Fate::Answered);
        let wake = world.state.next_wake().expect("it will try again");
        world.at = wake.0;
        world.event(Event::Tick);
        world.later(COALESCE);
    }
    world.refusing.clear();
    // Within 48 s now: after one accepted call nothing is held back any more.
    let mut waits = Vec::new();
    for n in 0..6 {
        world.add_until(&format!("p{n}"), secs(100_000));
        let begun = world.at;
        world.settle();
        waits.push(world.since(begun).as_secs());
    }
    assert!(waits.iter().all(|wait| *wait == 0), "{waits:?}");
}

#[test]
fn a_burst_of_new_enis_stays_within_the_tokens_for_creating_and_for_attaching_them() {
    let few = Limits { enis: 5, addresses_per_eni: 4 };
    let creates = |world: &World| world.made(|call| matches!(call, Call::CreateEni { .. }));
    for action in [Action::CreateNetworkInterface, Action::AttachNetworkInterface] {
        let mut world = World::of_type(with_budget(addresses(0, 1), action, 2), few);
        world.settle();
        world.later(secs(60));
        world.add_many(14);
        world.later(COALESCE);
        assert_eq!(creates(&world), 2, "{action}: {:?}", world.calls);
        for _ in 0..40 {
            at_once(&mut world);
            world.later(secs(1));
        }
        assert_eq!((creates(&world), world.state.leases().count()), (4, 14), "{action}");
        assert_eq!(world.over_limit, 0);
    }
}
