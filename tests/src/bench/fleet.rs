//! A thousand nodes at once in one account, and the day of a node that has all it needs: in virtual time, as the simulation tells it.
//!
//! Owns the reading of what the simulation prints, and which goal there can be: nobody is served before EC2's buckets have the tokens.
//! It runs as a program of its own, as the storm does.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail};
use lab::Programs;

use super::figure::{Figure, Samples};

/// Each is another fleet.
const SEEDS: u32 = 3;
/// Five times faster, ten times fewer throttled calls.
const FASTER: f64 = 0.2;
const FEWER: f64 = 0.1;
/// Where the buckets allow no such thing: so close to what a perfect scheduler would reach.
const CLOSE: f64 = 1.1;

/// The figures among those wanted, each told when it is there.
pub fn measure(wanted: impl Fn(&str) -> bool, mut tell: impl FnMut(Figure)) -> Result<()> {
    if wanted("fleet_1000") {
        let kinds: [(_, &[&str]); 2] =
            [(["fleet_1000", "fleet_throttled"], &[]), (["fleet_1000_prefix", "prefix_throttled"], &["prefixes"])];
        for (names, arguments) in kinds {
            let runs: Vec<Run> = (0..SEEDS).map(|seed| run(seed, arguments)).collect::<Result<_>>()?;
            figures(names, &runs).into_iter().for_each(&mut tell);
        }
    }
    if wanted("steady_calls") {
        let days: Vec<String> = (0..SEEDS).map(|seed| said(seed, &["day"])).collect::<Result<_>>()?;
        tell(steady(&days)?);
    }
    Ok(())
}

/// A line of `name=value`.
type Told = BTreeMap<String, f64>;

/// One fleet, ours and the peer's, and what nobody can be faster than.
#[derive(Debug)]
struct Run {
    bound: Told,
    berth: Told,
    peer: Told,
}

fn run(seed: u32, arguments: &[&str]) -> Result<Run> {
    let said = said(seed, arguments)?;
    let [bound, berth, peer] = ["bound", "berth", "peer"].map(|name| line(&said, name));
    Ok(Run { bound: bound?, berth: berth?, peer: peer? })
}

