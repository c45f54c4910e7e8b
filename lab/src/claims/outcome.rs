//! What came of trying a claim.

use std::fmt;

use anyhow::Result;

use crate::{
    fabric::{Crossing, Direction, Witness},
    traffic::Answer,
};

/// One try of one claim.
#[derive(Debug)]
pub struct Outcome {
    /// What was claimed, for people.
    pub claim: String,
    /// What the far side saw, if anything came back.
    pub answer: Option<Answer>,
    /// The packets of this exchange, as the router saw them.
    pub crossings: Vec<Crossing>,
    /// What was not as claimed; empty when the claim holds.
    pub problems: Vec<String>,
}

impl Outcome {
    /// A claim that could not even be tried does not hold.
    pub(super) fn impossible(claim: String, error: &anyhow::Error) -> Self {
        let problems = vec![format!("it could not be tried: {error:#}")];
        Self { claim, answer: None, crossings: Vec::new(), problems }
    }

    /// Did it happen as claimed?
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }

    /// One line for people: what was claimed, whom the far side saw, and the ENIs on the way.
    pub fn summary(&self, witness: &Witness) -> String {
        let seen = self.answer.as_ref().map(|answer| format!(": seen as {}", answer.seen.source.ip()));
        let half = |belongs: &dyn Fn(&Crossing) -> bool| {
            let mut places: Vec<String> = Vec::new();
            for crossing in self.crossings.iter().filter(|crossing| belongs(crossing)) {
                let place = witness.place(&crossing.place);
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            places
        };
        let dialled = self.crossings.first().map(|crossing| crossing.destination);
        let out = half(&|crossing| Some(crossing.destination) == dialled);
        let back = half(&|crossing| Some(crossing.destination) != dialled);
        let way = match (out.is_empty(), back.iter().rev().eq(&out)) {
            (true, _) => String::new(),
            (false, true) => format!(", by {} and back", out.join(" > ")),
            (false, false) => format!(", by {}, back by {}", out.join(" > "), back.join(" > ")),
        };
        format!("{}{}{way}", self.claim, seen.unwrap_or_default())
    }

    /// An error with everything that was seen, unless the claim holds.
    pub fn into_result(self) -> Result<Self> {
        if self.holds() { Ok(self) } else { Err(anyhow::anyhow!("{self}")) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.claim)?;
        match &self.answer {
            Some(answer) => write!(f, "{} saw {}", answer.seen.destination, answer.seen.source)?,
            None => write!(f, "no answer")?,
        }
        for crossing in &self.crossings {
            let verb = match crossing.direction {
                Direction::Left => "left",
                Direction::Reached => "reached",
            };
            write!(f, ", {} > {} {verb} {}", crossing.source, crossing.destination, crossing.place)?;
        }
        for problem in &self.problems {
            write!(f, "; but {problem}")?;
        }
        Ok(())
    }
}
