//! ENIs: made, described, changed, deleted.

use aws_sdk_ec2::{
    operation::modify_network_interface_attribute::builders::ModifyNetworkInterfaceAttributeFluentBuilder,
    types::{
        AttributeBooleanValue, AttributeValue, NetworkInterface, NetworkInterfaceAttachmentChanges,
        PrivateIpAddressSpecification, ResourceType,
    },
};

use crate::{
    checks,
    region::{
        NOBODY, Outcome, Region, addresses, eventually, expect, expect_that, id, is_mac, named, nth, refused,
        secondaries, sorted, status, tag, tagged, there, token,
    },
};

checks!(
    create_answers_pending,
    create_becomes_available,
    create_takes_secondary_addresses,
    create_has_one_primary,
    create_takes_groups_description_tags,
    create_gives_a_mac,
    create_token_creates_once,
    create_token_with_other_arguments,
    create_token_of_a_refused_call_is_free,
    create_with_given_address,
    create_with_listed_addresses,
    create_with_address_in_use,
    create_with_address_outside,
    create_with_reserved_address,
    create_in_unknown_subnet,
    create_with_unknown_group,
    create_dry_run,
    create_in_a_full_subnet,
    create_refused_leaves_nothing,
    create_fills_a_subnet_to_the_last_address,
    describe_filters,
    describe_attachment_filters,
    describe_filter_that_does_not_match,
    describe_unknown_filter,
    describe_unknown,
    describe_pages,
    describe_sweep_finds_what_is_left_over,
    describe_page_size_with_ids,
    describe_has_every_field,
    modify_delete_on_termination,
    modify_source_dest_check,
    modify_groups,
    modify_unknown_group,
    modify_with_wrong_attachment,
    modify_one_attribute_a_call,
    delete_available,
    delete_twice,
);

fn group_ids(eni: &NetworkInterface) -> Vec<&str> {
    eni.groups().iter().filter_map(|group| group.group_id()).collect()
}

async fn create_answers_pending(region: &Region) -> Outcome {
    let made = region.made(region.create(&region.subnet().await?)).await?;
    expect("status", status(&made), "pending")
}

async fn create_becomes_available(region: &Region) -> Outcome {
    region.available_in(&region.subnet().await?).await.map(drop)
}

async fn create_takes_secondary_addresses(region: &Region) -> Outcome {
    let made = region.made(region.create(&region.subnet().await?).secondary_private_ip_address_count(5)).await?;
    let mut different = sorted(addresses(&made));
    different.dedup();
    expect("different addresses", different.len(), 6)
}

async fn create_has_one_primary(region: &Region) -> Outcome {
    let made = region.made(region.create(&region.subnet().await?).secondary_private_ip_address_count(5)).await?;
    let primaries = made.private_ip_addresses().iter().filter(|one| one.primary() == Some(true));
    let primaries: Vec<_> = primaries.map(|one| one.private_ip_address()).collect();
    expect("primary addresses", primaries, [made.private_ip_address()])
}

async fn create_takes_groups_description_tags(region: &Region) -> Outcome {
    let group = region.group(None).await?;
    let tags = tagged(ResourceType::NetworkInterface, &[("k", "v")]);
    let call = region.create(&region.subnet().await?).description("d").groups(&group).tag_specifications(tags);
    let made = region.made(call).await?;
    expect("groups, description", (group_ids(&made), made.description()), (vec![group.as_str()], Some("d")))?;
    expect("tags", made.tag_set(), [tag("k", "v")])
}

async fn create_gives_a_mac(region: &Region) -> Outcome {
    let made = region.made(region.create(&region.subnet().await?)).await?;
    expect_that("a MAC", made.mac_address(), made.mac_address().is_some_and(is_mac))
}

async fn create_token_creates_once(region: &Region) -> Outcome {
    let call = region.create(&region.subnet().await?).client_token(token()).description("x");
    let (first, second) = (region.made(call.clone()).await?, region.made(call).await?);
    expect("ENI", id(&second)?, id(&first)?)
}

async fn create_token_with_other_arguments(region: &Region) -> Outcome {
    let call = region.create(&region.subnet().await?).client_token(token());
    region.made(call.clone().description("x")).await?;
    let outcome = call.description("y").send().await;
    refused(outcome, &["IdempotentParameterMismatch", "InvalidParameterCombination"]).map(drop)
}

