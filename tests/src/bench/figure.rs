//! A figure: what was measured, against what, and whether it is what was promised.
//!
//! Owns the table's and the file's form. A goal that is missed is told like any other.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;

/// One line of the table, and one object of the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Its name, for `ONLY=`.
    pub name: &'static str,
    /// Of `median`, `p99` and `against_median`.
    pub unit: &'static str,
    /// How many single measurements.
    pub n: usize,
    /// Of them.
    pub median: f64,
    /// Of them; the largest when they are fewer than a hundred.
    pub p99: f64,
    /// What it is compared with.
    pub against: Option<&'static str>,
    /// Of that.
    pub against_median: Option<f64>,
    /// `median` over `against_median`.
    pub ratio: Option<f64>,
    /// The most that `ratio`, or without one `median`, may be.
    pub goal: Option<f64>,
    /// Is it?
    pub holds: Option<bool>,
    /// What a reader should know beside; only in the table.
    #[serde(skip)]
    pub remark: String,
}

impl Figure {
    /// A figure without a yardstick.
    pub fn absolute(name: &'static str, unit: &'static str, samples: &Samples, goal: f64) -> Self {
        let median = samples.median();
        Self {
            name,
            unit,
            n: samples.len(),
            median,
            p99: samples.p99(),
            against: None,
            against_median: None,
            ratio: None,
            goal: Some(goal),
            holds: Some(median <= goal),
            remark: String::new(),
        }
    }

    /// A figure as a multiple of another one's, both measured in this run.
    pub fn relative(
        name: &'static str,
        unit: &'static str,
        samples: &Samples,
        (against, yardstick): (&'static str, &Samples),
        goal: f64,
    ) -> Self {
        let ratio = samples.median() / yardstick.median();
        Self {
            against: Some(against),
            against_median: Some(yardstick.median()),
            ratio: Some(ratio),
            holds: Some(ratio <= goal),
            ..Self::absolute(name, unit, samples, goal)
        }
    }

    /// The same without a promise.
    #[must_use]
    pub fn without_goal(self) -> Self {
        Self { goal: None, holds: None, ..self }
    }

    /// With a remark.
    #[must_use]
    pub fn remark(self, remark: impl Into<String>) -> Self {
        Self { remark: remark.into(), ..self }
    }

    /// The table's head.
    pub fn head() -> String {
        let cells = ["figure", "n", "median", "p99", "unit", "against", "its median", "ratio", "goal", "holds"];
        line(cells.map(str::to_owned), "")
    }

    /// Its line in the table.
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let holds = match self.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let cells = [
            self.name.to_owned(),
            self.n.to_string(),
            number(Some(self.median)),
            number(Some(self.p99)),
            self.unit.to_owned(),
            self.against.unwrap_or("-").to_owned(),
            number(self.against_median),
            number(self.ratio),
            number(self.goal),
            holds.to_owned(),
        ];
        line(cells, &self.remark)
    }
}

fn line(cells: [String; 10], remark: &str) -> String {
    let [name, n, median, p99, unit, against, against_median, ratio, goal, holds] = cells;
    let line = format!(
        "{name:<19} {n:>5} {median:>8} {p99:>8} {unit:<5} {against:<20} {against_median:>10} {ratio:>6} {goal:>6} {holds:>5}  {remark}"
    );
    line.trim_end().to_owned()
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        _ if value.fract() == 0.0 && value < 1e6 => format!("{value:.0}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes the file.
pub fn write(path: &Path, figures: &[Figure]) -> Result<()> {
    let mut text = serde_json::to_string_pretty(figures)?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Single measurements, in order of size.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    sorted: Vec<f64>,
}

impl Samples {
    /// At least one.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        assert!(!sorted.is_empty(), "a figure has at least one measurement");
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// In microseconds.
    pub fn micros(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| time.as_secs_f64() * 1e6))
    }

    /// In milliseconds.
    pub fn millis(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| time.as_secs_f64() * 1e3))
    }

    /// In seconds.
    pub fn seconds(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| time.as_secs_f64()))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The middle one; of an even number the larger of the two.
    pub fn median(&self) -> f64 {
        self.sorted[self.len() / 2]
    }

    /// One in a hundred is larger.
    pub fn p99(&self) -> f64 {
        self.sorted[(self.len() * 99 / 100).min(self.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_told() {
        let (add, floor) = (Samples::new([3.0, 1.0, 2.0]), Samples::new([1.0]));
        let figure = Figure::relative("cni_add", "ms", &add, ("floor_add", &floor), 1.5);
        assert_eq!((figure.ratio, figure.holds), (Some(2.0), Some(false)));
        assert!(figure.line().ends_with(" 2   1.50    NO"), "{}", figure.line());
    }

    #[test]
    fn the_file_has_the_promised_keys_and_no_others() {
        let figure = Figure::absolute("plugin_size", "MiB", &Samples::new([2.5]), 5.0).remark("not for the file");
        let written = serde_json::to_value(figure).expect("a figure is plain");
        let expected = serde_json::json!({
            "name": "plugin_size", "unit": "MiB", "n": 1, "median": 2.5, "p99": 2.5,
            "against": null, "against_median": null, "ratio": null, "goal": 5.0, "holds": true,
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn median_and_p99_are_measurements() {
        let samples = Samples::new((1..=200).rev().map(f64::from));
        assert_eq!((samples.median(), samples.p99()), (101.0, 199.0));
        assert_eq!(number(Samples::new([1.0, 5.0, 2.0]).p99()), "5");
    }
}
