//! The difference between what a node should have and what it has.
//!
//! Owns which routes and rules are missing and which are left over. Only ever compares what carries Berth's protocol
//! number; a route to a pod's link belongs to its lease and is never left over here. Never touches the kernel.

use std::collections::BTreeSet;

use crate::desired::{Desired, Route, Rule, Target};

/// What to do so that the kernel has what it should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Routes to add.
    pub missing_routes: Vec<Route>,
    /// Routes to delete.
    pub surplus_routes: Vec<Route>,
    /// Rules to add.
    pub missing_rules: Vec<Rule>,
    /// Rules to delete.
    pub surplus_rules: Vec<Rule>,
}

impl Difference {
    /// Compares. `routes` and `rules` are all that carry Berth's protocol number.
    pub fn between(desired: &Desired, routes: &[Route], rules: &[Rule]) -> Self {
        let routes: BTreeSet<Route> =
            routes.iter().copied().filter(|route| !is_a_pods(route, desired.pods_table)).collect();
        let present: BTreeSet<Rule> = rules.iter().copied().collect();
        // The kernel keeps equal rules apart: a second one has to go as well.
        let mut seen = BTreeSet::new();
        let surplus = rules.iter().copied().filter(|rule| !seen.insert(*rule) || !desired.rules.contains(rule));
        Self {
            missing_routes: desired.routes.difference(&routes).copied().collect(),
            surplus_routes: routes.difference(&desired.routes).copied().collect(),
            missing_rules: desired.rules.difference(&present).copied().collect(),
            surplus_rules: surplus.collect(),
        }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_a_pods(route: &Route, pods_table: u32) -> bool {
    route.table == pods_table && matches!(route.target, Target::Link { .. })
}
