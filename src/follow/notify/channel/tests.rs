//! What is sent to each channel, and what its answers mean.

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::{Audience, MessageKind};
use crate::follow::notify::fit::units;
use crate::follow::notify::message::Severity;

pub(crate) fn message() -> Message {
    Message {
        run: "payments-20261127-100000-abcd1234".into(),
        seq: 7,
        channel: "ops".into(),
        kind: MessageKind::Opened,
        audience: Audience::Technicians,
        drill: false,
        severity: Severity::Error,
        at: "2026-11-27T10:00:00Z".parse().expect("a time"),
        opened: "2026-11-27T09:59:00Z".parse().expect("a time"),
        title: "a <!channel> title".into(),
        text: "one & two\n@here".into(),
        language: "en".into(),
    }
}

pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: HeaderMap::new(),
        body: body.as_bytes().to_vec(),
    }
}

#[test]
fn slack_gets_texts_and_nothing_that_pings() {
    let body = slack::to_channel(&message(), "C1");
    assert_eq!(body["text"], "a &lt;!channel&gt; title");
    assert_eq!(body["blocks"][1]["text"]["text"], "one &amp; two\n@\u{200b}here");
    assert_eq!(body["blocks"][1]["text"]["verbatim"], true);
    assert_eq!((&body["link_names"], &body["channel"]), (&json!(false), &json!("C1")));
}

#[test]
fn pagerduty_has_one_key_from_the_first_event_to_the_last() {
    let mut last = message();
    let first = pagerduty::event(&last, "k");
    (last.kind, last.seq) = (MessageKind::Proved, 99);
    let last = pagerduty::event(&last, "k");
    assert_eq!(first["dedup_key"], last["dedup_key"]);
    assert!(first["dedup_key"].as_str().is_some_and(|key| key.len() == 39));
    assert_eq!((&first["event_action"], &last["event_action"]), (&json!("trigger"), &json!("resolve")));
    assert_eq!(first["payload"]["severity"], "error");
    let mut other = message();
    other.run.push('x');
    assert_ne!(pagerduty::event(&other, "k")["dedup_key"], first["dedup_key"]);
}

#[test]
fn an_alert_is_the_same_one_until_it_ends() {
    let mut last = message();
    let first = alertmanager::alerts(&last);
    (last.kind, last.seq, last.at) =
        (MessageKind::RolledBack, 99, last.at + jiff::SignedDuration::from_secs(9));
    let end = alertmanager::alerts(&last);
    assert_eq!((&first[0]["labels"], &first[0]["startsAt"]), (&end[0]["labels"], &end[0]["startsAt"]));
    assert_eq!(end[0]["endsAt"], "2026-11-27T10:00:09Z");
    assert_eq!(first[0]["endsAt"], "2026-12-04T10:00:00Z");
}

/// The example of the specification (standard-webhooks, `spec/standard-webhooks.md`) is not machine readable; the
/// signature is computed here by other means: openssl dgst -sha256 -hmac.
#[test]
fn a_webhook_is_signed() {
    let key = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let now = "2021-02-25T14:48:33Z".parse().expect("a time");
    let headers = webhook::signature(&message(), &key, "{}", now).expect("signed");
    let value = |at: usize| headers[at].1.to_str().expect("text").to_owned();
    assert_eq!((headers[1].0.as_str(), value(1)), ("webhook-timestamp", "1614264513".to_owned()));
    assert_eq!(value(0), message().short_id());
    assert_eq!(value(2).len(), "v1,".len() + 44);
    let again = webhook::signature(&message(), &Secret::new("other"), "{}", now).expect("signed");
    assert_ne!(again[2].1, headers[2].1);
    assert!(webhook::signature(&message(), &Secret::new("whsec_%"), "{}", now).is_err());
}

