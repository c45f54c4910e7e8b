//! In which subnets new ENIs are created: tags, zone and free addresses choose, exhausted ones are set aside, excluded ones empty.

use std::{collections::BTreeMap, time::Duration};

use pool::{
    Action, Answer, Call, CallId, Effect, EniState, Event, Kind, Limits, Now, Policy, Refusal, SeenSubnet, Step,
};

use crate::{
    behaviour::{addresses, secs},
    world::{Subnet, World},
};

const ROLE: &str = "kubernetes.io/role/cni";
const SMALL: Limits = Limits { enis: 3, addresses_per_eni: 4 };

fn tagged(free: u32, tags: &[(&str, &str)]) -> Subnet {
    let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
    Subnet { free, prefixes: 1_000, tags }
}

/// The primary ENI's subnet and these.
fn world(policy: Policy, primary: Subnet, others: &[(&str, Subnet)]) -> World {
    let others = others.iter().map(|(id, subnet)| ((*id).to_owned(), subnet.clone()));
    World::in_zone(policy, SMALL, others.chain([("subnet-1".to_owned(), primary)]).collect())
}

/// Where new ENIs were asked for, in order.
fn chosen(world: &World) -> Vec<&str> {
    let subnet = |call: &'_ Call| match call {
        Call::CreateEni { subnet, .. } => Some(subnet.as_str().to_owned()),
        _ => None,
    };
    let names: Vec<_> = world.calls.iter().filter_map(subnet).collect();
    names
        .iter()
        .map(|name| {
            if name == "subnet-1" {
                "primary"
            } else if name == "subnet-2" {
                "other"
            } else {
                "third"
            }
        })
        .collect()
}

#[test]
fn new_enis_go_where_most_is_free_among_the_tagged_subnets_of_the_zone() {
    let mut world = world(
        addresses(1, 0),
        Subnet::default(),
        &[("subnet-2", tagged(20_000, &[(ROLE, "1")])), ("subnet-3", tagged(30_000, &[]))],
    );
    world.add_many(4);
    world.settle();
    assert_eq!(chosen(&world), ["other"], "the third is not tagged");
    let asked: Vec<_> = world.looks.iter().filter(|look| matches!(look, Call::Subnets { .. })).collect();
    assert_eq!(asked, [&Call::Subnets { vpc: "vpc-1".into(), zone: "us-west-2a".to_owned() }], "once");
    let placed = world.enis.values().find(|eni| eni.subnet.as_str() == "subnet-2");
    assert!(placed.is_some_and(|eni| eni.secondary.len() == 2));
}

#[test]
fn several_new_enis_spread_as_the_subnets_fill() {
    let mut world = world(addresses(1, 0), tagged(15, &[]), &[("subnet-2", tagged(16, &[(ROLE, "1")]))]);
    world.add_many(8);
    world.settle();
    let mut chosen = chosen(&world);
    chosen.sort_unstable();
    assert_eq!(chosen, ["other", "primary"], "the first takes four of the subnet with more");
}

