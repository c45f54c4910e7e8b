//! What a client cannot see over the wire, or not exactly: devices, times, tokens, quotas, counters.

mod interface_types;
mod prefixes;
mod region;
mod reservations;
mod stale_reads;

use std::{net::Ipv4Addr, time::Duration};

use sim::{
    Action, AddressOrder, Request, Response, Settings, Tally, Times,
    requests::{CreateNetworkInterface, Wanted},
    responses::{AttachmentStatus, EniStatus},
};

use region::Region;

#[test]
fn a_device_comes_after_its_delay_and_goes_before_the_detach_ends() {
    let mut region = Region::timed();
    let instance = region.launch();
    assert_eq!(region.visible(&instance), [true], "the primary ENI is there from the beginning");
    let eni = region.create(2).expect("there is room");
    region.at(10);
    let attachment = region.attach(&eni, &instance);
    assert_eq!(region.visible(&instance), [true, false]);
    region.at(12);
    assert_eq!(region.visible(&instance), [true, false], "attached at 12 s, the device at 13 s");
    region.at(13);
    assert_eq!(region.visible(&instance), [true, true]);
    let second = region.vpc.attached(&instance).remove(1);
    assert_eq!((second.addresses.len(), second.gateway), (3, Ipv4Addr::new(10, 0, 0, 1)));

    region.at(20);
    region.must(Request::DetachNetworkInterface { attachment, force: false });
    assert_eq!(region.visible(&instance), [true, true]);
    region.at(23);
    assert_eq!(region.visible(&instance), [true, false], "unplugged, still detaching");
    region.at(24);
    assert_eq!(region.visible(&instance), [true]);
}

#[test]
fn a_detach_before_the_device_came_keeps_it_away() {
    let mut region = Region::timed();
    let instance = region.launch();
    let eni = region.create(0).expect("there is room");
    let attachment = region.attach(&eni, &instance);
    region.at(1);
    region.must(Request::DetachNetworkInterface { attachment, force: false });
    for second in 1..=4 {
        region.at(second);
        assert_eq!(region.visible(&instance), [true, false], "at {second} s");
        let own = region.vpc.enis()[1].attachment.clone().expect("it is still detaching");
        assert_eq!(own.status, AttachmentStatus::Detaching, "at {second} s");
    }
    region.at(5);
    assert_eq!(region.visible(&instance), [true]);
    assert_eq!(region.vpc.next_transition(), None);
}

#[test]
fn time_never_runs_backwards() {
    let mut region = Region::timed();
    region.at(5);
    region.at(0);
    region.create(0).expect("there is room");
    assert_eq!(region.vpc.next_transition(), Some(Duration::from_secs(6)), "a create takes a second");
}

#[test]
fn the_primary_eni_goes_with_its_instance_and_an_unmarked_one_stays() {
    let mut region = Region::timed();
    let instance = region.launch();
    let eni = region.create(2).expect("there is room");
    region.attach(&eni, &instance);
    region.at(10);
    region.must(Request::TerminateInstances { instances: vec![instance.clone()] });
    assert_eq!(region.visible(&instance), [true, true], "until it is over");
    region.at(11);
    assert_eq!(region.visible(&instance), []);
    let left = region.vpc.enis();
    assert_eq!(left.iter().map(|eni| &eni.id).collect::<Vec<_>>(), [&eni]);
    assert_eq!(left[0].status, EniStatus::Available);
    assert_eq!(region.vpc.held(&region.subnet).len(), 3);
}

#[test]
fn limits_of_the_type_hold_for_assigns_of_both_kinds() {
    let mut region = Region::timed();
    let instance = region.launch();
    let eni = region.create(8).expect("there is room");
    region.attach(&eni, &instance);
    let two = vec![Ipv4Addr::new(10, 0, 0, 100), Ipv4Addr::new(10, 0, 0, 101)];
    for wanted in [Wanted::Count(2), Wanted::These(two)] {
        let request = Request::AssignPrivateIpAddresses { eni: eni.clone(), wanted, allow_reassignment: false };
        let fault = region.call(request).expect_err("an m5.large has ten addresses an ENI");
        assert_eq!(fault.code, "PrivateIpAddressLimitExceeded");
    }
    let one = Wanted::These(vec![Ipv4Addr::new(10, 0, 0, 100)]);
    region.must(Request::AssignPrivateIpAddresses { eni, wanted: one, allow_reassignment: false });
}

