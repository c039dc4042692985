//! What is seen of requests and replies on their way through the SDK.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sts::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef,
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use http_body_util::Limited;
use jiff::Timestamp;

use crate::provider::http::safe_url;
use crate::provider::http::transport::{MAX_BODY, http_date};
use crate::provider::logged::Logged;
use crate::text::sanitize;

/// Gives up on a reply that is longer than any of AWS': the SDK reads to the end, wherever that is.
#[derive(Debug, Clone)]
pub(super) struct Bound;

impl Intercept for Bound {
    fn name(&self) -> &'static str {
        "stanch-bound"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let unbounded = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(unbounded, MAX_BODY));
        Ok(())
    }
}

/// Logs each request with its operation, its host and the status of its response.
#[derive(Debug, Clone)]
pub(super) struct Log(
    /// The service, as IAM policies name it.
    pub(super) &'static str,
);

/// The request that is under way, for [`Log`].
#[derive(Debug)]
struct UnderWay(Logged);

impl Storable for UnderWay {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Log {
    fn name(&self) -> &'static str {
        "stanch-log"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let call = Logged::start(|| {
            let metadata = bag.load::<Metadata>();
            let operation = metadata.map_or("", |metadata| metadata.name());
            format!("{}:{operation} {}", self.0, safe_url(context.request().uri()))
        });
        bag.interceptor_state().store_put(UnderWay(call));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(UnderWay(call)) = bag.get_mut_from_interceptor_state::<UnderWay>() {
            match context.response() {
                Some(response) => call.end(&response.status().as_u16().to_string()),
                None => call.end("no whole response"),
            }
        }
        Ok(())
    }
}

/// Remembers, for messages, where each service's requests really went and which access key signed them:
/// variables, profiles and files all have a say in that. And the clock of the servers.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    sent: BTreeMap<&'static str, (String, Option<String>)>,
    date: Option<Timestamp>,
}

impl Wire {
    /// What notes the requests of one service.
    pub(super) fn of(&self, service: &'static str) -> Tap {
        Tap { service, wire: self.clone() }
    }

    /// The address, and the id of the access key, of the last request of the service that `what` begins with.
    pub(super) fn sent(&self, what: &str) -> Option<(String, Option<String>)> {
        self.seen(|seen| seen.sent.get(what.split(':').next().unwrap_or_default()).cloned())
    }

    /// The `Date` header of the last reply.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.seen(|seen| seen.date)
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes the requests of one service.
#[derive(Debug)]
pub(super) struct Tap {
    service: &'static str,
    wire: Wire,
}

impl Intercept for Tap {
    fn name(&self) -> &'static str {
        "stanch-wire"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let Ok(uri) = request.uri().parse::<http::Uri>() else { return Ok(()) };
        let host = format!(
            "{}://{}",
            uri.scheme_str().unwrap_or("https"),
            // Not the whole authority: it may hold a password.
            uri.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or_default())
        );
        let signed = request.headers().get("authorization").and_then(|text| text.split("Credential=").nth(1));
        let key = signed.and_then(|scope| scope.split('/').next()).map(sanitize);
        self.wire.seen(|seen| seen.sent.insert(self.service, (sanitize(&host), key)));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(http_date) {
            self.wire.seen(|seen| seen.date = Some(date));
        }
        Ok(())
    }
}
