//! The SDK's clients, set up so that every try is the engine's and on the record.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sts::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeDeserializationInterceptorContextRef,
};
use aws_sdk_sts::config::{ConfigBag, Credentials, Intercept, ProvideCredentials, Region, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;
use jiff::Timestamp;
#[cfg(any(test, feature = "fuzzing"))]
use {
    crate::provider::http::transport::{Canned, Reply},
    aws_sdk_sts::config::SharedCredentialsProvider,
    aws_smithy_runtime_api::client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    aws_smithy_runtime_api::http::StatusCode,
};

use crate::provider::http::transport::MAX_BODY;
use crate::provider::outcome::{CallError, Kind, tame};
use crate::secret::Secret;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How AWS is reached: what the runbook says; the AWS default chain says the rest.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The region.
    pub region: Option<String>,
    /// The account that the credentials must belong to.
    pub account: Option<String>,
    /// The profile.
    pub profile: Option<String>,
    /// Another endpoint for every service.
    pub endpoint_url: Option<String>,
    /// These keys instead of the default chain. Only tests give them: a runbook cannot.
    pub keys: Option<(String, Secret)>,
}

/// One account's services, as one operator sees them.
pub struct AwsClient {
    pub(super) settings: Settings,
    pub(super) iam: aws_sdk_iam::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) secrets: aws_sdk_secretsmanager::Client,
    config: aws_config::SdkConfig,
    clock: DateSpy,
}

impl fmt::Debug for AwsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AwsClient {
    /// Reads the default chain; nothing is sent yet.
    ///
    /// # Errors
    /// When no region is known.
    pub async fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            // A retry inside the SDK would be one that the journal does not know.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                    .operation_timeout(timeout)
                    .build(),
            );
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some((id, secret)) = &settings.keys {
            loader = loader.credentials_provider(keys(id, secret));
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(CallError::rejected(Kind::Local, "there is no AWS region")
                .hint("set AWS_REGION, or `region` of the connection in the runbook"));
        }
        Ok(Self::from_config(settings, config))
    }

    fn from_config(settings: Settings, config: aws_config::SdkConfig) -> Self {
        let clock = DateSpy::default();
        let iam = aws_sdk_iam::config::Builder::from(&config).interceptor(Bound);
        let sts = aws_sdk_sts::config::Builder::from(&config).interceptor(Bound).interceptor(clock.clone());
        let secrets = aws_sdk_secretsmanager::config::Builder::from(&config).interceptor(Bound);
        Self {
            iam: aws_sdk_iam::Client::from_conf(iam.build()),
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            secrets: aws_sdk_secretsmanager::Client::from_conf(secrets.build()),
            settings,
            config,
            clock,
        }
    }

    /// Sends nothing, and answers with these.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn answering((id, secret): (&str, &Secret), replies: Vec<Reply>) -> Self {
        let canned = CannedConnector(Arc::new(Canned::new(replies)));
        let config = aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(keys(id, secret)))
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(canned.clone())))
            .build();
        Self::from_config(Settings::default(), config)
    }

    /// STS as somebody else: with the very keys that are being tried.
    pub(super) fn sts_as(&self, id: &str, secret: &Secret) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.config).interceptor(Bound);
        aws_sdk_sts::Client::from_conf(config.credentials_provider(keys(id, secret)).build())
    }

    /// The id of the access key that this run uses.
    ///
    /// # Errors
    /// When the default chain has no credentials.
    pub(super) async fn own_key_id(&self) -> Result<String, CallError> {
        let missing = |why: String| {
            CallError::rejected(Kind::Local, format!("there are no AWS credentials: {why}")).hint(
                "log in (`aws sso login`), or set AWS_PROFILE; `aws sts get-caller-identity` has to work",
            )
        };
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| missing("no place to look for them".to_owned()))?;
        let credentials =
            provider.provide_credentials().await.map_err(|error| missing(tame(&innermost(&error))))?;
        Ok(credentials.access_key_id().to_owned())
    }

    /// Where requests go, for messages: the endpoint where one was given, else the region.
    pub(super) fn place(&self) -> String {
        self.config.endpoint_url().map_or_else(|| self.region().to_owned(), str::to_owned)
    }

    pub(super) fn region(&self) -> &str {
        self.config.region().map_or("", |region| region.as_ref())
    }

    /// The server's clock, as STS last told it.
    pub(super) fn date(&self) -> Option<Timestamp> {
        *self.clock.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(id: &str, secret: &Secret) -> Credentials {
    Credentials::new(id, secret.expose(), None, None, "stanch")
}

/// The innermost cause says most.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Gives up on a reply that is longer than any of AWS': the SDK reads to the end, wherever that is.
#[derive(Debug, Clone)]
struct Bound;

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

/// Stands in the place of the SDK's HTTP client.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Clone)]
struct CannedConnector(Arc<Canned>);

#[cfg(any(test, feature = "fuzzing"))]
impl fmt::Debug for CannedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CannedConnector")
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl HttpConnector for CannedConnector {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.next().and_then(|reply| {
            let status = StatusCode::try_from(reply.status.as_u16()).ok()?;
            let mut answer = aws_sdk_sts::config::http::HttpResponse::new(status, reply.body.into());
            for (name, value) in &reply.headers {
                // What is not text never gets past the SDK's own client.
                if let Ok(value) = value.to_str() {
                    let _ = answer.headers_mut().try_append(name.to_string(), value.to_owned());
                }
            }
            Some(answer)
        });
        HttpConnectorFuture::ready(answer.ok_or_else(|| ConnectorError::timeout("no answer".into())))
    }
}

/// Remembers the `Date` header of replies.
#[derive(Debug, Clone, Default)]
struct DateSpy(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for DateSpy {
    fn name(&self) -> &'static str {
        "stanch-date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date")
            && let Ok(zoned) = jiff::fmt::rfc2822::parse(date)
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(zoned.timestamp());
        }
        Ok(())
    }
}
