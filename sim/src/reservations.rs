//! Reserved ranges of subnets, as records: made, listed, deleted. What they do to the choice of addresses is in `addresses`.

use ipnet::Ipv4Net;
use rand::Rng;

use crate::{
    faults::Fault,
    filters,
    networks::overlap,
    requests::{Describe, NewReservation, ReservationKind, Tags},
    responses::{self, Page},
    tags,
    vpc::{Vpc, new_id},
};

/// A reserved range. The same range is in the subnet's book.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) serial: u64,
    pub(crate) subnet: String,
    pub(crate) cidr: Ipv4Net,
    pub(crate) kind: ReservationKind,
    pub(crate) description: String,
    pub(crate) tags: Tags,
}

impl Vpc {
    /// Addresses of the range may be in use; they stay so (documentation). Ranges of a VPC do not overlap (documentation).
    pub(crate) fn reserve(
        &mut self,
        rng: &mut dyn Rng,
        wanted: &NewReservation,
    ) -> Result<responses::SubnetReservation, Fault> {
        tags::check(&wanted.tags)?;
        let subnet = self.subnets.get(&wanted.subnet).ok_or_else(|| Fault::no_subnet(&wanted.subnet))?;
        let cidr = wanted.cidr;
        if cidr != cidr.trunc() || !subnet.cidr.contains(&cidr) {
            return Err(Fault::reservation_range(cidr));
        }
        let overlaps = |other: &&Reservation| other.subnet == wanted.subnet && overlap(other.cidr, cidr);
        if let Some(other) = self.reservations.values().find(overlaps) {
            return Err(Fault::reservation_overlap(cidr, other.cidr));
        }
        let id = new_id(rng, "scr");
        let reservation = Reservation {
            serial: self.serial(),
            subnet: wanted.subnet.clone(),
            cidr,
            kind: wanted.kind,
            description: wanted.description.clone(),
            tags: wanted.tags.clone(),
        };
        let record = self.subnet_reservation(&id, &reservation);
        self.reservations.insert(id, reservation);
        self.book_mut(&wanted.subnet).reserve(cidr, wanted.kind);
        self.count_free(&wanted.subnet);
        Ok(record)
    }

    /// What is in use stays so (documentation).
    pub(crate) fn unreserve(&mut self, id: &str) -> Result<responses::SubnetReservation, Fault> {
        let reservation = self.reservations.remove(id).ok_or_else(|| Fault::no_reservation(id))?;
        self.book_mut(&reservation.subnet).unreserve(reservation.cidr);
        self.count_free(&reservation.subnet);
        Ok(self.subnet_reservation(id, &reservation))
    }

    pub(crate) fn list_reservations(
        &self,
        subnet: &str,
        describe: &Describe,
    ) -> Result<Page<responses::SubnetReservation>, Fault> {
        const MOST: u32 = 1_000;
        filters::check(&describe.filters, &["reservationType", "subnet-id"])?;
        if !self.subnets.contains_key(subnet) {
            return Err(Fault::no_subnet(subnet));
        }
        let found = self
            .reservations
            .iter()
            .filter(|(_, one)| one.subnet == subnet)
            .filter(|(_, one)| {
                filters::matches(&describe.filters, &one.tags, |name| match name {
                    "reservationType" => vec![one.kind.to_string()],
                    _ => vec![one.subnet.clone()],
                })
            })
            .map(|(id, one)| (one.serial, self.subnet_reservation(id, one)))
            .collect();
        filters::page(describe, MOST, found)
    }

    fn subnet_reservation(&self, id: &str, reservation: &Reservation) -> responses::SubnetReservation {
        responses::SubnetReservation {
            id: id.to_owned(),
            subnet: reservation.subnet.clone(),
            cidr: reservation.cidr,
            kind: reservation.kind,
            owner: self.settings.account.clone(),
            description: reservation.description.clone(),
            tags: reservation.tags.clone(),
        }
    }
}
