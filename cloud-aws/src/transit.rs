//! One request on its way: how far it got, where to, and whether what came back is an answer.
//!
//! Owns what hangs into the SDK's own steps. Never changes a request and never decides what a failure means: [`crate::fault`] does.

use std::sync::{Arc, OnceLock};

use aws_sdk_ec2::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{
            AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
            BeforeTransmitInterceptorContextRef,
        },
    },
    error::BoxError,
};
use aws_smithy_types::body::SdkBody;
use cloud::Action;
use http_body_util::Limited;

use crate::whole;

/// Of one request.
#[derive(Debug, Clone)]
pub(crate) struct Transit {
    action: Action,
    towards: Arc<OnceLock<String>>,
}

impl Transit {
    pub(crate) fn new(action: Action) -> Self {
        Self { action, towards: Arc::default() }
    }

    /// Whose answer was waited for: scheme, host and port. `None`: the request was never complete, signed and handed to the transport;
    /// nothing can have happened.
    pub(crate) fn towards(&self) -> Option<&str> {
        self.towards.get().map(String::as_str)
    }
}

impl Intercept for Transit {
    fn name(&self) -> &'static str {
        "Transit"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri();
        let host = uri.split('/').take(3).collect::<Vec<_>>().join("/");
        self.towards.get_or_init(|| host);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let body = response.take_body();
        *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, whole::MOST));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let status = context.response().status();
        match context.response().body().bytes() {
            Some(body) if status.is_success() => Ok(whole::answer(self.action, status.as_u16(), body)?),
            // It was not read to its end, or it is a refusal.
            _ => Ok(()),
        }
    }
}
