//! What holds after any history of calls, in a world small enough that everything collides.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use ipnet::{Ipv4AddrRange, Ipv4Net};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use sim::{
    AddressOrder, Attached, Fault, Request, Response, Settings, StaleReads, Vpc,
    requests::{
        CreateNetworkInterface, CreateSubnet, Describe, LaunchEni, LaunchInterface, NewEni, NewReservation,
        ReservationKind, RunInstances, Tags, Wanted,
    },
    responses::{AttachmentStatus, InstanceState, NetworkInterface, SubnetReservation},
};

/// Usable addresses of a /26, of whose four /28s two are whole.
const USABLE: usize = 59;

/// No history of a test is longer.
const KEPT: Duration = Duration::from_secs(600);

/// The last octet of an address in one of the two subnets, reserved and foreign ones included.
type Octet = u8;

#[derive(Clone, Debug)]
enum Step {
    Launch { subnet: usize, secondary: u32, interfaces: u32 },
    Terminate { instance: usize },
    Create { subnet: usize, primary: Option<Octet>, wanted: Ask },
    Delete { eni: usize },
    Attach { eni: usize, instance: usize, device_index: u32 },
    Detach { eni: usize, force: bool },
    Assign { eni: usize, wanted: Ask, reassign: bool },
    Unassign { eni: usize, places: Vec<usize>, prefixes: Vec<usize> },
    Reserve { subnet: usize, octet: Octet, length: u8, kind: ReservationKind },
    Unreserve { reservation: usize },
    Wait { millis: u64 },
}

#[derive(Clone, Debug)]
enum Ask {
    Count(u32),
    These(Vec<Octet>),
    Prefixes(u32),
    ThesePrefixes(Vec<(Octet, u8)>),
}

impl Ask {
    fn wanted(&self) -> Wanted {
        match self {
            Self::Count(count) => Wanted::Count(*count),
            Self::These(octets) => Wanted::These(octets.iter().map(|octet| address(*octet)).collect()),
            Self::Prefixes(count) => Wanted::Prefixes(*count),
            Self::ThesePrefixes(list) => {
                Wanted::ThesePrefixes(list.iter().map(|(octet, length)| block(*octet, *length)).collect())
            }
        }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    // Most of the prefixes that are asked for by name are prefixes.
    let named = prop_oneof![6 => (0_u8..9, Just(28_u8)).prop_map(|(sixteenths, length)| (sixteenths * 16, length)), 1 => (0_u8..140, 26_u8..=30)];
    prop_oneof![
        3 => (0_u32..9).prop_map(Ask::Count),
        3 => proptest::collection::vec(0_u8..132, 0..4).prop_map(Ask::These),
        3 => (0_u32..3).prop_map(Ask::Prefixes),
        2 => proptest::collection::vec(named, 0..3).prop_map(Ask::ThesePrefixes),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let subnet = || 0_usize..2;
    prop_oneof![
        1 => (subnet(), 0_u32..6, 1_u32..4)
            .prop_map(|(subnet, secondary, interfaces)| Step::Launch { subnet, secondary, interfaces }),
        1 => (0_usize..6).prop_map(|instance| Step::Terminate { instance }),
        4 => (subnet(), proptest::option::of(0_u8..132), ask())
            .prop_map(|(subnet, primary, wanted)| Step::Create { subnet, primary, wanted }),
        2 => (0_usize..12).prop_map(|eni| Step::Delete { eni }),
        6 => (0_usize..12, 0_usize..2, 1_u32..5)
            .prop_map(|(eni, instance, device_index)| Step::Attach { eni, instance, device_index }),
        2 => (0_usize..12, any::<bool>()).prop_map(|(eni, force)| Step::Detach { eni, force }),
        5 => (0_usize..12, ask(), any::<bool>())
            .prop_map(|(eni, wanted, reassign)| Step::Assign { eni, wanted, reassign }),
        3 => (0_usize..12, proptest::collection::vec(0_usize..6, 0..3), proptest::collection::vec(0_usize..3, 0..2))
            .prop_map(|(eni, places, prefixes)| Step::Unassign { eni, places, prefixes }),
        1 => (subnet(), 0_u8..132, 26_u8..=31, any::<bool>()).prop_map(|(subnet, octet, length, prefix)| {
            let kind = if prefix { ReservationKind::Prefix } else { ReservationKind::Explicit };
            Step::Reserve { subnet, octet, length, kind }
        }),
        1 => (0_usize..3).prop_map(|reservation| Step::Unreserve { reservation }),
        3 => (0_u64..4_000).prop_map(|millis| Step::Wait { millis }),
    ]
}

fn address(octet: Octet) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, octet)
}

