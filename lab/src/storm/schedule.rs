//! What happens in a storm and when, from its seed: how long pods live, when daemons are killed, what EC2 suffers.
//!
//! Owns nothing but numbers: the same seed gives the same schedule, in whatever order it is asked. What comes of it is the
//! business of processes and of chance.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How long high and low water last each.
const TIDE: Duration = Duration::from_secs(6);

/// A daemon that stays away this long outlasts the plugin's patience with a restart (five seconds).
const LONG_ABSENCE: Duration = Duration::from_millis(5_600);

/// After how many kills of one daemon it stays away for long.
const LONG_EVERY: usize = 20;

/// The schedule of one seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    seed: u64,
}

/// One pod, from before its ADD until after its DEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// Until its sandbox is made.
    pub rest: Duration,
    /// How long it lives.
    pub hold: Duration,
    /// It exchanges packets with the other node all its life.
    pub talks: bool,
    /// The runtime passes the result of the ADD to the DEL.
    pub remembered: bool,
    /// The runtime repeats a DEL that has succeeded.
    pub twice: bool,
    /// How its sandbox goes.
    pub ending: Ending,
}

/// How a sandbox goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// DEL, then the namespace.
    Deleted,
    /// The namespace, then DEL.
    Late,
    /// The namespace, and nobody says DEL.
    Vanished,
}

/// One kill of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blow {
    /// When.
    pub moment: Moment,
    /// How long until it is started again.
    pub absence: Duration,
    /// How it takes addresses from then on.
    pub mode: Mode,
}

/// How a daemon takes addresses from EC2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One by one.
    Addresses,
    /// By /28.
    Prefixes,
}

/// A moment in the life of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    /// So long after its start, ready or not.
    After(Duration),
    /// So many calls that change something in EC2 after its start, by whichever node, and a moment later.
    Changes(u64, Duration),
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The nth life of a worker's pods.
    pub(super) fn life(self, worker: usize, turn: usize) -> Life {
        let mut rng = self.draw(1, worker, turn);
        Life {
            rest: Duration::from_millis(rng.random_range(0..1_200)),
            hold: Duration::from_millis(rng.random_range(200..3_000)),
            talks: rng.random_bool(0.3),
            remembered: rng.random_bool(0.8),
            twice: rng.random_bool(0.2),
            ending: match rng.random_range(0..100) {
                0..80 => Ending::Deleted,
                80..92 => Ending::Late,
                _ => Ending::Vanished,
            },
        }
    }

    /// How a node's first daemon takes addresses: each node in its own way.
    pub(super) fn first_mode(node: usize) -> Mode {
        if node.is_multiple_of(2) { Mode::Addresses } else { Mode::Prefixes }
    }

    /// The nth kill of a node's daemon.
    pub(super) fn blow(self, node: usize, turn: usize) -> Blow {
        let mut rng = self.draw(2, node, turn);
        let moment = match rng.random_range(0..100) {
            0..15 => Moment::After(Duration::from_millis(rng.random_range(0..60))),
            15..55 => Moment::After(Duration::from_millis(rng.random_range(60..1_600))),
            _ => Moment::Changes(rng.random_range(1..4), Duration::from_millis(rng.random_range(0..40))),
        };
        let absence = match rng.random_range(0..100) {
            _ if turn % LONG_EVERY == LONG_EVERY / 2 + node => LONG_ABSENCE,
            0..80 => Duration::from_millis(rng.random_range(0..150)),
            _ => Duration::from_millis(rng.random_range(150..900)),
        };
        let mode = if rng.random_bool(0.4) { Mode::Prefixes } else { Mode::Addresses };
        Blow { moment, absence, mode }
    }

    /// The seed of the nth phase of EC2's trouble.
    pub(super) fn weather(self, phase: usize) -> StdRng {
        self.draw(3, 0, phase)
    }

    /// At low water five workers of six start no pod: pools shrink, ENIs go.
    pub(super) fn is_dry(worker: usize, elapsed: Duration) -> bool {
        let tide = elapsed.as_millis() / TIDE.as_millis();
        tide % 2 == 1 && !worker.is_multiple_of(6)
    }

    fn draw(self, kind: u64, who: usize, turn: usize) -> StdRng {
        let mut seed = [0; 32];
        let parts = [self.seed, kind, who as u64, turn as u64];
        for (bytes, part) in seed.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        StdRng::from_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64) -> (Vec<Life>, Vec<Blow>) {
        let schedule = Schedule::new(seed);
        let lives = (0..60).flat_map(|worker| (0..4).map(move |turn| schedule.life(worker, turn)));
        let blows = (0..2).flat_map(|node| (0..50).map(move |turn| schedule.blow(node, turn)));
        (lives.collect(), blows.collect())
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
    }

    #[test]
    fn every_kind_of_moment_and_absence_comes_up() {
        let (lives, blows) = first(1);
        let early = |blow: &Blow| matches!(blow.moment, Moment::After(after) if after < Duration::from_millis(60));
        assert!(blows.iter().any(early), "killed while it starts");
        assert!(blows.iter().any(|blow| matches!(blow.moment, Moment::Changes(..))), "killed in the middle of calls");
        for first in [0, 50] {
            let away = blows[first..first + 25].iter().filter(|blow| blow.absence == LONG_ABSENCE).count();
            assert_eq!(away, 1, "25 kills have one long absence");
        }
        for ending in [Ending::Deleted, Ending::Late, Ending::Vanished] {
            assert!(lives.iter().any(|life| life.ending == ending), "{ending:?}");
        }
        for mode in [Mode::Addresses, Mode::Prefixes] {
            assert!(blows.iter().any(|blow| blow.mode == mode), "{mode:?}");
        }
        assert!(lives.iter().any(|life| life.talks) && lives.iter().any(|life| !life.talks));
        assert!(lives.iter().any(|life| life.twice) && lives.iter().any(|life| !life.remembered));
    }
}
