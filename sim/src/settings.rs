//! What no document settles: how long EC2's transitions take, in which order it picks addresses, what an account may hold.

use std::time::Duration;

/// How a [`crate::Vpc`] behaves where EC2's documentation leaves it open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The account number in ARNs and owner ids.
    pub account: String,
    /// The region, e.g. `us-west-2`.
    pub region: String,
    /// Letters of the region's availability zones. A subnet that names none lands in the first.
    pub zones: Vec<char>,
    /// How long the transitions take.
    pub times: Times,
    /// Which free addresses of a subnet are taken first.
    pub address_order: AddressOrder,
    /// What EC2 says when a subnet has fewer free addresses than the prefixes asked for.
    pub prefix_shortage: PrefixShortage,
    /// Reads that are answered with the past.
    pub stale_reads: StaleReads,
    /// ENIs the account may hold in the region (EC2's quota is 5,000 by default); `None` for no limit.
    pub eni_quota: Option<usize>,
}

/// How long each transition takes, from the moment EC2 accepted the call. EC2 promises none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A new ENI: `pending` until `available`.
    pub create: Duration,
    /// An attach: `attaching` until `attached`.
    pub attach: Duration,
    /// From the accepted attach until the instance sees the device. May be shorter or longer than `attach`.
    pub device: Duration,
    /// A detach: `detaching` until the ENI is `available` again.
    pub detach: Duration,
    /// The same with `Force`.
    pub forced_detach: Duration,
    /// From the accepted detach until the device is gone from the instance. At most `detach`.
    pub unplug: Duration,
    /// An instance: `pending` until `running`.
    pub start: Duration,
    /// An instance: `shutting-down` until `terminated`.
    pub stop: Duration,
}

/// Which free addresses of a subnet are taken first. Guess: EC2 does not say; newly created ENIs are seen to get ascending
/// addresses, and released ones are seen to rest for a while, which is next-fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOrder {
    /// The next free address after the last one handed out, around the subnet.
    NextFit,
    /// The lowest free address: a released address comes back at once, the harder case for its users.
    FirstFit,
}

/// Reads that are answered with the past. EC2 is eventually consistent (documentation: what a call did may not be visible to
/// the next one, for seconds or minutes), every call for itself: a later read may be staler than an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StaleReads {
    /// So much of the past is kept, and no answer is older. Zero: nothing is ever stale, and nothing is kept.
    pub most: Duration,
    /// Of a thousand calls of DescribeInstances, DescribeNetworkInterfaces and DescribeSubnets, so many are answered as the
    /// world was at a moment within `most`, all moments alike. [`crate::Vpc::lag_next_read`] makes a certain one stale.
    pub permille: u32,
}

/// What EC2 says when a subnet has fewer free addresses than the prefixes asked for. Where there are enough, but no aligned
/// /28, it is always `InsufficientCidrBlocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixShortage {
    /// `InsufficientFreeAddressesInSubnet` (documentation: the code's description).
    FreeAddresses,
    /// `InvalidParameterValue`: "There aren't sufficient free Ipv4 addresses or prefixes" (field: cilium #31016).
    Parameter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account: "123456789012".into(),
            region: "us-west-2".into(),
            zones: vec!['a', 'b', 'c'],
            times: Times::default(),
            address_order: AddressOrder::NextFit,
            prefix_shortage: PrefixShortage::FreeAddresses,
            stale_reads: StaleReads::default(),
            eni_quota: Some(5_000),
        }
    }
}

impl Default for Times {
    /// The order of magnitude that EC2 users report.
    fn default() -> Self {
        Self {
            create: Duration::from_millis(200),
            attach: Duration::from_millis(1_500),
            device: Duration::from_secs(2),
            detach: Duration::from_secs(3),
            forced_detach: Duration::from_millis(500),
            unplug: Duration::from_millis(500),
            start: Duration::from_secs(1),
            stop: Duration::from_secs(1),
        }
    }
}

impl Times {
    /// Everything takes effect in the call itself.
    pub const INSTANT: Self = Self {
        create: Duration::ZERO,
        attach: Duration::ZERO,
        device: Duration::ZERO,
        detach: Duration::ZERO,
        forced_detach: Duration::ZERO,
        unplug: Duration::ZERO,
        start: Duration::ZERO,
        stop: Duration::ZERO,
    };
}