async fn create_token_of_a_refused_call_is_free(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let call = region.create(&subnet).client_token(token()).private_ip_address(nth(block, 77));
    let blocker = region.available(region.create(&subnet).private_ip_address(nth(block, 77))).await?;
    refused(call.clone().send().await, &["InvalidIPAddress.InUse"])?;
    region.ec2.delete_network_interface().network_interface_id(blocker).send().await?;
    expect("address", region.made(call).await?.private_ip_address(), Some(nth(block, 77).as_str()))
}

async fn create_with_given_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let made = region.made(region.create(&subnet).private_ip_address(nth(block, 77))).await?;
    expect("address", made.private_ip_address(), Some(nth(block, 77).as_str()))
}

async fn create_with_listed_addresses(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let listed = [10, 20, 30].map(|number| {
        PrivateIpAddressSpecification::builder().private_ip_address(nth(block, number)).primary(number == 20).build()
    });
    let made = region.made(region.create(&subnet).set_private_ip_addresses(Some(listed.to_vec()))).await?;
    expect("primary", made.private_ip_address(), Some(nth(block, 20).as_str()))?;
    expect("secondaries", sorted(secondaries(&made)), [nth(block, 10), nth(block, 30)])
}

async fn create_with_address_in_use(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let call = region.create(&subnet).private_ip_address(nth(block, 77));
    region.made(call.clone()).await?;
    refused(call.send().await, &["InvalidIPAddress.InUse"]).map(drop)
}

async fn create_with_address_outside(region: &Region) -> Outcome {
    let call = region.create(&region.subnet().await?).private_ip_address("10.255.255.77");
    refused(call.send().await, &["InvalidParameterValue"]).map(drop)
}

async fn create_with_reserved_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    for number in [0, 1, 2, 3, -1] {
        let call = region.create(&subnet).private_ip_address(nth(block, number));
        refused(call.send().await, &["InvalidParameterValue"])?;
    }
    Ok(())
}

async fn create_in_unknown_subnet(region: &Region) -> Outcome {
    let outcome = region.create(&format!("subnet-{NOBODY}")).send().await;
    refused(outcome, &["InvalidSubnetID.NotFound"]).map(drop)
}

async fn create_with_unknown_group(region: &Region) -> Outcome {
    let call = region.create(&region.subnet().await?).groups(format!("sg-{NOBODY}"));
    refused(call.send().await, &["InvalidGroup.NotFound"]).map(drop)
}

async fn create_dry_run(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    refused(region.create(&subnet).dry_run(true).send().await, &["DryRunOperation"])?;
    expect("free", region.free(&subnet).await?, 251)
}

/// A /28 with three ENIs in it: eight addresses are free.
async fn nearly_full(region: &Region) -> Outcome<String> {
    let (subnet, _) = region.subnet_and_block(28).await?;
    for _ in 0..3 {
        region.made(region.create(&subnet)).await?;
    }
    Ok(subnet)
}

async fn create_in_a_full_subnet(region: &Region) -> Outcome {
    let subnet = nearly_full(region).await?;
    let outcome = region.create(&subnet).secondary_private_ip_address_count(12).send().await;
    let message = refused(outcome, &["InsufficientFreeAddressesInSubnet"])?;
    expect_that("a word about free addresses", &message, message.contains("free addresses"))
}

async fn create_refused_leaves_nothing(region: &Region) -> Outcome {
    let subnet = nearly_full(region).await?;
    let outcome = region.create(&subnet).secondary_private_ip_address_count(12).send().await;
    refused(outcome, &["InsufficientFreeAddressesInSubnet"])?;
    expect("free", region.free(&subnet).await?, 8)?;
    let left = region.ids(region.describe().filters(named("subnet-id", &[&subnet]))).await?;
    expect("ENIs", left.len(), 3)
}

async fn create_fills_a_subnet_to_the_last_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(28).await?;
    let mut made = Vec::new();
    for _ in 0..11 {
        made.extend(addresses(&region.made(region.create(&subnet)).await?));
    }
    refused(region.create(&subnet).send().await, &["InsufficientFreeAddressesInSubnet"])?;
    expect("addresses", sorted(made), sorted((4..15).map(|number| nth(block, number))))
}

/// An available ENI with something for each filter to find.
async fn described(region: &Region) -> Outcome<(String, String, NetworkInterface)> {
    let subnet = region.subnet().await?;
    let tags = tagged(ResourceType::NetworkInterface, &[("node.k8s.amazonaws.com/instance_id", "i-1")]);
    let call = region.create(&subnet).secondary_private_ip_address_count(1).tag_specifications(tags);
    let made = region.made(call.description(format!("desc-{}", token()))).await?;
    let eni = id(&made)?;
    eventually("the ENI is available", async || Ok(status(&region.eni(&eni).await?) == "available")).await?;
    Ok((eni, subnet, made))
}

