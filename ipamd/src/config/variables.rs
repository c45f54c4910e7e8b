//! Every variable that the daemon knows.
//!
//! Owns names and one-line meanings, from which the flags are made. Never parses a value.

/// A variable, and the flag of the same meaning.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name in the environment.
    pub name: &'static str,
    /// One line for `--help`.
    pub meaning: &'static str,
}

impl Variable {
    /// The flag: `WARM_IP_TARGET` is `--warm-ip-target`.
    pub fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }
}

const fn variable(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning }
}

/// All of them: ours first, then those of amazon-vpc-cni-k8s.
pub const VARIABLES: &[Variable] = &[
    variable("BERTH_RUN_DIR", "directory of socket, ledger and spool [/run/berth]"),
    variable("BERTH_STATE_DIR", "directory of what may survive a reboot [/var/lib/berth]"),
    variable("BERTH_METRICS_BIND", "address of /metrics, /livez and /readyz [:61678]"),
    variable(
        "BERTH_WARM",
        "targets: the WARM_* variables; demand: one free address and what the node's pods want [targets]",
    ),
    variable("BERTH_ADD_DEADLINE", "how long an ADD may wait for an address [45s]"),
    variable("BERTH_MAX_PODS", "not more addresses than pods that the node can run"),
    variable("BERTH_SHRINK_AFTER", "how long surplus stays before it is given back [60s]"),
    variable("BERTH_RECLAIM_AFTER", "how long a pod's link must be missing before its lease ends without a DEL [60s]"),
    variable(
        "BERTH_EC2_BUDGET",
        "EC2 calls at once and per second, by action, as AttachNetworkInterface=50/5,... [EC2's published rates]",
    ),
    variable("BERTH_KUBERNETES", "auto or off; Kubernetes is not asked yet, so it has no effect [auto]"),
    variable("BERTH_CNI_EXCLUSIVE", "not yet, without effect: other conflists are set aside [true]"),
    variable("BERTH_CRI_ENDPOINT", "the runtime's socket, for rebuilding leases"),
    variable("BERTH_FORWARD_ACCEPT", "not yet: two ACCEPT rules in the FORWARD chain [false]"),
    variable("BERTH_MARK_SHIFT", "where the 7-bit mark field begins [0]"),
    variable("BERTH_TABLE_BASE", "where routing tables and link groups begin [7000]"),
    variable("BERTH_PRIORITY_BASE", "where routing rules begin [512]"),
    variable("BERTH_EARLY_REUSE", "a cooling address may be used early when no other can be had [false]"),
    variable("BERTH_TAINT", "not yet: taint the node while no address can be had [false]"),
    variable("BERTH_POD_IMDS", "may pods reach instance metadata: allow or deny [allow]"),
    variable("WARM_ENI_TARGET", "whole ENIs' worth of free addresses [1]"),
    variable("WARM_IP_TARGET", "free addresses; 0 is off, otherwise WARM_ENI_TARGET does not count [0]"),
    variable("MINIMUM_IP_TARGET", "addresses to hold in total; 0 is off [0]"),
    variable(
        "WARM_PREFIX_TARGET",
        "whole free /28 prefixes, with ENABLE_PREFIX_DELEGATION; WARM_IP_TARGET goes before it [0]",
    ),
    variable("MAX_ENI", "not more ENIs than this, the primary included; below 1 is none [-1]"),
    variable(
        "ENABLE_PREFIX_DELEGATION",
        "assign /28 prefixes; needs a WARM_PREFIX_TARGET, WARM_IP_TARGET or MINIMUM_IP_TARGET [false]",
    ),
    variable("IP_COOLDOWN_PERIOD", "seconds that a released address stays unused [30]"),
    variable("ENABLE_IPv4", "pods get IPv4 addresses [true]"),
    variable("ENABLE_IPv6", "pods get IPv6 addresses [false]"),
    variable("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "pods in other subnets than the node, by ENIConfig [false]"),
    variable("ENI_CONFIG_ANNOTATION_DEF", "annotation that names a node's ENIConfig"),
    variable("ENI_CONFIG_LABEL_DEF", "label that names a node's ENIConfig"),
    variable("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "grow and give ENIs back on a cordoned node too [false]"),
    variable("ENABLE_SUBNET_DISCOVERY", "new ENIs in any subnet of the zone tagged kubernetes.io/role/cni [true]"),
    variable("DISABLE_NETWORK_RESOURCE_PROVISIONING", "attach and assign nothing [false]"),
    variable("ENABLE_IMDS_ONLY_MODE", "never call EC2 [false]"),
    variable("DISABLE_LEAKED_ENI_CLEANUP", "leave ENIs that nodes left behind alone [false]"),
    variable("MANAGE_UNTAGGED_ENI", "use ENIs on the instance that carry no tag of ours [true]"),
    variable(
        "AWS_VPC_K8S_CNI_BACKING_STORE",
        "amazon-vpc-cni's checkpoint, read at a first start [/var/run/aws-node/ipam.json]",
    ),
    variable("ENABLE_POD_ENI", "security groups for pods [false]"),
    variable("POD_SECURITY_GROUP_ENFORCING_MODE", "strict or standard, with ENABLE_POD_ENI [strict]"),
    variable("ANNOTATE_POD_IP", "write a pod's address into its annotations [false]"),
    variable("ENABLE_MULTI_NIC", "manage network cards beyond the first [false]"),
    variable("NETWORK_POLICY_ENFORCING_MODE", "none, standard or strict"),
    variable("AWS_VPC_K8S_CNI_EXTERNALSNAT", "something else translates addresses: no SNAT here [false]"),
    variable(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
        "destinations beyond the VPC that pods reach with their own address",
    ),
    variable("AWS_EXTERNAL_SERVICE_CIDRS", "destinations that are always routed by the main table"),
    variable("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "how SNAT chooses ports: prng, hashrandom or none [prng]"),
    variable("AWS_VPC_CNI_NODE_PORT_SUPPORT", "replies leave by the ENI where the connection came in [true]"),
    variable("AWS_VPC_K8S_CNI_CONNMARK", "amazon-vpc-cni's connection mark; ours is moved by BERTH_MARK_SHIFT [0x80]"),
    variable("AWS_VPC_ENI_MTU", "MTU of the ENIs, 576 to 9001 [9001]"),
    variable("POD_MTU", "MTU of pods' interfaces, 576 to 9001 [AWS_VPC_ENI_MTU]"),
    variable("AWS_VPC_K8S_CNI_VETHPREFIX", "how the host side of pods' links begins, at most 4 characters [eni]"),
    variable("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", "without effect since amazon-vpc-cni 1.12.1"),
    variable("ENABLE_V6_EGRESS", "IPv6 egress for IPv4 pods [false]"),
    variable("ENABLE_BANDWIDTH_PLUGIN", "chain the bandwidth plugin [false]"),
    variable("CLUSTER_NAME", "the cluster, for tags"),
    variable("CLUSTER_ENDPOINT", "the Kubernetes API's address"),
    variable("ADDITIONAL_ENI_TAGS", "JSON object of tags for new ENIs [{}]"),
    variable("VPC_CNI_VERSION", "amazon-vpc-cni's version, for its user agent"),
    variable("HTTP_TIMEOUT", "seconds that one EC2 or metadata request may take, 10 or more [10]"),
    variable("AWS_EC2_ENDPOINT", "without effect on EC2 calls; use AWS_ENDPOINT_URL_EC2"),
    variable("DISABLE_METRICS", "no /metrics, /livez and /readyz [false]"),
    variable("DISABLE_INTROSPECTION", "amazon-vpc-cni's introspection server; ipamctl takes its place [false]"),
    variable("INTROSPECTION_BIND_ADDRESS", "address of that server"),
    variable("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG, INFO, WARN, ERROR or FATAL; RUST_LOG goes before it [INFO]"),
    variable("AWS_VPC_K8S_CNI_LOG_FILE", "amazon-vpc-cni's log file; ours is stderr"),
    variable("MY_NODE_NAME", "the Kubernetes node"),
    variable("MY_POD_NAME", "the daemon's own pod"),
];
