//! What is not ours is seen, counted and never touched; what we adopted is used and never let go; what nodes left behind is deleted.

use pool::{Action, Call, DeviceIndex, EniState, InterfaceKind, Kind, Policy, Role, SeenEni, Warm};

use crate::{
    behaviour::{addresses, secs},
    world::World,
};

const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
const CREATED: &str = "node.k8s.amazonaws.com/createdAt";
const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";

fn tag(eni: &mut SeenEni, name: &str, value: &str) {
    eni.tags.insert(name.to_owned(), value.to_owned());
}

fn names(call: &Call, eni: &str) -> bool {
    call.eni().is_some_and(|named| named.as_str() == eni)
}

#[test]
fn what_is_not_ours_is_counted_and_never_touched() {
    type Makes = fn(&mut SeenEni);
    let untagged = Policy { manage_untagged: false, ..addresses(1, 0) };
    let rows: [(&str, Role, Policy, Makes); 6] = [
        ("no_manage", Role::Foreign, addresses(1, 0), |eni| tag(eni, NO_MANAGE, "true")),
        ("no_manage and our tag", Role::Foreign, addresses(1, 0), |eni| {
            tag(eni, NO_MANAGE, "true");
            tag(eni, INSTANCE_TAG, "i-1");
            eni.description = "aws-K8S-i-1".to_owned();
        }),
        ("untagged", Role::Foreign, untagged, |_| {}),
        ("a trunk", Role::Trunk, addresses(1, 0), |eni| eni.kind = InterfaceKind::Trunk),
        ("EFA-only", Role::Efa, addresses(1, 0), |eni| eni.kind = InterfaceKind::EfaOnly),
        ("another network card", Role::Foreign, addresses(1, 0), |eni| {
            eni.attachment.as_mut().expect("attached").card = 1;
        }),
    ];
    for (what, role, policy, makes) in rows {
        let mut world = World::new(policy);
        makes(world.attached_by_hand("eni-other", 1));
        let before = world.enis["eni-other"].clone();
        let tickets = world.add_many(20);
        world.settle();
        assert_eq!(tickets.iter().filter(|ticket| world.address(**ticket).is_some()).count(), 18, "{what} counts");
        assert_eq!(world.over_limit, 0, "{what}");
        let known = world.state.enis().find(|eni| eni.record.id.as_str() == "eni-other").expect("it is seen");
        assert_eq!((known.record.role, known.record.slot), (role, None), "{what}");
        assert!(
            !world.carried.iter().any(|eni| eni.eni.as_str() == "eni-other"),
            "{what}: the kernel is not told of it"
        );
        world.del_many(0..20);
        world.minutes(8);
        world.crash();
        world.minutes(3);
        assert_eq!(world.enis["eni-other"], before, "{what}");
        assert!(!world.calls.iter().any(|call| !call.is_read() && names(call, "eni-other")), "{what}");
    }
}

#[test]
fn no_manage_keeps_away_only_when_it_is_true() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    tag(world.attached_by_hand("eni-other", 1), NO_MANAGE, "false");
    world.settle();
    assert_eq!((world.enis.len(), world.state.available()), (2, 18));
}

#[test]
fn an_adopted_eni_is_tagged_once_and_used_and_never_let_go_whatever_is_lost() {
    let mut world = World::new(addresses(1, 0));
    let adopted = world.attached_by_hand("eni-adopted", 1);
    adopted.secondary = vec![std::net::Ipv4Addr::new(10, 0, 5, 5)];
    world.settle();
    assert_eq!(world.enis["eni-adopted"].tags.get(INSTANCE_TAG).map(String::as_str), Some("i-1"));
    for lost in [false, true] {
        world.add_many(12);
        world.settle();
        let held = world.enis["eni-adopted"].secondary.len();
        assert!(held >= 3, "it carries pods: {held}");
        world.del_many(0..12);
        world.minutes(8);
        // The tag without the description is how a pool that knows nothing tells it from its own.
        if lost {
            world.crash_without_ledger();
        } else {
            world.crash();
        }
        world.minutes(8);
        let known = world.state.enis().find(|eni| eni.record.id.as_str() == "eni-adopted").expect("there");
        assert_eq!((known.record.created, &known.record.state), (false, &EniState::Ready));
    }
    let touched = world.calls.iter().filter(|call| !call.is_read() && names(call, "eni-adopted"));
    let touched: Vec<_> = touched.map(|call| call.action().name()).collect();
    assert_eq!(touched.iter().filter(|action| **action == "CreateTags").count(), 1, "{touched:?}");
    let allowed = ["CreateTags", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"];
    assert!(touched.iter().all(|action| allowed.contains(action)), "{touched:?}");
}

#[test]
fn a_tag_waits_for_pods_and_may_be_denied() {
    let mut world = World::new(addresses(1, 0));
    world.attached_by_hand("eni-adopted", 1);
    world.refusing.insert(Action::CreateTags, Kind::Denied);
    let tickets = world.add_many(12);
    world.settle();
    assert!(tickets.iter().all(|ticket| world.address(*ticket).is_some()), "tags are for people");
    let first = world.calls.iter().position(|call| matches!(call, Call::Tag { .. }));
    let assign = world.calls.iter().position(|call| matches!(call, Call::Assign { .. }));
    assert!(assign < first && first.is_some(), "pods go first: {:?}", world.calls);
}

#[test]
fn an_eni_of_ours_is_known_again_after_the_ledger_was_lost() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    world.settle();
    world.crash_without_ledger();
    world.settle();
    assert!(world.state.enis().any(|eni| eni.record.created), "by its tag and its description");
    world.crash_into(addresses(1, 0));
    world.minutes(8);
    assert_eq!(world.enis.len(), 1, "it goes when it is not needed");
}

