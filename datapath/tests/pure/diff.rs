//! What is missing and what is left over.

use datapath::desired::{Desired, Route, Rule, Selector, Target};
use datapath::diff::Difference;

use crate::facts::facts;

#[test]
fn a_node_that_has_what_it_should_needs_nothing() {
    let desired = Desired::of(&facts());
    let (routes, rules): (Vec<_>, Vec<_>) =
        (desired.routes.iter().copied().collect(), desired.rules.iter().copied().collect());
    assert!(Difference::between(&desired, &routes, &rules).is_empty());
}

#[test]
fn an_empty_node_misses_everything() {
    let desired = Desired::of(&facts());
    let difference = Difference::between(&desired, &[], &[]);
    assert_eq!(difference.missing_routes.len(), desired.routes.len());
    assert_eq!(difference.missing_rules.len(), desired.rules.len());
    assert!(difference.surplus_routes.is_empty() && difference.surplus_rules.is_empty());
}

#[test]
fn routes_to_pods_are_never_left_over_and_all_others_are() {
    let desired = Desired::of(&facts());
    let route = |table, target| Route {
        table,
        destination: "10.0.2.11/32".parse().expect("an address"),
        target,
        source: None,
        metric: 0,
    };
    let pod = route(7000, Target::Link { index: 99, via: None });
    let left_over = [route(7002, Target::Link { index: 99, via: None }), route(7000, Target::Unreachable)];
    let mut routes: Vec<_> = desired.routes.iter().copied().collect();
    routes.push(pod);
    routes.extend(left_over);
    let mut found = Difference::between(&desired, &routes, &[]).surplus_routes;
    found.sort();
    let mut expected = left_over.to_vec();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_rule_that_is_there_twice_is_left_over_once() {
    let desired = Desired::of(&facts());
    let mut rules: Vec<_> = desired.rules.iter().copied().collect();
    let twice = Rule { priority: 512, selector: Selector::All, table: 7000 };
    assert!(rules.contains(&twice));
    rules.push(twice);
    let difference = Difference::between(&desired, &[], &rules);
    assert_eq!((difference.surplus_rules, difference.missing_rules), (vec![twice], Vec::new()));
}

#[test]
fn a_route_that_leads_elsewhere_is_replaced() {
    let desired = Desired::of(&facts());
    let right = desired.routes.iter().copied().find(|route| route.table == 7102).expect("a reply route");
    let mut wrong = right;
    wrong.target = Target::Link { index: 77, via: Some([10, 0, 9, 1].into()) };
    let routes: Vec<_> = desired.routes.iter().copied().filter(|route| *route != right).chain([wrong]).collect();
    let difference = Difference::between(&desired, &routes, &[]);
    assert_eq!((difference.missing_routes, difference.surplus_routes), (vec![right], vec![wrong]));
}
