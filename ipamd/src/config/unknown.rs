//! Variables that begin like ours and are none.
//!
//! Owns the search for the name that was meant. Never reads a value, and never refuses: a newer chart may set what this version does
//! not know.

use std::fmt;

use super::VARIABLES;

/// A variable that is set and that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its name.
    pub variable: String,
    /// The known name that it resembles.
    pub nearest: Option<&'static str>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no variable of this version", self.variable)?;
        self.nearest.map_or(Ok(()), |nearest| write!(f, "; is {nearest} meant?"))
    }
}

/// The names among these that begin with `BERTH_` and are not known.
pub fn unknown(names: impl IntoIterator<Item = String>) -> Vec<Unknown> {
    let known = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
    let ours = names.into_iter().filter(|name| name.starts_with("BERTH_") && !known(name));
    let mut unknown: Vec<_> = ours.map(|variable| Unknown { nearest: nearest(&variable), variable }).collect();
    unknown.sort_by(|one, other| one.variable.cmp(&other.variable));
    unknown
}

/// A name that is wrong in more than a third of its letters, `BERTH_` aside, is no misspelling.
fn nearest(name: &str) -> Option<&'static str> {
    let ours = VARIABLES.iter().map(|variable| variable.name).filter(|known| known.starts_with("BERTH_"));
    let (away, nearest) = ours.map(|known| (distance(name, known), known)).min()?;
    (away * 3 <= name.len().max(nearest.len()) - "BERTH_".len()).then_some(nearest)
}

/// How many letters have to be put in, taken out or changed (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (column, against) in other.bytes().enumerate() {
            let changed = before + usize::from(letter != against);
            before = row[column + 1];
            row[column + 1] = changed.min(before + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters() {
        for (one, other, away) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("WARM", "WRAM", 2)] {
            assert_eq!(distance(one, other), away, "{one} {other}");
            assert_eq!(distance(other, one), away, "{other} {one}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_named_with_the_one_that_was_meant() {
        let names = [
            "BERTH_SHRINKAFTER",
            "BERTH_EARLY_RESUE",
            "BERTH_WARM",
            "PATH",
            "BERTH_",
            "BERTH_KITTENS",
            "WARM_IP_TARGTE",
        ];
        let said: Vec<_> = unknown(names.map(str::to_owned)).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "BERTH_ is no variable of this version",
                "BERTH_EARLY_RESUE is no variable of this version; is BERTH_EARLY_REUSE meant?",
                "BERTH_KITTENS is no variable of this version",
                "BERTH_SHRINKAFTER is no variable of this version; is BERTH_SHRINK_AFTER meant?",
            ]
        );
    }
}
