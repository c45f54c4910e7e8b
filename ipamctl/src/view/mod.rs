//! Answers as text for people and for programs.
//!
//! Owns the tables, their columns and the sentences around them. Decides nothing but what is bad news.

mod leases;
mod pool;
mod table;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    args::Output,
    convert::{Explanation, Figure, Lease, Next, Pool, Refusal},
};
use table::Columns;

/// How an answer is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub output: Output,
    /// Tables get lines.
    pub lines: bool,
}

/// One answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Pool(Box<Pool>),
    Leases {
        leases: Vec<Lease>,
        /// One pod or address was asked for, so that none is bad news.
        filtered: bool,
    },
    Explanation(Box<Explanation>),
}

impl Answer {
    /// The whole text, with its last newline.
    pub(crate) fn render(&self, shape: Shape) -> String {
        match (self, shape.output) {
            (Self::Pool(pool), Output::Json) => json(pool),
            (Self::Leases { leases, .. }, Output::Json) => json(leases),
            (Self::Explanation(explanation), Output::Json) => json(explanation),
            (Self::Pool(pool), _) => harmless(&pool::screen(pool, shape)),
            (Self::Leases { leases, .. }, _) => harmless(&leases::list(leases, shape)),
            (Self::Explanation(explanation), _) => harmless(&explained(explanation, shape)),
        }
    }

    /// The answer is one that a script should stop at.
    pub(crate) fn is_bad_news(&self) -> bool {
        match self {
            Self::Pool(pool) => pool.held.is_some(),
            Self::Leases { leases, filtered } => *filtered && leases.is_empty(),
            Self::Explanation(explanation) => explanation.held.is_some(),
        }
    }
}

fn explained(explanation: &Explanation, shape: Shape) -> String {
    let mut text = String::new();
    // A daemon of an older release tells text alone.
    let whole = explanation.figures.is_empty();
    for line in if whole { &explanation.lines } else { &explanation.pod } {
        let _ = writeln!(text, "{line}");
    }
    if !whole {
        let gap = if explanation.pod.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{gap}{}\n{}", figures(&explanation.figures, shape), next(&explanation.next, shape));
    }
    if let Some(held) = &explanation.held {
        text.push_str(&held_back(held));
    }
    text
}

fn figures(figures: &[Figure], shape: Shape) -> String {
    let rows: Vec<&Figure> = figures.iter().collect();
    Columns::<&Figure>::new()
        .left("FIGURE", |figure| figure.name.clone())
        .right("VALUE", |figure| figure.value.to_string())
        .left("FROM", |figure| figure.from.clone())
        .render(&rows, shape.lines)
}

fn next(next: &[Next], shape: Shape) -> String {
    if next.is_empty() {
        return "Next: nothing to do\n".to_owned();
    }
    let rows: Vec<&Next> = next.iter().collect();
    Columns::<&Next>::new()
        .left("NEXT", |next| next.what.clone())
        .right("WITHIN", |next| next.within_ms.map(span).unwrap_or_default())
        .left("WHY", |next| next.why.clone().unwrap_or_default())
        .render(&rows, shape.lines)
}

/// `Held: SubnetExhausted: ...`, with the time after which to look again.
fn held_back(held: &Refusal) -> String {
    let again = held.retry_after_ms.map(|ms| format!(" (again in {})", span(ms))).unwrap_or_default();
    format!("Held: {}: {}{again}\n", held.reason, held.message)
}

fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain fields serialise");
    text.push('\n');
    text
}

/// Names come from the cluster: none of them may move the cursor or recolour the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A length of time in its two largest units: `850ms`, `12s`, `3m5s`, `2h7m`, `4d2h`.
fn span(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: char, small: u64, smaller: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{smaller}"),
    };
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => two(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => two(hours, 'h', minutes, 'm'),
        _ => two(days, 'd', hours, 'h'),
    }
}
