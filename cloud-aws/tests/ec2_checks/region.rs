//! What the checks are written with: a region to try things in, and how to say what is expected of it.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region as Name, retry::RetryConfig};
use aws_credential_types::Credentials;
use aws_sdk_ec2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        assign_private_ip_addresses::builders::AssignPrivateIpAddressesFluentBuilder,
        attach_network_interface::builders::AttachNetworkInterfaceFluentBuilder,
        create_network_interface::builders::CreateNetworkInterfaceFluentBuilder,
        describe_network_interfaces::builders::DescribeNetworkInterfacesFluentBuilder,
        run_instances::builders::RunInstancesFluentBuilder,
    },
    types::{Filter, Instance, InstanceType, NetworkInterface, ResourceType, Tag, TagSpecification},
};
use ipnet::Ipv4Net;

/// Where everything is.
pub const REGION: &str = "us-west-2";
/// The end of an id that nothing has.
pub const NOBODY: &str = "0123456789abcdef0";
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Something is not as EC2 has it.
#[derive(Debug)]
pub struct Mismatch(pub String);

/// What a check comes to.
pub type Outcome<T = ()> = Result<T, Mismatch>;

impl<E: ProvideErrorMetadata + Debug> From<SdkError<E>> for Mismatch {
    fn from(error: SdkError<E>) -> Self {
        Self(match (error.code(), error.message()) {
            (Some(code), message) => format!("{code}: {}", message.unwrap_or_default()),
            (None, _) => format!("{error:?}"),
        })
    }
}

/// `got` is `want`.
pub fn expect<T: PartialEq<W> + Debug, W: Debug>(what: &str, got: T, want: W) -> Outcome {
    if got == want { Ok(()) } else { Err(Mismatch(format!("{what}: expected {want:?}, got {got:?}"))) }
}

/// `holds`, of what was got.
pub fn expect_that(what: &str, got: impl Debug, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(Mismatch(format!("expected {what}, got {got:?}"))) }
}

/// The call was refused with one of the codes; gives EC2's words.
pub fn refused<T, E: ProvideErrorMetadata + Debug>(outcome: Result<T, SdkError<E>>, codes: &[&str]) -> Outcome<String> {
    let Err(error) = outcome else {
        return Err(Mismatch(format!("expected {codes:?}, but the call was accepted")));
    };
    match error.code() {
        Some(code) if codes.contains(&code) => Ok(error.message().unwrap_or_default().to_owned()),
        _ => Err(Mismatch(format!("expected {codes:?}, got {}", Mismatch::from(error).0))),
    }
}

/// Waits for what EC2 takes some time to make true.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> Outcome<bool>) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while !holds().await? {
        if Instant::now() > end {
            return Err(Mismatch(format!("not within {PATIENCE:?}: {what}")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The field, or what is wrong.
pub fn there<T>(field: &str, value: Option<T>) -> Outcome<T> {
    value.ok_or_else(|| Mismatch(format!("the answer has no {field}")))
}

/// A new word.
pub fn token() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// All addresses of an ENI.
pub fn addresses(eni: &NetworkInterface) -> Vec<String> {
    eni.private_ip_addresses().iter().filter_map(|one| one.private_ip_address().map(str::to_owned)).collect()
}

/// All but the primary one.
pub fn secondaries(eni: &NetworkInterface) -> Vec<String> {
    let secondary = eni.private_ip_addresses().iter().filter(|one| one.primary() != Some(true));
    secondary.filter_map(|one| one.private_ip_address().map(str::to_owned)).collect()
}

/// For comparing what comes in any order.
pub fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}

/// The subnet's address of that number; negative ones count from the end.
pub fn nth(block: Ipv4Net, number: i32) -> String {
    let base = if number < 0 { u32::from(block.broadcast()).wrapping_add(1) } else { u32::from(block.network()) };
    std::net::Ipv4Addr::from(base.wrapping_add_signed(number)).to_string()
}

/// Looks like a hardware address.
pub fn is_mac(text: &str) -> bool {
    text.parse::<pool::Mac>().is_ok()
}

/// A filter.
pub fn named(name: &str, values: &[&str]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.iter().map(|value| (*value).to_owned()).collect())).build()
}

