//! Each call that only reads: what it asks for, how it goes from page to page, what is made of what it finds.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cloud::{Answer, Call, Cloud};
use pool::{InterfaceKind, SeenEni, SeenSubnet};

use crate::{
    calls::{ENI, ask, eni, fields, prefix, tag},
    client,
    support::{Server, answer, refusal},
};

fn set(items: &[&str]) -> String {
    let items: Vec<_> = items.iter().map(|item| format!("<item>{item}</item>")).collect();
    format!("<networkInterfaceSet>{}</networkInterfaceSet>", items.concat())
}

#[tokio::test]
async fn a_describe_asks_for_one_eni_by_id() {
    let (request, outcome) = ask(Call::Describe { eni: "eni-0a".into() }, &set(&[ENI])).await;
    assert_eq!(fields(&request), [("Action", "DescribeNetworkInterfaces"), ("NetworkInterfaceId.1", "eni-0a")]);
    assert_eq!(outcome, Answer::Described(Some(eni())));
}

#[tokio::test]
async fn describing_an_eni_that_is_not_there_is_an_answer_and_not_a_failure() {
    let missing = "The networkInterface ID 'eni-0a' does not exist";
    let server = Server::start(|_| refusal(400, "InvalidNetworkInterfaceID.NotFound", missing)).await;
    let outcome = client(server.url()).await.call(Call::Describe { eni: "eni-0a".into() }).await;
    assert_eq!(outcome, Ok(Answer::Described(None)));
    let (_, outcome) = ask(Call::Describe { eni: "eni-0a".into() }, &set(&[])).await;
    assert_eq!(outcome, Answer::Described(None));
}

#[tokio::test]
async fn discovery_follows_every_page_also_after_an_empty_one() {
    let server = Server::start(|request| {
        let (items, next) = match request.field("NextToken") {
            "" => (set(&[]), "<nextToken>one</nextToken>"),
            "one" => (set(&[ENI]), "<nextToken>two</nextToken>"),
            _ => (set(&[&ENI.replace("eni-0a", "eni-0b")]), ""),
        };
        answer(request.action(), &format!("{items}{next}"))
    })
    .await;
    let outcome = client(server.url()).await.call(Call::Discover { instance: "i-1".into() }).await.expect("an answer");
    let Answer::Discovered(enis) = outcome else { panic!("{outcome:?}") };
    assert_eq!(enis.iter().map(|eni| eni.id.as_str()).collect::<Vec<_>>(), ["eni-0a", "eni-0b"]);
    let seen = server.seen();
    assert_eq!(seen.iter().map(|request| request.field("NextToken")).collect::<Vec<_>>(), ["", "one", "two"]);
    for request in &seen {
        assert_eq!(request.field("Filter.1.Name"), "attachment.instance-id");
        assert_eq!(request.field("Filter.1.Value.1"), "i-1");
        assert_eq!(request.field("MaxResults"), "1000");
    }
}

#[tokio::test]
async fn discovery_gives_up_on_pages_without_end() {
    let server =
        Server::start(|request| answer(request.action(), &format!("{}<nextToken>again</nextToken>", set(&[])))).await;
    let outcome = client(server.url()).await.call(Call::Discover { instance: "i-1".into() }).await;
    assert_eq!(outcome.map_err(|error| error.kind), Err(cloud::Kind::Uncertain));
}

async fn described(item: &str) -> SeenEni {
    let (_, outcome) = ask(Call::Describe { eni: "eni-0a".into() }, &set(&[item])).await;
    let Answer::Described(Some(eni)) = outcome else { panic!("{outcome:?}") };
    eni
}

#[tokio::test]
async fn interface_types_are_told_apart() {
    for (written, kind) in [
        ("interface", InterfaceKind::Interface),
        ("efa", InterfaceKind::Interface),
        ("trunk", InterfaceKind::Trunk),
        ("efa-only", InterfaceKind::EfaOnly),
        ("branch", InterfaceKind::Other),
        ("natGateway", InterfaceKind::Other),
        ("something-new", InterfaceKind::Other),
    ] {
        let item = ENI.replace("<interfaceType>interface<", &format!("<interfaceType>{written}<"));
        assert_eq!(described(&item).await.kind, kind, "{written}");
    }
}

