//! What changes around a running node, and is noticed within the half minute after metadata shows it: ranges of the VPC, and security
//! groups of the primary ENI. Subnets' tags are the pool's to read, before the next ENI is made, and tested there.

use std::{collections::BTreeSet, process::Command, time::Duration};

use lab::{Lab, node::Node, pods::at_once, wait};

use crate::{backends::on_both, node::books_agree};

/// Metadata is read every 30 s; the rest is for a machine that has other things to do.
const NOTICED: Duration = Duration::from_secs(40);

/// Destinations that are not translated.
fn untranslated(node: &Node) -> String {
    let listed = node.netns().output(Command::new("nft").args(["list", "set", "ip", "berth", "vpc"]));
    String::from_utf8_lossy(&listed.expect("nft runs").stdout).into_owned()
}

/// Of each of the node's ENIs.
fn groups(lab: &Lab, node: &Node) -> Vec<BTreeSet<String>> {
    let enis = lab.truth().enis().into_iter();
    let own = enis.filter(|eni| eni.attachment.as_ref().is_some_and(|own| own.instance == node.instance()));
    own.map(|eni| eni.groups.into_iter().map(|(id, _)| id).collect()).collect()
}

#[test]
fn other_ranges_and_security_groups_reach_the_node_within_the_half_minute() {
    on_both(
        "around",
        |_| (),
        |lab| {
            let node = &lab.nodes()[0];
            let _daemon = node.start_ipamd(&[("WARM_IP_TARGET", "1")]).expect("a daemon");
            let mut pods: Vec<_> = (0..12).map(|n| node.pod(&format!("p{n}")).expect("a sandbox")).collect();
            for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
                added.expect("an address");
            }
            let primary = lab.truth().attached(node.instance()).swap_remove(0);
            assert_eq!(groups(lab, node).len(), 2);
            assert!(untranslated(node).contains("10.0.0.0/16"), "{}", untranslated(node));

            // Not the neighbour of the first: nftables would show the two as one.
            let range = [("VpcId", &*primary.vpc), ("CidrBlock", "10.2.0.0/16")];
            lab.ask("AssociateVpcCidrBlock", &range).expect("a second range");
            let wanted = [("GroupName", "late"), ("GroupDescription", "late"), ("VpcId", &*primary.vpc)];
            let made = lab.ask("CreateSecurityGroup", &wanted).expect("a group");
            let late = made.element("groupId").expect("its id");
            let change = [("NetworkInterfaceId", &*primary.eni), ("SecurityGroupId.1", &*late)];
            lab.ask("ModifyNetworkInterfaceAttribute", &change).expect("other groups");

            let followed = wait::until(NOTICED, || {
                let all = groups(lab, node).iter().all(|groups| *groups == BTreeSet::from([late.clone()]));
                (all && untranslated(node).contains("10.2.0.0/16")).then_some(())
            });
            assert!(followed.is_some(), "{:?}\n{}\n{}", groups(lab, node), untranslated(node), node.log_tail(20));
            assert!(untranslated(node).contains("10.0.0.0/16"), "the first range is there yet: {}", untranslated(node));
            books_agree(lab, node, &pods);
        },
    );
}
