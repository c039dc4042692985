//! Where traces are sent, by OpenTelemetry's own variables, and sending one: one POST, under a deadline.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::span::Trace;
use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::provider::http::transport::{Reply, Transport};
use crate::provider::http::{judge, safe_url, sensitive, server_of};
use crate::secret::{Material, Secret};
use crate::text::{counted, sanitize};

/// How long sending takes at most, where nothing else is set: a run's process waits for it.
const DEADLINE: Duration = Duration::from_secs(3);
/// The longest deadline that can be set: OpenTelemetry's own default.
const LONGEST: Duration = Duration::from_secs(10);
/// What OpenTelemetry's collector takes at most, as it is shipped.
pub const MAX_BODY: usize = 20 << 20;

/// What receives traces.
#[derive(Debug)]
pub struct Collector {
    address: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What no message may show.
    secrets: Material,
    about: Vec<(String, String)>,
    deadline: Duration,
}

/// A trace was not sent, or not taken whole.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A variable cannot be understood. Its value is not quoted.
    #[error("{name} {what}")]
    Setting {
        /// The variable.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The trace is too large for a collector.
    #[error("the trace has {0} bytes, and a collector takes {MAX_BODY}")]
    TooLarge(usize),
    /// The request failed.
    #[error(transparent)]
    Call(CallError),
    /// It answered with success, and not as a collector does.
    #[error(
        "{place} answered {status}, and not as a collector does (OTLP over HTTP, in JSON); whether it has the trace is not known"
    )]
    Unclear {
        /// What answered.
        place: String,
        /// The status.
        status: u16,
    },
    /// The collector took only some of it.
    #[error("{place} rejected {rejected}{why}")]
    Partial {
        /// The collector.
        place: String,
        /// How many spans, in words.
        rejected: String,
        /// Why, as it says.
        why: String,
    },
}