/// An ENI that a node of our cluster left behind: made, tagged, and attached to nothing any more.
fn left_behind(world: &mut World) -> &mut SeenEni {
    let mut eni = world.enis["eni-0"].clone();
    eni.id = "eni-left".into();
    eni.attachment = None;
    "aws-K8S-i-gone".clone_into(&mut eni.description);
    tag(&mut eni, INSTANCE_TAG, "i-gone");
    tag(&mut eni, CREATED, "2023-11-14T20:00:00Z");
    tag(&mut eni, CLUSTER, "ours");
    world.enis.entry("eni-left".to_owned()).or_insert(eni)
}

fn of_cluster() -> Policy {
    Policy { cluster: Some("ours".to_owned()), ..addresses(1, 0) }
}

fn deletes(world: &World) -> usize {
    world.made(|call| matches!(call, Call::Delete { .. }))
}

#[test]
fn an_eni_that_a_terminated_node_of_our_cluster_left_behind_is_deleted() {
    let mut world = World::new(of_cluster());
    left_behind(&mut world);
    world.minutes(120);
    assert!(!world.enis.contains_key("eni-left"));
    assert_eq!(world.told(), ["LeakedEniDeleted"]);
    let asked: Vec<_> = world.looks.iter().filter(|look| matches!(look, Call::Instances { .. })).collect();
    assert_eq!(asked, [&Call::Instances { instances: vec!["i-gone".into()] }], "once, when it was seen twice");
}

#[test]
fn an_eni_that_we_left_behind_is_deleted_also_without_a_cluster() {
    let mut world = World::new(addresses(1, 0));
    let left = left_behind(&mut world);
    tag(left, INSTANCE_TAG, "i-1");
    left.description = "aws-K8S-i-1".to_owned();
    left.tags.remove(CLUSTER);
    world.minutes(120);
    assert!(!world.enis.contains_key("eni-left"));
    assert!(!world.looks.iter().any(|look| matches!(look, Call::Instances { .. })), "we exist");
}

#[test]
fn whatever_is_not_surely_left_behind_stays() {
    type Breaks = fn(&mut World);
    let rows: [(&str, Breaks); 12] = [
        ("attached", |world| {
            let mut at = world.enis["eni-0"].attachment.clone();
            at.as_mut().expect("attached").instance = Some("i-other".into());
            left_behind(world).attachment = at;
        }),
        ("young", |world| tag(left_behind(world), CREATED, "2023-11-14T22:10:00Z")),
        ("another description", |world| left_behind(world).description = "by hand".to_owned()),
        ("no description", |world| left_behind(world).description = String::new()),
        ("another instance's description", |world| left_behind(world).description = "aws-K8S-i-1".to_owned()),
        ("another cluster", |world| tag(left_behind(world), CLUSTER, "theirs")),
        ("no cluster", |world| drop(left_behind(world).tags.remove(CLUSTER))),
        ("no instance", |world| drop(left_behind(world).tags.remove(INSTANCE_TAG))),
        ("not to be managed", |world| tag(left_behind(world), NO_MANAGE, "true")),
        ("its instance is there", |world| {
            left_behind(world);
            world.instances.push("i-gone".into());
        }),
        ("instances cannot be seen", |world| {
            left_behind(world);
            world.refusing.insert(Action::DescribeInstances, Kind::Denied);
        }),
        ("switched off", |world| {
            left_behind(world);
            world.crash_into(Policy { clean_leaked: false, ..of_cluster() });
        }),
    ];
    for (why, breaks) in rows {
        let mut world = World::new(of_cluster());
        breaks(&mut world);
        world.minutes(60 * 5);
        assert!(world.enis.contains_key("eni-left"), "{why}");
        assert_eq!(deletes(&world), 0, "{why}");
    }
    // Of a node that knows no cluster, only its own.
    let mut world = World::new(addresses(1, 0));
    left_behind(&mut world);
    world.minutes(60 * 5);
    assert_eq!(deletes(&world), 0);
}