#[test]
fn next_fit_lets_a_released_address_rest_and_first_fit_does_not() {
    for (address_order, expected) in [(AddressOrder::NextFit, 6), (AddressOrder::FirstFit, 5)] {
        let mut region = Region::new(Settings { address_order, times: Times::INSTANT, ..Settings::default() });
        let eni = region.create(1).expect("there is room");
        region.must(Request::UnassignPrivateIpAddresses {
            eni: eni.clone(),
            addresses: vec![Ipv4Addr::new(10, 0, 0, 5)],
            prefixes: Vec::new(),
        });
        let answer =
            region.must(Request::AssignPrivateIpAddresses { eni, wanted: Wanted::Count(1), allow_reassignment: false });
        let Response::AssignPrivateIpAddresses { addresses, .. } = answer else { panic!("{answer:?}") };
        assert_eq!(addresses, [Ipv4Addr::new(10, 0, 0, expected)], "{address_order:?}");
    }
}

#[test]
fn a_full_quota_of_enis_is_its_own_error() {
    let mut region = Region::new(Settings { eni_quota: Some(2), ..Settings::default() });
    for _ in 0..2 {
        region.create(0).expect("the quota is two");
    }
    let fault = region.create(0).expect_err("the quota is full");
    assert_eq!(fault.code, "NetworkInterfaceLimitExceeded");
}

#[test]
fn calls_are_counted_by_action_and_verdict() {
    let mut region = Region::timed();
    region.create(0).expect("there is room");
    region.create(300).expect_err("the subnet is smaller");
    assert_eq!(region.vpc.calls()[&Action::CreateNetworkInterface], Tally { accepted: 1, refused: 1 });
}

#[test]
fn a_client_token_outlives_its_caller_but_not_its_eni() {
    let mut region = Region::new(Settings { times: Times::INSTANT, ..Settings::default() });
    let wanted = CreateNetworkInterface {
        eni: region.new_eni(),
        client_token: Some("once".into()),
        ..CreateNetworkInterface::default()
    };
    let ask = |region: &mut Region| match region.call(Request::CreateNetworkInterface(wanted.clone())) {
        Ok(Response::CreateNetworkInterface { eni, .. }) => Ok(eni.id),
        Ok(other) => panic!("{other:?}"),
        Err(fault) => Err(fault),
    };
    let first = ask(&mut region).expect("there is room");
    assert_eq!(ask(&mut region).as_deref(), Ok(first.as_str()));
    region.must(Request::DeleteNetworkInterface { eni: first });
    let fault = ask(&mut region).expect_err("its ENI is gone");
    assert_eq!(fault.code, "InvalidNetworkInterfaceID.NotFound");
}

#[test]
fn an_eni_cannot_be_attached_to_an_instance_that_is_ending() {
    let mut region = Region::timed();
    let instance = region.launch();
    let eni = region.create(0).expect("there is room");
    region.must(Request::TerminateInstances { instances: vec![instance.clone()] });
    let fault = region
        .call(Request::AttachNetworkInterface { eni, instance, device_index: 1, card: 0 })
        .expect_err("the instance is shutting down");
    assert_eq!(fault.code, "IncorrectState");
}

#[test]
fn macs_parse_back_and_never_repeat() {
    let mut region = Region::timed();
    let macs: std::collections::BTreeSet<_> = (0..50)
        .map(|_| {
            region.create(0).expect("there is room");
            region.vpc.enis().last().expect("it was made").mac
        })
        .collect();
    assert_eq!(macs.len(), 50);
    for mac in macs {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
    assert!("02:00:00:00:00".parse::<sim::Mac>().is_err());
    assert!("02:00:00:00:00:0g".parse::<sim::Mac>().is_err());
    assert!("2:0:0:0:0:0".parse::<sim::Mac>().is_err());
}
