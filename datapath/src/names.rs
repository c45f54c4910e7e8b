//! Every name, table, mark, group and priority that Berth uses in the kernel, each with its reason.
//!
//! Owns the numbers and the settings that move them where they could collide with a neighbour. Never touches the kernel.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use sha1::{Digest as _, Sha1};

/// Routing protocol number on every route and rule of ours, so that cleaning up and repair touch nothing else. Free in
/// iproute2's `rt_protos` and not used by Calico (80), Cilium (kernel, static) or FRR (186 to 196).
pub const PROTOCOL: u8 = 176;

/// The nftables table, one per family.
pub const NFT_TABLE: &str = "berth";

/// The gateway every pod's default route names. Link-local, on no interface: a permanent neighbour answers for it.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same for IPv6.
pub const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Metric of the routes that stop packets to pods that are gone: any pod's own route (metric 0) wins.
pub const UNREACHABLE_METRIC: u32 = 4096;

/// Priority of `from <ENI's primary address>`: just before `main` (32766), so that a node's own choices come first. The
/// value is amazon-vpc-cni's.
pub const PRIMARY_ADDRESS_PRIORITY: u32 = 32765;

/// `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;

/// Set in a packet's mark, beside the slot, when the packet is a reply: it goes where the connection came in.
const REPLY_BIT: u32 = 0x40;

/// The mark field before shifting: six bits of slot and the reply bit. Clear of kube-proxy (0x4000, 0x8000), Calico
/// (0xffff0000), Cilium (0x0f00) and amazon-vpc-cni (0x80).
const MARK_FIELD: u32 = 0x7f;

/// Distance of the reply tables from the ENI tables.
const REPLY_TABLES: u32 = 100;

/// `IFNAMSIZ` less the terminating zero.
const LINK_NAME_MAX: usize = 15;

/// Hex digits of the pod's hash in a link name. amazon-vpc-cni's: the network policy agent finds pods by it.
const LINK_HASH_DIGITS: usize = 11;

/// A small dense number given to an ENI when it is first seen attached: 1 is the primary, 63 is reserved for dying links.
///
/// Link group, mark and tables of the ENI derive from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// The primary ENI's.
    pub const PRIMARY: Self = Self(1);
    /// The highest: the mark field has six bits, and 63 marks dying links.
    pub const MAX: Self = Self(62);

    /// A slot from outside; `None` unless 1..=62.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The primary ENI needs no tables and no mark: what is not marked leaves by it.
    pub const fn is_primary(self) -> bool {
        self.0 == Self::PRIMARY.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A numbering setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadNumbering {
    /// The seven mark bits must fit into 32.
    #[error("mark shift {0}: the 7-bit mark field must stay within 32 bits (0 to 25)")]
    MarkShift(u8),
    /// The tables must not meet the kernel's own (253 to 255) nor the end of 32 bits.
    #[error("table base {0}: tables base to base+162 must lie between 256 and 2147483647")]
    TableBase(u32),
    /// The rules must come after `local` (0) and before `from <ENI's primary address>`.
    #[error("priority base {0}: priorities base to base+1024 must lie between 1 and 32764")]
    PriorityBase(u32),
    /// Prefix and hash must make a link name.
    #[error("veth prefix {0:?}: one to four characters, letters, digits, '-', '_' or '.'")]
    VethPrefix(String),
}

/// Where Berth's marks, tables, groups and rules begin, and how its links are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    mark_shift: u8,
    table_base: u32,
    priority_base: u32,
    veth_prefix: String,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { mark_shift: 0, table_base: 7000, priority_base: 512, veth_prefix: "eni".to_owned() }
    }
}

impl Numbering {
    /// `BERTH_MARK_SHIFT`: how far left the 7-bit field sits in the packet mark and the connection mark.
    pub fn with_mark_shift(mut self, shift: u8) -> Result<Self, BadNumbering> {
        if shift > 25 {
            return Err(BadNumbering::MarkShift(shift));
        }
        self.mark_shift = shift;
        Ok(self)
    }

