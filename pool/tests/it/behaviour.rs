//! One behaviour per test.

use std::time::Duration;

use pool::{Call, Event, Kind, Limits, Policy, Refusal, Warm};

use crate::world::{Fate, World};

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn addresses(warm: u32, minimum: u32) -> Policy {
    Policy { warm: Warm::Addresses { warm, minimum }, ..Policy::default() }
}

pub(crate) fn made(world: &World, what: impl Fn(&Call) -> bool) -> usize {
    world.calls.iter().filter(|call| what(call)).count()
}

#[test]
fn a_fresh_node_fills_its_primary_eni_in_one_call() {
    let mut world = World::new(Policy::default());
    world.settle();
    let assigned: Vec<_> = world.calls.iter().filter(|call| matches!(call, Call::Assign { .. })).collect();
    assert_eq!(assigned, [&Call::Assign { eni: "eni-0".into(), ask: pool::Ask::Addresses(9) }]);
    assert_eq!(world.state.available(), 9);
    assert_eq!(world.calls.len(), 2, "one read and one assign: {:?}", world.calls);
}

#[test]
fn a_hundred_pods_at_once_are_one_plan() {
    let mut world = World::of_type(addresses(5, 0), Limits { enis: 8, addresses_per_eni: 30 });
    let tickets: Vec<_> = (0..110).map(|n| world.add(&format!("p{n}"))).collect();
    world.settle();
    assert!(
        tickets.iter().all(|ticket| world.address(*ticket).is_some()),
        "{:?}",
        world.replies.values().find(|r| r.is_err())
    );
    assert_eq!(made(&world, |call| matches!(call, Call::Assign { .. })), 1);
    assert_eq!(made(&world, |call| matches!(call, Call::CreateEni { .. })), 3);
    assert!(world.calls.len() <= 16, "{} calls: {:#?}", world.calls.len(), world.calls);
}

#[test]
fn requests_are_served_first_come_first_served() {
    let mut world = World::new(addresses(1, 0));
    let first = world.add("first");
    let second = world.add("second");
    world.settle();
    assert!(world.address(first) < world.address(second));
}

#[test]
fn the_same_add_twice_gets_the_same_answer() {
    let mut world = World::new(addresses(3, 0));
    let before = world.add("a");
    let again = world.add("a");
    world.settle();
    let after = world.add("a");
    assert_eq!(world.address(before), world.address(again));
    assert_eq!(world.address(before), world.address(after));
    assert_eq!(world.state.leases().count(), 1);
    assert_eq!(world.enis["eni-0"].secondary.len(), 4, "three to spare and one for the pod, however often it asked");
}

#[test]
fn a_cooling_address_is_not_handed_out_and_comes_back() {
    let mut world = World::of_type(addresses(0, 1), Limits { enis: 1, addresses_per_eni: 2 });
    world.settle();
    let first = world.add("a");
    let address = world.address(first).expect("served");
    world.del("a");
    assert_eq!(world.state.available(), 0);
    let second = world.add_until("b", secs(10));
    assert!(
        matches!(world.refusal(second), Some(Refusal::CoolingDown { count: 1, .. })),
        "it would wait in vain: {:?}",
        world.replies.get(&second)
    );
    let third = world.add_until("c", secs(45));
    assert_eq!(world.replies.get(&third), None);
    world.later(secs(30));
    assert_eq!(world.address(third), Some(address));
}

#[test]
fn a_full_node_says_which_limit() {
    let mut world = World::new(Policy::default());
    let tickets: Vec<_> = (0..30).map(|n| world.add(&format!("p{n}"))).collect();
    world.settle();
    assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), 27);
    assert_eq!(world.refusal(tickets[29]), Some(&Refusal::EniLimit { limit: 3 }));

    let mut world = World::new(Policy { max_eni: Some(1), ..Policy::default() });
    let tickets: Vec<_> = (0..10).map(|n| world.add(&format!("p{n}"))).collect();
    world.settle();
    assert_eq!(world.refusal(tickets[9]), Some(&Refusal::PolicyCap { setting: "MAX_ENI=1".to_owned() }));
}

