//! What `explain` says, word for word: people and programs read it.

use pool::{Event, Kind, Limits, Policy, Warm};

use expect_test::{Expect, expect};

use crate::{
    behaviour::{addresses, secs},
    world::{Fate, World},
};

/// The figures, what is next, and why not more.
fn said(world: &World, expected: &Expect) {
    let explained = world.state.explain(world.now());
    let figures = explained.figures.iter().map(|figure| format!("{figure}\n"));
    let next = explained.next.iter().map(|next| format!("- {next}\n"));
    let held = explained.held.iter().map(|held| format!("! {}: {held}\n", held.name()));
    let text: String = figures.chain(next).chain(held).collect();
    expected.assert_eq(&text);
}

#[test]
fn a_fresh_node() {
    said(
        &World::new(Policy::default()),
        &expect![[r#"
        target 9: WARM_ENI_TARGET=1: 9 addresses, in whole ENIs, and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 0: 0 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 0: 0 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
        short 9: target less supply, within the limits
        over 0: supply less target; given back in whole ENIs
        enis at most 3: the instance type; 0 here, 9 places for pods on each
        - reading all ENIs of the instance
        ! WarmingUp: the pool is being refilled and no address has arrived yet; trying again helps
    "#]],
    );
}

#[test]
fn a_node_that_does_not_know_what_it_is() {
    let mut world = World::new(addresses(5, 10));
    world.state = pool::State::new(addresses(5, 10));
    said(
        &world,
        &expect![[r#"
        target 5: WARM_IP_TARGET=5 and what is wanted now
        minimum 10: MINIMUM_IP_TARGET=10 addresses in all
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 0: 0 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 0: 0 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
        short 10: target less supply, within the limits
        over 0: supply less target
        enis at most 0: the instance is not known yet
        ! WarmingUp: the pool is being refilled and no address has arrived yet; trying again helps
    "#]],
    );
}

#[test]
fn a_steady_node() {
    let mut world = World::new(Policy { max_pods: Some(29), ..addresses(5, 10) });
    world.add_many(8);
    world.minutes(3);
    said(
        &world,
        &expect![[r#"
        target 5: WARM_IP_TARGET=5 and what is wanted now
        minimum 10: MINIMUM_IP_TARGET=10 addresses in all
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 5: 5 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 13: 5 free, 8 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: supply reaches the target
        over 0: supply less target
        enis at most 3: the instance type; 2 here, 9 places for pods on each
        pods at most 29: what the node can run
    "#]],
    );
}

#[test]
fn a_burst_in_flight() {
    let mut world = World::new(addresses(2, 0));
    world.answer(Fate::Answered);
    world.add_many(15);
    world.later(pool::COALESCE);
    world.answer(Fate::LostAfter);
    world.answer(Fate::Answered);
    said(
        &world,
        &expect![[r#"
        target 17: WARM_IP_TARGET=2 and what is wanted now
        wanted 15: 15 requests wait, 0 pods bound to the node have no address
        supply 17: 0 free, 8 on ENIs not ready yet, 9 asked for, 0 unverified, 0 about to have cooled
        held 8: 8 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: supply reaches the target
        over 0: supply less target
        enis at most 3: the instance type; 2 here, 9 places for pods on each
        - assigning 9 addresses to eni-0: the answer was lost: looking it up
        - attaching eni-1 as device 1
        - reading eni-0
        - waiting for the link of eni-0 (02:00:00:00:00:00)
    "#]],
    );
}

#[test]
fn an_exhausted_subnet() {
    let mut world = World::new(addresses(2, 0));
    world.subnet("subnet-1").free = 1;
    world.add_many(3);
    for _ in 0..20 {
        if !world.step() {
            world.later(pool::COALESCE);
        }
    }
    said(
        &world,
        &expect![[r#"
        target 2: WARM_IP_TARGET=2 and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 0: 0 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 1: 0 free, 1 leased, 0 cooling, 0 unverified, 0 quarantined
        short 2: target less supply, within the limits
        over 0: supply less target
        enis at most 3: the instance type; 1 here, 9 places for pods on each
        - growing in subnet-1 goes on in 4.8 s: EC2 has no free address in subnet-1; free addresses there or add a subnet
        ! SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet
    "#]],
    );
}

#[test]
fn a_subnet_without_prefixes() {
    let mut world = World::new(Policy { prefixes: true, warm: Warm::Prefixes(1), ..Policy::default() });
    world.subnet("subnet-1").prefixes = 0;
    world.add_many(3);
    for _ in 0..20 {
        if !world.step() {
            world.later(pool::COALESCE);
        }
    }
    said(
        &world,
        &expect![[r#"
        target 16: WARM_PREFIX_TARGET=1: 16 addresses and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 16: 16 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 19: 16 free, 3 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: supply reaches the target
        over 0: supply less target; given back in whole prefixes
        enis at most 3: the instance type; 3 here, 9 places for pods on each
        - assigning prefixes in subnet-1 goes on in 4.9 s: subnet-1 has no aligned /28 free; reserve a range of it for prefixes or add a subnet
    "#]],
    );
}

#[test]
fn a_throttled_node() {
    let mut world = World::new(addresses(2, 0));
    world.answer(Fate::Answered);
    world.add_many(2);
    world.later(pool::COALESCE);
    world.answer(Fate::Refused(Kind::Throttled));
    said(
        &world,
        &expect![[r#"
            target 4: WARM_IP_TARGET=2 and what is wanted now
            wanted 2: 2 requests wait, 0 pods bound to the node have no address
            supply 0: 0 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
            held 0: 0 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
            short 4: target less supply, within the limits
            over 0: supply less target
            enis at most 3: the instance type; 1 here, 9 places for pods on each
            - waiting for the link of eni-0 (02:00:00:00:00:00)
            - AssignPrivateIpAddresses goes on in 7.5 s: EC2 throttles AssignPrivateIpAddresses for this account; trying again helps
            ! Throttled: EC2 throttles AssignPrivateIpAddresses for this account; trying again helps
        "#]],
    );
}

#[test]
fn a_full_node_with_addresses_that_cool() {
    let mut world = World::of_type(addresses(2, 0), Limits { enis: 2, addresses_per_eni: 4 });
    world.add_many(6);
    world.settle();
    world.del_many(0..2);
    world.later(secs(10));
    world.add_many(1);
    said(
        &world,
        &expect![[r#"
            target 3: WARM_IP_TARGET=2 and what is wanted now
            wanted 1: 1 requests wait, 0 pods bound to the node have no address
            supply 0: 0 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
            held 6: 0 free, 4 leased, 2 cooling, 0 unverified, 0 quarantined
            short 3: target less supply, within the limits
            over 0: supply less target
            enis at most 2: the instance type; 2 here, 3 places for pods on each
            - the first of 2 cooling addresses is free in 20.0 s
            ! EniLimit: all 2 ENIs that the instance type allows are attached and full; use a larger type or fewer pods
        "#]],
    );
}

#[test]
fn a_draining_node() {
    let mut world = World::new(addresses(1, 0));
    world.settle();
    world.event(Event::Draining(true));
    world.event(Event::Demand((0..4).map(|n| crate::world::pod(&format!("p{n}"))).collect()));
    said(
        &world,
        &expect![[r#"
        target 5: WARM_IP_TARGET=1 and what is wanted now
        wanted 4: 0 requests wait, 4 pods bound to the node have no address
        supply 1: 1 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 1: 1 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: the node takes no new pods (AWS_MANAGE_ENIS_NON_SCHEDULABLE)
        over 0: supply less target
        enis at most 3: the instance type; 1 here, 9 places for pods on each
        ! NodeDraining: the node takes no new pods, so the pool does not grow; uncordon it or set AWS_MANAGE_ENIS_NON_SCHEDULABLE
    "#]],
    );
}

#[test]
fn a_quarantined_eni() {
    let mut world = World::new(addresses(1, 0));
    world.add_many(10);
    world.settle();
    world.crash();
    for _ in 0..60 {
        if let Some((id, call)) = world.open.pop_front() {
            let answer = match &call {
                pool::Call::Discover { .. } => pool::Answer::Discovered(vec![world.enis["eni-0"].clone()]),
                _ => pool::Answer::Described(None),
            };
            world.event(Event::Answered(id, Ok(answer)));
        }
        world.later(secs(1));
    }
    said(
        &world,
        &expect![[r#"
        target 1: WARM_IP_TARGET=1 and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 1: 0 free, 0 on ENIs not ready yet, 1 asked for, 0 unverified, 0 about to have cooled
        held 9: 0 free, 9 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: supply reaches the target
        over 0: supply less target
        enis at most 3: the instance type; 2 here, 9 places for pods on each
        quarantined 1: pods on eni-1: EC2 does not show this ENI, but the node has its link or pods on it
        - creating an ENI with 1 addresses in subnet-1
        - waiting for the link of eni-0 (02:00:00:00:00:00)
        - waiting for the link of eni-1 (02:00:00:01:00:01)
    "#]],
    );
}

#[test]
fn surplus_that_is_about_to_go() {
    let mut world = World::new(addresses(1, 0));
    world.add_many(6);
    world.settle();
    world.del_many(0..6);
    world.later(secs(31));
    said(
        &world,
        &expect![[r#"
        target 1: WARM_IP_TARGET=1 and what is wanted now
        wanted 0: 0 requests wait, 0 pods bound to the node have no address
        supply 7: 7 free, 0 on ENIs not ready yet, 0 asked for, 0 unverified, 0 about to have cooled
        held 7: 7 free, 0 leased, 0 cooling, 0 unverified, 0 quarantined
        short 0: supply reaches the target
        over 6: supply less target
        enis at most 3: the instance type; 1 here, 9 places for pods on each
        - giving surplus back in 60.0 s: it has been more than the target for a while by then
    "#]],
    );
}
