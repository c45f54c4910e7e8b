//! How EC2 describes ENIs, and which filters find them. Changes nothing.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    enis::Eni,
    faults::Fault,
    filters,
    requests::{Describe, Filter},
    responses::{self, EniStatus, NetworkInterface, Page},
    vpc::Vpc,
};

impl Vpc {
    pub(crate) fn describe_enis(&self, describe: &Describe, then: Duration) -> Result<Page<NetworkInterface>, Fault> {
        const MOST: u32 = 1_000;
        filters::check(&describe.filters, ENI_FILTERS)?;
        if !describe.ids.is_empty() && describe.max_results.is_some() {
            return Err(Fault::ids_with_page_size("networkInterfaceIds"));
        }
        let ids: BTreeSet<&String> = if !describe.ids.is_empty() {
            describe.ids.iter().collect()
        } else if let Some(attached) = self.on_instances(&describe.filters, then) {
            attached
        } else {
            self.enis.ids(then)
        };
        let mut found = Vec::new();
        for id in ids {
            let eni = self.eni_was(id, then)?;
            let description = self.eni_record(id, eni);
            if filters::matches(&describe.filters, &eni.tags, |name| filter_values(&description, name)) {
                found.push((eni.serial, description));
            }
        }
        filters::page(describe, MOST, found)
    }

    /// Where a filter names instances, only their ENIs can match: in a large fleet the others need not be looked at.
    fn on_instances(&self, filters: &[Filter], then: Duration) -> Option<BTreeSet<&String>> {
        let named = filters.iter().find(|filter| filter.name == "attachment.instance-id")?;
        if named.values.iter().any(|value| value.contains(['*', '?'])) {
            return None;
        }
        let instances = named.values.iter().filter_map(|id| self.instances.was(id, then));
        Some(instances.flat_map(|instance| &instance.enis).collect())
    }

    /// How EC2 describes it.
    pub(crate) fn network_interface(&self, id: &str) -> Result<NetworkInterface, Fault> {
        Ok(self.eni_record(id, self.eni(id)?))
    }

    /// How EC2 describes an ENI that is, or was, so.
    pub(crate) fn eni_record(&self, id: &str, eni: &Eni) -> NetworkInterface {
        let status = match (&eni.attachment, eni.created) {
            (Some(_), _) => EniStatus::InUse,
            (None, false) => EniStatus::Pending,
            (None, true) => EniStatus::Available,
        };
        let attachment = eni.attachment.as_ref().map(|own| responses::Attachment {
            id: own.id.clone(),
            instance: own.instance.clone(),
            owner: self.settings.account.clone(),
            device_index: own.device_index,
            card: own.card,
            status: own.status,
            since: own.since,
            delete_on_termination: own.delete_on_termination,
        });
        NetworkInterface {
            id: id.to_owned(),
            interface_type: eni.interface_type,
            status,
            subnet: eni.subnet.clone(),
            vpc: eni.vpc.clone(),
            zone: eni.zone.clone(),
            owner: self.settings.account.clone(),
            description: eni.description.clone(),
            mac: eni.mac,
            addresses: eni.holding.addresses.clone(),
            prefixes: eni.holding.prefixes.clone(),
            groups: eni.groups.iter().map(|id| (id.clone(), self.groups[id].name.clone())).collect(),
            source_dest_check: eni.source_dest_check,
            attachment,
            tags: eni.tags.clone(),
        }
    }
}

/// Filters of DescribeNetworkInterfaces, also behind `network-interface.` in DescribeInstances.
pub(crate) const ENI_FILTERS: &[&str] = &[
    "network-interface-id",
    "status",
    "description",
    "mac-address",
    "subnet-id",
    "vpc-id",
    "availability-zone",
    "group-id",
    "group-name",
    "interface-type",
    "owner-id",
    "private-ip-address",
    "addresses.private-ip-address",
    "addresses.primary",
    "source-dest-check",
    "requester-managed",
    "attachment.instance-id",
    "attachment.attachment-id",
    "attachment.device-index",
    "attachment.network-card-index",
    "attachment.status",
    "attachment.delete-on-termination",
    "attachment.instance-owner-id",
];

/// What an ENI has under the name of a filter.
pub(crate) fn filter_values(eni: &NetworkInterface, name: &str) -> Vec<String> {
    let attached = |value: &dyn Fn(&responses::Attachment) -> String| eni.attachment.iter().map(value).collect();
    match name {
        "network-interface-id" => vec![eni.id.clone()],
        "status" => vec![eni.status.to_string()],
        "description" => vec![eni.description.clone()],
        "mac-address" => vec![eni.mac.to_string()],
        "subnet-id" => vec![eni.subnet.clone()],
        "vpc-id" => vec![eni.vpc.clone()],
        "availability-zone" => vec![eni.zone.clone()],
        "group-id" => eni.groups.iter().map(|(id, _)| id.clone()).collect(),
        "group-name" => eni.groups.iter().map(|(_, name)| name.clone()).collect(),
        "interface-type" => vec![eni.interface_type.to_string()],
        "owner-id" => vec![eni.owner.clone()],
        "private-ip-address" | "addresses.private-ip-address" => {
            eni.addresses.iter().map(ToString::to_string).collect()
        }
        "addresses.primary" if eni.addresses.len() > 1 => vec!["true".into(), "false".into()],
        "addresses.primary" => eni.addresses.first().map(|_| "true".into()).into_iter().collect(),
        "source-dest-check" => vec![eni.source_dest_check.to_string()],
        "requester-managed" => vec!["false".into()],
        "attachment.instance-id" => attached(&|own| own.instance.clone()),
        "attachment.attachment-id" => attached(&|own| own.id.clone()),
        "attachment.device-index" => attached(&|own| own.device_index.to_string()),
        "attachment.network-card-index" => attached(&|own| own.card.to_string()),
        "attachment.status" => attached(&|own| own.status.to_string()),
        "attachment.delete-on-termination" => attached(&|own| own.delete_on_termination.to_string()),
        "attachment.instance-owner-id" => attached(&|own| own.owner.clone()),
        _ => Vec::new(),
    }
}
