//! IPv4 prefixes of ENIs, and ranges of subnets that are reserved for them.

use aws_sdk_ec2::{
    operation::{
        assign_private_ip_addresses::builders::AssignPrivateIpAddressesFluentBuilder,
        unassign_private_ip_addresses::builders::UnassignPrivateIpAddressesFluentBuilder,
    },
    types::{
        InstanceNetworkInterfaceSpecification, Ipv4PrefixSpecificationRequest, NetworkInterface,
        PrivateIpAddressSpecification, ResourceType, SubnetCidrReservation, SubnetCidrReservationType,
    },
};
use ipnet::Ipv4Net;

use crate::{
    checks,
    region::{
        NOBODY, Outcome, Region, addresses, expect, expect_that, id, nth, refused, secondaries, sorted, tag, tagged,
        there,
    },
};

checks!(
    create_takes_prefixes,
    create_with_named_prefix,
    create_prefixes_and_addresses,
    create_deleted_gives_prefixes_back,
    launch_takes_prefixes,
    assign_prefix_count_answers_only_the_new,
    assign_prefix_takes_sixteen_addresses,
    assign_named_prefix,
    assign_prefix_that_is_none,
    assign_prefix_outside,
    assign_prefix_with_reserved_addresses,
    assign_prefix_in_use,
    assign_prefix_count_and_prefixes,
    assign_prefixes_and_addresses,
    assign_prefixes_share_the_types_addresses,
    assign_prefix_in_a_fragmented_subnet,
    assign_prefix_in_a_full_subnet,
    assign_prefixes_all_or_nothing,
    assign_addresses_avoid_prefixes,
    unassign_prefix,
    unassign_both_kinds,
    unassign_list_with_one_foreign_prefix_unassigns_nothing,
    unassign_address_of_a_prefix,
    reservation_is_listed,
    reservation_keeps_addresses_away,
    reservation_gives_prefixes_first,
    reservation_of_type_explicit_gives_what_is_named,
    reservation_overlap_refused,
    reservation_deleted_frees_its_range,
    reservation_in_unknown_subnet,
);

const EITHER_COMBINATION: &[&str] = &["InvalidParameterCombination", "InvalidParameterValue"];

fn prefixes(eni: &NetworkInterface) -> Vec<String> {
    eni.ipv4_prefixes().iter().filter_map(|one| one.ipv4_prefix().map(str::to_owned)).collect()
}

/// The /28 of that number in the block.
fn sixteenth(block: Ipv4Net, number: i32) -> String {
    format!("{}/28", nth(block, 16 * number))
}

fn inside(address: &str, block: Ipv4Net) -> bool {
    address.parse::<std::net::Ipv4Addr>().is_ok_and(|address| block.contains(&address))
}

fn block(prefix: &str) -> Outcome<Ipv4Net> {
    there("prefix", prefix.parse().ok())
}

fn aligned(found: &[String], count: usize) -> Outcome {
    let mut blocks = sorted(found.iter().map(|one| block(one)).collect::<Outcome<Vec<_>>>()?);
    blocks.dedup();
    expect("different prefixes", blocks.len(), count)?;
    let is_prefix = |one: &Ipv4Net| one.prefix_len() == 28 && *one == one.trunc();
    expect_that("aligned /28s", &blocks, blocks.iter().all(is_prefix))
}

async fn assigned(call: AssignPrivateIpAddressesFluentBuilder) -> Outcome<Vec<String>> {
    let made = call.send().await?;
    let new = made.assigned_ipv4_prefixes().iter();
    new.map(|one| there("ipv4Prefix", one.ipv4_prefix().map(str::to_owned))).collect()
}

async fn add(region: &Region, eni: &str, count: i32) -> Outcome<Vec<String>> {
    assigned(region.assign(eni).ipv4_prefix_count(count)).await
}

fn unassign(
    region: &Region,
    eni: &str,
    addresses: &[String],
    prefixes: &[String],
) -> UnassignPrivateIpAddressesFluentBuilder {
    let call = region.ec2.unassign_private_ip_addresses().network_interface_id(eni);
    let some = |list: &[String]| Some(list.to_vec()).filter(|list| !list.is_empty());
    call.set_private_ip_addresses(some(addresses)).set_ipv4_prefixes(some(prefixes))
}

async fn create_takes_prefixes(region: &Region) -> Outcome {
    let made = region.made(region.create(&region.subnet().await?).ipv4_prefix_count(2)).await?;
    aligned(&prefixes(&made), 2)?;
    expect("addresses beside them", addresses(&made).len(), 1)
}

async fn create_with_named_prefix(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let wanted = Ipv4PrefixSpecificationRequest::builder().ipv4_prefix(sixteenth(block, 5)).build();
    let made = region.made(region.create(&subnet).ipv4_prefixes(wanted)).await?;
    expect("prefixes", prefixes(&made), [sixteenth(block, 5)])
}