/// What the simulation prints.
fn said(seed: u32, arguments: &[&str]) -> Result<String> {
    let fleet = Programs::beside_this_one().path("fleet")?;
    let output = Command::new(&fleet)
        .arg(format!("seed={seed}"))
        .args(arguments)
        .output()
        .with_context(|| format!("running {}", fleet.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { bail!("the simulation failed:\n{said}") }
}

fn line(said: &str, name: &str) -> Result<Told> {
    let rest = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let fields = rest.with_context(|| format!("the simulation said nothing of {name}:\n{said}"))?.split(' ');
    let field = |field: &str| {
        let (key, value) = field.split_once('=').with_context(|| format!("{field:?} has no value"))?;
        Ok((key.to_owned(), value.parse().with_context(|| format!("{field:?} is not a number"))?))
    };
    fields.map(field).collect()
}

fn samples(runs: &[Run], of: impl Fn(&Run) -> &Told, key: &str) -> Samples {
    Samples::new(runs.iter().map(|run| of(run).get(key).copied().unwrap_or(f64::NAN)))
}

/// Until every pod has its address, and how many calls EC2 refused for coming too fast.
fn figures([time, throttled]: [&'static str; 2], runs: &[Run]) -> [Figure; 2] {
    let ours = |key: &str| samples(runs, |run| &run.berth, key);
    let peers = |key: &str| samples(runs, |run| &run.peer, key);
    let bounds = |key: &str| samples(runs, |run| &run.bound, key);
    let [last, peers_last, bound] = [ours("last"), peers("last"), bounds("last")];
    let allowed = bound.median() / peers_last.median();
    let figure = if allowed <= FASTER {
        Figure::relative(time, "s", &last, ("peer", &peers_last), FASTER)
    } else {
        Figure::relative(time, "s", &last, ("perfect scheduler", &bound), CLOSE)
    };
    let seeds: Vec<_> = runs.iter().map(|run| format!("{:.2}", run.peer["last"] / run.berth["last"])).collect();
    let unserved = ours("unserved").median();
    let remark = format!(
        "peer {:.0} s, {} times as long by seed; its buckets allow {:.2} ({:.0} s); half of the pods after {:.0} s, peer {:.0} s, allowed {:.0} s; p99 {:.0} s, peer {:.0} s",
        peers_last.median(),
        seeds.join(", "),
        1.0 / allowed,
        bound.median(),
        ours("half").median(),
        peers("half").median(),
        bounds("half").median(),
        ours("p99").median(),
        peers("p99").median(),
    );
    let figure = Figure { holds: figure.holds.map(|holds| holds && unserved == 0.0), ..figure }.remark(remark);
    let seeds: Vec<_> =
        runs.iter().map(|run| format!("{:.1}", run.peer["throttled"] / run.berth["throttled"])).collect();
    let remark = format!(
        "the peer's are {} times as many by seed; EC2 took {:.0} calls, {:.0} of the peer's",
        seeds.join(", "),
        ours("taken").median(),
        peers("taken").median()
    );
    let [ours, peers] = [ours("throttled"), peers("throttled")];
    [figure, Figure::relative(throttled, "calls", &ours, ("peer", &peers), FEWER).remark(remark)]
}

/// Calls of an hour in which nothing happens; beside it those of a day on which a pod comes every ten minutes.
fn steady(days: &[String]) -> Result<Figure> {
    let [never, lightly] = ["never", "lightly"].map(|name| {
        let told: Result<Vec<Told>> = days.iter().map(|said| line(said, name)).collect();
        told.and_then(|told| if told.is_empty() { bail!("there is no day") } else { Ok(told) })
    });
    let (never, lightly) = (never?, lightly?);
    let per_hour = Samples::new(never.iter().map(|day| day["per_hour"]));
    let calls = |day: &Told| {
        let actions = day.iter().filter(|(key, _)| key.starts_with(char::is_uppercase));
        actions.map(|(action, count)| format!("{action} {count}")).collect::<Vec<_>>().join(", ")
    };
    let churn = &lightly[0];
    let remark = format!(
        "a day: {}; with {} pods that come and go: {:.2} an hour, {:.2} a pod: {}",
        calls(&never[0]),
        churn["pods"],
        churn["per_hour"],
        churn["per_hour"] * 24.0 / churn["pods"],
        calls(churn),
    );
    Ok(Figure::absolute("steady_calls", "an h", &per_hour, 1.0).remark(remark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(last: f64, throttled: f64, unserved: f64) -> Told {
        let fields = [("half", 50.0), ("p99", last), ("last", last), ("taken", 1.0)];
        let fields = fields.into_iter().chain([("throttled", throttled), ("unserved", unserved)]);
        fields.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn fleet(bound: f64, berth: Told, peer: f64) -> [Figure; 2] {
        let run = Run { bound: of(bound, 0.0, 0.0), berth, peer: of(peer, 1_000.0, 0.0) };
        figures(["fleet_1000", "fleet_throttled"], &[run])
    }

    #[test]
    fn a_fleet_is_compared_with_the_peer_where_the_buckets_allow_it_and_else_with_the_bound() {
        let [time, _] = fleet(180.0, of(200.0, 100.0, 0.0), 1_000.0);
        assert_eq!((time.against, time.holds), (Some("peer"), Some(true)), "{}", time.line());
        let [time, _] = fleet(180.0, of(210.0, 100.0, 0.0), 1_000.0);
        assert_eq!(time.holds, Some(false), "{}", time.line());
        let [time, _] = fleet(392.0, of(430.0, 100.0, 0.0), 600.0);
        assert_eq!((time.against, time.holds), (Some("perfect scheduler"), Some(true)), "{}", time.line());
        let [time, _] = fleet(392.0, of(440.0, 100.0, 0.0), 600.0);
        assert_eq!(time.holds, Some(false), "{}", time.line());
    }

    #[test]
    fn no_fleet_holds_with_a_pod_that_has_no_address_or_with_too_many_throttled_calls() {
        let [time, throttled] = fleet(180.0, of(200.0, 101.0, 1.0), 1_000.0);
        assert_eq!((time.holds, throttled.holds), (Some(false), Some(false)), "{}", time.line());
    }

    #[test]
    fn what_the_simulation_says_is_read() -> Result<()> {
        let said = "bound half=1.5 last=2.0\nberth half=3.0 last=inf\n  CreateTags  1 done\n";
        assert_eq!(line(said, "bound")?["half"].to_string(), "1.5");
        assert!(line(said, "berth")?["last"].is_infinite());
        assert!(line(said, "peer").is_err() && line("peer no=", "peer").is_err());
        Ok(())
    }

    #[test]
    fn two_calls_an_hour_are_too_many() -> Result<()> {
        let day =
            |per_hour: &str| format!("never per_hour={per_hour} pods=0 CreateTags=24\nlightly per_hour=6 pods=144\n");
        assert_eq!(steady(&[day("1.00")])?.holds, Some(true));
        let figure = steady(&[day("2.00")])?;
        assert_eq!(figure.holds, Some(false));
        assert!(figure.remark.starts_with("a day: CreateTags 24; with 144 pods"), "{}", figure.remark);
        assert!(figure.remark.contains("1.00 a pod"), "{}", figure.remark);
        Ok(())
    }
}
