//! Messages about runs: what arrives, what does not, and that a channel changes nothing about a run.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use crate::servers::{closed_port, serve};
use crate::tool::{NOT_PROVED, Ran, Tool, apart};

/// What a server of the test got.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<Vec<(HeaderMap, String)>>>);

impl Got {
    fn bodies(&self) -> Vec<Value> {
        self.texts().iter().map(|text| serde_json::from_str(text).expect("JSON")).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.0.lock().expect("lock").iter().map(|(_, body)| body.clone()).collect()
    }

    fn headers(&self) -> Vec<HeaderMap> {
        self.0.lock().expect("lock").iter().map(|(headers, _)| headers.clone()).collect()
    }
}

/// A server that keeps what it gets, and answers so after a while.
async fn server(status: u16, answer: &'static str, after: Duration) -> (String, Got) {
    let got = Got::default();
    let keeps = got.clone();
    let handler = move |headers: HeaderMap, body: String| {
        let keeps = keeps.clone();
        async move {
            keeps.0.lock().expect("lock").push((headers, body));
            tokio::time::sleep(after).await;
            (StatusCode::from_u16(status).expect("a status"), answer)
        }
    };
    let router = axum::Router::new().fallback(post(handler));
    (serve(router).await, got)
}

/// A runbook in the sandbox whose phases take a moment.
fn quick(tool: &Tool) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let text = std::fs::read_to_string(path).expect("runbook");
    let quick: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("at_least:") {
            Some((before, _)) => format!("{before}at_least: 10ms"),
            None => line.replace("every: 500ms", "every: 10ms"),
        })
        .collect();
    tool.runbook(&quick.join("\n")).display().to_string()
}

/// A runbook outside of the sandbox that needs no server. Its end is not proved.
fn real(tool: &Tool, more: &str) -> String {
    let folder = tool.folder.path().display();
    std::fs::write(tool.folder.path().join("secret-store-db01"), "hunter2-old-value-0001").expect("written");
    let text = format!(
        "version: 1\nname: internal-runbook\nenvironments: {{ internal-env: {{}} }}\ncredentials:\n  \
         internal-key:\n    issuer: {{ type: random, revoke: {{ exec: ['true'] }} }}\n    \
         stores: [{{ type: file, path: {folder}/secret-store-db01, format: text }}]\n    \
         accepts: [{{ exec: ['true'] }}]\n    rejects: [{{ exec: ['false'] }}]\nphases:\n  proof: {{ times: 1, every: 10ms, at_most: 2s }}\n{more}"
    );
    tool.runbook(&text).display().to_string()
}

fn configure(tool: &Tool, text: &str) {
    std::fs::create_dir_all(tool.state()).expect("made");
    std::fs::set_permissions(tool.state(), std::fs::Permissions::from_mode(0o700)).expect("mode");
    std::fs::write(tool.state().join("notify.yaml"), text).expect("written");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["kind"].as_str().expect("a kind")).collect()
}

