//! Tokens for checks: a verifier is asked as it is in life, and the private key goes nowhere.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::key::parts;
use super::spec::TokenSpec;
use crate::clock::Clock;
use crate::domain::Check;
use crate::kind::key_pair::KeyPair as SigningKey;
use crate::provider::{CallError, Probe, Use};
use crate::secret::Material;

/// How long a token is valid, in seconds.
const LIFE: i64 = 60;
/// How long before now it says that it was signed, in seconds: a verifier's clock may be slow.
const SLACK: i64 = 5;

/// A check that is given a token in place of the key.
pub(super) struct Signed {
    pub(super) inner: Arc<dyn Probe>,
    pub(super) claims: TokenSpec,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Probe for Signed {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        self.inner.preflight(name).await
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let (pem, kid) = parts(material)?;
        let now = self.clock.now().wall.as_second();
        let token = SigningKey::read(pem)?.token(kid, &claims(&self.claims, now))?;
        self.inner.attempt(&Material::single("token", token)).await
    }
}

/// The claims of a token that is signed at this second (Unix time).
fn claims(spec: &TokenSpec, now: i64) -> Value {
    let TokenSpec { iss, sub, aud, claims } = spec;
    let mut all: Map<String, Value> =
        claims.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
    for (name, text) in [("iss", iss), ("sub", sub), ("aud", aud)] {
        all.extend(text.clone().map(|text| (name.to_owned(), text.into())));
    }
    all.insert("iat".to_owned(), (now - SLACK).into());
    all.insert("exp".to_owned(), (now + LIFE).into());
    Value::Object(all)
}
