//! A node whose role lacks one action: what still works works, the action is named wherever somebody may look, and nothing has to be
//! restarted once it is granted.
//!
//! `ec2:DescribeInstances` is not here: a node asks for it within the hour at the earliest.

use std::net::Ipv4Addr;

use lab::{
    Lab,
    cni::{Refusal, Reply},
    node::{Ipamd, Node},
    pods::{Pod, at_once},
    trouble::{Chance, Disturbance, Injection, When},
};
use serde_json::Value;
use sim::{Action, Fault, Request, requests::Wanted};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::node::{self, ask, books_agree, eventually};

/// A lab of one m5.large: three ENIs of nine addresses for pods.
fn lab(test: &str) -> Lab {
    node::lab(&format!("without-{test}"), &["m5.large"])
}

fn first(lab: &Lab) -> &Node {
    &lab.nodes()[0]
}

/// EC2 refuses the action as IAM does, and says that `missing` is what the role may not do.
fn deny(lab: &Lab, action: Action, missing: &str) {
    let message = format!(
        "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/node/i-1 is not authorized to \
         perform: ec2:{missing} on resource: * because no identity-based policy allows the ec2:{missing} action."
    );
    let refuse = Disturbance::Refuse(When::BeforeEffect, Fault::new("UnauthorizedOperation", message).with_status(403));
    lab.faults().inject(Injection::sometimes(Chance::ALWAYS, refuse).of(action));
}

/// What gRPC health says of an action.
fn health(lab: &Lab, action: &str) -> ServingStatus {
    let socket = format!("unix:{}", first(lab).socket().display());
    let service = format!("ec2:{action}");
    lab.block_on(async move {
        // A daemon that has just been started may not listen yet.
        let Ok(channel) = Endpoint::from_shared(socket).expect("a path").connect().await else {
            return ServingStatus::Unknown;
        };
        let told = HealthClient::new(channel).check(HealthCheckRequest { service }).await;
        told.map_or(ServingStatus::ServiceUnknown, |told| told.into_inner().status())
    })
}

/// The action is named in health, on the page of readiness, and by `ipamctl`. The daemon serves all the same, unless it has nothing.
#[track_caller]
fn named(lab: &Lab, action: &str, ready: u16) {
    let node = first(lab);
    let sentence = format!("may not do ec2:{action};");
    eventually("health names the action", node, || (health(lab, action) == ServingStatus::NotServing).then_some(()));
    eventually("the page of readiness names it", node, || {
        node.get("/readyz").ok().filter(|(status, page)| *status == ready && page.contains(&sentence))
    });
    for command in ["pool", "explain"] {
        eventually("ipamctl names it", node, || ask(node, command).to_string().contains(&sentence).then_some(()));
    }
    let others = Action::ALL.iter().map(|action| action.name()).filter(|other| *other != action);
    for other in others.filter(|other| pool::Action::ALL.iter().any(|known| known.name() == *other)) {
        assert_eq!(health(lab, other), ServingStatus::Serving, "{other} is not denied");
    }
}

/// The denial ends, and soon after nothing is left of it.
#[track_caller]
fn granted(lab: &Lab, action: &str) {
    lab.faults().clear();
    recovered(lab, action);
}

#[track_caller]
fn recovered(lab: &Lab, action: &str) {
    let node = first(lab);
    eventually("health has recovered", node, || (health(lab, action) == ServingStatus::Serving).then_some(()));
    eventually("the node is ready, and nothing more", node, || {
        node.get("/readyz").ok().filter(|page| *page == (200, "ok\n".to_owned()))
    });
}

fn sandboxes(lab: &Lab, names: std::ops::Range<u32>) -> Vec<Pod> {
    names.map(|name| first(lab).pod(&format!("p{name}")).expect("a sandbox")).collect()
}

