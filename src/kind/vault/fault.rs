//! What an answer of Vault's that is not a success means.

use serde::Deserialize;

use super::client::{Effect, VaultClient};
use crate::domain::ErrorKind;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::secret::Material;
use crate::text::sanitize;

const LOG_IN: &str = "the token that stanch uses is expired, revoked, or bound to another network: log in again \
                      (`vault login`)";

#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl VaultClient {
    /// The error that an answer other than a success is. One rule for reads and writes: what Vault says
    /// of itself (sealed, standby, behind, too busy) passes, and then nothing was done.
    pub(super) async fn fault(&self, reply: &Reply, what: &str, effect: Effect) -> CallError {
        let said = self.said(reply);
        let error = self.fault_of(reply, what, &said).await;
        let error = CallError { retry_after: error.retry_after.or(reply.retry_after()), ..error };
        if effect == Effect::Read { error.read_only() } else { error }
    }

    async fn fault_of(&self, reply: &Reply, what: &str, said: &str) -> CallError {
        let status = reply.status.as_u16();
        let place = self.place();
        let quoted = if said.is_empty() { String::new() } else { format!(": {said}") };
        let rejected = |kind| CallError::rejected(kind, format!("{place} refused {what} ({status}){quoted}"));
        let not_ready = |state: &str, hint: &str| {
            CallError::rejected(ErrorKind::NotReady, format!("{place} {state}: {what} was not done"))
                .hint(hint)
        };
        match status {
            301 | 302 | 307 | 308 => not_ready(
                "sends this request on to another server, and a token is never sent on",
                "it is a standby: set the address to the active node, or to a load balancer that finds it",
            ),
            // Others than Vault answer 503, too; only Vault's own words say that nothing was done.
            503 if said.contains("sealed") => not_ready("is sealed", "unseal it: `vault operator unseal`"),
            500 | 503 if said.contains("active cluster node not found") => not_ready(
                "is a standby without an active node",
                "check the cluster: `vault operator members`",
            ),
            // A standby that has not yet got what another node wrote.
            412 if said.contains("index state") => not_ready(
                "is a standby that has not caught up yet",
                "wait a moment, or set the address to the active node",
            ),
            501 if said.contains("nitialized") => {
                not_ready("is not initialised", "initialise it: `vault operator init`")
            }
            472 => not_ready("is a disaster-recovery secondary", "set the address to the primary cluster"),
            473 => not_ready("is a performance standby", "set the address to the active node"),
            // OpenBao: another request changed the same thing at that moment. It passes; of a write it is left
            // open what was done.
            500 if said.contains("transaction commit failed") => CallError {
                kind: ErrorKind::NotReady,
                ..CallError::unknown(format!("{place} answered {status} to {what}{quoted}"))
            },
            429 => rejected(ErrorKind::Throttled)
                .hint("a rate-limit quota is set: `vault read sys/quotas/config`"),
            403 if is_bad_token(said) => rejected(ErrorKind::Refused).hint(LOG_IN),
            403 => {
                if self.own_token_is_dead().await {
                    rejected(ErrorKind::Refused).hint(LOG_IN)
                } else {
                    let path = what.split_once(' ').map_or(what, |(_, path)| path);
                    rejected(ErrorKind::Denied).hint(format!(
                        "ask for a policy that allows it; `vault token capabilities {path}` shows what you have"
                    ))
                }
            }
            400 if said.contains("check-and-set") => rejected(ErrorKind::Conflict)
                .hint("another version was written meanwhile: check it, then plan again"),
            404 if said.is_empty() => rejected(ErrorKind::NotFound)
                .hint("check the name in the runbook, and that the address is Vault's own"),
            404 => rejected(ErrorKind::NotFound),
            405 => rejected(ErrorKind::Unsupported),
            400..=499 => rejected(ErrorKind::Invalid),
            _ => CallError::unknown(format!("{place} answered {status} to {what}{quoted}")),
        }
    }

    /// A 403 may mean that the token itself is not valid any more: cheap to ask.
    async fn own_token_is_dead(&self) -> bool {
        let Some(token) = &self.settings().token else { return true };
        let endpoint = vaultrs::api::token::requests::LookupTokenSelfRequest::builder().build();
        let Ok(endpoint) = endpoint else { return false };
        match self.send_as(endpoint, token).await {
            Ok(reply) => reply.status.as_u16() == 403 && self.refuses_the_token(&reply),
            Err(_) => false,
        }
    }

    /// Whether a 403 refuses the token itself (dead, or used from outside its networks) and not merely
    /// this request. Vault says *invalid token* of a dead one; OpenBao says the bare words *permission
    /// denied*, where a policy's refusal comes as a list. Good for a hint about our own token; never
    /// taken as the proof that another one is dead.
    fn refuses_the_token(&self, reply: &Reply) -> bool {
        let errors: Errors = serde_json::from_slice(&reply.body).unwrap_or_default();
        errors.errors == ["permission denied"] || errors.errors.iter().any(|e| is_bad_token(e))
    }

    /// A text of the server's without the operator's token, which it was sent and may echo in whatever
    /// encoding.
    fn without_token(&self, text: &str) -> String {
        match &self.settings().token {
            Some(token) => Material::single("token", token.clone()).scrub(text),
            None => text.to_owned(),
        }
    }

    /// A text of the server's as it may be shown.
    pub(super) fn quoted(&self, text: &str) -> String {
        sanitize(&self.without_token(text))
    }

    /// What Vault itself says of an error, sanitized. Vault does not echo values in `errors`; the
    /// token is taken out all the same.
    pub(super) fn said(&self, reply: &Reply) -> String {
        let errors: Errors = serde_json::from_slice(&reply.body).unwrap_or_default();
        let text = self.without_token(&errors.errors.join("; "));
        // Its lists ("2 errors occurred:\n\t* a\n\t* b") read badly on one line.
        let points: Vec<&str> = text.split("* ").map(str::trim).filter(|s| !s.is_empty()).collect();
        match points.as_slice() {
            [head, rest @ ..] if head.ends_with("occurred:") => sanitize(&rest.join(", ")),
            _ => sanitize(&text),
        }
    }
}

/// Whether Vault says that the token is not valid, and not merely that it may not do this.
pub(super) fn is_bad_token(said: &str) -> bool {
    said.contains("invalid token") || said.contains("bad token")
}

/// The error without any of these secrets, which the request carried and a server may echo.
pub(super) fn scrubbed(error: CallError, secrets: &Material) -> CallError {
    let clean = |text: String| secrets.scrub(&text);
    CallError {
        message: clean(error.message),
        hint: error.hint.map(clean),
        request_id: error.request_id.map(clean),
        ..error
    }
}
