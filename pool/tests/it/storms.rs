//! What storms of real processes have found, each as small as it gets.

use std::time::Duration;

use pool::{Ask, Block, Call, Entry, Event, Key, Limits, Policy, Warm};

use crate::world::{Fate, World};

fn policy(warm: u32) -> Policy {
    Policy { warm: Warm::Addresses { warm, minimum: 0 }, cooling: Duration::from_secs(1), ..Policy::default() }
}

fn enis_of_pods(world: &World) -> usize {
    world.enis.values().filter(|eni| eni.id.as_str() != "eni-0").count()
}

/// An assign whose answer was lost gave what another ENI had given back a moment ago: a read shows it there, and that is no stale read.
#[test]
fn an_address_that_left_one_eni_and_came_to_another_is_news() {
    let mut world = World::of_type(policy(4), Limits { enis: 3, addresses_per_eni: 4 });
    world.settle();
    let (moved, gone) = (world.enis["eni-1"].secondary[0], world.enis["eni-0"].secondary[2]);
    // `moved` left eni-1 a moment ago; `gone` is somebody else's now.
    for (eni, address) in [("eni-1", moved), ("eni-0", gone)] {
        world.enis.get_mut(eni).expect("there").secondary.retain(|held| *held != address);
        world.ledger.remove(&Key::Address(eni.into(), address));
    }
    let departed = Entry::Departed("eni-1".into(), Block::Address(moved), world.now());
    world.ledger.insert(departed.key(), departed);
    let mut other = world.enis["eni-1"].clone();
    (other.id, other.attachment, other.secondary) = ("eni-other".into(), None, vec![gone]);
    world.enis.insert("eni-other".to_owned(), other);
    world.crash();
    while !matches!(world.open.front(), Some((_, Call::Assign { eni, .. })) if eni.as_str() == "eni-0") {
        advance(&mut world);
    }
    world.answer(Fate::LostAfter);
    assert!(world.enis["eni-0"].secondary.contains(&moved), "EC2 gave it to the primary");
    let to_it = |call: &&Call| matches!(call, Call::Assign { eni, .. } if eni.as_str() == "eni-0");
    let asked = world.calls.iter().filter(to_it).count();
    for _ in 0..20 {
        world.step();
    }
    let held = world.state.enis().find(|eni| eni.record.id.as_str() == "eni-0").expect("there");
    assert!(held.addresses.contains(moved), "the first read after it tells");
    assert_eq!(world.calls.iter().filter(to_it).count(), asked, "nothing is asked for twice");
}

fn advance(world: &mut World) {
    if !world.step() {
        let wake = world.state.next_wake().expect("something is to be done");
        world.at = wake.0.max(world.at);
        world.event(Event::Tick);
    }
}

/// A node without pods does not stay at two ENIs with one spare address each.
#[test]
fn spare_addresses_move_together_and_the_empty_eni_goes() {
    let mut world = World::of_type(policy(2), Limits { enis: 3, addresses_per_eni: 4 });
    for pod in ["a", "b", "c"] {
        world.add(pod);
    }
    world.settle();
    assert_eq!(enis_of_pods(&world), 1);
    // The primary's pods stay until the surplus on the second ENI has gone back.
    world.del("c");
    for _ in 0..4 {
        world.settle();
        world.later(Duration::from_mins(2));
    }
    world.del("a");
    world.del("b");
    for _ in 0..8 {
        world.settle();
        world.later(Duration::from_mins(2));
    }
    assert_eq!(enis_of_pods(&world), 0, "{:#?}", world.enis);
    assert_eq!(world.state.available(), 2);
}