async fn finds(region: &Region, eni: &str, name: &str, value: &str) -> Outcome {
    let call = region.describe().filters(named(name, &[value])).filters(named("network-interface-id", &[eni]));
    expect(&format!("filter {name}"), region.ids(call).await?, [eni])
}

async fn describe_filters(region: &Region) -> Outcome {
    let (eni, subnet, made) = described(region).await?;
    let secondary = secondaries(&made);
    for (name, value) in [
        ("status", Some("available")),
        ("tag:node.k8s.amazonaws.com/instance_id", Some("i-1")),
        ("tag-key", Some("node.k8s.amazonaws.com/instance_id")),
        ("description", Some("desc-*")),
        ("mac-address", made.mac_address()),
        ("private-ip-address", made.private_ip_address()),
        ("addresses.private-ip-address", secondary.first().map(String::as_str)),
        ("subnet-id", Some(subnet.as_str())),
        ("vpc-id", Some(region.vpc.as_str())),
        ("group-id", group_ids(&made).first().copied()),
        ("interface-type", Some("interface")),
        ("owner-id", made.owner_id()),
    ] {
        finds(region, &eni, name, there(name, value)?).await?;
    }
    Ok(())
}

async fn describe_attachment_filters(region: &Region) -> Outcome {
    let (eni, subnet, _) = described(region).await?;
    let instance = region.running_in(&subnet).await?;
    let attachment = region.attached(&eni, &instance, 1).await?;
    finds(region, &eni, "attachment.instance-id", &instance).await?;
    finds(region, &eni, "attachment.attachment-id", &attachment).await?;
    finds(region, &eni, "attachment.device-index", "1").await?;
    finds(region, &eni, "attachment.status", "attached").await
}

async fn describe_filter_that_does_not_match(region: &Region) -> Outcome {
    let (eni, _, _) = described(region).await?;
    let call = region.describe().filters(named("network-interface-id", &[&eni])).filters(named("status", &["in-use"]));
    expect("ENIs", region.ids(call).await?, [""; 0])
}

async fn describe_unknown_filter(region: &Region) -> Outcome {
    let outcome = region.describe().filters(named("bogus", &["x"])).send().await;
    refused(outcome, &["InvalidParameterValue"]).map(drop)
}

