//! The type's limits: not known yet, not to be had, known again; and what the node says of what EC2 refuses it.

use pool::{Action, Call, Event, Fault, Kind, Limits, Refusal, Warm};

use crate::{
    behaviour::{addresses, made, secs},
    world::{Fate, World, fault},
};

fn denied() -> Refusal {
    Refusal::Denied { action: "DescribeInstanceTypes".to_owned() }
}

/// A node with two ENIs full of addresses, whose daemon starts again with nothing: no ledger, no pods, no limits.
fn restarted() -> World {
    let mut world = World::new(pool::Policy { warm: Warm::Enis(2), ..pool::Policy::default() });
    world.settle();
    assert_eq!(world.holds(), (2, 18, 0));
    world.ledger.clear();
    world.calls.clear();
    world.crash_without_limits();
    world
}

#[test]
fn without_the_types_limits_what_the_instance_has_serves_pods_and_no_more_is_asked_for() {
    let mut world = restarted();
    world.event(Event::FactsMissing(denied()));
    world.settle();
    assert_eq!(world.state.limits(), Limits { enis: 2, addresses_per_eni: 10 }, "what the instance has shown");
    let pods = world.add_many(18);
    world.settle();
    assert!(pods.iter().all(|pod| world.address(*pod).is_some()), "{:?}", world.replies);
    let beyond = world.add("beyond");
    world.settle();
    assert_eq!(world.refusal(beyond), Some(&denied()), "at once, and by its name");
    let held = world.state.explain(world.now()).held;
    assert_eq!(held, Some(denied()));
    assert_eq!(world.state.troubles(), [denied()]);
    assert_eq!(made(&world, |call| !call.is_read()), 0, "nothing grew: {:?}", world.calls);

    world.facts();
    let beyond = world.add("beyond");
    world.settle();
    assert!(world.address(beyond).is_some(), "the limits are known: the pool grows again");
    assert_eq!(world.state.troubles(), []);
    assert_eq!(world.state.limits(), world.limits);
}

#[test]
fn without_the_types_limits_nothing_is_given_back_that_could_not_be_had_again() {
    let mut world = restarted();
    world.policy.warm = Warm::Addresses { warm: 1, minimum: 0 };
    world.ledger.clear();
    world.crash_without_limits();
    world.event(Event::FactsMissing(denied()));
    world.minutes(20);
    assert_eq!(world.holds(), (2, 18, 0));
    world.facts();
    world.minutes(20);
    assert_eq!(world.holds(), (1, 1, 0), "and then it is");
}

#[test]
fn a_pod_waits_for_limits_that_are_being_asked_for_and_is_told_when_they_cannot_be_had() {
    let mut world = World::new(addresses(1, 0));
    world.ledger.clear();
    world.crash_without_limits();
    world.settle();
    let pod = world.add("p");
    world.later(secs(5));
    assert!(!world.replies.contains_key(&pod), "{:?}", world.replies);
    let gone = Refusal::CloudError { action: "DescribeInstanceTypes".into(), code: "InvalidInstanceType".into() };
    world.event(Event::FactsMissing(Refusal::Throttled { action: "DescribeInstanceTypes".into() }));
    world.later(secs(5));
    assert!(!world.replies.contains_key(&pod), "they come: {:?}", world.replies);
    world.event(Event::FactsMissing(gone.clone()));
    // What the instance has is read first.
    world.settle();
    assert_eq!(world.refusal(pod), Some(&gone));
    let pod = world.add("p");
    assert_eq!(world.refusal(pod), Some(&gone), "and so is the next one, at once");
}

#[test]
fn limits_that_were_known_in_this_boot_stay_known() {
    let mut world = World::new(addresses(3, 0));
    world.settle();
    world.crash_without_limits();
    world.event(Event::FactsMissing(denied()));
    assert_eq!(world.state.limits(), world.limits);
    let pods = world.add_many(12);
    world.settle();
    assert!(pods.iter().all(|pod| world.address(*pod).is_some()), "the pool grows");
    assert_eq!(world.state.troubles(), [denied()], "that nobody may ask is said all the same");
}

#[test]
fn a_missing_permission_stays_a_trouble_until_the_action_works() {
    let mut world = World::new(addresses(3, 0));
    world.refusing.insert(Action::AssignPrivateIpAddresses, Kind::Denied);
    world.refusing.insert(Action::CreateNetworkInterface, Kind::Denied);
    world.settle();
    let denied = |action: Action| Refusal::Denied { action: action.name().to_owned() };
    let all = [denied(Action::CreateNetworkInterface), denied(Action::AssignPrivateIpAddresses)];
    assert_eq!(world.state.troubles(), all);
    world.refusing.clear();
    assert_eq!(world.state.troubles(), all, "nobody has seen yet that it is there now");
    world.minutes(6);
    assert_eq!(world.state.available(), 3);
    assert_eq!(world.state.troubles(), [denied(Action::CreateNetworkInterface)], "this one was not needed since");
}

#[test]
fn the_action_that_is_missing_is_named_also_where_another_one_was_called() {
    let mut world = World::of_type(addresses(3, 0), Limits { enis: 3, addresses_per_eni: 2 });
    let create = |call: &Call| matches!(call, Call::CreateEni { .. });
    while !world.open.front().is_some_and(|(_, call)| create(call)) {
        assert!(world.step() || world.open.is_empty(), "{:?}", world.calls);
        world.later(pool::COALESCE);
    }
    let (id, _) = world.open.pop_front().expect("a create");
    let message = "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/node/i-1 is not \
                   authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:us-west-2:1:network-interface/* because \
                   no identity-based policy allows the ec2:CreateTags action.";
    let told = Fault { message: message.to_owned(), ..fault(Kind::Denied) };
    world.event(Event::Answered(id, Err(told)));
    assert_eq!(world.state.troubles(), [Refusal::Denied { action: "CreateTags".to_owned() }]);
    world.answer(Fate::Answered);
}

#[test]
fn a_denied_attach_is_told_at_once_and_still_when_the_eni_is_deleted_for_it() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.refusing.insert(Action::AttachNetworkInterface, Kind::Denied);
    let denied = Refusal::Denied { action: "AttachNetworkInterface".to_owned() };
    let pods = world.add_many(10);
    let begun = world.at;
    while world.replies.len() < 10 {
        assert!(
            world.step() || world.since(begun) < secs(1),
            "nobody waits for an ENI that cannot come: {:?}",
            world.replies
        );
        world.later(pool::COALESCE);
    }
    assert_eq!(pods.iter().filter(|pod| world.refusal(**pod) == Some(&denied)).count(), 1, "{:?}", world.replies);
    let deleted = |world: &World| made(world, |call| matches!(call, Call::Delete { .. })) > 0;
    while !deleted(&world) {
        assert_eq!(world.state.troubles(), std::slice::from_ref(&denied), "the whole time");
        assert!(world.since(begun) < secs(60), "it is not kept for ever: {:?}", world.calls);
        world.step();
        world.later(secs(1));
    }
    assert_eq!(world.state.troubles(), std::slice::from_ref(&denied));
    world.refusing.clear();
    let pod = world.add("late");
    world.minutes(6);
    let pod = if world.address(pod).is_some() { pod } else { world.add("later") };
    world.settle();
    assert!(world.address(pod).is_some() && world.state.troubles().is_empty(), "{:?}", world.replies.get(&pod));
}
