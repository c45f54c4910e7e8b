//! ENIs on instances: attaching and detaching, which take time, and what the instance sees of it.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use rand::Rng;

use crate::{
    enis::{Eni, Mac},
    faults::Fault,
    requests::InterfaceType,
    responses::{AttachmentStatus, InstanceState},
    vpc::{Due, Vpc, new_id},
};

/// An ENI on an instance, as it really is: the truth for the fabric and for tests, whatever EC2's answers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The ENI.
    pub eni: String,
    /// Its MAC.
    pub mac: Mac,
    /// The device index on its card.
    pub device_index: u32,
    /// The network card. Card 0, index 0 is the primary ENI.
    pub card: u32,
    /// The VPC.
    pub vpc: String,
    /// The subnet.
    pub subnet: String,
    /// The subnet's block.
    pub subnet_cidr: Ipv4Net,
    /// The VPC's router in the subnet.
    pub gateway: Ipv4Addr,
    /// The addresses, the primary first; none on an EFA-only ENI.
    pub addresses: Vec<Ipv4Addr>,
    /// The /28 prefixes: packets for all their addresses come here.
    pub prefixes: Vec<Ipv4Net>,
    /// The link exists in the instance: [`crate::Times::device`] after the attach was accepted, until
    /// [`crate::Times::unplug`] after the detach was. An EFA-only ENI never has a link.
    pub device_visible: bool,
    /// Packets with foreign addresses are dropped.
    pub source_dest_check: bool,
}

/// Where an ENI sits.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) device_index: u32,
    pub(crate) card: u32,
    pub(crate) delete_on_termination: bool,
    pub(crate) status: AttachmentStatus,
    pub(crate) plugged: bool,
    pub(crate) since: Duration,
}

/// What time does to an attachment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttachmentChange {
    Attached,
    Plugged,
    Unplugged,
    Detached,
}

/// Where an ENI shall sit.
pub(crate) struct Place<'a> {
    pub(crate) instance: &'a str,
    pub(crate) device_index: u32,
    pub(crate) card: u32,
}

impl Vpc {
    /// The id of the attachment.
    pub(crate) fn attach(&mut self, rng: &mut dyn Rng, eni: &str, place: &Place<'_>) -> Result<String, Fault> {
        let id = self.put(rng, eni, place)?;
        let times = self.settings.times;
        self.schedule(
            times.attach,
            Due::Attachment { eni: eni.to_owned(), attachment: id.clone(), change: AttachmentChange::Attached },
        );
        self.schedule(
            times.device,
            Due::Attachment { eni: eni.to_owned(), attachment: id.clone(), change: AttachmentChange::Plugged },
        );
        Ok(id)
    }

    /// At launch: the device is there when the instance boots.
    pub(crate) fn attach_at_launch(
        &mut self,
        rng: &mut dyn Rng,
        eni: &str,
        place: &Place<'_>,
        delete_on_termination: bool,
    ) -> Result<(), Fault> {
        self.put(rng, eni, place)?;
        let attachment = self.eni_mut(eni).attachment.as_mut().expect("it was just attached");
        attachment.status = AttachmentStatus::Attached;
        attachment.plugged = true;
        attachment.delete_on_termination = delete_on_termination;
        Ok(())
    }

    pub(crate) fn detach(&mut self, attachment: &str, force: bool) -> Result<(), Fault> {
        let times = self.settings.times;
        let is_it = |eni: &Eni| eni.attachment.as_ref().is_some_and(|own| own.id == attachment);
        let found = self.enis.iter().find(|(_, eni)| is_it(eni)).map(|(id, _)| id.clone());
        let eni = found.ok_or_else(|| Fault::no_attachment(attachment))?;
        let own = self.eni_mut(&eni).attachment.as_mut().expect("it was found by its attachment");
        if own.device_index == 0 && own.card == 0 {
            return Err(Fault::primary_detach());
        }
        if own.status == AttachmentStatus::Detaching && !force {
            return Ok(());
        }
        own.status = AttachmentStatus::Detaching;
        let detach = if force { times.forced_detach } else { times.detach };
        let attachment = attachment.to_owned();
        self.schedule(
            times.unplug.min(detach),
            Due::Attachment { eni: eni.clone(), attachment: attachment.clone(), change: AttachmentChange::Unplugged },
        );
        self.schedule(detach, Due::Attachment { eni, attachment, change: AttachmentChange::Detached });
        Ok(())
    }

