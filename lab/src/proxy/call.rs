//! What the proxy knows of a call: its action, and whether another call asks the same.

use std::collections::BTreeMap;

use axum::{body::Bytes, http::Uri};
use sim::Action;

/// A call of EC2's Query protocol.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Its action, if the model knows it.
    pub(super) action: Option<Action>,
    pub(super) name: String,
    /// Its parameters in the order of their names: equal for equivalent calls.
    pub(super) form: Bytes,
}

impl Call {
    /// A GET carries in the URI what a POST carries in the body. `None` for what names no action.
    pub(super) fn of(uri: &Uri, body: &[u8]) -> Option<Self> {
        let from_uri = uri.query().unwrap_or_default().as_bytes();
        let pairs = [from_uri, body].into_iter().flat_map(form_urlencoded::parse);
        let parameters: BTreeMap<_, _> = pairs.collect();
        let name = parameters.get("Action")?.clone().into_owned();
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&parameters).finish();
        Some(Self { action: name.parse().ok(), name, form: form.into() })
    }

    /// Has it no effect, ever?
    pub(super) fn reads(&self) -> bool {
        self.name.starts_with("Describe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_its_parameters_wherever_they_are_and_in_any_order() {
        let call = |uri: &'static str, body: &str| Call::of(&Uri::from_static(uri), body.as_bytes());
        let posted = call("/", "Action=DescribeVpcs&MaxResults=5&Version=2016-11-15").expect("a call");
        assert_eq!((posted.action, posted.reads()), (Some(Action::DescribeVpcs), true));
        let got = call("/?Version=2016-11-15&MaxResults=5", "Action=DescribeVpcs").expect("a call");
        assert_eq!(got.form, posted.form);
        let other = call("/", "Action=RebootInstances").expect("a call");
        assert_eq!((other.action, other.name.as_str(), other.reads()), (None, "RebootInstances", false));
        assert!(call("/_lab/state", "").is_none());
    }
}