async fn create_prefixes_and_addresses(region: &Region) -> Outcome {
    let call = region.create(&region.subnet().await?).ipv4_prefix_count(1).secondary_private_ip_address_count(1);
    refused(call.send().await, EITHER_COMBINATION).map(drop)
}

async fn create_deleted_gives_prefixes_back(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let eni = region.available(region.create(&subnet).ipv4_prefix_count(2)).await?;
    expect("free", region.free(&subnet).await?, 251 - 33)?;
    region.ec2.delete_network_interface().network_interface_id(eni).send().await?;
    expect("free after the delete", region.free(&subnet).await?, 251)
}

async fn launch_takes_prefixes(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let nic = |index| InstanceNetworkInterfaceSpecification::builder().device_index(index).subnet_id(&subnet);
    let call = region.launch().network_interfaces(nic(0).build());
    let instance = region.running(call.network_interfaces(nic(1).ipv4_prefix_count(1).build())).await?;
    let instance = region.instance(&instance).await?;
    let counts = instance
        .network_interfaces()
        .iter()
        .map(|one| (one.attachment().and_then(|own| own.device_index()).unwrap_or(-1), one.ipv4_prefixes().len()));
    expect("prefixes by device index", sorted(counts), [(0, 0), (1, 1)])
}

async fn fresh(region: &Region) -> Outcome<String> {
    region.available_in(&region.subnet().await?).await
}

async fn assign_prefix_count_answers_only_the_new(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let (first, second) = (add(region, &eni, 1).await?, add(region, &eni, 2).await?);
    aligned(&second, 2)?;
    expect("prefixes of the ENI", sorted(prefixes(&region.eni(&eni).await?)), sorted([first, second].concat()))
}

async fn assign_prefix_takes_sixteen_addresses(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    add(region, &region.available_in(&subnet).await?, 1).await?;
    expect("free", region.free(&subnet).await?, 250 - 16)
}

async fn assign_named_prefix(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let new = assigned(region.assign(&eni).ipv4_prefixes(sixteenth(block, 14))).await?;
    expect("answer", new, [sixteenth(block, 14)])
}

async fn refuses_prefix(region: &Region, eni: &str, prefix: String, codes: &[&str]) -> Outcome {
    refused(region.assign(eni).ipv4_prefixes(prefix).send().await, codes).map(drop)
}

async fn assign_prefix_that_is_none(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    for (number, length) in [(165, 28), (160, 27), (160, 32)] {
        refuses_prefix(region, &eni, format!("{}/{length}", nth(block, number)), &["InvalidParameterValue"]).await?;
    }
    Ok(())
}

async fn assign_prefix_outside(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    refuses_prefix(region, &eni, "10.255.255.0/28".to_owned(), &["InvalidParameterValue"]).await
}

async fn assign_prefix_with_reserved_addresses(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    for number in [0, 15] {
        refuses_prefix(region, &eni, sixteenth(block, number), &["InvalidParameterValue"]).await?;
    }
    Ok(())
}

async fn assign_prefix_in_use(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let (eni, other) = (region.available_in(&subnet).await?, region.available_in(&subnet).await?);
    assigned(region.assign(&other).ipv4_prefixes(sixteenth(block, 6))).await?;
    region.assigned(region.assign(&other).private_ip_addresses(nth(block, 130))).await?;
    for number in [6, 8] {
        let codes = &["InvalidParameterValue", "InvalidIPAddress.InUse"];
        refuses_prefix(region, &eni, sixteenth(block, number), codes).await?;
    }
    Ok(())
}

async fn assign_prefix_count_and_prefixes(region: &Region) -> Outcome {
    let (subnet, block) = region.subnet_and_block(24).await?;
    let eni = region.available_in(&subnet).await?;
    let call = region.assign(&eni).ipv4_prefix_count(1).ipv4_prefixes(sixteenth(block, 7));
    refused(call.send().await, EITHER_COMBINATION).map(drop)
}

async fn assign_prefixes_and_addresses(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let call = region.assign(&eni).ipv4_prefix_count(1).secondary_private_ip_address_count(1);
    refused(call.send().await, EITHER_COMBINATION).map(drop)
}

async fn assign_prefixes_share_the_types_addresses(region: &Region) -> Outcome {
    let instance = region.running_in(&region.subnet().await?).await?;
    let instance = region.instance(&instance).await?;
    let primary = instance.network_interfaces().first().and_then(|one| one.network_interface_id());
    let eni = there("networkInterfaceId", primary)?;
    region.assigned(region.assign(eni).secondary_private_ip_address_count(4)).await?;
    add(region, eni, 5).await?;
    refused(region.assign(eni).ipv4_prefix_count(1).send().await, &["PrivateIpAddressLimitExceeded"]).map(drop)
}