/// Tags for what the call makes.
pub fn tagged(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

/// A tag.
pub fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// One VPC to work in, and the SDK with its retries off. Every check takes subnets of its own.
#[derive(Debug, Clone)]
pub struct Region {
    /// The client.
    pub ec2: Client,
    /// Where it answers.
    pub endpoint: String,
    /// The VPC, 10.0.0.0/16.
    pub vpc: String,
    blocks: Arc<AtomicU32>,
}

impl Region {
    /// At this URL.
    pub async fn at(endpoint: &str) -> Outcome<Self> {
        // The connector is not part of the adapter's surface; any that speaks plain HTTP will do.
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Name::new(REGION))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(http)
            .load()
            .await;
        let ec2 = Client::new(&config);
        let made = ec2.create_vpc().cidr_block("10.0.0.0/16").send().await?;
        let vpc = there("vpcId", made.vpc().and_then(|vpc| vpc.vpc_id()))?.to_owned();
        Ok(Self { ec2, endpoint: endpoint.to_owned(), vpc, blocks: Arc::default() })
    }

    /// The next free block of that size.
    pub fn block(&self, prefix: u8) -> Ipv4Net {
        let third = u8::try_from(self.blocks.fetch_add(1, Ordering::Relaxed)).expect("at most 256 subnets");
        Ipv4Net::new([10, 0, third, 0].into(), prefix).expect("a prefix")
    }

    /// A /24 in zone a.
    pub async fn subnet(&self) -> Outcome<String> {
        Ok(self.subnet_and_block(24).await?.0)
    }

    /// A subnet in zone a, and its addresses.
    pub async fn subnet_and_block(&self, prefix: u8) -> Outcome<(String, Ipv4Net)> {
        self.subnet_with(prefix, "a", None).await
    }

    /// A subnet with everything said.
    pub async fn subnet_with(
        &self,
        prefix: u8,
        zone: &str,
        tags: Option<TagSpecification>,
    ) -> Outcome<(String, Ipv4Net)> {
        let block = self.block(prefix);
        let call = self.ec2.create_subnet().vpc_id(&self.vpc).cidr_block(block.to_string());
        let call =
            call.availability_zone(format!("{REGION}{zone}")).set_tag_specifications(tags.map(|tags| vec![tags]));
        let made = call.send().await?;
        Ok((there("subnetId", made.subnet().and_then(|subnet| subnet.subnet_id()))?.to_owned(), block))
    }

    /// A security group.
    pub async fn group(&self, tags: Option<TagSpecification>) -> Outcome<String> {
        let call = self.ec2.create_security_group().group_name(token()).description("For a check").vpc_id(&self.vpc);
        let made = call.set_tag_specifications(tags.map(|tags| vec![tags])).send().await?;
        Ok(there("groupId", made.group_id())?.to_owned())
    }

    /// Addresses that a subnet has left.
    pub async fn free(&self, subnet: &str) -> Outcome<i32> {
        let found = self.ec2.describe_subnets().subnet_ids(subnet).send().await?;
        there("availableIpAddressCount", found.subnets().first().and_then(|subnet| subnet.available_ip_address_count()))
    }

    /// RunInstances of one m5.large.
    pub fn launch(&self) -> RunInstancesFluentBuilder {
        let call = self.ec2.run_instances().image_id("ami-0123456789abcdef0").min_count(1).max_count(1);
        call.instance_type(InstanceType::M5Large)
    }

    /// What was launched.
    pub async fn launched(&self, call: RunInstancesFluentBuilder) -> Outcome<Instance> {
        there("instance", call.send().await?.instances().first().cloned())
    }

    /// Launched, and running.
    pub async fn running(&self, call: RunInstancesFluentBuilder) -> Outcome<String> {
        let id = there("instanceId", self.launched(call).await?.instance_id().map(str::to_owned))?;
        eventually("the instance runs", async || Ok(self.state(&id).await? == "running")).await?;
        Ok(id)
    }

    /// A running m5.large in the subnet.
    pub async fn running_in(&self, subnet: &str) -> Outcome<String> {
        self.running(self.launch().subnet_id(subnet)).await
    }

    /// An instance as described.
    pub async fn instance(&self, id: &str) -> Outcome<Instance> {
        let found = self.ec2.describe_instances().instance_ids(id).send().await?;
        there("instance", found.reservations().first().and_then(|one| one.instances().first()).cloned())
    }

    /// Its state.
    pub async fn state(&self, instance: &str) -> Outcome<String> {
        let instance = self.instance(instance).await?;
        let name = instance.state().and_then(|state| state.name()).map(|name| name.as_str().to_owned());
        there("instanceState.name", name)
    }

    /// CreateNetworkInterface.
    pub fn create(&self, subnet: &str) -> CreateNetworkInterfaceFluentBuilder {
        self.ec2.create_network_interface().subnet_id(subnet)
    }

    /// What was created.
    pub async fn made(&self, call: CreateNetworkInterfaceFluentBuilder) -> Outcome<NetworkInterface> {
        there("networkInterface", call.send().await?.network_interface().cloned())
    }

    /// Created, and available.
    pub async fn available(&self, call: CreateNetworkInterfaceFluentBuilder) -> Outcome<String> {
        let id = id(&self.made(call).await?)?;
        eventually("the ENI is available", async || Ok(status(&self.eni(&id).await?) == "available")).await?;
        Ok(id)
    }

    /// An available ENI with one address.
    pub async fn available_in(&self, subnet: &str) -> Outcome<String> {
        self.available(self.create(subnet)).await
    }

    /// DescribeNetworkInterfaces.
    pub fn describe(&self) -> DescribeNetworkInterfacesFluentBuilder {
        self.ec2.describe_network_interfaces()
    }

    /// An ENI as described.
    pub async fn eni(&self, id: &str) -> Outcome<NetworkInterface> {
        there("ENI", self.describe().network_interface_ids(id).send().await?.network_interfaces().first().cloned())
    }

    /// The ENIs that were found.
    pub async fn ids(&self, call: DescribeNetworkInterfacesFluentBuilder) -> Outcome<Vec<String>> {
        call.send().await?.network_interfaces().iter().map(id).collect()
    }

    /// AttachNetworkInterface.
    pub fn attach(&self, eni: &str, instance: &str, index: i32) -> AttachNetworkInterfaceFluentBuilder {
        self.ec2.attach_network_interface().network_interface_id(eni).instance_id(instance).device_index(index)
    }

    /// Attached, all the way; gives the attachment's id.
    pub async fn attached(&self, eni: &str, instance: &str, index: i32) -> Outcome<String> {
        let made = self.attach(eni, instance, index).send().await?;
        let attachment = there("attachmentId", made.attachment_id())?.to_owned();
        eventually("the ENI is attached", async || Ok(attachment_status(&self.eni(eni).await?) == "attached")).await?;
        Ok(attachment)
    }

    /// AssignPrivateIpAddresses.
    pub fn assign(&self, eni: &str) -> AssignPrivateIpAddressesFluentBuilder {
        self.ec2.assign_private_ip_addresses().network_interface_id(eni)
    }

    /// What was assigned.
    pub async fn assigned(&self, call: AssignPrivateIpAddressesFluentBuilder) -> Outcome<Vec<String>> {
        let made = call.send().await?;
        let addresses = made.assigned_private_ip_addresses().iter();
        addresses.map(|one| there("privateIpAddress", one.private_ip_address().map(str::to_owned))).collect()
    }
}

/// An ENI's id.
pub fn id(eni: &NetworkInterface) -> Outcome<String> {
    there("networkInterfaceId", eni.network_interface_id().map(str::to_owned))
}

/// An ENI's status.
pub fn status(eni: &NetworkInterface) -> String {
    eni.status().map(|status| status.as_str().to_owned()).unwrap_or_default()
}

/// The status of an ENI's attachment.
pub fn attachment_status(eni: &NetworkInterface) -> String {
    let status = eni.attachment().and_then(|attachment| attachment.status());
    status.map(|status| status.as_str().to_owned()).unwrap_or_default()
}
