//! VPCs, subnets, security groups, tags.

use aws_sdk_ec2::types::ResourceType;
use aws_smithy_types::body::SdkBody;

use crate::{
    checks,
    region::{
        NOBODY, Outcome, REGION, Region, eventually, expect, expect_that, id, named, nth, refused, secondaries, sorted,
        tag, tagged, there, token,
    },
};

checks!(
    subnet_filters_combine,
    subnet_tag_key_filter_takes_wildcards,
    subnet_unknown,
    subnet_new_has_all_but_five_addresses,
    subnet_free_count_falls_by_every_address,
    subnet_free_count_comes_back_with_a_delete,
    subnet_pages,
    subnet_overlap_refused,
    subnet_outside_vpc_refused,
    vpc_shows_its_blocks,
    subnet_in_a_second_block,
    vpc_unknown,
    same_block_in_two_vpcs_is_two_worlds,
    group_filters,
    group_unknown,
    group_name_taken,
    vpc_comes_with_a_default_group,
    tags_set,
    tags_removed,
    tags_of_unknown_eni,
    unknown_action,
);

async fn subnet_filters_combine(region: &Region) -> Outcome {
    let value = token();
    let tags = tagged(ResourceType::Subnet, &[("kubernetes.io/role/cni", &value)]);
    let (subnet, _) = region.subnet_with(24, "a", Some(tags)).await?;
    let found = region
        .ec2
        .describe_subnets()
        .filters(named("vpc-id", &[&region.vpc]))
        .filters(named("tag:kubernetes.io/role/cni", &[&value]))
        .filters(named("availability-zone", &[&format!("{REGION}a")]))
        .send()
        .await?;
    let found: Vec<_> = found.subnets().iter().filter_map(|subnet| subnet.subnet_id()).collect();
    expect("subnets", found, [subnet])
}

async fn subnet_tag_key_filter_takes_wildcards(region: &Region) -> Outcome {
    let key = token();
    let tags = tagged(ResourceType::Subnet, &[(&format!("{key}/role/cni"), "1")]);
    let (subnet, _) = region.subnet_with(24, "a", Some(tags)).await?;
    let found = region.ec2.describe_subnets().filters(named("tag-key", &[&format!("{key}/*")])).send().await?;
    let found: Vec<_> = found.subnets().iter().filter_map(|subnet| subnet.subnet_id()).collect();
    expect("subnets", found, [subnet])
}

async fn subnet_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.describe_subnets().subnet_ids(format!("subnet-{NOBODY}")).send().await;
    refused(outcome, &["InvalidSubnetID.NotFound"]).map(drop)
}

async fn subnet_new_has_all_but_five_addresses(region: &Region) -> Outcome {
    expect("free in a /24", region.free(&region.subnet().await?).await?, 251)?;
    expect("free in a /28", region.free(&region.subnet_and_block(28).await?.0).await?, 11)
}

async fn subnet_free_count_falls_by_every_address(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let before = region.free(&subnet).await?;
    region.made(region.create(&subnet).secondary_private_ip_address_count(4)).await?;
    expect("free after 1 + 4 addresses", region.free(&subnet).await?, before - 5)
}

async fn subnet_free_count_comes_back_with_a_delete(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let before = region.free(&subnet).await?;
    let eni = region.available(region.create(&subnet).secondary_private_ip_address_count(4)).await?;
    region.ec2.delete_network_interface().network_interface_id(&eni).send().await?;
    eventually("all addresses are free", async || Ok(region.free(&subnet).await? == before)).await
}

async fn subnet_pages(region: &Region) -> Outcome {
    let mut made = Vec::new();
    for _ in 0..6 {
        made.push(region.subnet_and_block(28).await?.0);
    }
    let ours = aws_sdk_ec2::types::Filter::builder().name("subnet-id").set_values(Some(made.clone())).build();
    let (mut seen, mut page) = (Vec::new(), None);
    loop {
        let call = region.ec2.describe_subnets().max_results(5).filters(ours.clone()).set_next_token(page);
        let answer = call.send().await?;
        expect_that("at most 5 on a page", answer.subnets().len(), answer.subnets().len() <= 5)?;
        seen.extend(answer.subnets().iter().filter_map(|subnet| subnet.subnet_id().map(str::to_owned)));
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            break;
        }
    }
    expect("subnets over all pages", sorted(seen), sorted(made))
}

async fn subnet_overlap_refused(region: &Region) -> Outcome {
    let (_, block) = region.subnet_and_block(24).await?;
    let outcome = region.ec2.create_subnet().vpc_id(&region.vpc).cidr_block(block.to_string()).send().await;
    refused(outcome, &["InvalidSubnet.Conflict"]).map(drop)
}

async fn subnet_outside_vpc_refused(region: &Region) -> Outcome {
    let outcome = region.ec2.create_subnet().vpc_id(&region.vpc).cidr_block("172.16.0.0/24").send().await;
    refused(outcome, &["InvalidSubnet.Range"]).map(drop)
}

async fn vpc(region: &Region, block: &str) -> Outcome<String> {
    let made = region.ec2.create_vpc().cidr_block(block).send().await?;
    there("vpcId", made.vpc().and_then(|vpc| vpc.vpc_id()).map(str::to_owned))
}

