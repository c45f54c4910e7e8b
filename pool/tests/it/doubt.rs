//! Answers that never came, restarts in the middle of a call, reads that are stale: nothing is asked twice, leased twice or lost.

use std::time::Duration;

use pool::{Call, Event, Kind, Policy, Warm};

use crate::{
    behaviour::{addresses, made, secs},
    world::{Fate, World, key},
};

#[test]
fn a_lost_answer_to_an_assign_is_looked_up_and_never_asked_twice() {
    for fate in [Fate::LostAfter, Fate::LostBefore] {
        let mut world = World::new(addresses(4, 0));
        world.answer(Fate::Answered);
        world.later(Duration::from_millis(20));
        assert!(matches!(world.open[0].1, Call::Assign { ask: pool::Ask::Addresses(4), .. }));
        world.answer(fate);
        world.settle();
        assert_eq!(world.enis["eni-0"].secondary.len(), 4, "{fate:?}");
        assert_eq!(world.state.available(), 4, "{fate:?}");
        let reads = made(&world, |call| matches!(call, Call::Describe { .. }));
        assert!((1..=3).contains(&reads), "{fate:?}: {reads} reads");
        let assigns = made(&world, |call| matches!(call, Call::Assign { .. }));
        assert_eq!(assigns, if fate == Fate::LostAfter { 1 } else { 2 });
    }
}

#[test]
fn a_lost_answer_to_a_create_or_an_attach_leaves_one_eni() {
    for lost in ["create", "attach"] {
        for fate in [Fate::LostAfter, Fate::LostBefore] {
            let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
            while !world.open.iter().any(|(_, call)| match call {
                Call::CreateEni { .. } => lost == "create",
                Call::Attach { .. } => lost == "attach",
                _ => false,
            }) {
                if !world.step() {
                    world.later(Duration::from_millis(20));
                }
            }
            world.open.rotate_right(1);
            while !matches!(world.open[0].1, Call::CreateEni { .. } | Call::Attach { .. }) {
                world.open.rotate_left(1);
            }
            world.answer(fate);
            world.settle();
            assert_eq!(world.enis.len(), 2, "{lost} {fate:?}: {:#?}", world.enis);
            assert_eq!(world.state.available(), 18, "{lost} {fate:?}");
        }
    }
}

#[test]
fn a_restart_keeps_leases_and_serves_free_addresses_before_ec2_answers() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    let before = world.add("a");
    world.settle();
    world.crash();
    let again = world.add("a");
    assert_eq!(world.address(again), world.address(before));
    world.event(Event::LinkReady("eni-0".into()));
    let other = world.add("b");
    assert!(world.address(other).is_some(), "no call was answered since the restart: {:?}", world.open);
}

#[test]
fn a_restart_with_an_open_call_leases_nothing_unconfirmed() {
    let mut world = World::new(addresses(2, 0));
    world.settle();
    world.add("a");
    world.later(Duration::from_millis(20));
    assert!(matches!(world.open[0].1, Call::Assign { .. }));
    assert_eq!(world.state.available(), 1);
    world.crash();
    world.event(Event::LinkReady("eni-0".into()));
    assert_eq!(world.state.available(), 0);
    world.settle();
    assert_eq!(world.state.available(), 2);
}

#[test]
fn one_read_without_an_eni_costs_nobody_anything() {
    let mut world = World::new(addresses(2, 0));
    world.settle();
    let ticket = world.add("a");
    world.settle();
    let hidden = world.enis["eni-0"].clone();
    world.crash();
    world.enis.remove("eni-0").expect("there");
    while let Some((_, Call::Discover { .. } | Call::Describe { .. })) = world.open.front() {
        // The check that every lease is in EC2 does not hold while EC2 hides it.
        let (id, call) = world.open.pop_front().expect("looked at");
        let answer = match call {
            Call::Discover { .. } => pool::Answer::Discovered(Vec::new()),
            _ => pool::Answer::Described(None),
        };
        world.enis.insert("eni-0".to_owned(), hidden.clone());
        world.event(Event::Answered(id, Ok(answer)));
    }
    assert_eq!(world.state.leases().count(), 1);
    assert_eq!(world.state.available(), 0, "nothing is leased from it meanwhile");
    world.settle();
    assert_eq!(world.state.available(), 2);
    let again = world.add("a");
    assert_eq!(world.address(ticket), world.address(again));
}

#[test]
fn a_daemon_without_a_ledger_looks_for_the_primary_eni_until_ec2_shows_it() {
    let mut world = World::new(Policy { max_eni: Some(1), ..addresses(2, 0) });
    world.settle();
    world.crash_without_ledger();
    for answer in [pool::Answer::Discovered(Vec::new()), pool::Answer::Described(None), pool::Answer::Described(None)] {
        while world.open.is_empty() {
            let wake = world.state.next_wake().expect("it is looked for again");
            assert!(wake <= world.now().after(secs(600)), "{wake}");
            world.at = wake.0.max(world.at);
            world.event(Event::Tick);
        }
        let (id, call) = world.open.pop_front().expect("a read");
        assert!(call.is_read(), "{call:?}");
        world.event(Event::Answered(id, Ok(answer)));
    }
    world.open.clear();
    world.minutes(6);
    assert_eq!((world.state.enis().count(), world.holds().1), (1, 2), "the node has what it had");
}

