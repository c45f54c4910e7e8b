//! A pool with prefixes and several subnets.

use expect_test::expect;

use super::*;

/// A node with prefixes: one free, one in use, one on its way out, and a single address; subnets of three kinds.
fn with_prefixes() -> v1::PoolResponse {
    let of = |prefix: &str, last: u8, state: &str| v1::PoolAddress {
        prefix: prefix.into(),
        ..address(&format!("10.0.0.{last}"), state)
    };
    let prefix =
        |cidr: &str, state: &str, counts| v1::Prefix { cidr: cidr.into(), state: state.into(), counts: Some(counts) };
    let all =
        |state: &'static str, first: u8, cidr: &'static str| (first..first + 16).map(move |last| of(cidr, last, state));
    let mut used: Vec<_> = all("Free", 48, "10.0.0.48/28").collect();
    used[0] = v1::PoolAddress { pod: Some(pod("web-0")), ..of("10.0.0.48/28", 48, "Leased") };
    used[5] = v1::PoolAddress { until_ms: 9_000, ..of("10.0.0.48/28", 53, "Cooling") };
    let leaving = v1::Counts { total: 16, unverified: 16, ..Default::default() };
    let subnet = |id: &str, free, state: &str, paused_ms| v1::Subnet {
        subnet_id: id.into(),
        free,
        state: state.into(),
        paused_ms,
    };
    v1::PoolResponse {
        policy: Some(v1::Policy {
            mode: "targets".into(),
            warm_prefix_target: Some(1),
            prefix_delegation: true,
            early_reuse: true,
            max_pods: Some(110),
            cooling_ms: 30_000,
            shrink_after_ms: 60_000,
            ..Default::default()
        }),
        enis: vec![v1::Eni {
            eni_id: "eni-0a".into(),
            state: "Ready".into(),
            role: "Primary".into(),
            primary_address: "10.0.0.10".into(),
            link: "eth0".into(),
            counts: Some(v1::Counts { unverified: 16, total: 49, ..counts(31, 1, 1) }),
            addresses: [address("10.0.0.11", "Free")]
                .into_iter()
                .chain(all("Free", 32, "10.0.0.32/28"))
                .chain(used)
                .chain(all("Unverified", 64, "10.0.0.64/28"))
                .collect(),
            prefixes: vec![
                prefix("10.0.0.32/28", "Usable", counts(16, 0, 0)),
                prefix("10.0.0.48/28", "Usable", counts(14, 1, 1)),
                prefix("10.0.0.64/28", "Unverified", leaving),
            ],
            ..Default::default()
        }],
        counts: Some(v1::Counts { unverified: 16, total: 49, ..counts(31, 1, 1) }),
        waiting: 1,
        demand: 3,
        next: vec![],
        held: None,
        subnets: vec![
            subnet("subnet-1", 200, "Chosen", 0),
            subnet("subnet-2", 0, "Chosen", 5_000),
            subnet("subnet-3", 90, "Excluded", 0),
            subnet("subnet-4", 90, "Passed", 0),
        ],
        cooling_reused_early: 2,
        ..two_enis()
    }
}

#[test]
fn a_pool_with_prefixes_counts_them() {
    shows(
        &pool_answer(with_prefixes()),
        PIPED,
        &expect![[r#"
        Node:    i-0123456789abcdef0 (m5.large) 10.0.0.10
        Room:    1 of 3 ENIs, 9 addresses each beside its own
        Pool:    49 addresses: 31 free, 1 leased, 1 cooling, 16 unverified; 3 prefixes among them; 2 leased before they had cooled
        Demand:  1 leased, 1 waiting, 3 bound to the node without an address
        Targets: ENABLE_PREFIX_DELEGATION=true, WARM_PREFIX_TARGET=1, BERTH_MAX_PODS=110, BERTH_EARLY_REUSE=true, a released address cools 30s, surplus stays 1m
        Subnets: 2 with 200 free addresses, 1 excluded, 1 paused

        ENI     STATE  ROLE     LINK  PRIMARY    ADDRESSES  PREFIXES  FREE  LEASED  COOLING  NOTE
        eni-0a  Ready  Primary  eth0  10.0.0.10         49         3    31       1        1

        Next: nothing to do
    "#]],
    );
}

#[test]
fn a_wide_pool_has_one_line_for_each_prefix_and_for_each_address_of_it_that_is_in_use() {
    shows(
        &pool_answer(with_prefixes()),
        WIDE,
        &expect![[r#"
        Node:    i-0123456789abcdef0 (m5.large) 10.0.0.10
        Room:    1 of 3 ENIs, 9 addresses each beside its own
        Pool:    49 addresses: 31 free, 1 leased, 1 cooling, 16 unverified; 3 prefixes among them; 2 leased before they had cooled
        Demand:  1 leased, 1 waiting, 3 bound to the node without an address
        Targets: ENABLE_PREFIX_DELEGATION=true, WARM_PREFIX_TARGET=1, BERTH_MAX_PODS=110, BERTH_EARLY_REUSE=true, a released address cools 30s, surplus stays 1m
        Subnets: 2 with 200 free addresses, 1 excluded, 1 paused

        ENI     STATE  ROLE     LINK  PRIMARY    ADDRESSES  PREFIXES  FREE  LEASED  COOLING  UNVERIFIED  QUARANTINED  SLOT  CARD/DEVICE  SUBNET  MAC  OURS  NOTE
        eni-0a  Ready  Primary  eth0  10.0.0.10         49         3    31       1        1          16            0     0          0/0               no

        ADDRESS       ENI     STATE          FREE IN  POD
        10.0.0.32/28  eni-0a  16 of 16 free
        10.0.0.48/28  eni-0a  14 of 16 free
        10.0.0.48     eni-0a  Leased                  default/web-0
        10.0.0.53     eni-0a  Cooling             9s
        10.0.0.64/28  eni-0a  Unverified
        10.0.0.11     eni-0a  Free

        SUBNET    FREE  STATE     PAUSED
        subnet-1   200  Chosen
        subnet-2     0  Chosen        5s
        subnet-3    90  Excluded
        subnet-4    90  Passed

        Next: nothing to do
    "#]],
    );
}

#[test]
fn a_pool_with_prefixes_as_json_has_every_address_and_every_prefix() {
    let shown = pool_answer(with_prefixes()).render(JSON);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let eni = &shown["enis"][0];
    assert_eq!(eni["addresses"].as_array().map(Vec::len), Some(49));
    assert_eq!(eni["prefixes"][1]["cidr"], "10.0.0.48/28");
    assert_eq!(
        (&eni["prefixes"][1]["counts"]["leased"], &eni["prefixes"][2]["state"]),
        (&1.into(), &"Unverified".into())
    );
    assert_eq!((&eni["addresses"][0]["prefix"], &eni["addresses"][1]["prefix"]), (&().into(), &"10.0.0.32/28".into()));
    assert_eq!((&shown["demand"], &shown["cooling_reused_early"]), (&3.into(), &2.into()));
    assert_eq!(shown["subnets"][1]["paused_ms"], 5_000);
    assert_eq!(shown["policy"]["warm_prefix_target"], 1);
}
