//! What the admin listener of LocalStack's extension tells, in the types that the rest of the lab knows. The form is the one in
//! `localstack/README.md`; what is not understood is an error, once, here.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use serde::{Deserialize, Deserializer, de::Error as _};
use sim::{
    Mac,
    requests::{InterfaceType, Tags},
    responses::{Attachment, AttachmentStatus, EniStatus, Instance, InstanceState, NetworkInterface},
};

use crate::client::IMAGE;

/// LocalStack's account (documentation: the default one).
const ACCOUNT: &str = "000000000000";

/// Everything, as it was told.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    revision: u64,
    at_ms: u64,
    vpcs: Vec<Vpc>,
    subnets: Vec<Subnet>,
    instances: Vec<Launched>,
    enis: Vec<Eni>,
}

#[derive(Debug, Deserialize)]
struct Vpc {
    id: String,
    cidrs: Vec<Ipv4Net>,
}

#[derive(Debug, Deserialize)]
struct Subnet {
    id: String,
    vpc: String,
    cidr: Ipv4Net,
}

#[derive(Debug, Deserialize)]
struct Launched {
    id: String,
    #[serde(rename = "type")]
    instance_type: String,
    #[serde(deserialize_with = "instance_state")]
    state: InstanceState,
    vpc: Option<String>,
    subnet: Option<String>,
    zone: String,
    #[serde(rename = "launched_ms")]
    since_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Eni {
    id: String,
    #[serde(deserialize_with = "mac")]
    mac: Mac,
    vpc: String,
    subnet: String,
    zone: String,
    primary: Option<Ipv4Addr>,
    secondary: Vec<Ipv4Addr>,
    prefixes: Vec<Ipv4Net>,
    groups: Vec<String>,
    description: String,
    tags: Tags,
    #[serde(deserialize_with = "interface_type")]
    interface_type: InterfaceType,
    #[serde(deserialize_with = "eni_status")]
    status: EniStatus,
    attachment: Option<Place>,
}

#[derive(Debug, Deserialize)]
struct Place {
    id: String,
    instance: String,
    device: u32,
    card: u32,
    #[serde(deserialize_with = "attachment_status")]
    status: AttachmentStatus,
    delete_on_termination: bool,
}

/// One VPC at one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: u64,
    /// Since the extension began.
    pub(super) at: Duration,
    pub(super) cidrs: Vec<Ipv4Net>,
    pub(super) subnets: BTreeMap<String, Ipv4Net>,
    pub(super) instances: BTreeMap<String, Instance>,
    pub(super) enis: Vec<NetworkInterface>,
}

impl Told {
    /// What there is in this VPC.
    pub(super) fn of_vpc(self, vpc: &str) -> State {
        let enis: Vec<NetworkInterface> =
            self.enis.into_iter().filter(|eni| eni.vpc == vpc).map(NetworkInterface::from).collect();
        let here = self.instances.into_iter().filter(|launched| launched.vpc.as_deref() == Some(vpc));
        let instances = here.map(|launched| (launched.id.clone(), launched.with(&enis))).collect();
        State {
            revision: self.revision,
            at: Duration::from_millis(self.at_ms),
            cidrs: self.vpcs.into_iter().find(|one| one.id == vpc).map(|one| one.cidrs).unwrap_or_default(),
            subnets: self
                .subnets
                .into_iter()
                .filter(|subnet| subnet.vpc == vpc)
                .map(|subnet| (subnet.id, subnet.cidr))
                .collect(),
            instances,
            enis,
        }
    }
}

impl Launched {
    fn with(self, enis: &[NetworkInterface]) -> Instance {
        let place = |eni: &NetworkInterface| eni.attachment.as_ref().map(|own| (own.card, own.device_index));
        let own = |eni: &&NetworkInterface| eni.attachment.as_ref().is_some_and(|own| own.instance == self.id);
        let mut interfaces: Vec<NetworkInterface> = enis.iter().filter(own).cloned().collect();
        interfaces.sort_by_key(place);
        Instance {
            instance_type: self.instance_type,
            image: IMAGE.to_owned(),
            state: self.state,
            launched: Duration::from_millis(self.since_ms),
            zone: self.zone,
            vpc: self.vpc.unwrap_or_default(),
            subnet: self.subnet.unwrap_or_default(),
            profile: None,
            tags: Tags::new(),
            interfaces,
            id: self.id,
        }
    }
}

impl From<Eni> for NetworkInterface {
    fn from(eni: Eni) -> Self {
        let attachment = eni.attachment.map(|place| Attachment {
            id: place.id,
            instance: place.instance,
            owner: ACCOUNT.to_owned(),
            device_index: place.device,
            card: place.card,
            status: place.status,
            since: Duration::ZERO,
            delete_on_termination: place.delete_on_termination,
        });
        Self {
            id: eni.id,
            interface_type: eni.interface_type,
            status: eni.status,
            subnet: eni.subnet,
            vpc: eni.vpc,
            zone: eni.zone,
            owner: ACCOUNT.to_owned(),
            description: eni.description,
            mac: eni.mac,
            addresses: eni.primary.into_iter().chain(eni.secondary).collect(),
            prefixes: eni.prefixes,
            // Their names are not told.
            groups: eni.groups.into_iter().map(|id| (id.clone(), id)).collect(),
            source_dest_check: true,
            attachment,
            tags: eni.tags,
        }
    }
}

fn mac<'de, D: Deserializer<'de>>(from: D) -> Result<Mac, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no MAC")))
}

fn instance_state<'de, D: Deserializer<'de>>(from: D) -> Result<InstanceState, D::Error> {
    let known = [
        ("pending", InstanceState::Pending),
        ("running", InstanceState::Running),
        ("shutting-down", InstanceState::ShuttingDown),
        ("terminated", InstanceState::Terminated),
    ];
    one_of(from, &known)
}

fn eni_status<'de, D: Deserializer<'de>>(from: D) -> Result<EniStatus, D::Error> {
    let known = [("pending", EniStatus::Pending), ("available", EniStatus::Available), ("in-use", EniStatus::InUse)];
    one_of(from, &known)
}

fn attachment_status<'de, D: Deserializer<'de>>(from: D) -> Result<AttachmentStatus, D::Error> {
    let known = [
        ("attaching", AttachmentStatus::Attaching),
        ("attached", AttachmentStatus::Attached),
        ("detaching", AttachmentStatus::Detaching),
    ];
    one_of(from, &known)
}

fn interface_type<'de, D: Deserializer<'de>>(from: D) -> Result<InterfaceType, D::Error> {
    let known = [
        ("interface", InterfaceType::Interface),
        ("efa", InterfaceType::Efa),
        ("efa-only", InterfaceType::EfaOnly),
        ("trunk", InterfaceType::Trunk),
    ];
    one_of(from, &known)
}

fn one_of<'de, D: Deserializer<'de>, T: Copy>(from: D, known: &[(&str, T)]) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| D::Error::custom(format!("{text:?} is none of EC2's words for it")))
}
