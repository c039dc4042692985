//! The SDK's clients, set up so that every try is the engine's and on the record.

use std::fmt;
#[cfg(any(test, feature = "fuzzing"))]
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{Credentials, ProvideCredentials, Region};
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

use super::connect::{http_client, refuse_pipes};
use super::innermost;
use super::wire::{Bound, Log, Wire};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call may take where no limit was set, as in a runbook without `limits.deadline`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How AWS is reached: what the runbook says; the AWS default chain says the rest.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The region.
    pub region: Option<String>,
    /// The account that the credentials must belong to.
    pub account: Option<String>,
    /// The profile. It comes before keys in the environment: what a runbook names is what is meant.
    pub profile: Option<String>,
    /// Another endpoint for every service.
    pub endpoint_url: Option<String>,
    /// A file of CA certificates in PEM, which are trusted and no others.
    pub ca_bundle: Option<String>,
    /// These keys instead of the default chain. Only tests give them: a runbook cannot.
    pub keys: Option<(String, Secret)>,
}

/// One account's services, as one operator sees them.
pub struct AwsClient {
    pub(super) settings: Settings,
    pub(super) iam: aws_sdk_iam::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) secrets: aws_sdk_secretsmanager::Client,
    pub(super) config: aws_config::SdkConfig,
    pub(super) wire: Wire,
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
    /// When no region is known, the CA bundle cannot be read, or a file of settings is not a regular file.
    pub async fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        refuse_pipes(&|name| std::env::var(name).ok())?;
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
            let provider = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        loader = loader.http_client(http_client(settings.ca_bundle.as_deref())?);
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        if let Some((id, secret)) = &settings.keys {
            loader = loader.credentials_provider(keys(id, secret));
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(CallError::rejected(ErrorKind::Local, "no AWS region is set")
                .hint("set AWS_REGION, or `region` of the connection in the runbook"));
        }
        Ok(Self::from_config(settings, config))
    }

    fn from_config(settings: Settings, config: aws_config::SdkConfig) -> Self {
        let wire = Wire::default();
        let iam = aws_sdk_iam::config::Builder::from(&config).interceptor(Bound).interceptor(Log("iam"));
        let sts = aws_sdk_sts::config::Builder::from(&config).interceptor(Bound).interceptor(Log("sts"));
        let secrets = aws_sdk_secretsmanager::config::Builder::from(&config)
            .interceptor(Bound)
            .interceptor(Log("secretsmanager"));
        Self {
            iam: aws_sdk_iam::Client::from_conf(iam.interceptor(wire.of("iam")).build()),
            sts: aws_sdk_sts::Client::from_conf(sts.interceptor(wire.of("sts")).build()),
            secrets: aws_sdk_secretsmanager::Client::from_conf(
                secrets.interceptor(wire.of("secretsmanager")).build(),
            ),
            settings,
            config,
            wire,
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
        let config =
            aws_sdk_sts::config::Builder::from(&self.config).interceptor(Bound).interceptor(Log("sts"));
        aws_sdk_sts::Client::from_conf(config.credentials_provider(keys(id, secret)).build())
    }

    /// The id of the access key that this run uses.
    ///
    /// # Errors
    /// When the default chain has no credentials.
    pub(super) async fn own_key_id(&self) -> Result<String, CallError> {
        let missing = |why: String| {
            CallError::rejected(
                ErrorKind::Local,
                format!("found no AWS credentials{}: {why}", self.of_profile()),
            )
            .hint("log in (`aws sso login`), or set AWS_PROFILE; `aws sts get-caller-identity` has to work")
        };
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| missing("no source of credentials is set up".to_owned()))?;
        let credentials =
            provider.provide_credentials().await.map_err(|error| missing(sanitize(&innermost(&error))))?;
        Ok(credentials.access_key_id().to_owned())
    }

    /// Where a call went, for messages: the address that it was really sent to; before any was sent, the
    /// endpoint where one was given, else the region. `what` begins with the service's name.
    pub(super) fn place(&self, what: &str) -> String {
        let sent = self.wire.sent(what).map(|(host, _)| host);
        sent.unwrap_or_else(|| self.config.endpoint_url().map_or_else(|| self.region().to_owned(), sanitize))
    }

    /// The access key that a call was signed with, for messages.
    pub(super) fn key_in_use(&self, what: &str) -> String {
        let key = self.wire.sent(what).and_then(|(_, key)| key);
        let key = key.map_or_else(|| "the credentials".to_owned(), |id| format!("the access key {id}"));
        format!("{key}{}", self.of_profile())
    }

    /// ` of the profile …`, where the runbook names one.
    fn of_profile(&self) -> String {
        self.settings.profile.as_ref().map(|name| format!(" of the profile {name}")).unwrap_or_default()
    }

    /// How long one call may take: after that no request of it is on its way from here.
    pub(super) fn timeout(&self) -> Duration {
        let told = self.config.timeout_config().and_then(TimeoutConfig::operation_timeout);
        told.unwrap_or(TIMEOUT)
    }

    pub(super) fn region(&self) -> &str {
        self.config.region().map_or("", |region| region.as_ref())
    }

    /// The server's clock, as STS last told it.
    pub(super) fn date(&self) -> Option<Timestamp> {
        self.wire.date()
    }
}

fn keys(id: &str, secret: &Secret) -> Credentials {
    Credentials::new(id, secret.expose(), None, None, "stanch")
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