    /// Applies a transition of an attachment, unless that attachment is over.
    pub(crate) fn attachment_due(&mut self, eni_id: &str, attachment: &str, change: AttachmentChange) {
        let Some(eni) = self.enis.get_mut(eni_id) else { return };
        let Some(own) = eni.attachment.as_mut().filter(|own| own.id == attachment) else { return };
        let leaving = own.status == AttachmentStatus::Detaching;
        match change {
            AttachmentChange::Attached if !leaving => own.status = AttachmentStatus::Attached,
            AttachmentChange::Plugged if !leaving => own.plugged = true,
            AttachmentChange::Attached | AttachmentChange::Plugged => {}
            AttachmentChange::Unplugged => own.plugged = false,
            AttachmentChange::Detached => self.remove_attachment(eni_id),
        }
    }

    pub(crate) fn remove_attachment(&mut self, eni: &str) {
        let Some(own) = self.enis.get_mut(eni).and_then(|eni| eni.attachment.take()) else { return };
        if let Some(instance) = self.instances.get_mut(&own.instance) {
            instance.enis.retain(|other| other != eni);
        }
    }

    fn put(&mut self, rng: &mut dyn Rng, eni_id: &str, place: &Place<'_>) -> Result<String, Fault> {
        let eni = self.eni(eni_id)?;
        let instance = self.instance(place.instance)?;
        let limits = instance.limits;
        if eni.attachment.is_some() {
            return Err(Fault::eni_in_use(eni_id));
        }
        if instance.state >= InstanceState::ShuttingDown {
            return Err(Fault::instance_over(place.instance));
        }
        if eni.zone != instance.zone {
            return Err(Fault::other_zone());
        }
        if eni.interface_type == InterfaceType::EfaOnly && (place.card, place.device_index) == (0, 0) {
            return Err(Fault::efa_only_primary());
        }
        let card_limit = usize::try_from(place.card).ok().and_then(|card| limits.cards.get(card));
        let card_limit = *card_limit.ok_or_else(|| Fault::no_card(place.card, limits.name))?;
        let others: Vec<_> = instance.enis.iter().filter_map(|id| self.enis[id].attachment.as_ref()).collect();
        let on_card: Vec<_> = others.iter().filter(|other| other.card == place.card).collect();
        if on_card.iter().any(|other| other.device_index == place.device_index) {
            return Err(Fault::device_index_taken(place.instance, place.device_index));
        }
        let exceeds = |count: usize, limit: u32| count > usize::try_from(limit).expect("32 bits fit");
        if exceeds(others.len() + 1, limits.enis) || exceeds(on_card.len() + 1, card_limit) {
            return Err(Fault::attachment_limit(others.len() + 1, limits.name));
        }
        eni.holding.check(limits)?;

        let id = new_id(rng, "eni-attach");
        let since = self.now;
        self.eni_mut(eni_id).attachment = Some(Attachment {
            id: id.clone(),
            instance: place.instance.to_owned(),
            device_index: place.device_index,
            card: place.card,
            delete_on_termination: false,
            status: AttachmentStatus::Attaching,
            plugged: false,
            since,
        });
        self.instance_mut(place.instance).enis.push(eni_id.to_owned());
        Ok(id)
    }

    pub(crate) fn attached_now(&self, instance: &str) -> Vec<Attached> {
        let Some(instance) = self.instances.get(instance) else { return Vec::new() };
        let mut all: Vec<Attached> = instance
            .enis
            .iter()
            .filter_map(|id| {
                let eni = &self.enis[id];
                let own = eni.attachment.as_ref()?;
                let subnet = &self.subnets[&eni.subnet];
                Some(Attached {
                    eni: id.clone(),
                    mac: eni.mac,
                    device_index: own.device_index,
                    card: own.card,
                    vpc: eni.vpc.clone(),
                    subnet: eni.subnet.clone(),
                    subnet_cidr: subnet.cidr,
                    gateway: subnet.book.gateway(),
                    addresses: eni.holding.addresses.clone(),
                    prefixes: eni.holding.prefixes.clone(),
                    device_visible: own.plugged && eni.interface_type != InterfaceType::EfaOnly,
                    source_dest_check: eni.source_dest_check,
                })
            })
            .collect();
        all.sort_by_key(|one| (one.card, one.device_index));
        all
    }
}
