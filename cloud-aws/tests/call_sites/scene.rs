//! What each call site is tried on: a region with what the call needs, and how its effect is seen afterwards.
//!
//! Owns no fault. Sees effects through the SDK itself, never through the adapter.

use std::{collections::BTreeMap, time::Duration};

use aws_credential_types::Credentials;
use aws_sdk_ec2::types::{InstanceType, ResourceType};
use cloud::Call;
use cloud_aws::{Ec2, Settings};
use pool::{Ask, DeviceIndex};

use crate::{
    lab::{self, Lab},
    region::{self, Outcome, REGION, Region, named, secondaries, tagged, there, token},
    support::sites::{Errand, Site},
};

/// A page holds no fewer.
const PAGE: u16 = 5;
const PAGES_OF: usize = 7;
const TAG: &str = "node.k8s.amazonaws.com/instance_id";

/// A region of its own in front of which calls can be disturbed.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) region: Region,
}

/// What a call does to EC2.
#[derive(Debug)]
pub(crate) enum Effect {
    /// It reads.
    Nothing,
    /// The subnet has one ENI.
    Created { subnet: String },
    /// It is attached, once.
    Attached { eni: String },
    /// It goes with its instance.
    Protected { eni: String },
    /// It has this group and no other.
    Grouped { eni: String, group: String },
    /// It has so many secondary addresses.
    Assigned { eni: String, count: usize },
    /// It has this tag.
    Tagged { eni: String },
    /// It is on its way out.
    Detached { eni: String },
    /// It is not there.
    Deleted { eni: String },
}