fn block(octet: Octet, length: u8) -> Ipv4Net {
    Ipv4Net::new(address(octet), length).expect("a prefix length")
}

/// All addresses of a prefix.
fn inside(prefix: Ipv4Net) -> Ipv4AddrRange {
    Ipv4AddrRange::new(prefix.network(), prefix.broadcast())
}

/// Two subnets of 59 addresses each, in two zones.
struct Small {
    vpc: Vpc,
    rng: StdRng,
    now: Duration,
    subnets: Vec<(String, Ipv4Net)>,
    instances: Vec<String>,
    reservations: Vec<SubnetReservation>,
    primaries: BTreeMap<String, Ipv4Addr>,
}

impl Small {
    fn new(seed: u64, address_order: AddressOrder) -> Self {
        let stale_reads = StaleReads { most: KEPT, permille: 0 };
        let vpc = Vpc::new(Settings { address_order, stale_reads, ..Settings::default() });
        let rng = StdRng::seed_from_u64(seed);
        let mut small = Self {
            vpc,
            rng,
            now: Duration::ZERO,
            subnets: Vec::new(),
            instances: Vec::new(),
            reservations: Vec::new(),
            primaries: BTreeMap::new(),
        };
        let cidr = "10.0.0.0/24".parse().expect("a block");
        let Ok(Response::CreateVpc(made)) = small.call(Request::CreateVpc { cidr, tags: Tags::new() }) else {
            panic!("a VPC can be made")
        };
        for (block, zone) in [("10.0.0.0/26", "us-west-2a"), ("10.0.0.64/26", "us-west-2b")] {
            let cidr = block.parse().expect("a block");
            let wanted = CreateSubnet { vpc: made.id.clone(), cidr, zone: Some(zone.into()), tags: Tags::new() };
            let Ok(Response::CreateSubnet(subnet)) = small.call(Request::CreateSubnet(wanted)) else {
                panic!("a subnet can be made")
            };
            small.subnets.push((subnet.id, cidr));
        }
        small
    }

    fn call(&mut self, request: Request) -> Result<Response, Fault> {
        self.vpc.ec2(self.now, &mut self.rng, request)
    }

