//! What a reviewer who wanted to break the pool has found, each as small as it gets.

use std::{collections::BTreeSet, time::Duration};

use pool::{Action, Answer, Call, Event, Kind, Limits, Policy, Refusal, SeenEni, Warm};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, World, key},
};

/// EC2 lost an address while it cooled: nobody else gets it.
#[test]
fn a_cooling_address_that_ec2_does_not_show_is_not_leased_again() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    let ticket = world.add("a");
    let lost = world.address(ticket).expect("served");
    world.del("a");
    world.enis.get_mut("eni-0").expect("there").secondary.retain(|held| *held != lost);
    world.crash();
    world.minutes(2);
    let tickets = world.add_many(8);
    world.settle();
    // The world looks whether EC2 has what is leased.
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
}

/// Being used by something else and no longer so is no confirmation by EC2.
#[test]
fn an_unverified_address_does_not_become_free_by_being_foreign_for_a_while() {
    let mut world = World::new(addresses(2, 0));
    world.settle();
    let (_, lost) = world.state.allocate().expect("one is free");
    world.enis.get_mut("eni-0").expect("there").secondary.retain(|held| *held != lost);
    world.crash();
    world.step();
    world.event(Event::Foreign(BTreeSet::from([lost])));
    world.event(Event::Foreign(BTreeSet::new()));
    world.minutes(2);
    // The world looks whether EC2 has what is leased.
    world.add_many(8);
    world.settle();
}

#[test]
fn an_add_that_gets_its_lease_again_begins_the_grace_anew() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    let first = world.add("a");
    world.later(secs(600));
    world.event(Event::Sandboxes(BTreeSet::new()));
    world.later(secs(59));
    let again = world.add("a");
    assert_eq!(world.address(again), world.address(first));
    world.later(secs(1));
    world.event(Event::Sandboxes(BTreeSet::new()));
    assert!(world.state.lease(&key("a")).is_some(), "its link is being made: {:?}", world.told());
}

/// Six pods gone, their addresses being given back: two new ones wait for that, or for others.
#[test]
fn a_pod_waits_for_what_is_being_given_back() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.add_many(8);
    world.settle();
    world.del_many(0..6);
    while !world.open.iter().any(|(_, call)| matches!(call, Call::Unassign { .. })) {
        world.later(secs(5));
    }
    let tickets = [world.add("x"), world.add("y"), world.add("z")];
    assert!(tickets.iter().all(|ticket| world.refusal(*ticket).is_none()), "{:?}", world.replies);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
}

#[test]
fn a_denied_detach_strands_no_eni() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.add_many(26);
    world.settle();
    world.refusing.insert(Action::DetachNetworkInterface, Kind::Denied);
    world.del_many(0..26);
    world.minutes(30);
    let tickets: Vec<_> = (0..20).map(|n| world.add(&format!("n{n}"))).collect();
    world.minutes(3);
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "{:#?}", world.state.explain(world.now()));
}

/// Somebody detached and deleted an ENI of ours by hand: its link goes, and EC2 is asked.
#[test]
fn an_eni_whose_link_goes_is_looked_at() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    world.add_many(10);
    world.settle();
    let lost = world.enis.keys().find(|eni| *eni != "eni-0").expect("a second one").clone();
    world.del_many(0..10);
    world.later(secs(40));
    world.enis.remove(&lost);
    world.event(Event::LinkGone(lost.as_str().into()));
    world.minutes(10);
    assert!(!world.state.enis().any(|eni| eni.record.id.as_str() == lost), "it is known to be gone");
}

#[test]
fn refused_creates_are_asked_more_and_more_rarely_whatever_ec2_says() {
    for kind in [Kind::Conflict, Kind::Gone, Kind::AddressLimit, Kind::TokenMismatch, Kind::InstanceEniLimit] {
        let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
        world.refusing.insert(Action::CreateNetworkInterface, kind);
        world.minutes(60);
        let creates = world.calls.iter().filter(|call| matches!(call, Call::CreateEni { .. })).count();
        assert!((1..=150).contains(&creates), "{kind:?}: {creates} creates in an hour");
    }
}

