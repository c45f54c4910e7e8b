//! The effective configuration, as `--check-config` prints it.
//!
//! Owns the printed form: given back to the daemon, it gives the same configuration. Never leaves a setting out.

use std::fmt;

use ipnet::Ipv4Net;
use pool::{Policy, Warm};

use super::{Config, SnatPorts, Wiring, budget};

impl fmt::Display for Config {
    /// One `VARIABLE=value` a line: given back to the daemon, it gives the same configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without `..`, so that a new setting cannot be left out.
        let Self {
            policy:
                Policy {
                    warm,
                    prefixes,
                    max_eni,
                    max_pods,
                    cooling,
                    early_reuse,
                    shrink_after,
                    reclaim_after,
                    subnet_discovery,
                    manage_unschedulable,
                    clean_leaked,
                    manage_untagged,
                    cluster,
                    tags,
                    budgets,
                },
            add_deadline,
            run_dir,
            state_dir,
            checkpoint,
            metrics,
            http_timeout,
            wiring:
                Wiring {
                    external_snat,
                    no_snat,
                    by_main,
                    ports,
                    eni_mtu,
                    pod_mtu,
                    link_prefix,
                    mark_shift,
                    table_base,
                    priority_base,
                    node_ports,
                },
            network_policy_mode,
            node_name,
            log_level,
        } = self;
        let or_empty = |value: &Option<u32>| value.map_or_else(String::new, |value| value.to_string());
        let networks = |list: &[Ipv4Net]| list.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(",");
        // Each target that has no effect is shown as it is when nobody sets it.
        let (enis, addresses, minimum, whole) = match warm {
            Warm::Enis(enis) => (*enis, 0, 0, 0),
            Warm::Addresses { warm, minimum } => (1, *warm, *minimum, 0),
            Warm::Prefixes(whole) => (1, 0, 0, *whole),
            Warm::Demand => (1, 0, 0, 0),
        };
        let mode = if *warm == Warm::Demand { "demand" } else { "targets" };
        writeln!(f, "BERTH_RUN_DIR={}", run_dir.display())?;
        writeln!(f, "BERTH_STATE_DIR={}", state_dir.display())?;
        writeln!(f, "AWS_VPC_K8S_CNI_BACKING_STORE={}", checkpoint.display())?;
        match metrics {
            Some(bind) => writeln!(f, "BERTH_METRICS_BIND={bind}")?,
            None => writeln!(f, "DISABLE_METRICS=true")?,
        }
        writeln!(f, "BERTH_WARM={mode}")?;
        writeln!(f, "BERTH_ADD_DEADLINE={}", humantime::format_duration(*add_deadline))?;
        writeln!(f, "BERTH_MAX_PODS={}", or_empty(max_pods))?;
        writeln!(f, "BERTH_SHRINK_AFTER={}", humantime::format_duration(*shrink_after))?;
        writeln!(f, "BERTH_RECLAIM_AFTER={}", humantime::format_duration(*reclaim_after))?;
        writeln!(f, "BERTH_EARLY_REUSE={early_reuse}")?;
        writeln!(f, "BERTH_EC2_BUDGET={}", budget::shown(budgets))?;
        writeln!(f, "AWS_VPC_CNI_NODE_PORT_SUPPORT={node_ports}")?;
        writeln!(f, "BERTH_MARK_SHIFT={mark_shift}")?;
        writeln!(f, "BERTH_TABLE_BASE={table_base}")?;
        writeln!(f, "BERTH_PRIORITY_BASE={priority_base}")?;
        writeln!(f, "WARM_ENI_TARGET={enis}")?;
        writeln!(f, "WARM_IP_TARGET={addresses}")?;
        writeln!(f, "MINIMUM_IP_TARGET={minimum}")?;
        writeln!(f, "WARM_PREFIX_TARGET={whole}")?;
        writeln!(f, "ENABLE_PREFIX_DELEGATION={prefixes}")?;
        writeln!(f, "MAX_ENI={}", or_empty(max_eni))?;
        writeln!(f, "IP_COOLDOWN_PERIOD={}", cooling.as_secs())?;
        writeln!(f, "ENABLE_SUBNET_DISCOVERY={subnet_discovery}")?;
        writeln!(f, "AWS_MANAGE_ENIS_NON_SCHEDULABLE={manage_unschedulable}")?;
        writeln!(f, "DISABLE_LEAKED_ENI_CLEANUP={}", !clean_leaked)?;
        writeln!(f, "MANAGE_UNTAGGED_ENI={manage_untagged}")?;
        writeln!(f, "CLUSTER_NAME={}", cluster.as_deref().unwrap_or_default())?;
        writeln!(f, "ADDITIONAL_ENI_TAGS={}", serde_json::json!(tags))?;
        writeln!(f, "HTTP_TIMEOUT={}", http_timeout.as_secs())?;
        writeln!(f, "AWS_VPC_K8S_CNI_EXTERNALSNAT={external_snat}")?;
        writeln!(f, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS={}", networks(no_snat))?;
        writeln!(f, "AWS_EXTERNAL_SERVICE_CIDRS={}", networks(by_main))?;
        writeln!(f, "AWS_VPC_K8S_CNI_RANDOMIZESNAT={}", ports.name())?;
        writeln!(f, "AWS_VPC_ENI_MTU={eni_mtu}")?;
        writeln!(f, "POD_MTU={pod_mtu}")?;
        writeln!(f, "AWS_VPC_K8S_CNI_VETHPREFIX={link_prefix}")?;
        writeln!(f, "NETWORK_POLICY_ENFORCING_MODE={network_policy_mode}")?;
        writeln!(f, "MY_NODE_NAME={}", node_name.as_deref().unwrap_or_default())?;
        writeln!(f, "AWS_VPC_K8S_CNI_LOGLEVEL={}", log_level.name().to_ascii_uppercase())
    }
}

impl SnatPorts {
    /// amazon-vpc-cni's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullyRandom => "prng",
            Self::Random => "hashrandom",
            Self::AsIs => "none",
        }
    }
}
