//! Consumers as a runbook describes them: a call that reloads, and a question that attests.

use std::sync::Arc;

use async_trait::async_trait;

use super::exec::Program;
use super::http::HttpAttest;
use super::outcome::CallError;
use super::{Attestation, Call, CallContext, Consumer};

/// How a consumer attests.
pub enum Question {
    /// It does not.
    None,
    /// Each instance has an address.
    Http(HttpAttest),
    /// A program asks them.
    Exec(Program),
}

/// A consumer of the runbook's own.
pub struct OwnConsumer {
    reload: Option<Arc<dyn Call>>,
    question: Question,
}

impl OwnConsumer {
    /// A consumer without `reload` reads its store by itself.
    pub fn new(reload: Option<Arc<dyn Call>>, question: Question) -> Self {
        Self { reload, question }
    }
}

#[async_trait]
impl Consumer for OwnConsumer {
    async fn reload(&self, context: &CallContext) -> Result<(), CallError> {
        match &self.reload {
            // A reload never carries the credential: the consumer gets it from its store.
            Some(call) => call.perform(context, None).await,
            None => Ok(()),
        }
    }

    async fn attest(&self) -> Vec<Result<Attestation, CallError>> {
        match &self.question {
            Question::None => Vec::new(),
            Question::Http(attest) => attest.ask().await,
            Question::Exec(program) => program.attest().await,
        }
    }
}
