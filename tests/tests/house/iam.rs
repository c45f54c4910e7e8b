//! The policies in `deploy/iam` allow what the daemon asks of EC2, and nothing else.
//!
//! Owns the comparison of three lists: the actions that the pool names, those that the adapter sends, those that the policies allow. Never
//! judges what a condition does in EC2: nobody but EC2 can.

use std::collections::BTreeSet;

use pool::Action;
use serde_json::Value;

use crate::workspace;

fn policy(name: &str) -> Value {
    let path = workspace::root().join("deploy/iam").join(name);
    let text = std::fs::read_to_string(&path).expect("a policy");
    serde_json::from_str(&text).expect("JSON")
}

fn statements(policy: &Value) -> &[Value] {
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().expect("a list of statements")
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// `ec2:CreateTags`, and so on.
fn allowed(policy: &Value) -> BTreeSet<String> {
    let allows = |statement: &&Value| statement["Effect"] == "Allow";
    statements(policy).iter().filter(allows).flat_map(|statement| words(&statement["Action"])).collect()
}

fn called() -> BTreeSet<String> {
    Action::ALL.iter().map(|action| format!("ec2:{action}")).collect()
}

fn reads(action: &str) -> bool {
    action.starts_with("ec2:Describe")
}

/// `CreateTags` is `create_tags` in the SDK.
fn snake(action: &str) -> String {
    let low = |(at, letter): (usize, char)| {
        let gap = if at > 0 && letter.is_uppercase() { "_" } else { "" };
        format!("{gap}{}", letter.to_lowercase())
    };
    action.chars().enumerate().map(low).collect()
}

/// The SDK's operations that these sources begin.
fn operations(text: &str) -> BTreeSet<String> {
    let dense: String = text.split_whitespace().collect();
    let begun = dense.split("self.client().").skip(1);
    begun
        .filter_map(|rest| rest.split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name != "config")
        .collect()
}

#[test]
fn the_adapter_sends_the_actions_that_the_pool_names_and_no_others() {
    let sources = workspace::rust();
    let of_the_adapter = sources.iter().filter(|source| source.path.starts_with("cloud-aws/src/"));
    let sent: BTreeSet<String> = of_the_adapter.flat_map(|source| operations(&source.text)).collect();
    let named: BTreeSet<String> = Action::ALL.iter().map(|action| snake(action.name())).collect();
    assert_eq!(sent, named);
}

#[test]
fn operations_are_found_over_lines() {
    let text =
        "let call = self\n    .client()\n    .create_tags()\n    .resources(1);\nself.client().describe_x().send()";
    assert_eq!(operations(text), BTreeSet::from(["create_tags".to_owned(), "describe_x".to_owned()]));
    assert_eq!(snake("AssignPrivateIpAddresses"), "assign_private_ip_addresses");
}

#[test]
fn the_least_policy_allows_what_is_called_and_nothing_else() {
    assert_eq!(allowed(&policy("least.json")), called());
}

#[test]
fn the_scoped_policy_allows_the_same_and_changes_no_eni_without_a_condition() {
    let scoped = policy("scoped.json");
    assert_eq!(allowed(&scoped), called());
    for statement in statements(&scoped) {
        let (actions, resources) = (words(&statement["Action"]), words(&statement["Resource"]));
        let touches_enis = resources.iter().any(|resource| resource == "*" || resource.contains(":network-interface/"));
        let conditional = statement["Condition"].is_object();
        assert!(conditional || !touches_enis || actions.iter().all(|action| reads(action)), "{statement:#}");
    }
    let text = scoped.to_string();
    for tag in ["aws:RequestTag/cluster.k8s.amazonaws.com/name", "aws:RequestTag/node.k8s.amazonaws.com/instance_id"] {
        assert!(text.contains(tag), "an ENI without {tag} is refused");
    }
}

#[test]
fn the_policy_for_assigning_makes_attaches_and_takes_away_nothing() {
    let expected = |action: &String| {
        reads(action) || action.contains("AssignPrivateIpAddresses") || action.contains("UnassignPrivateIpAddresses")
    };
    let expected: BTreeSet<_> = called().into_iter().filter(expected).collect();
    assert_eq!(allowed(&policy("assign-only.json")), expected);
}

#[test]
fn what_stops_without_an_action_is_said_for_each_once() {
    let path = workspace::root().join("deploy/iam/README.md");
    let text = std::fs::read_to_string(path).expect("a page");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `ec2:")?.split_once('`')).map(|(name, _)| name);
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    let mut named: Vec<_> = Action::ALL.iter().map(|action| action.name()).collect();
    named.sort_unstable();
    assert_eq!(rows, named);
}
