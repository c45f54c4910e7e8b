//! What went wrong, as CNI says it.
//!
//! Owns the error codes and the error object.

use std::fmt;

use proto::v1::{Reason, Refusal};
use serde::Serialize;

use crate::request::CniVersion;

/// A CNI error code (CNI specification 1.1, "Error").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: the version of the configuration, or the verb in that version.
    IncompatibleVersion,
    /// 2: a field of the configuration that is not supported.
    UnsupportedField,
    /// 4: an environment variable is missing or cannot be right.
    Environment,
    /// 5: the kernel or a file refused.
    Io,
    /// 6: stdin is not what JSON or CNI says.
    Decode,
    /// 7: the configuration cannot be right.
    Config,
    /// 11: trying again later may help.
    TryAgain,
    /// 50: the plugin cannot serve ADDs yet.
    NotAvailable,
    /// 100: CHECK found that the sandbox has not what it should have.
    Broken,
    /// 100 + the number of the reason: trying again does not help.
    Refused(Reason),
}

impl Code {
    /// The number.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::Environment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::Config => 7,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::Broken => 100,
            Self::Refused(reason) => 100 + (reason as i32).unsigned_abs(),
        }
    }

    /// Which refusals trying again cannot turn into an address.
    fn of(reason: Reason) -> Self {
        match reason {
            Reason::EniLimit
            | Reason::AddressLimit
            | Reason::PolicyCap
            | Reason::Denied
            | Reason::CloudError
            | Reason::SandboxGone
            | Reason::UnknownSandbox
            | Reason::ConfigInvalid => Self::Refused(reason),
            // All others, and one that this release does not know.
            _ => Self::TryAgain,
        }
    }
}

/// An error object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// One sentence.
    pub message: String,
    /// More of it.
    pub details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// With every cause of an error in the details.
    pub(crate) fn caused(code: Code, message: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self { code, message: message.into(), details: chain(error) }
    }

    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let reason = refusal.reason();
        let facts = [
            ("subnet", refusal.subnet.clone()),
            ("action", refusal.action.clone()),
            ("code", refusal.code.clone()),
            ("count", positive(refusal.count.into())),
            ("retry_after_ms", positive(refusal.retry_after_ms)),
        ];
        let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
        Self {
            code: Code::of(reason),
            message: format!("{}: {}", name(reason), refusal.message),
            details: facts.map(|(fact, value)| format!("{fact}={value}")).collect::<Vec<_>>().join(" "),
        }
    }

    pub(crate) fn unreachable(message: impl fmt::Display, details: String) -> Self {
        let message = format!("{}: {message}", name(Reason::DaemonUnreachable));
        Self { code: Code::TryAgain, message, details }
    }

    pub(crate) fn to_json(&self, version: CniVersion) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(rename = "cniVersion")]
            cni_version: &'static str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let Self { code, message, details } = self;
        let object = Object { cni_version: version.as_str(), code: code.number(), msg: message, details };
        serde_json::to_string(&object).expect("strings and a number serialise")
    }
}

/// `SubnetExhausted`, from the protocol's `REASON_SUBNET_EXHAUSTED`: as the logs, the metrics and the design write it.
fn name(reason: Reason) -> String {
    let words = reason.as_str_name().trim_start_matches("REASON_").split('_');
    words.map(|word| word[..1].to_owned() + &word[1..].to_ascii_lowercase()).collect()
}

fn positive(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

/// An error and its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_change_by_itself_is_worth_trying_again() {
        let permanent: Vec<_> = (0..=20)
            .filter_map(|number| Reason::try_from(number).ok())
            .filter(|&reason| Code::of(reason) != Code::TryAgain)
            .map(|reason| (name(reason), Code::of(reason).number()))
            .collect();
        expect_test::expect![[r#"
            [("EniLimit", 104), ("AddressLimit", 105), ("Denied", 108), ("CloudError", 109), ("PolicyCap", 111), ("SandboxGone", 117), ("UnknownSandbox", 118), ("ConfigInvalid", 119)]
        "#]]
        .assert_eq(&format!("{permanent:?}\n"));
    }

    #[test]
    fn a_refusal_carries_its_reason_its_sentence_and_its_facts() {
        let failure = Failure::refused(&Refusal {
            reason: Reason::SubnetExhausted.into(),
            message: "no free address in subnet-1".into(),
            subnet: "subnet-1".into(),
            retry_after_ms: 5000,
            ..Refusal::default()
        });
        expect_test::expect![[r#"{"cniVersion":"1.0.0","code":11,"msg":"SubnetExhausted: no free address in subnet-1","details":"subnet=subnet-1 retry_after_ms=5000"}"#]]
            .assert_eq(&failure.to_json(CniVersion::V1_0_0));
    }

    #[test]
    fn a_reason_of_a_newer_daemon_is_worth_trying_again() {
        let refusal = Refusal { reason: 4711, message: "new".into(), ..Refusal::default() };
        assert_eq!(Failure::refused(&refusal).code, Code::TryAgain);
    }
}
