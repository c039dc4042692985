//! The words of a runbook about a login.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::Period;
use crate::kind::spec::{Kind, Names, ProbeSpec};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};

/// A login with the private key, by the `ssh` of this machine. Runs no command and opens no session there. The key
/// goes to no file and to no program: `ssh` asks stanch for the one signature, as it asks an agent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshLogin {
    /// The server's name or address.
    pub host: String,
    /// The server's port.
    #[serde(default = "port")]
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// The host keys that the server may show, each as `ssh-keyscan` prints it or without the host's name
    /// (`ssh-ed25519 AAAA…`). A server with another host key is neither believed nor given anything.
    #[schemars(length(min = 1))]
    pub host_keys: Vec<String>,
    /// How long a login may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

fn port() -> u16 {
    22
}

/// The program that logs in.
static PROGRAM: LazyLock<Vec<String>> = LazyLock::new(|| vec!["ssh".to_owned()]);

impl SshLogin {
    pub(in crate::kind) const KIND: Kind = Kind { check, ..Kind::named("ssh") };
}

impl ProbeSpec for SshLogin {
    fn kind(&self) -> &'static Kind {
        &Self::KIND
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Program(&PROGRAM)]
    }
}

fn check(credential: &Entry, login: &Node, found: &mut Vec<Finding>) {
    let issuer = credential.value.get("issuer").and_then(|issuer| issuer.text_of("type"));
    if issuer.is_some_and(|kind| kind != "ssh-key") {
        found.push(
            Finding::error("not-a-key", login.span, "this credential is not a key that could log in")
                .hint("use `http` or `exec`, or an issuer of type `ssh-key`"),
        );
    }
}
