//! What the instance's type allows, in EC2's words.
//!
//! Owns `limits.json`, when EC2 is asked again, and how its failures are told. Never on the way of a pod: what is on disk is used at
//! once, and while nobody knows the limits the pool makes do with what the instance has.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cloud::Kind;
use pool::{Limits, Refusal};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::signs::replace;

/// The limits of a type rarely change; what is older than this is read again.
const AGE: Duration = Duration::from_hours(7 * 24);
/// And so much later at most: the nodes of a fleet that started together do not ask together.
const AGE_SPREAD: Duration = Duration::from_hours(24);
/// What was old at the start is read again within this time.
const OLD_SPREAD: Duration = Duration::from_mins(10);
/// How long to wait after a failure, growing from the one to the other.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The same after EC2 said that it is asked too often: whole fleets start at once, and the account's bucket is empty for seconds then.
const RETRY_THROTTLED: Duration = Duration::from_secs(4);
const RETRY_MOST: Duration = Duration::from_mins(5);

/// One entry of the limits on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    limits: Limits,
    /// Seconds since 1970.
    read_at: u64,
}

type Entries = BTreeMap<String, Entry>;

/// The limits on disk, by type. What cannot be read is as good as missing, and said.
#[derive(Debug)]
pub(crate) struct LimitsFile {
    path: PathBuf,
}

/// Limits that were on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// What they are.
    pub limits: Limits,
    /// How long ago they were read; the longest there is for what claims to come from the future.
    pub age: Duration,
}

impl LimitsFile {
    /// In this directory.
    pub(crate) fn new(state_dir: PathBuf) -> Self {
        Self { path: state_dir.join("limits.json") }
    }

    /// Of this type.
    pub(crate) fn get(&self, instance_type: &str) -> Option<Remembered> {
        let Entry { limits, read_at } = *self.entries().get(instance_type)?;
        if limits.enis == 0 || limits.addresses_per_eni == 0 {
            self.unreadable(&format!("{instance_type} allows nothing by it"));
            return None;
        }
        let age = wall().checked_sub(read_at).map_or(Duration::MAX, Duration::from_secs);
        Some(Remembered { limits, age })
    }

    /// Remembers what EC2 has just said. What cannot be kept is asked for again after a restart.
    pub(crate) fn keep(&self, instance_type: &str, limits: Limits) {
        let mut entries = self.entries();
        entries.insert(instance_type.to_owned(), Entry { limits, read_at: wall() });
        let written = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let text = serde_json::json!(entries);
        if let Err(error) = written.and_then(|()| replace(&self.path, &format!("{text}\n"))) {
            warn!(%error, file = %self.path.display(), "could not keep the type's limits");
        }
    }

    fn entries(&self) -> Entries {
        let read = match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Entries::new(),
            Err(error) => Err(error.to_string()),
        };
        read.unwrap_or_else(|why| {
            self.unreadable(&why);
            Entries::new()
        })
    }

    fn unreadable(&self, why: &str) {
        warn!(why, file = %self.path.display(), "could not use the limits on disk; asking EC2");
    }
}

/// When EC2 is asked for the limits. Owns no clock and no luck: both are passed in.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    failures: u32,
}

impl Schedule {
    /// How long to wait with what is on disk. `luck` is from 0 to 1, here and below.
    pub(crate) fn first(remembered: Option<Remembered>, luck: f64) -> Duration {
        match remembered {
            None => Duration::ZERO,
            Some(Remembered { age, .. }) if age >= AGE => OLD_SPREAD.mul_f64(luck),
            Some(Remembered { age, .. }) => AGE.saturating_sub(age) + AGE_SPREAD.mul_f64(luck),
        }
    }

    /// How long after EC2 has told them.
    pub(crate) fn told(&mut self, luck: f64) -> Duration {
        self.failures = 0;
        AGE + AGE_SPREAD.mul_f64(luck)
    }

    /// How long after a failure: longer each time, and somewhere in the later half of it.
    pub(crate) fn failed(&mut self, kind: Kind, luck: f64) -> Duration {
        let first = if kind == Kind::Throttled { RETRY_THROTTLED } else { RETRY_FIRST };
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(RETRY_MOST);
        self.failures += 1;
        wait.mul_f64(0.5 + luck / 2.0)
    }
}

/// Why DescribeInstanceTypes did not tell them, as everybody is told.
pub(crate) fn refusal(error: &cloud::Error) -> Refusal {
    let action = error.action.name().to_owned();
    match error.kind {
        Kind::Denied => Refusal::Denied { action },
        Kind::Throttled => Refusal::Throttled { action },
        Kind::Unreachable | Kind::Uncertain => Refusal::CloudUnreachable { action },
        _ => Refusal::CloudError { action, code: error.code.clone() },
    }
}

fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { enis: 3, addresses_per_eni: 10 };

    fn file() -> (tempfile::TempDir, LimitsFile) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = LimitsFile::new(dir.path().join("state"));
        (dir, file)
    }

    #[test]
    fn what_ec2_said_is_there_at_the_next_start_by_type() {
        let (_dir, file) = file();
        assert_eq!(file.get("m5.large"), None);
        file.keep("m5.large", LIMITS);
        file.keep("p4d.24xlarge", Limits { enis: 15, addresses_per_eni: 50 });
        let there = file.get("m5.large").expect("kept");
        assert_eq!(there.limits, LIMITS);
        assert!(there.age < Duration::from_secs(60), "{there:?}");
        assert_eq!(file.get("p4d.24xlarge").map(|there| there.limits.enis), Some(15));
        assert_eq!(file.get("m5.xlarge"), None);
    }

    #[test]
    fn a_file_that_says_nothing_is_as_good_as_missing_and_is_written_anew() {
        let (_dir, file) = file();
        file.keep("m5.large", LIMITS);
        let whole = std::fs::read(&file.path).expect("written");
        let (half, tail) = (&whole[..whole.len() / 2], &whole[whole.len() / 2..]);
        for broken in [
            &b""[..],
            half,
            tail,
            b"\0\0\0\0",
            b"\xff\xfe",
            b"[]",
            b"{\"m5.large\":{\"enis\":3}}",
            b"{\"m5.large\":{\"limits\":{\"enis\":0,\"addresses_per_eni\":10},\"read_at\":1}}",
            b"{\"m5.large\":{\"limits\":{\"enis\":-1,\"addresses_per_eni\":10},\"read_at\":1}}",
        ] {
            std::fs::write(&file.path, broken).expect("written");
            assert_eq!(file.get("m5.large"), None, "{}", String::from_utf8_lossy(broken));
            file.keep("m5.large", LIMITS);
            assert_eq!(file.get("m5.large").map(|there| there.limits), Some(LIMITS));
        }
        std::fs::remove_file(&file.path).expect("removed");
        std::fs::create_dir(&file.path).expect("something else");
        assert_eq!(file.get("m5.large"), None);
        file.keep("m5.large", LIMITS);
    }

    #[test]
    fn what_claims_to_come_from_the_future_is_old() {
        let (_dir, file) = file();
        file.keep("m5.large", LIMITS);
        let later = format!("\"read_at\":{}", wall() + 1_000);
        let text = std::fs::read_to_string(&file.path).expect("written");
        let at = text.find("\"read_at\":").expect("a time");
        let end = at + text[at..].find('}').expect("an end");
        std::fs::write(&file.path, format!("{}{later}{}", &text[..at], &text[end..])).expect("written");
        assert_eq!(file.get("m5.large"), Some(Remembered { limits: LIMITS, age: Duration::MAX }));
    }

    #[test]
    fn limits_are_read_at_once_when_missing_soon_when_old_and_after_a_week_otherwise() {
        let aged = |age| Some(Remembered { limits: LIMITS, age });
        assert_eq!(Schedule::first(None, 1.0), Duration::ZERO);
        assert_eq!(Schedule::first(aged(AGE), 0.5), OLD_SPREAD / 2);
        assert_eq!(Schedule::first(aged(AGE / 2), 0.0), AGE / 2);
        assert_eq!(Schedule::first(aged(Duration::ZERO), 1.0), AGE + AGE_SPREAD);
        assert_eq!(Schedule::default().told(0.0), AGE);
    }

    #[test]
    fn each_failure_waits_longer_up_to_five_minutes_and_no_two_nodes_alike() {
        let mut schedule = Schedule::default();
        let waits: Vec<u64> = (0..12).map(|_| schedule.failed(Kind::Denied, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(schedule.failed(Kind::Denied, 0.0), RETRY_MOST / 2);
        schedule.told(0.0);
        assert_eq!(schedule.failed(Kind::Denied, 1.0), RETRY_FIRST, "it starts over once EC2 has answered");
        assert_eq!(Schedule::default().failed(Kind::Throttled, 1.0), RETRY_THROTTLED);
    }

    #[test]
    fn failures_are_told_by_their_kind() {
        let of = |kind, code: &str| {
            let action = cloud::Action::DescribeInstanceTypes;
            refusal(&cloud::Error { action, kind, code: code.to_owned(), message: String::new() })
        };
        let action = || "DescribeInstanceTypes".to_owned();
        assert_eq!(of(Kind::Denied, "UnauthorizedOperation"), Refusal::Denied { action: action() });
        assert_eq!(of(Kind::Throttled, "RequestLimitExceeded"), Refusal::Throttled { action: action() });
        assert_eq!(of(Kind::Uncertain, ""), Refusal::CloudUnreachable { action: action() });
        let unknown = Refusal::CloudError { action: action(), code: "InvalidInstanceType".to_owned() };
        assert_eq!(of(Kind::Invalid, "InvalidInstanceType"), unknown);
        assert_eq!(of(Kind::Credentials, "ExpiredToken").name(), "CloudError");
    }
}
