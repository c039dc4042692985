//! Channels: a file each, which makes what is sent of a message, and judges what came back.

mod alertmanager;
mod email;
mod file;
mod pagerduty;
mod program;
mod slack;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;

use super::config::Configured;
use super::message::Message;
use super::secret_from;
use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::provider::http::transport::{Reply, Transport, is_loopback};
use crate::provider::http::{judge, sensitive, server_of};
use crate::runbook::notify::{SecretFrom, Via};
use crate::secret::{Material, Secret};

/// What became of one try to send a message.
#[derive(Debug)]
pub enum Outcome {
    /// The channel has it. What the channel calls it, where it says so.
    Sent(Option<String>),
    /// The channel does not have it, and may take it later.
    Later(CallError),
    /// Whether the channel has it is not known.
    Unclear(CallError),
    /// The channel refuses it, and trying again changes nothing.
    Refused(CallError),
}

/// Sends messages to one channel.
#[derive(Debug)]
pub struct Sender {
    via: Via,
    base: PathBuf,
    transport: Transport,
    deadline: Duration,
}

impl Sender {
    /// What sends to this channel, and takes at most `deadline` for a message.
    pub fn new(channel: &Configured, deadline: Duration) -> Self {
        let transport = Transport::new(deadline).hiding_paths();
        Self { via: channel.channel.via.clone(), base: channel.base.clone(), transport, deadline }
    }

    /// Whether the channel sees that two messages are one: then one of which the end is not known is sent again as
    /// it was.
    pub fn is_idempotent(&self) -> bool {
        !matches!(self.via, Via::Slack(_) | Via::SlackWebhook(_))
    }

    /// Sends a message once. `now` is only for signatures.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Outcome {
        let mut known = Known { base: &self.base, material: Material::default() };
        let attempt = async {
            match &self.via {
                Via::SlackWebhook(via) => {
                    let url = known.address(&via.url)?;
                    slack::webhook(&self.post(&url, &[], &slack::body(message)).await?)
                }
                Via::Slack(via) => {
                    let token = known.secret("token", &via.token)?;
                    let (url, bearer) =
                        (address(via.server.as_deref(), slack::API, slack::PATH), bearer(&token)?);
                    slack::api(&self.post(&url, &[bearer], &slack::to_channel(message, &via.channel)).await?)
                }
                Via::Pagerduty(via) => {
                    let key = known.secret("routing_key", &via.routing_key)?;
                    let url = address(via.server.as_deref(), pagerduty::API, pagerduty::PATH);
                    pagerduty::judged(&self.post(&url, &[], &pagerduty::event(message, key.expose())).await?)
                }
                Via::Webhook(via) => {
                    let (url, key) = (known.address(&via.url)?, known.secret("key", &via.key)?);
                    let body = message.to_json();
                    let headers = webhook::signature(message, &key, &body.to_string(), now)?;
                    webhook::judged(&self.post(&url, &headers, &body).await?)
                }
                Via::Alertmanager(via) => {
                    let token = via.token.as_ref().map(|from| known.secret("token", from)).transpose()?;
                    let headers = token.as_ref().map(bearer).transpose()?;
                    let url = address(Some(&via.server), "", alertmanager::PATH);
                    let headers: Vec<_> = headers.into_iter().collect();
                    accepted(
                        &self.post(&url, &headers, &alertmanager::alerts(message)).await?,
                        "Alertmanager",
                    )
                }
                Via::Email(via) => {
                    let password =
                        via.password.as_ref().map(|from| known.secret("password", from)).transpose()?;
                    email::send(via, password.as_ref(), message, self.deadline).await
                }
                Via::File(via) => file::append(&self.base.join(&via.path), message),
                Via::Exec(exec) => {
                    known.environment();
                    program::run(exec, message, self.deadline).await
                }
            }
        };
        // A program may have a longer time-out of its own; nothing here takes longer than it may.
        let bound = self.deadline + self.deadline / 4;
        let done = tokio::time::timeout(bound, attempt).await;
        let done = done.unwrap_or_else(|_| Err(CallError::unknown("the channel did not answer in time")));
        // Whatever a server or a program says may echo what it was sent.
        let clean = |text: &str| redacted(&known.material.scrub(text));
        done.map_or_else(|error| outcome(error.scrubbed(&clean)), Outcome::Sent)
    }

    async fn post(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: &Value,
    ) -> Result<Reply, CallError> {
        let cannot =
            || CallError::rejected(ErrorKind::Invalid, "the channel's address is not a valid address");
        let mut request = http::Request::post(url)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body.to_string().into_bytes())
            .map_err(|_| cannot())?;
        let near = is_loopback(request.uri().host().unwrap_or_default());
        // Inside of a network Alertmanager speaks plain HTTP, and `notify.yaml` was checked for that.
        let plain = matches!(self.via, Via::Alertmanager(_));
        match request.uri().scheme_str() {
            Some("https") => {}
            Some("http") if near || plain => {}
            _ => {
                return Err(CallError::rejected(
                    ErrorKind::Invalid,
                    format!("the channel's address {} is not an https address", server_of(&safe(url))),
                ));
            }
        }
        request.headers_mut().extend(headers.iter().cloned());
        self.transport.send(request, None).await
    }
}

