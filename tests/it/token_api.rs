//! Tokens of a service that is described by its calls, and the presets, each against a server that follows the published
//! description of the vendor's, and lies where it is told to. None of them is the vendor's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use stanch::clock::SystemClock;
use stanch::domain::{CheckVerdict, ErrorKind, Life};
use stanch::kind::real::RealProvider;
use stanch::provider::{CallContext, CallError, Issuer, Provider as _, Use};
use stanch::runbook::model;
use stanch::secret::{Material, Secret};

use crate::api_server::{Dialect, Mode, Service, Token};
use crate::conformance::issuer_keeps_its_promises;
use crate::servers::{DEADLINE, context};

const ALL: [Dialect; 4] = [Dialect::Own, Dialect::Gitlab, Dialect::Cloudflare, Dialect::Openai];

/// The provider and the credential of a service.
fn provider(service: &Service) -> (RealProvider, model::Credential) {
    let connection = json!({ "type": "api", "address": format!("{}{}", service.url, service.base()) });
    let connections =
        BTreeMap::from([("api".to_owned(), serde_json::from_value(connection).expect("a connection"))]);
    let text = format!(
        "{{issuer: {{type: token-api, connection: api, {}}}, scope: {}}}",
        service.issuer(),
        service.scope()
    );
    let mut credential: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    credential["stores"] = json!([]);
    let operator = service.operator.clone();
    let env = Arc::new(move |name: &str| (name == "STANCH_API_TOKEN").then(|| operator.clone()));
    let provider = RealProvider::with_environment(connections, Arc::new(SystemClock::new()), DEADLINE, env);
    (provider, serde_json::from_value(credential).expect("a credential"))
}

async fn issuer(service: &Service) -> Arc<dyn Issuer> {
    let (provider, credential) = provider(service);
    provider.issuer("app", &credential).await.expect("an issuer")
}

fn material(token: &Token) -> Material {
    Material::single("token", Secret::new(token.value.as_str()))
}

/// No secret is in an error, whatever the server put there.
fn is_clean(error: &CallError, service: &Service) {
    let text = format!("{error:?}");
    let mut secrets: Vec<String> = service.tokens().into_iter().map(|token| token.value).collect();
    secrets.push(service.operator.clone());
    for secret in secrets {
        let escaped = serde_json::Value::from(secret.as_str()).to_string();
        let encoded = secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for form in [secret.as_str(), escaped.trim_matches('"'), &encoded] {
            assert!(!text.contains(form), "{text}");
        }
    }
}

#[tokio::test]
async fn every_dialect_keeps_the_promises_of_an_issuer() {
    for dialect in ALL {
        let (service, _) = Service::start(dialect).await;
        let issuer = issuer(&service).await;
        eprintln!("{dialect:?}");
        issuer_keeps_its_promises("token-api", issuer.as_ref(), "999999").await;
    }
}
