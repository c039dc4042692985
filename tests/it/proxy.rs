//! A proxy between the program and a server, which does one bad thing at one request.
//!
//! It takes one request a connection, forwards it, and hands the reply back. It knows which requests
//! change something, and looks into the journal before it forwards one: an effect without a durable
//! intent before it is remembered as unrecorded.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The bad things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection is cut, and the request never arrives.
    Lost,
    /// The request arrives, and the connection is cut instead of an answer.
    Unanswered,
    /// The connection is cut after half of the reply.
    Half,
    /// The request arrives, and nothing comes back until the program gives up.
    Stall,
    /// Bytes come back that are no HTTP.
    Garbage,
    /// A success comes back whose body is no answer of this server's.
    Nonsense,
    /// A gateway in between says that it had no answer.
    Gateway,
    /// A success comes back with a body of 10 MB.
    Huge,
    /// A success comes back whose body never ends.
    Endless,
    /// The reply comes back a byte at a time.
    Drip,
    /// The request never arrives; a refusal comes back whose words would harm a terminal.
    Insult,
    /// What `breaker` does, and then the request is lost.
    BreakBefore,
    /// The request arrives, and then what `breaker` does instead of a reply.
    BreakAfter,
}

impl Fault {
    /// What a network, and what stands in it, can do.
    pub(crate) const ALL: [Self; 10] = [
        Self::Lost,
        Self::Unanswered,
        Self::Half,
        Self::Stall,
        Self::Garbage,
        Self::Nonsense,
        Self::Gateway,
        Self::Huge,
        Self::Endless,
        Self::Drip,
    ];
}

/// A new title, a cleared screen, a bell, text that runs backwards.
pub(crate) const INSULT: &str = "insult\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}";

/// How long a stalled connection is held. Longer than any deadline that a test sets.
const HOLD: Duration = Duration::from_secs(60);
/// How long there is between two bytes that drip.
const DRIP: Duration = Duration::from_millis(100);
/// A huge body's size.
const HUGE: usize = 10 * 1024 * 1024;

/// One request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// What it asks for, without the names that differ between tests.
    pub(crate) what: String,
    /// Whether it changes something.
    pub(crate) effect: bool,
    /// What was done to it.
    pub(crate) fault: Option<Fault>,
}

/// One request: what it asks for, and how many like it came before. What goes out at one moment arrives in
/// any order, so that a number among all requests would name another one each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nth {
    pub(crate) what: String,
    pub(crate) before: usize,
}

impl Nth {
    /// The request at this place of what was seen.
    pub(crate) fn of(seen: &[Seen], at: usize) -> Self {
        let what = seen[at].what.clone();
        let before = seen[..at].iter().filter(|s| s.what == what).count();
        Self { what, before }
    }
}

/// What breaks the server.
pub(crate) type Breaker = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    upstream: String,
    /// Which request suffers what.
    aim: Option<(Nth, Fault)>,
    breaker: Option<Breaker>,
    journals: OnceLock<PathBuf>,
    seen: Mutex<Vec<Seen>>,
    unrecorded: Mutex<Vec<String>>,
}

/// The proxy. It lives as long as the test's runtime.
pub(crate) struct Proxy {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// In front of the server at `upstream` (`http://…`).
    pub(crate) async fn start(upstream: &str, aim: Option<(Nth, Fault)>, breaker: Option<Breaker>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let shared = Arc::new(Shared {
            upstream: upstream.strip_prefix("http://").expect("plain HTTP").to_owned(),
            aim,
            breaker,
            journals: OnceLock::new(),
            seen: Mutex::default(),
            unrecorded: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { shared.serve(client).await });
            }
        });
        Self { address, shared }
    }

    /// Whose journals tell of the effects that pass here.
    pub(crate) fn watch(&self, state: PathBuf) {
        self.shared.journals.set(state).expect("once");
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("lock").clone()
    }

    /// Panics when an effect passed that no journal told of before.
    pub(crate) fn everything_was_recorded(&self) {
        let unrecorded = self.shared.unrecorded.lock().expect("lock");
        assert!(unrecorded.is_empty(), "effects without an intent: {unrecorded:?}");
    }
}