async fn describe_unknown(region: &Region) -> Outcome {
    let outcome = region.describe().network_interface_ids(format!("eni-{NOBODY}")).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

async fn describe_pages(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let mut made = Vec::new();
    for _ in 0..12 {
        made.push(id(&region.made(region.create(&subnet)).await?)?);
    }
    // The SDK's own way through pages, which the other checks do by hand.
    let call = region.describe().filters(named("subnet-id", &[&subnet])).max_results(5);
    let (mut pages, mut seen, mut answers) = (0, Vec::new(), call.into_paginator().send());
    while let Some(answer) = answers.next().await {
        pages += 1;
        for eni in answer?.network_interfaces() {
            seen.push(id(eni)?);
        }
    }
    expect("pages", pages, 3)?;
    expect("ENIs over all pages", sorted(seen), sorted(made))
}

async fn describe_sweep_finds_what_is_left_over(region: &Region) -> Outcome {
    let (subnet, cluster) = (region.subnet().await?, token());
    let of_cluster = ("cluster.k8s.amazonaws.com/name", cluster.as_str());
    let ours = [("node.k8s.amazonaws.com/instance_id", "i-1"), of_cluster];
    let make = async |description: &str, tags: &[(&str, &str)]| {
        let call = region.create(&subnet).description(description);
        region.available(call.tag_specifications(tagged(ResourceType::NetworkInterface, tags))).await
    };
    let mut wanted = Vec::new();
    for _ in 0..7 {
        wanted.push(make("aws-K8S-i-1", &ours).await?);
    }
    make("somebody else's", &ours).await?;
    make("aws-K8S-i-1", &[of_cluster]).await?;
    let attached = make("aws-K8S-i-1", &ours).await?;
    region.attach(&attached, &region.running_in(&subnet).await?, 1).send().await?;
    let mut call = region.describe().max_results(5);
    for (name, value) in [
        ("tag-key", ours[0].0),
        ("tag:cluster.k8s.amazonaws.com/name", cluster.as_str()),
        ("status", "available"),
        ("vpc-id", region.vpc.as_str()),
        ("description", "aws-K8S-*"),
    ] {
        call = call.filters(named(name, &[value]));
    }
    let (mut seen, mut answers) = (Vec::new(), call.into_paginator().send());
    while let Some(answer) = answers.next().await {
        seen.extend(answer?.network_interfaces().iter().map(id).collect::<Outcome<Vec<_>>>()?);
    }
    expect("ENIs", sorted(seen), sorted(wanted))
}

async fn describe_page_size_with_ids(region: &Region) -> Outcome {
    let eni = id(&region.made(region.create(&region.subnet().await?)).await?)?;
    let outcome = region.describe().network_interface_ids(eni).max_results(5).send().await;
    refused(outcome, &["InvalidParameterCombination"]).map(drop)
}

async fn describe_has_every_field(region: &Region) -> Outcome {
    let (eni, subnet, _) = described(region).await?;
    region.attached(&eni, &region.running_in(&subnet).await?, 1).await?;
    let eni = region.eni(&eni).await?;
    let missing: Vec<_> = [
        ("availabilityZone", eni.availability_zone().is_some()),
        ("description", eni.description().is_some()),
        ("groupSet", !eni.groups().is_empty()),
        ("interfaceType", eni.interface_type().is_some()),
        ("macAddress", eni.mac_address().is_some()),
        ("networkInterfaceId", eni.network_interface_id().is_some()),
        ("ownerId", eni.owner_id().is_some()),
        ("privateIpAddress", eni.private_ip_address().is_some()),
        ("privateIpAddressesSet", !eni.private_ip_addresses().is_empty()),
        ("privateDnsName", eni.private_dns_name().is_some()),
        ("requesterManaged", eni.requester_managed().is_some()),
        ("sourceDestCheck", eni.source_dest_check().is_some()),
        ("status", eni.status().is_some()),
        ("subnetId", eni.subnet_id().is_some()),
        ("tagSet", !eni.tag_set().is_empty()),
        ("vpcId", eni.vpc_id().is_some()),
        ("attachment", eni.attachment().is_some()),
    ]
    .into_iter()
    .filter_map(|(name, there)| (!there).then_some(name))
    .collect();
    expect("missing fields", missing, [""; 0])
}

fn modify(region: &Region, eni: &str) -> ModifyNetworkInterfaceAttributeFluentBuilder {
    region.ec2.modify_network_interface_attribute().network_interface_id(eni)
}

/// Marks an attached ENI to go with its instance.
pub fn mark(region: &Region, eni: &str, attachment: &str) -> ModifyNetworkInterfaceAttributeFluentBuilder {
    let change =
        NetworkInterfaceAttachmentChanges::builder().attachment_id(attachment).delete_on_termination(true).build();
    modify(region, eni).attachment(change)
}

async fn modify_delete_on_termination(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let (eni, instance) = (region.available_in(&subnet).await?, region.running_in(&subnet).await?);
    let attachment = region.attached(&eni, &instance, 1).await?;
    mark(region, &eni, &attachment).send().await?;
    let eni = region.eni(&eni).await?;
    expect("DeleteOnTermination", eni.attachment().and_then(|own| own.delete_on_termination()), Some(true))
}

async fn modify_source_dest_check(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let no = AttributeBooleanValue::builder().value(false).build();
    modify(region, &eni).source_dest_check(no).send().await?;
    expect("SourceDestCheck", region.eni(&eni).await?.source_dest_check(), Some(false))
}

async fn modify_groups(region: &Region) -> Outcome {
    let (eni, group) = (region.available_in(&region.subnet().await?).await?, region.group(None).await?);
    modify(region, &eni).groups(&group).send().await?;
    expect("groups", group_ids(&region.eni(&eni).await?), [group.as_str()])
}

async fn modify_unknown_group(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let outcome = modify(region, &eni).groups(format!("sg-{NOBODY}")).send().await;
    refused(outcome, &["InvalidGroup.NotFound"]).map(drop)
}

async fn modify_with_wrong_attachment(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let outcome = mark(region, &eni, &format!("eni-attach-{NOBODY}")).send().await;
    refused(outcome, &["InvalidAttachmentID.NotFound", "InvalidAttachment.NotFound"]).map(drop)
}

async fn modify_one_attribute_a_call(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let yes = AttributeBooleanValue::builder().value(true).build();
    let words = AttributeValue::builder().value("z").build();
    let outcome = modify(region, &eni).source_dest_check(yes).description(words).send().await;
    refused(outcome, &["InvalidParameterCombination"]).map(drop)
}

async fn delete_available(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    region.ec2.delete_network_interface().network_interface_id(&eni).send().await?;
    let outcome = region.describe().network_interface_ids(&eni).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

async fn delete_twice(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet().await?).await?;
    let call = region.ec2.delete_network_interface().network_interface_id(&eni);
    call.clone().send().await?;
    refused(call.send().await, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}
