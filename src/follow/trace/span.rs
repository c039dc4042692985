//! What a trace consists of, and its JSON form: OTLP's `ExportTraceServiceRequest`, with 64-bit numbers as texts, ids
//! in hex and enums as numbers, as its specification demands.

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A run as a trace.
#[derive(Debug)]
pub struct Trace {
    /// The run.
    pub run: String,
    /// The version of stanch that planned it.
    pub version: String,
    /// The environment.
    pub environment: String,
    /// Whether whoever called the run wants the trace kept.
    pub sampled: bool,
    /// Whether the run is over. Before that, what has not ended is left out, the run itself too.
    pub over: bool,
    /// How many spans have not ended.
    pub unended: usize,
    pub(super) spans: Vec<Span>,
}

/// Something that took time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<String>,
    pub(super) flags: u32,
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) start_time_unix_nano: String,
    pub(super) end_time_unix_nano: String,
    pub(super) attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Moment>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dropped_events_count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<Link>,
    pub(super) status: Status,
}

/// `SPAN_KIND_INTERNAL`.
pub(super) const INTERNAL: u32 = 1;
/// `SPAN_KIND_CLIENT`: something was asked of another system.
pub(super) const CLIENT: u32 = 3;

/// The parent is of this process, or there is none. The lowest byte has the flags of the trace.
pub(super) const LOCAL: u32 = 0x100;
/// The parent is of another process.
pub(super) const REMOTE: u32 = 0x300;

/// Something that happened in a span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    pub(super) time_unix_nano: String,
    pub(super) name: String,
    pub(super) attributes: Vec<Attribute>,
}

/// Another span that this one belongs to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) trace_id: String,
    pub(super) span_id: String,
}

/// Whether it went well: nothing is said of what did.
#[derive(Debug, Default, Serialize)]
pub(super) struct Status {
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "is_zero")]
    code: u32,
}

impl Status {
    /// `STATUS_CODE_ERROR`.
    pub(super) fn error(message: String) -> Self {
        Self { message, code: 2 }
    }
}

/// A name with its value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Attribute {
    key: String,
    value: Value,
}

#[derive(Debug, Clone, Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Number(String),
}

/// A text, under this name.
pub(super) fn text(key: &str, value: impl Into<String>) -> Attribute {
    Attribute { key: key.to_owned(), value: Value::Text(value.into()) }
}

/// A whole number, under this name.
pub(super) fn number(key: &str, value: u64) -> Attribute {
    Attribute { key: key.to_owned(), value: Value::Number(value.to_string()) }
}

/// A moment as OTLP writes it.
pub(super) fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

/// An id of so many bytes that follows from these texts.
pub(super) fn id<const N: usize>(parts: &[&str]) -> [u8; N] {
    let digest = Sha256::digest(parts.join("\0"));
    let mut id = [0; N];
    id.copy_from_slice(&digest[..N]);
    id
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: &'a [Span],
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

impl Trace {
    /// How many spans have ended.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// The trace as OTLP's JSON. `about` is what else is to be said of the service, by name: it comes before what the
    /// record says.
    pub fn to_json(&self, about: &[(String, String)]) -> String {
        let mut attributes: Vec<Attribute> =
            about.iter().map(|(name, value)| text(name, value.clone())).collect();
        for (name, value) in [
            ("service.name", "stanch"),
            ("service.version", &self.version),
            ("deployment.environment.name", &self.environment),
        ] {
            if !about.iter().any(|(given, _)| given == name) {
                attributes.push(text(name, value));
            }
        }
        let scope_spans = [ScopeSpans { scope: Scope { name: "stanch" }, spans: &self.spans }];
        let resource_spans = [ResourceSpans { resource: Resource { attributes }, scope_spans }];
        serde_json::to_string(&Request { resource_spans }).expect("texts and numbers are always JSON")
    }
}
