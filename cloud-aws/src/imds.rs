//! Instance metadata: what this instance is, asked of the instance itself.
//!
//! Owns which paths are read and what they mean. Needs no permissions and spends nothing of EC2's budgets, but lags behind EC2 by
//! seconds to minutes: it is never asked which addresses an ENI has.
//!
//! Paths: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>.

use std::{error::Error as StdError, fmt, net::Ipv4Addr, str::FromStr, time::Duration};

use aws_config::{
    imds::client::{Builder, Client, error::ImdsError},
    provider_config::ProviderConfig,
};
use ipnet::Ipv4Net;
use pool::{EniId, InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

/// What the instance is. All but [`InstanceFacts::surroundings`] stays as it is for the life of the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its id.
    pub instance: InstanceId,
    /// Its type, `m5.large`: what DescribeInstanceTypes gives limits for.
    pub instance_type: String,
    /// Its region, `eu-central-1`.
    pub region: String,
    /// Its availability zone, `eu-central-1a`.
    pub zone: String,
    /// Its VPC, `vpc-…`.
    pub vpc: VpcId,
    /// The ENI at device index 0.
    pub primary: EniId,
    /// The primary ENI's hardware address.
    pub mac: Mac,
    /// The primary ENI's own address.
    pub address: Ipv4Addr,
    /// The primary ENI's subnet.
    pub subnet: SubnetId,
    /// That subnet's addresses.
    pub subnet_cidr: Ipv4Net,
    /// What may change while the instance runs.
    pub surroundings: Surroundings,
}

/// What may change while an instance runs, worth reading again now and then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The primary ENI's security groups.
    pub groups: Vec<SecurityGroupId>,
    /// All of the VPC's IPv4 ranges, the first one included.
    pub vpc_cidrs: Vec<Ipv4Net>,
}

/// Metadata that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Nobody answers, or not in time.
    #[error("instance metadata cannot be reached for {path}")]
    Unreachable {
        /// What was asked for.
        path: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Metadata has no such thing.
    #[error("instance metadata has no {path}")]
    Missing {
        /// What was asked for.
        path: String,
    },
    /// Metadata is switched off for the instance, or out of order.
    #[error("instance metadata refuses {path} with status {status}")]
    Refused {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// An answer that means nothing.
    #[error("instance metadata has {value:?} at {path}, not {expected}")]
    Unreadable {
        /// What was asked for.
        path: String,
        /// What was there.
        value: String,
        /// What should have been there.
        expected: &'static str,
    },
}

/// The instance's metadata service, version 2.
#[derive(Clone)]
pub struct Metadata {
    client: Client,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").finish_non_exhaustive()
    }
}

/// Metadata answers from the hypervisor, in milliseconds or not at all.
const TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 2;

impl Default for Metadata {
    fn default() -> Self {
        Self::new()
    }
}

impl Metadata {
    /// Where `AWS_EC2_METADATA_SERVICE_ENDPOINT` says, or 169.254.169.254. Talks to nobody yet.
    pub fn new() -> Self {
        Self { client: builder().build() }
    }

    /// At this URL, whatever the environment says.
    pub fn at(url: &str) -> Result<Self, MetadataError> {
        let unreachable = |source| MetadataError::Unreachable { path: url.to_owned(), source };
        Ok(Self { client: builder().endpoint(url).map_err(unreachable)?.build() })
    }

    /// Everything about the instance: a dozen requests.
    pub async fn facts(&self) -> Result<InstanceFacts, MetadataError> {
        let mac: Mac = self.parsed("mac", "a hardware address").await?;
        Ok(InstanceFacts {
            instance: self.text("instance-id").await?.into(),
            instance_type: self.text("instance-type").await?,
            region: self.text("placement/region").await?,
            zone: self.text("placement/availability-zone").await?,
            vpc: self.text(&of(mac, "vpc-id")).await?.into(),
            primary: self.text(&of(mac, "interface-id")).await?.into(),
            mac,
            address: self.parsed("local-ipv4", "an IPv4 address").await?,
            subnet: self.text(&of(mac, "subnet-id")).await?.into(),
            subnet_cidr: self.subnet_cidr(mac).await?,
            surroundings: self.surroundings(mac).await?,
        })
    }

    /// What may have changed: two requests. `mac`: the primary ENI's.
    pub async fn surroundings(&self, mac: Mac) -> Result<Surroundings, MetadataError> {
        let groups = self.lines(&of(mac, "security-group-ids"), "a security group").await?;
        let vpc_cidrs = self.lines(&of(mac, "vpc-ipv4-cidr-blocks"), "an IPv4 range").await?;
        Ok(Surroundings { groups: groups.into_iter().map(|GroupId(id)| id.into()).collect(), vpc_cidrs })
    }

    /// The subnet of any ENI attached to the instance. A new ENI is [`MetadataError::Missing`] for a while.
    pub async fn subnet_cidr(&self, mac: Mac) -> Result<Ipv4Net, MetadataError> {
        self.parsed(&of(mac, "subnet-ipv4-cidr-block"), "an IPv4 range").await
    }

    async fn lines<T: FromStr>(&self, path: &str, expected: &'static str) -> Result<Vec<T>, MetadataError> {
        let text = self.text(path).await?;
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| parse(line, path, expected)).collect()
    }

    async fn parsed<T: FromStr>(&self, path: &str, expected: &'static str) -> Result<T, MetadataError> {
        parse(&self.text(path).await?, path, expected)
    }

    /// Never empty.
    async fn text(&self, path: &str) -> Result<String, MetadataError> {
        let answer = self.client.get(format!("/latest/meta-data/{path}")).await.map_err(|error| sorted(error, path))?;
        match answer.as_ref().trim() {
            "" => Err(MetadataError::Missing { path: path.to_owned() }),
            text => Ok(text.to_owned()),
        }
    }
}

fn builder() -> Builder {
    let config = ProviderConfig::without_region().with_http_client(crate::http::client());
    Client::builder().configure(&config).connect_timeout(TIMEOUT).read_timeout(TIMEOUT).max_attempts(ATTEMPTS)
}

struct GroupId(String);

impl FromStr for GroupId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.starts_with("sg-") { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

fn of(mac: Mac, what: &str) -> String {
    format!("network/interfaces/macs/{mac}/{what}")
}

fn parse<T: FromStr>(value: &str, path: &str, expected: &'static str) -> Result<T, MetadataError> {
    let unreadable = |_| MetadataError::Unreadable { path: path.to_owned(), value: value.to_owned(), expected };
    value.parse().map_err(unreadable)
}

fn sorted(error: ImdsError, path: &str) -> MetadataError {
    let path = path.to_owned();
    match error {
        ImdsError::ErrorResponse(refusal) => match refusal.response().status().as_u16() {
            404 => MetadataError::Missing { path },
            status => MetadataError::Refused { path, status },
        },
        error => MetadataError::Unreachable { path, source: error.into() },
    }
}
