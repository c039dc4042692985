//! What an answer of an API server that is not a success means.

use serde::Deserialize;

use super::client::{Ask, KubeClient};
use crate::domain::ErrorKind;
use crate::provider::http::judge;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;

/// The object that says what went wrong (`meta/v1.Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    kind: String,
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) details: Details,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub(super) causes: Vec<Cause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cause {
    pub(super) field: String,
}

impl Status {
    /// What the server says; `None` where something else answered.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        serde_json::from_slice(&reply.body).ok().filter(|status: &Self| status.kind == "Status")
    }
}

impl KubeClient {
    /// The error that an answer other than a success is.
    pub(super) fn fault(&self, reply: &Reply, ask: &Ask<'_>) -> CallError {
        let status = Status::of(reply);
        let what = format!("{} {}", self.place(), ask.what());
        let error = judge(reply, &what).err().unwrap_or_else(|| self.strange(ask));
        let error = match &status {
            Some(status) => {
                let said = self.quoted(&status.message);
                CallError { message: format!("{}: {said}", error.message), ..error }
            }
            // A proxy may refuse a request that it has sent on.
            None if ask.changes && reply.status.is_server_error() => error.doubtful(),
            None => error,
        };
        let error = match reply.status.as_u16() {
            401 => error.hint("the credential in the kubeconfig is expired or not valid: log in again, and check it with `kubectl auth whoami`"),
            403 => error.hint("give stanch's user the permission; `kubectl auth can-i --list -n NAMESPACE` shows what it has"),
            _ => error,
        };
        // The server's own word that it did nothing yet.
        let error = match status.as_ref().map(|status| status.reason.as_str()) {
            Some("TooManyRequests") => CallError { kind: ErrorKind::Throttled, in_doubt: false, ..error },
            Some("NotFound") => error
                .hint("check `namespace` and `name` in the runbook, and the context: `kubectl get secret`"),
            _ => error,
        };
        if ask.changes { error } else { error.read_only() }
    }
}