async fn run(tool: &Tool) -> Ran {
    let runbook = quick(tool);
    tool.done(&["run", &runbook, "--env", "sandbox", "--yes", "--reason", "it leaked"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_each_audience_what_it_may_know() {
    let tool = Tool::new();
    configure(
        &tool,
        "channels:\n  tech: {audience: technicians, drills: true, via: {file: {path: tech.jsonl}}}\n  \
         boss: {audience: management, language: de, drills: true, via: {file: {path: boss.jsonl}}}\n  \
         quiet: {audience: technicians, via: {file: {path: quiet.jsonl}}}\n",
    );
    let ran = run(&tool).await.expect(0);
    assert!(!ran.stderr.contains("not sent"), "{ran:?}");
    let tech = lines(&tool.state().join("tech.jsonl"));
    assert_eq!(kinds(&tech), ["drill", "cutover", "overlap", "sunset", "revoked", "proved"]);
    assert!(
        tech.iter()
            .all(|m| m["drill"] == true && m["title"].as_str().is_some_and(|t| t.starts_with("DRILL")))
    );
    assert!(
        tech[0]["text"].as_str().is_some_and(|text| text.contains("it leaked") && text.contains("tester@"))
    );
    assert!(
        tech[5]["text"].as_str().is_some_and(|text| text.contains("demo-key") && text.contains("Exposure: "))
    );
    let boss = lines(&tool.state().join("boss.jsonl"));
    assert_eq!(kinds(&boss), ["drill", "cutover", "sunset", "revoked", "proved"]);
    for message in &boss {
        let text = message.to_string();
        assert!(text.contains("ÜBUNG") && !text.contains("demo-key") && !text.contains("tester"), "{text}");
    }
    assert!(!tool.state().join("quiet.jsonl").exists(), "a channel without drills hears of none");
    // Everything is sent, and nothing is sent twice.
    tool.done(&["notify", "flush"]).await.expect(0);
    tool.done(&["notify", "flush", &tool.newest()]).await.expect(0);
    assert_eq!(lines(&tool.state().join("tech.jsonl")).len(), 6);
    let mode = std::fs::metadata(tool.state().join("tech.jsonl")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_channel_is_served() {
    let (slack, slacked) = server(200, "ok", Duration::ZERO).await;
    let (bot, posted) = server(200, r#"{"ok":true,"ts":"1.2"}"#, Duration::ZERO).await;
    let (pager, paged) = server(202, r#"{"status":"success","dedup_key":"k"}"#, Duration::ZERO).await;
    let (alert, alerted) = server(200, "", Duration::ZERO).await;
    let (hook, hooked) = server(204, "", Duration::ZERO).await;
    let (mail, mailed) = smtp(Answers::Takes).await;
    let tool = Tool::new()
        .with("SLACK_URL", &format!("{slack}/services/canary-slack-path"))
        .with("BOT_TOKEN", "xoxb-canary-bot-token")
        .with("PD_KEY", "canary-routing-key")
        .with("HOOK_URL", &format!("{hook}/canary-hook-path"))
        .with("HOOK_KEY", "canary-hook-key");
    configure(
        &tool,
        &format!(
            "channels:\n  a: {{audience: technicians, drills: true, via: {{slack-webhook: {{url: {{env: SLACK_URL}}}}}}}}\n  \
             b: {{audience: technicians, drills: true, via: {{slack: {{channel: C1, token: {{env: BOT_TOKEN}}, server: '{bot}'}}}}}}\n  \
             c: {{audience: technicians, drills: true, via: {{pagerduty: {{routing_key: {{env: PD_KEY}}, server: '{pager}'}}}}}}\n  \
             d: {{audience: technicians, drills: true, via: {{alertmanager: {{server: '{alert}'}}}}}}\n  \
             e: {{audience: technicians, drills: true, via: {{webhook: {{url: {{env: HOOK_URL}}, key: {{env: HOOK_KEY}}}}}}}}\n  \
             f: {{audience: management, drills: true, via: {{email: {{server: 'smtp://{mail}', from: s@example.com, to: [o@example.com]}}}}}}\n  \
             g: {{audience: technicians, drills: true, via: {{exec: [sh, -c, 'cat >> {folder}/got.jsonl; echo >> {folder}/got.jsonl']}}}}\n",
            folder = tool.folder.path().display(),
        ),
    );
    let ran = run(&tool).await.expect(0);
    let log = tool.done(&["-vv", "notify", "status", &tool.newest()]).await.expect(0);
    assert!(!log.stdout.contains("waits") && !log.stdout.contains("REFUSED"), "{log:?}");
    assert_eq!(slacked.bodies().len(), 6, "{ran:?}");
    assert_eq!(posted.bodies()[0]["channel"], "C1");
    assert_eq!(posted.headers()[0]["authorization"], "Bearer xoxb-canary-bot-token");
    let events = paged.bodies();
    assert_eq!(events.len(), 6);
    assert!(events.iter().all(|event| event["dedup_key"] == events[0]["dedup_key"]));
    assert_eq!(
        (&events[0]["event_action"], &events[5]["event_action"]),
        (&json!("trigger"), &json!("resolve"))
    );
    assert_eq!(alerted.bodies()[5][0]["labels"], alerted.bodies()[0][0]["labels"]);
    // The signature, checked as a receiver does.
    for (headers, body) in hooked.headers().iter().zip(hooked.texts()) {
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"canary-hook-key").expect("a key");
        mac.update(format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp")).as_bytes());
        let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(text("webhook-signature"), format!("v1,{expected}"));
    }
    let mails = mailed.texts();
    assert_eq!(mails.len(), 5);
    assert!(
        mails.iter().all(|mail| mail.contains("Message-ID: <stanch.") && mail.contains("Auto-Submitted"))
    );
    assert_eq!(lines(&tool.folder.path().join("got.jsonl")).len(), 6, "the program got each as JSON");
    // Nothing that is secret is kept anywhere.
    no_canary(&tool, &[&ran, &log]);
}

/// No file of the state, and nothing that was printed, has a canary.
fn no_canary(tool: &Tool, runs: &[&Ran]) {
    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    let mut folders = vec![tool.state()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("listed").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => places.push((path.display().to_string(), std::fs::read(&path).expect("read"))),
            }
        }
    }
    for ran in runs {
        places.push(("printed".into(), format!("{}{}", ran.stdout, ran.stderr).into_bytes()));
    }
    assert!(places.len() > 5);
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("canary"), "{place}: {text}");
    }
}

/// Channels that are down, slow, redirect or lie: the run is as it is without them, and each is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_channel_delays_and_changes_nothing() {
    let (lies, _) = server(200, r#"{"error":"canary-echo"}"#, Duration::ZERO).await;
    let (slow, slowly) = server(200, "ok", Duration::from_secs(600)).await;
    let (moved, _) = server(302, "", Duration::ZERO).await;
    let down = closed_port();
    let tool = Tool::new()
        .with("LIES", &format!("{lies}/canary"))
        .with("SLOW", &format!("{slow}/canary"))
        .with("MOVED", &format!("{moved}/canary"))
        .with("DOWN", &format!("http://{down}/canary"))
        .with("KEY", "canary-key");
    let hook = |name: &str, url: &str| {
        format!(
            "  {name}: {{audience: technicians, drills: true, on: [drill], via: {{webhook: {{url: {{env: {url}}}, key: {{env: KEY}}}}}}}}\n"
        )
    };
    let slow = "  slow: {audience: technicians, drills: true, on: [drill], via: {slack-webhook: {url: {env: SLOW}}}}\n";
    let unset = "  unset: {audience: technicians, drills: true, on: [drill], via: {slack-webhook: {url: {env: UNSET_VARIABLE}}}}\n";
    let channels = [hook("lies", "LIES"), hook("moved", "MOVED"), hook("down", "DOWN")].concat();
    configure(&tool, &format!("channels:\n{channels}{slow}{unset}"));
    let ran = run(&tool).await.expect(0);
    assert!(ran.stdout.contains("DONE"), "{ran:?}");
    assert!(ran.stderr.contains("stanch notify flush"), "{ran:?}");
    let status = tool.done(&["-vv", "status", &tool.newest()]).await.expect(0);
    for words in [
        "to lies: REFUSED: the webhook answered 200 with an error in the body",
        "to moved: REFUSED: the webhook answered 302",
        "to down: waits after",
        // After one attempt or, on a busy machine, after both.
        "to slow: ",
        "to unset: waits after",
        "the variable UNSET_VARIABLE is not set",
        "--again",
    ] {
        assert!(status.stdout.contains(words), "{words}: {}", status.stdout);
    }
    let flush = tool.done(&["-vv", "notify", "flush"]).await.expect(69);
    assert!(flush.stderr.contains("IN DOUBT"), "sent once more and no further time: {flush:?}");
    let titles: Vec<String> =
        slowly.bodies().iter().map(|body| body["text"].as_str().expect("text").to_owned()).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert!(!titles[0].contains("repeat") && titles[1].contains("possibly a repeat"), "{titles:?}");
    let json = tool.done(&["status", "--json", &tool.newest()]).await.expect(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["messages"].as_array().map(Vec::len), Some(5));
    no_canary(&tool, &[&ran, &status, &flush]);
}

/// The file of channels, or a template, has a mistake: it is shown with its place, and the run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_channels_stops_no_run() {
    let tool = Tool::new();
    configure(&tool, "channels:\n  ops: {audience: technicians, via: {fax: {}}}\n");
    let ran = run(&tool).await.expect(0);
    assert!(ran.stderr.contains("notify.yaml:2:") && ran.stderr.contains("no messages are sent"), "{ran:?}");
    tool.done(&["notify", "status"]).await.expect(65);
    configure(
        &tool,
        "templates: .\nchannels:\n  ops: {audience: technicians, drills: true, via: {file: {path: x.jsonl}}}\n",
    );
    std::fs::create_dir(tool.state().join("en")).expect("made");
    std::fs::write(tool.state().join("en/technicians.txt"), "== drill\n{{ rum }}\n").expect("written");
    let ran = tool.done(&["notify", "flush", &tool.newest()]).await.expect(65);
    assert!(ran.stderr.contains("technicians.txt:2:") && ran.stderr.contains("has no `rum`"), "{ran:?}");
    // What is fixed is sent then, in the operator's own words.
    std::fs::write(tool.state().join("en/technicians.txt"), "== drill\nours {{ run }}\n").expect("written");
    tool.done(&["notify", "flush", &tool.newest()]).await.expect(0);
    let sent = lines(&tool.state().join("x.jsonl"));
    assert_eq!((sent.len(), &sent[0]["title"]), (6, &json!(format!("DRILL: ours {}", tool.newest()))));
    // A file that others can read is not used.
    configure(
        &tool,
        "channels:\n  more: {audience: technicians, drills: true, via: {slack-webhook: {url: {file: url}}}}\n",
    );
    std::fs::write(tool.state().join("url"), "http://127.0.0.1:1/canary").expect("written");
    std::fs::set_permissions(tool.state().join("url"), std::fs::Permissions::from_mode(0o644)).expect("mode");
    let ran = tool.done(&["notify", "flush", &tool.newest()]).await.expect(69);
    assert!(ran.stderr.contains("others can read") && ran.stderr.contains("chmod 600"), "{ran:?}");
}

/// Customers hear only what a person sends, as the preview showed it.
#[tokio::test(flavor = "multi_thread")]
async fn customers_hear_only_what_a_person_sends() {
    let tool = Tool::new();
    let file = tool.folder.path().join("cust.jsonl");
    let notify = format!(
        "notify:\n  channels:\n    cust: {{audience: customers, service: Payments, via: {{file: {{path: {}}}}}}}\n",
        file.display()
    );
    let runbook = real(&tool, &notify);
    tool.done(&["run", &runbook, "--env", "internal-env", "--yes"]).await.expect(NOT_PROVED);
    let sent = || lines(&file);
    tool.done(&["notify", "flush", &tool.newest()]).await.expect(0);
    assert!(sent().is_empty(), "nothing goes to customers unasked");
    let preview = tool.done(&["notify", "preview", "--kind", "cutover"]).await.expect(0);
    assert!(preview.stdout.contains("Payments: security maintenance continues"), "{preview:?}");
    for name in ["internal-key", "internal-env", "db01", "tester"] {
        let message = preview.stdout.split("to send it:").next().expect("a message");
        assert!(!message.contains(name), "{name}: {message}");
    }
    let code = preview.stdout.split("--confirm ").nth(1).expect("a code").trim().to_owned();
    let send = |code: &str| {
        let code = code.to_owned();
        let tool = &tool;
        async move {
            tool.done(&["notify", "send", "--channel", "cust", "--kind", "cutover", "--confirm", &code]).await
        }
    };
    let ran = send("000000000000").await.expect(2);
    assert!(ran.stderr.contains("not the one of that preview") && sent().is_empty(), "{ran:?}");
    send(&code).await.expect(0);
    assert_eq!(kinds(&sent()), ["cutover"]);
    assert!(sent()[0].get("run").is_none(), "a run's name is internal");
    let ran = send(&code).await.expect(2);
    assert!(ran.stderr.contains("has this message already"), "{ran:?}");
    assert_eq!(sent().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_never_reaches_customers() {
    let tool = Tool::new();
    configure(
        &tool,
        "channels:\n  cust: {audience: customers, service: Payments, via: {file: {path: cust.jsonl}}}\n",
    );
    run(&tool).await.expect(0);
    let preview = tool.done(&["notify", "preview"]).await.expect(0);
    assert!(!preview.stdout.contains("Payments"), "{preview:?}");
    let ran = tool
        .done(&["notify", "send", "--channel", "cust", "--kind", "cutover", "--confirm", "x"])
        .await
        .expect(2);
    assert!(ran.stderr.contains("a drill never reaches customers"), "{ran:?}");
    tool.done(&["notify", "flush", &tool.newest()]).await.expect(0);
    assert!(!tool.state().join("cust.jsonl").exists());
}

/// How a run is killed.
#[derive(Debug, Clone, Copy)]
enum Killed {
    /// Once its journal has so many records, and some milliseconds later.
    Records(u64),
    /// By the kernel, when one of its threads makes one of these calls for the nth time: nothing lies between two of
    /// them that another process could see.
    Call(&'static str, u32),
}

/// What a run, its outbox and its channels are made with: names of files, what is durable, and what goes over the network
/// and comes back.
const CALLS: [&str; 4] = ["rename,renameat,renameat2", "fsync,fdatasync", "writev,sendto", "recvfrom"];

/// Killed at every point between record, outbox and send: nothing is lost. Where a channel knows a message again
/// there is one; where it does not, a second one is marked.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_nothing_is_lost() {
    let (mut doubles, mut kills) = (0, 0);
    let mut take = |(killed, marked): (bool, usize)| {
        kills += usize::from(killed);
        doubles += marked;
        killed
    };
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..16 {
        tasks.spawn(survives(Killed::Records(at)));
        if tasks.len() >= 3 {
            take(tasks.join_next().await.expect("a task").expect("it ends"));
        }
    }
    while let Some(done) = tasks.join_next().await {
        take(done.expect("it ends"));
    }
    let step = u32::try_from(apart(3)).expect("a number");
    for calls in CALLS {
        // Until there is no nth call any more.
        let (mut next, mut over) = (1, false);
        while !over || !tasks.is_empty() {
            while !over && tasks.len() < 3 {
                tasks.spawn(survives(Killed::Call(calls, next)));
                next += if calls.starts_with("rename") { 1 } else { step };
            }
            let done = tasks.join_next().await.expect("a task").expect("it ends");
            over |= !take(done);
        }
        assert!(next > 5, "{calls}: only {next} calls");
    }
    eprintln!("killed {kills} times: {doubles} marked repeats");
}

/// Kills a run, resumes it, and looks at what arrived. Returns whether it was killed, and how many messages came twice.
async fn survives(how: Killed) -> (bool, usize) {
    // Every other one in the middle of a request.
    let at = match how {
        Killed::Records(at) => at,
        Killed::Call(_, nth) => u64::from(nth),
    };
    let slow = Duration::from_millis(if at.is_multiple_of(2) { 60 } else { 0 });
    let (slack, slacked) = server(200, "ok", slow).await;
    let (hook, hooked) = server(204, "", slow).await;
    let tool = Tool::new()
        .with("SLACK", &format!("{slack}/x"))
        .with("HOOK", &format!("{hook}/x"))
        .with("KEY", "key");
    configure(
        &tool,
        "channels:\n  slack: {audience: technicians, drills: true, via: {slack-webhook: {url: {env: SLACK}}}}\n  \
         hook: {audience: technicians, drills: true, via: {webhook: {url: {env: HOOK}, key: {env: KEY}}}}\n  \
         file: {audience: technicians, drills: true, via: {file: {path: m.jsonl}}}\n",
    );
    let runbook = quick(&tool);
    let begin = ["run", &runbook, "--env", "sandbox", "--yes"];
    let killed = match how {
        Killed::Records(at) => {
            let mut command = tokio::process::Command::from(tool.command(&begin));
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.kill_on_drop(true).spawn().expect("it starts");
            let wanted = usize::try_from(1 + at * 4).expect("a number");
            let long_enough = || {
                let journal = tool.journal().and_then(|path| std::fs::read_to_string(path).ok());
                journal.unwrap_or_default().lines().count() >= wanted
            };
            while !long_enough() && child.try_wait().expect("asked").is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(at * 3)).await;
            let _ = child.kill().await;
            child.wait().await.expect("it ends").code().is_none()
        }
        Killed::Call(calls, nth) => tool.killed_in(&begin, calls, nth).await,
    };
    if tool.journal().is_none() {
        // Nothing is on record, so nothing was done.
        return (killed, 0);
    }
    let at = format!("{how:?}");
    let run = tool.newest();
    let resumed = tool.done(&["resume", &run]).await;
    // It may have ended before it was killed.
    assert!([Some(0), Some(2)].contains(&resumed.code), "{at}: {resumed:?}");
    // A message that was on its way waits a moment before it is sent again.
    tool.done(&["notify", "flush"]).await.expect(0);
    let expected = ["drill", "cutover", "overlap", "sunset", "revoked", "proved"];
    let file = lines(&tool.state().join("m.jsonl"));
    assert_eq!(kinds(&file), expected, "{at}: the file has each once");
    let mut hooks: BTreeMap<String, Value> = BTreeMap::new();
    for (headers, body) in hooked.headers().iter().zip(hooked.bodies()) {
        let id = headers["webhook-id"].to_str().expect("text").to_owned();
        let known = hooks.entry(id).or_insert_with(|| body.clone());
        assert_eq!(*known, body, "{at}: the same id, the same message");
    }
    assert_eq!(hooks.len(), expected.len(), "{at}");
    let mut titles: BTreeMap<String, usize> = BTreeMap::new();
    let mut marked = 0;
    for body in slacked.bodies() {
        let title = body["text"].as_str().expect("text");
        match title.strip_suffix(" (possibly a repeat)") {
            Some(title) => {
                marked += 1;
                titles.entry(title.to_owned()).or_default();
            }
            None => *titles.entry(title.to_owned()).or_default() += 1,
        }
    }
    assert_eq!(titles.len(), expected.len(), "{at}: {titles:?}");
    assert!(titles.values().all(|unmarked| *unmarked <= 1), "{at}: a double that is not marked: {titles:?}");
    (killed, marked)
}

/// How the server of mail answers.
#[derive(Clone, Copy)]
enum Answers {
    Takes,
    Refuses,
    /// Takes it and hangs up without a word.
    HangsUp,
}

/// A small server of mail, and the mails that it got.
async fn smtp(answers: Answers) -> (String, Got) {
    let got = Got::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let keeps = got.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, keeps.clone(), answers));
        }
    });
    (address, got)
}