fn add_all(pods: &mut [Pod]) {
    for added in at_once(pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
}

/// The pod gets no address, and the reason names the action.
#[track_caller]
fn refused(pod: &Pod, action: &str) -> Refusal {
    match pod.call("ADD", None).expect("the plugin runs") {
        Reply::Refused(refused) => {
            assert!(refused.to_string().contains(&format!("ec2:{action};")), "{refused}");
            assert!(refused.code >= 100, "waiting does not help: {refused}");
            refused
        }
        other => panic!("{other:?}"),
    }
}

/// The runtime tries again until the pod has an address.
#[track_caller]
fn served_in_the_end(pod: &mut Pod) {
    let node = pod.node().clone();
    eventually("an address", &node, || pod.add().is_ok().then_some(()));
}

fn start(lab: &Lab, environment: &[(&str, &str)]) -> Ipamd {
    first(lab).start_ipamd(environment).expect("a daemon")
}

/// The primary ENI has addresses before any daemon runs.
fn assigned_before(lab: &Lab, count: u32) {
    let eni = lab.world().attached(first(lab).instance())[0].eni.clone();
    let wanted = Wanted::Count(count);
    lab.call(Request::AssignPrivateIpAddresses { eni, wanted, allow_reassignment: false }).expect("addresses");
}

fn held(lab: &Lab) -> Vec<Ipv4Addr> {
    let attached = lab.world().attached(first(lab).instance());
    attached.iter().flat_map(|eni| eni.addresses.iter().skip(1).copied()).collect()
}

#[test]
fn without_describe_instance_types_what_the_instance_has_serves_and_no_more() {
    let lab = lab("types");
    assigned_before(&lab, 2);
    deny(&lab, Action::DescribeInstanceTypes, "DescribeInstanceTypes");
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "3")]);
    let mut pods = sandboxes(&lab, 0..3);
    add_all(&mut pods[..2]);
    refused(&pods[2], "DescribeInstanceTypes");
    named(&lab, "DescribeInstanceTypes", 200);
    assert_eq!(held(&lab).len(), 2, "nothing was asked for beyond what is there");
    granted(&lab, "DescribeInstanceTypes");
    served_in_the_end(&mut pods[2]);
    books_agree(&lab, first(&lab), &pods);
}

#[test]
fn a_type_that_ec2_does_not_know_is_said_and_what_the_instance_has_serves() {
    let lab = lab("unknown");
    assigned_before(&lab, 1);
    let unknown = Fault::new("InvalidInstanceType", "The following supplied instance types do not exist: [m5.large]");
    let refuse = Disturbance::Refuse(When::BeforeEffect, unknown);
    lab.faults().inject(Injection::sometimes(Chance::ALWAYS, refuse).of(Action::DescribeInstanceTypes));
    let node = first(&lab);
    let daemon = start(&lab, &[]);
    let mut pods = sandboxes(&lab, 0..2);
    add_all(&mut pods[..1]);
    let Reply::Refused(told) = pods[1].call("ADD", None).expect("the plugin runs") else {
        panic!("no address is left")
    };
    assert!(told.to_string().contains("DescribeInstanceTypes with InvalidInstanceType"), "{told}");
    lab.faults().clear();
    served_in_the_end(&mut pods[1]);
    // What was learnt is kept, and what becomes of the file is no pod's trouble.
    let file = node.environment().into_iter().find(|(name, _)| name == "BERTH_STATE_DIR").expect("a directory").1
        + "/limits.json";
    daemon.kill().expect("killed");
    std::fs::write(&file, "{\"m5.large\":{\"limits\":").expect("cut off");
    let _daemon = start(&lab, &[]);
    eventually("the broken file is said", node, || {
        node.log().contains("could not use the limits on disk").then_some(())
    });
    let whole = || serde_json::from_str::<Value>(&std::fs::read_to_string(&file).ok()?).ok();
    eventually("the file is written anew", node, || whole().filter(|file| file["m5.large"]["limits"]["enis"] == 3));
    books_agree(&lab, node, &pods);
}

#[test]
fn without_describe_network_interfaces_a_fresh_node_says_so_and_is_not_ready() {
    let lab = lab("enis");
    deny(&lab, Action::DescribeNetworkInterfaces, "DescribeNetworkInterfaces");
    let mut daemon = first(&lab).spawn_ipamd(&[]).expect("spawned");
    named(&lab, "DescribeNetworkInterfaces", 503);
    let mut pods = sandboxes(&lab, 0..1);
    refused(&pods[0], "DescribeNetworkInterfaces");
    lab.faults().clear();
    daemon.wait_ready(node::PATIENCE).expect("ready by itself");
    recovered(&lab, "DescribeNetworkInterfaces");
    add_all(&mut pods);
}

#[test]
fn without_assign_the_addresses_that_are_there_serve() {
    let lab = lab("assign");
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "2"), ("MAX_ENI", "1")]);
    eventually("two are there", first(&lab), || (held(&lab).len() == 2).then_some(()));
    deny(&lab, Action::AssignPrivateIpAddresses, "AssignPrivateIpAddresses");
    let mut pods = sandboxes(&lab, 0..3);
    add_all(&mut pods[..2]);
    named(&lab, "AssignPrivateIpAddresses", 200);
    refused(&pods[2], "AssignPrivateIpAddresses");
    granted(&lab, "AssignPrivateIpAddresses");
    served_in_the_end(&mut pods[2]);
    books_agree(&lab, first(&lab), &pods);
}

