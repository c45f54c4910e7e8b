//! Fixed replies and what people and scripts see of them.

mod explained;
mod prefixes;

use expect_test::{Expect, expect, expect_file};
use proto::v1;

use super::{Answer, Shape, span};
use crate::{args::Output, convert};

const PIPED: Shape = Shape { output: Output::Table, lines: false };
const TERMINAL: Shape = Shape { output: Output::Table, lines: true };
const WIDE: Shape = Shape { output: Output::Wide, lines: false };
const JSON: Shape = Shape { output: Output::Json, lines: false };

fn shows(answer: &Answer, shape: Shape, expected: &Expect) {
    expected.assert_eq(&answer.render(shape));
}

fn counts(free: u32, leased: u32, cooling: u32) -> v1::Counts {
    v1::Counts { total: free + leased + cooling, free, leased, cooling, ..Default::default() }
}

fn pod(name: &str) -> v1::Pod {
    v1::Pod { namespace: "default".into(), name: name.into(), uid: format!("uid-{name}") }
}

fn address(address: &str, state: &str) -> v1::PoolAddress {
    v1::PoolAddress { address: address.into(), state: state.into(), ..Default::default() }
}

fn two_enis() -> v1::PoolResponse {
    v1::PoolResponse {
        instance_id: "i-0123456789abcdef0".into(),
        instance_type: "m5.large".into(),
        node_address: "10.0.0.10".into(),
        limits: Some(v1::Limits { enis: 3, addresses_per_eni: 10 }),
        policy: Some(v1::Policy {
            mode: "targets".into(),
            warm_eni_target: Some(1),
            cooling_ms: 30_000,
            shrink_after_ms: 60_000,
            ..Default::default()
        }),
        enis: vec![
            v1::Eni {
                eni_id: "eni-0a".into(),
                state: "Ready".into(),
                role: "Primary".into(),
                subnet_id: "subnet-1".into(),
                mac: "02:00:00:00:00:0a".into(),
                primary_address: "10.0.0.10".into(),
                link: "eth0".into(),
                counts: Some(counts(0, 1, 1)),
                addresses: vec![
                    v1::PoolAddress { pod: Some(pod("web-0")), ..address("10.0.0.11", "Leased") },
                    v1::PoolAddress { until_ms: 12_345, ..address("10.0.0.12", "Cooling") },
                ],
                ..Default::default()
            },
            v1::Eni {
                eni_id: "eni-0b".into(),
                state: "Quarantined".into(),
                role: "Pods".into(),
                slot: 1,
                device_index: 1,
                subnet_id: "subnet-1".into(),
                mac: "02:00:00:00:00:0b".into(),
                primary_address: "10.0.0.20".into(),
                link: "eth1".into(),
                counts: Some(v1::Counts { total: 1, quarantined: 1, ..Default::default() }),
                created_by_us: true,
                addresses: vec![address("10.0.0.21", "Quarantined")],
                note: "its MAC is not the one that EC2 says".into(),
                ..Default::default()
            },
        ],
        counts: Some(v1::Counts { total: 3, leased: 1, cooling: 1, quarantined: 1, ..Default::default() }),
        waiting: 2,
        next: vec!["AssignPrivateIpAddresses 8 on eni-0a: 2 pods wait".into(), "look again in 12s: cooling".into()],
        held: Some(v1::Refusal {
            reason: v1::Reason::SubnetExhausted.into(),
            message: "EC2 has no free address in subnet-1; free addresses there or add a subnet".into(),
            subnet: "subnet-1".into(),
            retry_after_ms: 4_000,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn pool_answer(reply: v1::PoolResponse) -> Answer {
    Answer::Pool(Box::new(convert::pool(reply)))
}

fn one_lease() -> Answer {
    let reply = v1::LeasesResponse {
        leases: vec![v1::Lease {
            key: Some(v1::LeaseKey { container_id: "0123456789abcdef0123".into(), ifname: "eth0".into() }),
            pod: Some(pod("web-0")),
            generation: 7,
            origin: "Allocated".into(),
            attachments: vec![v1::Attachment {
                ifname: "eth0".into(),
                link_name: "eni0123456789a".into(),
                path: v1::Path::Pooled.into(),
                addresses: vec![v1::Address { cidr: "10.0.0.11/32".into() }],
                gateways: vec!["169.254.1.1".into()],
                mtu: 9001,
                link_group: 7001,
                route_table: 7000,
                route_source: "10.0.0.10".into(),
                eni_id: "eni-0a".into(),
                ..Default::default()
            }],
            age_ms: 3_725_000,
        }],
    };
    Answer::Leases { leases: convert::leases(reply), filtered: false }
}

#[test]
fn a_pool_in_a_pipe_is_plain_columns() {
    shows(
        &pool_answer(two_enis()),
        PIPED,
        &expect![[r#"
        Node:    i-0123456789abcdef0 (m5.large) 10.0.0.10
        Room:    2 of 3 ENIs, 9 addresses each beside its own
        Pool:    3 addresses: 0 free, 1 leased, 1 cooling, 1 quarantined
        Demand:  1 leased, 2 waiting
        Targets: WARM_ENI_TARGET=1, a released address cools 30s, surplus stays 1m

        ENI     STATE        ROLE     LINK  PRIMARY    ADDRESSES  FREE  LEASED  COOLING  NOTE
        eni-0a  Ready        Primary  eth0  10.0.0.10          2     0       1        1
        eni-0b  Quarantined  Pods     eth1  10.0.0.20          1     0       0        0  its MAC is not the one that EC2 says

        Next: AssignPrivateIpAddresses 8 on eni-0a: 2 pods wait
              look again in 12s: cooling
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
}

#[test]
fn a_pool_on_a_terminal_has_lines() {
    shows(
        &pool_answer(two_enis()),
        TERMINAL,
        &expect![[r#"
        Node:    i-0123456789abcdef0 (m5.large) 10.0.0.10
        Room:    2 of 3 ENIs, 9 addresses each beside its own
        Pool:    3 addresses: 0 free, 1 leased, 1 cooling, 1 quarantined
        Demand:  1 leased, 2 waiting
        Targets: WARM_ENI_TARGET=1, a released address cools 30s, surplus stays 1m

        ┌────────┬─────────────┬─────────┬──────┬───────────┬───────────┬──────┬────────┬─────────┬──────────────────────────────────────┐
        │ ENI    ┆ STATE       ┆ ROLE    ┆ LINK ┆ PRIMARY   ┆ ADDRESSES ┆ FREE ┆ LEASED ┆ COOLING ┆ NOTE                                 │
        ╞════════╪═════════════╪═════════╪══════╪═══════════╪═══════════╪══════╪════════╪═════════╪══════════════════════════════════════╡
        │ eni-0a ┆ Ready       ┆ Primary ┆ eth0 ┆ 10.0.0.10 ┆         2 ┆    0 ┆      1 ┆       1 ┆                                      │
        │ eni-0b ┆ Quarantined ┆ Pods    ┆ eth1 ┆ 10.0.0.20 ┆         1 ┆    0 ┆      0 ┆       0 ┆ its MAC is not the one that EC2 says │
        └────────┴─────────────┴─────────┴──────┴───────────┴───────────┴──────┴────────┴─────────┴──────────────────────────────────────┘

        Next: AssignPrivateIpAddresses 8 on eni-0a: 2 pods wait
              look again in 12s: cooling
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
}

#[test]
fn a_wide_pool_has_every_column_and_every_address() {
    shows(
        &pool_answer(two_enis()),
        WIDE,
        &expect![[r#"
        Node:    i-0123456789abcdef0 (m5.large) 10.0.0.10
        Room:    2 of 3 ENIs, 9 addresses each beside its own
        Pool:    3 addresses: 0 free, 1 leased, 1 cooling, 1 quarantined
        Demand:  1 leased, 2 waiting
        Targets: WARM_ENI_TARGET=1, a released address cools 30s, surplus stays 1m

        ENI     STATE        ROLE     LINK  PRIMARY    ADDRESSES  FREE  LEASED  COOLING  UNVERIFIED  QUARANTINED  SLOT  CARD/DEVICE  SUBNET    MAC                OURS  NOTE
        eni-0a  Ready        Primary  eth0  10.0.0.10          2     0       1        1           0            0     0          0/0  subnet-1  02:00:00:00:00:0a  no
        eni-0b  Quarantined  Pods     eth1  10.0.0.20          1     0       0        0           0            1     1          0/1  subnet-1  02:00:00:00:00:0b  yes   its MAC is not the one that EC2 says

        ADDRESS    ENI     STATE        FREE IN  POD
        10.0.0.11  eni-0a  Leased                default/web-0
        10.0.0.12  eni-0a  Cooling          12s
        10.0.0.21  eni-0b  Quarantined

        Next: AssignPrivateIpAddresses 8 on eni-0a: 2 pods wait
              look again in 12s: cooling
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
}

#[test]
fn a_pool_as_json_keeps_its_names() {
    expect_file!["snapshots/pool.json"].assert_eq(&pool_answer(two_enis()).render(JSON));
}

#[test]
fn an_empty_pool_is_still_one_screen() {
    shows(
        &pool_answer(v1::PoolResponse::default()),
        WIDE,
        &expect![[r#"
        Node:     () 
        Room:    0 of 0 ENIs, 0 addresses each beside its own
        Pool:    0 addresses: 0 free, 0 leased, 0 cooling
        Demand:  0 leased, 0 waiting
        Targets: a released address cools 0ms, surplus stays 0ms

        Next: nothing to do
    "#]],
    );
}

#[test]
fn leases_in_a_pipe_are_plain_columns() {
    shows(
        &one_lease(),
        PIPED,
        &expect![[r#"
        POD            ADDRESS    ENI     SANDBOX       IF     AGE
        default/web-0  10.0.0.11  eni-0a  0123456789ab  eth0  1h2m
    "#]],
    );
}

#[test]
fn leases_on_a_terminal_have_lines() {
    shows(
        &one_lease(),
        TERMINAL,
        &expect![[r#"
        ┌───────────────┬───────────┬────────┬──────────────┬──────┬──────┐
        │ POD           ┆ ADDRESS   ┆ ENI    ┆ SANDBOX      ┆ IF   ┆  AGE │
        ╞═══════════════╪═══════════╪════════╪══════════════╪══════╪══════╡
        │ default/web-0 ┆ 10.0.0.11 ┆ eni-0a ┆ 0123456789ab ┆ eth0 ┆ 1h2m │
        └───────────────┴───────────┴────────┴──────────────┴──────┴──────┘
    "#]],
    );
}

#[test]
fn wide_leases_say_how_the_kernel_carries_them() {
    shows(
        &one_lease(),
        WIDE,
        &expect![[r#"
        POD            ADDRESS    ENI     SANDBOX               IF     AGE  LINK            PATH    GROUP  TABLE   MTU  GENERATION  ORIGIN     POD UID
        default/web-0  10.0.0.11  eni-0a  0123456789abcdef0123  eth0  1h2m  eni0123456789a  pooled   7001   7000  9001           7  Allocated  uid-web-0
    "#]],
    );
}

#[test]
fn leases_as_json_keep_their_names() {
    expect_file!["snapshots/leases.json"].assert_eq(&one_lease().render(JSON));
}

#[test]
fn only_what_is_held_back_or_missing_is_bad_news() {
    assert!(pool_answer(two_enis()).is_bad_news());
    assert!(!pool_answer(v1::PoolResponse { held: None, ..two_enis() }).is_bad_news());
    assert!(!Answer::Leases { leases: vec![], filtered: false }.is_bad_news());
    assert!(Answer::Leases { leases: vec![], filtered: true }.is_bad_news());
}

#[test]
fn every_reason_has_the_name_that_metrics_and_logs_use() {
    let named =
        |reason: v1::Reason| convert::refusal(v1::Refusal { reason: reason.into(), ..Default::default() }).reason;
    assert_eq!(named(v1::Reason::EniLimit), "EniLimit");
    assert_eq!(named(v1::Reason::LedgerUnavailable), "LedgerUnavailable");
    assert_eq!(named(v1::Reason::Unspecified), "Unknown");
    let newer = v1::Refusal { reason: 9_999, ..Default::default() };
    assert_eq!(convert::refusal(newer).reason, "Unknown");
}

#[test]
fn no_name_can_steer_the_terminal() {
    let reply = v1::ExplainResponse { lines: vec!["default/\u{1b}[2Jweb\r".into()], ..Default::default() };
    let answer = Answer::Explanation(Box::new(convert::explanation(reply)));
    assert_eq!(answer.render(TERMINAL), "default/\u{fffd}[2Jweb\u{fffd}\n");
}

#[test]
fn spans_show_their_two_largest_units() {
    let shown = [0, 850, 12_900, 60_000, 185_000, 7_620_000, 352_800_000].map(span);
    assert_eq!(shown, ["0ms", "850ms", "12s", "1m", "3m5s", "2h7m", "4d2h"]);
}