#[test]
fn a_create_and_an_unassign_that_are_never_answered_are_asked_more_and_more_rarely() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    let until = world.at + secs(3600);
    while world.at < until {
        while let Some((_, call)) = world.open.front() {
            let lost = matches!(call, Call::CreateEni { .. });
            world.answer(if lost { Fate::LostBefore } else { Fate::Answered });
        }
        world.later(secs(1));
    }
    let creates = world.calls.iter().filter(|call| matches!(call, Call::CreateEni { .. })).count();
    assert!(creates <= 200, "{creates} new creates in an hour");
}

#[test]
fn a_tag_of_nonsense_ends_nobody() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    let left = world.attached_by_hand("eni-left", 7);
    left.attachment = None;
    left.tags.insert("node.k8s.amazonaws.com/instance_id".to_owned(), "i-9".to_owned());
    let when = "2026-11-21T12:05:00-9999999999999999:00".to_owned();
    left.tags.insert("node.k8s.amazonaws.com/createdAt".to_owned(), when);
    world.minutes(130);
}

#[test]
fn targets_beyond_everything_are_only_never_reached() {
    for warm in [Warm::Addresses { warm: u32::MAX, minimum: u32::MAX }, Warm::Prefixes(u32::MAX), Warm::Enis(u32::MAX)]
    {
        let mut world = World::new(Policy { warm, prefixes: matches!(warm, Warm::Prefixes(_)), ..Policy::default() });
        let ticket = world.add("a");
        world.settle();
        assert!(world.address(ticket).is_some(), "{warm:?}");
    }
}

/// ENIs that cannot be deleted keep nothing that a new one needs.
#[test]
fn slots_do_not_run_out_while_deletes_are_denied() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.refusing.insert(Action::DeleteNetworkInterface, Kind::Denied);
    for round in 0..70 {
        let tickets = world.add_many(12);
        world.minutes(1);
        assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "round {round}");
        world.del_many(0..12);
        world.minutes(7);
    }
}

#[test]
fn an_eni_that_a_list_leaves_out_takes_no_new_pods_before_it_is_read() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    world.crash();
    let (id, call) = world.open.pop_front().expect("the list");
    assert!(matches!(call, Call::Discover { .. }));
    world.event(Event::LinkReady("eni-0".into()));
    world.event(Event::Answered(id, Ok(Answer::Discovered(Vec::<SeenEni>::new()))));
    let ticket = world.add("b");
    assert_eq!((world.address(ticket), world.state.available()), (None, 0));
    world.settle();
    assert!(world.address(ticket).is_some(), "once it is read by id");
}

#[test]
fn early_reuse_leaves_prefixes_alone_that_ec2_does_not_show() {
    let policy = Policy { prefixes: true, early_reuse: true, warm: Warm::Prefixes(1), ..Policy::default() };
    let mut world = World::of_type(policy, Limits { enis: 1, addresses_per_eni: 2 });
    world.settle();
    world.add("a");
    world.del("a");
    world.enis.get_mut("eni-0").expect("there").prefixes.clear();
    world.crash();
    for _ in 0..6 {
        world.step();
    }
    // The world looks whether EC2 has what is leased.
    world.add("b");
    assert_eq!(world.state.reused_early(), 0);
}

#[test]
fn nothing_is_used_early_while_single_addresses_are_on_their_way() {
    let policy = Policy { prefixes: true, early_reuse: true, ..addresses(1, 0) };
    let mut world = World::new(policy);
    world.subnet("subnet-1").prefixes = 0;
    world.settle();
    world.add_many(3);
    world.settle();
    world.del("p0");
    world.later(secs(1));
    let tickets: Vec<_> = (0..3).map(|n| world.add(&format!("n{n}"))).collect();
    world.later(Duration::from_millis(20));
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.state.reused_early(), 0);
}

/// The reason is the one of the call that is not repeated, not that of a pool that warms up.
#[test]
fn a_create_that_was_lost_and_is_denied_since_is_named() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.add_many(8);
    world.settle();
    let waits = world.add_until("n", secs(300));
    world.add_until("m", secs(300));
    while !world.open.iter().any(|(_, call)| matches!(call, Call::CreateEni { .. })) {
        if world.open.is_empty() { world.later(Duration::from_millis(20)) } else { world.answer(Fate::Answered) }
    }
    world.answer(Fate::LostBefore);
    world.refusing.insert(Action::CreateNetworkInterface, Kind::Denied);
    world.minutes(6);
    let late = world.add("late");
    world.minutes(1);
    assert!(matches!(world.refusal(late), Some(Refusal::Denied { .. })), "{:?} {waits:?}", world.refusal(late));
}
