//! A look into every living pod, again and again while the storm lasts.
//!
//! Owns what must hold at every moment: a pod has its own address and no other, no two pods have one, and EC2 has it on an ENI
//! of the pod's own node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{Storm, audit::for_pods, record::Tenant};
use crate::kernel;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(150);

/// Looks until the storm is over.
pub(super) fn keep(storm: &Storm<'_>) {
    while !storm.over.within(PAUSE) {
        look(storm);
    }
}

fn look(storm: &Storm<'_>) {
    let before = storm.record.tenants();
    let found: BTreeMap<Ipv4Addr, _> =
        before.iter().map(|(address, tenant)| (*address, kernel::pod_addresses(&tenant.netns))).collect();
    let assigned: Vec<BTreeSet<Ipv4Addr>> = storm
        .lab
        .nodes()
        .iter()
        .map(|node| storm.lab.truth().attached(node.instance()).iter().flat_map(for_pods).collect())
        .collect();
    // Who went meanwhile is none of our business.
    let after = storm.record.tenants();
    let stayed = |address: &Ipv4Addr, tenant: &Tenant| {
        after.get(address).is_some_and(|now| now.container_id == tenant.container_id)
    };
    let mut owners: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for (address, tenant) in before.iter().filter(|(address, tenant)| stayed(address, tenant)) {
        match &found[address] {
            Ok(inside) => {
                if *inside != [IpAddr::V4(*address)] {
                    storm.record.complain(format!("{} was given {address} and has {inside:?}", tenant.label));
                }
                for one in inside {
                    if let Some(other) = owners.insert(*one, &tenant.label) {
                        storm.record.complain(format!("{other} and {} both have {one}", tenant.label));
                    }
                }
            }
            Err(error) => storm.record.complain(format!("looking into {}: {error:#}", tenant.label)),
        }
        if !assigned[tenant.node].contains(address) {
            let elsewhere = assigned.iter().any(|node| node.contains(address));
            let where_else = if elsewhere { "gave it to another node" } else { "has it on no node" };
            storm.record.complain(format!("{} runs with {address}, and EC2 {where_else}", tenant.label));
        }
    }
    storm.record.count(|figures| figures.looks += 1);
}
