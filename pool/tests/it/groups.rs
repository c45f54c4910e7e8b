//! Security groups: changed ones of the primary ENI reach the ENIs that we created, and no other.

use std::{collections::BTreeSet, time::Duration};

use pool::{Action, Call, Kind, Policy, Refusal, SecurityGroupId};

use crate::{
    behaviour::{addresses, made, secs},
    world::{Fate, PRIMARY, World},
};

/// A node of three ENIs: the primary, one of ours, one that somebody attached.
fn with_enis() -> World {
    let mut world = World::new(addresses(20, 0));
    world.attached_by_hand("eni-hand", 2);
    world.settle();
    assert_eq!(world.holds().0, 3, "{:?}", world.enis.keys());
    assert_eq!(sets(&world), 0, "it was created with its groups");
    world
}

fn set(groups: &[&str]) -> BTreeSet<SecurityGroupId> {
    groups.iter().copied().map(Into::into).collect()
}

/// Metadata shows other groups.
fn change(world: &mut World, groups: &[&str]) {
    world.groups = groups.iter().copied().map(Into::into).collect();
    world.facts();
}

fn sets(world: &World) -> usize {
    made(world, |call| matches!(call, Call::SetGroups { .. }))
}

fn ours(world: &World) -> &str {
    let ours = world.enis.keys().find(|id| *id != PRIMARY && *id != "eni-hand");
    ours.expect("an ENI of ours")
}

#[test]
fn changed_groups_reach_our_enis_at_once_and_nobody_elses() {
    let mut world = with_enis();
    change(&mut world, &["sg-2", "sg-1"]);
    assert_eq!(sets(&world), 1, "in the same moment: {:?}", world.calls.last());
    world.settle();
    assert_eq!(world.enis[ours(&world)].groups, set(&["sg-1", "sg-2"]));
    assert_eq!(world.enis["eni-hand"].groups, set(&["sg-1"]), "its groups are its maker's");
    assert_eq!(world.enis[PRIMARY].groups, set(&["sg-1"]), "the one that is followed is never written");
    change(&mut world, &["sg-1", "sg-2"]);
    world.minutes(90);
    assert_eq!(sets(&world), 1, "the same in another order, and nothing more after it");
}

#[test]
fn a_new_eni_has_the_groups_of_the_day_and_none_that_metadata_does_not_have() {
    let mut world = World::new(addresses(12, 0));
    change(&mut world, &["sg-7"]);
    world.settle();
    let made_with = world.calls.iter().find_map(|call| match call {
        Call::CreateEni { groups, .. } => Some(groups.clone()),
        _ => None,
    });
    assert_eq!(made_with, Some(vec!["sg-7".into()]));
    change(&mut world, &[]);
    world.settle();
    assert_eq!(sets(&world), 0, "EC2 would refuse an ENI without groups");
}

#[test]
fn what_changed_while_no_daemon_ran_is_made_up_for_also_without_a_ledger() {
    for ledger in [true, false] {
        let mut world = with_enis();
        world.groups = vec!["sg-9".into()];
        if ledger {
            world.crash();
        } else {
            world.crash_without_ledger();
        }
        world.settle();
        assert_eq!((sets(&world), &world.enis[ours(&world)].groups), (1, &set(&["sg-9"])), "ledger {ledger}");
        world.crash();
        world.settle();
        assert_eq!(sets(&world), 1, "what was set is remembered");
    }
}

#[test]
fn a_lost_answer_and_a_death_in_between_end_in_the_right_groups() {
    for fate in [Fate::LostBefore, Fate::LostAfter] {
        for dies in [false, true] {
            let mut world = with_enis();
            change(&mut world, &["sg-2"]);
            if dies {
                world.crash();
            } else {
                world.answer(fate);
            }
            world.settle();
            assert_eq!(world.enis[ours(&world)].groups, set(&["sg-2"]), "{fate:?}, dies {dies}");
            let calls = world.calls.len();
            world.minutes(5);
            assert_eq!(world.calls.len(), calls, "and then there is peace: {:?}", &world.calls[calls..]);
        }
    }
}

#[test]
fn groups_that_ec2_refuses_are_tried_again_and_keep_no_address_from_a_pod() {
    for kind in [Kind::Invalid, Kind::Gone, Kind::Conflict, Kind::Denied, Kind::Credentials] {
        let mut world = with_enis();
        world.refusing.insert(Action::ModifyNetworkInterfaceAttribute, kind);
        change(&mut world, &["sg-2"]);
        while world.step() {}
        assert_eq!(sets(&world), 1, "{kind:?}: refused a moment ago");
        // More than all ENIs hold by now, fewer than they can.
        let pods = world.add_many(25);
        for _ in 0..10 {
            world.later(pool::COALESCE);
            while world.step() {}
        }
        assert!(pods.iter().all(|pod| world.address(*pod).is_some()), "{kind:?}: {:?}", world.replies);
        world.settle();
        let tried = sets(&world);
        assert!((1..=6).contains(&tried), "{kind:?}: the pause grows: {tried}");
        let troubles = world.state.troubles();
        let named = |trouble: &Refusal| trouble.to_string().contains("ModifyNetworkInterfaceAttribute");
        assert!(troubles.iter().any(named), "{kind:?}: {troubles:?}");
        world.refusing.clear();
        world.minutes(6);
        assert_eq!(world.enis[ours(&world)].groups, set(&["sg-2"]), "{kind:?}");
        assert_eq!(world.state.troubles(), [], "{kind:?}");
    }
}

#[test]
fn an_eni_that_is_busy_gets_them_when_it_is_done() {
    let mut world = with_enis();
    let id = ours(&world).to_owned();
    world.add_many(20);
    world.later(pool::COALESCE);
    let busy = world.open.iter().any(|(_, call)| call.eni().is_some_and(|eni| eni.as_str() == id));
    change(&mut world, &["sg-2"]);
    assert!(!busy || sets(&world) == 0, "one call at a time for each ENI");
    world.settle();
    assert_eq!(world.enis[&id].groups, set(&["sg-2"]));
}

#[test]
fn an_eni_that_goes_is_left_alone() {
    let mut world = World::new(Policy { shrink_after: secs(1), ..addresses(12, 0) });
    world.settle();
    world.crash_into(Policy { shrink_after: secs(1), ..addresses(1, 0) });
    while made(&world, |call| matches!(call, Call::Detach { .. })) == 0 {
        assert!(world.step() || world.at < Duration::from_hours(1), "the second ENI is given back");
        world.later(secs(1));
    }
    change(&mut world, &["sg-2"]);
    world.settle();
    assert_eq!(sets(&world), 0, "{:?}", world.calls);
    assert_eq!(world.holds().0, 1);
}
