//! Each call: the request that it becomes and the answer that is made of EC2's.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cloud::{Answer, Call, Cloud};
use pool::{Ask, AttachmentId, DeviceIndex, EniId, InterfaceKind, Limits, Prefix, SeenAttachment, SeenEni};

use crate::{
    client,
    support::{Request, Server, answer, refusal},
};

/// An attached ENI, the way EC2 writes it.
const ENI: &str = "
    <networkInterfaceId>eni-0a</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>
    <availabilityZone>eu-central-1a</availabilityZone><description>aws-K8S-i-1</description><ownerId>111122223333</ownerId>
    <requesterManaged>false</requesterManaged><status>in-use</status><macAddress>02:00:0a:00:00:0c</macAddress>
    <privateIpAddress>10.0.0.12</privateIpAddress><sourceDestCheck>true</sourceDestCheck>
    <groupSet><item><groupId>sg-1</groupId><groupName>pods</groupName></item></groupSet>
    <attachment><attachmentId>eni-attach-7</attachmentId><instanceId>i-1</instanceId><deviceIndex>2</deviceIndex>
      <networkCardIndex>0</networkCardIndex><status>attached</status><deleteOnTermination>true</deleteOnTermination></attachment>
    <tagSet><item><key>node.k8s.amazonaws.com/instance_id</key><value>i-1</value></item><item><key>empty</key><value/></item></tagSet>
    <privateIpAddressesSet>
      <item><privateIpAddress>10.0.0.12</privateIpAddress><primary>true</primary></item>
      <item><privateIpAddress>10.0.0.13</privateIpAddress><primary>false</primary></item>
      <item><privateIpAddress>10.0.0.14</privateIpAddress><primary>false</primary></item>
    </privateIpAddressesSet>
    <ipv4PrefixSet><item><ipv4Prefix>10.0.0.32/28</ipv4Prefix></item><item><ipv4Prefix>10.0.0.64/28</ipv4Prefix></item></ipv4PrefixSet>
    <interfaceType>interface</interfaceType>";

fn tag(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn eni() -> SeenEni {
    SeenEni {
        id: "eni-0a".into(),
        mac: "02:00:0a:00:00:0c".parse().expect("a mac"),
        subnet: "subnet-1".into(),
        primary: Ipv4Addr::new(10, 0, 0, 12),
        secondary: vec![Ipv4Addr::new(10, 0, 0, 13), Ipv4Addr::new(10, 0, 0, 14)],
        prefixes: vec![prefix("10.0.0.32/28"), prefix("10.0.0.64/28")],
        description: "aws-K8S-i-1".to_owned(),
        tags: BTreeMap::from([tag("node.k8s.amazonaws.com/instance_id", "i-1"), tag("empty", "")]),
        kind: InterfaceKind::Interface,
        attachment: Some(SeenAttachment {
            id: "eni-attach-7".into(),
            instance: Some("i-1".into()),
            device: DeviceIndex(2),
            card: 0,
            attached: true,
            delete_on_termination: true,
        }),
    }
}

/// Does one call of which EC2's answer has these fields.
async fn ask(call: Call, fields: &str) -> (Request, Answer) {
    let fields = fields.to_owned();
    let server = Server::start(move |request| answer(request.action(), &fields)).await;
    let outcome = client(server.url()).await.call(call).await.expect("the call works");
    (server.only_request(), outcome)
}

fn fields(request: &Request) -> Vec<(&str, &str)> {
    let parts = request.form.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    parts.filter(|(name, _)| *name != "Version").collect()
}

fn create(ask: Ask) -> Call {
    Call::CreateEni {
        token: "8f14e45f-1".into(),
        subnet: "subnet-1".into(),
        groups: vec!["sg-1".into(), "sg-2".into()],
        ask,
        description: "aws-K8S-i-1".to_owned(),
        tags: BTreeMap::from([
            tag("cluster.k8s.amazonaws.com/name", "c"),
            tag("node.k8s.amazonaws.com/instance_id", "i-1"),
        ]),
    }
}

#[tokio::test]
async fn a_creation_carries_token_groups_addresses_description_and_tags() {
    let (request, outcome) =
        ask(create(Ask::Addresses(5)), &format!("<networkInterface>{ENI}</networkInterface>")).await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "CreateNetworkInterface"),
            ("ClientToken", "8f14e45f-1"),
            ("Description", "aws-K8S-i-1"),
            ("SecondaryPrivateIpAddressCount", "5"),
            ("SecurityGroupId.1", "sg-1"),
            ("SecurityGroupId.2", "sg-2"),
            ("SubnetId", "subnet-1"),
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", "cluster.k8s.amazonaws.com/name"),
            ("TagSpecification.1.Tag.1.Value", "c"),
            ("TagSpecification.1.Tag.2.Key", "node.k8s.amazonaws.com/instance_id"),
            ("TagSpecification.1.Tag.2.Value", "i-1"),
        ]
    );
    assert_eq!(outcome, Answer::Created(eni()));
}