/// An adapter whose calls take at most this long.
pub(crate) async fn adapter(lab: &Lab, call_timeout: Duration) -> Ec2 {
    let settings = Settings { endpoint: Some(lab.endpoint.clone()), call_timeout, page: PAGE, ..Settings::new(REGION) };
    Ec2::with_credentials(&settings, Credentials::new("test", "test", None, None, "test")).await
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let lab = lab::start().await.expect("the lab's EC2 starts");
        let region = Region::at(&lab.endpoint).await.unwrap_or_else(|why| panic!("{}", why.0));
        Self { lab, region }
    }

    /// Makes what the call needs; gives the call and its effect. All that is created is of subnets of its own.
    pub(crate) async fn set(&self, site: Site) -> Outcome<(Errand, Effect)> {
        let region = &self.region;
        let subnet = region.subnet().await?;
        let call = match site {
            Site::CreateEni => {
                let call = Call::CreateEni {
                    token: token().into(),
                    subnet: subnet.as_str().into(),
                    groups: vec![],
                    ask: Ask::Addresses(2),
                    description: "aws-K8S-i-1".to_owned(),
                    tags: BTreeMap::from([(TAG.to_owned(), "i-1".to_owned())]),
                };
                (call, Effect::Created { subnet })
            }
            Site::Attach => {
                let (eni, instance) = (region.available_in(&subnet).await?, region.running_in(&subnet).await?);
                let call = Call::Attach { eni: eni.as_str().into(), instance: instance.into(), device: DeviceIndex(1) };
                (call, Effect::Attached { eni })
            }
            Site::Protect => {
                let (eni, attachment) = self.attached(&subnet).await?;
                (Call::Protect { eni: eni.as_str().into(), attachment: attachment.into() }, Effect::Protected { eni })
            }
            Site::SetGroups => {
                let (eni, group) = (region.available_in(&subnet).await?, region.group(None).await?);
                let call = Call::SetGroups { eni: eni.as_str().into(), groups: vec![group.as_str().into()] };
                (call, Effect::Grouped { eni, group })
            }
            Site::Assign => {
                let eni = region.available_in(&subnet).await?;
                let call = Call::Assign { eni: eni.as_str().into(), ask: Ask::Addresses(3) };
                (call, Effect::Assigned { eni, count: 3 })
            }
            Site::Unassign => {
                let eni = region.available_in(&subnet).await?;
                let new = region.assigned(region.assign(&eni).secondary_private_ip_address_count(3)).await?;
                let addresses = new[..2].iter().map(|one| one.parse().expect("an address")).collect();
                let call = Call::Unassign { eni: eni.as_str().into(), addresses, prefixes: vec![] };
                (call, Effect::Assigned { eni, count: 1 })
            }
            Site::Tag => {
                let eni = region.available_in(&subnet).await?;
                let tags = BTreeMap::from([(TAG.to_owned(), "i-1".to_owned())]);
                (Call::Tag { eni: eni.as_str().into(), tags }, Effect::Tagged { eni })
            }
            Site::Detach => {
                let (eni, attachment) = self.attached(&subnet).await?;
                (Call::Detach { eni: eni.as_str().into(), attachment: attachment.into() }, Effect::Detached { eni })
            }
            Site::Delete => {
                let eni = region.available_in(&subnet).await?;
                (Call::Delete { eni: eni.as_str().into() }, Effect::Deleted { eni })
            }
            Site::Describe => {
                let eni = region.available_in(&subnet).await?;
                (Call::Describe { eni: eni.into() }, Effect::Nothing)
            }
            Site::Discover => {
                let large = region.launch().instance_type(InstanceType::from("m5.4xlarge")).subnet_id(&subnet);
                let instance = region.running(large).await?;
                for device in 1..PAGES_OF {
                    let eni = region.available_in(&subnet).await?;
                    let device = i32::try_from(device).expect("a few");
                    region.attach(&eni, &instance, device).send().await?;
                }
                (Call::Discover { instance: instance.into() }, Effect::Nothing)
            }
            Site::Subnets => {
                for _ in 1..PAGES_OF {
                    region.subnet().await?;
                }
                (Call::Subnets { vpc: region.vpc.as_str().into(), zone: format!("{REGION}a") }, Effect::Nothing)
            }
            Site::Leaked => {
                for _ in 0..PAGES_OF {
                    let tags = tagged(ResourceType::NetworkInterface, &[(TAG, "i-gone")]);
                    region.available(region.create(&subnet).tag_specifications(tags)).await?;
                }
                (Call::Leaked { vpc: region.vpc.as_str().into(), cluster: None }, Effect::Nothing)
            }
            Site::Instances => {
                let mut instances = Vec::new();
                for _ in 0..PAGES_OF {
                    let made = region.launched(region.launch().subnet_id(&subnet)).await?;
                    instances.push(there("instanceId", made.instance_id())?.into());
                }
                (Call::Instances { instances }, Effect::Nothing)
            }
            Site::Limits => return Ok((Errand::Limits("m5.large"), Effect::Nothing)),
        };
        Ok((Errand::Call(call.0), call.1))
    }

    async fn attached(&self, subnet: &str) -> Outcome<(String, String)> {
        let (eni, instance) = (self.region.available_in(subnet).await?, self.region.running_in(subnet).await?);
        let attachment = self.region.attached(&eni, &instance, 1).await?;
        Ok((eni, attachment))
    }

    /// Is it there? More than what one call does is not.
    pub(crate) async fn shows(&self, effect: &Effect) -> Outcome<bool> {
        let region = &self.region;
        Ok(match effect {
            Effect::Nothing => true,
            Effect::Created { subnet } => {
                let found = region.describe().filters(named("subnet-id", &[subnet])).send().await?;
                let made: Vec<_> = found.network_interfaces().iter().map(|eni| secondaries(eni).len()).collect();
                made == [2]
            }
            Effect::Attached { eni } => {
                let found = region.eni(eni).await?;
                found.attachment().is_some_and(|attachment| attachment.device_index() == Some(1))
            }
            Effect::Protected { eni } => {
                let found = region.eni(eni).await?;
                found.attachment().and_then(|attachment| attachment.delete_on_termination()) == Some(true)
            }
            Effect::Grouped { eni, group } => {
                let found = region.eni(eni).await?;
                let groups: Vec<_> = found.groups().iter().filter_map(|one| one.group_id()).collect();
                groups == [group.as_str()]
            }
            Effect::Assigned { eni, count } => secondaries(&region.eni(eni).await?).len() == *count,
            Effect::Tagged { eni } => {
                let found = region.eni(eni).await?;
                found.tag_set().iter().any(|tag| tag.key() == Some(TAG) && tag.value() == Some("i-1"))
            }
            Effect::Detached { eni } => {
                ["detaching", ""].contains(&region::attachment_status(&region.eni(eni).await?).as_str())
            }
            Effect::Deleted { eni } => region.ids(region.describe()).await?.iter().all(|one| one != eni),
        })
    }
}
