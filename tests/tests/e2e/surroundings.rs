//! What changes around a running node, and is noticed within the half minute after metadata shows it: ranges of the VPC, and security
//! groups of the primary ENI. Subnets' tags are the pool's to read, before the next ENI is made, and tested there.

use std::{collections::BTreeSet, process::Command, time::Duration};

use lab::{Lab, LabSettings, node::Node, pods::at_once, wait};
use sim::{
    Request, Response,
    requests::{EniAttribute, Tags},
};

use crate::node::books_agree;

/// Metadata is read every 30 s; the rest is for a machine that has other things to do.
const NOTICED: Duration = Duration::from_secs(40);

fn lab(test: &str) -> Lab {
    let mut settings = LabSettings::with_prefix(format!("bld-{test}")).with_nodes(&["m5.large"]);
    settings.world.ec2.times.device = Duration::from_millis(300);
    Lab::start(settings).expect("a lab")
}

/// Destinations that are not translated.
fn untranslated(node: &Node) -> String {
    let listed = node.netns().output(Command::new("nft").args(["list", "set", "ip", "berth", "vpc"]));
    String::from_utf8_lossy(&listed.expect("nft runs").stdout).into_owned()
}

/// Of each of the node's ENIs, the primary first.
fn groups(lab: &Lab, node: &Node) -> Vec<BTreeSet<String>> {
    let interfaces = lab.world().vpc(|vpc| vpc.described(node.instance())).expect("an instance").interfaces;
    interfaces.iter().map(|eni| eni.groups.iter().map(|(id, _)| id.clone()).collect()).collect()
}

#[test]
fn other_ranges_and_security_groups_reach_the_node_within_the_half_minute() {
    let lab = lab("around");
    let node = &lab.nodes()[0];
    let _daemon = node.start_ipamd(&[("WARM_IP_TARGET", "1")]).expect("a daemon");
    let mut pods: Vec<_> = (0..12).map(|n| node.pod(&format!("p{n}")).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
    let primary = lab.world().attached(node.instance())[0].clone();
    assert_eq!(groups(&lab, node).len(), 2);
    assert!(untranslated(node).contains("10.0.0.0/16"), "{}", untranslated(node));

    // Not the neighbour of the first: nftables would show the two as one.
    let cidr = "10.2.0.0/16".parse().expect("a range");
    lab.call(Request::AssociateVpcCidrBlock { vpc: primary.vpc.clone(), cidr }).expect("a second range");
    let (name, description) = ("late".to_owned(), "late".to_owned());
    let wanted = Request::CreateSecurityGroup { name, description, vpc: primary.vpc, tags: Tags::new() };
    let Ok(Response::CreateSecurityGroup(late)) = lab.call(wanted) else { panic!("a group") };
    let attribute = EniAttribute::Groups(vec![late.clone()]);
    lab.call(Request::ModifyNetworkInterfaceAttribute { eni: primary.eni, attribute }).expect("other groups");

    let followed = wait::until(NOTICED, || {
        let all = groups(&lab, node).iter().all(|groups| *groups == BTreeSet::from([late.clone()]));
        (all && untranslated(node).contains("10.2.0.0/16")).then_some(())
    });
    assert!(followed.is_some(), "{:?}\n{}\n{}", groups(&lab, node), untranslated(node), node.log_tail(20));
    assert!(untranslated(node).contains("10.0.0.0/16"), "the first range is there yet: {}", untranslated(node));
    books_agree(&lab, node, &pods);
}
