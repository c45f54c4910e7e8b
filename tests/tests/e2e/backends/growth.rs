//! How a node grows and shrinks when EC2 does what it is asked.

use std::collections::BTreeSet;

use lab::{pods::Pod, pods::at_once, wait};

use super::{add, first, foreign, on_both, refusals, sandboxes, start};
use crate::node::{self, PATIENCE, books_agree, eventually, leases};

#[test]
fn a_burst_is_served_by_as_many_enis_as_it_takes() {
    on_both(
        "fill",
        |_| (),
        |lab| {
            let _daemon = start(lab, &[("WARM_IP_TARGET", "2")]);
            let mut pods = sandboxes(lab, 22);
            add(&mut pods);
            books_agree(lab, first(lab), &pods);
            let attached = lab.truth().attached(first(lab).instance());
            assert_eq!(attached.len(), 3, "9 pods an ENI: {attached:#?}");
            let enis = lab.truth().enis();
            let ours: Vec<_> = enis.iter().filter(|eni| !eni.tags.is_empty()).collect();
            assert_eq!(ours.len(), 2, "{enis:#?}");
            for eni in ours {
                let own = eni.attachment.as_ref().expect("attached");
                assert!(own.delete_on_termination, "it goes with its instance: {eni:#?}");
            }
        },
    );
}

#[test]
fn prefixes_serve_pods_and_are_assigned_whole() {
    on_both(
        "prefix",
        |_| (),
        |lab| {
            let prefixes = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];
            let _daemon = start(lab, &prefixes);
            let mut pods = sandboxes(lab, 20);
            add(&mut pods);
            let node = first(lab);
            books_agree(lab, node, &pods);
            let attached = lab.truth().attached(node.instance());
            let prefixes: Vec<_> = attached.iter().flat_map(|eni| eni.prefixes.clone()).collect();
            assert!(prefixes.len() >= 2 && prefixes.iter().all(|prefix| prefix.prefix_len() == 28), "{attached:#?}");
            for (pod, address) in leases(node) {
                assert!(prefixes.iter().any(|prefix| prefix.contains(&address)), "{pod} has {address}: {prefixes:?}");
            }
        },
    );
}

#[test]
fn surplus_goes_back_to_ec2_and_with_it_the_enis() {
    on_both(
        "shrink",
        |_| (),
        |lab| {
            let settings = [("WARM_IP_TARGET", "2"), ("BERTH_SHRINK_AFTER", "1s"), ("IP_COOLDOWN_PERIOD", "1")];
            let _daemon = start(lab, &settings);
            let node = first(lab);
            let mut pods = sandboxes(lab, 20);
            add(&mut pods);
            for deleted in at_once(&mut pods, Pod::del) {
                deleted.expect("deleted");
            }
            let has = || (lab.truth().enis().len(), node::assigned(lab, node).len());
            let minimum = wait::until(2 * PATIENCE, || (has() == (1, 2)).then_some(()));
            minimum.unwrap_or_else(|| panic!("one ENI and two addresses, not {:?}:\n{}", has(), node.log_tail(30)));
            books_agree(lab, node, &[]);
        },
    );
}

#[test]
fn a_subnet_without_free_addresses_is_named() {
    // Eleven addresses of a /28 are EC2's to give; the node's own is one of them.
    let small = "10.0.0.0/28".parse().expect("a CIDR");
    on_both(
        "full",
        |settings| settings.subnet = small,
        |lab| {
            let _daemon = start(lab, &[("WARM_IP_TARGET", "1")]);
            let mut pods = sandboxes(lab, 14);
            let refused = refusals(&mut pods);
            assert!(refused.len() >= 4, "14 pods, at most 10 addresses: {refused:?}");
            for refused in refused {
                assert!(refused.contains("code 11") && refused.contains(lab.subnet()), "{refused}");
            }
            let node = first(lab);
            let served: BTreeSet<_> = leases(node).into_values().collect();
            assert!(served.is_subset(&node::assigned(lab, node)), "{served:?}");
        },
    );
}

#[test]
fn pods_that_no_eni_can_hold_are_told_so() {
    on_both(
        "limit",
        |_| (),
        |lab| {
            let _daemon = start(lab, &[("BERTH_ADD_DEADLINE", "15s"), ("WARM_IP_TARGET", "1")]);
            let mut pods = sandboxes(lab, 30);
            let refused = refusals(&mut pods);
            assert_eq!(refused.len(), 3, "27 places: {refused:?}");
            assert!(refused.iter().all(|refused| refused.contains("EniLimit")), "{refused:?}");
            books_agree(lab, first(lab), &pods);
        },
    );
}

#[test]
fn an_eni_that_others_attached_is_left_alone() {
    on_both(
        "foreign",
        |_| (),
        |lab| {
            let node = first(lab);
            let theirs = foreign(lab, 1, 3);
            let settings = [("WARM_IP_TARGET", "2"), ("BERTH_SHRINK_AFTER", "1s"), ("IP_COOLDOWN_PERIOD", "1")];
            let _daemon = start(lab, &settings);
            let mut pods = sandboxes(lab, 12);
            add(&mut pods);
            let eni = || lab.truth().enis().into_iter().find(|eni| eni.id == theirs).expect("it is there");
            let before = eni();
            assert_eq!(before.addresses.len(), 4, "{before:#?}");
            let pooled = node::pooled(node);
            assert!(before.addresses.iter().all(|address| !pooled.contains(address)), "{before:#?} {pooled:?}");
            for deleted in at_once(&mut pods, Pod::del) {
                deleted.expect("deleted");
            }
            eventually("the node's own surplus goes back", node, || (lab.truth().enis().len() == 2).then_some(()));
            assert_eq!(eni().addresses, before.addresses);
            assert!(eni().attachment.is_some());
        },
    );
}