#[tokio::test]
async fn an_eni_without_an_ipv4_address_is_none_for_pods() {
    let address = "<privateIpAddress>10.0.0.12</privateIpAddress><sourceDestCheck>";
    let (before, after) = ENI.split_once("<privateIpAddressesSet>").expect("a set");
    let (_, after) = after.split_once("</privateIpAddressesSet>").expect("a set");
    let bare = format!("{before}{after}").replace(address, "<sourceDestCheck>");
    let efa = described(&bare.replace(">interface<", ">efa-only<")).await;
    assert_eq!((efa.kind, efa.primary, efa.secondary), (InterfaceKind::EfaOnly, Ipv4Addr::UNSPECIFIED, vec![]));
    let v6 = described(&format!("{bare}<ipv6Native>true</ipv6Native>")).await;
    assert_eq!((v6.kind, v6.primary), (InterfaceKind::Other, Ipv4Addr::UNSPECIFIED));
}

#[tokio::test]
async fn attachments_on_their_way_in_and_out_are_told_apart() {
    for (status, attached) in
        [("attaching", Some(true)), ("attached", Some(true)), ("detaching", Some(false)), ("detached", None)]
    {
        let item = ENI.replace("<status>attached<", &format!("<status>{status}<"));
        assert_eq!(described(&item).await.attachment.map(|attachment| attachment.attached), attached, "{status}");
    }
}

#[tokio::test]
async fn prefixes_are_those_of_the_eni_and_none_of_them_is_an_address() {
    let seen = described(ENI).await;
    assert_eq!(seen.prefixes, [prefix("10.0.0.32/28"), prefix("10.0.0.64/28")]);
    assert_eq!(seen.secondary.len(), 2);
}

/// A subnet, the way EC2 writes it.
fn subnet(id: &str, free: &str, tags: &str) -> String {
    format!(
        "<item><subnetId>{id}</subnetId><subnetArn>arn:aws:ec2:eu-central-1:111122223333:subnet/{id}</subnetArn>
         <state>available</state><ownerId>111122223333</ownerId><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/24</cidrBlock>
         <ipv6CidrBlockAssociationSet/>{free}<availabilityZone>eu-central-1a</availabilityZone>
         <availabilityZoneId>euc1-az2</availabilityZoneId><defaultForAz>false</defaultForAz>
         <mapPublicIpOnLaunch>false</mapPublicIpOnLaunch><tagSet>{tags}</tagSet></item>"
    )
}

const FREE: &str = "<availableIpAddressCount>251</availableIpAddressCount>";

#[tokio::test]
async fn subnets_are_those_of_the_zone_and_the_vpc_on_every_page() {
    let cni = "<item><key>kubernetes.io/role/cni</key><value>1</value></item>";
    let (one, two) = (subnet("subnet-1", FREE, cni), subnet("subnet-2", &FREE.replace("251", "0"), ""));
    let server = Server::start(move |request| {
        let (items, next) = match request.field("NextToken") {
            "" => (&one, "<nextToken>two</nextToken>"),
            _ => (&two, ""),
        };
        answer(request.action(), &format!("<subnetSet>{items}</subnetSet>{next}"))
    })
    .await;
    let call = Call::Subnets { vpc: "vpc-1".into(), zone: "eu-central-1a".to_owned() };
    let outcome = client(server.url()).await.call(call).await.expect("an answer");
    let tags = BTreeMap::from([tag("kubernetes.io/role/cni", "1")]);
    assert_eq!(
        outcome,
        Answer::Subnets(vec![
            SeenSubnet { id: "subnet-1".into(), free: 251, tags },
            SeenSubnet { id: "subnet-2".into(), free: 0, tags: BTreeMap::new() },
        ])
    );
    let first = &server.seen()[0];
    assert_eq!(
        fields(first),
        [
            ("Action", "DescribeSubnets"),
            ("Filter.1.Name", "vpc-id"),
            ("Filter.1.Value.1", "vpc-1"),
            ("Filter.2.Name", "availability-zone"),
            ("Filter.2.Value.1", "eu-central-1a"),
            ("MaxResults", "1000"),
        ]
    );
}

#[tokio::test]
async fn a_subnet_that_does_not_say_how_much_is_free_is_no_answer() {
    for free in ["", "<availableIpAddressCount>-1</availableIpAddressCount>"] {
        let items = subnet("subnet-1", free, "");
        let server =
            Server::start(move |request| answer(request.action(), &format!("<subnetSet>{items}</subnetSet>"))).await;
        let call = Call::Subnets { vpc: "vpc-1".into(), zone: "eu-central-1a".to_owned() };
        let error = client(server.url()).await.call(call).await.expect_err("no subnets");
        assert!(error.message.contains("availableIpAddressCount"), "{error}");
    }
}

fn leaked(cluster: Option<&str>) -> Call {
    Call::Leaked { vpc: "vpc-1".into(), cluster: cluster.map(str::to_owned) }
}

