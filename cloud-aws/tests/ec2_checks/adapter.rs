//! Not on the list: the adapter itself through the life of an ENI, and what it makes of this EC2's refusals.

use std::collections::BTreeMap;

use aws_credential_types::Credentials;
use cloud::{Answer, Call, Cloud, Kind};
use cloud_aws::{Ec2, Settings};
use pool::{Ask, DeviceIndex, EniId, Limits, SeenEni};

use crate::{
    checks,
    region::{Mismatch, NOBODY, Outcome, REGION, Region, eventually, expect, expect_that, sorted, token},
};

checks!(adapter_through_the_life_of_an_eni, adapter_sorts_what_ec2_refuses, adapter_knows_the_limits_of_types);

async fn adapter(region: &Region) -> Ec2 {
    let settings = Settings { endpoint: Some(region.endpoint.clone()), ..Settings::new(REGION) };
    Ec2::with_credentials(&settings, Credentials::new("test", "test", None, None, "test")).await
}

impl From<cloud::Error> for Mismatch {
    fn from(error: cloud::Error) -> Self {
        Self(error.to_string())
    }
}

fn unexpected<T>(answer: Answer) -> Outcome<T> {
    Err(Mismatch(format!("an answer of another call: {answer:?}")))
}

fn create(subnet: &str, groups: Vec<pool::SecurityGroupId>, ask: Ask, once: &str) -> Call {
    Call::CreateEni {
        token: once.into(),
        subnet: subnet.into(),
        groups,
        ask,
        description: "aws-K8S-i-1".to_owned(),
        tags: BTreeMap::from([("node.k8s.amazonaws.com/instance_id".to_owned(), "i-1".to_owned())]),
    }
}

async fn created(ec2: &Ec2, call: Call) -> Outcome<SeenEni> {
    match ec2.call(call).await? {
        Answer::Created(eni) => Ok(eni),
        other => unexpected(other),
    }
}

async fn described(ec2: &Ec2, eni: &EniId) -> Outcome<Option<SeenEni>> {
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