#[test]
fn an_exhausted_subnet_is_named_and_what_is_left_is_used() {
    let mut world = World::new(Policy::default());
    world.subnet("subnet-1").free = 3;
    let tickets: Vec<_> = (0..5).map(|n| world.add(&format!("p{n}"))).collect();
    for _ in 0..200 {
        if !world.step() {
            world.later(Duration::from_millis(100));
        }
    }
    assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), 3);
    assert_eq!(world.refusal(tickets[4]), Some(&Refusal::SubnetExhausted { subnet: "subnet-1".into() }));
}

#[test]
fn a_denied_call_is_named() {
    let mut world = World::new(Policy { max_eni: Some(1), ..addresses(1, 0) });
    world.answer(Fate::Answered);
    let ticket = world.add("a");
    world.later(Duration::from_millis(20));
    world.answer(Fate::Refused(Kind::Denied));
    assert_eq!(world.refusal(ticket), Some(&Refusal::Denied { action: "AssignPrivateIpAddresses".to_owned() }));
}

#[test]
fn a_throttled_node_keeps_its_pods_waiting() {
    let mut world = World::new(addresses(1, 0));
    world.answer(Fate::Answered);
    let ticket = world.add("a");
    world.later(Duration::from_millis(20));
    world.answer(Fate::Refused(Kind::Throttled));
    assert_eq!(world.replies.get(&ticket), None);
    world.settle();
    assert!(world.address(ticket).is_some());
}

#[test]
fn releasing_everything_returns_the_node_to_its_minimum() {
    let mut world = World::new(Policy::default());
    for n in 0..20 {
        world.add(&format!("p{n}"));
    }
    world.settle();
    assert_eq!(world.enis.len(), 3);
    for n in 0..20 {
        world.del(&format!("p{n}"));
    }
    for _ in 0..20 {
        world.settle();
        world.later(secs(60));
    }
    assert_eq!(world.enis.keys().collect::<Vec<_>>(), ["eni-0"]);
    assert_eq!(world.state.available(), 9);

    let mut world = World::new(addresses(2, 3));
    for n in 0..20 {
        world.add(&format!("p{n}"));
    }
    world.settle();
    for n in 0..20 {
        world.del(&format!("p{n}"));
    }
    for _ in 0..20 {
        world.settle();
        world.later(secs(60));
    }
    assert_eq!(world.enis.len(), 1);
    assert_eq!(world.enis["eni-0"].secondary.len(), 3);
}

#[test]
fn surplus_stays_for_a_while() {
    let mut world = World::new(addresses(1, 0));
    for n in 0..5 {
        world.add(&format!("p{n}"));
    }
    world.settle();
    for n in 0..5 {
        world.del(&format!("p{n}"));
    }
    world.later(secs(31));
    world.later(secs(50));
    assert_eq!(made(&world, |call| matches!(call, Call::Unassign { .. })), 0);
    world.later(secs(60));
    assert_eq!(made(&world, |call| matches!(call, Call::Unassign { .. })), 1);
}

#[test]
fn a_del_refuses_only_adds_that_started_before_it() {
    let mut world = World::new(addresses(2, 0));
    world.settle();
    world.add("a");
    let started_before = world.now();
    world.later(secs(1));
    world.del("a");
    assert_eq!(world.state.leases().count(), 0);
    let late = pool::Ticket(900);
    world.event(Event::Add(pool::AddRequest {
        ticket: late,
        key: crate::world::key("a"),
        pod: pool::Pod::default(),
        link: "enia".to_owned(),
        netns: String::new(),
        started: started_before,
        deadline: world.now().after(secs(45)),
    }));
    assert_eq!(world.refusal(late), Some(&Refusal::SandboxGone));
    world.later(secs(1));
    let again = world.add("a");
    assert!(world.address(again).is_some());
}

