//! Reads variables one by one and remembers everything that is wrong.
//!
//! Owns the parsing of single values. Never stops at the first mistake.

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use ipnet::Ipv4Net;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub variable: &'static str,
    /// What it was set to.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, self.value, self.allowed)
    }
}

/// A variable that is set and changes nothing, said once in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The variable.
    pub variable: &'static str,
    /// Why it changes nothing.
    pub why: &'static str,
}

/// Where values come from, and what was found wrong with them.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, mistakes: Vec::new(), notes: Vec::new() }
    }

    /// The value, without spaces around it; an empty one is as good as none, as amazon-vpc-cni's chart writes it.
    pub(super) fn text(&self, variable: &'static str) -> Option<String> {
        (self.lookup)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn wrong(&mut self, variable: &'static str, value: impl Into<String>, allowed: impl Into<String>) {
        self.mistakes.push(Mistake { variable, value: value.into(), allowed: allowed.into() });
    }

    /// `None` when it is not set, or set to what `parse` refuses.
    pub(super) fn value<T>(
        &mut self,
        variable: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.text(variable)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.wrong(variable, value, format!("must be {allowed}"));
        }
        parsed
    }

    /// One of these words, whatever their case.
    pub(super) fn word<T: Copy>(&mut self, variable: &'static str, words: &[(&str, T)]) -> Option<T> {
        let allowed = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        self.value(variable, &format!("one of {allowed}"), |value| {
            words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, meaning)| *meaning)
        })
    }

    /// What Go's strconv.ParseBool takes.
    pub(super) fn switch(&mut self, variable: &'static str) -> Option<bool> {
        self.value(variable, "true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)", |value| match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
            _ => None,
        })
    }

    /// A switch whose behaviour is not there: fine unless it is turned to `asks`.
    pub(super) fn lacks(&mut self, variable: &'static str, asks: bool, why: &str) {
        if self.switch(variable) == Some(asks) {
            let value = self.text(variable).unwrap_or_default();
            self.wrong(variable, value, format!("{why}; only {} is accepted", !asks));
        }
    }

    /// A count where amazon-vpc-cni reads everything below `least` as not set.
    pub(super) fn count(&mut self, variable: &'static str, least: i64) -> Option<u32> {
        let number = self.value(variable, "a whole number", |value| value.parse::<i64>().ok())?;
        if number < least {
            return None;
        }
        let count = u32::try_from(number).ok();
        if count.is_none() {
            self.wrong(variable, number.to_string(), format!("must be at most {}", u32::MAX));
        }
        count
    }

    /// A number within a range.
    pub(super) fn within(&mut self, variable: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.value(variable, &allowed, |value| value.parse().ok().filter(|number| range.contains(number)))
    }

    /// `45s`, `2m`, `500ms`.
    pub(super) fn duration(&mut self, variable: &'static str) -> Option<Duration> {
        self.value(variable, "a duration such as 45s, 2m or 500ms", |value| humantime::parse_duration(value).ok())
    }

    /// IPv4 networks with commas between them; each wrong one is a mistake of its own.
    pub(super) fn networks(&mut self, variable: &'static str) -> Vec<Ipv4Net> {
        let Some(list) = self.text(variable) else { return Vec::new() };
        let mut networks = Vec::new();
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let network = part.parse::<Ipv4Net>().ok().or_else(|| part.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
            match network {
                Some(network) => networks.push(network.trunc()),
                None => {
                    self.wrong(variable, part, "must be IPv4 networks such as 10.1.0.0/16, with commas between them");
                }
            }
        }
        networks
    }

    /// Says that a variable is set and changes nothing.
    pub(super) fn without_effect(&mut self, variable: &'static str, why: &'static str) {
        if self.text(variable).is_some() {
            self.notes.push(Note { variable, why });
        }
    }
}
