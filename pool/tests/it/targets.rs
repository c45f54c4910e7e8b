//! Every combination of WARM_*, MINIMUM and MAX gives amazon-vpc-cni's numbers, with and without prefixes, nothing cooling: its own table
//! of cases, its formulas over a grid of states, and what a node has once it has come to rest. Where Berth differs the test says so.

use std::net::Ipv4Addr;

use pool::{
    Address, Attached, BootTime, DeviceIndex, EniRecord, EniState, Entry, Lease, LeaseKey, Mac, NodeFacts, Numbers,
    Origin, Pod, Prefix, PrefixState, Role, Slot, State,
};

use crate::{
    peer::{Settings, Store},
    world::{World, key},
};

/// The pool of a node that holds just this.
fn holding(settings: &Settings, store: Store) -> Numbers {
    let at = BootTime::default();
    let mut entries = vec![Entry::Facts(NodeFacts {
        instance: "i-1".into(),
        primary: "eni-0".into(),
        address: Ipv4Addr::new(10, 0, 0, 10),
        subnet: "subnet-1".into(),
        vpc: "vpc-1".into(),
        zone: "us-west-2a".to_owned(),
        groups: Vec::new(),
        limits: Some(settings.limits()),
    })];
    let (mut blocks, mut pods) = (store.blocks, store.assigned);
    for eni in 0..store.enis {
        let number = u8::try_from(eni).expect("few");
        let id = format!("eni-{eni}");
        entries.push(Entry::Eni(EniRecord {
            id: id.as_str().into(),
            mac: Mac([2, 0, 0, 0, 0, number]),
            subnet: "subnet-1".into(),
            primary: Ipv4Addr::new(10, 9, 9, number),
            role: if eni == 0 { Role::Primary } else { Role::Pods },
            created: eni > 0,
            tagged: eni > 0,
            excluded: false,
            groups: std::collections::BTreeSet::new(),
            state: EniState::Ready,
            attachment: Some(Attached { id: "a".into(), device: DeviceIndex(eni), card: 0 }),
            slot: Slot::new(number + 1),
            since: at,
        }));
        for place in 0..settings.places.min(blocks) {
            let first = Ipv4Addr::from(0x0a00_0000 + (eni * settings.places + place) * 16);
            let members = if settings.prefixes { 16 } else { 1 };
            if settings.prefixes {
                let prefix = Prefix::new(first).expect("aligned");
                entries.push(Entry::Prefix(id.as_str().into(), prefix, PrefixState::Usable { since: at }));
            } else {
                entries.push(Entry::Address(id.as_str().into(), first, Address::Free { since: at }));
            }
            for address in (0..members.min(pods)).map(|n| Ipv4Addr::from(u32::from(first) + n)) {
                let lease = lease(&id, number + 1, address);
                entries.push(Entry::Address(id.as_str().into(), address, Address::Leased(lease.key.clone())));
                entries.push(Entry::Lease(lease));
            }
            pods -= members.min(pods);
        }
        blocks -= settings.places.min(blocks);
    }
    let state = State::restore(settings.policy(), at, entries);
    assert_eq!(state.check(), Vec::<String>::new(), "{settings:?} {store:?}");
    state.numbers(at)
}

fn lease(eni: &str, slot: u8, address: Ipv4Addr) -> Lease {
    let key: LeaseKey = key(&address.to_string());
    Lease {
        generation: pool::Generation(1),
        pod: Pod::default(),
        origin: Origin::Allocated,
        started: BootTime::default(),
        made: BootTime::default(),
        netns: String::new(),
        attachments: vec![pool::Attachment {
            ifname: "eth0".to_owned(),
            link: String::new(),
            path: pool::Path::Pooled { eni: eni.into(), slot: Slot::new(slot).expect("few") },
            addresses: vec![address],
        }],
        key,
    }
}

/// Its unit tests' expectations of `datastoreTargetState`: W=5 and nothing held, 2 held, 5 more; the same with prefixes.
#[test]
fn short_and_over_are_those_of_its_unit_tests() {
    let w5 = Settings { warm_ip: 5, ..Settings::OFF };
    for (blocks, short, over) in [(0, 5, 0), (2, 3, 0), (5, 0, 0)] {
        let n = holding(&w5, Store { enis: 1, blocks, ..Store::default() });
        assert_eq!((n.short, n.over), (short, over), "{blocks} addresses");
    }
    let w5 = Settings { prefixes: true, ..w5 };
    for (blocks, short, over) in [(0, 1, 0), (2, 0, 1), (1, 0, 0)] {
        let n = holding(&w5, Store { enis: 1, blocks, free_prefixes: blocks, ..Store::default() });
        assert_eq!((n.short_prefixes, n.over / 16), (short, over), "{blocks} prefixes");
    }
}