/// The secrets of one try.
struct Known<'a> {
    base: &'a std::path::Path,
    material: Material,
}

impl Known<'_> {
    fn secret(&mut self, name: &str, from: &SecretFrom) -> Result<Secret, CallError> {
        let secret = secret_from::read(from, self.base)?;
        self.material = std::mem::take(&mut self.material).with(name, secret.clone());
        Ok(secret)
    }

    /// What a program finds in its environment, and may quote when it fails.
    fn environment(&mut self) {
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Ok(value)) = (name.to_str(), value.into_string())
                && ["TOKEN", "SECRET", "PASSW", "KEY", "CREDENTIAL"].iter().any(|word| name.contains(word))
            {
                self.material = std::mem::take(&mut self.material).with(name, Secret::new(value));
            }
        }
    }

    /// An address of which everything behind the server is a secret.
    fn address(&mut self, from: &SecretFrom) -> Result<String, CallError> {
        let url = secret_from::read(from, self.base)?.expose().to_owned();
        let path = url.get(server_of(&url).len()..).unwrap_or_default();
        if path.len() > 1 {
            self.material = std::mem::take(&mut self.material).with("path", Secret::new(path));
        }
        Ok(url)
    }
}

/// A text in which whatever has the shape of a credential is masked: a program's own words may quote one that
/// stanch does not know.
fn redacted(text: &str) -> String {
    let mut text = text.to_owned();
    for range in crate::shape::certain(&text).into_iter().rev() {
        text.replace_range(range, "***");
    }
    text
}

fn safe(url: &str) -> String {
    crate::provider::http::safe_url(url)
}

fn bearer(token: &Secret) -> Result<(HeaderName, HeaderValue), CallError> {
    let value = sensitive(&format!("Bearer {}", token.expose()), "the channel's token")?;
    Ok((http::header::AUTHORIZATION, value))
}

/// The address of a path on a server.
fn address(server: Option<&str>, default: &str, path: &str) -> String {
    format!("{}{path}", server.unwrap_or(default).trim_end_matches('/'))
}

fn outcome(error: CallError) -> Outcome {
    match error.kind {
        _ if error.in_doubt => Outcome::Unclear(error),
        ErrorKind::Unreachable
        | ErrorKind::Throttled
        | ErrorKind::NotReady
        | ErrorKind::NoAnswer
        | ErrorKind::Local
        | ErrorKind::Cancelled
        | ErrorKind::Unanswered => Outcome::Later(error),
        ErrorKind::Denied
        | ErrorKind::Refused
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Limit
        | ErrorKind::Invalid
        | ErrorKind::Unsupported
        | ErrorKind::Declined => Outcome::Refused(error),
    }
}

/// What a status says, with the word that the server gave for it, where it is one.
fn status(reply: &Reply, what: &str, word: Option<&str>) -> Result<(), CallError> {
    judge(reply, what).map_err(|mut error| {
        if let Some(word) = word.and_then(code) {
            error.message = format!("{} ({word})", error.message);
        }
        error
    })
}

/// A server's word for an error: a few letters, and nothing that could be an echo.
fn code(word: &str) -> Option<&str> {
    let fits = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ' ';
    let word = word.trim();
    ((1..=60).contains(&word.len()) && word.chars().all(fits)).then_some(word)
}

/// Whether a reply says that the message was taken: its status, and where its body is JSON, that too.
fn accepted(reply: &Reply, what: &str) -> Result<Option<String>, CallError> {
    status(reply, what, None)?;
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let failed = body["ok"] == false
        || body["success"] == false
        || body["error"].as_str().is_some_and(|error| !error.is_empty())
        || body["error"].is_object()
        || body["status"].as_str().is_some_and(|status| ["error", "failed", "failure"].contains(&status))
        || body["errors"].as_array().is_some_and(|errors| !errors.is_empty());
    if failed {
        let word = ["error", "message", "status"].iter().find_map(|name| code(body[*name].as_str()?));
        let word = word.map(|word| format!(": {word}")).unwrap_or_default();
        let message = format!("{what} answered {} with an error in the body{word}", reply.status.as_u16());
        return Err(CallError::rejected(ErrorKind::Invalid, message));
    }
    Ok(None)
}

/// The bodies that every kind of channel would send of a message.
#[cfg(test)]
pub(super) fn every_body(message: &Message) -> Vec<String> {
    let slack = [slack::body(message), slack::to_channel(message, "C1")];
    let others = [pagerduty::event(message, "k"), alertmanager::alerts(message), message.to_json()];
    let repeated = message.repeated();
    let mut bodies: Vec<String> = slack.iter().chain(&others).map(Value::to_string).collect();
    bodies.push(slack::body(&repeated).to_string());
    bodies.push(email::written(message));
    bodies
}

#[cfg(test)]
pub(crate) mod tests;
