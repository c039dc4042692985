//! AWS services without an SDK here: AWS' JSON protocol, sent by the SDK's own machinery.
//!
//! An SDK of a large service would be one of the largest dependencies, for a handful of requests. What the
//! other services of the family have is the same here: credentials, endpoint, certificates, proxy, deadline,
//! bounds, log, no retry, and the same errors.

use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_sdk_secretsmanager::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_sdk_sts::error::{BoxError, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::orchestrator::{
    HttpRequest, HttpResponse, OrchestratorError, SensitiveOutput,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::region::SigningRegion;
use aws_types::service_config::ServiceConfigKey;
use aws_types::{SdkConfig, SigningName};
use serde_json::Value;

use super::client::AwsClient;
use super::wire::{Bound, Log};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::sanitize;

/// A service, by its names.
pub(super) struct Service {
    /// As the files of settings and `AWS_ENDPOINT_URL_…` name it.
    pub(super) id: &'static str,
    /// As policies, signatures and addresses name it.
    pub(super) name: &'static str,
    /// As the header `x-amz-target` names it.
    pub(super) target: &'static str,
}

impl AwsClient {
    /// Sends one request, whose body is a JSON object and may hold a secret. Returns the body of the answer,
    /// which may hold one too. `what` begins with the service's name and the action, and is what errors name.
    ///
    /// # Errors
    /// As for every other service of the family.
    pub(super) async fn json(
        &self,
        service: &'static Service,
        action: &'static str,
        body: Secret,
        what: &str,
    ) -> Result<Secret, CallError> {
        let url = endpoint(&self.config, service).await?;
        let plugin = signed(&self.config, service)?;
        let http = self.config.http_client().ok_or_else(|| cannot("there is no HTTP client"))?;
        let timeouts = self.config.timeout_config().cloned().unwrap_or_else(TimeoutConfig::disabled);
        let target = format!("{}.{action}", service.target);
        let operation = Operation::builder()
            .service_name(service.name)
            .operation_name(action)
            .http_client(http)
            .endpoint_url(&url)
            // A retry here would be one that the journal does not know.
            .no_retry()
            .timeout_config(timeouts)
            .with_connection_poisoning()
            .interceptor(Bound)
            .interceptor(Log(service.name))
            .interceptor(self.wire.of(service.name))
            .runtime_plugin(plugin)
            .serializer(move |body: Secret| request(&target, &body))
            .deserializer(|response: &HttpResponse| answer(response))
            .build();
        operation.invoke(body).await.map_err(|error: SdkError<ErrorMetadata>| self.fault(&error, what))
    }
}

/// The address: what the settings say of this service, or of all; else that of the region.
async fn endpoint(config: &SdkConfig, service: &Service) -> Result<String, CallError> {
    let key =
        ServiceConfigKey::builder().service_id(service.id).env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let own = match key.build() {
        Ok(key) if !config.get_origin("endpoint_url").is_client_config() => {
            config.service_config().and_then(|settings| settings.load_config(key))
        }
        _ => None,
    };
    if let Some(url) = own.as_deref().or_else(|| config.endpoint_url()) {
        return Ok(url.to_owned());
    }
    // The other service has the same address over both versions of IP; this one has a domain of its own there.
    if config.use_dual_stack() == Some(true) {
        let message = format!("stanch does not know the dual-stack address of {}", service.id);
        return Err(CallError::rejected(ErrorKind::Invalid, message)
            .hint(format!("set AWS_ENDPOINT_URL_{} to it", service.id)));
    }
    // Partitions have domains of their own: the SDK of another service has the list of them.
    let params = Params::builder()
        .set_region(config.region().map(ToString::to_string))
        .set_use_fips(config.use_fips())
        .build()
        .map_err(|error| cannot(&error.to_string()))?;
    let known = DefaultResolver::new().resolve_endpoint(&params).await;
    let known = known.map_err(|error| cannot(&error.to_string()))?;
    Ok(known.url().replacen("//secretsmanager", &format!("//{}", service.name), 1))
}

/// What signs the requests.
#[expect(clippy::field_reassign_with_default, reason = "the SDK offers no other way to make one")]
fn signed(config: &SdkConfig, service: &Service) -> Result<StaticRuntimePlugin, CallError> {
    let provider = config.credentials_provider();
    let provider = provider.ok_or_else(|| cannot("no source of credentials is set up"))?;
    let mut signing = SigV4OperationSigningConfig::default();
    signing.region = config.region().cloned().map(SigningRegion::from);
    signing.name = Some(SigningName::from_static(service.name));
    let mut layer = Layer::new(service.name);
    layer.store_put(SensitiveOutput);
    layer.store_put(AuthSchemeOptionResolverParams::new(()));
    layer.store_put(signing);
    let resolver = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
    let components = RuntimeComponentsBuilder::new(service.name)
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_auth_scheme_option_resolver(Some(SharedAuthSchemeOptionResolver::new(resolver)))
        .with_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(provider))
        .with_identity_cache(config.identity_cache());
    Ok(StaticRuntimePlugin::new().with_config(layer.freeze()).with_runtime_components(components))
}

fn request(target: &str, body: &Secret) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(body.expose()));
    request.set_method("POST")?;
    let headers = request.headers_mut();
    headers.try_insert("content-type", "application/x-amz-json-1.1")?;
    headers.try_insert("x-amz-target", target.to_owned())?;
    headers.try_insert("user-agent", concat!("stanch/", env!("CARGO_PKG_VERSION")))?;
    Ok(request)
}