async fn talk(stream: tokio::net::TcpStream, keeps: Got, answers: Answers) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    write.write_all(b"220 test\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match line.get(..4).unwrap_or_default() {
            "DATA" => {
                write.write_all(b"354 go\r\n").await?;
                let mut mail = String::new();
                while !mail.ends_with("\r\n.\r\n") {
                    if read.read_line(&mut mail).await? == 0 {
                        return Ok(());
                    }
                }
                keeps.0.lock().expect("lock").push((HeaderMap::new(), mail));
                match answers {
                    Answers::HangsUp => return Ok(()),
                    _ => "250 taken\r\n",
                }
            }
            "RCPT" if matches!(answers, Answers::Refuses) => "550 no such user\r\n",
            "QUIT" => "221 bye\r\n",
            "EHLO" => "250-test\r\n250 8BITMIME\r\n",
            _ => "250 ok\r\n",
        };
        write.write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_is_refused_or_not_answered() {
    let (refuses, _) = smtp(Answers::Refuses).await;
    let (hangs, hung) = smtp(Answers::HangsUp).await;
    let tool = Tool::new();
    let mail = |name: &str, server: &str| {
        format!(
            "  {name}: {{audience: management, drills: true, on: [drill], via: {{email: {{server: 'smtp://{server}', from: s@example.com, to: [o@example.com]}}}}}}\n"
        )
    };
    configure(&tool, &format!("channels:\n{}{}", mail("no", &refuses), mail("hangs", &hangs)));
    run(&tool).await.expect(0);
    let flush = tool.done(&["notify", "flush"]).await.expect(69);
    assert!(flush.stderr.contains("to no: REFUSED") && flush.stderr.contains("550"), "{flush:?}");
    assert!(flush.stderr.contains("to hangs: waits after"), "{flush:?}");
    let ids: Vec<String> = hung
        .texts()
        .iter()
        .map(|mail| mail.lines().find(|line| line.starts_with("Message-ID")).expect("an id").to_owned())
        .collect();
    assert!(ids.len() >= 2 && ids.iter().all(|id| *id == ids[0]), "sent again under one id: {ids:?}");
}

