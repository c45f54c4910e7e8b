//! How both clients speak HTTP: rustls with ring, and the machine's own root certificates.
//!
//! Owns the choice of connector and nothing else.

use std::time::Duration;

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// A connection that idles longer is not used again: to send on one that the far side is closing leaves the call uncertain.
const IDLE: Duration = Duration::from_secs(10);

pub(crate) fn client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).pool_idle_timeout(IDLE).build_https()
}
