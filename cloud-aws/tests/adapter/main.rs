//! The adapter against a scripted EC2 and scripted metadata: what goes over the wire, what is made of the answers, and what is
//! made of it when there are none.

mod broken;
mod calls;
mod connections;
mod credentials;
mod failures;
mod metadata;
mod nonsense;
mod reads;
mod recorded;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_credential_types::Credentials;
use cloud_aws::{Ec2, Settings};

/// A client of the scripted EC2 that gives up soon.
async fn client(endpoint: String) -> Ec2 {
    let settings = Settings {
        endpoint: Some(endpoint),
        connect_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_secs(2),
        ..Settings::new("eu-central-1")
    };
    Ec2::with_credentials(&settings, Credentials::new("AKIDEXAMPLE", "secret", None, None, "test")).await
}
