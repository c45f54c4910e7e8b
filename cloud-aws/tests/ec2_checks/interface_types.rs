//! ENIs that are not for pods.

use aws_sdk_ec2::types::NetworkInterfaceCreationType as Type;

use crate::{
    checks,
    region::{Outcome, Region, addresses, expect, named, refused},
};

checks!(create_with_interface_type, create_efa_only_has_no_addresses, attach_counts_enis_of_every_type);

async fn create_with_interface_type(region: &Region) -> Outcome {
    for kind in [Type::Trunk, Type::Efa] {
        let eni = region.available(region.create(&region.subnet().await?).interface_type(kind.clone())).await?;
        let made = region.eni(&eni).await?;
        expect("type", made.interface_type().map(|one| one.as_str()), Some(kind.as_str()))?;
        expect("addresses", addresses(&made).len(), 1)?;
        let call = region.describe().filters(named("interface-type", &[kind.as_str()]));
        expect("filter", region.ids(call.filters(named("network-interface-id", &[&eni]))).await?, [eni])?;
    }
    Ok(())
}

async fn create_efa_only_has_no_addresses(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let create = || region.create(&subnet).interface_type(Type::EfaOnly);
    let made = region.eni(&region.available(create()).await?).await?;
    expect("type", made.interface_type().map(|one| one.as_str()), Some("efa-only"))?;
    expect("addresses", (made.private_ip_address(), addresses(&made).len()), (None, 0))?;
    expect("free", region.free(&subnet).await?, 251)?;
    let outcome = create().secondary_private_ip_address_count(1).send().await;
    refused(outcome, &["InvalidParameterCombination", "InvalidParameterValue"]).map(drop)
}

async fn attach_counts_enis_of_every_type(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let instance = region.running_in(&subnet).await?;
    for (index, kind) in [(1, Type::Trunk), (2, Type::EfaOnly)] {
        let eni = region.available(region.create(&subnet).interface_type(kind)).await?;
        region.attach(&eni, &instance, index).send().await?;
    }
    let one_more = region.available_in(&subnet).await?;
    refused(region.attach(&one_more, &instance, 3).send().await, &["AttachmentLimitExceeded"]).map(drop)
}
