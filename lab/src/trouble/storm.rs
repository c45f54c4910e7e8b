//! A bad day of EC2: every fault at a moderate rate.

use std::{ops::RangeInclusive, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use sim::{Action, Fault};

use super::{Bucket, Buckets, Chance, Disturbance, Injection, Latency, MetadataTrouble, Spread, Trouble, When};

/// What a storm is made of, and how likely each is, in per mille of the calls that it may hit.
const MIX: &[(RangeInclusive<u32>, Kind)] = &[
    (10..=40, Kind::Refuse(When::BeforeEffect, "RequestLimitExceeded", 503)),
    (5..=20, Kind::Refuse(When::BeforeEffect, "InternalError", 500)),
    (5..=20, Kind::Refuse(When::BeforeEffect, "Unavailable", 503)),
    (5..=20, Kind::Refuse(When::AfterEffect, "InternalError", 500)),
    (10..=30, Kind::Lose(When::BeforeEffect)),
    (10..=40, Kind::Lose(When::AfterEffect)),
    (2..=6, Kind::Hang(When::BeforeEffect)),
    (2..=6, Kind::Hang(When::AfterEffect)),
    (5..=20, Kind::Delay(Duration::from_secs(2))),
    (20..=80, Kind::Stale(Duration::from_secs(3))),
    (5..=20, Kind::Stale(Duration::from_secs(20))),
];

/// Refusals that belong to one action. Not of a create: EC2 answers a client token that it knows before it counts addresses.
const OWN: &[(RangeInclusive<u32>, Action, &str)] = &[
    (5..=20, Action::AssignPrivateIpAddresses, "InsufficientFreeAddressesInSubnet"),
    (5..=20, Action::AttachNetworkInterface, "InvalidNetworkInterfaceID.NotFound"),
];

#[derive(Clone, Copy)]
enum Kind {
    Refuse(When, &'static str, u16),
    Lose(When),
    Hang(When),
    Delay(Duration),
    Stale(Duration),
}

impl Trouble {
    /// All of EC2's faults at moderate rates, for as long as the storm lasts; metadata is left alone. The seed chooses the rates
    /// and each call's fate. A call gets through without trouble about five times of six.
    pub fn storm(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let own = OWN.iter().map(|(rate, action, code)| {
            let fault = Fault::new(*code, MESSAGE);
            Injection::sometimes(chance(rate, &mut rng), Disturbance::Refuse(When::BeforeEffect, fault)).of(*action)
        });
        let mut injections: Vec<Injection> = own.collect();
        injections
            .extend(MIX.iter().map(|(rate, kind)| Injection::sometimes(chance(rate, &mut rng), kind.disturbance())));
        let median = Duration::from_millis(rng.random_range(20..=80));
        let usual = Spread::LongTailed { median, p99: median * rng.random_range(5..=15) };
        let bucket =
            Bucket { burst: rng.random_range(15..=30), refill: Duration::from_millis(rng.random_range(50..=200)) };
        Self {
            seed,
            latency: Latency { usual, ..Latency::default() },
            buckets: Buckets { usual: Some(bucket), ..Buckets::default() },
            injections,
            metadata: MetadataTrouble::default(),
        }
    }
}

const MESSAGE: &str = "Injected by the lab's storm.";

impl Kind {
    fn disturbance(self) -> Disturbance {
        match self {
            Self::Refuse(when, code, status) => {
                Disturbance::Refuse(when, Fault::new(code, MESSAGE).with_status(status))
            }
            Self::Lose(when) => Disturbance::Lose(when),
            Self::Hang(when) => Disturbance::Hang(when),
            Self::Delay(time) => Disturbance::Delay(time),
            Self::Stale(age) => Disturbance::Stale(age),
        }
    }
}

fn chance(per_mille: &RangeInclusive<u32>, rng: &mut impl Rng) -> Chance {
    Chance::new(f64::from(rng.random_range(per_mille.clone())) / 1000.0).expect("a rate is below a thousand")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storm_has_every_kind_of_trouble_at_a_moderate_rate() {
        for seed in 0..200 {
            let storm = Trouble::storm(seed);
            assert!(storm.injections.iter().all(|injection| injection.count.is_none() && injection.skip == 0));
            let named = |injection: &Injection| match &injection.disturbance {
                Disturbance::Refuse(when, _) => format!("refuse {when:?}"),
                Disturbance::Lose(when) => format!("lose {when:?}"),
                Disturbance::Hang(when) => format!("hang {when:?}"),
                Disturbance::Delay(_) => "delay".to_owned(),
                Disturbance::Stale(_) => "stale".to_owned(),
            };
            let mut kinds: Vec<_> = storm.injections.iter().map(named).collect();
            kinds.sort();
            kinds.dedup();
            assert_eq!(kinds.len(), 8, "{kinds:?}");
            for action in Action::ALL {
                let hits = storm.injections.iter().filter(|one| one.action.is_none_or(|only| only == *action));
                let troubled: f64 = hits.map(|one| one.chance.probability()).sum();
                assert!((0.05..0.35).contains(&troubled), "seed {seed}, {action}: {troubled}");
            }
            let bucket = storm.buckets.usual.expect("a storm throttles");
            assert!(bucket.burst >= 15 && bucket.refill <= Duration::from_millis(200), "{bucket:?}");
            assert!(matches!(storm.latency.usual, Spread::LongTailed { .. }));
        }
        assert_eq!(Trouble::storm(1), Trouble::storm(1));
        assert_ne!(Trouble::storm(1).injections, Trouble::storm(2).injections);
    }
}
