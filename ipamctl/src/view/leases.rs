//! `ipamctl leases`: who holds which address.

use super::{Shape, span, table::Columns};
use crate::{
    args::Output,
    convert::{Attachment, Lease},
};

/// One row per interface, in the daemon's order.
pub(super) fn list(leases: &[Lease], shape: Shape) -> String {
    let rows: Vec<(&Lease, &Attachment)> =
        leases.iter().flat_map(|lease| lease.attachments.iter().map(move |attachment| (lease, attachment))).collect();
    if rows.is_empty() {
        return "no lease\n".to_owned();
    }
    let wide = shape.output == Output::Wide;
    let mut columns = Columns::<(&Lease, &Attachment)>::new()
        .left("POD", |(lease, _)| lease.pod.clone())
        .left("ADDRESS", |(_, attachment)| attachment.addresses.join(","))
        .left("ENI", |(_, attachment)| attachment.eni_id.clone())
        .left("SANDBOX", move |(lease, _)| sandbox(&lease.container_id, wide))
        .left("IF", |(_, attachment)| attachment.ifname.clone())
        .right("AGE", |(lease, _)| span(lease.age_ms));
    if wide {
        columns = columns
            .left("LINK", |(_, attachment)| attachment.link.clone())
            .left("PATH", |(_, attachment)| attachment.path.to_owned())
            .right("GROUP", |(_, attachment)| attachment.link_group.to_string())
            .right("TABLE", |(_, attachment)| attachment.route_table.to_string())
            .right("MTU", |(_, attachment)| attachment.mtu.to_string())
            .right("GENERATION", |(lease, _)| lease.generation.to_string())
            .left("ORIGIN", |(lease, _)| lease.origin.clone())
            .left("POD UID", |(lease, _)| lease.pod_uid.clone());
    }
    columns.render(&rows, shape.lines)
}

/// The id as runtimes print it: its first twelve characters, or all of it.
fn sandbox(id: &str, whole: bool) -> String {
    if whole { id.to_owned() } else { id.chars().take(12).collect() }
}