    /// The step as a call, if there is something to call it on.
    fn request(&self, step: &Step) -> Option<Request> {
        let enis = self.vpc.enis();
        let eni = |number: usize| enis.get(number);
        Some(match step {
            Step::Launch { subnet, secondary, interfaces } => {
                let interface = |device_index| LaunchInterface {
                    device_index,
                    card: 0,
                    eni: LaunchEni::New(NewEni {
                        subnet: self.subnets[*subnet].0.clone(),
                        secondary: Wanted::Count(*secondary),
                        ..NewEni::default()
                    }),
                    delete_on_termination: None,
                };
                Request::RunInstances(RunInstances {
                    count: 1,
                    instance_type: "t3.medium".into(),
                    interfaces: (0..*interfaces).map(interface).collect(),
                    ..RunInstances::default()
                })
            }
            Step::Terminate { instance } => {
                Request::TerminateInstances { instances: vec![self.instances.get(*instance)?.clone()] }
            }
            Step::Create { subnet, primary, wanted } => Request::CreateNetworkInterface(CreateNetworkInterface {
                eni: NewEni {
                    subnet: self.subnets[*subnet].0.clone(),
                    primary: primary.map(address),
                    secondary: wanted.wanted(),
                    ..NewEni::default()
                },
                ..CreateNetworkInterface::default()
            }),
            Step::Delete { eni: number } => Request::DeleteNetworkInterface { eni: eni(*number)?.id.clone() },
            Step::Attach { eni: number, instance, device_index } => Request::AttachNetworkInterface {
                eni: eni(*number)?.id.clone(),
                instance: self.instances.get(*instance)?.clone(),
                device_index: *device_index,
                card: 0,
            },
            Step::Detach { eni: number, force } => Request::DetachNetworkInterface {
                attachment: eni(*number)?.attachment.as_ref()?.id.clone(),
                force: *force,
            },
            Step::Assign { eni: number, wanted, reassign } => Request::AssignPrivateIpAddresses {
                eni: eni(*number)?.id.clone(),
                wanted: wanted.wanted(),
                allow_reassignment: *reassign,
            },
            Step::Unassign { eni: number, places, prefixes } => {
                let eni = eni(*number)?;
                let addresses = places.iter().filter_map(|place| eni.addresses.get(*place).copied());
                Request::UnassignPrivateIpAddresses {
                    eni: eni.id.clone(),
                    addresses: addresses.collect(),
                    prefixes: prefixes.iter().filter_map(|place| eni.prefixes.get(*place).copied()).collect(),
                }
            }
            Step::Reserve { subnet, octet, length, kind } => Request::CreateSubnetCidrReservation(NewReservation {
                subnet: self.subnets[*subnet].0.clone(),
                cidr: block(*octet, *length).trunc(),
                kind: *kind,
                description: String::new(),
                tags: Tags::new(),
            }),
            Step::Unreserve { reservation } => {
                Request::DeleteSubnetCidrReservation { reservation: self.reservations.get(*reservation)?.id.clone() }
            }
            Step::Wait { .. } => return None,
        })
    }

    fn take(&mut self, step: &Step) {
        if let Step::Wait { millis } = step {
            self.now += Duration::from_millis(*millis);
            self.vpc.settle(self.now);
        }
        let Some(request) = self.request(step) else { return };
        let before = self.truth();
        let enis = self.vpc.enis();
        match self.call(request.clone()) {
            Err(fault) => assert_eq!(before, self.truth(), "{request:?} was refused ({fault}) and still did something"),
            Ok(Response::RunInstances(made)) => self.instances.extend(made.instances.into_iter().map(|one| one.id)),
            Ok(Response::AssignPrivateIpAddresses { eni, addresses, prefixes }) => {
                let known = self.vpc.enis().into_iter().find(|known| known.id == eni).expect("it was assigned to");
                assert!(addresses.iter().all(|address| known.addresses.contains(address)), "{addresses:?}");
                assert!(prefixes.iter().all(|prefix| known.prefixes.contains(prefix)), "{prefixes:?}");
                self.check_choice(step, &addresses, &prefixes);
                if let Step::Assign { reassign: false, .. } = step {
                    let others = |enis: Vec<NetworkInterface>| {
                        enis.into_iter().filter(|other| other.id != eni).collect::<Vec<_>>()
                    };
                    assert_eq!(others(enis), others(self.vpc.enis()), "an address moved without being told to");
                }
            }
            Ok(Response::CreateSubnetCidrReservation(made)) => self.reservations.push(made),
            Ok(Response::DeleteSubnetCidrReservation(gone)) => self.reservations.retain(|one| *one != gone),
            Ok(_) => {}
        }
    }

    /// What EC2 chooses avoids what is reserved for something else.
    fn check_choice(&self, step: &Step, addresses: &[Ipv4Addr], prefixes: &[Ipv4Net]) {
        for one in &self.reservations {
            if let Step::Assign { wanted: Ask::Count(_), .. } = step {
                assert!(!addresses.iter().any(|address| one.cidr.contains(address)), "{addresses:?} of {}", one.cidr);
            }
            if let (Step::Assign { wanted: Ask::Prefixes(_), .. }, ReservationKind::Explicit) = (step, one.kind) {
                let touches = |prefix: &Ipv4Net| prefix.contains(&one.cidr) || one.cidr.contains(prefix);
                assert!(!prefixes.iter().any(touches), "{prefixes:?} of {}", one.cidr);
            }
        }
    }

