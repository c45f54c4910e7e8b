//! Assigning and unassigning secondary addresses.

use aws_sdk_ec2::operation::unassign_private_ip_addresses::builders::UnassignPrivateIpAddressesFluentBuilder;
use tokio::task::JoinSet;

use crate::{
    checks,
    region::{
        Mismatch, NOBODY, Outcome, Region, addresses, expect, expect_that, nth, refused, secondaries, sorted, there,
    },
};

checks!(
    assign_count_answers_only_the_new,
    assign_is_visible_at_once,
    assign_twice_is_twice_the_addresses,
    assign_given_address,
    assign_address_of_another,
    assign_moves_with_reassignment,
    assign_never_moves_a_primary,
    assign_address_outside,
    assign_reserved_address,
    assign_nothing,
    assign_count_and_addresses,
    assign_to_unknown,
    assign_beyond_the_types_addresses,
    assign_beyond_the_limit_assigns_nothing,
    assign_in_a_full_subnet,
    assign_in_a_full_subnet_assigns_nothing,
    assign_list_with_one_in_use_assigns_nothing,
    assign_takes_the_last_address,
    assign_from_many_at_once_is_unique,
    unassign_takes_what_is_named,
    unassign_frees_in_the_subnet,
    unassign_what_is_not_there,
    unassign_list_with_one_foreign_unassigns_nothing,
    unassign_primary,
    unassign_from_unknown,
);

async fn fresh(region: &Region) -> Outcome<String> {
    region.available_in(&region.subnet().await?).await
}

async fn add(region: &Region, eni: &str, count: i32) -> Outcome<Vec<String>> {
    region.assigned(region.assign(eni).secondary_private_ip_address_count(count)).await
}

fn unassign(region: &Region, eni: &str, addresses: &[String]) -> UnassignPrivateIpAddressesFluentBuilder {
    let call = region.ec2.unassign_private_ip_addresses().network_interface_id(eni);
    call.set_private_ip_addresses(Some(addresses.to_vec()))
}

async fn assign_count_answers_only_the_new(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    add(region, &eni, 2).await?;
    expect("addresses in the second answer", add(region, &eni, 4).await?.len(), 4)
}

async fn assign_is_visible_at_once(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let new = add(region, &eni, 4).await?;
    expect("secondaries", sorted(secondaries(&region.eni(&eni).await?)), sorted(new))
}

async fn assign_twice_is_twice_the_addresses(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    add(region, &eni, 3).await?;
    add(region, &eni, 3).await?;
    let mut different = sorted(secondaries(&region.eni(&eni).await?));
    different.dedup();
    expect("secondaries", different.len(), 6)
}

async fn assign_given_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let new = region.assigned(region.assign(&eni).private_ip_addresses(nth(block, 200))).await?;
    expect("answer", new, [nth(block, 200)])
}

/// Two ENIs in a subnet, the first with an address that the second does not have.
struct Rivals {
    holder: String,
    other: String,
    address: String,
}

async fn rivals(region: &Region) -> Outcome<Rivals> {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let (holder, other) = (region.available_in(&subnet).await?, region.available_in(&subnet).await?);
    region.assigned(region.assign(&holder).private_ip_addresses(nth(block, 200))).await?;
    Ok(Rivals { holder, other, address: nth(block, 200) })
}

async fn assign_address_of_another(region: &Region) -> Outcome {
    let rivals = rivals(region).await?;
    let outcome = region.assign(&rivals.other).private_ip_addresses(rivals.address).send().await;
    refused(outcome, &["InvalidParameterValue", "InvalidIPAddress.InUse", "PrivateIpAddress.InUse"]).map(drop)
}

async fn assign_moves_with_reassignment(region: &Region) -> Outcome {
    let rivals = rivals(region).await?;
    let call = region.assign(&rivals.other).private_ip_addresses(&rivals.address).allow_reassignment(true);
    region.assigned(call).await?;
    expect("secondaries of the one", secondaries(&region.eni(&rivals.holder).await?), [""; 0])?;
    expect("secondaries of the other", secondaries(&region.eni(&rivals.other).await?), [rivals.address])
}

async fn assign_never_moves_a_primary(region: &Region) -> Outcome {
    let rivals = rivals(region).await?;
    let holder = region.eni(&rivals.holder).await?;
    let primary = there("privateIpAddress", holder.private_ip_address())?;
    let outcome = region.assign(&rivals.other).private_ip_addresses(primary).allow_reassignment(true).send().await;
    refused(outcome, &["InvalidParameterValue", "InvalidIPAddress.InUse"]).map(drop)
}

async fn assign_address_outside(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let outcome = region.assign(&eni).private_ip_addresses("10.255.255.5").send().await;
    refused(outcome, &["InvalidParameterValue"]).map(drop)
}

async fn assign_reserved_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    for number in [0, 1, 2, 3, -1] {
        let outcome = region.assign(&eni).private_ip_addresses(nth(block, number)).send().await;
        refused(outcome, &["InvalidParameterValue"])?;
    }
    Ok(())
}

async fn assign_nothing(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let outcome = region.assign(&eni).send().await;
    refused(outcome, &["MissingParameter", "InvalidParameterCombination", "InvalidParameterValue"]).map(drop)
}

async fn assign_count_and_addresses(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let call = region.assign(&eni).secondary_private_ip_address_count(1).private_ip_addresses(nth(block, 201));
    refused(call.send().await, &["InvalidParameterCombination", "InvalidParameterValue"]).map(drop)
}

