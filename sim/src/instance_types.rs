//! What instance types allow: AWS's public figures (DescribeInstanceTypes), as a table.
//!
//! Columns of `instance_types.tsv`: type, ENIs, IPv4 addresses per ENI, IPv6 addresses per ENI, hypervisor (`-` for bare
//! metal), ENIs per network card separated by commas.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::{faults::Fault, filters, requests::Describe, responses::Page};

/// The limits of one instance type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// E.g. `m5.large`.
    pub name: &'static str,
    /// ENIs over all cards.
    pub enis: u32,
    /// IPv4 addresses (and prefixes) per ENI, the primary one included.
    pub ipv4_per_eni: u32,
    /// IPv6 addresses per ENI.
    pub ipv6_per_eni: u32,
    /// `nitro`, `xen`; `None` for bare metal.
    pub hypervisor: Option<&'static str>,
    /// ENIs per network card.
    pub cards: Vec<u32>,
}

static TABLE: LazyLock<BTreeMap<&'static str, (u64, InstanceType)>> = LazyLock::new(|| {
    include_str!("instance_types.tsv")
        .lines()
        .zip(0..)
        .map(|(line, serial)| {
            let parsed = parse(line).unwrap_or_else(|| panic!("instance_types.tsv, line {}: {line:?}", serial + 1));
            (parsed.name, (serial, parsed))
        })
        .collect()
});

/// A type by its name.
pub(crate) fn find(name: &str) -> Option<&'static InstanceType> {
    TABLE.get(name).map(|(_, found)| found)
}

pub(crate) fn describe(describe: &Describe) -> Result<Page<&'static InstanceType>, Fault> {
    const MOST: u32 = 100;
    let filters = &describe.filters;
    filters::check(filters, &["instance-type", "hypervisor", "bare-metal"])?;
    if let Some(unknown) = describe.ids.iter().find(|name| find(name).is_none()) {
        return Err(Fault::no_instance_type(unknown));
    }
    let wanted = TABLE
        .values()
        .filter(|(_, found)| describe.ids.is_empty() || describe.ids.iter().any(|id| id == found.name))
        .filter(|(_, found)| {
            filters::matches(filters, &BTreeMap::new(), |name| match name {
                "hypervisor" => found.hypervisor.iter().map(ToString::to_string).collect(),
                "bare-metal" => vec![found.hypervisor.is_none().to_string()],
                _ => vec![found.name.to_owned()],
            })
        })
        .map(|(serial, found)| (*serial, found))
        .collect();
    filters::page(describe, MOST, wanted)
}

fn parse(line: &'static str) -> Option<InstanceType> {
    let mut columns = line.split('\t');
    let name = columns.next()?;
    let enis = columns.next()?.parse().ok()?;
    let ipv4_per_eni = columns.next()?.parse().ok()?;
    let ipv6_per_eni = columns.next()?.parse().ok()?;
    let hypervisor = Some(columns.next()?).filter(|name| *name != "-");
    let cards: Vec<u32> = columns.next()?.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(InstanceType { name, enis, ipv4_per_eni, ipv6_per_eni, hypervisor, cards })
}

#[cfg(test)]
mod tests {
    use super::{TABLE, find};

    #[test]
    fn every_line_of_the_table_parses_and_cards_add_up() {
        assert!(TABLE.len() > 1_000);
        for (_, found) in TABLE.values() {
            assert!(!found.cards.is_empty(), "{}", found.name);
            assert!(found.cards.iter().sum::<u32>() >= found.enis, "{}", found.name);
        }
    }

    #[test]
    fn figures_are_those_aws_publishes() {
        let large = find("m5.large").expect("m5.large is known");
        assert_eq!((large.enis, large.ipv4_per_eni), (3, 10));
        let trainer = find("p4d.24xlarge").expect("p4d.24xlarge is known");
        assert_eq!(trainer.cards, [15, 15, 15, 15]);
    }
}
