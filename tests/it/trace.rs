//! Traces: what a collector gets, and that one that is down, slow or hostile changes nothing.
#![expect(clippy::disallowed_methods, reason = "a test measures")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;

use crate::servers::{closed_port, serve, server};
use crate::tool::{Ran, Tool, search};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const KEY: &str = "canary-key-of-the-collector";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(String, HeaderMap, String)>>>);

impl Kept {
    async fn serve(&self, status: StatusCode, reply: &str) -> String {
        let (kept, reply) = (self.clone(), reply.to_owned());
        let answer = async move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = String::from_utf8(body.to_vec()).expect("UTF-8");
            kept.0.lock().expect("kept").push((uri.to_string(), headers, body));
            (status, reply)
        };
        serve(axum::Router::new().fallback(answer)).await
    }

    fn all(&self) -> Vec<(String, HeaderMap, String)> {
        self.0.lock().expect("kept").clone()
    }

    /// The one trace that came.
    fn only(&self) -> Value {
        let all = self.all();
        assert_eq!(all.len(), 1, "one POST");
        serde_json::from_str(&all[0].2).expect("JSON")
    }
}

/// The quickstart, without its waits.
fn quick(tool: &Tool) -> String {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/quickstart.yaml");
    let text = fs::read_to_string(shipped).expect("runbook");
    let quick: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("at_least:") {
            Some((before, _)) => format!("{before}at_least: 10ms"),
            None => line.to_owned(),
        })
        .collect();
    tool.runbook(&quick.join("\n")).display().to_string()
}

async fn ran(tool: &Tool, more: &[&str]) -> Ran {
    let path = quick(tool);
    let mut arguments = vec!["run", &path, "--env", "sandbox", "--yes"];
    arguments.extend(more);
    tool.done(&arguments).await
}

fn spans(trace: &Value) -> Vec<Value> {
    trace["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array()?;
    let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str())
}

fn root(spans: &[Value]) -> &Value {
    spans.iter().find(|span| span["name"] == "run quickstart").expect("the run")
}

