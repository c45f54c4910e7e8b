//! Instances: launched with their ENIs, described, terminated.

use std::{collections::BTreeSet, time::Duration};

use rand::Rng;

use crate::{
    attachments::Place,
    eni_records::{self, ENI_FILTERS},
    faults::Fault,
    filters,
    instance_types::{self, InstanceType},
    requests::{Describe, Filter, LaunchEni, RunInstances, Tags},
    responses::{self, InstanceState, Page, Reservation, StateChange},
    tags,
    vpc::{Due, Vpc, new_id},
};

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) serial: u64,
    pub(crate) reservation: String,
    pub(crate) limits: &'static InstanceType,
    pub(crate) image: String,
    pub(crate) profile: Option<String>,
    pub(crate) state: InstanceState,
    pub(crate) launched: Duration,
    pub(crate) zone: String,
    pub(crate) vpc: String,
    pub(crate) subnet: String,
    pub(crate) tags: Tags,
    /// ENIs that have an attachment to this instance, in the order of their attaching.
    pub(crate) enis: Vec<String>,
}

impl Vpc {
    /// All or nothing: a launch that is refused leaves neither an instance nor an ENI.
    pub(crate) fn run_instances(&mut self, rng: &mut dyn Rng, wanted: &RunInstances) -> Result<String, Fault> {
        let before = self.clone();
        let launched = self.launch(rng, wanted);
        if launched.is_err() {
            *self = before;
        }
        launched
    }

    fn launch(&mut self, rng: &mut dyn Rng, wanted: &RunInstances) -> Result<String, Fault> {
        let limits = instance_types::find(&wanted.instance_type)
            .ok_or_else(|| Fault::instance_type_value(&wanted.instance_type))?;
        tags::check(&wanted.tags)?;
        let first = wanted.interfaces.first().ok_or_else(|| Fault::missing_parameter("SubnetId"))?;
        if (first.device_index, first.card) != (0, 0) {
            return Err(Fault::invalid_value(first.device_index, "deviceIndex"));
        }
        if wanted.count == 0 {
            return Err(Fault::invalid_value(wanted.count, "maxCount"));
        }
        let subnet_id = match &first.eni {
            LaunchEni::Existing(id) => self.eni(id)?.subnet.clone(),
            LaunchEni::New(eni) => eni.subnet.clone(),
        };
        let subnet = self.subnets.get(&subnet_id).ok_or_else(|| Fault::no_subnet(&subnet_id))?;
        let (zone, vpc) = (subnet.zone.clone(), subnet.vpc.clone());
        let reservation = new_id(rng, "r");
        for _ in 0..wanted.count {
            let (id, serial) = (new_id(rng, "i"), self.serial());
            let instance = Instance {
                serial,
                reservation: reservation.clone(),
                limits,
                image: wanted.image.clone(),
                profile: wanted.profile.clone(),
                state: InstanceState::Pending,
                launched: self.now,
                zone: zone.clone(),
                vpc: vpc.clone(),
                subnet: subnet_id.clone(),
                tags: wanted.tags.clone(),
                enis: Vec::new(),
            };
            self.instances.insert(id.clone(), instance);
            for interface in &wanted.interfaces {
                let (eni, made) = match &interface.eni {
                    LaunchEni::Existing(id) => (id.clone(), false),
                    LaunchEni::New(eni) => (self.make_eni(rng, eni, &wanted.eni_tags)?, true),
                };
                let place = Place { instance: &id, device_index: interface.device_index, card: interface.card };
                self.attach_at_launch(rng, &eni, &place, interface.delete_on_termination.unwrap_or(made))?;
            }
            self.schedule(self.settings.times.start, Due::Running { instance: id });
        }
        Ok(reservation)
    }

    pub(crate) fn terminate(&mut self, ids: &[String]) -> Result<Vec<StateChange>, Fault> {
        for id in ids {
            self.instance(id)?;
        }
        let stop = self.settings.times.stop;
        let mut changes = Vec::new();
        for id in ids {
            let instance = self.instance_mut(id);
            let previous = instance.state;
            instance.state = previous.max(InstanceState::ShuttingDown);
            let current = instance.state;
            if previous < InstanceState::ShuttingDown {
                self.schedule(stop, Due::Terminated { instance: id.clone() });
            }
            changes.push(StateChange { instance: id.clone(), previous, current });
        }
        Ok(changes)
    }

    /// Applies a transition of an instance.
    pub(crate) fn instance_due(&mut self, due: &Due) {
        match due {
            Due::Running { instance } => {
                if let Some(instance) = self.instances.get_mut(instance)
                    && instance.state == InstanceState::Pending
                {
                    instance.state = InstanceState::Running;
                }
            }
            Due::Terminated { instance } => {
                let Some(ended) = self.instances.get_mut(instance) else { return };
                ended.state = InstanceState::Terminated;
                for eni in std::mem::take(&mut ended.enis) {
                    let own = self.eni_mut(&eni).attachment.take();
                    if own.is_some_and(|own| own.delete_on_termination) {
                        self.drop_eni(&eni);
                    }
                }
            }
            _ => {}
        }
    }

