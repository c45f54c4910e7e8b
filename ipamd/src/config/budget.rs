//! How fast EC2 may be asked, as the operator says it.
//!
//! Owns the form of `BERTH_EC2_BUDGET`: `Action=burst/rate` with commas between them, the rate in calls a second. Never spends anything:
//! the pool keeps the buckets.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use pool::{Action, Budget};

use super::reader::Reader;

const VARIABLE: &str = "BERTH_EC2_BUDGET";
/// An action that comes less often than once an hour could as well be denied.
const SLOWEST: f64 = 1.0 / 3600.0;
/// Ten times as much as EC2 gives to anybody.
const FASTEST: f64 = 1000.0;
const MOST: u32 = 10_000;

/// The budgets that are not as published; each wrong entry is a mistake of its own.
pub(super) fn read(from: &mut Reader<'_>) -> BTreeMap<Action, Budget> {
    let mut budgets = BTreeMap::new();
    let Some(list) = from.text(VARIABLE) else { return budgets };
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match entry(part) {
            Ok((action, _)) if budgets.contains_key(&action) => {
                from.wrong(VARIABLE, part, format!("{action} is there twice"));
            }
            Ok((action, budget)) => drop(budgets.insert(action, budget)),
            Err(allowed) => from.wrong(VARIABLE, part, format!("must be {allowed}")),
        }
    }
    budgets
}

fn entry(part: &str) -> Result<(Action, Budget), String> {
    let form = || "Action=burst/rate such as AttachNetworkInterface=50/5, with commas between them".to_owned();
    let (name, size) = part.split_once('=').ok_or_else(form)?;
    let (burst, rate) = size.split_once('/').ok_or_else(form)?;
    let action = budgeted().find(|action| action.name() == name.trim()).ok_or_else(|| {
        let names: Vec<_> = budgeted().map(Action::name).collect();
        format!("for one of {}", names.join(", "))
    })?;
    let burst = burst.trim().parse().ok().filter(|burst| (1..=MOST).contains(burst));
    let burst = burst.ok_or_else(|| format!("a burst from 1 to {MOST} calls before the /"))?;
    let rate = rate.trim().parse().ok().filter(|rate| (SLOWEST..=FASTEST).contains(rate));
    let rate: f64 = rate.ok_or_else(|| format!("a rate from 0.0003 to {FASTEST} calls a second behind the /"))?;
    Ok((action, Budget { burst, refill: Duration::from_secs_f64(1.0 / rate) }))
}

/// What the pool asks. The limits of a type are asked for once a week, beside the pool, at a pace of their own.
fn budgeted() -> impl Iterator<Item = Action> {
    Action::ALL.into_iter().filter(|action| *action != Action::DescribeInstanceTypes)
}

/// As it is written.
pub(super) fn shown(budgets: &BTreeMap<Action, Budget>) -> String {
    let mut list = String::new();
    for (action, Budget { burst, refill }) in budgets {
        let comma = if list.is_empty() { "" } else { "," };
        write!(list, "{comma}{action}={burst}/{}", rate(*refill)).expect("a string takes whatever is written");
    }
    list
}

/// In as few digits as give the same refill again.
fn rate(refill: Duration) -> String {
    let rate = 1.0 / refill.as_secs_f64();
    let again = |text: &String| Duration::try_from_secs_f64(1.0 / text.parse::<f64>().ok()?).ok();
    let same = |text: &String| again(text) == Some(refill);
    (0..12).map(|digits| format!("{rate:.digits$}")).find(same).unwrap_or_else(|| rate.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_shown_as_it_was_written() {
        for written in ["5", "0.5", "2.25", "20", "1000", "0.1", "3", "0.0003"] {
            let refill = Duration::from_secs_f64(1.0 / written.parse::<f64>().expect("a number"));
            assert_eq!(rate(refill), written);
        }
    }

    fn read(list: &str) -> Result<BTreeMap<Action, Budget>, String> {
        let lookup = |name: &str| (name == VARIABLE).then(|| list.to_owned());
        let parsed = super::super::parse(&lookup);
        parsed.map(|(config, _)| config.policy.budgets).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_list_sets_the_actions_that_it_names_and_no_other() {
        let budgets = read(" AttachNetworkInterface=50/2.5, DescribeSubnets = 1 / 4 ,").expect("a list");
        let budget = |burst, ms| Budget { burst, refill: Duration::from_millis(ms) };
        let expected = [(Action::AttachNetworkInterface, budget(50, 400)), (Action::DescribeSubnets, budget(1, 250))];
        assert_eq!(budgets, BTreeMap::from(expected));
        assert_eq!(shown(&budgets), "AttachNetworkInterface=50/2.5,DescribeSubnets=1/4");
        assert_eq!(read(""), Ok(BTreeMap::new()));
    }

    #[test]
    fn each_wrong_entry_is_named_with_what_is_allowed() {
        for (entry, allowed) in [
            ("AttachNetworkInterface", "Action=burst/rate such as"),
            ("AttachNetworkInterface=50", "Action=burst/rate such as"),
            ("attachnetworkinterface=50/5", "for one of CreateNetworkInterface, AttachNetworkInterface"),
            ("DescribeInstanceTypes=50/5", "for one of CreateNetworkInterface"),
            ("RunInstances=50/5", "for one of"),
            ("CreateTags=0/5", "a burst from 1 to 10000"),
            ("CreateTags=-1/5", "a burst from 1 to 10000"),
            ("CreateTags=10001/5", "a burst from 1 to 10000"),
            ("CreateTags=1.5/5", "a burst from 1 to 10000"),
            ("CreateTags=5/0", "a rate from 0.0003 to 1000"),
            ("CreateTags=5/-1", "a rate from"),
            ("CreateTags=5/NaN", "a rate from"),
            ("CreateTags=5/inf", "a rate from"),
            ("CreateTags=5/1001", "a rate from"),
            ("CreateTags=5/1/2", "a rate from"),
            ("CreateTags=5/1s", "a rate from"),
        ] {
            let told = read(&format!("DetachNetworkInterface=1/1,{entry}")).expect_err(entry);
            assert!(told.starts_with(&format!("BERTH_EC2_BUDGET={entry:?}: must be {allowed}")), "{entry}: {told}");
            assert_eq!(told.lines().count(), 1, "the good entry is not among them: {told}");
        }
        let twice = read("CreateTags=5/1,CreateTags=6/1,nonsense").expect_err("two mistakes");
        assert!(twice.starts_with("BERTH_EC2_BUDGET=\"CreateTags=6/1\": CreateTags is there twice\n"), "{twice}");
        assert!(twice.contains("\"nonsense\""), "{twice}");
    }

    #[test]
    fn the_published_rates_can_be_written() {
        for action in budgeted() {
            let published = BTreeMap::from([(action, Budget::published(action))]);
            assert_eq!(entry(&shown(&published)), Ok((action, Budget::published(action))));
        }
    }
}
