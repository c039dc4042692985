//! Slack: an incoming webhook, or `chat.postMessage`.
//!
//! Neither knows a message again: one of which the end is not known is sent once more, marked.

use serde_json::{Value, json};

use super::{code, status};
use crate::domain::ErrorKind;
use crate::follow::notify::fit::{cut, slack};
use crate::follow::notify::message::Message;
use crate::provider::CallError;
use crate::provider::http::transport::Reply;

pub(super) const API: &str = "https://slack.com";
pub(super) const PATH: &str = "/api/chat.postMessage";
/// The longest text of a section.
const SECTION: usize = 3000;
/// The longest text of a header.
const HEADER: usize = 150;

/// The body of a message to a webhook. Every text is escaped and none is searched for names: nothing pings.
pub(super) fn body(message: &Message) -> Value {
    let title = cut(&slack(&message.title), SECTION);
    let mut blocks = vec![json!({
        "type": "header", "text": { "type": "plain_text", "text": cut(&slack(&message.title), HEADER), "emoji": false },
    })];
    if !message.text.is_empty() {
        let text = cut(&slack(&message.text), SECTION);
        blocks
            .push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } }));
    }
    json!({ "text": title, "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
}

/// The body of a message to a channel.
pub(super) fn to_channel(message: &Message, channel: &str) -> Value {
    let mut body = body(message);
    body["channel"] = channel.into();
    body["link_names"] = false.into();
    body["parse"] = "none".into();
    body
}

/// A webhook answers `ok`, whatever else it says is an error.
pub(super) fn webhook(reply: &Reply) -> Result<Option<String>, CallError> {
    let word = String::from_utf8_lossy(&reply.body);
    status(reply, "Slack's webhook", Some(&word))?;
    if word.trim() == "ok" {
        return Ok(None);
    }
    let word = code(&word).map(|word| format!(": {word}")).unwrap_or_default();
    let message = format!("Slack's webhook answered {} without `ok`{word}", reply.status.as_u16());
    Err(CallError::rejected(ErrorKind::Invalid, message)
        .hint("check that the address is that of an incoming webhook"))
}

/// The API answers 200 also where it refuses.
pub(super) fn api(reply: &Reply) -> Result<Option<String>, CallError> {
    status(reply, "Slack", None)?;
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if body["ok"] == true {
        return Ok(body["ts"].as_str().filter(|ts| crate::text::is_name(ts)).map(str::to_owned));
    }
    let word = body["error"].as_str().and_then(code);
    let message = match word {
        Some(word) => format!("Slack refused the message: {word}"),
        None => "Slack answered without `ok`".to_owned(),
    };
    let kind = match word {
        Some("ratelimited" | "rate_limited" | "service_unavailable" | "team_added_to_org") => {
            ErrorKind::Throttled
        }
        // Slack says of these that a part may have been done.
        Some("internal_error" | "fatal_error" | "request_timeout") => {
            return Err(CallError::unknown(message));
        }
        Some("not_authed" | "invalid_auth" | "token_revoked" | "token_expired" | "account_inactive") => {
            ErrorKind::Refused
        }
        _ => ErrorKind::Invalid,
    };
    let mut error = CallError::rejected(kind, message);
    error.retry_after = reply.retry_after();
    Err(error)
}
