//! What must hold on random histories of pods, failures, lost answers and restarts.

use std::{collections::BTreeMap, time::Duration};

use pool::{Kind, Limits, Policy, Ticket, Warm};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::world::{Fate, World};

#[derive(Debug, Clone)]
enum Happening {
    Add(u8),
    Del(u8),
    Answer(Fate),
    Step,
    Later(u16),
    Crash,
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
        6 => (0..12u8).prop_map(Happening::Add),
        5 => (0..12u8).prop_map(Happening::Del),
        4 => Just(Happening::Answer(Fate::Answered)),
        1 => Just(Happening::Answer(Fate::LostAfter)),
        1 => Just(Happening::Answer(Fate::LostBefore)),
        1 => kind.prop_map(|kind| Happening::Answer(Fate::Refused(kind))),
        6 => Just(Happening::Step),
        4 => (0..40_000u16).prop_map(Happening::Later),
        1 => Just(Happening::Crash),
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
    (warm, max_eni, any::<bool>(), any::<bool>()).prop_map(|(warm, max_eni, prefixes, early_reuse)| Policy {
        // As the parser does: each target where it means something.
        warm: match (warm, prefixes) {
            (Warm::Prefixes(target), false) => Warm::Enis(target),
            (Warm::Enis(target), true) => Warm::Prefixes(target),
            (warm, _) => warm,
        },
        prefixes,
        early_reuse,
        max_eni,
        ..Policy::default()
    })
}

/// The same 2,000 histories every time; `HISTORIES=300000 cargo test --release -p pool` tries others (80 s).
fn config() -> ProptestConfig {
    let more = std::env::var("HISTORIES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: more.unwrap_or(2_000),
        rng_seed: if more.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// `World` checks after every event that no address is leased twice, none is leased that EC2 does not have, none is unassigned or
    /// detached under a pod, and no limit is passed.
    #[test]
    fn no_history_breaks_the_pool(policy in policies(), history in prop::collection::vec(happening(), 1..80)) {
        let mut world = World::of_type(policy, Limits { enis: 3, addresses_per_eni: 4 });
        let mut asked: BTreeMap<String, Ticket> = BTreeMap::new();
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
            }
            let free = world.state.available();
            prop_assert!(world.state.waiting() == 0 || free == 0, "{free} free while {} wait", world.state.waiting());
        }

        // Faults stop: the pool comes to rest, and one plan is enough.
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
        for (id, seen) in &world.enis {
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

        // Everything that can be leased is.
        let free = world.state.available();
        for n in 0..free {
            let ticket = world.add(&format!("last{n}"));
            prop_assert!(world.address(ticket).is_some(), "{free} available, request {n} got {:?}", world.replies.get(&ticket));
        }
    }
}
