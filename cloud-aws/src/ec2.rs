//! EC2's calls through aws-sdk-ec2.
//!
//! Owns the client and how each call that changes something becomes a request; [`crate::reads`] has the others. Never repeats one and
//! never decides what an answer means: [`crate::seen`] reads what came back, [`crate::fault`] says what a failure was.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, meta::region::RegionProviderChain};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ec2::{
    Client,
    config::{IdentityCache, SharedIdentityCache, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{InstanceType, NetworkInterfaceAttachmentChanges, ResourceType, Tag, TagSpecification},
};
use cloud::{Action, Answer, Call, Cloud, Error, Kind};
use pool::{Ask, Limits};
use tracing::debug;

use crate::{fault, seen, transit::Transit};

/// How to reach EC2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The region, unless `AWS_REGION` names one.
    pub region: String,
    /// Where EC2 answers; `None`: where the SDK's variables and the region say.
    pub endpoint: Option<String>,
    /// Longest time to get a connection, TLS included.
    pub connect_timeout: Duration,
    /// Longest time for a call, credentials, connection and all pages included.
    pub call_timeout: Duration,
    /// As many results as a page has at most: 5 to 1000.
    pub page: u16,
}

impl Settings {
    /// 3 s for a connection and 15 s for a call, pages as long as EC2 gives them, against the region's own EC2.
    pub fn new(region: impl Into<String>) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(15),
            page: 1000,
        }
    }
}

/// EC2, one request a call.
#[derive(Debug, Clone)]
pub struct Ec2 {
    /// Another one takes its place when EC2 refuses its credentials.
    client: Arc<RwLock<Client>>,
    pub(crate) call_timeout: Duration,
    pub(crate) page: i32,
}

impl Ec2 {
    /// A client with the credentials of the default chain. Talks to nobody yet: credentials are loaded by the first call.
    pub async fn new(settings: &Settings) -> Self {
        Self::from_loader(settings, aws_config::defaults(BehaviorVersion::v2026_01_12())).await
    }

