//! Instances: launching, describing, terminating; instance types.

use std::env;

use aws_sdk_ec2::{
    operation::describe_instances::DescribeInstancesOutput,
    types::{
        IamInstanceProfileSpecification, InstanceNetworkInterface, InstanceNetworkInterfaceSpecification, InstanceType,
        InstanceTypeInfo, ResourceType,
    },
};
use ipnet::Ipv4Net;

use crate::{
    checks,
    region::{
        NOBODY, Outcome, Region, eventually, expect, expect_that, is_mac, named, nth, refused, sorted, status, tag,
        tagged, there, token,
    },
};

checks!(
    launch_answers_pending,
    launch_runs_in_the_end,
    launch_takes_secondary_addresses,
    launch_takes_groups,
    launch_gives_a_mac,
    launch_primary_goes_with_the_instance,
    launch_primary_is_device_0_of_card_0,
    launch_avoids_reserved_addresses,
    launch_shows_its_profile,
    launch_tags_its_eni,
    launch_token_launches_once,
    launch_token_with_other_arguments,
    launch_takes_two_interfaces,
    launch_of_unknown_type,
    launch_into_a_full_subnet_leaves_nothing,
    instance_unknown,
    instance_filters,
    instance_filter_by_eni,
    instance_filter_by_id_leaves_out_what_is_not_there,
    instance_lists_its_enis,
    instance_pages,
    type_limits,
    type_hypervisor_and_cards,
    type_with_several_cards,
    type_recent_ones_known,
    type_unknown,
    type_pages,
    terminate_answers_shutting_down,
    terminate_deletes_the_primary,
    terminate_deletes_what_is_marked,
    terminate_leaves_what_is_not_marked,
    terminate_gives_addresses_back,
    terminate_unknown,
);

async fn launch_answers_pending(region: &Region) -> Outcome {
    let made = region.launched(region.launch().subnet_id(region.subnet().await?)).await?;
    expect("state", made.state().and_then(|state| state.name()).map(|name| name.as_str()), Some("pending"))
}

async fn launch_runs_in_the_end(region: &Region) -> Outcome {
    region.running_in(&region.subnet().await?).await.map(drop)
}

type Interface = aws_sdk_ec2::types::builders::InstanceNetworkInterfaceSpecificationBuilder;

/// The first interface of an instance that was launched with it, as described.
async fn primary(
    region: &Region,
    more: impl FnOnce(Interface) -> Interface,
) -> Outcome<(InstanceNetworkInterface, Ipv4Net)> {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let first = more(InstanceNetworkInterfaceSpecification::builder().device_index(0).subnet_id(subnet)).build();
    let instance = region.running(region.launch().network_interfaces(first)).await?;
    let instance = region.instance(&instance).await?;
    Ok((there("networkInterface", instance.network_interfaces().first().cloned())?, block))
}

fn addresses(eni: &InstanceNetworkInterface) -> Vec<&str> {
    sorted(eni.private_ip_addresses().iter().filter_map(|one| one.private_ip_address()))
}

async fn launch_takes_secondary_addresses(region: &Region) -> Outcome {
    let (eni, _) = primary(region, |first| first.secondary_private_ip_address_count(3)).await?;
    let mut different = addresses(&eni);
    different.dedup();
    expect("addresses", different.len(), 4)
}

async fn launch_takes_groups(region: &Region) -> Outcome {
    let group = region.group(None).await?;
    let (eni, _) = primary(region, |first| first.groups(&group)).await?;
    expect("groups", eni.groups().iter().filter_map(|group| group.group_id()).collect::<Vec<_>>(), [group.as_str()])
}

async fn launch_gives_a_mac(region: &Region) -> Outcome {
    let (eni, _) = primary(region, |first| first).await?;
    expect_that("a MAC", eni.mac_address(), eni.mac_address().is_some_and(is_mac))
}

async fn launch_primary_goes_with_the_instance(region: &Region) -> Outcome {
    let (eni, _) = primary(region, |first| first).await?;
    expect("DeleteOnTermination", eni.attachment().and_then(|own| own.delete_on_termination()), Some(true))
}