    fn truth(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let held: Vec<_> = self.subnets.iter().map(|(id, _)| self.vpc.held(id)).collect();
        let attached: Vec<_> = self.instances.iter().map(|id| self.vpc.attached(id)).collect();
        let launched = self.vpc.instances();
        (self.vpc.enis(), held, attached, launched)
    }

    fn check(&mut self) {
        let enis = self.vpc.enis();
        for eni in &enis {
            let primary = self.primaries.entry(eni.id.clone()).or_insert(eni.addresses[0]);
            assert_eq!(*primary, eni.addresses[0], "the primary address of {} changed", eni.id);
        }
        self.check_addresses(&enis);
        self.check_free_counts(&enis);
        self.check_limits(&enis);
        self.check_time();
    }

    fn check_addresses(&self, enis: &[NetworkInterface]) {
        let mut seen: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
        for eni in enis {
            let (_, block) = self.subnets.iter().find(|(id, _)| *id == eni.subnet).expect("its subnet is there");
            let first = u32::from(block.network());
            for prefix in &eni.prefixes {
                assert_eq!((prefix.prefix_len(), prefix.network().octets()[3] % 16), (28, 0), "{prefix} on {}", eni.id);
            }
            for address in eni.addresses.iter().copied().chain(eni.prefixes.iter().copied().flat_map(inside)) {
                let offset = u32::from(address).wrapping_sub(first);
                assert!((4..63).contains(&offset), "{address} on {} is reserved or not of {block}", eni.id);
                let other = seen.insert(address, &eni.id);
                assert_eq!(other, None, "{address} is on {} too", eni.id);
            }
        }
        let held: BTreeMap<_, _> = self.subnets.iter().flat_map(|(id, _)| self.vpc.held(id)).collect();
        let expected: BTreeMap<_, _> = seen.into_iter().map(|(address, eni)| (address, eni.to_owned())).collect();
        assert_eq!(held, expected, "the subnets' books and the ENIs differ");
    }

    fn check_free_counts(&mut self, enis: &[NetworkInterface]) {
        let Ok(Response::DescribeSubnets(page)) = self.call(Request::DescribeSubnets(Describe::default())) else {
            panic!("subnets can be described")
        };
        for subnet in page.items {
            let own: Vec<_> = enis.iter().filter(|eni| eni.subnet == subnet.id).collect();
            let used: usize = own.iter().map(|eni| eni.addresses.len() + 16 * eni.prefixes.len()).sum();
            let held = self.vpc.held(&subnet.id);
            let usable = subnet.cidr.hosts().skip(3);
            let reserved = usable
                .filter(|address| !held.contains_key(address))
                .filter(|address| self.reservations.iter().any(|one| one.cidr.contains(address)))
                .count();
            assert_eq!(subnet.available as usize, USABLE - used - reserved, "free addresses of {}", subnet.id);
        }
    }

    fn check_limits(&self, enis: &[NetworkInterface]) {
        for id in &self.instances {
            let instance = self.vpc.described(id).expect("it was launched");
            let attached = self.vpc.attached(id);
            assert!(attached.len() <= 3, "a t3.medium has {} ENIs", attached.len());
            let places: BTreeSet<_> = attached.iter().map(|one| (one.card, one.device_index)).collect();
            assert_eq!(places.len(), attached.len(), "two ENIs at one place of {id}");
            let slots = |one: &Attached| one.addresses.len() + one.prefixes.len();
            assert!(attached.iter().all(|one| slots(one) <= 6), "a t3.medium has 6 addresses and prefixes an ENI");
            if instance.state == InstanceState::Terminated {
                assert!(attached.is_empty(), "{id} is over and still has ENIs");
            }
            let zones: BTreeSet<_> = enis
                .iter()
                .filter(|eni| eni.attachment.as_ref().is_some_and(|own| own.instance == *id))
                .map(|eni| &eni.zone)
                .collect();
            assert!(zones.iter().all(|zone| **zone == instance.zone), "{id} has an ENI of another zone");
        }
        let pending = |eni: &NetworkInterface| {
            eni.attachment.as_ref().is_some_and(|own| own.status != AttachmentStatus::Attached)
        };
        if enis.iter().any(pending) {
            assert!(self.vpc.next_transition().is_some(), "a transition that never ends");
        }
    }

