//! Attaching and detaching.

use aws_sdk_ec2::types::InstanceType;

use crate::{
    checks,
    region::{NOBODY, Outcome, Region, attachment_status, eventually, expect, expect_that, refused, status, there},
};

checks!(
    attach_answers_an_attachment,
    attach_takes_time,
    attach_ends_attached,
    attach_does_not_mark_for_deletion,
    attach_at_a_taken_index,
    attach_twice,
    attach_beyond_the_types_enis,
    attach_across_zones,
    attach_with_too_many_addresses,
    attach_to_unknown_instance,
    attach_unknown_eni,
    attach_to_another_card,
    attach_index_is_per_card,
    attach_to_a_card_that_is_not_there,
    detach_takes_time,
    detach_ends_available,
    detach_frees_the_index,
    detach_primary,
    detach_by_force,
    detach_unknown,
    delete_attached,
    delete_detaching,
);

/// An available ENI and a running instance in one subnet.
struct Pair {
    eni: String,
    instance: String,
    subnet: String,
}

async fn pair(region: &Region) -> Outcome<Pair> {
    let subnet = region.subnet().await?;
    Ok(Pair { eni: region.available_in(&subnet).await?, instance: region.running_in(&subnet).await?, subnet })
}

/// An attached ENI whose detach was asked for.
async fn detaching(region: &Region) -> Outcome<Pair> {
    let pair = pair(region).await?;
    let attachment = region.attached(&pair.eni, &pair.instance, 1).await?;
    region.ec2.detach_network_interface().attachment_id(attachment).send().await?;
    Ok(pair)
}

async fn becomes_available(region: &Region, eni: &str) -> Outcome {
    eventually("the ENI is available", async || Ok(status(&region.eni(eni).await?) == "available")).await
}

async fn attach_answers_an_attachment(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    let made = region.attach(&pair.eni, &pair.instance, 1).network_card_index(0).send().await?;
    let attachment = made.attachment_id();
    expect_that("an attachment id", attachment, attachment.is_some_and(|id| id.starts_with("eni-attach-")))
}

async fn attach_takes_time(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attach(&pair.eni, &pair.instance, 1).send().await?;
    expect("attachment's status", attachment_status(&region.eni(&pair.eni).await?), "attaching")
}

async fn attach_ends_attached(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attached(&pair.eni, &pair.instance, 1).await?;
    expect("status", status(&region.eni(&pair.eni).await?), "in-use")
}

async fn attach_does_not_mark_for_deletion(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attached(&pair.eni, &pair.instance, 1).await?;
    let eni = region.eni(&pair.eni).await?;
    expect("DeleteOnTermination", eni.attachment().and_then(|own| own.delete_on_termination()), Some(false))
}

async fn attach_at_a_taken_index(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attach(&pair.eni, &pair.instance, 1).send().await?;
    let other = region.available_in(&pair.subnet).await?;
    let message = refused(region.attach(&other, &pair.instance, 1).send().await, &["InvalidParameterValue"])?;
    expect_that("a word about the index", &message, message.contains("interface attached at device"))
}

async fn attach_twice(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attach(&pair.eni, &pair.instance, 1).send().await?;
    let outcome = region.attach(&pair.eni, &pair.instance, 2).send().await;
    refused(outcome, &["InvalidNetworkInterface.InUse"]).map(drop)
}

async fn attach_beyond_the_types_enis(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let instance = region.running_in(&subnet).await?;
    for index in [1, 2] {
        region.attach(&region.available_in(&subnet).await?, &instance, index).send().await?;
    }
    let one_more = region.available_in(&subnet).await?;
    let message = refused(region.attach(&one_more, &instance, 3).send().await, &["AttachmentLimitExceeded"])?;
    expect("message", message, "Interface count 4 exceeds the limit for m5.large")
}

async fn attach_across_zones(region: &Region) -> Outcome {
    let instance = region.running_in(&region.subnet().await?).await?;
    let (elsewhere, _) = region.subnet_with(24, "b", None).await?;
    let eni = region.available_in(&elsewhere).await?;
    let outcome = region.attach(&eni, &instance, 1).send().await;
    refused(outcome, &["InvalidParameterCombination", "InvalidParameterValue"]).map(drop)
}