async fn launch_primary_is_device_0_of_card_0(region: &Region) -> Outcome {
    let (eni, _) = primary(region, |first| first).await?;
    let own = there("attachment", eni.attachment())?;
    let place = (own.device_index(), own.network_card_index(), own.status().map(|status| status.as_str()));
    expect("place", place, (Some(0), Some(0), Some("attached")))
}

async fn launch_avoids_reserved_addresses(region: &Region) -> Outcome {
    let (eni, block) = primary(region, |first| first.secondary_private_ip_address_count(9)).await?;
    let reserved = [0, 1, 2, 3, -1].map(|number| nth(block, number));
    let wrong: Vec<_> =
        addresses(&eni).into_iter().filter(|address| reserved.iter().any(|one| one == address)).collect();
    expect("reserved addresses in use", wrong, [""; 0])
}

async fn launch_shows_its_profile(region: &Region) -> Outcome {
    // Where IAM is served, EC2 looks for it: whoever starts this program makes one there.
    let arn = env::var("BERTH_EC2_PROFILE");
    let arn = arn.unwrap_or_else(|_| "arn:aws:iam::123456789012:instance-profile/node".to_owned());
    let profile = IamInstanceProfileSpecification::builder().arn(&arn).build();
    let call = region.launch().subnet_id(region.subnet().await?).iam_instance_profile(profile);
    let instance = region.instance(&region.running(call).await?).await?;
    expect("profile", instance.iam_instance_profile().and_then(|profile| profile.arn()), Some(arn.as_str()))
}

async fn launch_tags_its_eni(region: &Region) -> Outcome {
    let tags = [("cluster", "c1")];
    let call = region
        .launch()
        .subnet_id(region.subnet().await?)
        .tag_specifications(tagged(ResourceType::Instance, &tags))
        .tag_specifications(tagged(ResourceType::NetworkInterface, &tags));
    let instance = region.instance(&region.running(call).await?).await?;
    let eni = instance.network_interfaces().first().and_then(|eni| eni.network_interface_id());
    let eni = region.eni(there("networkInterfaceId", eni)?).await?;
    expect("tags of the instance", instance.tags(), [tag("cluster", "c1")])?;
    expect("tags of the ENI", eni.tag_set(), [tag("cluster", "c1")])
}

async fn launch_token_launches_once(region: &Region) -> Outcome {
    let call = region.launch().subnet_id(region.subnet().await?).client_token(token());
    let (first, second) = (region.launched(call.clone()).await?, region.launched(call).await?);
    expect("instance", second.instance_id(), first.instance_id())
}

async fn launch_token_with_other_arguments(region: &Region) -> Outcome {
    let call = region.launch().subnet_id(region.subnet().await?).client_token(token());
    region.launched(call.clone()).await?;
    let outcome = call.instance_type(InstanceType::M5Xlarge).send().await;
    refused(outcome, &["IdempotentParameterMismatch"]).map(drop)
}

async fn launch_takes_two_interfaces(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let [first, second] = [0, 1]
        .map(|index| InstanceNetworkInterfaceSpecification::builder().device_index(index).subnet_id(&subnet).build());
    let instance = region.running(region.launch().network_interfaces(first).network_interfaces(second)).await?;
    let instance = region.instance(&instance).await?;
    let enis = instance.network_interfaces().iter();
    expect("device indexes", sorted(enis.filter_map(|eni| eni.attachment()?.device_index())), [0, 1])
}

async fn launch_of_unknown_type(region: &Region) -> Outcome {
    let call = region.launch().subnet_id(region.subnet().await?).instance_type(InstanceType::from("m99.bogus"));
    refused(call.send().await, &["InvalidParameterValue", "InvalidInstanceType"]).map(drop)
}

async fn launch_into_a_full_subnet_leaves_nothing(region: &Region) -> Outcome {
    let (subnet, _) = region.subnet_and_block(28).await?;
    let first = InstanceNetworkInterfaceSpecification::builder().device_index(0).subnet_id(&subnet);
    let first = first.secondary_private_ip_address_count(9).build();
    let call = region.launch().instance_type(InstanceType::M54xlarge).network_interfaces(first);
    region.launched(call.clone()).await?;
    refused(call.send().await, &["InsufficientFreeAddressesInSubnet"])?;
    expect("free", region.free(&subnet).await?, 1)
}