impl Collector {
    /// The collector that the variables name, if they name one. `variable` looks one up.
    ///
    /// # Errors
    /// When one that is needed cannot be understood.
    pub fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, SendError> {
        let get =
            |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        // What is set for traces alone comes before what is set for every signal.
        let either = |what: &str| {
            let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
            names.into_iter().find_map(|name| get(&name).map(|value| (name, value)))
        };
        let off = Self::turned_off(variable).is_some();
        let Some((name, endpoint)) = either("ENDPOINT").filter(|_| !off) else { return Ok(None) };
        let wrong =
            |name: &str, what: &str| SendError::Setting { name: name.to_owned(), what: what.to_owned() };
        if let Some((name, _)) = either("PROTOCOL").filter(|(_, protocol)| !protocol.starts_with("http/")) {
            let what = "names a protocol that stanch does not speak; set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json, and an endpoint for it";
            return Err(wrong(&name, what));
        }
        let uri: Option<reqwest::Url> = endpoint.parse().ok();
        let Some(url) = uri.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host()) else {
            return Err(wrong(&name, "is not an http or https address"));
        };
        let mut secrets = Material::default();
        let mut hide = |value: &str| {
            if !value.is_empty() {
                let name = format!("{}", secrets.parts().count());
                secrets = std::mem::take(&mut secrets).with(&name, Secret::new(value));
            }
        };
        url.password().into_iter().chain(url.query()).for_each(&mut hide);
        let mut headers = Vec::new();
        if let Some((name, text)) = either("HEADERS") {
            for (at, (key, value)) in pairs(&text).enumerate() {
                let nth = at + 1;
                let header = key.zip(value).and_then(|(key, value)| {
                    hide(&value);
                    let key = HeaderName::from_bytes(key.as_bytes()).ok()?;
                    Some((key, sensitive(&value, &name).ok()?))
                });
                let what = format!("is not a list of NAME=VALUE, separated by commas: see its part {nth}");
                headers.push(header.ok_or_else(|| wrong(&name, &what))?);
            }
        }
        let address = match name.contains("TRACES") {
            true => endpoint,
            false => {
                let (before, query) =
                    endpoint.split_once('?').map_or((&*endpoint, None), |(a, b)| (a, Some(b)));
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                format!("{}/v1/traces{query}", before.trim_end_matches('/'))
            }
        };
        let mut about = Vec::new();
        if let Some(text) = get("OTEL_RESOURCE_ATTRIBUTES") {
            // What is not a pair is left out, as OpenTelemetry's SDKs do.
            about.extend(pairs(&text).filter_map(|(key, value)| Some((key?, value?))));
        }
        if let Some(service) = get("OTEL_SERVICE_NAME") {
            about.retain(|(key, _)| key != "service.name");
            about.push(("service.name".to_owned(), service));
        }
        let deadline = match either("TIMEOUT") {
            None => DEADLINE,
            Some((name, text)) => {
                let ms = text.parse().map_err(|_| wrong(&name, "is not a number of milliseconds"))?;
                Duration::from_millis(ms).min(LONGEST)
            }
        };
        Ok(Some(Self { address, headers, secrets, about, deadline }))
    }

    /// The variable that turns sending off, whatever else is set.
    pub fn turned_off(variable: &dyn Fn(&str) -> Option<String>) -> Option<&'static str> {
        let (disabled, exporter) = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER");
        let get = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        if get(disabled).is_some_and(|text| text.trim().eq_ignore_ascii_case("true")) {
            return Some(disabled);
        }
        let others = |names: &String| !names.split(',').any(|name| name.trim() == "otlp");
        get(exporter).filter(others).map(|_| exporter)
    }

    /// What it is called in messages.
    pub fn place(&self) -> String {
        format!("the collector {}", server_of(&safe_url(&self.address)))
    }

    /// How long sending takes at most.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The trace, as this collector would get it.
    pub fn body(&self, trace: &Trace) -> String {
        trace.to_json(&self.about)
    }

    /// Sends a trace, once. Returns what the collector has to say of it, though it took all of it.
    ///
    /// # Errors
    /// When the collector did not take all of it, or that is not known.
    pub async fn send(&self, trace: &Trace) -> Result<Option<String>, SendError> {
        let body = self.body(trace);
        if body.len() > MAX_BODY {
            return Err(SendError::TooLarge(body.len()));
        }
        let clean = |text: &str| self.secrets.scrub(text);
        let place = self.place();
        let judged = |reply: Reply| match judge(&reply, &place) {
            Ok(()) => partial(&reply, &place, &clean),
            Err(error) => Err(SendError::Call(error)),
        };
        let sent = tokio::time::timeout(self.deadline, self.post(body)).await;
        let late = || CallError::unknown(format!("{place} did not answer in time"));
        let sent = sent.unwrap_or_else(|_| Err(late())).map_err(SendError::Call).and_then(judged);
        sent.map_err(|error| match error {
            SendError::Call(error) => SendError::Call(error.scrubbed(&clean)),
            other => other,
        })
    }

    async fn post(&self, body: String) -> Result<Reply, CallError> {
        let cannot =
            |_| CallError::rejected(ErrorKind::Invalid, "the collector's address is not a valid address");
        let mut request = http::Request::post(&self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(body.into_bytes())
            .map_err(cannot)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        // An address may carry a key in its path.
        Transport::new(self.deadline).hiding_paths().send(request, None).await
    }
}

/// The pairs of a list as W3C Baggage writes it: `name=value,name=value`, percent-encoded. What is not a pair has no
/// value.
fn pairs(text: &str) -> impl Iterator<Item = (Option<String>, Option<String>)> {
    let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().ok().map(Into::into);
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    parts.map(move |part| {
        part.split_once('=').map_or((None, None), |(key, value)| (decoded(key), decoded(value)))
    })
}

