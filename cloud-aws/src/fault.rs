//! What a failed request was.
//!
//! Owns the line between "surely not sent" and "may have happened", from how far the request got and what the transport says.
//! What EC2's own codes mean is [`cloud::kind`]'s.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use cloud::{Action, Error, Kind};

use crate::seen::Missing;

/// `sent`: whether the request was handed to the transport.
pub(crate) fn sorted<E>(action: Action, error: SdkError<E>, sent: bool) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    if let SdkError::ServiceError(refusal) = &error
        && let Some(code) = refusal.err().code()
    {
        let message = refusal.err().message().unwrap_or_default();
        let kind = match cloud::kind(action, code, message) {
            // A code that nobody knows, and EC2 says that the failure is its own.
            Kind::Invalid if refusal.raw().status().is_server_error() => Kind::Uncertain,
            kind => kind,
        };
        return Error { action, kind, code: code.to_owned(), message: message.to_owned() };
    }
    let message = in_words(&error);
    let kind = match &error {
        SdkError::ConstructionFailure(_) => Kind::Invalid,
        _ if sent && !never_connected(&error) => Kind::Uncertain,
        _ if sent => Kind::Unreachable,
        // What happens before a request is sent takes no time, but for loading credentials.
        SdkError::TimeoutError(_) => Kind::Credentials,
        error if find::<CredentialsError>(error).is_some() => Kind::Credentials,
        _ => Kind::Unreachable,
    };
    Error { action, kind, code: String::new(), message }
}

/// EC2 answered with success, but not with what it should: what it did is not known.
pub(crate) fn incomplete(action: Action, missing: &Missing) -> Error {
    Error { action, kind: Kind::Uncertain, code: String::new(), message: missing.to_string() }
}

/// Page follows page without end.
pub(crate) fn endless(action: Action) -> Error {
    Error { action, kind: Kind::Uncertain, code: String::new(), message: "EC2 never came to its last page".to_owned() }
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
