//! ENIs that are not for pods: they take places of their instance all the same.

use sim::{
    Request, Settings,
    requests::{InterfaceType, NewEni, Wanted},
};

use crate::region::Region;

#[test]
fn trunk_and_efa_only_enis_count_against_the_limit() {
    let mut region = Region::new(Settings::default());
    let instance = region.launch();
    for (index, interface_type) in [(1, InterfaceType::Trunk), (2, InterfaceType::EfaOnly)] {
        let eni = region.create_with(NewEni { interface_type, ..region.new_eni() }).expect("there is room");
        let request = Request::AttachNetworkInterface {
            eni: eni.clone(),
            instance: instance.clone(),
            device_index: index,
            card: 0,
        };
        region.must(request);
        assert_eq!(region.describe(&eni).expect("it was made").interface_type, interface_type);
    }
    let eni = region.create(0).expect("there is room");
    let request = Request::AttachNetworkInterface { eni, instance, device_index: 3, card: 0 };
    assert_eq!(region.call(request).expect_err("an m5.large has three").code, "AttachmentLimitExceeded");
}

#[test]
fn an_efa_only_eni_has_no_addresses_and_no_link() {
    let mut region = Region::timed();
    let free = region.free();
    let efa_only = NewEni { interface_type: InterfaceType::EfaOnly, ..region.new_eni() };
    let eni = region.create_with(efa_only.clone()).expect("it needs no room");
    assert_eq!((region.eni(&eni).addresses, region.free()), (Vec::new(), free));
    let instance = region.launch();
    region.attach(&eni, &instance);
    region.at(60);
    assert_eq!(region.visible(&instance), [true, false], "EFA devices are not network links");

    for wanted in [Wanted::Count(1), Wanted::Prefixes(1)] {
        let fault = region.create_with(NewEni { secondary: wanted.clone(), ..efa_only.clone() });
        assert_eq!(fault.expect_err("it has no addresses").code, "InvalidParameterCombination");
        assert_eq!(region.assign(&eni, wanted).expect_err("it has no addresses").code, "InvalidParameterCombination");
    }
    let primary = region.eni(&region.vpc.attached(&instance)[0].eni).addresses;
    assert_eq!(region.unassign(&eni, &primary, &[]).expect_err("it has none").code, "InvalidParameterValue");
}