/// The records of the newest run.
fn records(tool: &Tool) -> Vec<Value> {
    let text = fs::read_to_string(tool.journal().expect("a run")).expect("journal");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What the records say, without what differs from run to run.
fn kinds(tool: &Tool) -> BTreeSet<String> {
    let word = |record: &Value, key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let said = |record: &Value| ["type", "step", "op", "result", "phase", "end"].map(|key| word(record, key));
    records(tool).iter().map(|record| said(record).join(" ")).collect()
}

#[tokio::test]
async fn a_run_is_a_trace_and_each_attempt_at_a_step_a_span() {
    let kept = Kept::default();
    let address = kept.serve(StatusCode::OK, "{}").await;
    let tool = Tool::new()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &address)
        .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={KEY}"))
        .with("OTEL_RESOURCE_ATTRIBUTES", "team=payments")
        .with("TRACEPARENT", PARENT);
    ran(&tool, &[]).await.expect(0);
    let (uri, headers, body) = kept.all().remove(0);
    assert_eq!((uri.as_str(), headers["content-type"].as_bytes()), ("/v1/traces", &b"application/json"[..]));
    assert_eq!(headers["api-key"].as_bytes(), KEY.as_bytes());
    let trace = kept.only();
    // Made again, it is the same.
    let again = tool.done(&["trace"]).await.expect(0);
    assert_eq!(again.stdout.trim_end(), body);

    let resource = &trace["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name"), Some("stanch"));
    assert_eq!(attribute(resource, "team"), Some("payments"));
    assert_eq!(attribute(resource, "deployment.environment.name"), Some("sandbox"));
    let spans = spans(&trace);
    let root = root(&spans);
    assert_eq!(root["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(attribute(root, "stanch.end"), Some("done"));
    let ids: BTreeMap<&str, &Value> =
        spans.iter().map(|span| (span["spanId"].as_str().expect("an id"), span)).collect();
    assert_eq!(ids.len(), spans.len(), "each id once");
    let time =
        |span: &Value, key: &str| -> u128 { span[key].as_str().expect("a text").parse().expect("digits") };
    for span in &spans {
        assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
        let (start, end) = (time(span, "startTimeUnixNano"), time(span, "endTimeUnixNano"));
        assert!(start <= end, "{span}");
        if span != root {
            let parent = ids[span["parentSpanId"].as_str().expect("a parent")];
            assert!(time(parent, "startTimeUnixNano") <= start, "{span} in {parent}");
            assert!(end <= time(parent, "endTimeUnixNano"), "{span} in {parent}");
        }
    }
    // Every attempt of the record is there, with its record, its name and its outcome.
    let records = records(&tool);
    let of = |word: &str| records.iter().filter(|record| record["type"] == word).collect::<Vec<_>>();
    let steps: Vec<&Value> = spans.iter().filter(|span| attribute(span, "stanch.step").is_some()).collect();
    assert_eq!(steps.len(), of("intent").len());
    for intent in of("intent") {
        let record = intent["seq"].to_string();
        let is = |span: &&&Value| attribute(span, "stanch.record") == Some(&record);
        let span = steps.iter().find(is).unwrap_or_else(|| panic!("no span of {intent}"));
        assert_eq!(attribute(span, "stanch.step"), intent["step"].as_str());
        assert_eq!(attribute(span, "stanch.step.outcome"), Some("succeeded"));
        assert!(intent["step"].as_str().expect("a text").ends_with(span["name"].as_str().expect("a name")));
    }
    let phases = spans.len() - steps.len() - 1;
    assert_eq!(phases, of("entered").len());
    let told = root["events"].as_array().expect("events");
    assert!(told.iter().any(|event| event["name"] == "judged"), "{told:?}");
    let links = root["links"].as_array().map_or(0, Vec::len);
    assert_eq!((links, root["flags"].as_u64()), (0, Some(0x301)));
}

/// Google's own reader of the published definitions takes the JSON, without an unknown field.
#[tokio::test]
#[ignore = "needs STANCH_TEST_OTLP_PYTHON: run scripts/test"]
async fn the_published_definitions_of_otlp_take_it() {
    let python = std::env::var("STANCH_TEST_OTLP_PYTHON").expect("scripts/test sets it");
    let tool = Tool::new().with("TRACEPARENT", PARENT);
    ran(&tool, &["--until", "cutover"]).await.expect(0);
    let open = tool.done(&["trace"]).await.expect(0);
    tool.done(&["rollback", "--yes"]).await.expect(0);
    let over = tool.done(&["trace"]).await.expect(0);
    for (text, least) in [(&open.stdout, 10), (&over.stdout, 20)] {
        let script = "import sys\n\
            from google.protobuf import json_format\n\
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as R\n\
            import json, base64\n\
            tree = json.load(sys.stdin)\n\
            spans = tree['resourceSpans'][0]['scopeSpans'][0]['spans']\n\
            # OTLP writes ids in hex, where protobuf's own JSON has base64.\n\
            for s in spans + [l for s in spans for l in s.get('links', [])]:\n\
            \x20   for k, n in (('traceId', 16), ('spanId', 8), ('parentSpanId', 8)):\n\
            \x20       if k in s:\n\
            \x20           raw = bytes.fromhex(s[k]); assert len(raw) == n; s[k] = base64.b64encode(raw).decode()\n\
            \x20   if 'kind' in s: assert type(s['kind']) is int and type(s['startTimeUnixNano']) is str\n\
            r = json_format.ParseDict(tree, R(), ignore_unknown_fields=False)\n\
            got = r.resource_spans[0].scope_spans[0].spans\n\
            assert all(s.start_time_unix_nano <= s.end_time_unix_nano and s.name for s in got)\n\
            print(len(got))\n";
        let ran = Ran::fed(Command::new(&python).args(["-c", script]), text).expect(0);
        assert!(ran.stdout.trim().parse::<usize>().expect("a number") >= least, "{ran:?}");
    }
}

/// OpenTelemetry's own collector takes a trace, and passes on what it understood: everything that was sent.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs OpenTelemetry's collector: scripts/test --all"]
async fn opentelemetrys_collector_understands_all_of_a_trace() {
    let (kept, folder) = (Kept::default(), tempfile::tempdir().expect("folder"));
    let (behind, port) = (kept.serve(StatusCode::OK, "{}").await, closed_port());
    let config = folder.path().join("collector.yaml");
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: '{port}'}}}}}}}}\n\
         exporters: {{otlp_http: {{endpoint: '{behind}', encoding: json, compression: none}}}}\n\
         service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
         pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}\n"
    );
    fs::write(&config, text).expect("config");
    let mut collector = tokio::process::Command::new(server("STANCH_TEST_OTELCOL"))
        .arg(format!("--config={}", config.display()))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the collector starts");
    while tokio::net::TcpStream::connect(port).await.is_err() {
        assert!(collector.try_wait().expect("its state").is_none(), "the collector ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tool = Tool::new()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{port}"))
        .with("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
        .with("TRACEPARENT", PARENT);
    let done = ran(&tool, &[]).await.expect(0);
    assert!(!done.stderr.contains("not sent"), "{done:?}");
    while kept.all().is_empty() {
        assert!(collector.try_wait().expect("its state").is_none(), "the collector ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sent: Value = serde_json::from_str(&tool.done(&["trace"]).await.expect(0).stdout).expect("JSON");
    assert!(spans(&sent).len() > 20);
    assert_eq!(without_defaults(&kept.only()), without_defaults(&sent));
}

/// A message of protobuf without the fields that have their default values: to leave one out, or to write it, is the same.
fn without_defaults(value: &Value) -> Value {
    let is_default = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    };
    match value {
        Value::Array(list) => list.iter().map(without_defaults).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_defaults(value)))
            .filter(|(_, value)| !is_default(value))
            .collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn a_collector_that_is_down_slow_or_hostile_changes_nothing() {
    let plain = Tool::new();
    let good = ran(&plain, &[]).await.expect(0);
    let kept = Kept::default();
    let down = format!("http://{}", closed_port());
    // It takes the connection, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let slow = format!("http://{}", silent.local_addr().expect("address"));
    let refuses = kept.serve(StatusCode::FORBIDDEN, &format!("no: {KEY}")).await;
    let echo = format!(
        "{{\"partialSuccess\":{{\"rejectedSpans\":\"3\",\"errorMessage\":\"bad {KEY} \\u001b[2J\"}}}}"
    );
    let rejects = kept.serve(StatusCode::OK, &echo).await;
    let long = kept.serve(StatusCode::OK, &"x".repeat(3 << 20)).await;
    let nonsense = kept.serve(StatusCode::OK, "[[[{").await;
    for (address, said) in [
        (down.as_str(), Some("not sent: ")),
        (&slow, Some("not sent: ")),
        (&refuses, Some("answered 403")),
        (&rejects, Some("rejected 3 spans, and says \"bad")),
        (&long, Some("not sent: ")),
        (&nonsense, Some("answered 200, and not as a collector does")),
        ("no-address", Some("OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https address")),
    ] {
        let tool = Tool::new()
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", address)
            .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={KEY}"))
            // Only one of them never answers; the others have time, also on a busy machine.
            .with("OTEL_EXPORTER_OTLP_TIMEOUT", if address == slow { "400" } else { "10000" });
        let (path, begun) = (quick(&tool), Instant::now());
        let done = tool.done(&["run", &path, "--env", "sandbox", "--yes", "-vv"]).await;
        let took = begun.elapsed();
        assert_eq!(done.code, good.code, "{done:?}");
        assert_eq!(kinds(&tool), kinds(&plain), "{address}");
        assert_eq!(done.stdout.lines().count(), good.stdout.lines().count(), "{done:?}");
        assert!(took < Duration::from_secs(30), "{took:?}");
        let heard = done.stderr.contains("the trace was not sent: ");
        assert_eq!(heard, said.is_some(), "{address}: {done:?}");
        assert!(done.stderr.contains(said.unwrap_or_default()), "{address}: {done:?}");
        assert!(!format!("{done:?}").contains(KEY) && !done.stderr.contains('\u{1b}'), "{done:?}");
        search(&tool.state(), &[KEY.to_owned()]);
        assert!(said.is_none() || done.stderr.contains(&format!("stanch trace {} --send", tool.newest())));
    }
}

/// A collector that does not answer delays by its deadline, and by no more.
#[tokio::test]
async fn the_deadline_holds() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let slow = format!("http://{}", silent.local_addr().expect("address"));
    let tool = Tool::new();
    ran(&tool, &[]).await.expect(0);
    for (timeout, least, most) in [("300", 300, 2_500), ("", 3_000, 6_000), ("3600000", 10_000, 14_000)] {
        let mut command = tokio::process::Command::from(tool.command(&["trace", "--send"]));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &slow).env("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout);
        let begun = Instant::now();
        let done = Ran::of(command.output().await.expect("it starts")).expect(69);
        let took = begun.elapsed().as_millis();
        assert!((least..most).contains(&took), "{timeout}: {took} ms; {done:?}");
        assert!(done.stderr.contains("did not answer") || done.stderr.contains("no answer"), "{done:?}");
    }
}