/// An error in the body of a 200, a redirect, an empty answer: each channel says what it means.
#[test]
fn an_answer_means_what_it_says() {
    type Judge = fn(&Reply) -> Result<Option<String>, CallError>;
    let judge = |judged: Judge, status: u16, body: &str| match judged(&reply(status, body)) {
        Ok(_) => "sent",
        Err(error) => match outcome(error) {
            Outcome::Later(_) => "later",
            Outcome::Unclear(_) => "unclear",
            Outcome::Refused(_) => "refused",
            Outcome::Sent(_) => "sent",
        },
    };
    let cases: [(Judge, u16, &str, &str); 22] = [
        (slack::webhook, 200, "ok", "sent"),
        (slack::webhook, 200, "invalid_payload", "refused"),
        (slack::webhook, 200, "<html>", "refused"),
        (slack::webhook, 404, "no_service", "refused"),
        (slack::webhook, 302, "", "refused"),
        (slack::webhook, 429, "", "later"),
        (slack::webhook, 500, "", "unclear"),
        (slack::api, 200, r#"{"ok":true,"ts":"1.2"}"#, "sent"),
        (slack::api, 200, r#"{"ok":false,"error":"channel_not_found"}"#, "refused"),
        (slack::api, 200, r#"{"ok":false,"error":"ratelimited"}"#, "later"),
        (slack::api, 200, r#"{"ok":false,"error":"internal_error"}"#, "unclear"),
        (slack::api, 200, "", "refused"),
        (pagerduty::judged, 202, r#"{"status":"success","dedup_key":"k"}"#, "sent"),
        (pagerduty::judged, 202, r#"{"status":"invalid event"}"#, "refused"),
        (pagerduty::judged, 400, r#"{"status":"invalid event","errors":["Length of key"]}"#, "refused"),
        (pagerduty::judged, 429, "", "later"),
        (webhook::judged, 204, "", "sent"),
        (webhook::judged, 200, r#"{"id":1}"#, "sent"),
        (webhook::judged, 200, r#"{"error":"unknown_channel"}"#, "refused"),
        (webhook::judged, 200, r#"{"success":false}"#, "refused"),
        (webhook::judged, 308, "", "refused"),
        (webhook::judged, 408, "", "unclear"),
    ];
    for (judged, status, body, expected) in cases {
        assert_eq!(judge(judged, status, body), expected, "{status} {body}");
    }
    let error = slack::api(&reply(200, r#"{"ok":false,"error":"channel_not_found"}"#)).expect_err("refused");
    assert!(error.message.contains("channel_not_found"), "{error}");
    let echo = slack::webhook(&reply(200, "https://hooks.example/T0/SECRET")).expect_err("refused");
    assert!(!echo.message.contains("SECRET"), "{echo}");
}

/// Where the tests find the published schemas: see docs/notify.md.
fn published(name: &str) -> serde_json::Value {
    let folder = std::env::var("STANCH_SCHEMAS").expect("STANCH_SCHEMAS names a directory of schemas");
    let bytes = std::fs::read(std::path::Path::new(&folder).join(name)).expect("a schema");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Every kind of message, with texts that are longer than any channel takes.
fn every_message() -> Vec<Message> {
    use strum::IntoEnumIterator as _;
    let long = "&<@ü👩\u{200d}👧".repeat(3000);
    let kinds = MessageKind::iter().flat_map(|kind| Audience::iter().map(move |audience| (kind, audience)));
    kinds
        .flat_map(|(kind, audience)| {
            [message(), Message { title: long.clone(), text: long.clone(), ..message() }]
                .map(|message| Message { kind, audience, ..message })
        })
        .collect()
}

#[test]
#[ignore = "needs STANCH_SCHEMAS: pagerduty-events-v2.openapi.json (github.com/PagerDuty/api-schema, reference/events-v2)"]
fn pagerdutys_published_schema_accepts_every_event() {
    let api = published("pagerduty-events-v2.openapi.json");
    let mut schema =
        api["paths"]["/enqueue"]["post"]["requestBody"]["content"]["application/json"]["schema"].clone();
    schema["components"] = api["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(!validator.is_valid(&json!({ "routing_key": "k", "event_action": "open" })), "the schema checks");
    for message in every_message() {
        let event = pagerduty::event(&message, "k");
        if let Err(error) = validator.validate(&event) {
            panic!("{error}: {event}");
        }
    }
}

#[test]
#[ignore = "needs STANCH_SCHEMAS: slack-web-2021.openapi.json (github.com/slackapi/slack-api-specs, web-api)"]
fn slacks_published_parameters_accept_every_message() {
    let api = published("slack-web-2021.openapi.json");
    let parameters =
        api["paths"]["/chat.postMessage"]["post"]["parameters"].as_array().expect("parameters").clone();
    let of = |name: &str| parameters.iter().find(|parameter| parameter["name"] == name);
    assert!(of("channel").is_some_and(|parameter| parameter["required"] == true) && of("nothing").is_none());
    for message in every_message() {
        let body = slack::to_channel(&message, "C0123456789");
        assert!(body["channel"].is_string());
        for (name, value) in body.as_object().expect("an object") {
            let parameter = of(name).unwrap_or_else(|| panic!("Slack has no parameter {name}"));
            // As JSON, `blocks` is an array; in a form it is a string. Booleans of old were strings.
            let fits = match (parameter["type"].as_str(), value) {
                (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => true,
                (Some("string"), Value::Array(_)) => name == "blocks",
                _ => false,
            };
            assert!(fits, "{name}: {value}");
        }
    }
}

/// The limits that the schemas do not have and the documentation does.
#[test]
fn every_message_is_within_the_limits_of_its_channel() {
    let text = |value: &Value| units(value.as_str().expect("text"));
    for message in every_message() {
        let slack = slack::body(&message);
        assert!(
            text(&slack["blocks"][0]["text"]["text"]) <= 150
                && text(&slack["blocks"][1]["text"]["text"]) <= 3000
        );
        assert!(text(&slack["text"]) <= 3000);
        let event = pagerduty::event(&message, "k");
        assert!(text(&event["dedup_key"]) <= 255 && event.to_string().len() < 512 * 1024);
        if event["event_action"] == "trigger" {
            assert!(text(&event["payload"]["summary"]) <= 1024);
            assert!(
                ["critical", "error", "warning", "info"]
                    .contains(&event["payload"]["severity"].as_str().expect("a word"))
            );
        } else {
            assert!(message.is_over() && event["payload"].is_null());
        }
    }
}

proptest! {
    /// Whatever a server answers, it is judged, and what is said of it quotes nothing that it was sent.
    #[test]
    fn any_answer_is_judged(status in 100_u16..1000, body in "[ -~]{0,40}(SECRET-TOKEN-1)?[ -~]{0,40}") {
        let Ok(code) = StatusCode::from_u16(status) else { return Ok(()) };
        let reply = Reply { status: code, headers: HeaderMap::new(), body: body.into_bytes() };
        for judged in [slack::webhook, slack::api, pagerduty::judged, webhook::judged] {
            if let Err(error) = judged(&reply) {
                let said = format!("{error:?}");
                prop_assert!(!said.contains("SECRET-TOKEN-1"), "{}", said);
            }
        }
    }
}
