//! Each call that changes something, and the limits: the request that it becomes and the answer that is made of EC2's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cloud::{Answer, Call, Cloud};
use pool::{Ask, AttachmentId, DeviceIndex, EniId, InterfaceKind, Limits, Prefix, SeenAttachment, SeenEni};

use crate::{
    client,
    support::{Request, Server, answer},
};

/// An attached ENI, the way EC2 writes it.
pub(crate) const ENI: &str = "
    <networkInterfaceId>eni-0a</networkInterfaceId><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId>
    <availabilityZone>eu-central-1a</availabilityZone><description>aws-K8S-i-1</description><ownerId>111122223333</ownerId>
    <requesterManaged>false</requesterManaged><status>in-use</status><macAddress>02:00:0a:00:00:0c</macAddress>
    <privateIpAddress>10.0.0.12</privateIpAddress><sourceDestCheck>true</sourceDestCheck>
    <groupSet><item><groupId>sg-2</groupId><groupName>two</groupName></item><item><groupId>sg-1</groupId></item></groupSet>
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

pub(crate) fn tag(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

pub(crate) fn eni() -> SeenEni {
    SeenEni {
        id: "eni-0a".into(),
        mac: "02:00:0a:00:00:0c".parse().expect("a mac"),
        subnet: "subnet-1".into(),
        primary: Ipv4Addr::new(10, 0, 0, 12),
        secondary: vec![Ipv4Addr::new(10, 0, 0, 13), Ipv4Addr::new(10, 0, 0, 14)],
        prefixes: vec![prefix("10.0.0.32/28"), prefix("10.0.0.64/28")],
        description: "aws-K8S-i-1".to_owned(),
        tags: BTreeMap::from([tag("node.k8s.amazonaws.com/instance_id", "i-1"), tag("empty", "")]),
        groups: BTreeSet::from(["sg-1".into(), "sg-2".into()]),
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
pub(crate) async fn ask(call: Call, fields: &str) -> (Request, Answer) {
    let fields = fields.to_owned();
    let server = Server::start(move |request| answer(request.action(), &fields)).await;
    let outcome = client(server.url()).await.call(call).await.expect("the call works");
    (server.only_request(), outcome)
}

pub(crate) fn fields(request: &Request) -> Vec<(&str, &str)> {
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
async fn a_creation_with_prefixes_asks_for_so_many_and_for_no_addresses() {
    let (request, outcome) =
        ask(create(Ask::Prefixes(2)), &format!("<networkInterface>{ENI}</networkInterface>")).await;
    assert_eq!(request.field("Ipv4PrefixCount"), "2");
    assert!(!request.form.contains_key("SecondaryPrivateIpAddressCount"), "{:?}", request.form);
    let Answer::Created(eni) = outcome else { panic!("{outcome:?}") };
    assert_eq!(eni.prefixes, [prefix("10.0.0.32/28"), prefix("10.0.0.64/28")]);
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
async fn security_groups_are_set_all_at_once() {
    let call = Call::SetGroups { eni: "eni-0a".into(), groups: vec!["sg-2".into(), "sg-1".into()] };
    let (request, outcome) = ask(call, "<return>true</return>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "ModifyNetworkInterfaceAttribute"),
            ("NetworkInterfaceId", "eni-0a"),
            ("SecurityGroupId.1", "sg-2"),
            ("SecurityGroupId.2", "sg-1"),
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
async fn an_assign_of_prefixes_answers_with_the_prefixes() {
    let assigned = "<networkInterfaceId>eni-0a</networkInterfaceId><assignedPrivateIpAddressesSet/>
        <assignedIpv4PrefixSet><item><ipv4Prefix>10.0.0.80/28</ipv4Prefix></item></assignedIpv4PrefixSet><return>true</return>";
    let (request, outcome) = ask(Call::Assign { eni: "eni-0a".into(), ask: Ask::Prefixes(1) }, assigned).await;
    assert_eq!(
        fields(&request),
        [("Action", "AssignPrivateIpAddresses"), ("Ipv4PrefixCount", "1"), ("NetworkInterfaceId", "eni-0a")]
    );
    assert_eq!(outcome, Answer::Assigned { addresses: vec![], prefixes: vec![prefix("10.0.0.80/28")] });
}

#[tokio::test]
async fn a_prefix_that_is_no_aligned_28_is_an_answer_that_makes_no_sense() {
    for nonsense in ["10.0.0.81/28", "10.0.0.0/27", "10.0.0.80", "2001:db8::/80"] {
        let assigned =
            format!("<assignedIpv4PrefixSet><item><ipv4Prefix>{nonsense}</ipv4Prefix></item></assignedIpv4PrefixSet>");
        let server = Server::start(move |request| answer(request.action(), &assigned)).await;
        let call = Call::Assign { eni: "eni-0a".into(), ask: Ask::Prefixes(1) };
        let error = client(server.url()).await.call(call).await.expect_err("no prefix");
        assert_eq!(error.kind, cloud::Kind::Uncertain, "EC2 did something");
        assert!(error.message.contains(nonsense), "{error}");
    }
}

#[tokio::test]
async fn an_unassign_of_prefixes_names_them_and_no_addresses() {
    let prefixes = vec![prefix("10.0.0.32/28"), prefix("10.0.0.64/28")];
    let call = Call::Unassign { eni: "eni-0a".into(), addresses: vec![], prefixes };
    let (request, outcome) = ask(call, "<return>true</return>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "UnassignPrivateIpAddresses"),
            ("Ipv4Prefix.1", "10.0.0.32/28"),
            ("Ipv4Prefix.2", "10.0.0.64/28"),
            ("NetworkInterfaceId", "eni-0a"),
        ]
    );
    assert_eq!(outcome, Answer::Done);
}

#[tokio::test]
async fn tags_are_set_on_the_eni() {
    let tags = BTreeMap::from([tag("node.k8s.amazonaws.com/instance_id", "i-1"), tag("team", "")]);
    let (request, outcome) = ask(Call::Tag { eni: "eni-0a".into(), tags }, "<return>true</return>").await;
    assert_eq!(
        fields(&request),
        [
            ("Action", "CreateTags"),
            ("ResourceId.1", "eni-0a"),
            ("Tag.1.Key", "node.k8s.amazonaws.com/instance_id"),
            ("Tag.1.Value", "i-1"),
            ("Tag.2.Key", "team"),
            ("Tag.2.Value", ""),
        ]
    );
    assert_eq!(outcome, Answer::Done);
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

/// p4d.24xlarge as EC2 describes it: four cards of fifteen.
#[tokio::test]
async fn a_type_of_several_network_cards_has_the_limits_of_the_first() {
    let card = |index: u32| {
        format!(
            "<item><networkCardIndex>{index}</networkCardIndex><networkPerformance>100 Gigabit</networkPerformance>
             <maximumNetworkInterfaces>15</maximumNetworkInterfaces></item>"
        )
    };
    let cards: String = (0..4).map(card).collect();
    assert_eq!(limits(instance_type(&cards)).await.1, Ok(Limits { enis: 15, addresses_per_eni: 10 }));
    let without_the_first: String = (1..4).map(card).collect();
    let error = limits(instance_type(&without_the_first)).await.1.expect_err("60 is the limit of no card");
    assert!(error.message.contains("networkCards"), "{error}");
    let silent = card(0).replace("maximumNetworkInterfaces", "x");
    limits(instance_type(&(silent + &card(1)))).await.1.expect_err("nor is it when the first says nothing");
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