/// The matrix of the integration suite `eni-subnet-discovery`, and more tags.
#[test]
fn tags_choose_and_exclude_as_amazon_vpc_cnis_do() {
    let ours = "cni.networking.k8s.aws/cluster/ours";
    let theirs = "cni.networking.k8s.aws/cluster/theirs";
    type Tags<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, Tags, Tags, Option<&str>); 12] = [
        ("no tags at all", &[], &[], Some("primary")),
        ("the other is tagged", &[], &[(ROLE, "1")], Some("other")),
        ("any value but 0 chooses", &[], &[(ROLE, "yes")], Some("other")),
        ("the other is excluded", &[], &[(ROLE, "0")], Some("primary")),
        ("the primary is excluded", &[(ROLE, "0")], &[(ROLE, "1")], Some("other")),
        ("both are excluded", &[(ROLE, "0")], &[(ROLE, "0")], None),
        ("the primary is excluded and the other is untagged", &[(ROLE, "0")], &[], None),
        ("tagged for us", &[], &[(ROLE, "1"), (ours, "shared")], Some("other")),
        ("tagged for another cluster", &[], &[(ROLE, "1"), (theirs, "shared")], Some("primary")),
        ("tagged for both", &[], &[(ROLE, "1"), (theirs, ""), (ours, "")], Some("other")),
        (
            "a legacy cluster tag says nothing",
            &[],
            &[(ROLE, "1"), ("kubernetes.io/cluster/theirs", "owned")],
            Some("other"),
        ),
        ("a cluster tag without the role does not exclude", &[(theirs, "")], &[], Some("primary")),
    ];
    for (why, primary, other, expected) in rows {
        let policy = Policy { cluster: Some("ours".to_owned()), ..addresses(1, 0) };
        let mut world = world(policy, tagged(10_000, primary), &[("subnet-2", tagged(20_000, other))]);
        // More than the primary ENI holds.
        let tickets = world.add_many(4);
        world.settle();
        assert!(chosen(&world).iter().all(|subnet| Some(*subnet) == expected), "{why}: {:?}", chosen(&world));
        if expected.is_some() {
            assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "{why}");
            assert!(!chosen(&world).is_empty(), "{why}");
        } else {
            let refusal = world.refusal(tickets[3]).expect("nowhere to grow");
            assert!(matches!(refusal, Refusal::ConfigInvalid { .. }), "{why}: {refusal:?}");
            let said = refusal.to_string();
            assert!(said.contains("subnet-1") && said.contains("us-west-2a") && said.contains(ROLE), "{said}");
        }
    }
    // Without a cluster's name, cluster tags say nothing.
    let mut world =
        world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1"), (theirs, "")]))]);
    world.add_many(4);
    world.settle();
    assert_eq!(chosen(&world), ["other"]);
}

#[test]
fn an_exhausted_subnet_is_set_aside_while_others_are_tried() {
    let mut world = world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
    world.settle();
    // Somebody takes them; what is known of the subnet is old by now.
    world.subnet("subnet-2").free = 0;
    let tickets = world.add_many(8);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(chosen(&world).last(), Some(&"primary"));
    assert_eq!(world.enis.values().filter(|eni| eni.subnet.as_str() == "subnet-2").count(), 0);
}

#[test]
fn a_full_primary_subnet_is_left_for_another_although_the_primary_eni_has_room() {
    let mut world = world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
    world.subnet("subnet-1").free = 0;
    let ticket = world.add("a");
    world.settle();
    assert!(world.address(ticket).is_some());
    assert_eq!(chosen(&world), ["other"]);
}

#[test]
fn pauses_of_an_exhausted_subnet_grow_from_5_s_to_5_min_and_end_with_the_first_success() {
    let mut world = world(addresses(1, 0), tagged(0, &[]), &[]);
    world.luck = 0;
    let mut tried = Vec::new();
    for _ in 0..2_000 {
        let before = world.calls.len();
        while world.step() {}
        world.later(secs(1));
        if world.calls[before..].iter().any(|call| matches!(call, Call::Assign { .. })) {
            tried.push(world.at.as_secs());
        }
    }
    let waits: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let doubles = waits.windows(2).all(|pair| pair[1] >= pair[0]);
    assert!(doubles && (5..=7).contains(&waits[0]) && waits.iter().all(|wait| *wait <= 303), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait >= 300), "{waits:?}");
    assert_eq!(world.state.explain(world.now()).held, Some(Refusal::SubnetExhausted { subnet: "subnet-1".into() }));
    world.subnet("subnet-1").free = 5;
    world.minutes(6);
    assert_eq!(world.state.available(), 1);
    assert_eq!(world.state.explain(world.now()).held, None);
}

