//! Fleets that start at once, smaller than those of `make bench` with smaller buckets, and the day of a node.
//!
//! Owns what both models must do before one is compared with the other.

use std::{collections::BTreeMap, time::Duration};

use pool::{Policy, Warm};
use sim::{
    Action,
    fleet::{self, Churning, Fleet, Report, Strategy},
};

use crate::on_paused;

/// With as little of EC2's rates as fifty of a thousand have.
fn fifty(strategy: Strategy, prefixes: bool) -> Fleet {
    Fleet { nodes: 50, share: 0.05, ..Fleet::thousand(7, prefixes, strategy) }
}

fn play(fleet: &Fleet) -> Report {
    on_paused(fleet::run(fleet))
}

#[test]
fn a_fleet_is_served_sooner_and_throttled_less_than_the_peers() {
    for prefixes in [false, true] {
        let [ours, peers] = [Strategy::Berth, Strategy::Peer].map(|strategy| play(&fifty(strategy, prefixes)));
        println!("{ours}{peers}");
        assert_eq!((ours.unserved, peers.unserved), (0, 0), "{ours}{peers}");
        assert!(ours.last() < peers.last() && ours.percentile(50) < peers.percentile(50), "{ours}{peers}");
        assert!(ours.throttled() * 4 < peers.throttled(), "{ours}{peers}");
    }
}

#[test]
fn a_fleet_is_served_soon_after_what_its_calls_allow() {
    for prefixes in [false, true] {
        let fleet = fifty(Strategy::Berth, prefixes);
        let (ours, bound) = (play(&fleet), fleet.bound());
        assert!(ours.last() < bound.last * 3 / 2, "{bound}\n{ours}");
        assert!(ours.percentile(50) < bound.half * 3 / 2, "{bound}\n{ours}");
    }
}

#[test]
fn nobody_is_faster_than_the_bound() {
    for strategy in [Strategy::Berth, Strategy::Peer] {
        for prefixes in [false, true] {
            let fleet = fifty(strategy, prefixes);
            let (report, bound) = (play(&fleet), fleet.bound());
            assert!(bound.half <= report.percentile(50) && bound.last <= report.last(), "{bound}\n{report}");
        }
    }
}

#[test]
fn the_bound_of_a_thousand_nodes_is_what_their_attaches_need() {
    let fleet = Fleet::thousand(0, false, Strategy::Berth);
    // 2,000 attaches, 50 at once and 5 a second, and 2 s until a device is there.
    assert_eq!(fleet.bound().last, Duration::from_secs(390 + 2));
    assert_eq!(fleet.bound().calls, 5_000);
}

#[test]
fn the_same_fleet_gives_the_same_report() {
    for strategy in [Strategy::Berth, Strategy::Peer] {
        let fleet = fifty(strategy, false);
        let (one, other) = (play(&fleet), play(&fleet));
        assert!(one == other, "{one}{other}");
        let another = play(&Fleet { seed: 8, ..fleet });
        assert!(one != another, "{one}{another}");
    }
}

/// Calls of one node that EC2 never throttles, without the search for leaked ENIs, which comes when it comes.
fn calls_alone(strategy: Strategy) -> BTreeMap<Action, u64> {
    let report = play(&Fleet { nodes: 1, share: 0.0, ..Fleet::thousand(1, false, strategy) });
    assert_eq!((report.throttled(), report.unserved, report.served.len()), (0, 0, 20), "{report}");
    report.calls.into_iter().map(|(action, asked)| (action, asked.accepted)).collect()
}

#[test]
fn the_peers_node_makes_the_calls_that_were_counted_when_it_ran() {
    let mut calls = calls_alone(Strategy::Peer);
    // Five for its start, six for each of two ENIs, and the search for leaked ENIs within five minutes.
    let leaked = 1;
    *calls.entry(Action::DescribeNetworkInterfaces).or_default() -= leaked;
    let counted = [
        (Action::DescribeInstances, 2),
        (Action::DescribeSubnets, 1 + 2 * 2),
        (Action::CreateNetworkInterface, 2),
        (Action::DescribeNetworkInterfaces, 1),
        (Action::AttachNetworkInterface, 2),
        (Action::ModifyNetworkInterfaceAttribute, 1 + 2),
        (Action::AssignPrivateIpAddresses, 1),
        (Action::CreateTags, 1),
    ];
    assert_eq!(calls, BTreeMap::from(counted));
}

#[test]
fn a_node_of_ours_makes_three_calls_for_each_eni_and_four_beside_them() {
    let calls = calls_alone(Strategy::Berth);
    assert_eq!(calls[&Action::CreateNetworkInterface], 2);
    assert_eq!(calls[&Action::AttachNetworkInterface], 2);
    assert_eq!(calls[&Action::ModifyNetworkInterfaceAttribute], 2);
    assert_eq!(calls[&Action::AssignPrivateIpAddresses], 1);
    let reads = [Action::DescribeInstanceTypes, Action::DescribeSubnets];
    assert!(reads.iter().all(|read| calls[read] == 1), "{calls:?}");
    // The search for leaked ENIs may come.
    assert!(calls[&Action::DescribeNetworkInterfaces] <= 2 && calls.len() == 7, "{calls:?}");
}

#[test]
fn a_node_at_rest_calls_ec2_once_an_hour_at_most() {
    let policies = [
        Policy::default(),
        Policy { warm: Warm::Addresses { warm: 5, minimum: 10 }, ..Policy::default() },
        Policy { warm: Warm::Demand, ..Policy::default() },
        Policy { warm: Warm::Prefixes(1), prefixes: true, ..Policy::default() },
    ];
    for policy in policies {
        for churning in [Churning::Never, Churning::Lightly] {
            let day = on_paused(fleet::day(3, policy.clone(), churning));
            println!("{:?} {churning:?}: {day:?}", policy.warm);
            assert!(day.calls.contains_key(&Action::DescribeNetworkInterfaces), "nothing was counted: {day:?}");
            if churning == Churning::Never {
                assert!(day.total() <= 24, "{:?} {churning:?}: {day:?}", policy.warm);
            }
        }
    }
}
