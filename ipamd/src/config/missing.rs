//! What is known and not done here.
//!
//! Owns the variables that are refused by name when their value asks for something, and those that change nothing. Never reads one that
//! does anything.

use super::reader::Reader;

/// What amazon-vpc-cni can do and Berth cannot, and what Berth is to do and cannot yet.
pub(super) fn refuse(from: &mut Reader<'_>) {
    from.lacks("ENABLE_IPv4", false, "pods without IPv4 are not there yet");
    from.lacks("ENABLE_IPv6", true, "IPv6 is not there yet");
    from.lacks("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", true, "custom networking is not there yet");
    from.lacks("ENABLE_POD_ENI", true, "security groups for pods are not there yet");
    from.lacks("ENABLE_MULTI_NIC", true, "network cards beyond the first are not there yet");
    from.lacks("ENABLE_V6_EGRESS", true, "IPv6 egress is not there yet");
    from.lacks("ENABLE_BANDWIDTH_PLUGIN", true, "chaining the bandwidth plugin is not there yet");
    from.lacks("ANNOTATE_POD_IP", true, "annotating pods is not there yet");
    from.lacks("DISABLE_NETWORK_RESOURCE_PROVISIONING", true, "running without provisioning is not there yet");
    from.lacks("ENABLE_IMDS_ONLY_MODE", true, "running without EC2 is not there yet");
    from.lacks("BERTH_FORWARD_ACCEPT", true, "touching the FORWARD chain is not there yet");
    from.lacks("BERTH_TAINT", true, "tainting the node is not there yet");
    if from.word("BERTH_POD_IMDS", &[("allow", false), ("deny", true)]) == Some(true) {
        from.wrong("BERTH_POD_IMDS", "deny", "keeping pods from metadata is not there yet; only allow is accepted");
    }
    let mark = from.value("AWS_VPC_K8S_CNI_CONNMARK", "a number such as 128 or 0x80", |value| {
        let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
        hex.map_or_else(|| value.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok())
    });
    if mark.is_some_and(|mark| mark != 0x80) {
        let value = from.text("AWS_VPC_K8S_CNI_CONNMARK").unwrap_or_default();
        from.wrong("AWS_VPC_K8S_CNI_CONNMARK", value, "this mark is not used here; move ours with BERTH_MARK_SHIFT");
    }
}

/// Variables that are read so that a wrong value is found, or that are only known so that they can be named.
pub(super) fn note(from: &mut Reader<'_>) {
    const KUBERNETES: &str = "without Kubernetes it has no effect";
    const SWITCH_IS_OFF: &str = "its switch is off";
    from.word("BERTH_KUBERNETES", &[("auto", ()), ("off", ())]);
    for switch in ["BERTH_CNI_EXCLUSIVE", "DISABLE_INTROSPECTION"] {
        from.switch(switch);
    }
    from.word("POD_SECURITY_GROUP_ENFORCING_MODE", &[("strict", ()), ("standard", ())]);
    from.without_effect("POD_SECURITY_GROUP_ENFORCING_MODE", SWITCH_IS_OFF);
    from.without_effect("ENI_CONFIG_ANNOTATION_DEF", SWITCH_IS_OFF);
    from.without_effect("ENI_CONFIG_LABEL_DEF", SWITCH_IS_OFF);
    from.without_effect("CLUSTER_ENDPOINT", KUBERNETES);
    from.without_effect("MY_POD_NAME", KUBERNETES);
    from.without_effect("BERTH_CRI_ENDPOINT", "lost leases are rebuilt from the kernel alone");
    from.without_effect("AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER", "it has none in amazon-vpc-cni either");
    from.without_effect("VPC_CNI_VERSION", "our own version is told");
    from.without_effect("AWS_EC2_ENDPOINT", "EC2's endpoint is AWS_ENDPOINT_URL_EC2");
    from.without_effect("INTROSPECTION_BIND_ADDRESS", "ipamctl takes its place");
    from.without_effect("AWS_VPC_K8S_CNI_LOG_FILE", "logs go to stderr");
}
