//! EC2 from its caller's side, as much of it as building a lab takes: plain forms of the Query protocol, and elements of the XML
//! that answers them. It knows a server by its address, repeats nothing, and parses no more than it is asked for.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::Bytes,
    http::{Method, Request, header},
};
use ipnet::Ipv4Net;
use thiserror::Error;
use tokio::time::timeout;

use crate::remote::{Remote, RemoteError};

/// Whoever calls EC2 by hand.
#[derive(Debug)]
pub struct Client {
    server: Remote,
    region: String,
}

/// EC2 said yes; what else it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    action: String,
    body: String,
}

/// EC2 did not say yes, or not all of it.
#[derive(Debug, Error)]
pub enum CallError {
    /// It said no.
    #[error("{action} was refused with {code}: {message}")]
    Refused {
        /// The call.
        action: String,
        /// EC2's code.
        code: String,
        /// EC2's words.
        message: String,
    },
    /// The connection failed.
    #[error("{action} was not answered")]
    Unanswered {
        /// The call.
        action: String,
        /// Why.
        source: RemoteError,
    },
    /// Nothing came.
    #[error("{action} was not answered within {PATIENCE:?}")]
    Late {
        /// The call.
        action: String,
    },
    /// An element is missing.
    #[error("the answer to {action} has no {element}: {body}")]
    Incomplete {
        /// The call.
        action: String,
        /// What it should have.
        element: String,
        /// What it has.
        body: String,
    },
}

/// The first call of a LocalStack that has just started takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The image that every node is launched from.
pub(crate) const IMAGE: &str = "ami-0123456789abcdef0";

impl Client {
    /// Calls the server at this address, in this region.
    pub fn new(server: SocketAddr, region: impl Into<String>) -> Self {
        Self { server: Remote::at(server), region: region.into() }
    }

    /// A call with these parameters.
    pub async fn call(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Answer, CallError> {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Action", action), ("Version", "2016-11-15")])
            .extend_pairs(parameters)
            .finish();
        let action = action.to_owned();
        let asked = timeout(PATIENCE, self.server.ask(self.request(form))).await;
        let answer = match asked {
            Err(_) => return Err(CallError::Late { action }),
            Ok(Err(source)) => return Err(CallError::Unanswered { action, source }),
            Ok(Ok(answer)) => answer,
        };
        let (status, body) = (answer.status(), String::from_utf8_lossy(answer.body()).into_owned());
        if !status.is_success() {
            let code = element(&body, "Code").unwrap_or(status.as_str()).to_owned();
            let message = element(&body, "Message").unwrap_or(&body).to_owned();
            return Err(CallError::Refused { action, code, message });
        }
        Ok(Answer { action, body })
    }

    /// Makes a VPC; its id.
    pub async fn create_vpc(&self, cidr: Ipv4Net) -> Result<String, CallError> {
        self.call("CreateVpc", &[("CidrBlock", &cidr.to_string())]).await?.element("vpcId")
    }

    /// Makes a subnet in a zone, as `us-west-2a`; its id.
    pub async fn create_subnet(&self, vpc: &str, cidr: Ipv4Net, zone: &str) -> Result<String, CallError> {
        let cidr = cidr.to_string();
        let wanted = [("VpcId", vpc), ("CidrBlock", &cidr), ("AvailabilityZone", zone)];
        self.call("CreateSubnet", &wanted).await?.element("subnetId")
    }

    /// Launches an instance with one ENI; its id.
    pub async fn launch(&self, instance_type: &str, subnet: &str) -> Result<String, CallError> {
        let wanted = [
            ("ImageId", IMAGE),
            ("InstanceType", instance_type),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("NetworkInterface.1.DeviceIndex", "0"),
            ("NetworkInterface.1.SubnetId", subnet),
        ];
        self.call("RunInstances", &wanted).await?.element("instanceId")
    }

    /// Signatures are not looked at, but LocalStack learns the region from where one would be (documentation of its multi-region
    /// support).
    fn request(&self, form: String) -> Request<Bytes> {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=lab/20260101/{}/ec2/aws4_request, SignedHeaders=host, Signature=00",
            self.region
        );
        let address = self.server.address().to_string();
        Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(header::HOST, address)
            .header(header::AUTHORIZATION, scope)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())
            .expect("a region and an address are header values")
    }
}

impl Answer {
    /// The text of the first element of that name.
    pub fn element(&self, name: &str) -> Result<String, CallError> {
        let found = element(&self.body, name).map(str::to_owned);
        found.ok_or_else(|| CallError::Incomplete {
            action: self.action.clone(),
            element: name.to_owned(),
            body: self.body.clone(),
        })
    }

    /// The texts of all elements of that name.
    pub fn elements(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = self.body.as_str();
        while let Some(text) = element(rest, name) {
            found.push(text.to_owned());
            rest = rest.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
        }
        found
    }
}

/// The text of the first element of that name: of one without attributes and children, as ids and addresses are.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name_in_their_order() {
        let answer = Answer {
            action: "DescribeVpcs".into(),
            body: "<a><vpcId>vpc-1</vpcId><x/></a><vpcId>vpc-2</vpcId><vpcIdSet></vpcIdSet>".into(),
        };
        assert_eq!(answer.elements("vpcId"), ["vpc-1", "vpc-2"]);
        assert_eq!(answer.element("vpcId").expect("it is there"), "vpc-1");
        let missing = answer.element("subnetId").expect_err("it is not there");
        assert!(missing.to_string().starts_with("the answer to DescribeVpcs has no subnetId"), "{missing}");
    }
}