/// Its table of pools that are too low: {addresses per ENI, ENIs, WARM_ENI, WARM_IP, held, assigned, max pods}.
#[test]
fn a_pool_is_too_low_when_its_table_says_so() {
    for (places, enis, warm_eni, warm_ip, blocks, assigned, max_pods, low) in [
        (14, 4, 1, 0, 0, 0, 500, true),
        (14, 4, 0, 0, 0, 0, 500, true),
        (14, 4, 0, 3, 0, 0, 500, true),
        (3, 4, 1, 1, 3, 0, 500, false),
        (3, 4, 1, 0, 3, 1, 500, true),
        (3, 4, 0, 0, 3, 1, 500, false),
        (3, 4, 1, 0, 3, 3, 500, true),
        (3, 4, 0, 0, 3, 3, 500, true),
        (3, 4, 0, 5, 3, 3, 3, false),
    ] {
        let settings = Settings { warm_ip, warm_eni, max_pods, enis, places, ..Settings::OFF };
        let store = Store { enis: 1, blocks, assigned, ..Store::default() };
        assert_eq!(settings.too_low(store), low, "the formula written down here: {settings:?} {store:?}");
        let n = holding(&settings, store);
        assert_eq!(n.short > 0, low, "{settings:?} {store:?}: {n:?}");
    }
}

