//! The Query protocol: shapes of answers, and what is refused before the model sees it.

use expect_test::expect;

use crate::client::{Lab, request};

#[tokio::test]
async fn a_new_eni_is_described_as_ec2_does() {
    let lab = Lab::start().await;
    let answer = lab
        .call(&[
            ("Action", "CreateNetworkInterface"),
            ("Version", "2016-11-15"),
            ("SubnetId", &lab.subnet),
            ("Description", "a <b> & \"c\""),
            ("SecondaryPrivateIpAddressCount", "1"),
            ("ClientToken", "once"),
            ("TagSpecification.1.ResourceType", "network-interface"),
            ("TagSpecification.1.Tag.1.Key", "k"),
            ("TagSpecification.1.Tag.1.Value", "v"),
        ])
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.to_lowercase().contains("content-type: text/xml;charset=utf-8"), "{answer:?}");
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <CreateNetworkInterfaceResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>00000000-0000-4000-8000-000000000000</requestId>
        <networkInterface>
        <networkInterfaceId>eni-0431d9d54dee17b11</networkInterfaceId>
        <subnetId>subnet-0958b761dabe5f6d0</subnetId>
        <vpcId>vpc-0bb2a3fb2cd2c6f7f</vpcId>
        <description>a &lt;b&gt; &amp; "c"</description>
        <ownerId>123456789012</ownerId>
        <status>pending</status>
        <macAddress>02:1f:71:00:00:04</macAddress>
        <privateIpAddress>10.0.0.4</privateIpAddress>
        <privateDnsName>ip-10-0-0-4.us-west-2.compute.internal</privateDnsName>
        <sourceDestCheck>true</sourceDestCheck>
        <interfaceType>interface</interfaceType>
        <groupSet>
        <item>
        <groupId>sg-0c6017c948e27697b</groupId>
        <groupName>default</groupName>
        </item>
        </groupSet>
        <privateIpAddressesSet>
        <item>
        <privateIpAddress>10.0.0.4</privateIpAddress>
        <privateDnsName>ip-10-0-0-4.us-west-2.compute.internal</privateDnsName>
        <primary>true</primary>
        </item>
        <item>
        <privateIpAddress>10.0.0.5</privateIpAddress>
        <privateDnsName>ip-10-0-0-5.us-west-2.compute.internal</privateDnsName>
        <primary>false</primary>
        </item>
        </privateIpAddressesSet>
        <ipv4PrefixSet>
        </ipv4PrefixSet>
        <ipv6AddressesSet>
        </ipv6AddressesSet>
        <ipv6PrefixSet>
        </ipv6PrefixSet>
        <availabilityZone>us-west-2a</availabilityZone>
        <requesterManaged>false</requesterManaged>
        <tagSet>
        <item>
        <key>k</key>
        <value>v</value>
        </item>
        </tagSet>
        </networkInterface>
        <clientToken>once</clientToken>
        </CreateNetworkInterfaceResponse>
    "#]]
    .assert_eq(&answer.pretty());
}

