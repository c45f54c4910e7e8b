//! The router's nftables table: what a VPC refuses.

/// Which of a VPC's refusals are in force. All of them, except in a test that shows what each one is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// A frame that leaves an ENI carries that ENI's MAC.
    pub mac: bool,
    /// A packet that leaves an ENI carries one of its addresses as the source.
    pub source: bool,
    /// A packet reaches only the ENI that holds its destination.
    pub destination: bool,
    /// The internet gateway translates primary addresses (those with a public one) and drops the rest, both ways.
    pub internet_gateway: bool,
}

impl Default for Checks {
    fn default() -> Self {
        Self { mac: true, source: true, destination: true, internet_gateway: true }
    }
}

/// The whole table, its sets empty.
pub(super) fn table(checks: Checks) -> String {
    format!(
        "table inet fabric {{
           set ports {{ type ifname; }}
           set macs {{ type ifname . ether_addr; }}
           set addresses {{ type ifname . ipv4_addr; }}
           set primaries {{ type ipv4_addr; }}
           chain leaving {{ type filter hook prerouting priority raw; policy accept; }}
           chain forwarding {{ type filter hook forward priority filter; policy accept; }}
         }}
         {}",
        chains(checks)
    )
}

/// The chains' rules anew, the sets as they are.
pub(super) fn chains(checks: Checks) -> String {
    let mut script = String::from("flush chain inet fabric leaving\nflush chain inet fabric forwarding\n");
    let mut rule = |in_force: bool, line: &str| {
        if in_force {
            script.push_str("add rule inet fabric ");
            script.push_str(line);
            script.push_str(" counter drop\n");
        }
    };
    rule(checks.mac, "leaving iifname @ports iifname . ether saddr != @macs");
    rule(checks.source, "leaving iifname @ports meta nfproto ipv4 iifname . ip saddr != @addresses");
    rule(checks.destination, "forwarding oifname @ports meta nfproto ipv4 oifname . ip daddr != @addresses");
    rule(checks.internet_gateway, "forwarding oifname \"inet\" ip saddr != @primaries");
    rule(checks.internet_gateway, "forwarding iifname \"inet\" ip daddr != @primaries");
    script
}