/// What a collector says that took only some of it (`ExportTracePartialSuccess`), or all of it with a warning. Whatever
/// else answers with success is none: a proxy's page of welcome, or an error in its body.
fn partial(reply: &Reply, place: &str, clean: &dyn Fn(&str) -> String) -> Result<Option<String>, SendError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Response {
        #[serde(default)]
        partial_success: Option<Partial>,
        // `google.rpc.Status`, and what else is called so.
        code: Option<serde_json::Value>,
        error: Option<serde_json::Value>,
        errors: Option<serde_json::Value>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Partial {
        rejected_spans: serde_json::Value,
        error_message: String,
    }
    let unclear = || SendError::Unclear { place: place.to_owned(), status: reply.status.as_u16() };
    // Some leave the body out.
    if reply.body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let said: Response = serde_json::from_slice(&reply.body).map_err(|_| unclear())?;
    if said.code.is_some() || said.error.is_some() || said.errors.is_some() {
        return Err(unclear());
    }
    let Some(partial) = said.partial_success else { return Ok(None) };
    let rejected = match &partial.rejected_spans {
        serde_json::Value::Null => 0,
        serde_json::Value::String(text) => text.parse().map_err(|_| unclear())?,
        other => other.as_u64().ok_or_else(unclear)?,
    };
    let why = sanitize(&clean(&partial.error_message)).replace('"', "'");
    let says = format!(", and says \"{why}\"");
    if rejected == 0 {
        return Ok((!why.is_empty()).then(|| format!("{place} took all of it{says}")));
    }
    Err(SendError::Partial {
        place: place.to_owned(),
        rejected: counted(rejected, "span"),
        why: if why.is_empty() { why } else { says },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Collector>, SendError> {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Collector::of(&lookup)
    }

    fn address(variables: &[(&str, &str)]) -> Option<String> {
        of(variables).expect("understood").map(|collector| collector.address)
    }

    #[test]
    fn the_variables_mean_what_they_mean_to_opentelemetry() {
        let (all, traces) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        assert_eq!(address(&[]), None);
        assert_eq!(address(&[(all, " ")]), None);
        assert_eq!(address(&[(all, "http://h:4318/")]).as_deref(), Some("http://h:4318/v1/traces"));
        assert_eq!(address(&[(all, "https://h/otlp?k=v")]).as_deref(), Some("https://h/otlp/v1/traces?k=v"));
        let both = [(all, "http://h"), (traces, "http://t/x")];
        assert_eq!(address(&both).as_deref(), Some("http://t/x"));
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(address(&[(all, "http://h"), off]), None, "{off:?}");
            let lookup = |name: &str| (name == off.0).then(|| off.1.to_owned());
            assert_eq!(Collector::turned_off(&lookup), Some(off.0));
        }
        let on = ("OTEL_TRACES_EXPORTER", "console, otlp");
        assert!(address(&[(all, "http://h"), on]).is_some());
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y=z ,");
        let collector = of(&[(all, "http://h"), headers, ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")]);
        let collector = collector.expect("understood").expect("one");
        let value = |name: &str| collector.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_bytes());
        assert_eq!((value("api-key"), value("x")), (Some(&b"a b"[..]), Some(&b"y=z"[..])));
        assert_eq!(collector.deadline, LONGEST);
        let named = [
            (all, "http://h"),
            ("OTEL_SERVICE_NAME", "s"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=r,a=b,c"),
        ];
        let about = of(&named).expect("understood").expect("one").about;
        assert_eq!(about, [("a".to_owned(), "b".to_owned()), ("service.name".to_owned(), "s".to_owned())]);
    }

    #[test]
    fn only_a_collectors_answer_counts_as_sent() {
        let sent = |body: &str| {
            let (headers, body) = (http::HeaderMap::new(), body.as_bytes().to_vec());
            let reply = Reply { status: http::StatusCode::OK, headers, body };
            partial(&reply, "C", &|text| text.to_owned()).map_err(|error| error.to_string())
        };
        for good in ["", " \n", "{}", "{\"partialSuccess\":{}}", "{\"partialSuccess\":null}", "{\"x\":1}"] {
            assert_eq!(sent(good), Ok(None), "{good}");
        }
        let warns = "{\"partialSuccess\":{\"rejectedSpans\":\"0\",\"errorMessage\":\"use \\\"v2\\\"\"}}";
        assert_eq!(sent(warns), Ok(Some("C took all of it, and says \"use 'v2'\"".to_owned())));
        let some = sent("{\"partialSuccess\":{\"rejectedSpans\":2,\"errorMessage\":\"bad\"}}");
        assert_eq!(some, Err("C rejected 2 spans, and says \"bad\"".to_owned()));
        for other in [
            "<html>welcome</html>",
            "[]",
            "\"ok\"",
            "{\"error\":\"no\"}",
            "{\"code\":3,\"message\":\"no\"}",
            "{\"partialSuccess\":7}",
            "{\"partialSuccess\":{\"rejectedSpans\":\"many\"}}",
        ] {
            let said = sent(other).expect_err(other);
            assert!(said.contains("answered 200, and not as a collector does"), "{other}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named_and_not_quoted() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,x y=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0d%0ab: c"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "hunter2"),
        ] {
            let error = of(&[(name, value), all]).expect_err(name);
            let said = format!("{error} {error:?}");
            assert!(error.to_string().starts_with(name) && !said.contains("hunter2"), "{said}");
        }
        let shown = format!("{:?}", of(&[all, ("OTEL_EXPORTER_OTLP_HEADERS", "k=hunter2")]));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