#[tokio::test]
async fn an_attached_eni_is_described_as_ec2_does() {
    let lab = Lab::start().await;
    let (instance, eni) = (lab.launch(), lab.create_eni().await);
    lab.attach(&eni, &instance).await;
    let answer = lab.call(&[("Action", "DescribeInstances"), ("InstanceId.1", &instance)]).await;
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>00000000-0000-4000-8000-000000000002</requestId>
        <reservationSet>
        <item>
        <reservationId>r-0431d9d54dee17b11</reservationId>
        <ownerId>123456789012</ownerId>
        <groupSet>
        </groupSet>
        <instancesSet>
        <item>
        <instanceId>i-0c5a0ef111f71c422</instanceId>
        <imageId>ami-0123456789abcdef0</imageId>
        <instanceState>
        <code>16</code>
        <name>running</name>
        </instanceState>
        <privateDnsName>ip-10-0-0-4.us-west-2.compute.internal</privateDnsName>
        <instanceType>m5.large</instanceType>
        <launchTime>...</launchTime>
        <placement>
        <availabilityZone>us-west-2a</availabilityZone>
        <tenancy>default</tenancy>
        </placement>
        <subnetId>subnet-0958b761dabe5f6d0</subnetId>
        <vpcId>vpc-0bb2a3fb2cd2c6f7f</vpcId>
        <privateIpAddress>10.0.0.4</privateIpAddress>
        <architecture>x86_64</architecture>
        <hypervisor>xen</hypervisor>
        <groupSet>
        <item>
        <groupId>sg-0c6017c948e27697b</groupId>
        <groupName>default</groupName>
        </item>
        </groupSet>
        <tagSet>
        </tagSet>
        <networkInterfaceSet>
        <item>
        <networkInterfaceId>eni-037fc854f12037913</networkInterfaceId>
        <subnetId>subnet-0958b761dabe5f6d0</subnetId>
        <vpcId>vpc-0bb2a3fb2cd2c6f7f</vpcId>
        <description>
        </description>
        <ownerId>123456789012</ownerId>
        <status>in-use</status>
        <macAddress>02:c9:ff:00:00:05</macAddress>
        <privateIpAddress>10.0.0.4</privateIpAddress>
        <privateDnsName>ip-10-0-0-4.us-west-2.compute.internal</privateDnsName>
        <sourceDestCheck>true</sourceDestCheck>
        <interfaceType>interface</interfaceType>
        <groupSet>
        <item>
        <groupId>sg-0c6017c948e27697b</groupId>
        <groupName>default</groupName>
        </item>
        </groupSet>
        <privateIpAddressesSet>
        <item>
        <privateIpAddress>10.0.0.4</privateIpAddress>
        <privateDnsName>ip-10-0-0-4.us-west-2.compute.internal</privateDnsName>
        <primary>true</primary>
        </item>
        </privateIpAddressesSet>
        <ipv4PrefixSet>
        </ipv4PrefixSet>
        <ipv6AddressesSet>
        </ipv6AddressesSet>
        <ipv6PrefixSet>
        </ipv6PrefixSet>
        <attachment>
        <attachmentId>eni-attach-09e0d7faccb30ce1a</attachmentId>
        <deviceIndex>0</deviceIndex>
        <networkCardIndex>0</networkCardIndex>
        <status>attached</status>
        <attachTime>...</attachTime>
        <deleteOnTermination>true</deleteOnTermination>
        </attachment>
        </item>
        <item>
        <networkInterfaceId>eni-087b83854bfd4a4ae</networkInterfaceId>
        <subnetId>subnet-0958b761dabe5f6d0</subnetId>
        <vpcId>vpc-0bb2a3fb2cd2c6f7f</vpcId>
        <description>
        </description>
        <ownerId>123456789012</ownerId>
        <status>in-use</status>
        <macAddress>02:f8:0c:00:00:08</macAddress>
        <privateIpAddress>10.0.0.5</privateIpAddress>
        <privateDnsName>ip-10-0-0-5.us-west-2.compute.internal</privateDnsName>
        <sourceDestCheck>true</sourceDestCheck>
        <interfaceType>interface</interfaceType>
        <groupSet>
        <item>
        <groupId>sg-0c6017c948e27697b</groupId>
        <groupName>default</groupName>
        </item>
        </groupSet>
        <privateIpAddressesSet>
        <item>
        <privateIpAddress>10.0.0.5</privateIpAddress>
        <privateDnsName>ip-10-0-0-5.us-west-2.compute.internal</privateDnsName>
        <primary>true</primary>
        </item>
        </privateIpAddressesSet>
        <ipv4PrefixSet>
        </ipv4PrefixSet>
        <ipv6AddressesSet>
        </ipv6AddressesSet>
        <ipv6PrefixSet>
        </ipv6PrefixSet>
        <attachment>
        <attachmentId>eni-attach-0ff0ea77dd9987f7e</attachmentId>
        <deviceIndex>1</deviceIndex>
        <networkCardIndex>0</networkCardIndex>
        <status>attached</status>
        <attachTime>...</attachTime>
        <deleteOnTermination>false</deleteOnTermination>
        </attachment>
        </item>
        </networkInterfaceSet>
        </item>
        </instancesSet>
        </item>
        </reservationSet>
        </DescribeInstancesResponse>
    "#]]
    .assert_eq(&answer.pretty());
}

#[tokio::test]
async fn a_refusal_is_written_as_ec2_does() {
    let lab = Lab::start().await;
    let answer =
        lab.call(&[("Action", "DescribeNetworkInterfaces"), ("NetworkInterfaceId.1", "eni-0123456789abcdef0")]).await;
    assert_eq!(answer.status, 400);
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <Response>
        <Errors>
        <Error>
        <Code>InvalidNetworkInterfaceID.NotFound</Code>
        <Message>The networkInterface ID 'eni-0123456789abcdef0' does not exist</Message>
        </Error>
        </Errors>
        <RequestID>00000000-0000-4000-8000-000000000000</RequestID>
        </Response>
    "#]]
    .assert_eq(&answer.pretty());
}