    /// `BERTH_TABLE_BASE`: the table of pods; ENI tables and link groups follow it.
    pub fn with_table_base(mut self, base: u32) -> Result<Self, BadNumbering> {
        if !(256..=i32::MAX.unsigned_abs() - 162).contains(&base) {
            return Err(BadNumbering::TableBase(base));
        }
        self.table_base = base;
        Ok(self)
    }

    /// `BERTH_PRIORITY_BASE`: the priority of the pods' rule; the others keep their distance from it.
    pub fn with_priority_base(mut self, base: u32) -> Result<Self, BadNumbering> {
        if !(1..=PRIMARY_ADDRESS_PRIORITY - 1025).contains(&base) {
            return Err(BadNumbering::PriorityBase(base));
        }
        self.priority_base = base;
        Ok(self)
    }

    /// `AWS_VPC_K8S_CNI_VETHPREFIX`.
    pub fn with_veth_prefix(mut self, prefix: &str) -> Result<Self, BadNumbering> {
        let fits = (1..=LINK_NAME_MAX - LINK_HASH_DIGITS).contains(&prefix.len());
        if !fits || !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(BadNumbering::VethPrefix(prefix.to_owned()));
        }
        prefix.clone_into(&mut self.veth_prefix);
        Ok(self)
    }

    /// What every pod link's name begins with.
    pub fn veth_prefix(&self) -> &str {
        &self.veth_prefix
    }

    /// The table with one route per pod, and `unreachable` for what EC2 gave us and no pod has.
    pub fn pods_table(&self) -> u32 {
        self.table_base
    }

    /// The table of what pods of this ENI reach by it: the VPC.
    pub fn eni_table(&self, slot: Slot) -> u32 {
        self.table_base + u32::from(slot.0)
    }

    /// The table with a default route by this ENI and nothing else, for replies.
    pub fn reply_table(&self, slot: Slot) -> u32 {
        self.table_base + REPLY_TABLES + u32::from(slot.0)
    }

    /// Does this table belong to Berth?
    pub fn owns_table(&self, table: u32) -> bool {
        (self.table_base..=self.table_base + REPLY_TABLES + u32::from(Slot::MAX.0)).contains(&table)
    }

    /// The link group of the pods of this ENI: how nftables knows which ENI a packet's pod belongs to.
    pub fn group(&self, slot: Slot) -> u32 {
        self.table_base + u32::from(slot.0)
    }

    /// The slot of a link group; `None` for groups that are not ours and for dying links.
    pub fn slot_of_group(&self, group: u32) -> Option<Slot> {
        group.checked_sub(self.table_base).and_then(|n| u8::try_from(n).ok()).and_then(Slot::new)
    }

    /// The group of links that are about to be deleted, all in one request.
    pub fn doomed_group(&self) -> u32 {
        self.table_base + u32::from(Slot::MAX.0) + 1
    }

    /// The bits of the packet mark and the connection mark that are ours.
    pub fn mark_mask(&self) -> u32 {
        MARK_FIELD << self.mark_shift
    }

    /// Mark of a pod's own packets.
    pub fn mark(&self, slot: Slot) -> u32 {
        u32::from(slot.0) << self.mark_shift
    }

    /// Mark of replies that leave by this ENI.
    pub fn reply_mark(&self, slot: Slot) -> u32 {
        (u32::from(slot.0) | REPLY_BIT) << self.mark_shift
    }

    /// Priority of `lookup` in the table of pods. With the default base it is amazon-vpc-cni's 512: after `local`, before
    /// everything that chooses an ENI.
    pub fn pods_priority(&self) -> u32 {
        self.priority_base
    }

    /// Priority of `to AWS_EXTERNAL_SERVICE_CIDRS lookup main`: before the marks.
    pub fn external_service_priority(&self) -> u32 {
        self.priority_base + 1018
    }

    /// Priority of the rules for marked replies.
    pub fn reply_priority(&self) -> u32 {
        self.priority_base + 1023
    }

    /// Priority of the rules for pods' own marked packets: amazon-vpc-cni's 1536.
    pub fn eni_priority(&self) -> u32 {
        self.priority_base + 1024
    }

    /// The canonical name of a pod's link: prefix and the first 11 hex digits of `sha1("namespace.pod")`, as
    /// amazon-vpc-cni makes it.
    pub fn link_name(&self, namespace: &str, pod: &str) -> String {
        hashed_name(&self.veth_prefix, &[namespace, pod])
    }
}

