//! The whole model: one account in one region. Dispatch, time, client tokens, and the truth behind EC2's answers.

use std::{collections::BTreeMap, time::Duration};

use ipnet::Ipv4Net;
use rand::{Rng, RngExt};

use crate::{
    assignments::Holding,
    attachments::{Attached, AttachmentChange, Place},
    enis::Eni,
    faults::Fault,
    instance_types,
    instances::Instance,
    kept::Kept,
    networks::{Group, Network, Subnet},
    requests::{Action, Request},
    reservations::Reservation,
    responses::{self, Response},
    settings::{Settings, StaleReads},
};

/// EC2, as far as a VPC CNI sees it. See the crate.
#[derive(Clone, Debug)]
pub struct Vpc {
    pub(crate) settings: Settings,
    pub(crate) now: Duration,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) subnets: BTreeMap<String, Subnet>,
    pub(crate) reservations: BTreeMap<String, Reservation>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// `AvailableIpAddressCount`, by subnet.
    pub(crate) free: Kept<u32>,
    pub(crate) enis: Kept<Eni>,
    pub(crate) instances: Kept<Instance>,
    due: BTreeMap<(Duration, u64), Due>,
    tokens: BTreeMap<(Action, String), Remembered>,
    tally: BTreeMap<Action, Tally>,
    next_lag: Option<Duration>,
    next_serial: u64,
    revision: u64,
}

/// How often an action was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that EC2 answered with success.
    pub accepted: u64,
    /// Calls that EC2 answered with a [`Fault`].
    pub refused: u64,
}

/// A change that comes with time.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    EniCreated { eni: String },
    Attachment { eni: String, attachment: String, change: AttachmentChange },
    Running { instance: String },
    Terminated { instance: String },
}

/// What a client token stands for: the request and the id that it made.
#[derive(Clone, Debug)]
struct Remembered {
    request: Request,
    made: String,
}