#[tokio::test]
async fn what_nodes_left_behind_is_looked_for_by_tag_status_vpc_and_cluster() {
    let (request, outcome) = ask(leaked(Some("blue")), &set(&[ENI])).await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "DescribeNetworkInterfaces"),
            ("Filter.1.Name", "tag-key"),
            ("Filter.1.Value.1", "node.k8s.amazonaws.com/instance_id"),
            ("Filter.2.Name", "status"),
            ("Filter.2.Value.1", "available"),
            ("Filter.3.Name", "vpc-id"),
            ("Filter.3.Value.1", "vpc-1"),
            ("Filter.4.Name", "tag:cluster.k8s.amazonaws.com/name"),
            ("Filter.4.Value.1", "blue"),
            ("MaxResults", "1000"),
        ]
    );
    assert_eq!(outcome, Answer::Leaked(vec![eni()]));
    let (request, _) = ask(leaked(None), &set(&[])).await;
    assert!(!request.form.contains_key("Filter.4.Name"), "{:?}", request.form);
}

#[tokio::test]
async fn what_nodes_left_behind_is_read_up_to_a_bound_and_without_what_makes_no_sense() {
    let senseless = ENI.replace("<macAddress>02:00:0a:00:00:0c</macAddress>", "");
    let items = set(&[ENI, &senseless]);
    let server =
        Server::start(move |request| answer(request.action(), &format!("{items}<nextToken>again</nextToken>"))).await;
    let outcome = client(server.url()).await.call(leaked(None)).await.expect("an answer");
    let Answer::Leaked(enis) = outcome else { panic!("{outcome:?}") };
    // The same one on every page.
    assert_eq!((server.seen().len(), enis.len()), (5, 1));
}

/// Instances in these states, the way EC2 writes them: each in a reservation of its own.
fn reservations(instances: &[(String, &str)]) -> String {
    let item = |(id, state): &(String, &str)| {
        format!(
            "<item><reservationId>r-1</reservationId><ownerId>111122223333</ownerId><groupSet/><instancesSet><item>
             <instanceId>{id}</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>{state}</name></instanceState>
             <instanceType>m5.large</instanceType></item></instancesSet></item>"
        )
    };
    format!("<reservationSet>{}</reservationSet>", instances.iter().map(item).collect::<String>())
}

#[tokio::test]
async fn an_instance_exists_until_it_is_terminated_or_shuts_down() {
    let states = ["pending", "running", "stopping", "stopped", "shutting-down", "terminated", "something-new"];
    let all: Vec<_> = states.into_iter().map(|state| (format!("i-{state}"), state)).collect();
    let fields_of = reservations(&all);
    let instances = all.iter().map(|(id, _)| id.as_str().into()).collect();
    let (request, outcome) = ask(Call::Instances { instances }, &fields_of).await;
    assert_eq!(request.field("Filter.1.Name"), "instance-id");
    assert_eq!(request.field("Filter.1.Value.7"), "i-something-new");
    assert!(!request.form.contains_key("InstanceId.1"), "an id that EC2 has forgotten would fail the request");
    let existing = ["i-pending", "i-running", "i-something-new", "i-stopped", "i-stopping"];
    assert_eq!(outcome, Answer::Instances(existing.into_iter().map(Into::into).collect()));
}

#[tokio::test]
async fn instances_are_asked_for_in_as_many_requests_as_a_filter_and_a_page_need() {
    let server = Server::start(|request| {
        let page = request.field("NextToken");
        let next = if page.is_empty() { "<nextToken>two</nextToken>" } else { "" };
        let id = format!("{}{page}", request.field("Filter.1.Value.1"));
        answer(request.action(), &format!("{}{next}", reservations(&[(id, "running")])))
    })
    .await;
    let instances = (0..201).map(|number| format!("i-{number}").into()).collect();
    let outcome = client(server.url()).await.call(Call::Instances { instances }).await.expect("an answer");
    let existing = ["i-0", "i-0two", "i-200", "i-200two"];
    assert_eq!(outcome, Answer::Instances(existing.into_iter().map(Into::into).collect()));
    assert!(server.seen().iter().all(|request| !request.form.contains_key("Filter.1.Value.201")));
}

#[tokio::test]
async fn long_lists_that_never_end_are_no_answer() {
    for (call, items) in [
        (Call::Subnets { vpc: "vpc-1".into(), zone: "eu-central-1a".to_owned() }, "<subnetSet/>"),
        (Call::Instances { instances: vec!["i-1".into()] }, "<reservationSet/>"),
    ] {
        let endless = format!("{items}<nextToken>again</nextToken>");
        let server = Server::start(move |request| answer(request.action(), &endless)).await;
        let outcome = client(server.url()).await.call(call).await;
        assert_eq!(outcome.map_err(|error| error.kind), Err(cloud::Kind::Uncertain));
    }
}
