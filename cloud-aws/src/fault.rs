//! What a failed request was.
//!
//! Owns the line between "surely not sent" and "may have happened", from how far the request got and what the transport says, and the
//! words for whoever has to mend it. What EC2's own codes mean is [`cloud::kind`]'s.

use std::{error::Error as StdError, time::SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::{DateTime, DateTimeFormat},
};
use cloud::{Action, Error, Kind};

use crate::{
    seen::Missing,
    transit::Transit,
    whole::{self, Broken},
};

pub(crate) fn sorted<E>(action: Action, error: SdkError<E>, transit: &Transit) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let of = |kind, message| Error { action, kind, code: String::new(), message };
    if let Some(broken) = find::<Broken>(&error) {
        return of(Kind::Uncertain, broken.to_string());
    }
    if let SdkError::ServiceError(refusal) = &error {
        let status = refusal.raw().status();
        let whole = whole::refusal(status.as_u16(), refusal.raw().body().bytes().unwrap_or_default());
        return match (refusal.err().code(), whole) {
            // It is a success, of which some value cannot be read.
            (None, _) if status.is_success() => of(Kind::Uncertain, in_words(&error)),
            (_, Err(broken)) => of(Kind::Uncertain, broken.to_string()),
            (None, Ok(())) => of(Kind::Uncertain, Broken::Nameless { status: status.as_u16() }.to_string()),
            (Some(code), Ok(())) => {
                let message = refusal.err().message().unwrap_or_default();
                let kind = match cloud::kind(action, code, message) {
                    // A code that nobody knows, and EC2 says that the failure is its own.
                    Kind::Invalid if status.is_server_error() => Kind::Uncertain,
                    kind => kind,
                };
                let date = refusal.raw().headers().get("date");
                let advice = if kind == Kind::Credentials { advice(code, date) } else { String::new() };
                Error { action, kind, code: code.to_owned(), message: format!("{message}{advice}") }
            }
        };
    }
    let words = in_words(&error);
    let Some(towards) = transit.towards() else {
        let kind = match &error {
            SdkError::ConstructionFailure(_) => Kind::Invalid,
            // What happens before a request is sent takes no time, but for loading credentials.
            SdkError::TimeoutError(_) => Kind::Credentials,
            error if find::<CredentialsError>(error).is_some() => Kind::Credentials,
            _ => Kind::Unreachable,
        };
        return match kind {
            Kind::Credentials => of(kind, format!("credentials could not be loaded: {words}{NO_CREDENTIALS}")),
            kind => of(kind, words),
        };
    };
    let kind = if never_connected(&error) { Kind::Unreachable } else { Kind::Uncertain };
    of(kind, format!("{towards}: {words}"))
}

/// EC2 answered with success, but not with what it should: what it did is not known.
pub(crate) fn incomplete(action: Action, missing: &Missing) -> Error {
    Error { action, kind: Kind::Uncertain, code: String::new(), message: missing.to_string() }
}

/// Page follows page without end.
pub(crate) fn endless(action: Action) -> Error {
    Error { action, kind: Kind::Uncertain, code: String::new(), message: "EC2 never came to its last page".to_owned() }
}

/// The call's time is over before its last page came.
pub(crate) fn late(action: Action) -> Error {
    let message = "EC2's last page did not come in the time of the call".to_owned();
    Error { action, kind: Kind::Uncertain, code: String::new(), message }
}

const NO_CREDENTIALS: &str = " (does the instance have an instance profile, and metadata a hop limit that lets this process reach it? Or \
                              set AWS_ACCESS_KEY_ID, AWS_ROLE_ARN, ...)";

/// A signature is good for five minutes before and after its time.
const SKEW: u64 = 60;

/// What to do about credentials that EC2 refuses. `date`: EC2's clock.
fn advice(code: &str, date: Option<&str>) -> String {
    if !["RequestExpired", "AuthFailure", "SignatureDoesNotMatch", "InvalidSignatureException"].contains(&code) {
        return " (the next call loads the credentials anew)".to_owned();
    }
    let theirs = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok()).map(|time| time.secs());
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    let ours = ours.and_then(|ours| i64::try_from(ours.as_secs()).ok());
    match theirs.zip(ours) {
        None => {
            " (look at this machine's clock: a signature is good for five minutes; then at the credentials)".to_owned()
        }
        Some((theirs, ours)) if theirs.abs_diff(ours) <= SKEW => {
            " (this machine's clock agrees with EC2's: look at the credentials)".to_owned()
        }
        Some((theirs, ours)) => {
            let way = if ours < theirs { "behind" } else { "ahead of" };
            format!(" (look at this machine's clock: it is {} s {way} EC2's)", theirs.abs_diff(ours))
        }
    }
}

/// The name was not found, or nobody took the connection, or TLS did not come about: no byte of the request has left.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    find::<hyper_util::client::legacy::Error>(error).is_some_and(hyper_util::client::legacy::Error::is_connect)
}

/// The error and what caused it, each once: the SDK's own way adds every field of every cause.
fn in_words(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !words.ends_with(&cause) {
            words = format!("{words}: {cause}");
        }
        next = error.source();
    }
    words
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
