//! What must hold on random histories of pods, failures, lost answers and restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pool::{Event, Kind, Limits, Policy, Ticket, Warm};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::world::{Fate, Subnet, World, key, pod};

#[derive(Debug, Clone)]
enum Happening {
    Add(u8),
    Del(u8),
    Answer(Fate),
    Step,
    Later(u16),
    Crash,
    /// A restart with prefix delegation switched.
    Switch,
    /// So many pods are bound to the node.
    Demand(u8),
    Draining(bool),
    /// The kernel routes this address of the pool, the n-th, to something that is not ours; none: nothing any more.
    Foreign(Option<u8>),
    /// The kernel shows every second link.
    HalfTheLinks,
    /// Somebody else attaches an ENI, which may or may not be for us.
    AttachedByHand {
        ours: bool,
    },
    /// Everything that is available is taken.
    TakeAll,
    /// All that the other subnet has is taken, or given back.
    Exhaust(bool),
    /// The primary ENI gets other security groups.
    Groups(u8),
    /// The daemon starts again where nobody tells it the type's limits.
    LimitsUnknown,
}

fn happening() -> impl Strategy<Value = Happening> {
    let kind = prop_oneof![
        Just(Kind::Throttled),
        Just(Kind::NoFreeAddresses),
        Just(Kind::NoFreePrefix),
        Just(Kind::Unreachable),
        Just(Kind::Conflict),
        Just(Kind::Invalid),
        Just(Kind::Denied),
    ];
    prop_oneof![
        24 => (0..12u8).prop_map(Happening::Add),
        20 => (0..12u8).prop_map(Happening::Del),
        16 => Just(Happening::Answer(Fate::Answered)),
        4 => Just(Happening::Answer(Fate::LostAfter)),
        4 => Just(Happening::Answer(Fate::LostBefore)),
        4 => kind.prop_map(|kind| Happening::Answer(Fate::Refused(kind))),
        24 => Just(Happening::Step),
        16 => (0..40_000u16).prop_map(Happening::Later),
        4 => Just(Happening::Crash),
        1 => Just(Happening::Switch),
        4 => (0..12u8).prop_map(Happening::Demand),
        2 => any::<bool>().prop_map(Happening::Draining),
        2 => prop::option::of(0..12u8).prop_map(Happening::Foreign),
        3 => Just(Happening::HalfTheLinks),
        1 => any::<bool>().prop_map(|ours| Happening::AttachedByHand { ours }),
        1 => Just(Happening::TakeAll),
        2 => any::<bool>().prop_map(Happening::Exhaust),
        1 => (0..4u8).prop_map(Happening::Groups),
        1 => Just(Happening::LimitsUnknown),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let warm = prop_oneof![
        (0..3u32).prop_map(Warm::Enis),
        (0..4u32, 0..6u32).prop_map(|(warm, minimum)| Warm::Addresses { warm, minimum }),
        Just(Warm::Demand),
        (0..3u32).prop_map(Warm::Prefixes),
    ];
    let max_eni = prop_oneof![Just(None), (1..4u32).prop_map(Some)];
    let max_pods = prop_oneof![Just(None), (1..12u32).prop_map(Some)];
    (warm, max_eni, max_pods, any::<bool>(), any::<bool>()).prop_map(
        |(warm, max_eni, max_pods, prefixes, early_reuse)| {
            let policy = Policy { warm, prefixes, early_reuse, max_eni, max_pods, ..Policy::default() };
            Policy { warm: meant(warm, prefixes), ..policy }
        },
    )
}

/// As the parser does: each target where it means something.
fn meant(warm: Warm, prefixes: bool) -> Warm {
    match (warm, prefixes) {
        (Warm::Prefixes(target), false) => Warm::Enis(target),
        (Warm::Enis(target), true) => Warm::Prefixes(target),
        (warm, _) => warm,
    }
}

/// The same 1,000 histories every time; `HISTORIES=100000 cargo test --release -p pool` tries others.
fn config() -> ProptestConfig {
    let more = std::env::var("HISTORIES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: more.unwrap_or(1_000),
        rng_seed: if more.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// `World` checks after every event that no address is leased twice, none is leased that EC2 does not have, none is unassigned or
    /// detached under a pod or while it cools, and no limit is passed.
    #[test]
    fn no_history_breaks_the_pool(policy in policies(), history in prop::collection::vec(happening(), 1..80)) {
        let role = BTreeMap::from([("kubernetes.io/role/cni".to_owned(), "1".to_owned())]);
        let other = Subnet { free: 10, prefixes: 3, tags: role };
        let subnets = BTreeMap::from([("subnet-1".to_owned(), Subnet::default()), ("subnet-2".to_owned(), other)]);
        let mut world = World::in_zone(policy, Limits { enis: 3, addresses_per_eni: 4 }, subnets);
        let mut asked: BTreeMap<String, Ticket> = BTreeMap::new();
        let (mut others, mut taken, mut switched) = (0, 0, false);
        for happening in history {
            match happening {
                Happening::Add(n) => {
                    let name = format!("p{n}");
                    let ticket = world.add(&name);
                    asked.insert(name, ticket);
                }
                Happening::Del(n) => world.del(&format!("p{n}")),
                Happening::Answer(fate) => world.answer(fate),
                Happening::Step => drop(world.step()),
                Happening::Later(ms) => world.later(Duration::from_millis(u64::from(ms))),
                Happening::Crash => world.crash(),
                Happening::Switch => {
                    switched = true;
                    let (warm, prefixes) = (world.policy.warm, !world.policy.prefixes);
                    world.crash_into(Policy { warm: meant(warm, prefixes), prefixes, ..world.policy.clone() });
                }
                Happening::Demand(pods) => {
                    world.event(Event::Demand((0..pods).map(|n| pod(&format!("p{n}"))).collect()));
                }
                Happening::Draining(draining) => world.event(Event::Draining(draining)),
                Happening::Foreign(which) => {
                    let held = |eni: &pool::Eni| eni.addresses.iter().map(|(address, _)| address).collect::<Vec<_>>();
                    let all: Vec<_> = world.state.enis().flat_map(held).collect();
                    let foreign = which.and_then(|n| all.get(usize::from(n))).copied().into_iter().collect();
                    world.event(Event::Foreign(foreign));
                }
                Happening::HalfTheLinks => {
                    let there = (0..12).step_by(2).map(|n| key(&format!("p{n}"))).collect();
                    world.event(Event::Sandboxes(there));
                }
                Happening::AttachedByHand { ours } => {
                    let attached = world.enis.values().filter(|eni| eni.attachment.is_some());
                    let devices: BTreeSet<_> = attached.filter_map(|eni| eni.attachment.as_ref()).map(|at| at.device.0).collect();
                    let free = (1..3).find(|device| !devices.contains(device));
                    if let Some(device) = free.filter(|_| devices.len() < 3) {
                        others += 1;
                        let eni = world.attached_by_hand(&format!("eni-other-{others}"), device);
                        if !ours {
                            eni.tags.insert("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned());
                        }
                    }
                }
                Happening::TakeAll => {
                    taken += 1;
                    let free = world.state.available();
                    let cooling = world.state.numbers(world.now()).cooling as usize;
                    if world.state.waiting() == 0 {
                        let mut got = 0;
                        loop {
                            let ticket = world.add(&format!("t{taken}-{got}"));
                            if world.address(ticket).is_none() {
                                break;
                            }
                            got += 1;
                        }
                        // Whether something else can be had may turn out otherwise by asking: cooling ones are used early, where that
                        // is allowed, or not any more.
                        let early = if world.policy.early_reuse { cooling } else { 0 };
                        let expected = free.saturating_sub(early)..=free + early;
                        prop_assert!(expected.contains(&got), "{free} available, {got} got one");
                        for n in 0..=got {
                            world.del(&format!("t{taken}-{n}"));
                        }
                    }
                }
                Happening::Groups(n) => {
                    world.groups = (0..=n % 2).map(|group| format!("sg-{}", n + group).as_str().into()).collect();
                    world.facts();
                }
                Happening::LimitsUnknown => world.crash_without_limits(),
                Happening::Exhaust(now) => world.subnet("subnet-2").free = if now { 0 } else { 10 },
            }
            let free = world.state.available();
            prop_assert!(world.state.waiting() == 0 || free == 0, "{free} free while {} wait", world.state.waiting());
        }

        // Faults stop: the pool comes to rest, and one plan is enough.
        world.event(Event::Foreign(BTreeSet::new()));
        world.facts();
        for _ in 0..12 {
            world.settle();
            world.later(Duration::from_mins(1));
        }
        world.settle();
        let calls = world.calls.len();
        world.later(Duration::from_mins(10));
        world.settle();
        prop_assert_eq!(world.calls.len(), calls, "a pool at rest asks for nothing: {:?}", &world.calls[calls..]);

        // Nothing leaks: EC2 has what the pool has.
        // An ENI that somebody else attached is seen at a restart, or when its device is wanted.
        for (id, seen) in world.enis.iter().filter(|(id, _)| !id.starts_with("eni-other")) {
            let known = world.state.enis().find(|eni| eni.record.id.as_str() == id);
            prop_assert!(known.is_some(), "{} is forgotten: {:?}", id, seen);
            let mut addresses: Vec<_> =
                known.map(|eni| eni.addresses.singles().map(|(address, _)| address).collect()).unwrap_or_default();
            let prefixes: Vec<_> =
                known.map(|eni| eni.addresses.prefixes().map(|(prefix, _)| prefix).collect()).unwrap_or_default();
            let mut there_prefixes = seen.prefixes.clone();
            there_prefixes.sort();
            prop_assert_eq!(prefixes, there_prefixes);
            let mut there = seen.secondary.clone();
            addresses.sort();
            there.sort();
            prop_assert_eq!(addresses, there);
        }

        // The ENIs that we made follow the primary ENI's security groups.
        let groups: BTreeSet<_> = world.groups.iter().cloned().collect();
        for ours in world.state.enis().filter(|eni| eni.record.created) {
            prop_assert_eq!(&world.enis[ours.record.id.as_str()].groups, &groups);
        }

        // Everything that can be leased is.
        let free = world.state.available();
        for n in 0..free {
            let ticket = world.add(&format!("last{n}"));
            prop_assert!(world.address(ticket).is_some(), "{free} available, request {n} got {:?}", world.replies.get(&ticket));
        }

        // A plan from what is known never asks for more than EC2 allows.
        prop_assert!(others > 0 || world.over_limit == 0, "EC2 said {} times that it is enough", world.over_limit);

        // All pods go: the node is as a fresh one, and nothing is left over in EC2.
        let gone: Vec<_> = world.state.leases().map(|lease| lease.key.container.clone()).collect();
        for pod in &gone {
            world.del(pod);
        }
        world.event(Event::Demand(BTreeSet::new()));
        world.event(Event::Draining(false));
        world.minutes(12);
        let mut fresh = World::of_type(world.policy.clone(), world.limits);
        fresh.minutes(2);
// Whole ENIs are not filled up for ever once a subnet had less than was asked for.
        let to_the_number = matches!(world.policy.warm, Warm::Addresses { .. } | Warm::Demand);
        let in_order = others == 0 && !switched && !world.policy.prefixes && world.policy.max_pods.is_none();
        prop_assert!(!in_order || !to_the_number || world.holds() == fresh.holds(), "{:?} and not {:?}", world.holds(), fresh.holds());
        let attached = world.enis.values().filter(|eni| eni.attachment.is_some()).count();
        prop_assert_eq!(world.enis.len(), attached, "an ENI is left over");
    }
}
