//! What the pool is to be.
//!
//! Owns the meaning of amazon-vpc-cni's targets and of ours, and which of them goes before which. Never computes with them.

use std::{collections::BTreeMap, time::Duration};

use pool::{Policy, Warm};

use super::{Note, budget, reader::Reader};

pub(super) fn read(from: &mut Reader<'_>) -> Policy {
    let prefixes = from.switch("ENABLE_PREFIX_DELEGATION").unwrap_or(false);
    let warm = warm(from, prefixes);
    let seconds = from
        .value("IP_COOLDOWN_PERIOD", "a whole number of seconds, 0 or more", |value| value.parse::<u32>().ok())
        .unwrap_or(30);
    Policy {
        warm,
        prefixes,
        max_eni: from.count("MAX_ENI", 1),
        max_pods: from.within("BERTH_MAX_PODS", 1..=u32::MAX),
        cooling: Duration::from_secs(seconds.into()),
        early_reuse: from.switch("BERTH_EARLY_REUSE").unwrap_or(false),
        shrink_after: from.duration("BERTH_SHRINK_AFTER").unwrap_or(Duration::from_secs(60)),
        reclaim_after: from.duration("BERTH_RECLAIM_AFTER").unwrap_or(Duration::from_secs(60)),
        subnet_discovery: from.switch("ENABLE_SUBNET_DISCOVERY").unwrap_or(true),
        manage_unschedulable: from.switch("AWS_MANAGE_ENIS_NON_SCHEDULABLE").unwrap_or(false),
        clean_leaked: !from.switch("DISABLE_LEAKED_ENI_CLEANUP").unwrap_or(false),
        manage_untagged: from.switch("MANAGE_UNTAGGED_ENI").unwrap_or(true),
        cluster: from.text("CLUSTER_NAME"),
        tags: tags(from),
        budgets: budget::read(from),
    }
}

/// BERTH_WARM goes before everything; then WARM_IP_TARGET and MINIMUM_IP_TARGET; then WARM_PREFIX_TARGET with prefixes and
/// WARM_ENI_TARGET without.
fn warm(from: &mut Reader<'_>, prefixes: bool) -> Warm {
    let demand = from.word("BERTH_WARM", &[("targets", false), ("demand", true)]).unwrap_or(false);
    let enis = from.count("WARM_ENI_TARGET", 0).unwrap_or(1);
    let warm = from.count("WARM_IP_TARGET", 1).unwrap_or(0);
    let minimum = from.count("MINIMUM_IP_TARGET", 1).unwrap_or(0);
    let whole = from.count("WARM_PREFIX_TARGET", 1).unwrap_or(0);
    if demand {
        for target in ["WARM_ENI_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET", "WARM_PREFIX_TARGET"] {
            from.without_effect(target, "BERTH_WARM is demand");
        }
        return Warm::Demand;
    }
    if prefixes {
        from.without_effect("WARM_ENI_TARGET", "with ENABLE_PREFIX_DELEGATION, WARM_PREFIX_TARGET takes its place");
    } else {
        from.without_effect("WARM_PREFIX_TARGET", "its switch ENABLE_PREFIX_DELEGATION is off");
    }
    match (warm, minimum) {
        (0, 0) if !prefixes => Warm::Enis(enis),
        (0, 0) => {
            // As amazon-vpc-cni: a pool without a target would never fill.
            if whole == 0 {
                let needs =
                    "needs WARM_PREFIX_TARGET, WARM_IP_TARGET or MINIMUM_IP_TARGET above 0, or BERTH_WARM=demand";
                from.wrong("ENABLE_PREFIX_DELEGATION", "true", needs);
            }
            Warm::Prefixes(whole)
        }
        (warm, minimum) => {
            if prefixes {
                from.without_effect("WARM_PREFIX_TARGET", "WARM_IP_TARGET or MINIMUM_IP_TARGET goes before it");
            }
            Warm::Addresses { warm, minimum }
        }
    }
}

/// amazon-vpc-cni leaves out keys that only it may write; so do we, and say so.
fn tags(from: &mut Reader<'_>) -> BTreeMap<String, String> {
    let allowed = r#"a JSON object of strings such as {"team":"network"}"#;
    let mut tags: BTreeMap<String, String> =
        from.value("ADDITIONAL_ENI_TAGS", allowed, |value| serde_json::from_str(value).ok()).unwrap_or_default();
    let before = tags.len();
    tags.retain(|key, _| !key.contains("k8s.amazonaws.com"));
    if tags.len() < before {
        from.notes.push(Note { variable: "ADDITIONAL_ENI_TAGS", why: "keys with k8s.amazonaws.com are left out" });
    }
    tags
}