#[tokio::test]
async fn a_run_of_several_processes_is_one_trace_sent_at_its_end() {
    let kept = Kept::default();
    let address = kept.serve(StatusCode::OK, "{}").await;
    let tool = Tool::new().with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{address}/mine"));
    ran(&tool, &["--until", "cutover"]).await.expect(0);
    assert!(kept.all().is_empty(), "the run is open");
    let open = tool.done(&["trace"]).await.expect(0);
    assert!(open.stderr.contains("is open"), "{open:?}");
    let early = spans(&serde_json::from_str(&open.stdout).expect("JSON"));
    let refused = tool.done(&["trace", "--send"]).await.expect(2);
    assert!(refused.stderr.contains("is open"), "{refused:?}");
    let mut resume =
        tokio::process::Command::from(tool.command(&["rollback", "--yes", "--reason", "too early"]));
    let ended = Ran::of(resume.env("TRACEPARENT", PARENT).output().await.expect("it starts")).expect(0);
    assert!(!ended.stderr.contains("trace"), "{ended:?}");
    assert_eq!(kept.all()[0].0, "/mine");
    let late = spans(&kept.only());
    let root = root(&late);
    // What was made earlier is a part of it.
    for span in &early {
        assert!(late.contains(span), "{span}");
    }
    assert!(root.get("parentSpanId").is_none(), "what began it was no part of a trace");
    assert_eq!(root["links"][0]["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(root["traceId"], root["links"][0]["traceId"]);
    assert_eq!(attribute(root, "stanch.end"), Some("rolled-back"));
    assert!(late.iter().any(|span| span["name"].as_str().is_some_and(|name| name.starts_with("undo "))));
    // By hand it is sent again, as it was.
    let again = tool.done(&["trace", "--send", "--json"]).await.expect(0);
    assert!(again.stdout.contains(&format!("\"spans\": {}", late.len())), "{again:?}");
    let all = kept.all();
    assert_eq!(all[0].2, all[1].2);
}

/// Whoever begins a trace and does not keep it gets nothing; nor does anybody where tracing is off.
#[tokio::test]
async fn a_trace_that_is_not_wanted_is_not_sent() {
    let kept = Kept::default();
    let address = kept.serve(StatusCode::OK, "{}").await;
    let unsampled = PARENT.replace("-01", "-00");
    for (name, value) in [("TRACEPARENT", unsampled.as_str()), ("OTEL_SDK_DISABLED", "true"), ("X", "x")] {
        let endpoint = if name == "X" { "" } else { &address };
        let tool = Tool::new().with(name, value).with("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let done = ran(&tool, &[]).await.expect(0);
        assert!(!done.stderr.contains("trace"), "{done:?}");
        assert!(kept.all().is_empty(), "{name}");
        let sent = tool.done(&["trace", "--send"]).await.expect(if name == "TRACEPARENT" { 0 } else { 2 });
        if name == "TRACEPARENT" {
            // By hand it goes, as what it is: not kept.
            let flags: Vec<_> = spans(&kept.only()).iter().map(|span| span["flags"].as_u64()).collect();
            assert!(flags.iter().all(|flags| flags.is_some_and(|flags| flags & 0x1ff == 0x100)), "{flags:?}");
        }
        assert_eq!(sent.stderr.contains("OTEL_SDK_DISABLED turns"), name == "OTEL_SDK_DISABLED", "{sent:?}");
        kept.0.lock().expect("kept").clear();
    }
    // One that is not valid is none.
    let tool = Tool::new().with("TRACEPARENT", "00-nonsense");
    ran(&tool, &[]).await.expect(0);
    assert!(!kinds(&tool).iter().any(|kind| kind.starts_with("traced")));
}

#[tokio::test]
async fn an_abandoned_and_a_failed_run_end_as_errors() {
    let kept = Kept::default();
    let address = kept.serve(StatusCode::OK, "{}").await;
    let tool = Tool::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", &address);
    ran(&tool, &["--until", "prepare"]).await.expect(0);
    let run = tool.newest();
    tool.done(&["abandon", &run, "--yes", "--reason", "over"]).await.expect(0);
    let spans = spans(&kept.only());
    let root = root(&spans);
    assert_eq!(root["status"]["code"], 2, "{root}");
    assert_eq!(attribute(root, "stanch.end"), Some("abandoned"));
}

#[tokio::test]
async fn a_record_that_is_not_valid_makes_no_trace() {
    let tool = Tool::new();
    ran(&tool, &[]).await.expect(0);
    let journal = tool.journal().expect("a run");
    let text = fs::read_to_string(&journal).expect("journal");
    fs::write(&journal, text.replacen("\"cutover\"", "\"sunset\"", 1)).expect("written");
    let refused = tool.done(&["trace"]).await.expect(30);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("audit verify"), "{refused:?}");
}