#[test]
fn without_unassign_surplus_stays_and_nothing_else_is_missing() {
    let lab = lab("unassign");
    assigned_before(&lab, 6);
    deny(&lab, Action::UnassignPrivateIpAddresses, "UnassignPrivateIpAddresses");
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "1"), ("BERTH_SHRINK_AFTER", "1s")]);
    let mut pods = sandboxes(&lab, 0..2);
    add_all(&mut pods);
    named(&lab, "UnassignPrivateIpAddresses", 200);
    assert_eq!(held(&lab).len(), 6);
    granted(&lab, "UnassignPrivateIpAddresses");
    eventually("surplus is given back", first(&lab), || (held(&lab).len() == 3).then_some(()));
    books_agree(&lab, first(&lab), &pods);
}

/// More pods than one ENI holds, on a node that cannot have another one; `missing` is what EC2 says the role lacks.
fn one_eni_serves(test: &str, action: Action, missing: &str) {
    let lab = lab(test);
    deny(&lab, action, missing);
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "1")]);
    let mut pods = sandboxes(&lab, 0..10);
    add_all(&mut pods[..9]);
    eventually("the tenth is told", first(&lab), || match pods[9].call("ADD", None).ok()? {
        Reply::Refused(told) if told.to_string().contains(&format!("ec2:{missing};")) => Some(()),
        _ => None,
    });
    named(&lab, missing, 200);
    granted(&lab, missing);
    served_in_the_end(&mut pods[9]);
    books_agree(&lab, first(&lab), &pods);
    eventually("no ENI is left over", first(&lab), || {
        let enis = lab.world().vpc(|vpc| vpc.enis().len());
        (lab.world().attached(first(&lab).instance()).len() == enis).then_some(())
    });
}

#[test]
fn without_create_one_eni_serves() {
    one_eni_serves("create", Action::CreateNetworkInterface, "CreateNetworkInterface");
}

#[test]
fn without_create_tags_one_eni_serves_and_the_tags_are_named() {
    one_eni_serves("tags", Action::CreateNetworkInterface, "CreateTags");
}

#[test]
fn without_attach_one_eni_serves() {
    one_eni_serves("attach", Action::AttachNetworkInterface, "AttachNetworkInterface");
}

#[test]
fn without_modify_new_enis_serve_unprotected_until_it_is_granted() {
    let lab = lab("modify");
    deny(&lab, Action::ModifyNetworkInterfaceAttribute, "ModifyNetworkInterfaceAttribute");
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "1")]);
    let mut pods = sandboxes(&lab, 0..12);
    add_all(&mut pods);
    named(&lab, "ModifyNetworkInterfaceAttribute", 200);
    granted(&lab, "ModifyNetworkInterfaceAttribute");
    let protected = || {
        let instance = lab.world().vpc(|vpc| vpc.described(first(&lab).instance()))?;
        let ends =
            |eni: &sim::responses::NetworkInterface| eni.attachment.as_ref().is_some_and(|at| at.delete_on_termination);
        (instance.interfaces.len() == 2 && instance.interfaces.iter().all(ends)).then_some(())
    };
    eventually("the second ENI ends with the instance", first(&lab), protected);
}

/// An ENI that is not needed any more stays as far as it has come, and pods are served.
fn an_eni_stays(test: &str, action: Action) {
    let lab = lab(test);
    let quick = [("WARM_IP_TARGET", "1"), ("BERTH_SHRINK_AFTER", "1s"), ("IP_COOLDOWN_PERIOD", "1")];
    let _daemon = start(&lab, &quick);
    let mut pods = sandboxes(&lab, 0..11);
    add_all(&mut pods);
    deny(&lab, action, action.name());
    for deleted in at_once(&mut pods, Pod::del) {
        deleted.expect("deleted");
    }
    named(&lab, action.name(), 200);
    let enis = || lab.world().vpc(|vpc| vpc.enis().len());
    assert_eq!(enis(), 2, "it is there yet");
    let mut late = sandboxes(&lab, 20..22);
    add_all(&mut late);
    granted(&lab, action.name());
    eventually("it is gone", first(&lab), || (enis() == 1).then_some(()));
    books_agree(&lab, first(&lab), &late);
}

#[test]
fn without_detach_an_empty_eni_stays_attached() {
    an_eni_stays("detach", Action::DetachNetworkInterface);
}

#[test]
fn without_delete_a_detached_eni_stays_in_the_account() {
    an_eni_stays("delete", Action::DeleteNetworkInterface);
}

#[test]
fn without_describe_subnets_new_enis_are_in_the_nodes_own_subnet() {
    let lab = lab("subnets");
    deny(&lab, Action::DescribeSubnets, "DescribeSubnets");
    let _daemon = start(&lab, &[("WARM_IP_TARGET", "1")]);
    let mut pods = sandboxes(&lab, 0..12);
    add_all(&mut pods);
    named(&lab, "DescribeSubnets", 200);
    granted(&lab, "DescribeSubnets");
    books_agree(&lab, first(&lab), &pods);
}
