//! The SDK's HTTP client with two changes: which certificates it trusts, and how many interim replies it reads.

use std::path::{Path, PathBuf};

use aws_sdk_sts::config::{RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::innermost;
use crate::domain::ErrorKind;
use crate::provider::http::interim::Interim;
use crate::provider::outcome::CallError;
use crate::provider::own_file::{self, SMALL};
use crate::text::sanitize;

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
                ErrorKind::Local,
                format!("cannot set up HTTPS for AWS: {}", sanitize(&innermost(&error))),
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
        CallError::rejected(ErrorKind::Local, format!("cannot use the CA bundle {}: {why}", sanitize(path)))
            .hint("check AWS_CA_BUNDLE: it names a file of CA certificates in PEM")
    };
    let pem = own_file::read(Path::new(path), SMALL).map_err(|error| bad(error.to_string()))?;
    if !reqwest::Certificate::from_pem_bundle(&pem).is_ok_and(|found| !found.is_empty()) {
        return Err(bad("it has no CA certificate in PEM".to_owned()));
    }
    let roots = tls::TrustStore::empty().with_pem_certificate(pem);
    let context = tls::TlsContext::builder().with_trust_store(roots).build();
    context.map_err(|error| bad(sanitize(&innermost(&error))))
}

/// Refuses files of settings that the SDK would wait for without a bound: pipes, and mounts that are gone.
///
/// # Errors
/// When one of the two files is there and is not a regular file.
pub(super) fn refuse_pipes(env: &dyn Fn(&str) -> Option<String>) -> Result<(), CallError> {
    for (variable, usual) in
        [("AWS_CONFIG_FILE", ".aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")]
    {
        let named = env(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        let Some(path) = named.or_else(|| Some(Path::new(&env("HOME")?).join(usual))) else { continue };
        own_file::regular_or_absent(&path).map_err(|error| {
            let path = sanitize(&path.display().to_string());
            CallError::rejected(
                ErrorKind::Local,
                format!("cannot use {path}, where AWS' settings are read: {error}; nothing was changed"),
            )
            .hint(format!("let {variable} name a regular file, or unset it; then type the command again"))
        })?;
    }
    Ok(())
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_does_not_answer_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        let error = http_client(Some(&pipe)).map(drop).expect_err("no answer");
        assert!(error.message.contains(&pipe) && error.message.contains("no answer within"), "{error}");
    }

    /// The SDK reads these files itself, and would wait for a pipe forever.
    #[test]
    fn a_file_of_settings_that_is_a_pipe_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("file"), "[default]\n").expect("written");
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo");
        assert!(made.success());
        let look = |variable: &str, file: &str| {
            let (variable, file, home) = (variable.to_owned(), at(file), at("home"));
            refuse_pipes(&move |name: &str| match name {
                "HOME" => Some(home.clone()),
                name => (name == variable).then(|| file.clone()),
            })
        };
        for variable in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
            look(variable, "file").expect("a regular file");
            look(variable, "none").expect("an absent file");
            let error = look(variable, "pipe").expect_err("a pipe");
            assert!(
                error.message.contains("pipe") && error.message.contains("not a regular file"),
                "{error}"
            );
            assert!(error.hint.is_some_and(|hint| hint.contains(variable)));
        }
        // Where no variable is set.
        std::fs::create_dir_all(folder.path().join("home/.aws/config")).expect("a folder");
        assert!(look("AWS_REGION", "file").expect_err("a folder").message.contains(".aws/config"));
    }
}