/// The name of the link of a sandbox that lost, or could not get, the canonical one: the same prefix, another hash.
pub fn fallback_link_name(canonical: &str, namespace: &str, pod: &str, container_id: &str) -> String {
    let prefix = canonical.get(..canonical.len().saturating_sub(LINK_HASH_DIGITS)).unwrap_or_default();
    hashed_name(prefix, &[namespace, pod, container_id])
}

/// The part of a pod's link name that says whose it is, whatever prefix it has.
pub(crate) fn link_hash(name: &str) -> &str {
    name.get(name.len().saturating_sub(LINK_HASH_DIGITS)..).unwrap_or(name)
}

fn hashed_name(prefix: &str, parts: &[&str]) -> String {
    let digest = Sha1::digest(parts.join(".").as_bytes());
    let mut name = prefix.to_owned();
    for byte in digest.iter().take(LINK_HASH_DIGITS.div_ceil(2)) {
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(prefix.len() + LINK_HASH_DIGITS);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_are_those_of_amazon_vpc_cni() {
        let names = Numbering::default();
        assert_eq!(names.link_name("kube-system", "coredns-57ff979f67-qqbdh"), "enib5faff8a083");
        assert_eq!(names.link_name("default", "sample-pod"), "enicc21c2d7785");
        assert_eq!(names.link_name("default", "nginx"), "enic440f455693");
    }

    #[test]
    fn a_fallback_name_keeps_the_prefix_and_tells_sandboxes_apart() {
        let canonical = Numbering::default().link_name("default", "web-0");
        let one = fallback_link_name(&canonical, "default", "web-0", "one");
        let two = fallback_link_name(&canonical, "default", "web-0", "two");
        assert!(one.starts_with("eni") && one.len() == 14, "{one}");
        assert!(one != two && one != canonical);
    }

    #[test]
    fn a_slot_is_one_to_sixty_two() {
        assert_eq!(Slot::new(0), None);
        assert_eq!(Slot::new(1), Some(Slot::PRIMARY));
        assert_eq!(Slot::new(62), Some(Slot::MAX));
        assert_eq!(Slot::new(63), None);
    }

    #[test]
    fn groups_and_slots_are_each_others_inverse() {
        let names = Numbering::default();
        for number in 1..=62 {
            let slot = Slot::new(number).expect("1..=62");
            assert_eq!(names.slot_of_group(names.group(slot)), Some(slot));
        }
        assert_eq!(names.slot_of_group(names.doomed_group()), None);
        assert_eq!(names.slot_of_group(0), None);
        assert_eq!(names.slot_of_group(u32::MAX), None);
    }

    #[test]
    fn default_numbers_are_the_documented_ones() {
        let names = Numbering::default();
        let two = Slot::new(2).expect("in range");
        assert_eq!((names.pods_table(), names.eni_table(two), names.reply_table(two)), (7000, 7002, 7102));
        assert_eq!((names.mark(two), names.reply_mark(two), names.mark_mask()), (0x02, 0x42, 0x7f));
        assert_eq!((names.pods_priority(), names.external_service_priority()), (512, 1530));
        assert_eq!((names.reply_priority(), names.eni_priority(), names.doomed_group()), (1535, 1536, 7063));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let names = Numbering::default;
        assert!(names().with_mark_shift(25).is_ok());
        assert!(names().with_mark_shift(26).is_err());
        assert!(names().with_table_base(255).is_err());
        assert!(names().with_table_base(u32::MAX).is_err());
        assert!(names().with_priority_base(0).is_err());
        assert!(names().with_priority_base(32764).is_err());
        assert!(names().with_veth_prefix("").is_err());
        assert!(names().with_veth_prefix("fivec").is_err());
        assert!(names().with_veth_prefix("a/b").is_err());
    }
}
