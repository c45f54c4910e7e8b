//! A region with one VPC and one subnet to try things in. It asserts nothing about EC2 itself.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use rand::{SeedableRng, rngs::StdRng};
use sim::{
    Fault, Request, Response, Settings, Times, Vpc,
    requests::{
        CreateNetworkInterface, CreateSubnet, Describe, LaunchEni, LaunchInterface, NewEni, RunInstances, Tags, Wanted,
    },
    responses::NetworkInterface,
};

pub(crate) const TIMES: Times = Times {
    create: Duration::from_secs(1),
    attach: Duration::from_secs(2),
    device: Duration::from_secs(3),
    detach: Duration::from_secs(4),
    forced_detach: Duration::from_secs(1),
    unplug: Duration::from_secs(3),
    start: Duration::from_secs(1),
    stop: Duration::from_secs(1),
};

pub(crate) struct Region {
    pub(crate) vpc: Vpc,
    pub(crate) rng: StdRng,
    pub(crate) now: Duration,
    pub(crate) subnet: String,
}

impl Region {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::of("10.0.0.0/24", settings)
    }

    /// With one subnet, which is the whole VPC.
    pub(crate) fn of(cidr: &str, settings: Settings) -> Self {
        let mut region =
            Self { vpc: Vpc::new(settings), rng: StdRng::seed_from_u64(7), now: Duration::ZERO, subnet: String::new() };
        let cidr: Ipv4Net = cidr.parse().expect("a block");
        let made = region.must(Request::CreateVpc { cidr, tags: Tags::new() });
        let Response::CreateVpc(network) = made else { panic!("{made:?}") };
        let wanted = CreateSubnet { vpc: network.id, cidr, zone: None, tags: Tags::new() };
        let made = region.must(Request::CreateSubnet(wanted));
        let Response::CreateSubnet(subnet) = made else { panic!("{made:?}") };
        region.subnet = subnet.id;
        region
    }

    pub(crate) fn timed() -> Self {
        Self::new(Settings { times: TIMES, ..Settings::default() })
    }

    pub(crate) fn call(&mut self, request: Request) -> Result<Response, Fault> {
        self.vpc.ec2(self.now, &mut self.rng, request)
    }

    pub(crate) fn must(&mut self, request: Request) -> Response {
        self.call(request.clone()).unwrap_or_else(|fault| panic!("{request:?}: {fault}"))
    }

    pub(crate) fn at(&mut self, seconds: u64) {
        self.now = Duration::from_secs(seconds);
        self.vpc.settle(self.now);
    }

    pub(crate) fn new_eni(&self) -> NewEni {
        NewEni { subnet: self.subnet.clone(), ..NewEni::default() }
    }

    pub(crate) fn launch(&mut self) -> String {
        self.launch_type("m5.large").expect("there is room")
    }

    pub(crate) fn launch_type(&mut self, instance_type: &str) -> Result<String, Fault> {
        let first = LaunchInterface {
            device_index: 0,
            card: 0,
            eni: LaunchEni::New(self.new_eni()),
            delete_on_termination: None,
        };
        let wanted = RunInstances {
            count: 1,
            instance_type: instance_type.into(),
            interfaces: vec![first],
            ..RunInstances::default()
        };
        match self.call(Request::RunInstances(wanted))? {
            Response::RunInstances(mut made) => Ok(made.instances.remove(0).id),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create(&mut self, secondary: u32) -> Result<String, Fault> {
        self.create_with(NewEni { secondary: Wanted::Count(secondary), ..self.new_eni() })
    }

    pub(crate) fn create_with(&mut self, eni: NewEni) -> Result<String, Fault> {
        let wanted = CreateNetworkInterface { eni, ..CreateNetworkInterface::default() };
        match self.call(Request::CreateNetworkInterface(wanted))? {
            Response::CreateNetworkInterface { eni, .. } => Ok(eni.id),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn attach(&mut self, eni: &str, instance: &str) -> String {
        let request = Request::AttachNetworkInterface {
            eni: eni.to_owned(),
            instance: instance.to_owned(),
            device_index: 1,
            card: 0,
        };
        match self.must(request) {
            Response::AttachNetworkInterface { attachment, .. } => attachment,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn visible(&self, instance: &str) -> Vec<bool> {
        self.vpc.attached(instance).iter().map(|one| one.device_visible).collect()
    }

    pub(crate) fn assign(&mut self, eni: &str, wanted: Wanted) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>), Fault> {
        let request = Request::AssignPrivateIpAddresses { eni: eni.to_owned(), wanted, allow_reassignment: false };
        match self.call(request)? {
            Response::AssignPrivateIpAddresses { addresses, prefixes, .. } => Ok((addresses, prefixes)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn assign_prefixes(&mut self, eni: &str, count: u32) -> Result<Vec<Ipv4Net>, Fault> {
        self.assign(eni, Wanted::Prefixes(count)).map(|(_, prefixes)| prefixes)
    }

    pub(crate) fn unassign(&mut self, eni: &str, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) -> Result<(), Fault> {
        let (addresses, prefixes) = (addresses.to_vec(), prefixes.to_vec());
        self.call(Request::UnassignPrivateIpAddresses { eni: eni.to_owned(), addresses, prefixes }).map(|_| ())
    }

    /// The ENI as it is.
    pub(crate) fn eni(&self, id: &str) -> NetworkInterface {
        self.vpc.enis().into_iter().find(|eni| eni.id == id).expect("it was made")
    }

    /// The ENI as EC2 answers; `None` when EC2 says that there is none.
    pub(crate) fn describe(&mut self, id: &str) -> Option<NetworkInterface> {
        match self.call(Request::DescribeNetworkInterfaces(Describe::one(id))) {
            Ok(Response::DescribeNetworkInterfaces(mut page)) => page.items.pop(),
            Err(fault) if fault.code == "InvalidNetworkInterfaceID.NotFound" => None,
            other => panic!("{other:?}"),
        }
    }

    /// `AvailableIpAddressCount` of the subnet.
    pub(crate) fn free(&mut self) -> u32 {
        match self.must(Request::DescribeSubnets(Describe::one(&self.subnet.clone()))) {
            Response::DescribeSubnets(page) => page.items[0].available,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn prefix(text: &str) -> Ipv4Net {
    text.parse().expect("a block")
}