async fn attach_with_too_many_addresses(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let eni = region.available(region.create(&subnet).secondary_private_ip_address_count(14)).await?;
    let outcome = region.attach(&eni, &region.running_in(&subnet).await?, 1).send().await;
    refused(outcome, &["PrivateIpAddressLimitExceeded", "InvalidParameterValue"]).map(drop)
}

async fn attach_to_unknown_instance(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let outcome = region.attach(&eni, &format!("i-{NOBODY}"), 1).send().await;
    refused(outcome, &["InvalidInstanceID.NotFound"]).map(drop)
}

async fn attach_unknown_eni(region: &Region) -> Outcome {
    let instance = region.running_in(&region.subnet().await?).await?;
    let outcome = region.attach(&format!("eni-{NOBODY}"), &instance, 1).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

/// An instance with four network cards.
async fn several_cards(region: &Region, subnet: &str) -> Outcome<String> {
    region.running(region.launch().instance_type(InstanceType::P4d24xlarge).subnet_id(subnet)).await
}

async fn attach_to_another_card(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let (instance, eni) = (several_cards(region, &subnet).await?, region.available_in(&subnet).await?);
    let made = region.attach(&eni, &instance, 1).network_card_index(2).send().await?;
    let described = region.eni(&eni).await?;
    let seen = (made.network_card_index(), described.attachment().and_then(|own| own.network_card_index()));
    expect("card in the answer and in describe", seen, (Some(2), Some(2)))
}

async fn attach_index_is_per_card(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let instance = several_cards(region, &subnet).await?;
    for card in [2, 3] {
        let eni = region.available_in(&subnet).await?;
        region.attach(&eni, &instance, 1).network_card_index(card).send().await?;
    }
    expect("ENIs", region.instance(&instance).await?.network_interfaces().len(), 3)
}

async fn attach_to_a_card_that_is_not_there(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let (instance, eni) = (several_cards(region, &subnet).await?, region.available_in(&subnet).await?);
    let outcome = region.attach(&eni, &instance, 1).network_card_index(9).send().await;
    refused(outcome, &["InvalidParameterValue"]).map(drop)
}

async fn detach_takes_time(region: &Region) -> Outcome {
    let pair = detaching(region).await?;
    expect("attachment's status", attachment_status(&region.eni(&pair.eni).await?), "detaching")
}

async fn detach_ends_available(region: &Region) -> Outcome {
    let pair = detaching(region).await?;
    becomes_available(region, &pair.eni).await?;
    expect_that("no attachment", (), region.eni(&pair.eni).await?.attachment().is_none())
}

async fn detach_frees_the_index(region: &Region) -> Outcome {
    let pair = detaching(region).await?;
    becomes_available(region, &pair.eni).await?;
    region.attach(&pair.eni, &pair.instance, 1).send().await?;
    Ok(())
}

async fn detach_primary(region: &Region) -> Outcome {
    let instance = region.instance(&region.running_in(&region.subnet().await?).await?).await?;
    let attachment = instance.network_interfaces().first().and_then(|eni| eni.attachment()?.attachment_id());
    let call = region.ec2.detach_network_interface().attachment_id(there("attachmentId", attachment)?);
    refused(call.send().await, &["OperationNotPermitted"]).map(drop)
}

async fn detach_by_force(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    let attachment = region.attached(&pair.eni, &pair.instance, 1).await?;
    region.ec2.detach_network_interface().attachment_id(attachment).force(true).send().await?;
    becomes_available(region, &pair.eni).await
}

async fn detach_unknown(region: &Region) -> Outcome {
    let call = region.ec2.detach_network_interface().attachment_id(format!("eni-attach-{NOBODY}"));
    refused(call.send().await, &["InvalidAttachmentID.NotFound"]).map(drop)
}

async fn delete_attached(region: &Region) -> Outcome {
    let pair = pair(region).await?;
    region.attached(&pair.eni, &pair.instance, 1).await?;
    let outcome = region.ec2.delete_network_interface().network_interface_id(&pair.eni).send().await;
    refused(outcome, &["InvalidParameterValue", "InvalidNetworkInterface.InUse"]).map(drop)
}

async fn delete_detaching(region: &Region) -> Outcome {
    let pair = detaching(region).await?;
    let outcome = region.ec2.delete_network_interface().network_interface_id(&pair.eni).send().await;
    let message = refused(outcome, &["InvalidParameterValue", "InvalidNetworkInterface.InUse"])?;
    expect_that("a word about use", &message, message.contains("currently in use"))
}