/// A create whose answer was lost is asked again and refused, although it had happened: its ENI is found and deleted.
#[test]
fn an_eni_whose_create_was_lost_and_then_refused_is_not_left_over() {
    let mut world = World::of_type(policy(4), Limits { enis: 3, addresses_per_eni: 4 });
    while !matches!(world.open.front(), Some((_, Call::CreateEni { .. }))) {
        advance(&mut world);
    }
    world.answer(Fate::LostAfter);
    let made = world.enis.keys().find(|id| *id != "eni-0").cloned().expect("it happened");
    let wake = world.state.next_wake().expect("it is asked again");
    world.at = wake.0;
    world.event(Event::Tick);
    let (id, again) = world.open.pop_front().expect("the repetition");
    assert!(matches!(again, Call::CreateEni { ask: Ask::Addresses(1), .. }), "{again:?}");
    world.event(Event::Answered(id, Err(crate::world::fault(pool::Kind::NoFreeAddresses))));
    for _ in 0..20 {
        world.wall += 120;
        world.later(Duration::from_mins(2));
        world.settle();
    }
    assert!(!world.enis.contains_key(&made), "{made} is left over");
    assert!(world.news.iter().any(|news| matches!(news, pool::News::LeakedEniDeleted(eni) if eni.as_str() == made)));
}

/// The daemon died after it had written down that it would give addresses back, and before it had taken their routes away: the repetition
/// takes them away first.
#[test]
fn what_is_asked_back_again_is_taken_from_the_kernel_first() {
    let mut world = World::of_type(policy(1), Limits { enis: 3, addresses_per_eni: 4 });
    world.add("a");
    world.settle();
    world.del("a");
    while !matches!(world.open.front(), Some((_, Call::Unassign { .. }))) {
        advance(&mut world);
    }
    let before = world.calls.len();
    world.crash();
    // The world looks at every call that gives something back.
    world.settle();
    assert!(world.calls[before..].iter().any(|call| matches!(call, Call::Unassign { .. })), "{:?}", world.calls);
}

/// The ledger is lost, a pod is found in the kernel, and its DEL comes before EC2 has confirmed its address: it cools all the same.
#[test]
fn a_found_lease_that_ends_before_its_address_is_confirmed_cools() {
    let cooling = Duration::from_secs(90);
    let mut world = World::new(Policy { cooling, ..policy(1) });
    world.add("a");
    world.settle();
    let address = world.enis["eni-0"].secondary[0];
    let found = pool::FoundLease {
        key: crate::world::key("a"),
        pod: pool::Pod::default(),
        link: "eni-a".to_owned(),
        address,
        origin: pool::Origin::Found,
    };
    world.ledger.clear();
    world.crash();
    world.event(Event::Found(vec![found]));
    world.del("a");
    world.crash();
    world.settle();
    let state = || world.state.enis().find_map(|eni| eni.addresses.get(address).cloned());
    assert!(matches!(state(), Some(pool::Address::Cooling { .. })), "{:?}", state());
    world.later(cooling);
    assert!(!world.ledger.keys().any(|key| matches!(key, Key::Resting(_))));
}

/// An ENI of somebody else's took the last place and went again: nobody is told "limit" for ever.
#[test]
fn an_eni_of_others_that_went_does_not_count_for_ever() {
    let mut world = World::of_type(policy(1), Limits { enis: 2, addresses_per_eni: 3 });
    let mut other = world.enis["eni-0"].clone();
    (other.id, other.mac) = ("eni-other".into(), pool::Mac([2, 9, 9, 9, 9, 9]));
    other.tags.insert("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned());
    other.attachment.as_mut().expect("attached").device = pool::DeviceIndex(1);
    world.enis.insert("eni-other".to_owned(), other);
    world.add("a");
    world.add("b");
    world.settle();
    let refused = world.add("c");
    assert!(matches!(world.refusal(refused), Some(pool::Refusal::EniLimit { limit: 2 })), "{:?}", world.replies);
    world.enis.get_mut("eni-other").expect("there").attachment = None;
    for _ in 0..4 {
        world.later(Duration::from_mins(6));
        world.settle();
    }
    let served = world.add("d");
    world.settle();
    assert!(world.address(served).is_some(), "{:#?}", world.state.explain(world.now()));
}
