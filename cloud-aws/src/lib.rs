//! The adapter to EC2 and to instance metadata, through the AWS SDK.
//!
//! [`Ec2`] does one call of [`cloud::Cloud`] as one EC2 request and sorts what comes back; [`Metadata`] reads what the instance
//! is. Neither decides anything, and neither repeats a call to EC2: the SDK's own retries would assign twice.
//!
//! Where EC2 and metadata are is the SDK's to find out: `AWS_ENDPOINT_URL_EC2` and `AWS_ENDPOINT_URL`, `AWS_REGION`,
//! `AWS_EC2_METADATA_SERVICE_ENDPOINT`, and the default credentials chain (environment, profile, web identity, container, instance
//! metadata).

mod ec2;
mod fault;
mod http;
mod imds;
mod reads;
mod seen;
mod transit;
mod whole;

pub use ec2::{Ec2, Settings};
pub use imds::{InstanceFacts, Metadata, MetadataError, Surroundings};
