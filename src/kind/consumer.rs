//! Consumers as a runbook describes them: a call that reloads, and a question that attests.

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::Check;
use crate::provider::{Attestation, Call, CallContext, CallError, Consumer, Question};

/// A consumer of the runbook's own.
pub(super) struct OwnConsumer {
    reload: Option<Arc<dyn Call>>,
    question: Option<Arc<dyn Question>>,
}

impl OwnConsumer {
    /// A consumer without `reload` reads its store by itself.
    pub(super) fn new(reload: Option<Arc<dyn Call>>, question: Option<Arc<dyn Question>>) -> Self {
        Self { reload, question }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Consumer for OwnConsumer {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        let Some(question) = &self.question else { return Vec::new() };
        let silent = question.ask().await.into_iter().filter_map(Result::err);
        silent.map(|error| error.read_only().to_check(name)).collect()
    }

    async fn reload(&self, context: &CallContext) -> Result<(), CallError> {
        match &self.reload {
            // A reload never carries the credential: the consumer gets it from its store.
            Some(call) => call.perform(context, None).await,
            None => Ok(()),
        }
    }

    async fn attest(&self) -> Vec<Result<Attestation, CallError>> {
        match &self.question {
            Some(question) => question.ask().await,
            None => Vec::new(),
        }
    }
}
