//! Not on the list either: what the adapter finds in the zone, of what nodes left behind, and which instances there are.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::ResourceType;
use cloud::{Answer, Call, Cloud};
use cloud_aws::Ec2;
use pool::{Ask, EniId};

use crate::{
    adapter::{adapter, create, created, described, unexpected},
    checks,
    region::{Mismatch, NOBODY, Outcome, REGION, Region, eventually, expect, expect_that, tagged, token},
};

checks!(adapter_finds_the_subnets_of_a_zone, adapter_finds_what_nodes_left_behind, adapter_knows_which_instances_exist);

async fn adapter_finds_the_subnets_of_a_zone(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let tags = tagged(ResourceType::Subnet, &[("kubernetes.io/role/cni", "1")]);
    let (here, _) = region.subnet_with(26, "b", Some(tags)).await?;
    let (elsewhere, _) = region.subnet_with(26, "c", None).await?;
    created(&ec2, create(&here, vec![], Ask::Prefixes(1), &token())).await?;
    let call = Call::Subnets { vpc: region.vpc.as_str().into(), zone: format!("{REGION}b") };
    let Answer::Subnets(found) = ec2.call(call).await? else { return Err(Mismatch("no subnets".to_owned())) };
    expect_that("none of another zone", &found, found.iter().all(|one| one.id.as_str() != elsewhere))?;
    let ours = found.iter().find(|one| one.id.as_str() == here).ok_or_else(|| Mismatch(format!("{found:?}")))?;
    expect("free: 59 of a /26, less an address and a prefix", ours.free, 59 - 1 - 16)?;
    expect("tag", ours.tags.get("kubernetes.io/role/cni").map(String::as_str), Some("1"))
}

async fn leaked(ec2: &Ec2, region: &Region, cluster: Option<&str>) -> Outcome<Vec<EniId>> {
    match ec2.call(Call::Leaked { vpc: region.vpc.as_str().into(), cluster: cluster.map(str::to_owned) }).await? {
        Answer::Leaked(found) => Ok(found.into_iter().map(|eni| eni.id).collect()),
        other => unexpected(other),
    }
}

async fn adapter_finds_what_nodes_left_behind(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let subnet = region.subnet().await?;
    let left = created(&ec2, create(&subnet, vec![], Ask::Addresses(0), &token())).await?.id;
    let attached = created(&ec2, create(&subnet, vec![], Ask::Addresses(0), &token())).await?.id;
    let untagged = EniId::from(region.available_in(&subnet).await?);
    let instance = region.running_in(&subnet).await?;
    region.attached(attached.as_str(), &instance, 1).await?;
    eventually("the ENI that nobody has is found", async || Ok(leaked(&ec2, region, None).await?.contains(&left)))
        .await?;
    let found = leaked(&ec2, region, None).await?;
    expect_that(
        "neither one in use nor one without the tag",
        &found,
        !found.contains(&attached) && !found.contains(&untagged),
    )?;

    let cluster = token();
    expect("of a cluster that has none", leaked(&ec2, region, Some(&cluster)).await?, vec![])?;
    let tags = BTreeMap::from([("cluster.k8s.amazonaws.com/name".to_owned(), cluster.clone())]);
    expect("the tagging", ec2.call(Call::Tag { eni: left.clone(), tags }).await?, Answer::Done)?;
    expect("of the cluster", leaked(&ec2, region, Some(&cluster)).await?, vec![left.clone()])?;
    let seen = described(&ec2, &left).await?.ok_or_else(|| Mismatch("no ENI".to_owned()))?;
    expect("tags", (seen.tags.len(), seen.tags.get("cluster.k8s.amazonaws.com/name")), (2, Some(&cluster)))
}

async fn adapter_knows_which_instances_exist(region: &Region) -> Outcome {
    let ec2 = adapter(region).await;
    let subnet = region.subnet().await?;
    let (runs, ends) = (region.running_in(&subnet).await?, region.running_in(&subnet).await?);
    region.ec2.terminate_instances().instance_ids(&ends).send().await?;
    let instances = vec![runs.as_str().into(), ends.as_str().into(), format!("i-{NOBODY}").as_str().into()];
    expect(
        "those that exist",
        ec2.call(Call::Instances { instances }).await?,
        Answer::Instances(vec![runs.as_str().into()]),
    )
}
