//! The list of EC2 checks, `tests/ec2_checks/checks.tsv`, through aws-sdk-ec2: the second client of the same list, beside boto3.
//!
//! Against `BERTH_EC2_ENDPOINT`, or else against the lab's EC2, which this program builds and starts. An argument runs the checks
//! whose id contains it. `BERTH_EC2_TABLE=stock` runs those of the list that LocalStack passes as it is. `BERTH_EC2_PROFILE` is the
//! ARN of an instance profile, where EC2 looks for it in IAM. Every check sees EC2 from outside only.

#![expect(clippy::redundant_closure_for_method_calls, reason = "the SDK's paths are longer than what they say")]

mod adapter;
mod adapter_reads;
mod addresses;
mod attachments;
mod interface_types;
mod interfaces;
#[path = "../support/lab.rs"]
mod lab;
mod launches;
mod networks;
mod prefixes;
mod region;

use std::{collections::BTreeSet, env, pin::Pin, process::ExitCode, sync::Arc};

use region::{Outcome, Region};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

/// One line of the list.
struct Check {
    id: &'static str,
    run: fn(Region) -> Pin<Box<dyn Future<Output = Outcome>>>,
}

/// `checks()` of the functions named: a function's name is the id of its check.
macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn checks() -> Vec<crate::Check> {
            vec![$(crate::Check { id: stringify!($name), run: |region| Box::pin(async move { $name(&region).await }) }),*]
        }
    };
}
use checks;

const LIST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/ec2_checks/checks.tsv"));
const AT_ONCE: usize = 16;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let only = env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut checks: Vec<Check> = [
        networks::checks(),
        launches::checks(),
        interfaces::checks(),
        interface_types::checks(),
        attachments::checks(),
        addresses::checks(),
        prefixes::checks(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Err(difference) = same_as_the_list(&checks) {
        println!("checks.tsv and this program differ: {difference:?}");
        return ExitCode::FAILURE;
    }
    match env::var("BERTH_EC2_TABLE").as_deref() {
        Err(_) | Ok("all") => {
            checks.extend(adapter::checks());
            checks.extend(adapter_reads::checks());
        }
        Ok("stock") => checks.retain(|check| passes_on_stock(check.id)),
        Ok(other) => {
            println!("BERTH_EC2_TABLE is {other:?}, neither all nor stock");
            return ExitCode::FAILURE;
        }
    }
    let lab = match env::var("BERTH_EC2_ENDPOINT") {
        Ok(endpoint) => Ok((endpoint, None)),
        Err(_) => lab::start().await.map(|lab| (lab.endpoint.clone(), Some(lab))),
    };
    let region = match &lab {
        Ok((endpoint, _)) => Region::at(endpoint).await,
        Err(error) => Err(region::Mismatch(error.to_string())),
    };
    let region = match region {
        Ok(region) => region,
        Err(mismatch) => {
            println!("no EC2 to check: {}", mismatch.0);
            return ExitCode::FAILURE;
        }
    };

    let chosen = checks.into_iter().filter(|check| check.id.contains(&only)).collect();
    let failed = LocalSet::new().run_until(run(chosen, &region)).await;
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn same_as_the_list(checks: &[Check]) -> Result<(), Vec<&'static str>> {
    let listed: BTreeSet<_> = LIST.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    let written: BTreeSet<_> = checks.iter().map(|check| check.id).collect();
    let difference: Vec<_> = listed.symmetric_difference(&written).copied().collect();
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

/// The list's last column says so.
fn passes_on_stock(id: &str) -> bool {
    let line = LIST.lines().find(|line| line.split('\t').next() == Some(id));
    line.is_some_and(|line| line.split('\t').nth(4) == Some("yes"))
}

/// Runs them, some at once, and says what came of each. Gives the number that failed.
async fn run(checks: Vec<Check>, region: &Region) -> usize {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    println!("running {} checks", checks.len());
    for check in checks {
        let (turns, region) = (Arc::clone(&turns), region.clone());
        running.spawn_local(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            (check.id, (check.run)(region).await)
        });
    }
    let (mut passed, mut failures) = (0, Vec::new());
    while let Some(done) = running.join_next().await {
        match done {
            Ok((id, Ok(()))) => {
                passed += 1;
                println!("test {id} ... ok");
            }
            Ok((id, Err(mismatch))) => {
                println!("test {id} ... FAILED");
                failures.push(format!("{id}: {}", mismatch.0));
            }
            Err(panic) => failures.push(panic.to_string()),
        }
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {} failed", failures.len());
    failures.len()
}