/// A /26 has two whole /28s; of these ENIs' addresses, the first is in one of them.
pub(crate) async fn in_a_26(region: &Region, numbers: &[i32]) -> Outcome<(String, String, Ipv4Net)> {
    let (subnet, block) = region.subnet_and_block(26).await?;
    let mut call = region.create(&subnet);
    for number in numbers {
        let address = PrivateIpAddressSpecification::builder().private_ip_address(nth(block, *number));
        call = call.private_ip_addresses(address.primary(number == &numbers[0]).build());
    }
    Ok((id(&region.made(call).await?)?, subnet, block))
}

async fn assign_prefix_in_a_fragmented_subnet(region: &Region) -> Outcome {
    let (eni, subnet, _) = in_a_26(region, &[20, 40]).await?;
    let free = region.free(&subnet).await?;
    expect_that("16 free addresses", free, free >= 16)?;
    refused(region.assign(&eni).ipv4_prefix_count(1).send().await, &["InsufficientCidrBlocks"]).map(drop)
}

async fn assign_prefix_in_a_full_subnet(region: &Region) -> Outcome {
    let (subnet, _) = region.subnet_and_block(28).await?;
    let eni = region.available_in(&subnet).await?;
    let codes = &["InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks", "InvalidParameterValue"];
    refused(region.assign(&eni).ipv4_prefix_count(1).send().await, codes).map(drop)
}

async fn assign_prefixes_all_or_nothing(region: &Region) -> Outcome {
    let (eni, subnet, block) = in_a_26(region, &[20]).await?;
    refused(region.assign(&eni).ipv4_prefix_count(2).send().await, &["InsufficientCidrBlocks"])?;
    expect("free", region.free(&subnet).await?, 58)?;
    expect("prefixes", prefixes(&region.eni(&eni).await?), [""; 0])?;
    expect("the one that there is", add(region, &eni, 1).await?, [sixteenth(block, 2)])
}

async fn assign_addresses_avoid_prefixes(region: &Region) -> Outcome {
    let (subnet, _) = region.subnet_and_block(26).await?;
    let eni = region.available_in(&subnet).await?;
    let held = block(there("prefix", add(region, &eni, 1).await?.first())?)?;
    let count = region.free(&subnet).await?;
    let new = region.assigned(region.assign(&eni).secondary_private_ip_address_count(count)).await?;
    expect_that("no address of the prefix", &new, !new.iter().any(|one| inside(one, held)))?;
    expect("free", region.free(&subnet).await?, 0)
}

async fn unassign_prefix(region: &Region) -> Outcome {
    let subnet = region.subnet().await?;
    let eni = region.available_in(&subnet).await?;
    let held = add(region, &eni, 2).await?;
    unassign(region, &eni, &[], &held[..1]).send().await?;
    expect("prefixes", prefixes(&region.eni(&eni).await?), &held[1..])?;
    expect("free", region.free(&subnet).await?, 250 - 16)
}

/// An ENI with so many secondary addresses and prefixes.
async fn with_both(region: &Region, addresses: i32, prefixes: i32) -> Outcome<(String, Vec<String>, Vec<String>)> {
    let eni = fresh(region).await?;
    let new = region.assigned(region.assign(&eni).secondary_private_ip_address_count(addresses)).await?;
    let held = add(region, &eni, prefixes).await?;
    Ok((eni, new, held))
}

async fn unassign_both_kinds(region: &Region) -> Outcome {
    let (eni, new, held) = with_both(region, 2, 2).await?;
    unassign(region, &eni, &new[..1], &held[..1]).send().await?;
    let found = region.eni(&eni).await?;
    expect("addresses", secondaries(&found), &new[1..])?;
    expect("prefixes", prefixes(&found), &held[1..])
}

async fn unassign_list_with_one_foreign_prefix_unassigns_nothing(region: &Region) -> Outcome {
    let (eni, new, held) = with_both(region, 1, 1).await?;
    let foreign = "10.255.255.0/28".to_owned();
    let call = unassign(region, &eni, &new, &[held.clone(), vec![foreign]].concat());
    refused(call.send().await, &["InvalidParameterValue"])?;
    let found = region.eni(&eni).await?;
    expect("addresses", secondaries(&found), new)?;
    expect("prefixes", prefixes(&found), held)
}

async fn unassign_address_of_a_prefix(region: &Region) -> Outcome {
    let eni = fresh(region).await?;
    let held = block(there("prefix", add(region, &eni, 1).await?.first())?)?;
    let call = unassign(region, &eni, &[nth(held, 3)], &[]);
    refused(call.send().await, &["InvalidParameterValue"]).map(drop)
}