async fn instance_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.describe_instances().instance_ids(format!("i-{NOBODY}")).send().await;
    refused(outcome, &["InvalidInstanceID.NotFound"]).map(drop)
}

fn found(answer: &DescribeInstancesOutput) -> Vec<String> {
    let instances = answer.reservations().iter().flat_map(|one| one.instances());
    instances.filter_map(|one| one.instance_id().map(str::to_owned)).collect()
}

async fn instance_filters(region: &Region) -> Outcome {
    let made = region.launched(region.launch().subnet_id(region.subnet().await?)).await?;
    let id = there("instanceId", made.instance_id())?;
    let call = region.ec2.describe_instances().filters(named("instance-id", &[id]));
    let answer = call.filters(named("instance-state-name", &["running", "pending"])).send().await?;
    expect("instances", found(&answer), [id])
}

async fn instance_filter_by_eni(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let (instance, eni) = (region.running_in(&subnet).await?, region.available_in(&subnet).await?);
    region.attach(&eni, &instance, 1).send().await?;
    let by_eni = named("network-interface.network-interface-id", &[&eni]);
    let answer = region.ec2.describe_instances().filters(by_eni).send().await?;
    expect("instances", found(&answer), [instance])
}

async fn instance_filter_by_id_leaves_out_what_is_not_there(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let (over, up) = (region.running_in(&subnet).await?, region.running_in(&subnet).await?);
    region.ec2.terminate_instances().instance_ids(&over).send().await?;
    let ids = named("instance-id", &[&over, &up, &format!("i-{NOBODY}")]);
    let answer = region.ec2.describe_instances().filters(ids.clone()).send().await?;
    expect("instances", sorted(found(&answer)), sorted([over, up.clone()]))?;
    let states = named("instance-state-name", &["pending", "running"]);
    let answer = region.ec2.describe_instances().filters(ids).filters(states).send().await?;
    expect("those that are not ending", found(&answer), [up])
}

async fn instance_lists_its_enis(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let instance = region.running_in(&subnet).await?;
    let eni = region.available(region.create(&subnet).secondary_private_ip_address_count(2)).await?;
    region.attach(&eni, &instance, 1).send().await?;
    let instance = region.instance(&instance).await?;
    let listed = instance.network_interfaces().iter().find(|one| one.network_interface_id() == Some(eni.as_str()));
    expect("addresses of the second ENI", addresses(there("second ENI", listed)?).len(), 3)
}

async fn instance_pages(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let mut launched = Vec::new();
    for _ in 0..7 {
        let made = region.launched(region.launch().subnet_id(&subnet)).await?;
        launched.push(there("instanceId", made.instance_id().map(str::to_owned))?);
    }
    let (mut seen, mut page) = (Vec::new(), None);
    loop {
        let call =
            region.ec2.describe_instances().max_results(5).filters(named("subnet-id", &[&subnet])).set_next_token(page);
        let answer = call.send().await?;
        let on_page = found(&answer);
        expect_that("at most 5 on a page", &on_page, on_page.len() <= 5)?;
        seen.extend(on_page);
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            break;
        }
    }
    expect("instances over all pages", sorted(seen), sorted(launched))
}

async fn instance_type(region: &Region, name: InstanceType) -> Outcome<InstanceTypeInfo> {
    let answer = region.ec2.describe_instance_types().instance_types(name).send().await?;
    there("instance type", answer.instance_types().first().cloned())
}

async fn type_limits(region: &Region) -> Outcome {
    let found = instance_type(region, InstanceType::M5Large).await?;
    let network = there("networkInfo", found.network_info())?;
    let limits = (network.maximum_network_interfaces(), network.ipv4_addresses_per_interface());
    expect("ENIs and addresses", limits, (Some(3), Some(10)))
}

async fn type_hypervisor_and_cards(region: &Region) -> Outcome {
    let found = instance_type(region, InstanceType::M5Large).await?;
    let cards = there("networkInfo", found.network_info())?.network_cards().len();
    let hypervisor = found.hypervisor().map(|hypervisor| hypervisor.as_str());
    expect("hypervisor, cards", (hypervisor, cards), (Some("nitro"), 1))
}

