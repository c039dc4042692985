//! PagerDuty's Events API, version 2. One alert a run: its key is the same from the first event to the last, and
//! across resumes, so whatever comes twice is seen to be one.

use serde_json::{Value, json};

use super::{code, status};
use crate::domain::{Audience, ErrorKind};
use crate::follow::notify::fit::cut;
use crate::follow::notify::message::Message;
use crate::provider::CallError;
use crate::provider::http::transport::Reply;

pub(super) const API: &str = "https://events.pagerduty.com";
pub(super) const PATH: &str = "/v2/enqueue";
/// The longest summary. A key may have 255 characters; ours has 39.
const SUMMARY: usize = 1024;
/// What of the text is handed on: an event may have 512 kB.
const DETAILS: usize = 8000;

/// The event of a message.
pub(super) fn event(message: &Message, routing_key: &str) -> Value {
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": if message.is_over() { "resolve" } else { "trigger" },
        "dedup_key": format!("stanch-{}", message.thread()),
    });
    if !message.is_over() {
        let severity: &str = message.urgency().into();
        let mut payload = json!({
            "summary": cut(&message.title, SUMMARY), "source": "stanch", "severity": severity,
            "timestamp": message.at, "class": message.kind,
            "custom_details": { "text": cut(&message.text, DETAILS), "drill": message.drill, "id": message.short_id() },
        });
        if message.audience == Audience::Technicians {
            payload["component"] = message.run.as_str().into();
        }
        event["payload"] = payload;
        event["client"] = "stanch".into();
    }
    event
}

/// 202 is taken, where the body says so too.
pub(super) fn judged(reply: &Reply) -> Result<Option<String>, CallError> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let said = body["errors"][0].as_str().or(body["message"].as_str());
    status(reply, "PagerDuty", said)?;
    match body["status"].as_str() {
        Some("success") => {
            Ok(body["dedup_key"].as_str().filter(|key| crate::text::is_name(key)).map(str::to_owned))
        }
        _ => {
            let word = said.and_then(code).map(|word| format!(": {word}")).unwrap_or_default();
            let message = format!("PagerDuty answered {} without `success`{word}", reply.status.as_u16());
            Err(CallError::rejected(ErrorKind::Invalid, message))
        }
    }
}