    /// A client with the given credentials.
    pub async fn with_credentials(settings: &Settings, credentials: impl ProvideCredentials + 'static) -> Self {
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).credentials_provider(credentials);
        Self::from_loader(settings, loader).await
    }

    async fn from_loader(settings: &Settings, loader: aws_config::ConfigLoader) -> Self {
        let region =
            RegionProviderChain::first_try(aws_config::environment::region::EnvironmentVariableRegionProvider::new())
                .or_else(Region::new(settings.region.clone()));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(settings.connect_timeout)
            .operation_timeout(settings.call_timeout)
            .build();
        let mut loader = loader
            .region(region)
            .http_client(crate::http::client())
            .identity_cache(no_credentials_yet(settings.call_timeout))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(endpoint) = &settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let client = Client::new(&loader.load().await);
        Self {
            client: Arc::new(RwLock::new(client)),
            call_timeout: settings.call_timeout,
            page: i32::from(settings.page),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// EC2 refuses who we say we are: the next call asks for credentials anew, though those in hand claim to be good for hours. The
    /// connections stay.
    fn forget_credentials(&self) {
        let mut client = self.client.write().unwrap_or_else(PoisonError::into_inner);
        let config = client.config().to_builder().identity_cache(no_credentials_yet(self.call_timeout)).build();
        *client = Client::from_conf(config);
    }

    /// DescribeInstanceTypes: what EC2 allows an instance of this type, on network card 0.
    pub async fn instance_limits(&self, instance_type: &str) -> Result<Limits, Error> {
        let call = self.client().describe_instance_types().instance_types(InstanceType::from(instance_type));
        let outcome = ask(Action::DescribeInstanceTypes, |sent| call.customize().interceptor(sent).send()).await;
        let output = outcome.inspect_err(|error| self.heed(error))?;
        let found = output.instance_types();
        let named = found.iter().find(|found| found.instance_type().is_some_and(|name| name.as_str() == instance_type));
        seen::limits(instance_type, named).map_err(|missing| fault::incomplete(Action::DescribeInstanceTypes, &missing))
    }
}

impl Cloud for Ec2 {
    async fn call(&self, call: Call) -> Result<Answer, Error> {
        self.send(call).await.inspect_err(|error| self.heed(error))
    }
}

impl Ec2 {
    fn heed(&self, error: &Error) {
        if error.kind == Kind::Credentials {
            self.forget_credentials();
        }
    }

    async fn send(&self, call: Call) -> Result<Answer, Error> {
        let action = call.action();
        match call {
            Call::CreateEni { token, subnet, groups, ask: wanted, description, tags } => {
                let (addresses, prefixes) = counts(wanted);
                let groups = groups.iter().map(|group| group.as_str().to_owned()).collect();
                let call = self
                    .client()
                    .create_network_interface()
                    .client_token(token.as_str())
                    .subnet_id(subnet.as_str())
                    .set_groups(Some(groups))
                    .set_secondary_private_ip_address_count(addresses)
                    .set_ipv4_prefix_count(prefixes)
                    .description(description)
                    .set_tag_specifications(specification(tags));
                let output = ask(action, |sent| call.customize().interceptor(sent).send()).await?;
                seen::created(&output).map(Answer::Created).map_err(|missing| fault::incomplete(action, &missing))
            }
            Call::Attach { eni, instance, device } => {
                let call = self
                    .client()
                    .attach_network_interface()
                    .network_interface_id(eni.as_str())
                    .instance_id(instance.as_str())
                    .device_index(number(device.0))
                    // Said although it is the default: cilium/cilium#42512.
                    .network_card_index(0);
                let output = ask(action, |sent| call.customize().interceptor(sent).send()).await?;
                seen::attached(&output).map(Answer::Attached).map_err(|missing| fault::incomplete(action, &missing))
            }
            Call::Protect { eni, attachment } => {
                let change = NetworkInterfaceAttachmentChanges::builder()
                    .attachment_id(attachment.as_str())
                    .delete_on_termination(true)
                    .build();
                let call = self
                    .client()
                    .modify_network_interface_attribute()
                    .network_interface_id(eni.as_str())
                    .attachment(change);
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::SetGroups { eni, groups } => {
                let groups = groups.iter().map(|group| group.as_str().to_owned()).collect();
                let call = self
                    .client()
                    .modify_network_interface_attribute()
                    .network_interface_id(eni.as_str())
                    .set_groups(Some(groups));
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::Assign { eni, ask: wanted } => {
                let (addresses, prefixes) = counts(wanted);
                let call = self
                    .client()
                    .assign_private_ip_addresses()
                    .network_interface_id(eni.as_str())
                    .set_secondary_private_ip_address_count(addresses)
                    .set_ipv4_prefix_count(prefixes);
                let output = ask(action, |sent| call.customize().interceptor(sent).send()).await?;
                seen::assigned(&output).map_err(|missing| fault::incomplete(action, &missing))
            }
            Call::Unassign { eni, addresses, prefixes } => {
                let call = self
                    .client()
                    .unassign_private_ip_addresses()
                    .network_interface_id(eni.as_str())
                    .set_private_ip_addresses(written(&addresses))
                    .set_ipv4_prefixes(written(&prefixes));
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::Tag { eni, tags } => {
                let call = self.client().create_tags().resources(eni.as_str()).set_tags(Some(self::tags(tags)));
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::Detach { attachment, .. } => {
                let call = self.client().detach_network_interface().attachment_id(attachment.as_str());
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::Delete { eni } => {
                let call = self.client().delete_network_interface().network_interface_id(eni.as_str());
                ask(action, |sent| call.customize().interceptor(sent).send()).await.map(|_| Answer::Done)
            }
            Call::Describe { eni } => self.describe(&eni).await.map(Answer::Described),
            Call::Discover { instance } => self.discover(&instance).await.map(Answer::Discovered),
            Call::Subnets { vpc, zone } => self.subnets(&vpc, zone).await.map(Answer::Subnets),
            Call::Leaked { vpc, cluster } => self.leaked(&vpc, cluster).await.map(Answer::Leaked),
            Call::Instances { instances } => self.existing(&instances).await.map(Answer::Instances),
        }
    }
}

/// Sends one request and watches how far it got.
pub(crate) async fn ask<T, E, F>(action: Action, send: impl FnOnce(Transit) -> F) -> Result<T, Error>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    F: Future<Output = Result<T, SdkError<E>>> + Send,
{
    let transit = Transit::new(action);
    let begun = Instant::now();
    let outcome = send(transit.clone()).await.map_err(|error| fault::sorted(action, error, &transit));
    match &outcome {
        Ok(_) => debug!(%action, took = ?begun.elapsed(), "EC2 answered"),
        Err(error) => {
            debug!(%action, took = ?begun.elapsed(), kind = ?error.kind, code = error.code, message = error.message, "EC2 call failed");
        }
    }
    outcome
}

/// Patient for longer than any call: that credentials do not come in time shows as a call that was not sent in time.
fn no_credentials_yet(call_timeout: Duration) -> SharedIdentityCache {
    IdentityCache::lazy().load_timeout(call_timeout * 2).build()
}

fn specification(tags: BTreeMap<String, String>) -> Option<Vec<TagSpecification>> {
    if tags.is_empty() {
        return None;
    }
    let tags = self::tags(tags);
    Some(vec![TagSpecification::builder().resource_type(ResourceType::NetworkInterface).set_tags(Some(tags)).build()])
}

fn tags(tags: BTreeMap<String, String>) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Addresses and prefixes to ask for. EC2 refuses to be asked for none.
fn counts(wanted: Ask) -> (Option<i32>, Option<i32>) {
    let some = |count| (count > 0).then(|| number(count));
    match wanted {
        Ask::Addresses(count) => (some(count), None),
        Ask::Prefixes(count) => (None, some(count)),
    }
}

/// A list as EC2 reads it; `None`: the request does not have it.
fn written(all: &[impl ToString]) -> Option<Vec<String>> {
    (!all.is_empty()).then(|| all.iter().map(ToString::to_string).collect())
}

/// EC2's numbers are signed; ours that are too large for it are as wrong as the largest.
fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
