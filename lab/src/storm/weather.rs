//! What EC2 suffers during a storm, phase by phase.
//!
//! Owns the mixture of trouble. After the storm EC2 is well again.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use sim::{Action, Fault};

use super::{Storm, record::Told, usual_latency};
use crate::{
    proxy::Outcome,
    trouble::{Chance, Disturbance, Injection, Trouble, When},
};

/// How long one kind of trouble lasts.
const PHASE: Duration = Duration::from_millis(1_500);

/// Calls whose answer matters most.
const CHANGES: [Action; 7] = [
    Action::CreateNetworkInterface,
    Action::AttachNetworkInterface,
    Action::DetachNetworkInterface,
    Action::DeleteNetworkInterface,
    Action::AssignPrivateIpAddresses,
    Action::UnassignPrivateIpAddresses,
    Action::ModifyNetworkInterfaceAttribute,
];

/// Trouble until the storm is over.
pub(super) fn blow(storm: &Storm<'_>) {
    for phase in 0.. {
        let trouble = trouble(&mut storm.schedule.weather(phase));
        storm.record.note(format_args!("EC2 suffers: {trouble:?}"));
        storm.lab.faults().set(trouble);
        let over = storm.over.within(PHASE);
        note_calls(storm);
        if over {
            break;
        }
    }
    storm.lab.faults().clear();
    storm.record.note(format_args!("EC2 is well"));
}

/// What was called since the last time, into the journal.
pub(super) fn note_calls(storm: &Storm<'_>) {
    let calls = storm.lab.ec2().log();
    storm.lab.ec2().forget_calls();
    for call in calls {
        storm.record.count(|figures| {
            let Told { accepted, refused, lost } = figures.calls.entry(call.action.clone()).or_default();
            *match &call.outcome {
                Outcome::Accepted => accepted,
                Outcome::Refused(_) => refused,
                Outcome::Lost => lost,
            } += 1;
        });
        let form = String::from_utf8_lossy(&call.form);
        storm.record.note(format_args!("EC2 at {:.3}: {form} -> {:?}", call.at.as_secs_f64(), call.outcome));
    }
}

/// Now none, now much of everything, now two kinds that hit hard.
fn trouble(rng: &mut StdRng) -> Trouble {
    match rng.random_range(0..100) {
        0..25 => Trouble { latency: usual_latency(), ..Trouble::default() },
        25..60 => Trouble::storm(rng.random()),
        _ => {
            let injections = (0..2).map(|_| one(rng)).collect();
            Trouble { seed: rng.random(), latency: usual_latency(), injections, ..Trouble::default() }
        }
    }
}

fn one(rng: &mut StdRng) -> Injection {
    let change = CHANGES[rng.random_range(0..CHANGES.len())];
    let when = if rng.random_bool(0.5) { When::BeforeEffect } else { When::AfterEffect };
    let (action, count, disturbance) = match rng.random_range(0..100) {
        0..25 => (None, 8, Disturbance::Refuse(When::BeforeEffect, Fault::throttled())),
        25..60 => (Some(change), 3, Disturbance::Lose(when)),
        60..70 => (None, 2, Disturbance::Lose(when)),
        70..90 => (None, 6, Disturbance::Delay(Duration::from_millis(rng.random_range(100..900)))),
        _ => (Some(change), 1, Disturbance::Hang(when)),
    };
    Injection { action, skip: rng.random_range(0..3), count: Some(count), chance: Chance::ALWAYS, disturbance }
}
