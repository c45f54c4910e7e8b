//! /28 prefixes: where they come from, what they take, when there is none although addresses are free.

use std::net::Ipv4Addr;

use sim::{
    AddressOrder, PrefixShortage, Request, Settings, Times,
    requests::{NewEni, Wanted},
};

use crate::region::{Region, prefix};

fn region(cidr: &str, address_order: AddressOrder) -> Region {
    Region::of(cidr, Settings { address_order, times: Times::INSTANT, ..Settings::default() })
}

#[test]
fn prefixes_are_aligned_and_take_sixteen_addresses_each() {
    let mut region = region("10.0.0.0/24", AddressOrder::NextFit);
    let eni = region.create(0).expect("there is room");
    assert_eq!(region.free(), 250);
    let new = region.assign_prefixes(&eni, 2).expect("there is room");
    assert_eq!(new, [prefix("10.0.0.16/28"), prefix("10.0.0.32/28")], "the first /28 has reserved addresses");
    assert_eq!((region.free(), region.eni(&eni).prefixes), (250 - 32, new));
    assert_eq!(region.eni(&eni).addresses.len(), 1, "a prefix is not a list of addresses");
    assert_eq!(region.vpc.held(&region.subnet).len(), 33);
}

#[test]
fn a_subnet_with_free_addresses_and_no_free_prefix_says_so() {
    let mut region = region("10.0.0.0/26", AddressOrder::NextFit);
    let enis: Vec<_> = (0..40).map(|_| region.create(0).expect("there is room")).collect();
    let last_octet = |region: &Region, eni: &str| region.eni(eni).addresses[0].octets()[3];
    let (keep, rest): (Vec<_>, Vec<_>) = enis.into_iter().partition(|eni| last_octet(&region, eni) % 16 == 8);
    for eni in rest {
        region.must(Request::DeleteNetworkInterface { eni });
    }
    assert_eq!((keep.len(), region.free()), (3, 56), "one address of each block but the last is in use");
    let fault = region.assign_prefixes(&keep[0], 1).expect_err("the last block has the reserved broadcast address");
    assert_eq!(fault.code, "InsufficientCidrBlocks");
    region.must(Request::DeleteNetworkInterface { eni: keep[2].clone() });
    assert_eq!(region.assign_prefixes(&keep[0], 1), Ok(vec![prefix("10.0.0.32/28")]));
}

#[test]
fn next_fit_fragments_what_first_fit_keeps_whole() {
    for (order, whole) in [(AddressOrder::NextFit, false), (AddressOrder::FirstFit, true)] {
        let mut region = region("10.0.0.0/25", order);
        let eni = region.create(0).expect("there is room");
        // Addresses come and go, one at a time; one of eight stays.
        for turn in 0..120 {
            let (new, _) = region.assign(&eni, Wanted::Count(1)).expect("there is room");
            if turn % 8 != 0 {
                region.unassign(&eni, &new, &[]).expect("it is there");
            }
        }
        assert_eq!(region.free(), 123 - 16, "{order:?}");
        let outcome = region.assign_prefixes(&eni, 1).map_err(|fault| fault.code.to_string());
        let expected = if whole { Ok(vec![prefix("10.0.0.32/28")]) } else { Err("InsufficientCidrBlocks".to_owned()) };
        assert_eq!(outcome, expected, "{order:?}");
    }
}

#[test]
fn a_subnet_that_is_too_small_has_another_error_than_a_fragmented_one() {
    for (prefix_shortage, code) in [
        (PrefixShortage::FreeAddresses, "InsufficientFreeAddressesInSubnet"),
        (PrefixShortage::Parameter, "InvalidParameterValue"),
    ] {
        let mut region = Region::of("10.0.0.0/27", Settings { prefix_shortage, ..Settings::default() });
        let eni = region.create(0).expect("there is room");
        assert_eq!(region.assign_prefixes(&eni, 2).expect_err("26 are free").code, code);
        assert_eq!(
            region.assign_prefixes(&eni, 1).expect_err("both /28s are reserved in part").code,
            "InsufficientCidrBlocks"
        );
        assert_eq!(region.free(), 26);
    }
}

#[test]
fn a_prefix_takes_the_place_of_one_address() {
    let mut region = region("10.0.0.0/20", AddressOrder::NextFit);
    let instance = region.launch();
    let eni = region.vpc.attached(&instance).remove(0).eni;
    region.assign_prefixes(&eni, 8).expect("an m5.large has ten places an ENI");
    region.assign(&eni, Wanted::Count(1)).expect("the last place");
    for wanted in [Wanted::Count(1), Wanted::Prefixes(1), Wanted::ThesePrefixes(vec![prefix("10.0.15.0/28")])] {
        let fault = region.assign(&eni, wanted).expect_err("the ENI is full");
        assert_eq!(fault.code, "PrivateIpAddressLimitExceeded");
    }
    let attached = region.vpc.attached(&instance).remove(0);
    assert_eq!((attached.addresses.len(), attached.prefixes.len()), (2, 8));
}

#[test]
fn an_eni_with_more_than_the_type_allows_cannot_be_attached() {
    let mut region = region("10.0.0.0/20", AddressOrder::NextFit);
    let instance = region.launch();
    let eni =
        region.create_with(NewEni { secondary: Wanted::Prefixes(10), ..region.new_eni() }).expect("there is room");
    let attach = Request::AttachNetworkInterface { eni: eni.clone(), instance, device_index: 1, card: 0 };
    assert_eq!(region.call(attach.clone()).expect_err("eleven").code, "PrivateIpAddressLimitExceeded");
    let one = region.eni(&eni).prefixes[0];
    region.unassign(&eni, &[], &[one]).expect("it is there");
    region.must(attach);
}