/// A /25 whose second half is reserved.
struct Reserved {
    subnet: String,
    half: Ipv4Net,
    made: SubnetCidrReservation,
}

async fn reserve(region: &Region, kind: SubnetCidrReservationType) -> Outcome<Reserved> {
    let (subnet, block) = region.subnet_and_block(25).await?;
    let half = there("half", block.subnets(26).ok().and_then(|mut halves| halves.nth(1)))?;
    let call = region.ec2.create_subnet_cidr_reservation().subnet_id(&subnet).cidr(half.to_string());
    let tags = tagged(ResourceType::SubnetCidrReservation, &[("a", "b")]);
    let made = call.reservation_type(kind).description("d").tag_specifications(tags).send().await?;
    Ok(Reserved { subnet, half, made: there("subnetCidrReservation", made.subnet_cidr_reservation().cloned())? })
}

async fn reservation_is_listed(region: &Region) -> Outcome {
    let Reserved { subnet, half, made } = reserve(region, SubnetCidrReservationType::Prefix).await?;
    expect("range", made.cidr(), Some(half.to_string().as_str()))?;
    expect("type", made.reservation_type(), Some(&SubnetCidrReservationType::Prefix))?;
    expect("subnet, description", (made.subnet_id(), made.description()), (Some(subnet.as_str()), Some("d")))?;
    expect("tags", made.tags(), [tag("a", "b")])?;
    let found = region.ec2.get_subnet_cidr_reservations().subnet_id(&subnet).send().await?;
    expect("reservations", found.subnet_ipv4_cidr_reservations(), [made])?;
    expect("IPv6 reservations", found.subnet_ipv6_cidr_reservations().len(), 0)
}

async fn reservation_keeps_addresses_away(region: &Region) -> Outcome {
    for kind in [SubnetCidrReservationType::Prefix, SubnetCidrReservationType::Explicit] {
        let Reserved { subnet, half, .. } = reserve(region, kind).await?;
        let made = region.made(region.create(&subnet).secondary_private_ip_address_count(59)).await?;
        let chosen = addresses(&made);
        expect_that("no reserved address", &chosen, !chosen.iter().any(|one| inside(one, half)))?;
        refused(region.create(&subnet).send().await, &["InsufficientFreeAddressesInSubnet"])?;
    }
    Ok(())
}

async fn reservation_gives_prefixes_first(region: &Region) -> Outcome {
    let Reserved { subnet, half, .. } = reserve(region, SubnetCidrReservationType::Prefix).await?;
    let made = prefixes(&region.made(region.create(&subnet).ipv4_prefix_count(3)).await?);
    let of_the_half = made.iter().filter(|one| block(one).is_ok_and(|one| half.contains(&one)));
    expect("prefixes, those of the range", (made.len(), of_the_half.count()), (3, 3))
}

async fn reservation_of_type_explicit_gives_what_is_named(region: &Region) -> Outcome {
    let Reserved { subnet, half, .. } = reserve(region, SubnetCidrReservationType::Explicit).await?;
    let made = region.made(region.create(&subnet).private_ip_address(nth(half, 7))).await?;
    expect("address", made.private_ip_address(), Some(nth(half, 7).as_str()))
}

async fn reservation_overlap_refused(region: &Region) -> Outcome {
    let Reserved { subnet, half, .. } = reserve(region, SubnetCidrReservationType::Prefix).await?;
    let range = format!("{}/27", half.network());
    let call = region.ec2.create_subnet_cidr_reservation().subnet_id(subnet).cidr(range);
    let outcome = call.reservation_type(SubnetCidrReservationType::Explicit).send().await;
    let codes = &["InvalidParameterValue", "InvalidSubnetCidrReservation.Overlap", "InvalidCidr.Conflict"];
    refused(outcome, codes).map(drop)
}

async fn reservation_deleted_frees_its_range(region: &Region) -> Outcome {
    let Reserved { subnet, half, made } = reserve(region, SubnetCidrReservationType::Prefix).await?;
    let id = there("subnetCidrReservationId", made.subnet_cidr_reservation_id())?;
    let gone = region.ec2.delete_subnet_cidr_reservation().subnet_cidr_reservation_id(id).send().await?;
    expect("deleted", gone.deleted_subnet_cidr_reservation(), Some(&made))?;
    expect("free", region.free(&subnet).await?, 123)?;
    let chosen = addresses(&region.made(region.create(&subnet).secondary_private_ip_address_count(122)).await?);
    expect_that("addresses in the range", half, chosen.iter().any(|one| inside(one, half)))
}

async fn reservation_in_unknown_subnet(region: &Region) -> Outcome {
    let call = region.ec2.get_subnet_cidr_reservations().subnet_id(format!("subnet-{NOBODY}"));
    refused(call.send().await, &["InvalidSubnetID.NotFound"]).map(drop)
}
