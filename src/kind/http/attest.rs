//! Asking the instances of a consumer which version they use.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::ErrorKind;
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::http::transport::Transport;
use crate::provider::http::{at_pointer, safe_url};
use crate::provider::outcome::CallError;
use crate::provider::{Attestation, Question, Secret256, ask_each};

/// Asks every address, all at once. An instance that gives no answer still counts.
#[derive(Debug, Clone)]
pub struct HttpAttest {
    transport: Arc<Transport>,
    urls: Vec<String>,
    pointer: String,
}

#[async_trait]
impl Question for HttpAttest {
    async fn ask(&self) -> Vec<Result<Attestation, CallError>> {
        let instance = |url: &String| {
            let (this, url) = (self.clone(), url.clone());
            (safe_url(&url), async move { this.ask_one(&url).await })
        };
        ask_each(self.urls.iter().map(instance)).await
    }
}

impl HttpAttest {
    /// `pointer` leads to the fingerprint in each answer.
    pub fn new(transport: Arc<Transport>, urls: Vec<String>, pointer: String) -> Self {
        Self { transport, urls, pointer }
    }

    async fn ask_one(&self, url: &str) -> Result<Attestation, CallError> {
        let what = safe_url(url);
        let bad = |why: &str| CallError::rejected(ErrorKind::Invalid, format!("{what} {why}"));
        let request = http::Request::get(url).body(Vec::new()).map_err(|_| bad("is not an address"))?;
        let reply = self.transport.send(request, Some(ASK_TIMEOUT)).await.map_err(CallError::read_only)?;
        if !reply.status.is_success() {
            return Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!("{what} answered {}", reply.status.as_u16()),
            ));
        }
        at_pointer(&reply, &self.pointer)
            .and_then(|value| Secret256::parse(value.as_str()?))
            .map(|digest| Attestation::digest(digest).by(&what))
            .ok_or_else(|| {
                bad(&format!("has no SHA-256 in lower-case hex at `{}`", self.pointer))
                    .hint("the answer has to be JSON; see `attest` in the runbook reference")
            })
    }
}
