//! Budgets, groups and reasons together: what starves, what is forgotten, and what a pod is told meanwhile.

use std::{collections::BTreeSet, time::Duration};

use pool::{Action, Budget, COALESCE, Call, Event, Kind, Limits, Policy, Refusal};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, PRIMARY, World},
};

fn with(policy: Policy, action: Action, burst: u32, refill: Duration) -> Policy {
    let mut policy = policy;
    policy.budgets.insert(action, Budget { burst, refill });
    policy
}

fn at_once(world: &mut World) {
    while world.step() {}
}

/// Time passes, by wakes alone.
fn pass(world: &mut World, time: Duration) {
    let end = world.at + time;
    loop {
        at_once(world);
        match world.state.next_wake().filter(|wake| wake.0 < end) {
            Some(wake) => world.at = wake.0.max(world.at),
            None => break,
        }
        world.event(Event::Tick);
    }
    world.at = end;
    world.event(Event::Tick);
    at_once(world);
}

/// 1. Groups change, the answer to the call is lost after its effect, and the groups change back: the ENI keeps what nobody wants.
#[test]
fn groups_that_go_back_while_an_answer_is_lost_are_set_back() {
    for restart in [false, true] {
        let mut world = World::of_type(addresses(6, 0), Limits { enis: 3, addresses_per_eni: 4 });
        world.settle();
        let ours = world.enis.keys().find(|id| *id != PRIMARY).expect("one of ours").clone();
        world.groups = vec!["sg-2".into()];
        world.facts();
        world.answer(Fate::LostAfter);
        world.groups = vec!["sg-1".into()];
        if restart {
            world.crash();
        } else {
            world.facts();
        }
        world.minutes(120);
        assert_eq!(world.enis[&ours].groups, BTreeSet::from(["sg-1".into()]), "restart: {restart}");
    }
}

/// 2. An ENI cannot be attached since EC2 throttles attaches: its pod is told so, and not that a refill is under way.
#[test]
fn a_pod_whose_eni_cannot_be_attached_for_throttling_is_told_so() {
    let mut world = World::of_type(addresses(0, 0), Limits { enis: 3, addresses_per_eni: 2 });
    world.settle();
    world.refusing.insert(Action::AttachNetworkInterface, Kind::Throttled);
    world.add("a");
    at_once(&mut world);
    let waits = world.add("b");
    pass(&mut world, secs(60));
    let throttled = Refusal::Throttled { action: "AttachNetworkInterface".to_owned() };
    assert_eq!(world.refusal(waits), Some(&throttled));
}

/// 2. The same for want of a token, and at once where it comes too late.
#[test]
fn a_pod_whose_enis_token_comes_too_late_is_told_so_at_once() {
    let attach = Action::AttachNetworkInterface;
    let policy = with(addresses(0, 0), attach, 1, Duration::from_hours(1));
    let mut world = World::of_type(policy, Limits { enis: 3, addresses_per_eni: 2 });
    world.settle();
    let pods = world.add_many(3);
    pass(&mut world, secs(2));
    assert_eq!(world.refusal(pods[2]), Some(&Refusal::Throttled { action: attach.name().to_owned() }));
}

/// 3. A create that a pod waits for is repeated with the last tokens, like the first time.
#[test]
fn a_lost_create_that_a_pod_waits_for_is_as_urgent_as_the_first_time() {
    let policy = with(addresses(0, 0), Action::CreateNetworkInterface, 4, secs(60));
    let mut world = World::of_type(policy, Limits { enis: 15, addresses_per_eni: 2 });
    world.settle();
    for n in 0..4 {
        world.add(&format!("p{n}"));
        at_once(&mut world);
        pass(&mut world, Duration::from_millis(100));
    }
    assert_eq!(world.state.leases().count(), 4);
    world.add_until("late", secs(40));
    world.later(COALESCE);
    assert!(matches!(world.open.front(), Some((_, Call::CreateEni { .. }))), "{:?}", world.open);
    world.answer(Fate::LostAfter);
    let begun = world.at;
    let lost = |world: &World| world.state.intents().any(|intent| intent.doubt.is_some());
    for n in 0..30 {
        world.add_until(&format!("n{n}"), secs(50));
        pass(&mut world, secs(20));
        if !lost(&world) {
            break;
        }
    }
    assert!(!lost(&world) && world.since(begun) <= secs(80), "not asked again for {:?}", world.since(begun));
}

/// 4. What EC2 refuses for another reason was not throttled: halving what is asked of a small subnet is not slowed.
#[test]
fn what_ec2_refuses_for_another_reason_is_not_throttled() {
    let mut world = World::of_type(addresses(0, 0), Limits { enis: 1, addresses_per_eni: 20 });
    world.settle();
    world.luck = 0xffff_0000;
    world.subnet("subnet-1").free = 1;
    world.refusing.insert(Action::AssignPrivateIpAddresses, Kind::Throttled);
    let pods: Vec<_> = (0..16).map(|n| world.add_until(&format!("p{n}"), secs(4_000))).collect();
    pass(&mut world, secs(5));
    world.refusing.clear();
    pass(&mut world, secs(20));
    assert!(pods.iter().any(|pod| world.address(*pod).is_some()), "{:#?}", world.state.explain(world.now()));
}

/// 5. That a call about groups was open when the daemon died says nothing about addresses.
#[test]
fn an_open_call_about_groups_makes_no_address_unverified() {
    let mut world = World::of_type(addresses(3, 0), Limits { enis: 2, addresses_per_eni: 4 });
    world.add_many(2);
    world.settle();
    let available = world.state.available();
    world.groups = vec!["sg-9".into()];
    world.facts();
    world.refusing.insert(Action::DescribeNetworkInterfaces, Kind::Denied);
    world.crash();
    world.settle();
    assert_eq!(world.state.available(), available);
}

/// 6. A lost assign is looked up, which takes no token for another one: its pod waits.
#[test]
fn a_pod_waits_for_a_lost_assign_also_when_no_other_could_be_made() {
    let policy = with(addresses(0, 0), Action::AssignPrivateIpAddresses, 1, Duration::from_hours(1));
    let mut world = World::of_type(policy, Limits { enis: 1, addresses_per_eni: 20 });
    at_once(&mut world);
    let pod = world.add("a");
    world.later(COALESCE);
    let before = world.enis[PRIMARY].clone();
    world.answer(Fate::LostAfter);
    let after = world.enis.insert(PRIMARY.to_owned(), before).expect("there");
    world.step();
    world.enis.insert(PRIMARY.to_owned(), after);
    pass(&mut world, secs(20));
    assert!(world.address(pod).is_some(), "{:?}", world.replies);
}

/// 6. A create was lost and the bucket is empty: its pod waits for a token that comes in time.
#[test]
fn a_pod_waits_for_the_token_of_a_lost_creates_repetition() {
    let policy = with(addresses(0, 0), Action::CreateNetworkInterface, 1, secs(5));
    let mut world = World::of_type(policy, Limits { enis: 3, addresses_per_eni: 2 });
    world.settle();
    world.add("a");
    pass(&mut world, secs(1));
    let pod = world.add("b");
    world.later(COALESCE);
    assert!(matches!(world.open.front(), Some((_, Call::CreateEni { .. }))), "{:?}", world.open);
    world.answer(Fate::LostAfter);
    pass(&mut world, secs(20));
    assert!(world.address(pod).is_some(), "{:?}", world.replies);
}