#[test]
fn instances_before_nitro_take_no_prefixes() {
    let mut region = region("10.0.0.0/24", AddressOrder::NextFit);
    let instance = region.launch_type("m4.large").expect("there is room");
    let eni = region.vpc.attached(&instance).remove(0).eni;
    assert_eq!(region.assign_prefixes(&eni, 1).expect_err("m4 is Xen").code, "UnsupportedOperation");
    region.assign(&eni, Wanted::Count(1)).expect("addresses it takes");
}

#[test]
fn a_named_prefix_is_had_if_it_is_whole_and_free() {
    let mut region = region("10.0.0.0/24", AddressOrder::NextFit);
    let (eni, other) = (region.create(0).expect("there is room"), region.create(0).expect("there is room"));
    let named = |text: &str| Wanted::ThesePrefixes(vec![prefix(text)]);
    region.assign(&eni, named("10.0.0.224/28")).expect("it is free");
    region.assign(&other, Wanted::These(vec![Ipv4Addr::new(10, 0, 0, 100)])).expect("it is free");
    for text in [
        "10.0.0.165/28",
        "10.0.0.160/27",
        "10.0.1.0/28",
        "10.0.0.0/28",
        "10.0.0.240/28",
        "10.0.0.96/28",
        "10.0.0.224/28",
    ] {
        let fault = region.assign(&other, named(text)).expect_err(text);
        assert_eq!(fault.code, "InvalidParameterValue", "{text}");
    }
    let twice = Wanted::ThesePrefixes(vec![prefix("10.0.0.48/28"); 2]);
    assert_eq!(region.assign(&other, twice).expect_err("one prefix, twice").code, "InvalidParameterValue");
    let (_, again) = region.assign(&eni, named("10.0.0.224/28")).expect("it has it");
    assert_eq!((again, region.eni(&eni).prefixes), (vec![prefix("10.0.0.224/28")], vec![prefix("10.0.0.224/28")]));
}

#[test]
fn an_address_of_a_prefix_is_nobodys_secondary_address() {
    let mut region = region("10.0.0.0/24", AddressOrder::FirstFit);
    let (eni, other) = (region.create(1).expect("there is room"), region.create(0).expect("there is room"));
    let held = region.assign_prefixes(&eni, 1).expect("there is room");
    let inside = Ipv4Addr::new(10, 0, 0, 20);
    assert!(held[0].contains(&inside));
    for owner in [&eni, &other] {
        let request = Request::AssignPrivateIpAddresses {
            eni: owner.clone(),
            wanted: Wanted::These(vec![inside]),
            allow_reassignment: true,
        };
        assert_eq!(region.call(request).expect_err("it is part of a prefix").code, "InvalidParameterValue");
        assert_eq!(region.unassign(owner, &[inside], &[]).expect_err("it is no address").code, "InvalidParameterValue");
    }
    let as_primary = NewEni { primary: Some(inside), ..region.new_eni() };
    assert_eq!(region.create_with(as_primary).expect_err("it is part of a prefix").code, "InvalidIPAddress.InUse");
    let (chosen, _) = region.assign(&other, Wanted::Count(20)).expect("there is room");
    assert!(chosen.iter().all(|address| !held[0].contains(address)), "{chosen:?} and {held:?}");
}

#[test]
fn an_unassign_takes_both_kinds_at_once_or_nothing() {
    let mut region = region("10.0.0.0/24", AddressOrder::NextFit);
    let eni = region.create(2).expect("there is room");
    let prefixes = region.assign_prefixes(&eni, 2).expect("there is room");
    let addresses = region.eni(&eni).addresses;
    let before = region.free();
    let foreign = prefix("10.0.0.224/28");
    for (addresses, prefixes) in [
        (&addresses[1..], &[foreign][..]),
        (&addresses[..1], &prefixes[..]),
        (&addresses[1..], &[prefix("10.0.0.16/29")][..]),
    ] {
        assert_eq!(
            region.unassign(&eni, addresses, prefixes).expect_err("one is not there").code,
            "InvalidParameterValue"
        );
        assert_eq!(region.free(), before);
    }
    region.unassign(&eni, &addresses[1..2], &prefixes[..1]).expect("both are there");
    let left = region.eni(&eni);
    assert_eq!((left.addresses.len(), left.prefixes, region.free()), (2, prefixes[1..].to_vec(), before + 17));
}

#[test]
fn a_deleted_eni_gives_its_prefixes_back() {
    let mut region = region("10.0.0.0/24", AddressOrder::NextFit);
    let eni = region.create_with(NewEni { secondary: Wanted::Prefixes(3), ..region.new_eni() }).expect("there is room");
    assert_eq!(region.free(), 251 - 49);
    region.must(Request::DeleteNetworkInterface { eni });
    assert_eq!(region.free(), 251);
}

#[test]
fn next_fit_lets_a_released_prefix_rest_and_first_fit_does_not() {
    for (order, expected) in [(AddressOrder::NextFit, "10.0.0.32/28"), (AddressOrder::FirstFit, "10.0.0.16/28")] {
        let mut region = region("10.0.0.0/24", order);
        let eni = region.create(0).expect("there is room");
        let first = region.assign_prefixes(&eni, 1).expect("there is room");
        region.unassign(&eni, &[], &first).expect("it is there");
        assert_eq!(region.assign_prefixes(&eni, 1), Ok(vec![prefix(expected)]), "{order:?}");
    }
}