impl Shared {
    /// One request. What goes wrong with the sockets is the other side's business.
    async fn serve(&self, mut client: TcpStream) -> Option<()> {
        let request = message(&mut client).await?;
        let what = describe(&request);
        let effect = journaled(&what).is_some();
        let fault = {
            let mut seen = self.seen.lock().expect("lock");
            let before = seen.iter().filter(|s| s.what == what).count();
            let aimed = |aim: &&(Nth, Fault)| aim.0.what == what && aim.0.before == before;
            let fault = self.aim.as_ref().filter(aimed).map(|(_, fault)| *fault);
            seen.push(Seen { what: what.clone(), effect, fault });
            fault
        };
        match fault {
            Some(Fault::Lost) => return None,
            Some(Fault::Insult) => {
                // XML has no way to write the oldest control characters.
                let words = INSULT.replace(['\u{1b}', '\u{7}'], "");
                let error = format!("<Error><Code>{words}</Code><Message>{words}</Message></Error>");
                let xml = format!("<ErrorResponse>{error}</ErrorResponse>");
                let said = serde_json::json!({ "errors": [INSULT], "__type": INSULT, "message": INSULT });
                let body = if what.ends_with("AccessKey") { xml } else { said.to_string() };
                client.write_all(&page("400 Bad Request", body.as_bytes())).await.ok()?;
                return client.shutdown().await.ok();
            }
            Some(Fault::BreakBefore) => {
                self.break_it().await;
                return None;
            }
            _ => {}
        }
        if let Some(steps) = journaled(&what)
            && !self.is_intended(steps)
        {
            self.unrecorded.lock().expect("lock").push(what);
        }
        let reply = self.forward(&request).await?;
        match fault {
            None => client.write_all(&reply).await.ok()?,
            Some(Fault::Half) => client.write_all(&reply[..reply.len() / 2]).await.ok()?,
            Some(Fault::Stall) => {
                // Until the program hangs up.
                let _ = tokio::time::timeout(HOLD, client.read(&mut [0])).await;
            }
            Some(Fault::Garbage) => client.write_all(b"\x00\xff\x16\x03 not HTTP\r\n\r\n").await.ok()?,
            Some(Fault::Nonsense) => client.write_all(&page("200 OK", b"<html>log in</html>")).await.ok()?,
            Some(Fault::Gateway) => {
                client.write_all(&page("502 Bad Gateway", b"<html>502</html>")).await.ok()?;
            }
            Some(Fault::Huge) => client.write_all(&page("200 OK", &vec![b' '; HUGE])).await.ok()?,
            Some(Fault::Endless) => {
                let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                client.write_all(head).await.ok()?;
                let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
                while client.write_all(&chunk).await.is_ok() {}
            }
            Some(Fault::Drip) => {
                for byte in reply {
                    client.write_all(&[byte]).await.ok()?;
                    tokio::time::sleep(DRIP).await;
                }
            }
            Some(Fault::BreakAfter) => self.break_it().await,
            Some(Fault::Unanswered | Fault::Lost | Fault::Insult | Fault::BreakBefore) => {}
        }
        client.shutdown().await.ok()
    }

    async fn break_it(&self) {
        let breaker = Arc::clone(self.breaker.as_ref().expect("a breaker"));
        tokio::task::spawn_blocking(move || breaker()).await.expect("broken");
    }

    async fn forward(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut server = TcpStream::connect(&self.upstream).await.ok()?;
        server.write_all(&closing(request)).await.ok()?;
        message(&mut server).await.map(|reply| closing(&reply))
    }

    /// Whether the newest journal has an intent for one of these steps, and no outcome yet.
    fn is_intended(&self, steps: &Steps) -> bool {
        let Some(state) = self.journals.get() else { return true };
        let Some(path) = crate::tool::newest_journal(state) else { return false };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut open = std::collections::BTreeSet::new();
        for line in text.lines().skip(1) {
            let Ok(record) = serde_json::from_str::<Value>(line) else { break };
            let of = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            match of("type").as_str() {
                "intent" => drop(open.insert((of("step"), of("op")))),
                "outcome" => drop(open.remove(&(of("step"), of("op")))),
                "resumed" => open.clear(),
                _ => {}
            }
        }
        let fits = |(step, op): &(String, String)| {
            steps.iter().any(|(part, ops)| step.contains(part) && ops.contains(&op.as_str()))
        };
        open.iter().any(fits)
    }
}