async fn assign_to_unknown(region: &Region) -> Outcome {
    let outcome = region.assign(&format!("eni-{NOBODY}")).secondary_private_ip_address_count(1).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}

async fn on_an_instance(region: &Region) -> Outcome<String> {
    let subnet = region.subnet().await?;
    let (eni, instance) = (region.available_in(&subnet).await?, region.running_in(&subnet).await?);
    region.attach(&eni, &instance, 1).send().await?;
    Ok(eni)
}

async fn assign_beyond_the_types_addresses(region: &Region) -> Outcome {
    let eni = on_an_instance(region).await?;
    add(region, &eni, 9).await?;
    let outcome = region.assign(&eni).secondary_private_ip_address_count(1).send().await;
    let message = refused(outcome, &["PrivateIpAddressLimitExceeded"])?;
    expect("message", message, "Number of private addresses will exceed limit.")
}

async fn assign_beyond_the_limit_assigns_nothing(region: &Region) -> Outcome {
    let eni = on_an_instance(region).await?;
    let outcome = region.assign(&eni).secondary_private_ip_address_count(10).send().await;
    refused(outcome, &["PrivateIpAddressLimitExceeded"])?;
    expect("addresses", addresses(&region.eni(&eni).await?).len(), 1)
}

async fn assign_in_a_full_subnet(region: &Region) -> Outcome {
    let eni = region.available_in(&region.subnet_and_block(28).await?.0).await?;
    let outcome = region.assign(&eni).secondary_private_ip_address_count(11).send().await;
    let message = refused(outcome, &["InsufficientFreeAddressesInSubnet"])?;
    expect_that("a word about free addresses", &message, message.contains("free addresses"))
}

async fn assign_in_a_full_subnet_assigns_nothing(region: &Region) -> Outcome {
    let (subnet, _) = region.subnet_and_block(28).await?;
    let eni = region.available_in(&subnet).await?;
    let outcome = region.assign(&eni).secondary_private_ip_address_count(11).send().await;
    refused(outcome, &["InsufficientFreeAddressesInSubnet"])?;
    let seen = (region.free(&subnet).await?, addresses(&region.eni(&eni).await?).len());
    expect("free, addresses", seen, (10, 1))
}

async fn assign_list_with_one_in_use_assigns_nothing(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    region.made(region.create(&subnet).private_ip_address(nth(block, 50))).await?;
    let call = region.assign(&eni).private_ip_addresses(nth(block, 49)).private_ip_addresses(nth(block, 50));
    refused(call.send().await, &["InvalidParameterValue", "InvalidIPAddress.InUse"])?;
    expect("secondaries", secondaries(&region.eni(&eni).await?), [""; 0])
}

async fn assign_takes_the_last_address(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(28).await?;
    let eni = region.available_in(&subnet).await?;
    add(region, &eni, 10).await?;
    expect("free", region.free(&subnet).await?, 0)?;
    let all = sorted((4..15).map(|number| nth(block, number)));
    expect("addresses", sorted(addresses(&region.eni(&eni).await?)), all)
}

async fn assign_from_many_at_once_is_unique(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let eni = region.available_in(&subnet).await?;
        for _ in 0..5 {
            let (region, eni) = (region.clone(), eni.clone());
            calls.spawn(async move { add(&region, &eni, 2).await });
        }
    }
    let mut new = Vec::new();
    while let Some(answer) = calls.join_next().await {
        new.extend(answer.map_err(|panic| Mismatch(panic.to_string()))??);
    }
    let mut different = sorted(new.clone());
    different.dedup();
    expect("addresses, different ones", (new.len(), different.len()), (50, 50))
}

async fn unassign_takes_what_is_named(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let new = add(region, &eni, 4).await?;
    unassign(region, &eni, &new[..2]).send().await?;
    expect("secondaries", sorted(secondaries(&region.eni(&eni).await?)), sorted(new[2..].to_vec()))
}

async fn unassign_frees_in_the_subnet(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let eni = region.available_in(&subnet).await?;
    let new = add(region, &eni, 4).await?;
    let before = region.free(&subnet).await?;
    unassign(region, &eni, &new[..2]).send().await?;
    expect("free", region.free(&subnet).await?, before + 2)
}

async fn unassign_what_is_not_there(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let outcome = unassign(region, &eni, &[nth(block, 250)]).send().await;
    refused(outcome, &["InvalidParameterValue"]).map(drop)
}

async fn unassign_list_with_one_foreign_unassigns_nothing(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let new = add(region, &eni, 2).await?;
    let outcome = unassign(region, &eni, &[new[0].clone(), nth(block, 250)]).send().await;
    refused(outcome, &["InvalidParameterValue"])?;
    expect("secondaries", sorted(secondaries(&region.eni(&eni).await?)), sorted(new))
}

async fn unassign_primary(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let described = region.eni(&eni).await?;
    let primary = there("privateIpAddress", described.private_ip_address())?.to_owned();
    let outcome = unassign(region, &eni, &[primary]).send().await;
    refused(outcome, &["InvalidParameterValue", "OperationNotPermitted"]).map(drop)
}

async fn unassign_from_unknown(region: &Region) -> Outcome {
    let outcome = unassign(region, &format!("eni-{NOBODY}"), &["10.0.0.4".to_owned()]).send().await;
    refused(outcome, &["InvalidNetworkInterfaceID.NotFound"]).map(drop)
}
