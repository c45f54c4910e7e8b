//! The parameters of a Query request, each read once. What nobody read is refused: a lab that ignores half of a request tells
//! its users lies.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use sim::Fault;

/// See the module.
#[derive(Debug)]
pub(super) struct Params {
    pairs: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

impl Params {
    pub(super) fn new(pairs: BTreeMap<String, String>) -> Self {
        Self { pairs, read: RefCell::default() }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = self.pairs.get(name)?;
        self.read.borrow_mut().insert(name.to_owned());
        Some(value)
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Fault> {
        self.text(name).filter(|value| !value.is_empty()).ok_or_else(|| Fault::missing_parameter(name))
    }

    pub(super) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.text(name).map(|text| text.parse().map_err(|_| Fault::invalid_value(text, name))).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.text(name)
            .map(|text| match text {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(Fault::invalid_value(text, name)),
            })
            .transpose()
    }

    /// `Name.1`, `Name.2`, ...
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|n| self.text(&format!("{name}.{n}")).map(str::to_owned)).collect()
    }

    /// A list of addresses, prefixes, numbers.
    pub(super) fn values<T: FromStr>(&self, name: &str) -> Result<Vec<T>, Fault> {
        self.list(name).iter().map(|text| text.parse().map_err(|_| Fault::invalid_value(text, name))).collect()
    }

    /// `Name.1.Member`, `Name.2.Member`, ...
    pub(super) fn values_below<T: FromStr>(&self, name: &str, member: &str) -> Result<Vec<T>, Fault> {
        let value = |prefix: String| {
            let full = format!("{prefix}{member}");
            self.parsed(&full)?.ok_or_else(|| Fault::missing_parameter(&full))
        };
        self.members(name).into_iter().map(value).collect()
    }

    /// `Name.1.`, `Name.2.`, ...: the prefixes of a list of structures.
    pub(super) fn members(&self, name: &str) -> Vec<String> {
        (1..).map_while(|n| Some(format!("{name}.{n}.")).filter(|prefix| self.any_below(prefix))).collect()
    }

    /// Is there a parameter of this name, or below it, that asks for anything?
    pub(super) fn asks_for(&self, name: &str) -> bool {
        let given = self.pairs.get(name).is_some_and(|value| value != "0" && value != "false");
        given || self.any_below(&format!("{name}."))
    }

    /// Reads, and does without, everything of this name and below it.
    pub(super) fn ignore(&self, name: &str) {
        let below = format!("{name}.");
        let mut read = self.read.borrow_mut();
        read.extend(self.pairs.keys().filter(|key| *key == name || key.starts_with(&below)).cloned());
    }

    /// Refuses what nobody read.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let read = self.read.borrow();
        let left = self.pairs.keys().find(|key| !read.contains(*key));
        left.map_or(Ok(()), |key| Err(Fault::unsupported(&format!("The parameter {key}"))))
    }

    fn any_below(&self, prefix: &str) -> bool {
        self.pairs.range(prefix.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }
}
