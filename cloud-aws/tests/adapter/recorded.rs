//! An answer of EC2 for each call site, in full, as EC2 writes them.
//!
//! Owns the recordings only.

use crate::{
    calls::ENI,
    support::{document, sites::Site},
};

const SUBNET: &str =
    "<item><subnetId>subnet-1</subnetId><subnetArn>arn:aws:ec2:eu-central-1:111122223333:subnet/subnet-1</subnetArn>
    <state>available</state><ownerId>111122223333</ownerId><vpcId>vpc-1</vpcId><cidrBlock>10.0.0.0/24</cidrBlock>
    <availableIpAddressCount>251</availableIpAddressCount><availabilityZone>eu-central-1a</availabilityZone>
    <tagSet><item><key>kubernetes.io/role/cni</key><value>1</value></item></tagSet></item>";

const INSTANCE: &str = "<item><reservationId>r-1</reservationId><ownerId>111122223333</ownerId><groupSet/><instancesSet><item>
    <instanceId>i-2</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState>
    <instanceType>m5.large</instanceType></item></instancesSet></item>";

const TYPE: &str = "<item><instanceType>m5.large</instanceType><hypervisor>nitro</hypervisor><networkInfo>
    <maximumNetworkInterfaces>3</maximumNetworkInterfaces><maximumNetworkCards>1</maximumNetworkCards>
    <networkCards><item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>3</maximumNetworkInterfaces></item></networkCards>
    <ipv4AddressesPerInterface>10</ipv4AddressesPerInterface></networkInfo></item>";

/// What is in the answer's root element.
pub(crate) fn fields(site: Site) -> String {
    match site {
        Site::CreateEni => format!("<networkInterface>{ENI}</networkInterface><clientToken>t-1</clientToken>"),
        Site::Attach => "<attachmentId>eni-attach-7</attachmentId><networkCardIndex>0</networkCardIndex>".to_owned(),
        Site::Assign => "<networkInterfaceId>eni-0a</networkInterfaceId><assignedPrivateIpAddressesSet>
            <item><privateIpAddress>10.0.0.20</privateIpAddress></item><item><privateIpAddress>10.0.0.21</privateIpAddress></item>
            </assignedPrivateIpAddressesSet><return>true</return>"
            .to_owned(),
        Site::Protect | Site::SetGroups | Site::Unassign | Site::Tag | Site::Detach | Site::Delete => {
            "<return>true</return>".to_owned()
        }
        Site::Describe | Site::Discover | Site::Leaked => {
            format!("<networkInterfaceSet><item>{ENI}</item></networkInterfaceSet>")
        }
        Site::Subnets => format!("<subnetSet>{SUBNET}</subnetSet>"),
        Site::Instances => format!("<reservationSet>{INSTANCE}</reservationSet>"),
        Site::Limits => format!("<instanceTypeSet>{TYPE}</instanceTypeSet>"),
    }
}

/// The whole answer.
pub(crate) fn answer(site: Site) -> String {
    document(site.sample().action().name(), &fields(site))
}