    /// Nothing happens before `next_transition`, and something at it.
    fn check_time(&self) {
        let Some(next) = self.vpc.next_transition() else { return };
        assert!(next > self.now, "a transition of {next:?} is still due at {:?}", self.now);
        let mut later = self.vpc.clone();
        later.settle(next.checked_sub(Duration::from_nanos(1)).expect("it is after now"));
        assert_eq!(later.revision(), self.vpc.revision(), "something happened before it was due");
        later.settle(next);
        assert_ne!(later.revision(), self.vpc.revision(), "nothing happened when it was due");
    }
}

fn order() -> impl Strategy<Value = AddressOrder> {
    prop_oneof![Just(AddressOrder::NextFit), Just(AddressOrder::FirstFit)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No address on two ENIs, reserved ones on none, free counts true, limits kept, refusals without an effect.
    #[test]
    fn the_books_are_right_after_any_history(
        seed: u64,
        order in order(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut small = Small::new(seed, order);
        for step in &steps {
            small.take(step);
            small.check();
        }
    }

    /// Same calls, same seed, same world.
    #[test]
    fn histories_repeat_exactly(seed: u64, order in order(), steps in proptest::collection::vec(step(), 1..40)) {
        let run = || {
            let mut small = Small::new(seed, order);
            for step in &steps {
                small.take(step);
            }
            small.truth()
        };
        assert_eq!(run(), run());
    }

    /// Every read of the past shows the world exactly as it was then: seen by a copy that stayed behind.
    #[test]
    fn stale_reads_show_what_was(seed: u64, steps in proptest::collection::vec(step(), 1..40), back in 0_u64..8_000) {
        let mut small = Small::new(seed, AddressOrder::NextFit);
        let mut past = vec![(small.now, small.vpc.clone())];
        for step in &steps {
            small.take(step);
            past.push((small.now, small.vpc.clone()));
        }
        let then = small.now.saturating_sub(Duration::from_millis(back));
        let (_, mut old) = past.into_iter().take_while(|(at, _)| *at <= then).last().expect("the first was made at zero");
        old.settle(then);
        let mut read = |request: Request| {
            small.vpc.lag_next_read(small.now.saturating_sub(then));
            let stale = small.vpc.ec2(small.now, &mut small.rng, request.clone());
            assert_eq!(stale, old.ec2(then, &mut small.rng, request));
        };
        read(Request::DescribeNetworkInterfaces(Describe::default()));
        read(Request::DescribeInstances(Describe::default()));
        read(Request::DescribeSubnets(Describe::default()));
    }

    /// Time alone: in many small steps or in one, the same world.
    #[test]
    fn settling_often_changes_nothing(seed: u64, steps in proptest::collection::vec(step(), 1..40), cuts in 1_u32..20) {
        let mut small = Small::new(seed, AddressOrder::NextFit);
        for step in &steps {
            small.take(step);
        }
        let (mut often, end) = (small.vpc.clone(), small.now + Duration::from_secs(10));
        for cut in 1..=cuts {
            often.settle(small.now + Duration::from_secs(10) * cut / cuts);
        }
        small.vpc.settle(end);
        assert_eq!(often.enis(), small.vpc.enis());
        assert_eq!(often.revision(), small.vpc.revision());
    }
}