/// The text of a good answer; else the code and the message of the refusal.
fn answer(response: &HttpResponse) -> Result<Secret, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        let text = std::str::from_utf8(body).map_err(|error| OrchestratorError::other(error.to_string()))?;
        return Ok(Secret::new(text));
    }
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 2]| names.into_iter().find_map(|name| said[name].as_str());
    let code = response.headers().get("x-amzn-errortype").or_else(|| text(["__type", "code"]));
    // `com.amazon.service#Code:http://…`
    let code = code.unwrap_or_default().rsplit('#').next().unwrap_or_default();
    let code = code.split(':').next().unwrap_or_default();
    let error = ErrorMetadata::builder().code(code).message(text(["message", "Message"]).unwrap_or_default());
    Err(OrchestratorError::operation(error.build()))
}

fn cannot(why: &str) -> CallError {
    CallError::rejected(ErrorKind::Local, format!("cannot set up requests to AWS: {}", sanitize(why)))
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};

    use super::*;

    const SSM: Service = Service { id: "SSM", name: "ssm", target: "AmazonSSM" };

    async fn url(
        region: &'static str,
        fips: bool,
        dual: bool,
        all: Option<&str>,
    ) -> Result<String, CallError> {
        let mut config = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        config = config.region(Region::new(region)).use_fips(fips).use_dual_stack(dual);
        config.set_endpoint_url(all.map(str::to_owned));
        endpoint(&config.build(), &SSM).await
    }

    /// A partition has a domain of its own: a request to another one would be signed for nothing.
    #[tokio::test]
    async fn the_address_is_that_of_the_region() {
        for (region, fips, dual, all, address) in [
            ("eu-west-1", false, false, None, "https://ssm.eu-west-1.amazonaws.com"),
            ("us-east-1", true, false, None, "https://ssm-fips.us-east-1.amazonaws.com"),
            ("cn-north-1", false, false, None, "https://ssm.cn-north-1.amazonaws.com.cn"),
            ("eu-west-1", false, true, Some("http://h:1"), "http://h:1"),
        ] {
            assert_eq!(url(region, fips, dual, all).await.expect("an address"), address);
        }
        let unknown = url("eu-west-1", false, true, None).await.expect_err("another domain");
        assert!(unknown.hint.is_some_and(|hint| hint.contains("AWS_ENDPOINT_URL_SSM")));
    }
}