#[tokio::test]
async fn a_creation_without_secondary_addresses_does_not_ask_for_zero_of_them() {
    let (request, _) = ask(create(Ask::Addresses(0)), &format!("<networkInterface>{ENI}</networkInterface>")).await;
    assert!(!request.form.contains_key("SecondaryPrivateIpAddressCount"), "{:?}", request.form);
}

#[tokio::test]
async fn an_attach_names_network_card_0() {
    let call = Call::Attach { eni: "eni-0a".into(), instance: "i-1".into(), device: DeviceIndex(2) };
    let (request, outcome) =
        ask(call, "<attachmentId>eni-attach-7</attachmentId><networkCardIndex>0</networkCardIndex>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "AttachNetworkInterface"),
            ("DeviceIndex", "2"),
            ("InstanceId", "i-1"),
            ("NetworkCardIndex", "0"),
            ("NetworkInterfaceId", "eni-0a"),
        ]
    );
    assert_eq!(outcome, Answer::Attached("eni-attach-7".into()));
}

#[tokio::test]
async fn protecting_sets_delete_on_termination_of_the_attachment() {
    let call = Call::Protect { eni: "eni-0a".into(), attachment: "eni-attach-7".into() };
    let (request, outcome) = ask(call, "<return>true</return>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "ModifyNetworkInterfaceAttribute"),
            ("Attachment.AttachmentId", "eni-attach-7"),
            ("Attachment.DeleteOnTermination", "true"),
            ("NetworkInterfaceId", "eni-0a"),
        ]
    );
    assert_eq!(outcome, Answer::Done);
}

#[tokio::test]
async fn an_assign_asks_for_a_number_and_answers_with_the_addresses() {
    let assigned = "<networkInterfaceId>eni-0a</networkInterfaceId><assignedPrivateIpAddressesSet>
        <item><privateIpAddress>10.0.0.20</privateIpAddress></item><item><privateIpAddress>10.0.0.21</privateIpAddress></item>
        </assignedPrivateIpAddressesSet><return>true</return>";
    let (request, outcome) = ask(Call::Assign { eni: "eni-0a".into(), ask: Ask::Addresses(2) }, assigned).await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "AssignPrivateIpAddresses"),
            ("NetworkInterfaceId", "eni-0a"),
            ("SecondaryPrivateIpAddressCount", "2"),
        ]
    );
    assert_eq!(
        outcome,
        Answer::Assigned {
            addresses: vec![Ipv4Addr::new(10, 0, 0, 20), Ipv4Addr::new(10, 0, 0, 21)],
            prefixes: vec![]
        }
    );
}

