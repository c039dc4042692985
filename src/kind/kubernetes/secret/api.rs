//! The requests about one Secret.

use http::Method;
use serde_json::Value;

use super::object::{Found, MANAGER, Managed, Metadata};
use super::server::SecretStore;
use crate::domain::ErrorKind;
use crate::kind::kubernetes::client::Ask;
use crate::kind::kubernetes::fault::Status;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// How many causes of a refusal are told.
const SHOWN: usize = 5;
/// The media type of a server-side apply; JSON is YAML.
const APPLY: &str = "application/apply-patch+yaml";

impl SecretStore {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{}", self.namespace, self.name)
    }

    pub(super) async fn find(&self) -> Result<Found, CallError> {
        let path = self.path();
        let ask = Ask::get(&path);
        let found = self.client.object(&ask).await?;
        self.is_this(&found, None).then_some(found).ok_or_else(|| self.client.strange(&ask))
    }

    /// Whether an answer is the Secret that was asked for: a page with status 200 is not.
    fn is_this(&self, found: &Found, before: Option<&Found>) -> bool {
        let Metadata { name, namespace, uid, resource_version, .. } = &found.metadata;
        let same = before.is_none_or(|before| *uid == before.metadata.uid);
        let named = *name == self.name && *namespace == self.namespace && same;
        found.kind == "Secret" && named && !uid.is_empty() && !resource_version.is_empty()
    }

    /// Applies these texts to the Secret that was just read, if it still is what was read; `None` where it is not. Returns
    /// what the server has then.
    pub(super) async fn apply(
        &self,
        found: &Found,
        texts: &[(String, Secret)],
    ) -> Result<Option<Found>, CallError> {
        let path = self.path();
        // Asked here, since the server sees no conflict with one that applies `stringData`.
        let held: Vec<&Managed> = found.metadata.managed_fields.iter().filter(|m| self.holds(m)).collect();
        if !self.force && !held.is_empty() {
            return Err(self.held(&held));
        }
        // Who wrote a key once does not write it back: such a one gives it up.
        let query = format!("fieldManager={MANAGER}&force=true&fieldValidation=Strict");
        let body = Some((APPLY, found.patch(texts)));
        let ask = Ask { method: Method::PATCH, path: &path, query: &query, body, changes: true };
        // What was sent may be echoed, and an admission webhook sees all of the Secret.
        let sent = found.texts().map(|(key, text)| (format!("old {key}"), text));
        let sent = sent.chain(texts.iter().map(|(key, text)| (key.clone(), text.clone())));
        let sent = sent.fold(Material::default(), |all, (key, text)| all.with(&format!("key {key}"), text));
        let clean = |error: CallError| error.scrubbed(&|text| sent.scrub(text));
        let reply = self.client.reply_to(&ask).await.map_err(clean)?;
        if reply.status.is_success() {
            let after: Found = serde_json::from_slice(&reply.body).map_err(|_| self.client.strange(&ask))?;
            if !self.is_this(&after, Some(found)) {
                return Err(self.client.strange(&ask));
            }
            return Ok(Some(after));
        }
        let fault = clean(self.client.fault(&reply, &ask));
        let Some(status) = Status::of(&reply) else { return Err(fault) };
        match reply.status.as_u16() {
            409 if status.reason == "Conflict" => Ok(None),
            422 => {
                let fields: Vec<String> = status
                    .details
                    .causes
                    .iter()
                    .take(SHOWN)
                    .map(|cause| self.client.quoted(&sent.scrub(&cause.field)))
                    .collect();
                Err(fault.hint(format!(
                    "Kubernetes or an admission webhook does not take the Secret with the new value (fields: {}); look at it: {}; then correct what the message names, and resume; or roll back, and plan again",
                    if fields.is_empty() { "not named".to_owned() } else { fields.join(", ") },
                    self.command("describe secret", "")
                )))
            }
            _ => Err(fault),
        }
    }

    /// Whether another manager applies one of our keys.
    pub(super) fn holds(&self, managed: &Managed) -> bool {
        managed.applies() && !managed.is_ours() && managed.has_one_of(&self.keys)
    }

    /// The error that a key belongs to other managers.
    pub(super) fn held(&self, by: &[&Managed]) -> CallError {
        let by: Vec<String> =
            by.iter().take(SHOWN).map(|managed| format!("`{}`", sanitize(&managed.manager))).collect();
        let message =
            format!("{}: another program applies a key of this run: {}", self.shown(), by.join(", "));
        // Not a conflict of values: to write once more would meet the same.
        CallError::rejected(ErrorKind::Unsupported, message).hint(
            "that program would write the old value back: change the value at its source; or stop that program and set `force_conflicts: true`. A run that has begun keeps its plan: roll it back, then plan again",
        )
    }

    /// Whether the namespace is being deleted; `None` where stanch may not see that.
    pub(super) async fn namespace_ends(&self) -> Result<Option<bool>, CallError> {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        let ask = Ask::get(&path);
        match self.client.object::<Value>(&ask).await {
            Ok(found) => match found.pointer("/status/phase").and_then(Value::as_str) {
                Some(phase) if found["kind"] == "Namespace" => Ok(Some(phase == "Terminating")),
                _ => Err(self.client.strange(&ask)),
            },
            Err(error) if error.kind == ErrorKind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }
}
