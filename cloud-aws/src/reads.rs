//! What EC2 is asked that changes nothing.
//!
//! Owns the filters, the pages and their bounds. An answer is whole or there is none, but for what nodes left behind: of that, any part
//! is good. Never repeats a request.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use aws_sdk_ec2::types::{Filter, InstanceStateName, Reservation};
use cloud::{Action, Error, Kind};
use pool::{EniId, InstanceId, SeenEni, SeenSubnet, VpcId};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::{Ec2, ec2::ask, fault, seen};

/// An instance has at most some dozens of ENIs, a VPC at most 200 subnets unless AWS raised that.
const MOST_PAGES: usize = 20;
/// What nodes left behind is read this far: the rest is there an hour later.
const LEAKED_PAGES: usize = 5;
/// A filter takes so many values
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>).
const FILTER_VALUES: usize = 200;
/// The SDK measures each request from a little later on, and knows more about one that is late: the first page's is its to end.
const GRACE: Duration = Duration::from_millis(100);

const ENIS: &str = "networkInterfaceSet";

/// What amazon-vpc-cni and Berth write on every ENI that they create.
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";

impl Ec2 {
    pub(crate) async fn describe(&self, eni: &EniId) -> Result<Option<SeenEni>, Error> {
        const ACTION: Action = Action::DescribeNetworkInterfaces;
        let call = self.client().describe_network_interfaces().network_interface_ids(eni.as_str());
        match ask(ACTION, |sent| call.customize().interceptor(sent).send()).await {
            Ok(output) => {
                let enis = listed(ACTION, output.network_interfaces.as_deref(), ENIS)?;
                let found = enis.iter().find(|found| found.network_interface_id() == Some(eni.as_str()));
                match found {
                    Some(found) => seen::eni(found).map(Some).map_err(|missing| fault::incomplete(ACTION, &missing)),
                    None if enis.is_empty() => Ok(None),
                    // Something else instead is not word that it is gone.
                    None => Err(fault::incomplete(ACTION, &seen::another(eni))),
                }
            }
            Err(error) if error.kind == Kind::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// However many pages there are, they have the time of one call.
    async fn within<T>(
        &self,
        begun: Instant,
        action: Action,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout_at(begun + self.call_timeout + GRACE, asked).await.unwrap_or_else(|_| Err(fault::late(action)))
    }

    pub(crate) async fn discover(&self, instance: &InstanceId) -> Result<Vec<SeenEni>, Error> {
        const ACTION: Action = Action::DescribeNetworkInterfaces;
        let ours = filter("attachment.instance-id", [instance.as_str()]);
        let mut enis = BTreeMap::new();
        let mut page = Page::First;
        let begun = Instant::now();
        for _ in 0..MOST_PAGES {
            let call = self.client().describe_network_interfaces().filters(ours.clone());
            let call = call.max_results(self.page).set_next_token(page.token());
            let asked = ask(ACTION, |sent| call.customize().interceptor(sent).send());
            let output = self.within(begun, ACTION, asked).await?;
            for found in listed(ACTION, output.network_interfaces.as_deref(), ENIS)? {
                let eni = seen::eni(found).map_err(|missing| fault::incomplete(ACTION, &missing))?;
                // Pages are read one after the other: what is on two of them is as the later one has it.
                enis.insert(eni.id.clone(), eni);
            }
            page = Page::after(output.next_token());
            if page == Page::None {
                return Ok(enis.into_values().collect());
            }
        }
        Err(fault::endless(ACTION))
    }

    pub(crate) async fn subnets(&self, vpc: &VpcId, zone: String) -> Result<Vec<SeenSubnet>, Error> {
        const ACTION: Action = Action::DescribeSubnets;
        let filters = vec![filter("vpc-id", [vpc.as_str()]), filter("availability-zone", [zone])];
        let mut subnets = BTreeMap::new();
        let mut page = Page::First;
        let begun = Instant::now();
        for _ in 0..MOST_PAGES {
            let call = self.client().describe_subnets().set_filters(Some(filters.clone()));
            let call = call.max_results(self.page).set_next_token(page.token());
            let asked = ask(ACTION, |sent| call.customize().interceptor(sent).send());
            let output = self.within(begun, ACTION, asked).await?;
            for found in listed(ACTION, output.subnets.as_deref(), "subnetSet")? {
                let subnet = seen::subnet(found).map_err(|missing| fault::incomplete(ACTION, &missing))?;
                subnets.insert(subnet.id.clone(), subnet);
            }
            page = Page::after(output.next_token());
            if page == Page::None {
                return Ok(subnets.into_values().collect());
            }
        }
        Err(fault::endless(ACTION))
    }

    pub(crate) async fn leaked(&self, vpc: &VpcId, cluster: Option<String>) -> Result<Vec<SeenEni>, Error> {
        const ACTION: Action = Action::DescribeNetworkInterfaces;
        let mut filters =
            vec![filter("tag-key", [INSTANCE_TAG]), filter("status", ["available"]), filter("vpc-id", [vpc.as_str()])];
        filters.extend(cluster.map(|cluster| filter(&format!("tag:{CLUSTER_TAG}"), [cluster])));
        let mut enis = BTreeMap::new();
        let mut page = Page::First;
        let begun = Instant::now();
        for _ in 0..LEAKED_PAGES {
            let call = self.client().describe_network_interfaces().set_filters(Some(filters.clone()));
            let call = call.max_results(self.page).set_next_token(page.token());
            let asked = ask(ACTION, |sent| call.customize().interceptor(sent).send());
            let output = self.within(begun, ACTION, asked).await?;
            for found in listed(ACTION, output.network_interfaces.as_deref(), ENIS)? {
                match seen::eni(found) {
                    Ok(eni) => _ = enis.insert(eni.id.clone(), eni),
                    // Somebody else's oddity must not keep ours from being found.
                    Err(missing) => debug!(%missing, "passed over an ENI that makes no sense"),
                }
            }
            page = Page::after(output.next_token());
            if page == Page::None {
                break;
            }
        }
        Ok(enis.into_values().collect())
    }

    /// Which of these are neither terminated nor on the way there. They are asked for by a filter: by id, one that EC2 has forgotten
    /// would fail the whole request.
    pub(crate) async fn existing(&self, instances: &[InstanceId]) -> Result<Vec<InstanceId>, Error> {
        let mut existing = BTreeSet::new();
        let begun = Instant::now();
        for some in instances.chunks(FILTER_VALUES) {
            existing.append(&mut self.existing_of(begun, some).await?);
        }
        Ok(existing.into_iter().collect())
    }

    async fn existing_of(&self, begun: Instant, instances: &[InstanceId]) -> Result<BTreeSet<InstanceId>, Error> {
        const ACTION: Action = Action::DescribeInstances;
        let these = filter("instance-id", instances.iter().map(InstanceId::as_str));
        let mut existing = BTreeSet::new();
        let mut page = Page::First;
        for _ in 0..MOST_PAGES {
            let call = self.client().describe_instances().filters(these.clone());
            let call = call.max_results(self.page).set_next_token(page.token());
            let asked = ask(ACTION, |sent| call.customize().interceptor(sent).send());
            let output = self.within(begun, ACTION, asked).await?;
            let reservations = listed(ACTION, output.reservations.as_deref(), "reservationSet")?;
            for found in reservations.iter().flat_map(Reservation::instances) {
                let state = found.state().and_then(|state| state.name());
                let ended = [InstanceStateName::ShuttingDown, InstanceStateName::Terminated];
                // A state that nobody has heard of, or none, is no end.
                if !state.is_some_and(|state| ended.contains(state)) {
                    existing.insert(seen::instance(found).map_err(|missing| fault::incomplete(ACTION, &missing))?);
                }
            }
            page = Page::after(output.next_token());
            if page == Page::None {
                return Ok(existing);
            }
        }
        Err(fault::endless(ACTION))
    }
}

/// Where in a long answer we are. EC2 may answer with an empty page and a token: only a page without one is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    First,
    Next(String),
    None,
}

impl Page {
    fn after(token: Option<&str>) -> Self {
        token.filter(|token| !token.is_empty()).map_or(Self::None, |token| Self::Next(token.to_owned()))
    }

    fn token(&self) -> Option<String> {
        match self {
            Self::Next(token) => Some(token.clone()),
            Self::First | Self::None => None,
        }
    }
}

/// EC2 writes an empty list where there is nothing. No list is no answer, least of all "there is none".
fn listed<'a, T>(action: Action, list: Option<&'a [T]>, name: &'static str) -> Result<&'a [T], Error> {
    list.ok_or_else(|| fault::incomplete(action, &seen::no_list(name)))
}

fn filter<V: Into<String>>(name: &str, values: impl IntoIterator<Item = V>) -> Filter {
    let values = values.into_iter().map(Into::into).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}
