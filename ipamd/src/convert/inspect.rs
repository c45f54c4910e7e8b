//! What the operator's CLI is told: the pool, the leases, the reasons.
//!
//! Owns the shapes of the `Inspect` service's answers. Never changes anything.

use std::{net::Ipv4Addr, time::Duration};

use pool::{
    Address, BootTime, EniState, Figure, HeldPrefix, KnownSubnet, Lease, Next, Origin, Path, Pod, Prefix, Refusal,
    State, SubnetId, Tally, Warm,
};
use proto::v1;

use super::{Facing, attachments, millis, refusal};

fn wire_pod(pod: &Pod) -> v1::Pod {
    v1::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// One screen of the pool. `link` names the kernel's link of an ENI.
pub fn pool(
    state: &State,
    now: BootTime,
    instance_type: &str,
    link: impl Fn(&pool::EniId) -> String,
) -> v1::PoolResponse {
    let explanation = state.explain(now);
    let numbers = state.numbers(now);
    let facts = state.facts();

    v1::PoolResponse {
        instance_id: facts.map(|facts| facts.instance.to_string()).unwrap_or_default(),
        instance_type: instance_type.to_owned(),
        node_address: facts.map(|facts| facts.address.to_string()).unwrap_or_default(),
        limits: facts
            .map(|_| state.limits())
            .map(|pool::Limits { enis, addresses_per_eni }| v1::Limits { enis, addresses_per_eni }),
        policy: Some(policy(state.policy())),
        enis: state.enis().map(|eni| self::eni(eni, state, now, &link)).collect(),
        counts: Some(v1::Counts {
            free: numbers.free + numbers.coming,
            leased: numbers.leased,
            cooling: numbers.cooling,
            unverified: numbers.unverified,
            quarantined: numbers.quarantined,
            total: numbers.total,
        }),
        waiting: numbers.waiting,
        next: explanation.next.iter().map(ToString::to_string).collect(),
        held: explanation.held.map(|held| refusal(&held, now)),
        demand: numbers.demand,
        subnets: state.subnets().map(|(id, known)| subnet(id, *known, state.subnet_pause(id, now))).collect(),
        cooling_reused_early: state.reused_early(),
    }
}

fn subnet(id: &SubnetId, known: KnownSubnet, pause: Option<Duration>) -> v1::Subnet {
    let state = match known {
        KnownSubnet { excluded: true, .. } => "Excluded",
        KnownSubnet { chosen: true, .. } => "Chosen",
        KnownSubnet { .. } => "Passed",
    };
    v1::Subnet {
        subnet_id: id.to_string(),
        free: known.free,
        state: state.to_owned(),
        paused_ms: pause.map(millis).unwrap_or_default(),
    }
}

fn policy(policy: &pool::Policy) -> v1::Policy {
    let mut said = v1::Policy {
        mode: if policy.warm == Warm::Demand { "demand" } else { "targets" }.to_owned(),
        max_eni: policy.max_eni,
        cooling_ms: millis(policy.cooling),
        shrink_after_ms: millis(policy.shrink_after),
        prefix_delegation: policy.prefixes,
        early_reuse: policy.early_reuse,
        max_pods: policy.max_pods,
        ..Default::default()
    };
    match policy.warm {
        Warm::Enis(enis) => said.warm_eni_target = Some(enis),
        Warm::Addresses { warm, minimum } => {
            said.warm_ip_target = Some(warm);
            said.minimum_ip_target = Some(minimum);
        }
        Warm::Prefixes(prefixes) => said.warm_prefix_target = Some(prefixes),
        Warm::Demand => {}
    }
    said
}

fn eni(eni: &pool::Eni, state: &State, now: BootTime, link: &impl Fn(&pool::EniId) -> String) -> v1::Eni {
    let record = &eni.record;
    v1::Eni {
        eni_id: record.id.to_string(),
        state: record.state.to_string(),
        role: format!("{:?}", record.role),
        slot: record.slot.map(|slot| slot.get().into()).unwrap_or_default(),
        device_index: record.attachment.as_ref().map(|at| at.device.0).unwrap_or_default(),
        network_card: record.attachment.as_ref().map(|at| at.card).unwrap_or_default(),
        subnet_id: record.subnet.to_string(),
        mac: record.mac.to_string(),
        primary_address: record.primary.to_string(),
        link: link(&record.id),
        counts: Some(counts(eni.tally())),
        created_by_us: record.created,
        addresses: eni
            .addresses
            .iter()
            .map(|(address, held)| {
                let of = eni.addresses.in_prefix(address).then(|| Prefix::around(address).to_string());
                v1::PoolAddress { prefix: of.unwrap_or_default(), ..pool_address(address, held, state, now) }
            })
            .collect(),
        prefixes: eni.addresses.prefixes().map(|(prefix, held)| self::prefix(prefix, held)).collect(),
        note: match &record.state {
            EniState::Quarantined(why) => why.clone(),
            _ if record.excluded => "its subnet is excluded from pods".to_owned(),
            _ if eni.attached() && eni.holds_pods() && !eni.link_ready => "its link is not ready".to_owned(),
            _ => String::new(),
        },
    }
}

fn counts(tally: Tally) -> v1::Counts {
    let Tally { free, leased, cooling, unverified, quarantined } = tally;
    v1::Counts { total: tally.total(), free, leased, cooling, unverified, quarantined }
}

fn prefix(prefix: Prefix, held: &HeldPrefix) -> v1::Prefix {
    let state = held.state().name().to_owned();
    v1::Prefix { cidr: prefix.to_string(), state, counts: Some(counts(held.tally())) }
}

fn pool_address(address: Ipv4Addr, held: &Address, state: &State, now: BootTime) -> v1::PoolAddress {
    v1::PoolAddress {
        address: address.to_string(),
        state: held.name().to_owned(),
        until_ms: match held {
            Address::Cooling { until } => millis(until.since(now)),
            _ => 0,
        },
        pod: match held {
            Address::Leased(key) => state.lease(key).map(|lease| wire_pod(&lease.pod)),
            _ => None,
        },
        prefix: String::new(),
    }
}

/// The leases that a filter lets through; an empty part of it lets everything through.
pub fn leases(state: &State, now: BootTime, filter: &v1::LeasesRequest, facing: &Facing) -> v1::LeasesResponse {
    let node = state.facts().map(|facts| facts.address);
    let wanted = |lease: &&Lease| {
        (filter.pod.is_empty() || lease.pod.to_string() == filter.pod)
            && (filter.address.is_empty()
                || lease.attachments.iter().flat_map(|one| &one.addresses).any(|one| one.to_string() == filter.address))
    };
    let lease = |lease: &Lease| v1::Lease {
        key: Some(v1::LeaseKey { container_id: lease.key.container.clone(), ifname: lease.key.ifname.clone() }),
        pod: Some(wire_pod(&lease.pod)),
        generation: lease.generation.0,
        origin: match lease.origin {
            Origin::Allocated => "Allocated",
            Origin::Found => "Found",
            Origin::Imported => "Imported",
        }
        .to_owned(),
        attachments: attachments(lease, facing, node),
        age_ms: millis(now.since(lease.made)),
    };
    v1::LeasesResponse { leases: state.leases().filter(wanted).map(lease).collect() }
}

/// Why the pool is what it is, and what one pod has.
pub fn explained(state: &State, now: BootTime, pod: &str) -> v1::ExplainResponse {
    let pool::Explanation { figures, next, held } = state.explain(now);
    let about = if pod.is_empty() { Vec::new() } else { about(state, now, pod) };
    let unknown = !pod.is_empty() && about.is_empty() && state.waiting() == 0;
    let about = match about {
        about if about.is_empty() && !pod.is_empty() => {
            vec![format!("{pod}: has no address; {} requests wait", state.waiting())]
        }
        about => about,
    };
    let mut lines = about.clone();
    lines.extend(figures.iter().map(ToString::to_string));
    lines.extend(next.iter().map(|next| format!("next: {next}")));
    let held = held.or(unknown.then_some(Refusal::UnknownSandbox));
    let figure = |Figure { name, value, from }| v1::Figure { name: str::to_owned(name), value, from };
    let waiting =
        |Next { what, within, why }| v1::Next { what, within_ms: within.map(millis), why: why.unwrap_or_default() };
    v1::ExplainResponse {
        lines,
        held: held.map(|held| refusal(&held, now)),
        figures: figures.into_iter().map(figure).collect(),
        next: next.into_iter().map(waiting).collect(),
        pod: about,
    }
}

/// What a pod has, one line an interface.
fn about(state: &State, now: BootTime, pod: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for lease in state.leases().filter(|lease| lease.pod.to_string() == pod) {
        let origin = match lease.origin {
            Origin::Allocated => "",
            Origin::Found => ", found in the kernel",
            Origin::Imported => ", taken over from amazon-vpc-cni",
        };
        for pool::Attachment { ifname, link, path: Path::Pooled { eni, slot: _ }, addresses } in &lease.attachments {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            lines.push(format!(
                "{pod}: {ifname} of sandbox {} has {} of {eni} by link {link}, for {}{origin}",
                lease.key.container,
                addresses.join(" "),
                humantime::format_duration(Duration::from_secs(now.since(lease.made).as_secs())),
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datapath::names::Numbering;
    use pool::{
        AddRequest, Answer, Call, CallId, Effect, Event, InterfaceKind, LeaseKey, Now, Policy, SeenAttachment, SeenEni,
        SeenSubnet, Step, Ticket,
    };

    use super::*;
    use crate::fake;

    fn at(seconds: u64) -> Now {
        Now { at: BootTime(Duration::from_secs(seconds)), wall: seconds, luck: 0 }
    }

    /// The call of this kind among a step's effects.
    fn asked(step: &Step, wanted: fn(&Call) -> bool) -> CallId {
        let mut calls = step.effects.iter().filter_map(|effect| match effect {
            Effect::Call(id, call) if wanted(call) => Some(*id),
            _ => None,
        });
        calls.next_back().unwrap_or_else(|| panic!("not asked: {step:?}"))
    }

    fn seen_subnet(id: &str, free: u32, role: Option<&str>) -> SeenSubnet {
        let tags = role.map(|role| ("kubernetes.io/role/cni".to_owned(), role.to_owned()));
        SeenSubnet { id: id.into(), free, tags: tags.into_iter().collect() }
    }

    /// A node with a prefix and a single address, of which one pod has one; its subnets are known.
    fn node() -> State {
        let policy = Policy { warm: Warm::Prefixes(0), prefixes: true, early_reuse: true, ..Policy::default() };
        let mut state = State::new(policy);
        let step = state.apply(at(1), fake::facts());
        let (enis, subnets) = (
            asked(&step, |call| matches!(call, Call::Discover { .. })),
            asked(&step, |call| matches!(call, Call::Subnets { .. })),
        );
        let eni = SeenEni {
            id: "eni-1".into(),
            mac: pool::Mac([2, 0, 0, 0, 0, 1]),
            subnet: "subnet-1".into(),
            primary: [10, 0, 0, 10].into(),
            secondary: vec![[10, 0, 0, 11].into()],
            prefixes: vec!["10.0.0.32/28".parse().expect("a prefix")],
            description: String::new(),
            tags: BTreeMap::new(),
            groups: std::collections::BTreeSet::new(),
            kind: InterfaceKind::Interface,
            attachment: Some(SeenAttachment {
                id: "eni-attach-1".into(),
                instance: Some("i-1".into()),
                device: pool::DeviceIndex(0),
                card: 0,
                attached: true,
                delete_on_termination: true,
            }),
        };
        state.apply(at(1), Event::Answered(enis, Ok(Answer::Discovered(vec![eni]))));
        let zone = vec![
            seen_subnet("subnet-1", 200, None),
            seen_subnet("subnet-2", 90, Some("0")),
            seen_subnet("subnet-3", 90, None),
        ];
        state.apply(at(1), Event::Answered(subnets, Ok(Answer::Subnets(zone))));
        state.apply(at(1), Event::LinkReady("eni-1".into()));
        for (number, container) in ["c1", "c2"].into_iter().enumerate() {
            state.apply(
                at(2),
                Event::Add(AddRequest {
                    ticket: Ticket(u64::try_from(number).expect("small")),
                    key: LeaseKey { container: container.to_owned(), ifname: "eth0".to_owned() },
                    pod: Pod { namespace: "default".to_owned(), name: container.to_owned(), uid: String::new() },
                    link: format!("eni{container}"),
                    netns: String::new(),
                    started: at(2).at,
                    deadline: at(40).at,
                }),
            );
        }
        state.apply(
            at(2),
            Event::Demand(
                [Pod { namespace: "default".to_owned(), name: "bound".to_owned(), uid: String::new() }].into(),
            ),
        );
        state
    }

    #[test]
    fn a_prefix_is_told_with_its_sixteen_addresses_by_state() {
        let state = node();
        let told = pool(&state, at(3).at, "m5.large", |_| "eth0".to_owned());
        let eni = &told.enis[0];
        let [prefix] = &eni.prefixes[..] else { panic!("one prefix: {eni:?}") };
        let counts = prefix.counts.expect("counts");
        assert_eq!((prefix.cidr.as_str(), prefix.state.as_str(), counts.total), ("10.0.0.32/28", "Usable", 16));
        let of_prefix: Vec<_> = eni.addresses.iter().filter(|one| one.prefix == prefix.cidr).collect();
        assert_eq!(of_prefix.len(), 16);
        let leased = of_prefix.iter().filter(|one| one.state == "Leased").count();
        assert_eq!((leased, counts.leased + counts.free), (usize::try_from(counts.leased).expect("few"), 16));
        let single: Vec<_> = eni.addresses.iter().filter(|one| one.prefix.is_empty()).collect();
        assert_eq!((single.len(), single[0].address.as_str()), (1, "10.0.0.11"));
        assert_eq!(eni.counts.map(|all| (all.total, all.leased)), Some((17, 2)));
        let policy = told.policy.expect("a policy");
        assert!(policy.prefix_delegation && policy.early_reuse && policy.warm_prefix_target == Some(0), "{policy:?}");
        assert_eq!((told.demand, told.cooling_reused_early), (1, 0));
    }

    #[test]
    fn subnets_are_told_with_what_their_tags_make_of_them() {
        let told = pool(&node(), at(3).at, "m5.large", |_| String::new());
        let subnets: Vec<_> = told
            .subnets
            .iter()
            .map(|one| (one.subnet_id.as_str(), one.free, one.state.as_str(), one.paused_ms))
            .collect();
        assert_eq!(
            subnets,
            [("subnet-1", 200, "Chosen", 0), ("subnet-2", 90, "Excluded", 0), ("subnet-3", 90, "Passed", 0)]
        );
    }

    #[test]
    fn an_explanation_is_told_as_text_and_as_its_parts() {
        let state = node();
        let (now, explanation) = (at(3).at, state.explain(at(3).at));
        let told = explained(&state, now, "default/c1");
        assert_eq!(told.pod.len(), 1);
        let figures: Vec<_> = told.figures.iter().map(|one| (one.name.as_str(), one.value)).collect();
        let expected: Vec<_> = explanation.figures.iter().map(|one| (one.name, one.value)).collect();
        assert_eq!(figures, expected);
        assert_eq!(told.next.len(), explanation.next.len());
        assert_eq!(told.lines.len(), told.pod.len() + told.figures.len() + told.next.len(), "{told:?}");

        let nobody = explained(&state, now, "default/nobody");
        assert_eq!(nobody.pod, ["default/nobody: has no address; 0 requests wait"]);
        assert_eq!(nobody.held.map(|held| held.reason()), Some(v1::Reason::UnknownSandbox));
        assert!(explained(&state, now, "").pod.is_empty());
    }

    #[test]
    fn a_lease_says_how_it_came_about() {
        let facing = Facing { numbering: Numbering::default(), mtu: 9001 };
        let told = leases(&node(), at(3).at, &v1::LeasesRequest::default(), &facing);
        assert_eq!(told.leases.iter().map(|lease| lease.origin.as_str()).collect::<Vec<_>>(), ["Allocated"; 2]);
    }
}
