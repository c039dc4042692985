//! A request of the runbook's own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::CONTENT_TYPE;

use super::transport::Transport;
use super::{bearer, judge, main_part, safe_url};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::provider::{Call, CallContext};
use crate::runbook::model::HttpCall;
use crate::secret::Material;

/// Sends the request of an `http:` block. 2xx is success, 4xx a rejection; 5xx is neither.
#[derive(Debug)]
pub struct HttpCaller {
    transport: Arc<Transport>,
    spec: HttpCall,
}

impl HttpCaller {
    /// From the runbook's words.
    pub fn new(transport: Arc<Transport>, spec: HttpCall) -> Self {
        Self { transport, spec }
    }
}

#[async_trait]
impl Call for HttpCaller {
    async fn perform(&self, context: &CallContext, material: Option<&Material>) -> Result<(), CallError> {
        let spec = &self.spec;
        let what = format!("{} {}", spec.method.name(), safe_url(&spec.url));
        let mut request = http::Request::builder()
            .method(spec.method.name())
            .uri(&spec.url)
            // The same for every attempt, so that a server that honours it does the work once.
            .header("idempotency-key", context.token.to_string());
        if spec.bearer {
            let (header, value) = bearer(material)?;
            request = request.header(header, value);
        }
        let mut body = Vec::new();
        if let Some(template) = &spec.body {
            let kind = spec.content_type.as_deref().unwrap_or_else(|| guess_type(template));
            request = request.header(CONTENT_TYPE, kind);
            body = fill(template, kind, material)?.into_bytes();
        }
        let request = request.body(body).map_err(|_| {
            CallError::rejected(ErrorKind::Invalid, format!("cannot make the request {what}"))
        })?;
        let reply = self.transport.send(request, spec.timeout.map(|t| t.get())).await?;
        judge(&reply, &what).map_err(|error| {
            // A server may name the request by what it was sent.
            let scrub = |id: String| material.map_or_else(|| id.clone(), |m| m.scrub(&id));
            CallError { request_id: error.request_id.map(scrub), ..error }
        })
    }
}

fn guess_type(body: &str) -> &'static str {
    if body.trim_start().starts_with(['{', '[']) { "application/json" } else { "text/plain; charset=utf-8" }
}

/// Puts the credential into a body. In JSON and in forms it is escaped, so that a quote or an
/// ampersand in a value cannot change what the request says.
fn fill(template: &str, content_type: &str, material: Option<&Material>) -> Result<String, CallError> {
    const OPEN: &str = "${secret";
    let escape = escaping(content_type);
    let mut filled = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find(OPEN) {
        filled.push_str(&rest[..at]);
        let tail = &rest[at + OPEN.len()..];
        let Some(end) = tail.find('}') else {
            return Err(CallError::rejected(ErrorKind::Invalid, "the body has a `${secret` without its `}`"));
        };
        let value = match tail[..end].strip_prefix('.') {
            None if end == 0 => main_part(material)?,
            Some(part) => material.and_then(|m| m.part(part)).ok_or_else(|| {
                CallError::rejected(ErrorKind::Invalid, format!("the credential has no part `{part}`"))
            })?,
            None => {
                return Err(CallError::rejected(
                    ErrorKind::Invalid,
                    "the body has a `${secret…}` that is neither `${secret}` nor `${secret.PART}`",
                ));
            }
        };
        filled.push_str(&escape(value.expose()));
        rest = &tail[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn escaping(content_type: &str) -> fn(&str) -> String {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.ends_with("json") {
        |text| {
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
    } else if kind == "application/x-www-form-urlencoded" {
        |text| {
            text.bytes().fold(String::new(), |mut out, byte| {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&format!("%{byte:02X}"));
                }
                out
            })
        }
    } else {
        str::to_owned
    }
}

/// The longest that a probe or an attestation waits, where the runbook has no word for it: they
/// are asked again and again, and a slow one must not hold up the others.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_body_is_filled_and_escaped_for_its_type() {
        let m = Material::single("value", Secret::new(r#"a"b&c"#));
        let fill = |body, kind| fill(body, kind, Some(&m)).expect("fill");
        assert_eq!(fill(r#"{"p":"${secret}"}"#, "application/json"), r#"{"p":"a\"b&c"}"#);
        assert_eq!(fill("p=${secret.value}&q=1", "application/x-www-form-urlencoded"), "p=a%22b%26c&q=1");
        assert_eq!(fill("<${secret}>${other}", "text/plain"), "<a\"b&c>${other}");
    }

    #[test]
    fn a_body_that_wants_what_is_not_there_is_an_error() {
        let m = Material::single("value", Secret::new("v"));
        assert!(fill("${secret.pasword}", "text/plain", Some(&m)).is_err());
        assert!(fill("${secret}", "text/plain", None).is_err());
        assert!(fill("${secret", "text/plain", Some(&m)).is_err());
        assert!(fill("${secrets}", "text/plain", Some(&m)).is_err());
    }
}
