//! Prefixes and reservations on the wire: the shapes of answers, and requests that ask twice. What they mean is `sim`'s.

use expect_test::expect;

use crate::client::Lab;

#[tokio::test]
async fn prefixes_are_answered_and_described_as_ec2_does() {
    let lab = Lab::start().await;
    let eni = lab.create_eni().await;
    let call = [("Action", "AssignPrivateIpAddresses"), ("NetworkInterfaceId", eni.as_str()), ("Ipv4PrefixCount", "2")];
    let answer = lab.call(&call).await;
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <AssignPrivateIpAddressesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>00000000-0000-4000-8000-000000000001</requestId>
        <return>true</return>
        <networkInterfaceId>eni-0431d9d54dee17b11</networkInterfaceId>
        <assignedPrivateIpAddressesSet>
        </assignedPrivateIpAddressesSet>
        <assignedIpv4PrefixSet>
        <item>
        <ipv4Prefix>10.0.0.16/28</ipv4Prefix>
        </item>
        <item>
        <ipv4Prefix>10.0.0.32/28</ipv4Prefix>
        </item>
        </assignedIpv4PrefixSet>
        </AssignPrivateIpAddressesResponse>
    "#]]
    .assert_eq(&answer.pretty());
    let answer = lab.call(&[("Action", "DescribeNetworkInterfaces"), ("NetworkInterfaceId.1", &eni)]).await;
    let set =
        "<ipv4PrefixSet>\n<item>\n<ipv4Prefix>10.0.0.16/28</ipv4Prefix>\n</item>\n<item>\n<ipv4Prefix>10.0.0.32/28<";
    assert!(answer.pretty().contains(set), "{answer:?}");
}

#[tokio::test]
async fn a_reservation_is_answered_as_ec2_does() {
    let lab = Lab::start().await;
    let made = lab
        .call(&[
            ("Action", "CreateSubnetCidrReservation"),
            ("SubnetId", &lab.subnet),
            ("Cidr", "10.0.0.64/26"),
            ("ReservationType", "prefix"),
        ])
        .await;
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <CreateSubnetCidrReservationResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>00000000-0000-4000-8000-000000000000</requestId>
        <subnetCidrReservation>
        <subnetCidrReservationId>scr-0431d9d54dee17b11</subnetCidrReservationId>
        <subnetId>subnet-0958b761dabe5f6d0</subnetId>
        <cidr>10.0.0.64/26</cidr>
        <reservationType>prefix</reservationType>
        <ownerId>123456789012</ownerId>
        <description>
        </description>
        <tagSet>
        </tagSet>
        </subnetCidrReservation>
        </CreateSubnetCidrReservationResponse>
    "#]]
    .assert_eq(&made.pretty());
    let id = made.element("subnetCidrReservationId");
    let gone = lab.call(&[("Action", "DeleteSubnetCidrReservation"), ("SubnetCidrReservationId", &id)]).await;
    assert_eq!(gone.element("subnetCidrReservationId"), id);
}

#[tokio::test]
async fn what_is_asked_for_twice_over_is_refused() {
    let lab = Lab::start().await;
    let pairs = [
        [("Ipv4PrefixCount", "1"), ("Ipv4Prefix.1", "10.0.0.16/28")],
        [("Ipv4PrefixCount", "1"), ("SecondaryPrivateIpAddressCount", "1")],
        [("Ipv4Prefix.1", "10.0.0.16/28"), ("PrivateIpAddress.1", "10.0.0.50")],
        [("SecondaryPrivateIpAddressCount", "1"), ("PrivateIpAddress.1", "10.0.0.50")],
    ];
    for pair in pairs {
        let eni = lab.create_eni().await;
        let mut call = vec![("Action", "AssignPrivateIpAddresses"), ("NetworkInterfaceId", eni.as_str())];
        call.extend(pair);
        assert_eq!(lab.call(&call).await.code(), "InvalidParameterCombination", "{pair:?}");
    }
}