/// Runs whose follower never wrote a message, or whose messages are gone, are sent without naming them.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_follower_wrote_is_made_again_from_the_record() {
    let tool = Tool::new();
    configure(&tool, "channels:\n  ops: {audience: technicians, via: {fax: {}}}\n");
    run(&tool).await.expect(0);
    let ran = tool.done(&["notify", "flush"]).await.expect(65);
    assert!(ran.stderr.contains("notify.yaml:2:"), "the mistake is shown: {ran:?}");
    configure(
        &tool,
        "channels:\n  ops: {audience: technicians, drills: true, via: {file: {path: x.jsonl}}}\n",
    );
    let nothing_sent = async || {
        let status = tool.done(&["notify", "status"]).await.expect(0);
        assert!(status.stdout.contains("6 messages not composed yet"), "{status:?}");
        assert!(!status.stdout.contains("every message was sent"), "{status:?}");
        let flush = tool.done(&["notify", "flush"]).await.expect(0);
        assert!(flush.stdout.contains("sent 6 messages"), "{flush:?}");
        let status = tool.done(&["notify", "status"]).await.expect(0);
        assert!(status.stdout.contains("every message was sent"), "{status:?}");
    };
    nothing_sent().await;
    assert_eq!(lines(&tool.state().join("x.jsonl")).len(), 6);
    for name in outbox(&tool) {
        std::fs::remove_file(name).expect("removed");
    }
    nothing_sent().await;
    // Each credential is named once.
    let sent = lines(&tool.state().join("x.jsonl"));
    let text = sent[5]["text"].as_str().expect("text");
    let named = text.lines().find(|line| line.contains("demo-key")).expect("a line of it");
    assert_eq!(named.matches("demo-key").count(), 1, "{named}");
}

