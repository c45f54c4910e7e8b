//! EC2 is there, but its answers are lost, late, old or no.

use std::{collections::BTreeSet, time::Duration};

use lab::{
    Lab,
    proxy::Outcome,
    trouble::{Bucket, Chance, Disturbance, Injection, When},
    wait,
};
use sim::{Action, Fault};

use super::{add, first, foreign, on_both, refusals, sandboxes, start};
use crate::node::{PATIENCE, books_agree, eventually, leases};

/// Every ENI there is belongs to the node.
#[track_caller]
fn nothing_is_left_over(lab: &Lab) {
    let loose = || -> BTreeSet<String> {
        let enis = lab.truth().enis().into_iter();
        enis.filter(|eni| eni.attachment.is_none()).map(|eni| format!("{eni:?}")).collect()
    };
    let none = wait::until(2 * PATIENCE, || loose().is_empty().then_some(()));
    none.unwrap_or_else(|| panic!("left over: {:#?}\n{}", loose(), first(lab).log_tail(30)));
}

#[test]
fn lost_answers_lose_no_address_and_no_eni() {
    on_both(
        "lost",
        |_| (),
        |lab| {
            for action in [
                Action::CreateNetworkInterface,
                Action::AttachNetworkInterface,
                Action::AssignPrivateIpAddresses,
                Action::ModifyNetworkInterfaceAttribute,
            ] {
                lab.faults().inject(Injection::once(action, Disturbance::Lose(When::AfterEffect)));
            }
            let _daemon = start(lab, &[]);
            let mut pods = sandboxes(lab, 15);
            add(&mut pods);
            books_agree(lab, first(lab), &pods);
            nothing_is_left_over(lab);
        },
    );
}

#[test]
fn an_eni_whose_maker_died_before_it_knew_is_found_again() {
    on_both(
        "leaked",
        |_| (),
        |lab| {
            let hang = |action| Injection::once(action, Disturbance::Hang(When::AfterEffect));
            lab.faults().inject(hang(Action::CreateNetworkInterface));
            // More than the first ENI holds.
            let daemon = first(lab).spawn_ipamd(&[("WARM_IP_TARGET", "12")]).expect("spawned");
            eventually("the ENI is made, and nobody was told", first(lab), || {
                lab.truth().enis().iter().any(|eni| eni.attachment.is_none()).then_some(())
            });
            daemon.kill().expect("killed");
            let _daemon = start(lab, &[]);
            let mut pods = sandboxes(lab, 11);
            add(&mut pods);
            books_agree(lab, first(lab), &pods);
            nothing_is_left_over(lab);
        },
    );
}

#[test]
fn a_throttled_node_serves_its_pods_in_the_end() {
    on_both(
        "throttled",
        |_| (),
        |lab| {
            let bucket = Bucket { burst: 1, refill: Duration::from_millis(1_500) };
            for action in
                [Action::AssignPrivateIpAddresses, Action::CreateNetworkInterface, Action::DescribeNetworkInterfaces]
            {
                lab.faults().set_bucket(Some(action), bucket);
            }
            let _daemon = start(lab, &[("WARM_IP_TARGET", "1")]);
            let mut pods = sandboxes(lab, 14);
            add(&mut pods);
            books_agree(lab, first(lab), &pods);
            nothing_is_left_over(lab);
            let throttled = |outcome: &Outcome| *outcome == Outcome::Refused("RequestLimitExceeded".to_owned());
            let log = lab.ec2().log();
            assert!(log.iter().any(|call| throttled(&call.outcome)), "nothing was throttled: {:?}", lab.ec2().calls());
        },
    );
}

#[test]
fn a_role_that_may_not_make_enis_fills_the_one_it_has_and_names_the_call() {
    on_both(
        "denied",
        |_| (),
        |lab| {
            let denied = Fault::new("UnauthorizedOperation", "You are not authorized to perform this operation.");
            lab.faults().inject(
                Injection::sometimes(Chance::ALWAYS, Disturbance::Refuse(When::BeforeEffect, denied.with_status(403)))
                    .of(Action::CreateNetworkInterface),
            );
            let _daemon = start(lab, &[("WARM_IP_TARGET", "1"), ("BERTH_ADD_DEADLINE", "10s")]);
            let mut pods = sandboxes(lab, 12);
            let refused = refusals(&mut pods);
            assert_eq!(refused.len(), 3, "9 places: {refused:?}");
            for refused in &refused {
                assert!(refused.contains("Denied") && refused.contains("CreateNetworkInterface"), "{refused}");
            }
            books_agree(lab, first(lab), &pods);
        },
    );
}

#[test]
fn an_eni_that_finds_no_place_on_the_instance_is_not_left_over() {
    on_both(
        "crowded",
        |_| (),
        |lab| {
            let node = first(lab);
            let _daemon = start(lab, &[("WARM_IP_TARGET", "1"), ("BERTH_ADD_DEADLINE", "15s")]);
            // Behind the daemon's back all other places are taken.
            for device in [1, 2] {
                foreign(lab, device, 0);
            }
            let mut pods = sandboxes(lab, 12);
            let refused = refusals(&mut pods);
            assert_eq!(refused.len(), 3, "9 places: {refused:?}");
            nothing_is_left_over(lab);
            books_agree(lab, node, &pods);
        },
    );
}

#[test]
fn reads_from_the_past_take_no_address_from_a_pod() {
    on_both(
        "stale",
        |_| (),
        |lab| {
            for action in [Action::DescribeNetworkInterfaces, Action::DescribeInstances] {
                lab.faults().inject(
                    Injection::sometimes(Chance::percent(50), Disturbance::Stale(Duration::from_secs(4))).of(action),
                );
            }
            let daemon = start(lab, &[("WARM_IP_TARGET", "2")]);
            let mut pods = sandboxes(lab, 12);
            add(&mut pods);
            daemon.kill().expect("killed");
            let _daemon = start(lab, &[("WARM_IP_TARGET", "2")]);
            assert_eq!(leases(first(lab)).len(), 12);
            let mut more = sandboxes(lab, 16).split_off(12);
            add(&mut more);
            pods.extend(more);
            lab.faults().clear();
            books_agree(lab, first(lab), &pods);
            nothing_is_left_over(lab);
        },
    );
}
