//! A program of the operator's own. It gets the message as JSON on standard input, and `STANCH_IDEMPOTENCY_KEY`,
//! which is the same at every try.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::Exec;
use crate::follow::notify::message::Message;
use crate::provider::exec::Program;
use crate::provider::{Call as _, CallContext, CallError};
use crate::secret::{Material, Secret};

/// Runs the program. Exit status 0 means sent, 75 try later, 77 refused; anything else is not clear.
pub(super) async fn run(
    exec: &Exec,
    message: &Message,
    deadline: Duration,
) -> Result<Option<String>, CallError> {
    let context = CallContext {
        run: match message.audience {
            crate::domain::Audience::Technicians => message.run.clone(),
            _ => message.thread(),
        },
        step: "notify".to_owned(),
        token: Uuid::new_v5(&Uuid::NAMESPACE_URL, message.id().as_bytes()),
        since: message.at,
        last: message.at,
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: crate::provider::Ahead::default(),
        held: None,
        outgoing: None,
    };
    // Not a secret; this is how a program gets its input.
    let input = Material::single("message", Secret::new(message.to_json().to_string()));
    Program::new(exec, deadline).perform(&context, Some(&input)).await.map(|()| None)
}
