//! Tags: on everything that has an id.

use crate::{faults::Fault, requests::Tags, vpc::Vpc};

/// The most tags a resource may have (documentation).
const MOST: usize = 50;

/// Are these tags a caller may set?
pub(crate) fn check(tags: &Tags) -> Result<(), Fault> {
    if tags.keys().any(|key| key.starts_with("aws:")) {
        return Err(Fault::reserved_tag_key());
    }
    if tags.len() > MOST {
        return Err(Fault::too_many_tags());
    }
    Ok(())
}

impl Vpc {
    pub(crate) fn create_tags(&mut self, resources: &[String], tags: &Tags) -> Result<(), Fault> {
        check(tags)?;
        for id in resources {
            let mut merged = self.tags_of(id)?.clone();
            merged.extend(tags.clone());
            check(&merged)?;
        }
        for id in resources {
            self.tags_of(id)?.extend(tags.clone());
        }
        Ok(())
    }

    pub(crate) fn delete_tags(&mut self, resources: &[String], tags: &[(String, Option<String>)]) -> Result<(), Fault> {
        for id in resources {
            self.tags_of(id)?;
        }
        for id in resources {
            let own = self.tags_of(id)?;
            for (key, value) in tags {
                if value.as_ref().is_none_or(|value| own.get(key) == Some(value)) {
                    own.remove(key);
                }
            }
        }
        Ok(())
    }

    fn tags_of(&mut self, id: &str) -> Result<&mut Tags, Fault> {
        let kind = id.split_once('-').map_or(id, |(kind, _)| kind);
        match kind {
            "eni" => self.enis.get_mut(id).map(|eni| &mut eni.tags).ok_or_else(|| Fault::no_eni(id)),
            "i" => self.instances.get_mut(id).map(|instance| &mut instance.tags).ok_or_else(|| Fault::no_instance(id)),
            "vpc" => self.networks.get_mut(id).map(|network| &mut network.tags).ok_or_else(|| Fault::no_vpc(id)),
            "subnet" => self.subnets.get_mut(id).map(|subnet| &mut subnet.tags).ok_or_else(|| Fault::no_subnet(id)),
            "scr" => self.reservations.get_mut(id).map(|one| &mut one.tags).ok_or_else(|| Fault::no_reservation(id)),
            "sg" => self.groups.get_mut(id).map(|group| &mut group.tags).ok_or_else(|| Fault::no_group(id)),
            _ => Err(Fault::no_resource(id)),
        }
    }
}