/// The files of the newest run's messages.
fn outbox(tool: &Tool) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(tool.state().join("outbox").join(tool.newest())).expect("an outbox");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    files.sort();
    files
}

/// What a program says is masked; a damaged file of the outbox hides nothing of a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_outbox_and_a_talkative_program() {
    let tool = Tool::new().with("PAGER_TOKEN", "canary-of-a-program-5271");
    configure(
        &tool,
        "channels:\n  say: {audience: technicians, drills: true, on: [drill, proved], via: {exec: [sh, -c, \
         'echo refused ghp_\"\"0123456789abcdefghijABCDEFGHIJ012345 $PAGER_TOKEN >&2; exit 77']}}\n",
    );
    let ran = run(&tool).await.expect(0);
    assert!(ran.stderr.contains("2 messages") && ran.stderr.contains("--again"), "{ran:?}");
    let status = tool.done(&["status", &tool.newest()]).await.expect(0);
    assert!(status.stdout.contains("refused ***"), "{status:?}");
    for path in outbox(&tool) {
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.contains("***") && !text.contains("ghp_0123"), "{text}");
        assert!(!text.contains("canary-of-a-program"), "{text}");
    }
    std::fs::write(&outbox(&tool)[0], "").expect("emptied");
    let status = tool.done(&["status", &tool.newest()]).await.expect(0);
    for words in ["DONE", "WARNING: messages may not be sent", "REFUSED"] {
        assert!(status.stdout.contains(words), "{words}: {status:?}");
    }
    let json = tool.done(&["status", "--json", &tool.newest()]).await.expect(0);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert!(json["messages"].to_string().contains("WARNING"), "{json}");
    let status = tool.done(&["notify", "status"]).await.expect(0);
    assert!(status.stdout.contains("WARNING"), "{status:?}");
    tool.done(&["notify", "flush"]).await.expect(1);
}