#[test]
fn what_a_lost_assign_brought_is_seen_although_an_eni_that_is_being_deleted_had_it() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.add_many(12);
    world.settle();
    let second = world.enis.keys().find(|id| *id != "eni-0").expect("a second ENI").clone();
    let taken = world.enis[&second].secondary.clone();
    world.del_many(0..12);
    // The second ENI goes, and the answer to its deletion is lost.
    for _ in 0..40 {
        let deleting = matches!(world.open.front(), Some((_, Call::Delete { .. })));
        world.answer(if deleting { Fate::LostAfter } else { Fate::Answered });
        if deleting {
            break;
        }
        let wake = world.state.next_wake().expect("something to give back");
        world.at = wake.0.max(world.at);
        world.event(Event::Tick);
    }
    assert!(!world.enis.contains_key(&second) && world.state.enis().any(|eni| eni.record.id.as_str() == second));
    // EC2 gives what it had to the primary ENI, in a call whose answer is lost.
    world.enis.get_mut("eni-0").expect("there").secondary.extend(taken.iter().copied());
    world.crash();
    world.minutes(1);
    let held: Vec<_> = world.enis["eni-0"].secondary.clone();
    let known = world.state.enis().next().expect("the primary").addresses.len();
    assert_eq!(known, held.len(), "EC2 has {held:?}");
}

#[test]
fn a_stale_read_after_a_lost_answer_is_not_believed() {
    let mut world = World::new(addresses(4, 0));
    world.answer(Fate::Answered);
    let before = world.enis["eni-0"].clone();
    world.later(Duration::from_millis(20));
    world.answer(Fate::LostAfter);
    let read = |world: &mut World, answer: pool::SeenEni| {
        let (id, call) = world.open.pop_front().expect("EC2 is read");
        assert!(matches!(call, Call::Describe { .. }), "{call:?}");
        world.event(Event::Answered(id, Ok(pool::Answer::Described(Some(answer)))));
    };
    read(&mut world, before.clone());
    world.later(secs(6));
    assert!(world.open.is_empty(), "nothing is asked twice before EC2 had time: {:?}", world.open);
    world.later(secs(9));
    let shown = world.enis["eni-0"].clone();
    read(&mut world, shown);
    world.settle();
    assert_eq!(world.state.available(), 4);
    assert_eq!(made(&world, |call| matches!(call, Call::Assign { .. })), 1);
}

#[test]
fn an_eni_is_forgotten_after_two_reads_and_never_under_a_pod() {
    for pods in [0, 1] {
        let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
        world.settle();
        let lost = world.enis.keys().find(|eni| *eni != "eni-0").cloned().expect("a second ENI");
        // Pods spread over ENIs: of two, one is on the second.
        world.add("a");
        world.add("b");
        let on_lost = |lease: &&pool::Lease| {
            let pool::Path::Pooled { eni, .. } = &lease.attachments[0].path;
            eni.as_str() == lost
        };
        let stays = world.state.leases().find(on_lost).expect("one of two").key.container.clone();
        for name in ["a", "b"].iter().filter(|name| pods == 0 || **name != stays) {
            world.del(name);
        }
        world.later(secs(31));
        let mut reads = 0;
        world.crash();
        for _ in 0..40 {
            let Some((id, call)) = world.open.pop_front() else {
                world.later(secs(4));
                continue;
            };
            let answer = match &call {
                Call::Discover { .. } => {
                    let seen = world.enis.iter().filter(|(name, _)| **name != lost).map(|(_, seen)| seen.clone());
                    pool::Answer::Discovered(seen.collect())
                }
                Call::Describe { eni } if eni.as_str() == lost => {
                    reads += 1;
                    let known = world.state.enis().any(|eni| eni.record.id.as_str() == lost);
                    assert!(known, "forgotten after {reads} reads");
                    pool::Answer::Described(None)
                }
                _ => continue,
            };
            world.event(Event::Answered(id, Ok(answer)));
            if reads == 1 {
                let eni =
                    world.state.enis().find(|eni| eni.record.id.as_str() == lost).expect("one read is no evidence");
                assert_eq!(eni.record.state, pool::EniState::Ready);
            }
            if reads == 2 {
                break;
            }
        }
        assert_eq!(reads, 2);
        let after = world.state.enis().find(|eni| eni.record.id.as_str() == lost).map(|eni| eni.record.state.clone());
        match pods {
            0 => assert_eq!(after, None),
            _ => assert!(matches!(after, Some(pool::EniState::Quarantined(_))), "{after:?}"),
        }
        assert_eq!(world.state.leases().count(), pods);
        // EC2 shows it again: the quarantined one by a later read, the forgotten one when its device index turns out to be taken.
        world.later(secs(301));
        world.settle();
        let back = world.state.enis().find(|eni| eni.record.id.as_str() == lost).map(|eni| eni.record.state.clone());
        assert_eq!(back, Some(pool::EniState::Ready));
    }
}

