//! Not on the list: the adapter itself through the life of an ENI, and what it makes of this EC2's refusals.

use std::{collections::BTreeMap, net::Ipv4Addr};

use aws_credential_types::Credentials;
use cloud::{Answer, Call, Cloud, Kind};
use cloud_aws::{Ec2, Settings};
use pool::{Ask, DeviceIndex, EniId, Limits, Prefix, SeenEni};

use crate::{
    checks,
    prefixes::in_a_26,
    region::{Mismatch, NOBODY, Outcome, REGION, Region, eventually, expect, expect_that, sorted, token},
};

checks!(
    adapter_through_the_life_of_an_eni,
    adapter_through_the_life_of_a_prefix,
    adapter_sorts_what_ec2_refuses,
    adapter_sorts_how_prefixes_are_refused,
    adapter_knows_the_limits_of_types,
);

pub(crate) async fn adapter(region: &Region) -> Ec2 {
    let settings = Settings { endpoint: Some(region.endpoint.clone()), ..Settings::new(REGION) };
    Ec2::with_credentials(&settings, Credentials::new("test", "test", None, None, "test")).await
}

impl From<cloud::Error> for Mismatch {
    fn from(error: cloud::Error) -> Self {
        Self(error.to_string())
    }
}

pub(crate) fn unexpected<T>(answer: Answer) -> Outcome<T> {
    Err(Mismatch(format!("an answer of another call: {answer:?}")))
}

pub(crate) fn create(subnet: &str, groups: Vec<pool::SecurityGroupId>, ask: Ask, once: &str) -> Call {
    Call::CreateEni {
        token: once.into(),
        subnet: subnet.into(),
        groups,
        ask,
        description: "aws-K8S-i-1".to_owned(),
        tags: BTreeMap::from([("node.k8s.amazonaws.com/instance_id".to_owned(), "i-1".to_owned())]),
    }
}

pub(crate) async fn created(ec2: &Ec2, call: Call) -> Outcome<SeenEni> {
    match ec2.call(call).await? {
        Answer::Created(eni) => Ok(eni),
        other => unexpected(other),
    }
}

pub(crate) async fn described(ec2: &Ec2, eni: &EniId) -> Outcome<Option<SeenEni>> {
    match ec2.call(Call::Describe { eni: eni.clone() }).await? {
        Answer::Described(eni) => Ok(eni),
        other => unexpected(other),
    }
}

async fn adapter_through_the_life_of_an_eni(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let (subnet, block) = region.subnet_and_block(24).await?;
    let (group, instance) = (region.group(None).await?, region.running_in(&subnet).await?);

    let once = token();
    let made = created(&ec2, create(&subnet, vec![group.into()], Ask::Addresses(2), &once)).await?;
    expect("secondary addresses", made.secondary.len(), 2)?;
    expect_that("addresses of the subnet", &made, made.secondary.iter().all(|one| block.contains(one)))?;
    expect("description", made.description.as_str(), "aws-K8S-i-1")?;
    expect("tags", made.tags.get("node.k8s.amazonaws.com/instance_id").map(String::as_str), Some("i-1"))?;
    let eni = made.id.clone();
    eventually("the ENI is available", async || {
        Ok(crate::region::status(&region.eni(eni.as_str()).await?) == "available")
    })
    .await?;
    expect("described as created", described(&ec2, &eni).await?, Some(made.clone()))?;

    let attach = Call::Attach { eni: eni.clone(), instance: instance.as_str().into(), device: DeviceIndex(1) };
    let Answer::Attached(attachment) = ec2.call(attach).await? else {
        return Err(Mismatch("no attachment".to_owned()));
    };
    ec2.call(Call::Protect { eni: eni.clone(), attachment: attachment.clone() }).await?;
    let assign = Call::Assign { eni: eni.clone(), ask: Ask::Addresses(3) };
    let Answer::Assigned { addresses: new, .. } = ec2.call(assign).await? else {
        return Err(Mismatch("no addresses".to_owned()));
    };
    expect("new addresses", new.len(), 3)?;

    let Answer::Discovered(enis) = ec2.call(Call::Discover { instance: instance.as_str().into() }).await? else {
        return Err(Mismatch("no discovery".to_owned()));
    };
    expect("ENIs of the instance", enis.len(), 2)?;
    let seen =
        enis.into_iter().find(|one| one.id == eni).ok_or_else(|| Mismatch("ours is not among them".to_owned()))?;
    let own = seen.attachment.ok_or_else(|| Mismatch("no attachment".to_owned()))?;
    expect(
        "attachment, device, protected",
        (own.id, own.device, own.delete_on_termination),
        (attachment.clone(), DeviceIndex(1), true),
    )?;
    expect("addresses", sorted(seen.secondary), sorted(made.secondary.iter().chain(&new).copied()))?;

    ec2.call(Call::Unassign { eni: eni.clone(), addresses: new, prefixes: vec![] }).await?;
    ec2.call(Call::Detach { eni: eni.clone(), attachment }).await?;
    let in_use = ec2.call(Call::Delete { eni: eni.clone() }).await.map_err(|error| error.kind);
    expect("a delete while it detaches", in_use, Err(Kind::Conflict))?;
    eventually("the ENI is detached", async || {
        Ok(described(&ec2, &eni).await?.is_some_and(|eni| eni.attachment.is_none()))
    })
    .await?;
    ec2.call(Call::Delete { eni: eni.clone() }).await?;
    expect("described after the delete", described(&ec2, &eni).await?, None)
}

async fn assigned(ec2: &Ec2, eni: &EniId, ask: Ask) -> Outcome<(Vec<Ipv4Addr>, Vec<Prefix>)> {
    match ec2.call(Call::Assign { eni: eni.clone(), ask }).await? {
        Answer::Assigned { addresses, prefixes } => Ok((addresses, prefixes)),
        other => unexpected(other),
    }
}

