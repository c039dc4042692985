//! Who is told what happens in a run, and how: `notify:` in a runbook, and the file `notify.yaml`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Audience, Exec, MessageKind};

/// Who is told what happens.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stanch notify")]
pub struct Notify {
    /// The format's version: 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// The language of the messages: `en`, `de`, or one of your own under `templates`. `en` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]{2}(-[A-Za-z0-9]{2,8})?$"))]
    pub language: Option<String>,
    /// A directory of your own templates, `LANGUAGE/AUDIENCE.txt`. They replace those of stanch, message by
    /// message. A relative path starts from the directory of `notify.yaml`,
    /// in a runbook from where the plan was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<String>,
    /// The channels, by name.
    pub channels: BTreeMap<String, Channel>,
}

/// A channel, and who reads it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Who reads it. It decides what a message can name: customers never read anything internal, and a message
    /// to customers is sent only by `stanch notify send`.
    pub audience: Audience,
    /// How it is reached.
    pub via: Via,
    /// Send only these messages; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<MessageKind>,
    /// The language of this channel, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z]{2}(-[A-Za-z0-9]{2,8})?$"))]
    pub language: Option<String>,
    /// Also send the messages of runs in the sandbox, marked as a drill. Not for customers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drills: bool,
    /// For customers: what they call the service that is affected, such as `Payments`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// How a channel is reached.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Via {
    /// An incoming webhook of Slack.
    SlackWebhook(SlackWebhook),
    /// Slack's `chat.postMessage`, with a bot's token.
    Slack(Slack),
    /// PagerDuty's Events API, version 2.
    Pagerduty(Pagerduty),
    /// E-mail, by SMTP.
    Email(Email),
    /// A request with a JSON body, signed as Standard Webhooks describe.
    Webhook(Webhook),
    /// Alertmanager's API, version 2.
    Alertmanager(Alertmanager),
    /// A file that one line of JSON a message is appended to.
    File(FileSink),
    /// A program that gets each message as JSON on standard input. Exit status 0 means sent, 75 means try later.
    Exec(Exec),
}

/// Where a secret of a channel comes from. It is never in this file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretFrom {
    /// An environment variable, by its name.
    Env(String),
    /// A file that only its owner can read (mode 0600). A relative path starts from the directory of `notify.yaml`,
    /// in a runbook from where the plan was made.
    File(String),
}

/// An incoming webhook of Slack.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackWebhook {
    /// Where its address is: the address is a secret.
    pub url: SecretFrom,
}

/// Slack's `chat.postMessage`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// The id of the Slack channel, such as `C0123456789`.
    pub channel: String,
    /// Where the bot's token is.
    pub token: SecretFrom,
    /// The address of the API; Slack's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// PagerDuty's Events API, version 2.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pagerduty {
    /// Where the integration key is.
    pub routing_key: SecretFrom,
    /// The address of the API; PagerDuty's own when left out. Europe: `https://events.eu.pagerduty.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// E-mail, by SMTP.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The server: `smtps://HOST` (TLS at once), `smtp://HOST` (STARTTLS is required). Without TLS only on this
    /// machine.
    pub server: String,
    /// The sender's address.
    pub from: String,
    /// The addresses of the recipients.
    #[schemars(length(min = 1))]
    pub to: Vec<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where that user's password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretFrom>,
}

/// A request with a JSON body.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where its address is: an address often has a token in it.
    pub url: SecretFrom,
    /// Where the key is that signs the messages (HMAC-SHA-256); `whsec_…` is base64.
    pub key: SecretFrom,
}

/// Alertmanager's API, version 2.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Its address, such as `http://127.0.0.1:9093`.
    pub server: String,
    /// Where a bearer token is, if it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretFrom>,
}

/// A file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// Its path. A relative path starts from the directory of `notify.yaml`,
    /// in a runbook from where the plan was made.
    pub path: String,
}

impl Channel {
    /// Whether the channel wants messages of this kind.
    pub fn wants(&self, kind: MessageKind) -> bool {
        self.on.is_empty() || self.on.contains(&kind)
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_one(version: &u32) -> bool {
    *version == 1
}