#[test]
fn an_eni_that_was_seen_once_is_not_deleted() {
    let mut world = World::new(of_cluster());
    left_behind(&mut world);
    world.settle();
    let looked = |world: &World| world.looks.iter().filter(|look| matches!(look, Call::Leaked { .. })).count();
    while looked(&world) == 0 {
        world.later(secs(10));
    }
    let first = world.at;
    // Between the looks it is attached somewhere, and detached again.
    let left = world.enis.remove("eni-left").expect("there");
    while looked(&world) == 1 {
        world.later(secs(10));
    }
    assert!(world.since(first) >= secs(600), "the second look comes ten minutes later");
    world.enis.insert("eni-left".to_owned(), left);
    while looked(&world) == 2 {
        world.later(secs(10));
    }
    assert_eq!(deletes(&world), 0, "it was seen once since");
    world.minutes(30);
    assert!(!world.enis.contains_key("eni-left"));
}

#[test]
fn an_eni_that_is_just_being_created_is_not_left_behind() {
    let mut world = World::new(addresses(1, 0));
    world.luck = 0;
    world.add_many(12);
    while !matches!(world.open.front(), Some((_, Call::CreateEni { .. }))) {
        if world.open.is_empty() {
            world.later(secs(1));
        } else {
            world.step();
        }
    }
    // The call hangs; what it made is there, and old by its tag.
    let left = left_behind(&mut world);
    tag(left, INSTANCE_TAG, "i-1");
    left.description = "aws-K8S-i-1".to_owned();
    for _ in 0..600 {
        world.later(secs(10));
    }
    assert!(world.looks.iter().filter(|look| matches!(look, Call::Leaked { .. })).count() >= 1);
    assert_eq!(deletes(&world), 0);
}

#[test]
fn each_node_looks_at_a_moment_of_its_own_in_the_hour() {
    let mut moments = Vec::new();
    for luck in [0, 0x4000_0000, 0xffff_0000] {
        let mut world = World::new(addresses(1, 0));
        world.luck = luck;
        world.settle();
        while !world.looks.iter().any(|look| matches!(look, Call::Leaked { .. })) {
            world.later(secs(60));
        }
        moments.push(world.at.as_secs() / 60);
    }
    assert!(moments[0] <= 3 && (15..20).contains(&moments[1]) && moments[2] >= 59, "{moments:?}");
}

#[test]
fn an_eni_that_can_never_be_attached_is_tried_more_and_more_rarely() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    world.refusing.insert(Action::AttachNetworkInterface, Kind::Conflict);
    for _ in 0..3_600 {
        while world.step() {}
        world.later(secs(1));
    }
    let tried = world.made(|call| matches!(call, Call::CreateEni { .. }));
    assert!((8..=30).contains(&tried), "{tried} ENIs were created in an hour");
    assert_eq!(world.enis.len() - 1, world.made(|call| matches!(call, Call::CreateEni { .. })) - deletes(&world));
    world.refusing.clear();
    world.minutes(8);
    assert_eq!((world.enis.len(), world.state.available()), (2, 18));
}

#[test]
fn a_device_that_somebody_else_took_is_not_asked_for() {
    let mut world = World::new(Policy { warm: Warm::Enis(2), ..Policy::default() });
    world.answer(crate::world::Fate::Answered);
    tag(world.attached_by_hand("eni-other", 1), NO_MANAGE, "true");
    world.settle();
    assert_eq!(world.state.available(), 18);
    let devices: Vec<_> = world.state.enis().filter_map(|eni| eni.record.device_index()).collect();
    assert!(devices.contains(&1) && devices.contains(&2), "{devices:?}");
    let asked =
        |device| world.made(|call| matches!(call, Call::Attach { device: at, .. } if *at == DeviceIndex(device)));
    assert_eq!((asked(1), asked(2)), (1, 1), "the taken one once; then EC2 was read");
}
