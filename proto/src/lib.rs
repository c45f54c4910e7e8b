//! The gRPC protocol between the daemon, the plugin and the CLI.
//!
//! Owns the `.proto` files, the committed generated code and the two functions that put a [`v1::Refusal`] into a
//! [`tonic::Status`] and take it out again. Holds no logic: these types stop at one `convert` module per program.

#[allow(missing_docs, clippy::pedantic, unreachable_pub, missing_debug_implementations)]
#[rustfmt::skip]
/// Generated from `berth/v1/ipam.proto`.
pub mod v1 {
    include!("gen/berth.v1.rs");
}

#[allow(missing_docs, clippy::pedantic, unreachable_pub)]
#[rustfmt::skip]
mod rpc {
    include!("gen/google.rpc.rs");
}

use prost::Message as _;

/// Type URL of the refusal inside `google.rpc.Status.details`.
const REFUSAL_URL: &str = "type.googleapis.com/berth.v1.Refusal";

/// A refusal as gRPC carries it: the code, the sentence for people, and the typed detail.
pub fn refuse(code: tonic::Code, refusal: &v1::Refusal) -> tonic::Status {
    let status = rpc::Status {
        code: i32::from(code),
        message: refusal.message.clone(),
        details: vec![prost_types::Any { type_url: REFUSAL_URL.to_owned(), value: refusal.encode_to_vec() }],
    };
    tonic::Status::with_details(code, refusal.message.clone(), status.encode_to_vec().into())
}

/// The refusal inside a status; `None` when the peer sent none, or one that cannot be read.
pub fn refusal(status: &tonic::Status) -> Option<v1::Refusal> {
    let rich = rpc::Status::decode(status.details()).ok()?;
    let detail = rich.details.iter().find(|any| any.type_url == REFUSAL_URL)?;
    v1::Refusal::decode(detail.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        let said = v1::Refusal {
            reason: v1::Reason::SubnetExhausted.into(),
            message: "no free address in subnet-1".into(),
            subnet: "subnet-1".into(),
            ..Default::default()
        };
        assert_eq!(refusal(&refuse(tonic::Code::ResourceExhausted, &said)), Some(said));
        assert_eq!(refusal(&tonic::Status::unavailable("gone")), None);
    }
}