#[tokio::test]
async fn an_assign_answers_with_the_new_addresses_only() {
    let lab = Lab::start().await;
    let eni = lab.create_eni().await;
    let call = [
        ("Action", "AssignPrivateIpAddresses"),
        ("NetworkInterfaceId", eni.as_str()),
        ("SecondaryPrivateIpAddressCount", "1"),
    ];
    lab.call(&call).await;
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <AssignPrivateIpAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>00000000-0000-4000-8000-000000000002</requestId>
        <return>true</return>
        <networkInterfaceId>eni-0431d9d54dee17b11</networkInterfaceId>
        <assignedPrivateIpAddressesSet>
        <item>
        <privateIpAddress>10.0.0.6</privateIpAddress>
        </item>
        </assignedPrivateIpAddressesSet>
        <assignedIpv4PrefixSet>
        </assignedIpv4PrefixSet>
        </AssignPrivateIpAddressesResponse>
    "#]]
    .assert_eq(&lab.call(&call).await.pretty());
}

#[tokio::test]
async fn an_unknown_action_is_invalid() {
    let lab = Lab::start().await;
    let answer = lab.call(&[("Action", "DescribeVolumes")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidAction"));
    let answer = lab.call(&[("Version", "2016-11-15")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "MissingParameter"));
}

#[tokio::test]
async fn what_the_model_does_not_have_is_refused_by_name_and_has_no_effect() {
    let lab = Lab::start().await;
    for (name, value) in [
        ("Ipv6AddressCount", "1"),
        ("Ipv6Addresses.1.Ipv6Address", "2001:db8::1"),
        ("Ipv6PrefixCount", "1"),
        ("NobodyKnowsThis", "1"),
    ] {
        let call = [("Action", "CreateNetworkInterface"), ("SubnetId", lab.subnet.as_str()), (name, value)];
        let answer = lab.call(&call).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "UnsupportedOperation"), "{name}");
        let parameter = name.split('.').next().expect("a name");
        assert!(answer.element("Message").contains(parameter), "{answer:?}");
    }
    assert_eq!(lab.world.vpc(sim::Vpc::enis), []);
}

#[tokio::test]
async fn asking_for_none_of_what_the_model_does_not_have_is_fine() {
    let lab = Lab::start().await;
    let call = [
        ("Action", "CreateNetworkInterface"),
        ("SubnetId", lab.subnet.as_str()),
        ("Ipv4PrefixCount", "0"),
        ("Ipv6AddressCount", "0"),
        ("InterfaceType", "interface"),
    ];
    assert_eq!(lab.call(&call).await.status, 200);
}

#[tokio::test]
async fn nonsense_is_refused_with_the_parameters_name() {
    let lab = Lab::start().await;
    let eni = lab.create_eni().await;
    for (name, value) in [
        ("SecondaryPrivateIpAddressCount", "-1"),
        ("SecondaryPrivateIpAddressCount", "99999999999"),
        ("SecondaryPrivateIpAddressCount", ""),
        ("PrivateIpAddress.1", "10.0.0"),
        ("Ipv4PrefixCount", "many"),
        ("Ipv4Prefix.1", "10.0.0.16/33"),
        ("Ipv4Prefix.1", "10.0.0.16"),
        ("AllowReassignment", "maybe"),
    ] {
        let call = [("Action", "AssignPrivateIpAddresses"), ("NetworkInterfaceId", eni.as_str()), (name, value)];
        let answer = lab.call(&call).await;
        assert_eq!(answer.code(), "InvalidParameterValue", "{name}={value}");
        let parameter = name.split('.').next().expect("a name");
        assert!(answer.element("Message").contains(parameter), "{answer:?}");
    }
}

#[tokio::test]
async fn a_get_is_as_good_as_a_post() {
    let lab = Lab::start().await;
    let path = format!("/?Action=DescribeSubnets&SubnetId.1={}", lab.subnet);
    let answer = lab.admin("GET", &path, "").await.expect("an answer");
    assert_eq!(answer.element("subnetId"), lab.subnet);
}

#[tokio::test]
async fn garbage_is_answered_and_the_next_call_is_fine() {
    let lab = Lab::start().await;
    for body in ["", "%%%=%zz&&&=", "Action", "Action=&Action=", "\u{0}\u{1}\u{2}", "{\"Action\": 1}"] {
        let answer = lab.admin("POST", "/", body).await.expect("an answer");
        assert_eq!(answer.status, 400, "{body:?}");
    }
    assert_eq!(lab.call(&[("Action", "DescribeVpcs")]).await.element("vpcId"), lab.vpc);
}

#[tokio::test]
async fn another_path_is_not_found() {
    let lab = Lab::start().await;
    let answer = lab.admin("GET", "/latest/meta-data/", "").await.expect("an answer");
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn two_servers_of_one_world_agree() {
    let lab = Lab::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let second = listener.local_addr().expect("it is bound");
    tokio::spawn(lab::ec2::serve(listener, lab.world.clone()));
    let eni = lab.create_eni().await;
    let form = format!("Action=DescribeNetworkInterfaces&NetworkInterfaceId.1={eni}");
    let answer = request(second, "POST", "/", &[], &form).await.expect("an answer");
    assert_eq!(answer.element("networkInterfaceId"), eni);
}