async fn type_with_several_cards(region: &Region) -> Outcome {
    let found = instance_type(region, InstanceType::P4d24xlarge).await?;
    let cards = there("networkInfo", found.network_info())?.network_cards().iter();
    expect("cards", cards.filter_map(|card| card.maximum_network_interfaces()).collect::<Vec<_>>(), [15, 15, 15, 15])
}

async fn type_recent_ones_known(region: &Region) -> Outcome {
    let names = ["m7i.large", "m8g.large", "c8gn.large", "i7ie.large", "m8i.large", "r8i.large", "p6-b200.48xlarge"];
    let types = names.iter().map(|name| InstanceType::from(*name)).collect();
    let answer = region.ec2.describe_instance_types().set_instance_types(Some(types)).send().await?;
    let found = answer.instance_types().iter().filter_map(|one| one.instance_type().map(|name| name.as_str()));
    expect("types", sorted(found), sorted(names))
}

async fn type_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.describe_instance_types().instance_types(InstanceType::from("m99.bogus")).send().await;
    refused(outcome, &["InvalidInstanceType"]).map(drop)
}

async fn type_pages(region: &Region) -> Outcome {
    let first = region.ec2.describe_instance_types().max_results(5).send().await?;
    let next = there("nextToken", first.next_token())?;
    let second = region.ec2.describe_instance_types().max_results(5).next_token(next).send().await?;
    let both = first.instance_types().iter().chain(second.instance_types());
    let mut names = sorted(both.filter_map(|one| one.instance_type().map(|name| name.as_str())));
    names.dedup();
    expect("different types on two pages", names.len(), 10)
}

/// What is left of an instance with two ENIs besides its own, the first of them marked.
struct Terminated {
    subnet: String,
    primary: String,
    marked: String,
    unmarked: String,
    answered: String,
}

async fn terminated(region: &Region) -> Outcome<Terminated> {
    let subnet = region.subnet().await?;
    let instance = region.running_in(&subnet).await?;
    let mut enis = Vec::new();
    for index in [1, 2] {
        let eni = region.available(region.create(&subnet).secondary_private_ip_address_count(2)).await?;
        let attachment = region.attached(&eni, &instance, index).await?;
        enis.push((eni, attachment));
    }
    let [(marked, attachment), (unmarked, _)] = <[_; 2]>::try_from(enis).expect("two were made");
    crate::interfaces::mark(region, &marked, &attachment).send().await?;
    let before = region.instance(&instance).await?;
    let primary = before
        .network_interfaces()
        .iter()
        .find(|eni| eni.attachment().and_then(|attachment| attachment.device_index()) == Some(0));
    let primary = there("primary ENI", primary.and_then(|eni| eni.network_interface_id()))?.to_owned();
    let answer = region.ec2.terminate_instances().instance_ids(&instance).send().await?;
    let state = answer.terminating_instances().first().and_then(|one| one.current_state()?.name().cloned());
    let answered = there("currentState", state)?.as_str().to_owned();
    eventually("the instance is over", async || Ok(region.state(&instance).await? == "terminated")).await?;
    Ok(Terminated { subnet, primary, marked, unmarked, answered })
}

async fn gone(region: &Region, eni: &str) -> Outcome {
    let outcome = region.describe().network_interface_ids(eni).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

async fn terminate_answers_shutting_down(region: &Region) -> Outcome {
    expect("state", terminated(region).await?.answered, "shutting-down")
}

async fn terminate_deletes_the_primary(region: &Region) -> Outcome {
    gone(region, &terminated(region).await?.primary).await
}

async fn terminate_deletes_what_is_marked(region: &Region) -> Outcome {
    gone(region, &terminated(region).await?.marked).await
}

async fn terminate_leaves_what_is_not_marked(region: &Region) -> Outcome {
    let eni = region.eni(&terminated(region).await?.unmarked).await?;
    expect("status, attachment", (status(&eni).as_str(), eni.attachment().is_none()), ("available", true))
}

async fn terminate_gives_addresses_back(region: &Region) -> Outcome {
    let left = terminated(region).await?;
    expect("free with one ENI of 3 addresses left", region.free(&left.subnet).await?, 251 - 3)
}

async fn terminate_unknown(region: &Region) -> Outcome {
    let outcome = region.ec2.terminate_instances().instance_ids(format!("i-{NOBODY}")).send().await;
    refused(outcome, &["InvalidInstanceID.NotFound"]).map(drop)
}
