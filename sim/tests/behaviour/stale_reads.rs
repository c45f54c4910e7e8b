//! Reads that are answered with the past, while the truth and what calls do are not.

use std::time::Duration;

use sim::{
    Request, Response, Settings, StaleReads,
    requests::{Describe, Wanted},
    responses::{AttachmentStatus, EniStatus, InstanceState},
};

use crate::region::{Region, TIMES};

const MINUTE: Duration = Duration::from_secs(60);

fn region(permille: u32) -> Region {
    Region::new(Settings { times: TIMES, stale_reads: StaleReads { most: MINUTE, permille }, ..Settings::default() })
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_read_that_lags_shows_what_was_and_only_that_one_read() {
    let mut region = region(0);
    region.at(10);
    let eni = region.create(2).expect("there is room");
    region.at(20);
    region.assign(&eni, Wanted::Prefixes(1)).expect("there is room");
    region.at(30);
    for (lag, expected) in [(9, Some(1)), (10, Some(1)), (11, Some(0)), (20, Some(0)), (21, None)] {
        region.vpc.lag_next_read(seconds(lag));
        let seen = region.describe(&eni).map(|eni| eni.prefixes.len());
        assert_eq!(seen, expected, "{lag} s ago");
        assert_eq!(region.describe(&eni).map(|eni| eni.prefixes.len()), Some(1), "the next read is not stale");
    }
}

#[test]
fn what_is_gone_is_still_read_for_a_while() {
    let mut region = region(0);
    let eni = region.create(0).expect("there is room");
    region.at(10);
    region.must(Request::DeleteNetworkInterface { eni: eni.clone() });
    region.at(30);
    assert_eq!(region.describe(&eni), None);
    region.vpc.lag_next_read(seconds(25));
    assert_eq!(region.describe(&eni).map(|eni| eni.status), Some(EniStatus::Available));
    let all = |region: &mut Region| match region.must(Request::DescribeNetworkInterfaces(Describe::default())) {
        Response::DescribeNetworkInterfaces(page) => page.items.len(),
        other => panic!("{other:?}"),
    };
    region.vpc.lag_next_read(seconds(25));
    assert_eq!((all(&mut region), all(&mut region)), (1, 0));
    region.at(200);
    region.vpc.lag_next_read(seconds(195));
    assert_eq!(region.describe(&eni), None, "no answer is older than a minute here");
}

#[test]
fn transitions_that_come_with_time_are_remembered_at_their_time() {
    let mut region = region(0);
    let instance = region.launch();
    let eni = region.create(0).expect("there is room");
    region.at(10);
    region.attach(&eni, &instance);
    region.at(40);
    let status = |region: &mut Region, moment: u64| {
        region.vpc.lag_next_read(seconds(40 - moment));
        region.describe(&eni).and_then(|eni| Some(eni.attachment?.status))
    };
    assert_eq!(status(&mut region, 9), None);
    assert_eq!(status(&mut region, 10), Some(AttachmentStatus::Attaching));
    assert_eq!(status(&mut region, 11), Some(AttachmentStatus::Attaching));
    assert_eq!(status(&mut region, 12), Some(AttachmentStatus::Attached));
    let states = [(0, InstanceState::Pending, 1), (5, InstanceState::Running, 1), (10, InstanceState::Running, 2)];
    for (moment, state, enis) in states {
        region.vpc.lag_next_read(seconds(40 - moment));
        let Response::DescribeInstances(page) = region.must(Request::DescribeInstances(Describe::one(&instance)))
        else {
            panic!("not what was asked")
        };
        let seen = &page.items[0].instances[0];
        assert_eq!((seen.state, seen.interfaces.len()), (state, enis), "at {moment} s");
    }
}

#[test]
fn free_counts_are_stale_and_what_is_assigned_is_not() {
    let mut region = region(0);
    region.at(10);
    let eni = region.create(249).expect("there is room");
    region.at(20);
    region.vpc.lag_next_read(seconds(15));
    assert_eq!((region.free(), region.free()), (251, 1));
    region.vpc.lag_next_read(seconds(15));
    assert!(region.assign(&eni, Wanted::Count(2)).is_err(), "an assign is never stale");
    assert_eq!(region.vpc.held(&region.subnet).len(), 250, "the truth is not");
    assert_eq!((region.free(), region.free()), (251, 1), "a lag waits for a read");
}

#[test]
fn as_many_reads_are_stale_as_the_settings_say() {
    let mut region = region(300);
    region.at(100);
    let eni = region.create(0).expect("there is room");
    region.at(130);
    let missed = (0..2_000).filter(|_| region.describe(&eni).is_none()).count();
    // Three of ten reads lag, and half of those by more than 30 of 60 s.
    assert!((220..380).contains(&missed), "{missed} of 2000 missed the ENI");
}

#[test]
fn without_the_setting_nothing_is_stale_and_no_luck_is_drawn() {
    let mut quiet = Region::timed();
    let mut reading = Region::timed();
    for region in [&mut quiet, &mut reading] {
        region.at(10);
    }
    let eni = reading.create(0).expect("there is room");
    reading.vpc.lag_next_read(MINUTE);
    assert!(reading.describe(&eni).is_some(), "nothing is kept");
    quiet.create(0).expect("there is room");
    assert_eq!(quiet.create(0), reading.create(0), "the same luck for both");
}
