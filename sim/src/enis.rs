//! ENIs: made, changed, deleted. What an ENI holds is in `assignments`, where it sits in `attachments`, how EC2 describes it in
//! `eni_records`.

use std::{fmt, str::FromStr, time::Duration};

use rand::Rng;

use crate::{
    assignments::Holding,
    attachments::Attachment,
    faults::Fault,
    requests::{CreateNetworkInterface, EniAttribute, InterfaceType, NewEni, Tags},
    responses::NetworkInterface,
    tags,
    vpc::{Due, Vpc, new_id},
};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// An ENI.
#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub(crate) serial: u64,
    pub(crate) interface_type: InterfaceType,
    pub(crate) subnet: String,
    pub(crate) vpc: String,
    pub(crate) zone: String,
    pub(crate) description: String,
    pub(crate) mac: Mac,
    /// The same is in the subnet's book.
    pub(crate) holding: Holding,
    pub(crate) groups: Vec<String>,
    pub(crate) source_dest_check: bool,
    /// No longer `pending`.
    pub(crate) created: bool,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) tags: Tags,
}

impl Vpc {
    /// All or nothing: a create that is refused has taken no address (field: nothing is left behind on real EC2 either).
    pub(crate) fn create_eni(
        &mut self,
        rng: &mut dyn Rng,
        wanted: &CreateNetworkInterface,
    ) -> Result<NetworkInterface, Fault> {
        let id = self.make_eni(rng, &wanted.eni, &wanted.tags)?;
        self.network_interface(&id)
    }

    /// The id of the new ENI.
    pub(crate) fn make_eni(&mut self, rng: &mut dyn Rng, wanted: &NewEni, tags: &Tags) -> Result<String, Fault> {
        tags::check(tags)?;
        let subnet = self.subnets.get(&wanted.subnet).ok_or_else(|| Fault::no_subnet(&wanted.subnet))?;
        let (vpc, zone) = (subnet.vpc.clone(), subnet.zone.clone());
        let groups = self.groups_or_default(&vpc, &wanted.groups)?;
        if self.settings.eni_quota.is_some_and(|quota| self.enis.len() >= quota) {
            return Err(Fault::eni_quota());
        }

        let holding = Holding::of_new(wanted, &subnet.book, &self.settings)?;
        let (id, serial) = (new_id(rng, "eni"), self.serial());
        self.hold(&wanted.subnet, &id, &holding);
        let eni = Eni {
            serial,
            interface_type: wanted.interface_type,
            subnet: wanted.subnet.clone(),
            vpc,
            zone,
            description: wanted.description.clone(),
            mac: Mac::unique(rng, serial),
            holding,
            groups,
            source_dest_check: true,
            created: false,
            attachment: None,
            tags: tags.clone(),
        };
        self.enis.insert(id.clone(), eni);
        self.schedule(self.settings.times.create, Due::EniCreated { eni: id.clone() });
        Ok(id)
    }

    pub(crate) fn delete_eni(&mut self, id: &str) -> Result<(), Fault> {
        if self.eni(id)?.attachment.is_some() {
            return Err(Fault::eni_attached(id));
        }
        self.drop_eni(id);
        Ok(())
    }

    /// Takes the ENI out of the world, with its addresses.
    pub(crate) fn drop_eni(&mut self, id: &str) {
        if let Some(eni) = self.enis.remove(id) {
            self.release(&eni.subnet, &eni.holding);
        }
    }

    pub(crate) fn modify_eni(&mut self, id: &str, attribute: &EniAttribute) -> Result<(), Fault> {
        let vpc = self.eni(id)?.vpc.clone();
        match attribute {
            EniAttribute::Groups(groups) => {
                let groups = self.groups_or_default(&vpc, groups)?;
                self.eni_mut(id).groups = groups;
            }
            EniAttribute::SourceDestCheck(check) => self.eni_mut(id).source_dest_check = *check,
            EniAttribute::Description(text) => self.eni_mut(id).description.clone_from(text),
            EniAttribute::DeleteOnTermination { attachment, delete } => {
                let own = self.eni_mut(id).attachment.as_mut().filter(|own| own.id == *attachment);
                own.ok_or_else(|| Fault::no_attachment(attachment))?.delete_on_termination = *delete;
            }
        }
        Ok(())
    }

    pub(crate) fn eni(&self, id: &str) -> Result<&Eni, Fault> {
        self.eni_was(id, self.now)
    }

    /// The ENI as it was at `then`.
    pub(crate) fn eni_was(&self, id: &str, then: Duration) -> Result<&Eni, Fault> {
        if !id.starts_with("eni-") {
            return Err(Fault::malformed_eni(id));
        }
        self.enis.was(id, then).ok_or_else(|| Fault::no_eni(id))
    }

    /// An ENI that was just looked up.
    pub(crate) fn eni_mut(&mut self, id: &str) -> &mut Eni {
        self.enis.get_mut(id).expect("an ENI that was looked up in this call is there")
    }

    fn groups_or_default(&self, vpc: &str, wanted: &[String]) -> Result<Vec<String>, Fault> {
        if wanted.is_empty() {
            return Ok(vec![self.networks[vpc].default_group.clone()]);
        }
        // A group of another VPC is as good as none (field).
        let foreign = wanted.iter().find(|id| self.groups.get(*id).is_none_or(|group| group.vpc != vpc));
        foreign.map_or_else(|| Ok(wanted.to_vec()), |id| Err(Fault::no_group(id)))
    }
}

impl Mac {
    /// Locally administered; no two ENIs of a world share one.
    fn unique(rng: &mut dyn Rng, serial: u64) -> Self {
        let mut octets = [0x02; 6];
        octets[1..3].copy_from_slice(&rng.next_u32().to_be_bytes()[..2]);
        octets[3..].copy_from_slice(&serial.to_be_bytes()[5..]);
        Self(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = self.0.map(|octet| format!("{octet:02x}"));
        f.write_str(&octets.join(":"))
    }
}

/// Not six hexadecimal octets with colons between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAMac(pub String);

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an Ethernet address: {:?}", self.0)
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|octet| if octet.len() == 2 { u8::from_str_radix(octet, 16).ok() } else { None })
            .collect();
        octets.and_then(|octets| octets.try_into().ok()).map(Self).ok_or_else(|| NotAMac(text.to_owned()))
    }
}