/// Parts of steps' ids, and what is done with these steps.
type Steps = [(&'static str, &'static [&'static str])];

/// For each request that changes something: the steps, and what is done with them, that may send it.
fn journaled(what: &str) -> Option<&'static Steps> {
    const TABLE: &[(&str, &Steps)] = &[
        ("POST /v1/auth/token/create", &[("/issue", &["do"])]),
        (
            "POST /v1/secret/data/set-",
            &[("/issue", &["do", "undo", "discard"]), ("/disable", &["do", "undo"]), ("/revoke", &["do"])],
        ),
        ("POST /v1/secret/data/", &[("/promote/", &["do", "undo"])]),
        ("POST /v1/auth/token/revoke", &[("/revoke", &["do"]), ("/issue", &["undo", "discard"])]),
        ("CreateAccessKey", &[("/issue", &["do"])]),
        ("UpdateAccessKey", &[("/disable", &["do", "undo"])]),
        ("DeleteAccessKey", &[("/revoke", &["do"]), ("/issue", &["undo", "discard"])]),
        ("PutSecretValue", &[("/stage/", &["do"]), ("/promote/", &["do", "undo"])]),
        ("UpdateSecretVersionStage", &[("/stage/", &["do", "undo"]), ("/promote/", &["do", "undo"])]),
        ("POST /api/v4/projects/", &[("/promote/", &["do", "undo"])]),
        ("POST /repos/", &[("/promote/", &["do", "undo"])]),
        ("POST /secrets/app-key", &[("/promote/", &["do", "undo"])]),
        ("POST /apply", &[("/issue", &["do"])]),
        ("POST /revoke", &[("/revoke", &["do"]), ("/issue", &["undo"])]),
        ("POST /-/reload", &[("/reload/", &["do", "undo"])]),
        ("POST /repeatable", &[("/own/repeatable", &["do"])]),
        ("POST /observed", &[("/own/observed", &["do"])]),
    ];
    TABLE.iter().find(|(start, _)| what.starts_with(start)).map(|(_, steps)| *steps)
}

/// A whole request or reply: head and body. `None` when it breaks off.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let chunked = header("transfer-encoding") == Some("chunked");
    let length: usize = header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    loop {
        let whole = if chunked { bytes[end..].ends_with(b"0\r\n\r\n") } else { bytes.len() >= end + length };
        if whole {
            return Some(bytes);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The same message, which says that the connection ends with it.
fn closing(message: &[u8]) -> Vec<u8> {
    let first = message.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    [&message[..first], b"Connection: close\r\n", &message[first..]].concat()
}

/// A page of something in between.
pub(crate) fn page(status: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What a request asks for: AWS' action, or the method and the path.
fn describe(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let target = text.lines().find(|l| l.to_ascii_lowercase().starts_with("x-amz-target:"));
    if let Some(target) = target {
        return target.rsplit('.').next().unwrap_or_default().trim().to_owned();
    }
    if let Some(action) = text.split("Action=").nth(1) {
        return action.split('&').next().unwrap_or_default().trim().to_owned();
    }
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // Vault's clients write with either, and Vault makes no difference.
    let method = if method == "PUT" { "POST" } else { method };
    let path = path.split('?').next().unwrap_or_default();
    let unique = regex_lite::Regex::new("-[0-9a-f]{12}").expect("pattern");
    format!("{method} {}", unique.replace_all(path, "-…"))
}

#[test]
fn an_effect_needs_an_intent_without_an_outcome() {
    let state = tempfile::tempdir().expect("folder");
    let run = state.path().join("runs/run");
    std::fs::create_dir_all(&run).expect("folder");
    let shared = Shared {
        upstream: String::new(),
        aim: None,
        breaker: None,
        journals: OnceLock::from(state.path().to_owned()),
        seen: Mutex::default(),
        unrecorded: Mutex::default(),
    };
    let mut lines = vec!["{\"type\":\"opened\"}"];
    let mut is_intended = |line: &'static str, what| {
        lines.push(line);
        let mut file = std::fs::File::create(run.join("journal.jsonl")).expect("journal");
        std::io::Write::write_all(&mut file, lines.join("\n").as_bytes()).expect("journal");
        shared.is_intended(journaled(what).expect("an effect"))
    };
    assert!(!is_intended("{\"type\":\"entered\"}", "CreateAccessKey"));
    assert!(!is_intended(
        "{\"type\":\"intent\",\"step\":\"prepare/c/inspect\",\"op\":\"do\"}",
        "CreateAccessKey"
    ));
    assert!(is_intended(
        "{\"type\":\"intent\",\"step\":\"prepare/c/issue\",\"op\":\"do\"}",
        "CreateAccessKey"
    ));
    assert!(!is_intended("{\"type\":\"noted\"}", "DeleteAccessKey"), "it is to be made, not deleted");
    assert!(!is_intended(
        "{\"type\":\"outcome\",\"step\":\"prepare/c/issue\",\"op\":\"do\"}",
        "CreateAccessKey"
    ));
}