/// A pipe that is never written to holds nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_not_read() {
    let tool = Tool::new();
    configure(&tool, "");
    let pipe = |path: &Path| {
        let _ = std::fs::remove_file(path);
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
        assert!(made.success());
    };
    pipe(&tool.state().join("notify.yaml"));
    let ran = run(&tool).await.expect(0);
    assert!(ran.stdout.contains("DONE") && ran.stderr.contains("not a regular file"), "{ran:?}");
    tool.done(&["notify", "flush"]).await.expect(65);
    std::fs::remove_file(tool.state().join("notify.yaml")).expect("removed");
    let channel = "channels:\n  ops: {audience: technicians, drills: true, via: {file: {path: x.jsonl}}}\n";
    configure(&tool, &format!("templates: t\n{channel}"));
    let ran = tool.done(&["notify", "flush"]).await.expect(65);
    assert!(ran.stderr.contains("the directory of templates") && ran.stderr.contains("exist"), "{ran:?}");
    std::fs::create_dir_all(tool.state().join("t/en")).expect("made");
    pipe(&tool.state().join("t/en/technicians.txt"));
    let ran = tool.done(&["notify", "flush"]).await.expect(65);
    assert!(ran.stderr.contains("not a regular file"), "{ran:?}");
}

/// A channel that asks for patience gets it, also from a later command.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_asks_to_wait_is_left_alone() {
    let hits = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&hits);
    let handler = move || {
        *counts.lock().expect("lock") += 1;
        async { (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")], "") }
    };
    let address = serve(axum::Router::new().fallback(post(handler))).await;
    let tool = Tool::new().with("HOOK", &format!("{address}/x")).with("KEY", "key");
    configure(
        &tool,
        "channels:\n  hook: {audience: technicians, drills: true, on: [drill], via: {webhook: {url: {env: HOOK}, key: {env: KEY}}}}\n",
    );
    run(&tool).await.expect(0);
    tool.done(&["notify", "flush"]).await.expect(69);
    assert_eq!(*hits.lock().expect("lock"), 1, "not before the hour is over");
    let status = tool.done(&["notify", "status"]).await.expect(0);
    assert!(status.stdout.contains("the channel wants none before"), "{status:?}");
    let path = &outbox(&tool)[0];
    let mut entry: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
    entry["retry_at"] = json!("2026-01-01T00:00:00Z");
    std::fs::write(path, entry.to_string()).expect("written");
    tool.done(&["notify", "flush"]).await.expect(69);
    assert_eq!(*hits.lock().expect("lock"), 2, "afterwards it is asked again");
}