#[test]
fn without_the_permission_to_see_subnets_the_primary_one_is_used() {
    for kind in [Kind::Denied, Kind::Throttled, Kind::Unreachable] {
        let mut world = world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
        // The read of the start was answered by now: a new pool, without it.
        world.crash_without_ledger();
        world.refusing = BTreeMap::from([(Action::DescribeSubnets, kind)]);
        world.state = pool::State::new(world.policy.clone());
        world.open.clear();
        world.facts();
        let tickets = world.add_many(4);
        for _ in 0..600 {
            if !world.step() {
                world.later(Duration::from_millis(50));
            }
        }
        assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "{kind:?}");
        assert_eq!(chosen(&world), ["primary"], "{kind:?}");
        world.refusing.clear();
        world.minutes(6);
        for n in 0..3 {
            world.add(&format!("new{n}"));
        }
        world.settle();
        assert_eq!(chosen(&world), ["primary", "other"], "{kind:?}: once it is granted");
    }
}

#[test]
fn without_discovery_the_primary_subnet_is_used_and_nothing_is_read() {
    let policy = Policy { subnet_discovery: false, ..addresses(1, 0) };
    let mut world = world(policy, Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
    world.add_many(4);
    world.settle();
    assert_eq!(chosen(&world), ["primary"]);
    assert_eq!(world.looks.iter().filter(|look| matches!(look, Call::Subnets { .. })).count(), 0);
}

#[test]
fn an_eni_in_a_subnet_that_was_excluded_takes_no_new_pods_and_its_pods_stay() {
    let mut world = world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
    let old = world.add_many(5);
    world.settle();
    let second = world.enis.values().find(|eni| eni.subnet.as_str() == "subnet-2").expect("made").id.clone();
    let there = |world: &World| {
        let on = |lease: &&pool::Lease| {
            let pool::Path::Pooled { eni, .. } = &lease.attachments[0].path;
            *eni == second
        };
        world.state.leases().filter(on).map(|lease| lease.key.container.clone()).collect::<Vec<_>>()
    };
    let pods = there(&world);
    assert_eq!(pods.len(), 2);
    world.subnet("subnet-2").tags = tagged(0, &[(ROLE, "0")]).tags;
    world.crash();
    world.settle();
    let excluded = world.state.enis().find(|eni| eni.record.id == second).expect("there");
    assert!(excluded.record.excluded && excluded.record.state == EniState::Ready);
    for n in 0..3 {
        let ticket = world.add(&format!("new{n}"));
        world.settle();
        assert!(world.address(ticket).is_some());
    }
    assert_eq!(there(&world), pods, "nobody came, nobody left");
    assert!(old.iter().all(|ticket| world.address(*ticket).is_some()));
    assert_eq!(world.state.leases().count(), 8);
    world.minutes(5);
    assert_eq!(world.enis[second.as_str()].secondary.len(), 2, "only what pods have stays there");
    for pod in &pods {
        world.del(pod);
    }
    world.minutes(5);
    assert!(!world.enis.contains_key(second.as_str()), "it went with its last pod");
}

#[test]
fn nothing_goes_while_the_pool_grows_not_even_what_is_excluded() {
    let subnets = [("subnet-1", tagged(10_000, &[])), ("subnet-2", tagged(20_000, &[(ROLE, "1")]))];
    let subnets = subnets.map(|(id, subnet)| (id.to_owned(), subnet));
    let mut world = World::in_zone(addresses(1, 0), Limits { enis: 3, addresses_per_eni: 15 }, BTreeMap::from(subnets));
    world.add_many(14);
    world.settle();
    let second = world.enis.values().find(|eni| eni.subnet.as_str() == "subnet-2").expect("made").id.clone();
    world.subnet("subnet-2").tags = tagged(0, &[(ROLE, "0")]).tags;
    world.crash();
    for n in 0..6 {
        world.add(&format!("new{n}"));
        for _ in 0..50 {
            world.later(secs(1));
            while world.step() {}
        }
        assert!(world.enis.contains_key(second.as_str()), "it went less than a minute after growing");
    }
    world.minutes(3);
    assert!(!world.enis.contains_key(second.as_str()));
}

#[test]
fn an_excluded_primary_eni_gives_its_free_addresses_back_and_stays() {
    let mut world = world(addresses(1, 0), Subnet::default(), &[("subnet-2", tagged(20_000, &[(ROLE, "1")]))]);
    world.add("stays");
    world.settle();
    world.subnet("subnet-1").tags = tagged(0, &[(ROLE, "0")]).tags;
    world.crash();
    world.settle();
    let ticket = world.add("new");
    world.minutes(5);
    assert!(world.address(ticket).is_some());
    assert_eq!(chosen(&world), ["other"]);
    assert_eq!(world.enis["eni-0"].secondary.len(), 1, "the running pod's");
    world.del("stays");
    world.minutes(5);
    assert_eq!(world.enis["eni-0"].secondary.len(), 0);
    assert_eq!(world.made(|call| matches!(call, Call::Detach { .. })), 0);
    // It is for pods again.
    world.subnet("subnet-1").tags.clear();
    world.crash();
    world.settle();
    assert!(world.state.enis().all(|eni| !eni.record.excluded));
}

#[test]
fn what_has_become_of_the_tags_is_read_before_the_next_eni_is_made() {
    let role = [("kubernetes.io/role/cni", "1")];
    let mut world = world(addresses(1, 0), tagged(100, &[]), &[("subnet-2", tagged(1_000, &[]))]);
    world.settle();
    world.later(secs(601));
    world.subnet("subnet-2").tags = tagged(0, &role).tags;
    let looks = world.looks.len();
    world.add_many(4);
    world.settle();
    assert_eq!(chosen(&world), ["other"], "tagged by then, and with more room");
    assert_eq!(world.looks.len(), looks + 1, "one look for it");

    world.later(secs(601));
    world.subnet("subnet-2").tags.clear();
    world.refusing.insert(Action::DescribeSubnets, Kind::Denied);
    let pods: Vec<_> = (4..7).map(|n| world.add(&format!("p{n}"))).collect();
    world.settle();
    assert!(
        pods.iter().all(|pod| world.address(*pod).is_some()),
        "a look that fails keeps no pod waiting: {:?}",
        world.replies
    );
}

#[test]
fn a_new_eni_waits_for_what_is_being_read_of_the_subnets() {
    let mut world = world(addresses(3, 0), tagged(100, &[]), &[("subnet-2", tagged(1_000, &[]))]);
    world.settle();
    world.later(secs(601));
    let demand = (0..4).map(|n| crate::world::pod(&format!("p{n}"))).collect();
    let at = |later: Duration| Now { at: world.now().after(later), wall: world.wall, luck: 1 };
    let (first, second, third) = (at(Duration::ZERO), at(secs(1)), at(secs(2)));
    let calls = |step: Step| -> Vec<(CallId, Call)> {
        let called = step.effects.into_iter().filter_map(|effect| match effect {
            Effect::Call(id, call) => Some((id, call)),
            _ => None,
        });
        called.collect()
    };
    let asked = calls(world.state.apply(first, Event::Demand(demand)));
    let [(read, Call::Subnets { .. })] = asked[..] else { panic!("one look: {asked:?}") };
    assert_eq!(calls(world.state.apply(second, Event::Tick)), [], "however long it takes");
    let free = |id: &str, free, tags: &[(&str, &str)]| SeenSubnet { id: id.into(), free, tags: tagged(0, tags).tags };
    let zone = vec![free("subnet-1", 100, &[]), free("subnet-2", 1_000, &[(ROLE, "1")])];
    let made = calls(world.state.apply(third, Event::Answered(read, Ok(Answer::Subnets(zone)))));
    let there =
        |(_, call): &(CallId, Call)| matches!(call, Call::CreateEni { subnet, .. } if subnet.as_str() == "subnet-2");
    assert!(!made.is_empty() && made.iter().all(there), "{made:?}");
}
