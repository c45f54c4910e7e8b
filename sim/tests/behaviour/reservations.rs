//! Reserved ranges of a subnet, and what they do to the choice of addresses.

use std::net::Ipv4Addr;

use sim::{
    Fault, Request, Response, Settings,
    requests::{Describe, NewReservation, ReservationKind, Tags, Wanted},
    responses::SubnetReservation,
};

use crate::region::{Region, prefix};

fn reserve(region: &mut Region, cidr: &str, kind: ReservationKind) -> Result<SubnetReservation, Fault> {
    let wanted = NewReservation {
        subnet: region.subnet.clone(),
        cidr: prefix(cidr),
        kind,
        description: "d".into(),
        tags: Tags::new(),
    };
    match region.call(Request::CreateSubnetCidrReservation(wanted))? {
        Response::CreateSubnetCidrReservation(made) => Ok(made),
        other => panic!("{other:?}"),
    }
}

fn listed(region: &mut Region) -> Vec<SubnetReservation> {
    let request = Request::GetSubnetCidrReservations { subnet: region.subnet.clone(), describe: Describe::default() };
    match region.must(request) {
        Response::GetSubnetCidrReservations(page) => page.items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn prefixes_come_from_a_prefix_reservation_first_and_single_addresses_never() {
    let mut region = Region::new(Settings::default());
    let made = reserve(&mut region, "10.0.0.64/26", ReservationKind::Prefix).expect("nothing else is reserved");
    let eni = region.create(0).expect("there is room");
    let new = region.assign_prefixes(&eni, 5).expect("there is room");
    assert_eq!(new.iter().filter(|new| made.cidr.contains(*new)).count(), 4, "{new:?}");
    region.unassign(&eni, &[], &new).expect("they are there");
    let free = region.free();
    assert_eq!(free, 250 - 64);
    let (chosen, _) = region.assign(&eni, Wanted::Count(free)).expect("as many as are said to be free");
    assert!(chosen.iter().all(|address| !made.cidr.contains(address)), "{chosen:?}");
    let fault = region.assign(&eni, Wanted::Count(1)).expect_err("the rest is reserved");
    assert_eq!((fault.code.as_ref(), region.free()), ("InsufficientFreeAddressesInSubnet", 0));
    region.assign_prefixes(&eni, 4).expect("they are reserved for this");
}

#[test]
fn an_explicit_reservation_is_for_those_who_ask_by_name() {
    let mut region = Region::of("10.0.0.0/26", Settings::default());
    reserve(&mut region, "10.0.0.20/30", ReservationKind::Explicit).expect("nothing else is reserved");
    let eni = region.create(0).expect("there is room");
    let fault = region.assign_prefixes(&eni, 2).expect_err("one /28 is left");
    assert_eq!(fault.code, "InsufficientCidrBlocks");
    region.assign(&eni, Wanted::These(vec![Ipv4Addr::new(10, 0, 0, 21)])).expect("it was asked for by name");
    let free = region.free();
    let (chosen, _) = region.assign(&eni, Wanted::Count(free)).expect("as many as are said to be free");
    assert!(chosen.iter().all(|address| !prefix("10.0.0.20/30").contains(address)), "{chosen:?}");
}

#[test]
fn what_is_in_use_stays_in_use_when_it_is_reserved_and_when_it_is_not_anymore() {
    let mut region = Region::new(Settings::default());
    let eni = region.create(40).expect("there is room");
    let before = region.eni(&eni);
    let made = reserve(&mut region, "10.0.0.32/27", ReservationKind::Prefix).expect("addresses may be in use");
    assert_eq!(region.free(), 251 - 41 - 19, "13 of the 32 are in use");
    assert_eq!(listed(&mut region), std::slice::from_ref(&made));
    let gone = region.must(Request::DeleteSubnetCidrReservation { reservation: made.id.clone() });
    assert_eq!(gone, Response::DeleteSubnetCidrReservation(made.clone()));
    assert_eq!((listed(&mut region), region.free(), region.eni(&eni)), (Vec::new(), 251 - 41, before));
    let fault = region.call(Request::DeleteSubnetCidrReservation { reservation: made.id }).expect_err("it is gone");
    assert_eq!(fault.code, "InvalidSubnetCidrReservationID.NotFound");
}

#[test]
fn reservations_lie_in_their_subnet_and_apart() {
    let mut region = Region::new(Settings::default());
    reserve(&mut region, "10.0.0.64/26", ReservationKind::Prefix).expect("nothing else is reserved");
    for cidr in ["10.0.0.64/27", "10.0.0.0/24", "10.0.1.0/28", "10.0.0.17/28"] {
        let fault = reserve(&mut region, cidr, ReservationKind::Explicit).expect_err(cidr);
        assert_eq!(fault.code, "InvalidParameterValue", "{cidr}");
    }
    assert_eq!(listed(&mut region).len(), 1);
}
