//! How long calls take.

use std::{collections::BTreeMap, f64::consts::TAU, fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use rand::{Rng, RngExt};
use sim::Action;
use thiserror::Error;

/// How long calls take, there and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Of actions that are not named below.
    pub usual: Spread,
    /// Of these actions.
    pub by_action: BTreeMap<Action, Spread>,
}

/// How times are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Always the same.
    Constant(Duration),
    /// Each time in the range as likely as any other. An empty range is its start.
    Uniform(RangeInclusive<Duration>),
    /// Mostly near the median, and now and then very long: log-normal, cut off at ten times the 99th percentile.
    LongTailed {
        /// Half take less.
        median: Duration,
        /// One of a hundred takes more. Less than the median is the median.
        p99: Duration,
    },
}

/// Where the standard normal distribution has its 99th percentile.
const Z99: f64 = 2.326_347_874;

impl Latency {
    /// Every call takes this long.
    pub fn fixed(time: Duration) -> Self {
        Self { usual: Spread::Constant(time), by_action: BTreeMap::new() }
    }

    pub(super) fn draw(&self, action: Option<Action>, rng: &mut impl Rng) -> Duration {
        let named = action.and_then(|action| self.by_action.get(&action));
        named.unwrap_or(&self.usual).draw(rng)
    }
}

impl Spread {
    pub(super) fn draw(&self, rng: &mut impl Rng) -> Duration {
        match self {
            Self::Constant(time) => *time,
            Self::Uniform(range) if range.is_empty() => *range.start(),
            Self::Uniform(range) => rng.random_range(range.clone()),
            Self::LongTailed { median, p99 } => {
                if median.is_zero() || p99 <= median {
                    return *median;
                }
                let sigma = (p99.as_secs_f64() / median.as_secs_f64()).ln() / Z99;
                let times = (sigma * normal(rng)).exp();
                Duration::try_from_secs_f64(median.as_secs_f64() * times).map_or(*p99 * 10, |time| time.min(*p99 * 10))
            }
        }
    }
}

impl Default for Spread {
    /// No time at all.
    fn default() -> Self {
        Self::Constant(Duration::ZERO)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = humantime::format_duration;
        match self {
            Self::Constant(always) => write!(f, "{}", time(*always)),
            Self::Uniform(range) => write!(f, "{}..{}", time(*range.start()), time(*range.end())),
            Self::LongTailed { median, p99 } => write!(f, "{}~{}", time(*median), time(*p99)),
        }
    }
}

/// Not how times can be spread.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is none of 50ms, 10ms..90ms (uniform) and 50ms~1s (a long tail's median and 99th percentile)")]
pub struct NotASpread(pub String);

impl FromStr for Spread {
    type Err = NotASpread;

    fn from_str(text: &str) -> Result<Self, NotASpread> {
        let time = |part: &str| humantime::parse_duration(part).map_err(|_| NotASpread(text.to_owned()));
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (time(from)?, time(to)?);
            return if from <= to { Ok(Self::Uniform(from..=to)) } else { Err(NotASpread(text.to_owned())) };
        }
        match text.split_once('~') {
            Some((median, p99)) => Ok(Self::LongTailed { median: time(median)?, p99: time(p99)? }),
            None => time(text).map(Self::Constant),
        }
    }
}

/// Box and Muller's way to a standard normal number.
fn normal(rng: &mut impl Rng) -> f64 {
    // From (0, 1]: zero has no logarithm.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn drawn(spread: &Spread) -> Vec<Duration> {
        let mut rng = StdRng::seed_from_u64(1);
        let mut times: Vec<_> = (0..10_000).map(|_| spread.draw(&mut rng)).collect();
        times.sort_unstable();
        times
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_constant_is_one_and_a_uniform_spread_fills_its_range() {
        assert_eq!(drawn(&Spread::Constant(ms(7))).first(), Some(&ms(7)));
        let times = drawn(&Spread::Uniform(ms(10)..=ms(20)));
        assert!(times[0] >= ms(10) && times[0] < ms(11), "{:?}", times[0]);
        assert!(times[9_999] <= ms(20) && times[9_999] > ms(19), "{:?}", times[9_999]);
        assert!((ms(14)..ms(16)).contains(&times[5_000]), "{:?}", times[5_000]);
    }

    #[test]
    fn a_long_tail_has_its_median_and_its_percentile_and_ends() {
        let times = drawn(&Spread::LongTailed { median: ms(50), p99: ms(1_000) });
        assert!((ms(45)..ms(55)).contains(&times[5_000]), "{:?}", times[5_000]);
        assert!((ms(800)..ms(1_300)).contains(&times[9_900]), "{:?}", times[9_900]);
        assert!(times[9_999] > ms(2_000) && times[9_999] <= ms(10_000), "{:?}", times[9_999]);
    }

    #[test]
    fn a_spread_is_written_as_it_is_read() {
        for text in ["0s", "50ms", "10ms..90ms", "50ms~1s"] {
            assert_eq!(text.parse::<Spread>().map(|spread| spread.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "50", "90ms..10ms", "10ms..", "~1s", "1s~soon"] {
            assert_eq!(text.parse::<Spread>(), Err(NotASpread(text.to_owned())));
        }
    }

    #[test]
    fn spreads_without_room_are_their_least() {
        let backwards = Spread::Uniform(ms(9)..=ms(3));
        let narrow = Spread::LongTailed { median: ms(9), p99: ms(3) };
        assert_eq!((drawn(&backwards)[9_999], drawn(&narrow)[9_999]), (ms(9), ms(9)));
        let huge = Spread::LongTailed { median: ms(1), p99: Duration::from_secs(1 << 40) };
        assert!(drawn(&huge)[9_999] <= Duration::from_secs(10 << 40));
    }
}