    pub(crate) fn describe_instances(&self, describe: &Describe, then: Duration) -> Result<Page<Reservation>, Fault> {
        const MOST: u32 = 1_000;
        check_filters(&describe.filters)?;
        if !describe.ids.is_empty() && describe.max_results.is_some() {
            return Err(Fault::ids_with_page_size("instancesSet"));
        }
        let ids: BTreeSet<&String> =
            if describe.ids.is_empty() { self.instances.ids(then) } else { describe.ids.iter().collect() };
        let mut found = Vec::new();
        for id in ids {
            let instance = self.instance_was(id, then)?;
            let description = self.instance_record_at(id, instance, then);
            if filters::matches(&describe.filters, &instance.tags, |name| filter_values(&description, name)) {
                found.push((instance.serial, (instance.reservation.clone(), description)));
            }
        }
        let page = filters::page(describe, MOST, found)?;
        let mut reservations: Vec<Reservation> = Vec::new();
        for (id, instance) in page.items {
            match reservations.last_mut().filter(|last| last.id == id) {
                Some(last) => last.instances.push(instance),
                None => reservations.push(self.reservation(id, vec![instance])),
            }
        }
        Ok(Page { items: reservations, next_token: page.next_token })
    }

    /// One launch with all its instances.
    pub(crate) fn reservation_record(&self, id: &str) -> Reservation {
        let mut members: Vec<_> = self.instances.iter().filter(|(_, instance)| instance.reservation == id).collect();
        members.sort_by_key(|(_, instance)| instance.serial);
        let instances = members.into_iter().map(|(id, instance)| self.instance_record(id, instance)).collect();
        self.reservation(id.to_owned(), instances)
    }

    pub(crate) fn instance(&self, id: &str) -> Result<&Instance, Fault> {
        self.instance_was(id, self.now)
    }

    fn instance_was(&self, id: &str, then: Duration) -> Result<&Instance, Fault> {
        if !id.starts_with("i-") {
            return Err(Fault::malformed_instance(id));
        }
        self.instances.was(id, then).ok_or_else(|| Fault::no_instance(id))
    }

    /// An instance that was just looked up.
    pub(crate) fn instance_mut(&mut self, id: &str) -> &mut Instance {
        self.instances.get_mut(id).expect("an instance that was looked up in this call is there")
    }

    fn reservation(&self, id: String, instances: Vec<responses::Instance>) -> Reservation {
        Reservation { id, owner: self.settings.account.clone(), instances }
    }

    pub(crate) fn instance_record(&self, id: &str, instance: &Instance) -> responses::Instance {
        self.instance_record_at(id, instance, self.now)
    }

    /// How EC2 describes an instance that was so at `then`.
    fn instance_record_at(&self, id: &str, instance: &Instance, then: Duration) -> responses::Instance {
        let enis = instance.enis.iter().filter_map(|id| Some((id, self.enis.was(id, then)?)));
        let mut interfaces: Vec<_> = enis.map(|(id, eni)| self.eni_record(id, eni)).collect();
        interfaces.sort_by_key(|eni| eni.attachment.as_ref().map(|own| (own.card, own.device_index)));
        responses::Instance {
            id: id.to_owned(),
            instance_type: instance.limits.name.to_owned(),
            image: instance.image.clone(),
            state: instance.state,
            launched: instance.launched,
            zone: instance.zone.clone(),
            vpc: instance.vpc.clone(),
            subnet: instance.subnet.clone(),
            profile: instance.profile.clone(),
            tags: instance.tags.clone(),
            interfaces,
        }
    }
}

const PREFIX: &str = "network-interface.";

fn check_filters(all: &[Filter]) -> Result<(), Fault> {
    let known = [
        "instance-id",
        "instance-state-name",
        "instance-type",
        "availability-zone",
        "vpc-id",
        "subnet-id",
        "private-ip-address",
        "image-id",
    ];
    let (of_enis, own): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|filter| filter.name.starts_with(PREFIX));
    filters::check(&own, &known)?;
    let of_enis = of_enis.into_iter().map(|filter| Filter { name: filter.name[PREFIX.len()..].to_owned(), ..filter });
    filters::check(&of_enis.collect::<Vec<_>>(), ENI_FILTERS)
}

fn filter_values(instance: &responses::Instance, name: &str) -> Vec<String> {
    if let Some(name) = name.strip_prefix(PREFIX) {
        return instance.interfaces.iter().flat_map(|eni| eni_records::filter_values(eni, name)).collect();
    }
    match name {
        "instance-id" => vec![instance.id.clone()],
        "instance-state-name" => vec![instance.state.to_string()],
        "instance-type" => vec![instance.instance_type.clone()],
        "availability-zone" => vec![instance.zone.clone()],
        "vpc-id" => vec![instance.vpc.clone()],
        "subnet-id" => vec![instance.subnet.clone()],
        "image-id" => vec![instance.image.clone()],
        "private-ip-address" => instance
            .interfaces
            .first()
            .and_then(|eni| eni.addresses.first())
            .map(ToString::to_string)
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}
