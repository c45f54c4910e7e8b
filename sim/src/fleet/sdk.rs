//! The client with which amazon-vpc-cni-k8s calls EC2, and how it tries again on top of it.
//!
//! Owns the retries of aws-sdk-go-v2 1.43.4, which version 1.23.1 links, as its `aws/retry` has them (`standard.go`,
//! `jitter_backoff.go`, `middleware.go`; AWS_NEW_RETRIES_2026 not set), and `pkg/utils/retry`. The daemon leaves the defaults
//! (`pkg/awsutils/awsutils.go` 445): only its client for metadata has others.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::region::Region;
use crate::{Fault, Request, Response, run::Luck};

/// `DefaultMaxAttempts`.
const ATTEMPTS: u32 = 3;
/// `DefaultRetryRateTokens`: what a client may spend on retries.
const TOKENS: u32 = 500;
/// `DefaultRetryCost`, back when the retry works.
const COST: u32 = 5;
/// `DefaultNoRetryIncrement`, for every call that works.
const INCREMENT: u32 = 1;
/// `DefaultMaxBackoff`; with three attempts it is never reached.
const LONGEST: Duration = Duration::from_secs(20);

/// The client of one process.
pub(crate) struct Sdk {
    region: Arc<Region>,
    luck: Mutex<Luck>,
    tokens: Mutex<u32>,
}

impl Sdk {
    /// A client that has spent nothing.
    pub(crate) fn new(region: Arc<Region>, luck: Luck) -> Self {
        Self { region, luck: Mutex::new(luck), tokens: Mutex::new(TOKENS) }
    }

    /// One call with its retries. Of what EC2 says here only throttling is tried again (`retryable_error.go`).
    pub(crate) async fn call(&self, request: &Request) -> Result<Response, Fault> {
        let mut paid = 0;
        for attempt in 1.. {
            let answer = self.region.ask(&self.luck, request.clone()).await;
            let Err(fault) = answer else {
                self.refund(paid + INCREMENT);
                return answer;
            };
            if !is_throttled(&fault) || attempt >= ATTEMPTS || !self.pay() {
                return Err(fault);
            }
            paid = COST;
            // Full jitter below 2^attempt seconds.
            let most = Duration::from_secs(1 << attempt).min(LONGEST);
            tokio::time::sleep(self.between(Duration::ZERO, most)).await;
        }
        unreachable!("the last attempt has returned")
    }

    /// `NWithBackoff` with a `NewSimpleBackoff`: so many calls, with growing pauses from `first` to a minute, each longer by up to `jitter`
    /// percent; none after the last.
    pub(crate) async fn tries(&self, request: &Request, tries: u32, first: Duration, jitter: u32) -> Result<(), Fault> {
        let mut pause = first;
        for left in (0..tries).rev() {
            match self.call(request).await {
                Ok(_) => return Ok(()),
                Err(fault) if left == 0 => return Err(fault),
                Err(_) => tokio::time::sleep(self.between(pause, pause + pause * jitter / 100)).await,
            }
            pause = (pause * 2).min(Duration::from_mins(1));
        }
        Ok(())
    }

    /// Some time between these two.
    pub(crate) fn between(&self, least: Duration, most: Duration) -> Duration {
        self.luck.lock().unwrap_or_else(PoisonError::into_inner).between(least..most)
    }

    fn pay(&self) -> bool {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let left = tokens.checked_sub(COST);
        *tokens = left.unwrap_or(*tokens);
        left.is_some()
    }

    fn refund(&self, back: u32) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens = (*tokens + back).min(TOKENS);
    }
}

fn is_throttled(fault: &Fault) -> bool {
    *fault == Fault::throttled()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action,
        fleet::{Fleet, Strategy},
        requests::Describe,
    };

    /// What one client does in an account whose buckets hold a single token each and refill after hours.
    fn on_empty_buckets<T>(what: impl AsyncFnOnce(Sdk, &Region) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O can be made").block_on(async {
            let fleet = Fleet { nodes: 1, share: 1e-6, ..Fleet::thousand(0, false, Strategy::Peer) };
            let region = Region::new(&fleet);
            let sdk = Sdk::new(Arc::clone(&region), Luck::new(0, "sdk"));
            what(sdk, &region).await
        })
    }

    fn subnets() -> Request {
        Request::DescribeSubnets(Describe::default())
    }

    #[test]
    fn a_throttled_call_is_tried_three_times_within_six_seconds() {
        on_empty_buckets(async |sdk, region| {
            assert!(sdk.call(&subnets()).await.is_ok());
            let until = region.elapsed() + Duration::from_secs(7);
            assert_eq!(sdk.call(&subnets()).await, Err(Fault::throttled()));
            assert!(region.elapsed() < until, "{:?}", region.elapsed());
            assert_eq!(region.lock().report.calls[&Action::DescribeSubnets].throttled, 3);
        });
    }

    #[test]
    fn what_is_no_throttling_is_not_tried_again() {
        on_empty_buckets(async |sdk, region| {
            let unknown = Request::DescribeSubnets(Describe::one("subnet-0"));
            assert_eq!(sdk.call(&unknown).await.map_err(|fault| fault.code), Err("InvalidSubnetID.NotFound".into()));
            assert_eq!(region.lock().report.calls[&Action::DescribeSubnets].refused, 1);
        });
    }

    #[test]
    fn a_client_that_has_spent_its_retries_tries_once() {
        on_empty_buckets(async |sdk, region| {
            assert!(sdk.call(&subnets()).await.is_ok());
            let throttled = || region.lock().report.calls[&Action::DescribeSubnets].throttled;
            // Two retries a call, five tokens each, of 500.
            for _ in 0..50 {
                assert!(sdk.call(&subnets()).await.is_err());
            }
            assert_eq!(throttled(), 150);
            assert!(sdk.call(&subnets()).await.is_err());
            assert_eq!(throttled(), 151);
        });
    }
}