#[test]
fn a_del_does_not_touch_a_lease_whose_add_started_later() {
    let mut world = World::new(addresses(2, 0));
    world.settle();
    let started = world.now();
    world.later(secs(1));
    world.add("a");
    world.event(Event::Del(pool::DelRequest { ticket: None, key: crate::world::key("a"), started }));
    assert_eq!(world.state.leases().count(), 1);
}

#[test]
fn unready_nodes_say_why() {
    let mut world = World::new(Policy::default());
    world.state = pool::State::new(Policy::default());
    world.event(Event::FactsMissing(Refusal::CloudUnreachable { action: "instance metadata".to_owned() }));
    let ticket = world.add("a");
    assert_eq!(world.refusal(ticket), Some(&Refusal::CloudUnreachable { action: "instance metadata".to_owned() }));
}

#[test]
fn enis_that_are_not_ours_are_counted_and_never_touched() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    let mut foreign = world.enis["eni-0"].clone();
    foreign.id = "eni-foreign".into();
    foreign.mac = pool::Mac([2, 9, 9, 9, 9, 9]);
    foreign.tags.insert("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned());
    foreign.attachment.as_mut().expect("attached").device = pool::DeviceIndex(1);
    world.enis.insert("eni-foreign".to_owned(), foreign.clone());
    world.settle();
    assert_eq!(world.enis["eni-foreign"], foreign);
    assert_eq!(world.enis.len(), 3, "one more ENI, at device 2");
    assert_eq!(world.state.available(), 18);
}

#[test]
fn explain_says_where_the_numbers_come_from() {
    let mut world = World::new(Policy::default());
    world.settle();
    world.add("a");
    let explained = world.state.explain(world.now());
    expect_test::expect![[r#"
        target 9: WARM_ENI_TARGET=1: 9 addresses, in whole ENIs, and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 8: 8 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 9: 8 free, 1 leased, 0 cooling, 0 unverified, 0 quarantined
        short 1: target less supply, within the limits
        over 0: supply less target; given back in whole ENIs
        enis at most 3: the instance type; 1 here, 9 places for pods on each"#]]
    .assert_eq(&explained.figures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_became_due_while_the_shell_was_busy_is_not_forgotten() {
    let mut world = World::new(addresses(1, 0));
    world.answer(Fate::Answered);
    let due = world.state.next_wake().expect("the refill waits for others to join it");
    world.at = due.0 + secs(1);
    assert_eq!(world.state.next_wake(), Some(due));
    world.event(Event::Tick);
    assert!(matches!(world.open[0].1, Call::Assign { .. }), "{:?}", world.open);
}

#[test]
fn a_pod_that_comes_or_goes_is_no_news_for_the_kernels_enis() {
    let mut world = World::new(addresses(5, 0));
    world.settle();
    let told = world.reconciled;
    world.add("a");
    world.del("a");
    assert_eq!(world.reconciled, told);
}

#[test]
fn an_adopted_eni_is_used_and_never_let_go() {
    let mut world = World::new(addresses(1, 0));
    let mut adopted = world.enis["eni-0"].clone();
    adopted.id = "eni-adopted".into();
    adopted.mac = pool::Mac([2, 8, 8, 8, 8, 8]);
    adopted.primary = std::net::Ipv4Addr::new(10, 0, 0, 20);
    adopted.attachment.as_mut().expect("attached").device = pool::DeviceIndex(1);
    world.enis.insert("eni-adopted".to_owned(), adopted);
    world.settle();
    for n in 0..12 {
        world.add(&format!("p{n}"));
    }
    world.settle();
    assert!(!world.enis["eni-adopted"].secondary.is_empty(), "it carries pods");
    for n in 0..12 {
        world.del(&format!("p{n}"));
    }
    for _ in 0..10 {
        world.settle();
        world.later(secs(60));
    }
    let state = world.state.enis().find(|eni| eni.record.id.as_str() == "eni-adopted").map(|eni| &eni.record.state);
    assert_eq!(state, Some(&pool::EniState::Ready));
    assert_eq!(
        made(&world, |call| matches!(call, Call::Detach { .. } | Call::Delete { .. } | Call::Protect { .. })),
        0
    );
}