#[tokio::test]
async fn an_unassign_names_its_addresses() {
    let addresses = vec![Ipv4Addr::new(10, 0, 0, 20), Ipv4Addr::new(10, 0, 0, 21)];
    let call = Call::Unassign { eni: "eni-0a".into(), addresses, prefixes: vec![] };
    let (request, outcome) = ask(call, "<return>true</return>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "UnassignPrivateIpAddresses"),
            ("NetworkInterfaceId", "eni-0a"),
            ("PrivateIpAddress.1", "10.0.0.20"),
            ("PrivateIpAddress.2", "10.0.0.21"),
        ]
    );
    assert_eq!(outcome, Answer::Done);
}

#[tokio::test]
async fn a_detach_names_its_attachment_and_does_not_force() {
    let call = Call::Detach { eni: "eni-0a".into(), attachment: "eni-attach-7".into() };
    let (request, outcome) = ask(call, "<return>true</return>").await;
    assert_eq!(fields(&request), [("Action", "DetachNetworkInterface"), ("AttachmentId", "eni-attach-7")]);
    assert_eq!(outcome, Answer::Done);
}

#[tokio::test]
async fn a_delete_names_its_eni() {
    let (request, outcome) = ask(Call::Delete { eni: "eni-0a".into() }, "<return>true</return>").await;
    assert_eq!(fields(&request), [("Action", "DeleteNetworkInterface"), ("NetworkInterfaceId", "eni-0a")]);
    assert_eq!(outcome, Answer::Done);
}

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

fn instance_type(cards: &str) -> String {
    format!(
        "<instanceTypeSet><item><instanceType>m5.large</instanceType><networkInfo><maximumNetworkInterfaces>60</maximumNetworkInterfaces>
         <ipv4AddressesPerInterface>10</ipv4AddressesPerInterface><networkCards>{cards}</networkCards></networkInfo></item></instanceTypeSet>"
    )
}

async fn limits(fields: String) -> (Request, Result<Limits, cloud::Error>) {
    let server = Server::start(move |request| answer(request.action(), &fields)).await;
    let limits = client(server.url()).await.instance_limits("m5.large").await;
    (server.only_request(), limits)
}

#[tokio::test]
async fn limits_are_those_of_network_card_0() {
    let (request, whole) = limits(instance_type("")).await;
    assert_eq!(fields(&request), [("Action", "DescribeInstanceTypes"), ("InstanceType.1", "m5.large")]);
    assert_eq!(whole, Ok(Limits { enis: 60, addresses_per_eni: 10 }));
    let cards = "<item><networkCardIndex>1</networkCardIndex><maximumNetworkInterfaces>14</maximumNetworkInterfaces></item>
                 <item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>15</maximumNetworkInterfaces></item>";
    assert_eq!(limits(instance_type(cards)).await.1, Ok(Limits { enis: 15, addresses_per_eni: 10 }));
}

#[tokio::test]
async fn limits_that_ec2_does_not_tell_are_an_error_that_names_what_is_missing() {
    for (fields, word) in [
        (instance_type("").replace("maximumNetworkInterfaces", "x"), "networkInfo.maximumNetworkInterfaces"),
        (instance_type("").replace("ipv4AddressesPerInterface", "x"), "networkInfo.ipv4AddressesPerInterface"),
        ("<instanceTypeSet/>".to_owned(), "m5.large"),
    ] {
        let error = limits(fields).await.1.expect_err("no limits");
        assert!(error.message.contains(word), "{error}");
    }
}

#[tokio::test]
async fn ids_are_passed_on_as_they_are() {
    let eni = EniId::from("eni-0a&b=c d");
    let (request, _) = ask(Call::Delete { eni: eni.clone() }, "<return>true</return>").await;
    assert_eq!(request.field("NetworkInterfaceId"), eni.as_str());
    let attachment = AttachmentId::from("eni-attach-ü");
    let (request, _) = ask(Call::Detach { eni, attachment: attachment.clone() }, "<return>true</return>").await;
    assert_eq!(request.field("AttachmentId"), attachment.as_str());
}