impl Vpc {
    /// An empty region.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now: Duration::ZERO,
            networks: BTreeMap::new(),
            subnets: BTreeMap::new(),
            reservations: BTreeMap::new(),
            groups: BTreeMap::new(),
            free: Kept::default(),
            enis: Kept::default(),
            instances: Kept::default(),
            due: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tally: BTreeMap::new(),
            next_lag: None,
            next_serial: 0,
            revision: 0,
        }
    }

    /// One call. `now` is the time since the beginning of this world; a `now` before the latest one counts as the latest.
    /// `rng` gives ids and MACs, decides with [`Settings::stale_reads`] which reads are stale, and nothing else.
    pub fn ec2(&mut self, now: Duration, rng: &mut impl Rng, request: Request) -> Result<Response, Fault> {
        self.settle(now);
        let action = request.action();
        let lag = if action.can_be_stale() { self.lag(rng) } else { Duration::ZERO };
        let then = self.now.saturating_sub(lag);
        let response = self.answer(rng, request, then);
        let tally = self.tally.entry(action).or_default();
        match &response {
            Ok(_) => tally.accepted += 1,
            Err(_) => tally.refused += 1,
        }
        if response.is_ok() && !action.reads_only() {
            self.revision += 1;
        }
        // Transitions that take no time at all.
        self.settle(now);
        response
    }

    /// Lets time pass: everything that is due by `now` happens, in order.
    pub fn settle(&mut self, now: Duration) {
        let now = self.now.max(now);
        while let Some(entry) = self.due.first_entry() {
            let ((at, _), due) = (*entry.key(), entry.get().clone());
            if at > now {
                break;
            }
            entry.remove();
            self.tick(at);
            self.revision += 1;
            match &due {
                Due::EniCreated { eni } => {
                    if let Some(eni) = self.enis.get_mut(eni) {
                        eni.created = true;
                    }
                }
                Due::Attachment { eni, attachment, change } => self.attachment_due(eni, attachment, *change),
                Due::Running { .. } | Due::Terminated { .. } => self.instance_due(&due),
            }
        }
        self.tick(now);
    }

    /// The next call of DescribeInstances, DescribeNetworkInterfaces or DescribeSubnets, whichever it is, is answered as the
    /// world was `lag` ago, at most [`StaleReads::most`]. What calls do, and what [`Vpc::attached`] and its like tell, is never
    /// stale.
    pub fn lag_next_read(&mut self, lag: Duration) {
        self.next_lag = Some(lag);
    }

    fn lag(&mut self, rng: &mut impl Rng) -> Duration {
        let StaleReads { most, permille } = self.settings.stale_reads;
        let drawn = || {
            if permille > 0 && rng.random_range(0..1_000) < permille {
                rng.random_range(Duration::ZERO..=most)
            } else {
                Duration::ZERO
            }
        };
        self.next_lag.take().unwrap_or_else(drawn).min(most)
    }

    fn tick(&mut self, to: Duration) {
        self.now = to;
        let keep = self.settings.stale_reads.most;
        self.free.tick(to, keep);
        self.enis.tick(to, keep);
        self.instances.tick(to, keep);
    }

    /// When the next change that comes with time is due, if one is.
    pub fn next_transition(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Grows with every change of this world. Two equal readings: nothing has changed between them.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For what shall change while the world runs, e.g. transition times. Applies to calls from now on.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The truth about an instance's ENIs, the primary one first; empty for an instance that is over or never was.
    pub fn attached(&self, instance: &str) -> Vec<Attached> {
        self.attached_now(instance)
    }

    /// How EC2 describes an instance, without asking it.
    pub fn described(&self, instance: &str) -> Option<responses::Instance> {
        self.instances.get(instance).map(|found| self.instance_record(instance, found))
    }

    /// Every instance that was ever launched, in the order of launching.
    pub fn instances(&self) -> Vec<String> {
        let mut serials: Vec<_> = self.instances.iter().map(|(id, instance)| (instance.serial, id)).collect();
        serials.sort_unstable();
        serials.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// How EC2 describes every ENI, without asking it; in the order of their making.
    pub fn enis(&self) -> Vec<responses::NetworkInterface> {
        let mut serials: Vec<_> = self.enis.iter().map(|(id, eni)| (eni.serial, id)).collect();
        serials.sort_unstable();
        serials.into_iter().filter_map(|(_, id)| self.network_interface(id).ok()).collect()
    }

    /// The IPv4 blocks of all VPCs, in the order of their making.
    pub fn vpc_cidrs(&self) -> Vec<Ipv4Net> {
        let mut networks: Vec<_> = self.networks.values().collect();
        networks.sort_by_key(|network| network.serial);
        networks.into_iter().flat_map(|network| network.blocks.iter().map(|block| block.cidr)).collect()
    }

    /// The IPv4 blocks of one VPC, the first one first.
    pub fn cidrs_of(&self, vpc: &str) -> Vec<Ipv4Net> {
        self.networks
            .get(vpc)
            .map(|network| network.blocks.iter().map(|block| block.cidr).collect())
            .unwrap_or_default()
    }

    /// The block of a subnet.
    pub fn subnet_cidr(&self, subnet: &str) -> Option<Ipv4Net> {
        self.subnets.get(subnet).map(|subnet| subnet.cidr)
    }

    /// Who holds which address of a subnet, those of prefixes one by one: the truth behind `AvailableIpAddressCount`.
    pub fn held(&self, subnet: &str) -> BTreeMap<std::net::Ipv4Addr, String> {
        self.subnets
            .get(subnet)
            .map(|subnet| subnet.book.held().map(|(address, eni)| (address, eni.to_owned())).collect())
            .unwrap_or_default()
    }

    /// Calls so far, by action.
    pub fn calls(&self) -> &BTreeMap<Action, Tally> {
        &self.tally
    }

    /// `then`: as of when reads are answered.
    fn answer(&mut self, rng: &mut dyn Rng, request: Request, then: Duration) -> Result<Response, Fault> {
        Ok(match request {
            Request::RunInstances(ref wanted) => {
                let token = wanted.client_token.clone();
                let id = self.once(token.as_deref(), &request, |vpc| vpc.run_instances(rng, wanted))?;
                Response::RunInstances(self.reservation_record(&id))
            }
            Request::DescribeInstances(describe) => {
                Response::DescribeInstances(self.describe_instances(&describe, then)?)
            }
            Request::TerminateInstances { instances } => Response::TerminateInstances(self.terminate(&instances)?),
            Request::DescribeInstanceTypes(describe) => {
                Response::DescribeInstanceTypes(instance_types::describe(&describe)?)
            }
            Request::CreateVpc { cidr, tags } => Response::CreateVpc(self.create_vpc(rng, cidr, &tags)?),
            Request::AssociateVpcCidrBlock { vpc, cidr } => {
                let block = self.associate_block(rng, &vpc, cidr)?;
                Response::AssociateVpcCidrBlock { vpc, block }
            }
            Request::DescribeVpcs(describe) => Response::DescribeVpcs(self.describe_vpcs(&describe)?),
            Request::CreateSubnet(wanted) => Response::CreateSubnet(self.create_subnet(rng, &wanted)?),
            Request::DescribeSubnets(describe) => Response::DescribeSubnets(self.describe_subnets(&describe, then)?),
            Request::CreateSubnetCidrReservation(wanted) => {
                Response::CreateSubnetCidrReservation(self.reserve(rng, &wanted)?)
            }
            Request::GetSubnetCidrReservations { subnet, describe } => {
                Response::GetSubnetCidrReservations(self.list_reservations(&subnet, &describe)?)
            }
            Request::DeleteSubnetCidrReservation { reservation } => {
                Response::DeleteSubnetCidrReservation(self.unreserve(&reservation)?)
            }
            Request::CreateSecurityGroup { name, description, vpc, tags } => {
                Response::CreateSecurityGroup(self.create_group(rng, &name, &description, &vpc, &tags)?)
            }
            Request::DescribeSecurityGroups(describe) => {
                Response::DescribeSecurityGroups(self.describe_groups(&describe)?)
            }
            Request::CreateNetworkInterface(ref wanted) => {
                let client_token = wanted.client_token.clone();
                let make = |vpc: &mut Self| vpc.create_eni(rng, wanted).map(|eni| eni.id);
                let id = self.once(client_token.as_deref(), &request, make)?;
                // Guess: a token whose ENI is gone meanwhile answers NotFound.
                Response::CreateNetworkInterface { eni: Box::new(self.network_interface(&id)?), client_token }
            }
            Request::DescribeNetworkInterfaces(describe) => {
                Response::DescribeNetworkInterfaces(self.describe_enis(&describe, then)?)
            }
            Request::AttachNetworkInterface { eni, instance, device_index, card } => {
                let place = Place { instance: &instance, device_index, card };
                Response::AttachNetworkInterface { attachment: self.attach(rng, &eni, &place)?, card }
            }
            Request::DetachNetworkInterface { attachment, force } => {
                self.detach(&attachment, force)?;
                Response::DetachNetworkInterface
            }
            Request::DeleteNetworkInterface { eni } => {
                self.delete_eni(&eni)?;
                Response::DeleteNetworkInterface
            }
            Request::ModifyNetworkInterfaceAttribute { eni, attribute } => {
                self.modify_eni(&eni, &attribute)?;
                Response::ModifyNetworkInterfaceAttribute
            }
            Request::AssignPrivateIpAddresses { eni, wanted, allow_reassignment } => {
                let Holding { addresses, prefixes } = self.assign(&eni, &wanted, allow_reassignment)?;
                Response::AssignPrivateIpAddresses { eni, addresses, prefixes }
            }
            Request::UnassignPrivateIpAddresses { eni, addresses, prefixes } => {
                self.unassign(&eni, &addresses, &prefixes)?;
                Response::UnassignPrivateIpAddresses
            }
            Request::CreateTags { resources, tags } => {
                self.create_tags(&resources, &tags)?;
                Response::CreateTags
            }
            Request::DeleteTags { resources, tags } => {
                self.delete_tags(&resources, &tags)?;
                Response::DeleteTags
            }
        })
    }

    /// What a client token promises: the same request makes its thing once; another request is refused. A refusal is not
    /// remembered (documentation: only calls that completed are).
    fn once(
        &mut self,
        token: Option<&str>,
        request: &Request,
        make: impl FnOnce(&mut Self) -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let Some(token) = token else { return make(self) };
        let key = (request.action(), token.to_owned());
        match self.tokens.get(&key) {
            Some(known) if known.request == *request => Ok(known.made.clone()),
            Some(_) => Err(Fault::token_mismatch()),
            None => {
                let made = make(self)?;
                self.tokens.insert(key, Remembered { request: request.clone(), made: made.clone() });
                Ok(made)
            }
        }
    }

    pub(crate) fn schedule(&mut self, after: Duration, due: Due) {
        let serial = self.serial();
        self.due.insert((self.now + after, serial), due);
    }

    pub(crate) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }
}

/// A new id: EC2's are 17 hexadecimal digits.
pub(crate) fn new_id(rng: &mut dyn Rng, prefix: &str) -> String {
    format!("{prefix}-0{:016x}", rng.next_u64())
}

impl Action {
    /// Reads of what changes by itself. The model keeps no past of the rest.
    pub fn can_be_stale(self) -> bool {
        matches!(self, Self::DescribeInstances | Self::DescribeNetworkInterfaces | Self::DescribeSubnets)
    }

    /// Describe and get calls change nothing.
    pub fn reads_only(self) -> bool {
        self.name().starts_with("Describe") || self.name().starts_with("Get")
    }
}