async fn adapter_through_the_life_of_a_prefix(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let (subnet, block) = region.subnet_and_block(24).await?;
    let made = created(&ec2, create(&subnet, vec![], Ask::Prefixes(2), &token())).await?;
    expect("prefixes, addresses", (made.prefixes.len(), made.secondary.len()), (2, 0))?;
    expect_that("prefixes of the subnet", &made, made.prefixes.iter().all(|one| block.contains(&one.first())))?;
    let eni = made.id.clone();

    let (addresses, prefixes) = assigned(&ec2, &eni, Ask::Prefixes(1)).await?;
    expect("one prefix more, no address", (addresses.len(), prefixes.len()), (0, 1))?;
    let (addresses, none) = assigned(&ec2, &eni, Ask::Addresses(2)).await?;
    expect("two addresses more, no prefix", (addresses.len(), none.len()), (2, 0))?;
    let held = described(&ec2, &eni).await?.ok_or_else(|| Mismatch("no ENI".to_owned()))?;
    expect("prefixes", sorted(held.prefixes), sorted(made.prefixes.iter().chain(&prefixes).copied()))?;
    expect("addresses", sorted(held.secondary), sorted(addresses.iter().copied()))?;

    ec2.call(Call::Unassign { eni: eni.clone(), addresses: vec![], prefixes: made.prefixes }).await?;
    let held = described(&ec2, &eni).await?.ok_or_else(|| Mismatch("no ENI".to_owned()))?;
    expect("what is left", (held.prefixes, sorted(held.secondary)), (prefixes, sorted(addresses)))
}

async fn adapter_sorts_how_prefixes_are_refused(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let (small, _) = region.subnet_and_block(28).await?;
    let (large, _) = region.subnet_and_block(24).await?;
    let instance = region.running_in(&large).await?;
    let eni = created(&ec2, create(&large, vec![], Ask::Prefixes(1), &token())).await?.id;
    region.attached(eni.as_str(), &instance, 1).await?;
    let tiny = created(&ec2, create(&small, vec![], Ask::Addresses(0), &token())).await?.id;
    let fragmented = EniId::from(in_a_26(region, &[20, 40]).await?.0);
    let assign = |eni: &EniId, ask| Call::Assign { eni: eni.clone(), ask };
    for (what, call, kinds) in [
        ("a prefix of a fragmented subnet", assign(&fragmented, Ask::Prefixes(1)), &[Kind::NoFreePrefix][..]),
        // EC2 counts first, or looks for a block first: either way the pool takes what there is.
        ("a prefix of a full subnet", assign(&tiny, Ask::Prefixes(1)), &[Kind::NoFreeAddresses, Kind::NoFreePrefix]),
        ("nine more than one of ten places", assign(&eni, Ask::Prefixes(9)), &[Kind::AddressLimit]),
        ("as many addresses", assign(&eni, Ask::Addresses(9)), &[Kind::AddressLimit]),
        (
            "a prefix that is not on it",
            Call::Unassign {
                eni: eni.clone(),
                addresses: vec![],
                prefixes: vec![Prefix::around([10, 9, 9, 9].into())],
            },
            &[Kind::Gone],
        ),
    ] {
        let refused = ec2.call(call).await.map_err(|error| error.kind);
        expect_that(what, &refused, refused.as_ref().is_err_and(|kind| kinds.contains(kind)))?;
    }
    Ok(())
}

async fn adapter_sorts_what_ec2_refuses(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let (subnet, _) = region.subnet_and_block(28).await?;
    let instance = region.running_in(&subnet).await?;
    let once = token();
    let eni = created(&ec2, create(&subnet, vec![], Ask::Addresses(0), &once)).await?.id;
    let attach = |eni: &EniId, device| Call::Attach {
        eni: eni.clone(),
        instance: instance.as_str().into(),
        device: DeviceIndex(device),
    };
    let nobody = EniId::from(format!("eni-{NOBODY}"));
    let unknown_subnet = format!("subnet-{NOBODY}");
    for (what, call, kind) in [
        ("a token with other arguments", create(&subnet, vec![], Ask::Addresses(1), &once), Kind::TokenMismatch),
        ("more than the subnet has", create(&subnet, vec![], Ask::Addresses(12), &token()), Kind::NoFreeAddresses),
        ("a subnet that is not there", create(&unknown_subnet, vec![], Ask::Addresses(0), &token()), Kind::Invalid),
        ("a taken device index", attach(&eni, 0), Kind::Conflict),
        ("an ENI that is not there", attach(&nobody, 1), Kind::Gone),
        (
            "addresses that are not on it",
            Call::Unassign { eni: eni.clone(), addresses: vec![[10, 9, 9, 9].into()], prefixes: vec![] },
            Kind::Gone,
        ),
        (
            "the detach of nothing",
            Call::Detach { eni: eni.clone(), attachment: format!("eni-attach-{NOBODY}").into() },
            Kind::Gone,
        ),
        ("the delete of nothing", Call::Delete { eni: nobody.clone() }, Kind::Gone),
    ] {
        expect(what, ec2.call(call).await.map_err(|error| error.kind), Err(kind))?;
    }
    expect("nothing, described", described(&ec2, &nobody).await?, None)
}

async fn adapter_knows_the_limits_of_types(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    expect("m5.large", ec2.instance_limits("m5.large").await?, Limits { enis: 3, addresses_per_eni: 10 })?;
    expect("p4d.24xlarge, one card", ec2.instance_limits("p4d.24xlarge").await?.enis, 15)?;
    expect("no type", ec2.instance_limits("m99.bogus").await.map_err(|error| error.kind), Err(Kind::Invalid))
}
