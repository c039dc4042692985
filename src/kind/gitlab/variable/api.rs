//! The requests about one variable, and what an answer that is not a success means.

use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::found::{Answer, Found};
use super::server::VariableStore;
use crate::domain::{ErrorKind, HttpMethod};
use crate::kind::api::Ask;
use crate::provider::http::RESERVED;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::provider::text::strings;
use crate::secret::Secret;
use crate::text::sanitize;

impl VariableStore {
    /// The path of what the variable belongs to. A slash in its own path is encoded.
    fn owner_path(&self) -> String {
        let (what, name) = self.spec.owner();
        format!("/{what}s/{}", utf8_percent_encode(name, RESERVED))
    }

    fn ask(&self, method: HttpMethod, body: Option<Secret>) -> Ask {
        // Without it, GitLab answers for any variable of this key, or 409 if there are several.
        let filter = ("filter[environment_scope]".to_owned(), self.spec.environment_scope.clone());
        let path = format!("{}/variables/{}", self.owner_path(), self.spec.key);
        Ask { changes: body.is_some(), method, path, query: vec![filter], body }
    }

    /// The variable.
    pub(super) async fn find(&self) -> Result<Found, CallError> {
        let ask = self.ask(HttpMethod::Get, None);
        let reply = self.answer(&ask).await?;
        match Answer::of(&reply.body, &self.spec.key, &self.spec.environment_scope) {
            Some(Answer::Readable(found)) => Ok(found),
            Some(Answer::Hidden) => {
                let message = format!(
                    "{}: the variable is hidden: GitLab never shows its value, so stanch could not restore it",
                    self.shown()
                );
                Err(CallError::rejected(ErrorKind::Unsupported, message).hint(
                    "make a variable of another key that is masked and not hidden (a hidden one stays hidden), let the jobs read that one, and name it in the runbook",
                ))
            }
            None => Err(self.strange(&ask)),
        }
    }

    /// Writes a text. Everything else of the variable is as `like` has it. That it is there has to be read: a success
    /// says only that something answered.
    pub(super) async fn put(&self, text: &Secret, like: &Found) -> Result<(), CallError> {
        let ask = self.ask(HttpMethod::Put, Some(like.with(text)));
        let done = self.answer(&ask).await;
        // What was sent may be echoed, and the neighbours are secrets, too.
        let clean = |said: &str| strings(&like.text).scrub(&strings(text).scrub(said));
        done.map(drop).map_err(|error| error.scrubbed(&clean))
    }

    /// The number of what the variable belongs to: its path is another spelling.
    pub(super) async fn owner_id(&self) -> Result<u64, CallError> {
        let ask = Ask::get(self.owner_path());
        let reply = self.answer(&ask).await?;
        let found: Option<Value> = serde_json::from_slice(&reply.body).ok();
        found.and_then(|found| found["id"].as_u64()).ok_or_else(|| self.strange(&ask))
    }

    async fn answer(&self, ask: &Ask) -> Result<Reply, CallError> {
        let reply = self.client.reply_to(ask).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(self.fault(&reply, ask)) }
    }

    /// What answered in GitLab's place.
    fn strange(&self, ask: &Ask) -> CallError {
        let message = format!(
            "the response to {} at {} did not come from GitLab, or was cut short",
            ask.what(),
            self.client.place()
        );
        CallError::rejected(ErrorKind::NoAnswer, message)
            .hint("check `address` of the connection, and which proxy is in front of GitLab")
    }

    /// Which role the operator's token needs: the same to read a variable as to write it.
    fn needs(&self) -> String {
        let (what, name) = self.spec.owner();
        let role = if what == "project" { "Maintainer" } else { "Owner" };
        format!(
            "the operator's token needs the scope `api`, and the role {role} in the {what} {}",
            sanitize(name)
        )
    }

    fn fault(&self, reply: &Reply, ask: &Ask) -> CallError {
        let error = self.client.fault(reply, ask, None);
        let said = said(reply);
        let error = match &said {
            Some(said) => {
                let error = CallError { message: format!("{}: {}", error.message, sanitize(said)), ..error };
                self.client.clean(error)
            }
            None if reply.status == 404 => return self.strange(ask),
            None => error,
        };
        match reply.status.as_u16() {
            401 => CallError { hint: Some(format!("{}; {}", error.hint.as_deref().unwrap_or_default(), self.needs())), ..error },
            403 if error.kind == ErrorKind::Denied => error.hint(self.needs()),
            404 => error.hint(format!(
                "check `{}`, `key` and `environment_scope` in the runbook; GitLab answers the same where it hides something: {}",
                self.spec.owner().0,
                self.needs()
            )),
            409 => error.hint("this GitLab does not tell variables of one key by their scope (for groups, GitLab 16.9 and newer do): write the variable by hand, or upgrade"),
            400 | 422 => error.hint(
                "GitLab does not take the new value: correct what the message names in the variable, then resume; or roll back, and plan again",
            ),
            _ => error,
        }
    }
}

/// What GitLab says of a failure; `None` where something else answered.
fn said(reply: &Reply) -> Option<String> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    let said = ["message", "error_description", "error"].iter().find_map(|field| body.get(*field))?;
    Some(said.as_str().map_or_else(|| said.to_string(), str::to_owned))
}