async fn vpc_shows_its_blocks(region: &Region) -> Outcome {
    let vpc = vpc(region, "10.1.0.0/16").await?;
    region.ec2.associate_vpc_cidr_block().vpc_id(&vpc).cidr_block("100.64.0.0/16").send().await?;
    eventually("both blocks are associated", async || {
        let answer = region.ec2.describe_vpcs().vpc_ids(&vpc).send().await?;
        let found = there("vpc", answer.vpcs().first())?;
        let associated = found.cidr_block_association_set().iter().filter(|one| {
            one.cidr_block_state().and_then(|state| state.state()).is_some_and(|state| state.as_str() == "associated")
        });
        Ok(sorted(associated.filter_map(|one| one.cidr_block())) == ["10.1.0.0/16", "100.64.0.0/16"])
    })
    .await
}

async fn subnet_in_a_second_block(region: &Region) -> Outcome {
    let vpc = vpc(region, "10.2.0.0/16").await?;
    region.ec2.associate_vpc_cidr_block().vpc_id(&vpc).cidr_block("100.64.0.0/16").send().await?;
    let made = region.ec2.create_subnet().vpc_id(&vpc).cidr_block("100.64.0.0/24").send().await?;
    expect("block", made.subnet().and_then(|subnet| subnet.cidr_block()), Some("100.64.0.0/24"))
}

async fn vpc_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.describe_vpcs().vpc_ids(format!("vpc-{NOBODY}")).send().await;
    refused(outcome, &["InvalidVpcID.NotFound"]).map(drop)
}

async fn same_block_in_two_vpcs_is_two_worlds(region: &Region) -> Outcome {
    let block = "10.3.0.0/24".parse().expect("a block");
    let mut taken = Vec::new();
    for _ in 0..2 {
        let vpc = vpc(region, "10.3.0.0/16").await?;
        let made = region.ec2.create_subnet().vpc_id(&vpc).cidr_block("10.3.0.0/24").send().await?;
        let subnet = there("subnetId", made.subnet().and_then(|subnet| subnet.subnet_id()))?.to_owned();
        taken.push(id(&region.made(region.create(&subnet).private_ip_address(nth(block, 77))).await?)?);
    }
    for eni in &taken {
        region.assigned(region.assign(eni).private_ip_addresses(nth(block, 78))).await?;
    }
    for eni in &taken {
        expect("secondary", secondaries(&region.eni(eni).await?), [nth(block, 78)])?;
    }
    Ok(())
}

async fn group_filters(region: &Region) -> Outcome {
    let value = token();
    let group = region.group(Some(tagged(ResourceType::SecurityGroup, &[("role", &value)]))).await?;
    let call = region.ec2.describe_security_groups().filters(named("vpc-id", &[&region.vpc]));
    let found = call.filters(named("tag:role", &[&value])).send().await?;
    let found: Vec<_> = found.security_groups().iter().filter_map(|group| group.group_id()).collect();
    expect("groups", found, [group])
}

async fn group_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.describe_security_groups().group_ids(format!("sg-{NOBODY}")).send().await;
    refused(outcome, &["InvalidGroup.NotFound"]).map(drop)
}

async fn group_name_taken(region: &Region) -> Outcome {
    let call = region.ec2.create_security_group().group_name(token()).description("For a check").vpc_id(&region.vpc);
    call.clone().send().await?;
    refused(call.send().await, &["InvalidGroup.Duplicate"]).map(drop)
}

async fn vpc_comes_with_a_default_group(region: &Region) -> Outcome {
    let call = region.ec2.describe_security_groups().filters(named("vpc-id", &[&region.vpc]));
    let found = call.filters(named("group-name", &["default"])).send().await?;
    expect("default groups", found.security_groups().len(), 1)
}

async fn tags_set(region: &Region) -> Outcome {
    let eni = id(&region.made(region.create(&region.subnet().await?)).await?)?;
    region.ec2.create_tags().resources(&eni).tags(tag("a", "b")).send().await?;
    expect("tags", region.eni(&eni).await?.tag_set(), [tag("a", "b")])
}

async fn tags_removed(region: &Region) -> Outcome {
    let tags = tagged(ResourceType::NetworkInterface, &[("a", "b"), ("c", "d")]);
    let eni = id(&region.made(region.create(&region.subnet().await?).tag_specifications(tags)).await?)?;
    let only_the_key = aws_sdk_ec2::types::Tag::builder().key("a").build();
    region.ec2.delete_tags().resources(&eni).tags(only_the_key).send().await?;
    expect("tags", region.eni(&eni).await?.tag_set(), [tag("c", "d")])
}

async fn tags_of_unknown_eni(region: &Region) -> Outcome {
    let outcome = region.ec2.create_tags().resources(format!("eni-{NOBODY}")).tags(tag("a", "b")).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

async fn unknown_action(region: &Region) -> Outcome {
    // The SDK knows every action: one gets another name, just as long.
    let call = region.ec2.describe_dhcp_options().customize().mutate_request(|request| {
        let body = request.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
        let renamed = body.replace("=DescribeDhcpOptions&", "=DescribeNobodysDhcp&");
        *request.body_mut() = SdkBody::from(renamed);
    });
    refused(call.send().await, &["InvalidAction"]).map(drop)
}
