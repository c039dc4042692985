//! The SDK's HTTP client with two changes: which certificates it trusts, and how many interim replies it reads.

use aws_sdk_sts::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::client::innermost;
use crate::provider::http::interim::Interim;
use crate::provider::outcome::{CallError, Kind, tame};

/// An HTTP client like the SDK's own, which trusts the machine's certificates, or those of a bundle and no
/// others.
///
/// # Errors
/// When the bundle cannot be read.
pub(super) fn http_client(ca_bundle: Option<&str>) -> Result<SharedHttpClient, CallError> {
    let context = match ca_bundle {
        Some(path) => trusting(path)?,
        None => tls::TlsContext::builder().build().map_err(|error| {
            CallError::rejected(
                Kind::Local,
                format!("cannot set up HTTPS for AWS: {}", tame(&innermost(&error))),
            )
        })?,
    };
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(provider.clone()).tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(SharedHttpClient::new(Bounded(client)))
}

fn trusting(path: &str) -> Result<tls::TlsContext, CallError> {
    let bad = |why: String| {
        CallError::rejected(Kind::Local, format!("cannot use the CA bundle {}: {why}", tame(path)))
            .hint("check AWS_CA_BUNDLE: it names a file of CA certificates in PEM")
    };
    let pem = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    if !reqwest::Certificate::from_pem_bundle(&pem).is_ok_and(|found| !found.is_empty()) {
        return Err(bad("it has no CA certificate in PEM".to_owned()));
    }
    let roots = tls::TrustStore::empty().with_pem_certificate(pem);
    let context = tls::TlsContext::builder().with_trust_store(roots).build();
    context.map_err(|error| bad(tame(&innermost(&error))))
}

/// Gives up on a request that gets too many interim replies.
#[derive(Debug, Clone)]
struct Bounded<T>(T);

impl HttpClient for Bounded<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Bounded(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for Bounded<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let inner = self.0.clone();
        HttpConnectorFuture::new(async move {
            let bad = |error| ConnectorError::user(Box::new(error));
            let mut request = request.try_into_http1x().map_err(bad)?;
            let interim = Interim::of(&mut request);
            let request = request.try_into().map_err(bad)?;
            tokio::select! {
                answer = inner.call(request) => answer,
                () = interim.too_many() => Err(ConnectorError::io("too many interim replies".into())),
            }
        })
    }
}