#[test]
fn a_repeated_create_that_ec2_did_not_look_at_says_nothing_about_the_first() {
    for kind in [Kind::Throttled, Kind::Unreachable, Kind::Denied, Kind::Credentials] {
        let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
        while !world.open.iter().any(|(_, call)| matches!(call, Call::CreateEni { .. })) {
            if !world.step() {
                world.later(Duration::from_millis(20));
            }
        }
        let foremost = |world: &mut World| {
            let at = world.open.iter().position(|(_, call)| matches!(call, Call::CreateEni { .. }));
            world.open.rotate_left(at.expect("a create is open"));
        };
        foremost(&mut world);
        world.answer(Fate::LostAfter);
        world.later(secs(2));
        foremost(&mut world);
        world.answer(Fate::Refused(kind));
        for _ in 0..5 {
            world.settle();
            world.later(secs(60));
        }
        assert_eq!(world.enis.len(), 2, "{kind:?}");
        assert_eq!(world.state.available(), 18, "{kind:?}");
    }
}

#[test]
fn two_reads_without_an_address_soon_after_each_other_are_one() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    let address = world.enis["eni-0"].secondary[1];
    let hides = |world: &mut World| {
        let mut shown = world.enis["eni-0"].clone();
        shown.secondary.retain(|held| *held != address);
        world.crash();
        let (id, _) = world.open.pop_front().expect("EC2 is read");
        world.event(Event::Answered(id, Ok(pool::Answer::Discovered(vec![shown]))));
        world.open.clear();
        world.state.enis().next().is_some_and(|eni| eni.addresses.contains(address))
    };
    assert!(hides(&mut world));
    world.later(secs(3));
    assert!(hides(&mut world), "three seconds later it is no more than that");
    world.later(secs(15));
    assert!(!hides(&mut world));
    assert_eq!(world.told(), ["AddressLost"]);
}

/// EC2's word for where an address is comes too late, or is wrong: a pod has it.
#[test]
fn an_address_with_a_pod_stays_where_it_is_whatever_an_answer_says() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    world.settle();
    let ticket = world.add("a");
    let leased = world.address(ticket).expect("served");
    world.add_many(9);
    while !matches!(world.open.front(), Some((_, Call::CreateEni { .. }))) {
        if world.open.is_empty() {
            world.later(Duration::from_millis(20));
        } else {
            world.answer(Fate::Answered);
        }
        assert!(world.at < secs(400), "no new ENI is wanted");
    }
    let (id, _) = world.open.pop_front().expect("just seen");
    let mut made = world.enis["eni-0"].clone();
    (made.id, made.attachment, made.secondary) = ("eni-new".into(), None, vec![leased]);
    made.mac = pool::Mac([2, 7, 7, 7, 7, 7]);
    let of = |world: &World| {
        let holders = world.state.enis().filter(|eni| eni.addresses.contains(leased));
        holders.map(|eni| eni.record.id.clone()).collect::<Vec<_>>()
    };
    let before = of(&world);
    world.event(Event::Answered(id, Ok(pool::Answer::Created(made))));
    assert_eq!((before.len(), of(&world)), (1, before));
    assert_eq!(world.address(ticket), world.state.lease(&key("a")).map(|lease| lease.attachments[0].addresses[0]));
}

/// A daemon that dies more often than reads must be apart still learns what became of its calls.
#[test]
fn what_reads_have_shown_of_a_lost_call_counts_across_restarts() {
    let mut world = World::new(Policy { warm: Warm::Addresses { warm: 4, minimum: 0 }, ..Policy::default() });
    while !matches!(world.open.front(), Some((_, Call::Assign { .. }))) {
        if !world.step() {
            world.later(Duration::from_millis(20));
        }
    }
    world.answer(Fate::LostBefore);
    for _ in 0..20 {
        world.crash();
        while world.step() {}
        world.later(Duration::from_secs(2));
        while world.step() {}
    }
    assert!(
        world.state.intents().all(|intent| intent.doubt.is_none()),
        "{:#?}",
        world.state.intents().collect::<Vec<_>>()
    );
}

#[test]
fn a_lost_call_about_an_eni_that_is_gone_is_looked_up_twice() {
    let mut world = World::new(addresses(12, 0));
    while !matches!(world.open.front(), Some((_, Call::Attach { .. }))) {
        if !world.step() {
            world.later(Duration::from_millis(20));
        }
    }
    world.answer(Fate::LostBefore);
    // Somebody deletes it.
    let gone = world.enis.keys().find(|id| *id != "eni-0").expect("a second ENI").clone();
    world.enis.remove(&gone).expect("there");
    let before = world.calls.len();
    world.settle();
    let about = |call: &&Call| matches!(call, Call::Describe { eni } if eni.as_str() == gone);
    let reads = world.calls[before - 1..].iter().filter(about).count();
    assert_eq!(reads, 2);
    assert_eq!((world.state.intents().count(), world.state.enis().count()), (0, 2), "and another one has come");
}