/// The formulas over every state of an ENI and a half, for every small target.
#[test]
fn short_and_over_are_its_formulas_for_every_state() {
    let mut compared = 0;
    for prefixes in [false, true] {
        let each = if prefixes { 16 } else { 1 };
        for warm_ip in [0, 1, 2, 5, 15, 16, 17, 33] {
            for minimum in [0, 1, 3, 10, 16, 17, 40] {
                for (whole, max_pods) in [(0, 500), (1, 500), (2, 500), (3, 500), (0, 6), (1, 6)] {
                    if warm_ip + minimum > 0 && whole > 0 {
                        continue;
                    }
                    let targets = Settings { warm_ip, minimum, warm_eni: whole, warm_prefix: whole, ..Settings::OFF };
                    let settings = Settings { prefixes, max_pods, places: 4, ..targets };
                    for blocks in 0..=8_u32 {
                        for assigned in (0..=blocks * each).step_by(if prefixes { 5 } else { 1 }) {
                            let free_prefixes = blocks - assigned.div_ceil(16).min(blocks);
                            let store = Store { enis: 2, blocks, assigned, free_prefixes };
                            let n = holding(&settings, store);
                            compare(&settings, store, &n);
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 4_000, "{compared} states");
}

fn compare(settings: &Settings, store: Store, n: &Numbers) {
    assert_eq!(n.short > 0, settings.too_low(store), "too low: {settings:?} {store:?} {n:?}");
    if settings.warm_ip + settings.minimum == 0 || settings.total(store) + n.short >= settings.max_pods {
        return;
    }
    assert_eq!((n.short, n.over), settings.state(store), "{settings:?} {store:?} {n:?}");
    if settings.prefixes {
        let (short, over) = settings.prefix_state(store);
        assert_eq!((n.short_prefixes, (n.over / 16).min(store.free_prefixes)), (short, over), "{settings:?} {store:?}");
    }
}

const SIZES: [(u32, u32); 3] = [(3, 9), (3, 3), (8, 29)];

/// Every target in turn, alone and with its partner, on every size.
fn every_setting() -> Vec<Settings> {
    let mut all = Vec::new();
    for (enis, places) in SIZES {
        for max_eni in [None, Some(1), Some(2)] {
            for prefixes in [false, true] {
                let base = Settings { prefixes, max_eni, enis, places, ..Settings::OFF };
                for target in 0..=3 {
                    all.push(Settings { warm_eni: target, warm_prefix: target, ..base });
                }
                for (warm_ip, minimum) in [(1, 0), (5, 0), (16, 0), (0, 10), (2, 2), (6, 10), (5, 16), (17, 40)] {
                    all.push(Settings { warm_ip, minimum, ..base });
                }
            }
        }
    }
    all
}

fn held(world: &World, settings: &Settings) -> Store {
    let (enis, singles, prefixes) = world.holds();
    assert!(if settings.prefixes { singles == 0 } else { prefixes == 0 }, "{singles} addresses, {prefixes} prefixes");
    let free = world
        .state
        .enis()
        .flat_map(|eni| eni.addresses.prefixes())
        .filter(|(_, held)| held.tally().leased == 0)
        .count();
    let count = |n: usize| u32::try_from(n).expect("few");
    Store {
        enis: count(enis),
        blocks: count(singles.max(prefixes)),
        assigned: count(world.state.leases().count()),
        free_prefixes: count(free),
    }
}

/// Pods come to a fresh node, all at once: as many ENIs and addresses as its loop ends with, one step after the other.
#[test]
fn a_node_grows_to_what_it_grows_to() {
    for settings in every_setting() {
        for pods in [0, 1, 9, 30] {
            let mut world = World::of_type(settings.policy(), settings.limits());
            world.add_many(pods);
            world.settle();
            let (theirs, ours) = (settings.grown(pods), held(&world, &settings));
            let due = pods.min(settings.capacity());
            assert_eq!(ours.assigned, due, "{settings:?} {pods} pods: {ours:?}");
            if theirs.assigned < due {
                // Amazon-vpc-cni with MINIMUM_IP_TARGET alone: a minimum in use is not short, and the next pod waits for ever.
                assert!(settings.warm_ip == 0 && settings.minimum > 0, "{settings:?} {pods} pods: {theirs:?}");
                continue;
            }
            assert_eq!(ours, Store { free_prefixes: ours.free_prefixes, ..theirs }, "{settings:?}, {pods} pods");
        }
    }
}

/// Pods go again: at rest amazon-vpc-cni would find nothing too high either.
#[test]
fn a_node_shrinks_to_where_it_has_nothing_to_give_back() {
    for settings in every_setting().into_iter().filter(|settings| settings.places < 20 && settings.max_eni != Some(2)) {
        for (most, left) in [(30, 0), (30, 1), (20, 9)] {
            let mut world = World::of_type(settings.policy(), settings.limits());
            world.add_many(most);
            world.settle();
            world.del_many(left..most);
            world.minutes(10);
            let store = held(&world, &settings);
            assert_eq!(store.assigned, left.min(settings.capacity()), "{settings:?}");
            let why = || format!("{settings:?} {most} pods, then {left}: {store:?}");
            assert!(
                !settings.too_low(store)
                    || store.blocks == settings.capacity() / (if settings.prefixes { 16 } else { 1 }),
                "{}",
                why()
            );
            let in_enis = !settings.prefixes && settings.warm_ip + settings.minimum == 0;
            let in_prefixes = settings.prefixes && settings.warm_ip + settings.minimum == 0;
            if in_enis {
                let empty = world.state.enis().any(|eni| eni.record.created && eni.is_empty());
                // Amazon-vpc-cni with WARM_ENI_TARGET=0 gives the last free ENI back, is too low then, and makes it again, for ever.
                let flaps = settings.warm_eni == 0 && settings.available(store) == settings.places;
                assert!(!settings.spare_eni(store) || !empty || flaps, "{}", why());
            } else if in_prefixes && settings.warm_prefix == 0 {
                // The same with WARM_PREFIX_TARGET=0: the last free prefix stays.
                assert!(store.free_prefixes == 0 || settings.available(store) <= 16, "{}", why());
            } else {
                assert!(!settings.too_high(store), "{}", why());
            }
        }
    }
}

/// The integration suites `warm_target` and `warm_target PD`.
#[test]
fn a_node_at_rest_has_what_its_integration_tests_expect() {
    let large = Settings { enis: 4, places: 14, ..Settings::OFF };
    for (settings, enis, blocks) in [
        (Settings { warm_eni: 3, max_eni: Some(2), ..large }, 2, 28),
        (Settings { warm_eni: 3, ..large }, 3, 42),
        (Settings { warm_eni: 2, ..large }, 2, 28),
        (Settings { warm_ip: 2, ..large }, 1, 2),
        (Settings { warm_ip: 16, ..large }, 2, 16),
        (Settings { minimum: 2, ..large }, 1, 2),
        (Settings { minimum: 16, ..large }, 2, 16),
        (Settings { warm_ip: 6, minimum: 10, ..large }, 1, 10),
        (Settings { warm_ip: 2, prefixes: true, ..large }, 1, 1),
        (Settings { warm_ip: 16, prefixes: true, ..large }, 1, 1),
        (Settings { warm_ip: 20, minimum: 40, prefixes: true, ..large }, 1, 3),
        (Settings { warm_ip: 40, minimum: 20, prefixes: true, ..large }, 1, 3),
        (Settings { warm_prefix: 2, prefixes: true, ..large }, 1, 2),
    ] {
        let mut world = World::of_type(settings.policy(), settings.limits());
        world.minutes(3);
        let store = held(&world, &settings);
        assert_eq!((store.enis, store.blocks), (enis, blocks), "{settings:?}");
    }
}

/// The integration suite `eni_ip_leak`: half of what the node can run comes and goes.
#[test]
fn enis_and_addresses_return_when_half_of_the_pods_came_and_went() {
    let settings = Settings { warm_ip: 3, warm_eni: 0, ..Settings::OFF };
    let mut world = World::of_type(settings.policy(), settings.limits());
    world.minutes(1);
    let before = world.holds();
    world.add_many(14);
    world.settle();
    assert!(world.holds() > before);
    world.del_many(0..14);
    world.minutes(6);
    assert_eq!(world.holds(), before, "after six minutes");
    assert_eq!(world.enis.len(), 1, "and nothing is left in EC2");
}
