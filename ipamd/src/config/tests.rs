//! What variables mean, which mistakes are told, what is refused by name.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use pool::Warm;

use super::*;

fn with(settings: &[(&str, &str)]) -> Result<(Config, Vec<Note>), Mistakes> {
    let settings: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(&|name| settings.get(name).cloned())
}

fn config(settings: &[(&str, &str)]) -> Config {
    with(settings).expect("a good configuration").0
}

fn warm(settings: &[(&str, &str)]) -> Warm {
    config(settings).policy.warm
}

#[test]
fn every_known_variable_is_read_and_no_other() {
    let read = RefCell::new(BTreeSet::new());
    let _ = parse(&|name| {
        read.borrow_mut().insert(name.to_owned());
        None
    });
    let known: BTreeSet<_> = VARIABLES.iter().map(|variable| variable.name.to_owned()).collect();
    assert_eq!(read.into_inner(), known);
}

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    let config = config(&[]);
    assert_eq!(config.policy, Policy::default());
    expect_test::expect![[r"
        BERTH_RUN_DIR=/run/berth
        BERTH_STATE_DIR=/var/lib/berth
        AWS_VPC_K8S_CNI_BACKING_STORE=/var/run/aws-node/ipam.json
        BERTH_METRICS_BIND=0.0.0.0:61678
        BERTH_WARM=targets
        BERTH_ADD_DEADLINE=45s
        BERTH_MAX_PODS=
        BERTH_SHRINK_AFTER=1m
        BERTH_RECLAIM_AFTER=1m
        BERTH_EARLY_REUSE=false
        BERTH_EC2_BUDGET=
        AWS_VPC_CNI_NODE_PORT_SUPPORT=true
        BERTH_MARK_SHIFT=0
        BERTH_TABLE_BASE=7000
        BERTH_PRIORITY_BASE=512
        WARM_ENI_TARGET=1
        WARM_IP_TARGET=0
        MINIMUM_IP_TARGET=0
        WARM_PREFIX_TARGET=0
        ENABLE_PREFIX_DELEGATION=false
        MAX_ENI=
        IP_COOLDOWN_PERIOD=30
        ENABLE_SUBNET_DISCOVERY=true
        AWS_MANAGE_ENIS_NON_SCHEDULABLE=false
        DISABLE_LEAKED_ENI_CLEANUP=false
        MANAGE_UNTAGGED_ENI=true
        CLUSTER_NAME=
        ADDITIONAL_ENI_TAGS={}
        HTTP_TIMEOUT=10
        AWS_VPC_K8S_CNI_EXTERNALSNAT=false
        AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS=
        AWS_EXTERNAL_SERVICE_CIDRS=
        AWS_VPC_K8S_CNI_RANDOMIZESNAT=prng
        AWS_VPC_ENI_MTU=9001
        POD_MTU=9001
        AWS_VPC_K8S_CNI_VETHPREFIX=eni
        NETWORK_POLICY_ENFORCING_MODE=
        MY_NODE_NAME=
        AWS_VPC_K8S_CNI_LOGLEVEL=INFO
    "]]
    .assert_eq(&config.to_string());
}

#[test]
fn the_printed_configuration_gives_the_same_configuration() {
    for settings in [
        &[][..],
        &[
            ("WARM_IP_TARGET", "5"),
            ("MINIMUM_IP_TARGET", "10"),
            ("MAX_ENI", "3"),
            ("BERTH_MAX_PODS", "29"),
            ("ADDITIONAL_ENI_TAGS", r#"{"team":"network"}"#),
            ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.1.0.0/16, 10.2.3.4"),
            ("AWS_VPC_ENI_MTU", "1500"),
            ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none"),
            ("BERTH_METRICS_BIND", ":9"),
            ("BERTH_ADD_DEADLINE", "1m 30s"),
            ("NETWORK_POLICY_ENFORCING_MODE", "Standard"),
            ("CLUSTER_NAME", "blue"),
            ("MY_NODE_NAME", "node-1"),
            ("AWS_VPC_K8S_CNI_LOGLEVEL", "debug"),
        ][..],
        &[("DISABLE_METRICS", "T"), ("WARM_ENI_TARGET", "0")][..],
        &[
            ("ENABLE_PREFIX_DELEGATION", "true"),
            ("WARM_PREFIX_TARGET", "2"),
            ("ENABLE_SUBNET_DISCOVERY", "false"),
            ("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true"),
            ("DISABLE_LEAKED_ENI_CLEANUP", "true"),
            ("BERTH_EARLY_REUSE", "true"),
            ("BERTH_RECLAIM_AFTER", "90s"),
            ("BERTH_EC2_BUDGET", " CreateTags = 5 / 0.3 ,DescribeSubnets=1/7,"),
        ][..],
        &[("ENABLE_PREFIX_DELEGATION", "true"), ("MINIMUM_IP_TARGET", "20"), ("WARM_PREFIX_TARGET", "2")][..],
        &[("ENABLE_PREFIX_DELEGATION", "true"), ("BERTH_WARM", "Demand"), ("WARM_ENI_TARGET", "7")][..],
    ] {
        let first = config(settings);
        let printed = first.to_string();
        let again: BTreeMap<_, _> = printed.lines().map(|line| line.split_once('=').expect("VARIABLE=value")).collect();
        let second = parse(&|name| again.get(name).map(|value| (*value).to_owned())).expect("what was printed").0;
        assert_eq!(first, second);
    }
}

#[test]
fn warm_targets_mean_what_amazon_vpc_cni_means() {
    assert_eq!(warm(&[]), Warm::Enis(1));
    assert_eq!(warm(&[("WARM_ENI_TARGET", "0")]), Warm::Enis(0));
    assert_eq!(warm(&[("WARM_ENI_TARGET", "-1")]), Warm::Enis(1), "below 0 is not set");
    assert_eq!(warm(&[("WARM_ENI_TARGET", "3"), ("WARM_IP_TARGET", "0"), ("MINIMUM_IP_TARGET", "-2")]), Warm::Enis(3));
    assert_eq!(warm(&[("WARM_IP_TARGET", "5")]), Warm::Addresses { warm: 5, minimum: 0 });
    assert_eq!(warm(&[("MINIMUM_IP_TARGET", "7")]), Warm::Addresses { warm: 0, minimum: 7 });
    assert_eq!(
        warm(&[("WARM_ENI_TARGET", "2"), ("WARM_IP_TARGET", "5"), ("MINIMUM_IP_TARGET", "10")]),
        Warm::Addresses { warm: 5, minimum: 10 }
    );
    for none in ["-1", "0"] {
        assert_eq!(config(&[("MAX_ENI", none)]).policy.max_eni, None);
    }
    assert_eq!(config(&[("MAX_ENI", "4")]).policy.max_eni, Some(4));
}

/// The variables that are said to change nothing.
fn noted(settings: &[(&str, &str)]) -> Vec<&'static str> {
    with(settings).expect("a good configuration").1.iter().map(|note| note.variable).collect()
}

#[test]
fn with_prefixes_whole_prefixes_are_a_target_and_whole_enis_are_none() {
    const ON: (&str, &str) = ("ENABLE_PREFIX_DELEGATION", "true");
    assert!(config(&[ON, ("WARM_PREFIX_TARGET", "1")]).policy.prefixes);
    assert_eq!(warm(&[ON, ("WARM_PREFIX_TARGET", "2"), ("WARM_ENI_TARGET", "3")]), Warm::Prefixes(2));
    assert_eq!(noted(&[ON, ("WARM_PREFIX_TARGET", "2"), ("WARM_ENI_TARGET", "3")]), ["WARM_ENI_TARGET"]);

    let both = [ON, ("WARM_PREFIX_TARGET", "2"), ("WARM_IP_TARGET", "5")];
    assert_eq!((warm(&both), noted(&both)), (Warm::Addresses { warm: 5, minimum: 0 }, vec!["WARM_PREFIX_TARGET"]));
    let floor = [ON, ("WARM_PREFIX_TARGET", "2"), ("MINIMUM_IP_TARGET", "9")];
    assert_eq!((warm(&floor), noted(&floor)), (Warm::Addresses { warm: 0, minimum: 9 }, vec!["WARM_PREFIX_TARGET"]));

    let off = [("WARM_PREFIX_TARGET", "2")];
    assert_eq!((warm(&off), noted(&off)), (Warm::Enis(1), vec!["WARM_PREFIX_TARGET"]));
    assert!(!config(&off).policy.prefixes);
}

#[test]
fn prefixes_without_any_target_are_refused_as_amazon_vpc_cni_refuses_them() {
    for targets in [
        &[][..],
        &[("WARM_ENI_TARGET", "1")],
        &[("WARM_PREFIX_TARGET", "0"), ("WARM_IP_TARGET", "0"), ("MINIMUM_IP_TARGET", "-1")],
    ] {
        let settings: Vec<_> = [("ENABLE_PREFIX_DELEGATION", "true")].iter().chain(targets).copied().collect();
        let mistakes = with(&settings).expect_err("nothing to hold").to_string();
        assert_eq!(
            mistakes,
            "ENABLE_PREFIX_DELEGATION=\"true\": needs WARM_PREFIX_TARGET, WARM_IP_TARGET or MINIMUM_IP_TARGET above 0, or \
             BERTH_WARM=demand"
        );
    }
}

#[test]
fn demand_goes_before_every_target() {
    let targets =
        [("WARM_ENI_TARGET", "1"), ("WARM_IP_TARGET", "5"), ("MINIMUM_IP_TARGET", "9"), ("WARM_PREFIX_TARGET", "1")];
    let settings: Vec<_> = [("BERTH_WARM", "demand")].into_iter().chain(targets).collect();
    assert_eq!(warm(&settings), Warm::Demand);
    assert_eq!(noted(&settings), targets.map(|(variable, _)| variable));
    let prefixes = config(&[("BERTH_WARM", "DEMAND"), ("ENABLE_PREFIX_DELEGATION", "true")]).policy;
    assert!(prefixes.warm == Warm::Demand && prefixes.prefixes, "{prefixes:?}");
    assert_eq!(warm(&[("BERTH_WARM", "targets"), ("WARM_IP_TARGET", "5")]), Warm::Addresses { warm: 5, minimum: 0 });
}

#[test]
fn each_switch_of_the_pool_is_its_own() {
    let default = Policy::default();
    for (variable, value, expected) in [
        ("BERTH_EARLY_REUSE", "true", Policy { early_reuse: true, ..default.clone() }),
        ("BERTH_RECLAIM_AFTER", "5m", Policy { reclaim_after: Duration::from_secs(300), ..default.clone() }),
        ("ENABLE_SUBNET_DISCOVERY", "false", Policy { subnet_discovery: false, ..default.clone() }),
        ("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "1", Policy { manage_unschedulable: true, ..default.clone() }),
        ("DISABLE_LEAKED_ENI_CLEANUP", "TRUE", Policy { clean_leaked: false, ..default.clone() }),
        ("MANAGE_UNTAGGED_ENI", "f", Policy { manage_untagged: false, ..default.clone() }),
    ] {
        assert_eq!(config(&[(variable, value)]).policy, expected, "{variable}");
        assert_eq!(config(&[(variable, "")]).policy, default, "{variable} is empty");
        let mistakes = with(&[(variable, "perhaps")]).expect_err(variable);
        assert_eq!(mistakes.0[0].variable, variable, "{mistakes}");
    }
    for (variable, garbage) in [
        ("BERTH_WARM", "eager"),
        ("ENABLE_PREFIX_DELEGATION", "yes"),
        ("WARM_PREFIX_TARGET", "one"),
        ("WARM_PREFIX_TARGET", "99999999999"),
    ] {
        let mistakes = with(&[(variable, garbage)]).expect_err(variable);
        assert_eq!(mistakes.0[0].variable, variable, "{mistakes}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_each_with_variable_value_and_what_is_allowed() {
    let mistakes = with(&[
        ("WARM_IP_TARGET", "abc"),
        ("BERTH_ADD_DEADLINE", "soon"),
        ("AWS_VPC_ENI_MTU", "9002"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/8,10.0.0.0/33,nonsense"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth"),
        ("ENABLE_IPv6", "true"),
        ("DISABLE_METRICS", "yes"),
        ("ADDITIONAL_ENI_TAGS", "{"),
        ("IP_COOLDOWN_PERIOD", "-1"),
        ("BERTH_RUN_DIR", "run/berth"),
        ("BERTH_METRICS_BIND", "localhost"),
    ])
    .expect_err("every value is wrong");
    expect_test::expect![[r#"
        ENABLE_IPv6="true": IPv6 is not there yet; only false is accepted
        WARM_IP_TARGET="abc": must be a whole number
        IP_COOLDOWN_PERIOD="-1": must be a whole number of seconds, 0 or more
        ADDITIONAL_ENI_TAGS="{": must be a JSON object of strings such as {"team":"network"}
        BERTH_ADD_DEADLINE="soon": must be a duration such as 45s, 2m or 500ms
        BERTH_RUN_DIR="run/berth": must be an absolute path
        BERTH_METRICS_BIND="localhost": must be an address and a port such as 127.0.0.1:61678, or :61678
        DISABLE_METRICS="yes": must be true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)
        AWS_VPC_ENI_MTU="9002": must be a whole number from 576 to 9001
        AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS="10.0.0.0/33": must be IPv4 networks such as 10.1.0.0/16, with commas between them
        AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS="nonsense": must be IPv4 networks such as 10.1.0.0/16, with commas between them
        AWS_VPC_K8S_CNI_VETHPREFIX="eth": must be 1 to 4 letters, digits, - or _, and none of eth, lo and vlan, which the kernel's own links use"#]]
    .assert_eq(&mistakes.to_string());
}

#[test]
fn a_missing_behaviour_is_refused_only_when_the_value_asks_for_it() {
    for (variable, asks, fine) in [
        ("ENABLE_IPv4", "false", "true"),
        ("ENABLE_IPv6", "true", "false"),
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true", "false"),
        ("ENABLE_POD_ENI", "true", "false"),
        ("ENABLE_MULTI_NIC", "true", "false"),
        ("ENABLE_V6_EGRESS", "true", "false"),
        ("ENABLE_BANDWIDTH_PLUGIN", "true", "false"),
        ("ANNOTATE_POD_IP", "true", "false"),
        ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true", "false"),
        ("ENABLE_IMDS_ONLY_MODE", "true", "false"),
        ("BERTH_FORWARD_ACCEPT", "true", "false"),
        ("BERTH_TAINT", "true", "false"),
        ("BERTH_POD_IMDS", "deny", "allow"),
        ("NETWORK_POLICY_ENFORCING_MODE", "strict", "standard"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100", "0x80"),
    ] {
        let mistakes = with(&[(variable, asks)]).expect_err(variable);
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        assert_eq!(mistakes.0[0].variable, variable);
        config(&[(variable, fine)]);
        config(&[(variable, "")]);
    }
}

#[test]
fn amazon_vpc_cnis_stock_chart_is_accepted() {
    let (_, notes) = with(&[
        ("ADDITIONAL_ENI_TAGS", "{}"),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true"),
        ("AWS_VPC_ENI_MTU", "9001"),
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
        ("AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
        ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "/var/log/aws-routed-eni/plugin.log"),
        ("DISABLE_INTROSPECTION", "false"),
        ("DISABLE_METRICS", "false"),
        ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false"),
        ("ENABLE_IMDS_ONLY_MODE", "false"),
        ("ENABLE_IPv4", "true"),
        ("ENABLE_IPv6", "false"),
        ("ENABLE_MULTI_NIC", "false"),
        ("ENABLE_POD_ENI", "false"),
        ("ENABLE_PREFIX_DELEGATION", "false"),
        ("ENABLE_SUBNET_DISCOVERY", "true"),
        ("NETWORK_POLICY_ENFORCING_MODE", "standard"),
        ("VPC_CNI_VERSION", "v1.23.1"),
        ("WARM_ENI_TARGET", "1"),
        ("WARM_PREFIX_TARGET", "1"),
    ])
    .expect("the stock chart");
    let named: Vec<_> = notes.iter().map(|note| note.variable).collect();
    assert_eq!(named, ["VPC_CNI_VERSION", "AWS_VPC_K8S_CNI_LOG_FILE", "WARM_PREFIX_TARGET"]);
}

#[test]
fn reserved_tag_keys_are_left_out_and_said() {
    let (config, notes) =
        with(&[("ADDITIONAL_ENI_TAGS", r#"{"team":"network","node.k8s.amazonaws.com/instance_id":"i-1"}"#)])
            .expect("tags");
    assert_eq!(config.policy.tags.keys().collect::<Vec<_>>(), ["team"]);
    assert_eq!(notes.len(), 1);
}

#[test]
fn every_numbering_that_is_let_through_can_be_made() {
    for settings in [
        [("BERTH_MARK_SHIFT", "0"), ("BERTH_TABLE_BASE", "256"), ("BERTH_PRIORITY_BASE", "1")],
        [("BERTH_MARK_SHIFT", "25"), ("BERTH_TABLE_BASE", "2000000000"), ("BERTH_PRIORITY_BASE", "30000")],
    ] {
        let wiring = config(&settings).wiring;
        assert_eq!(wiring.numbering().pods_table(), wiring.table_base);
    }
    config(&[("AWS_VPC_K8S_CNI_VETHPREFIX", "a-_9")]).wiring.numbering();
}
