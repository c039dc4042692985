//! Many Vault tokens in one run, beside a bare client that sends the same requests and a script of 16
//! threads that sends the seven that suffice.
//!
//! `cargo bench --bench fleet` starts `vault` or `bao` from the path; with `STANCH_TEST_VAULT_ADDR` and
//! `STANCH_TEST_VAULT_TOKEN` (root's) it uses that server instead, and without TLS only.
//! `-- --tokens N` takes another number than 100.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures this machine's real time, and writes scratch files"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

#[path = "measure/vault.rs"]
mod vault;

use vault::{Error, Server};

const TOKENS: usize = 100;
/// As many as stanch's own `limits.concurrency`.
const AT_ONCE: usize = 16;
/// How often each part is repeated; the best time counts, since whatever else the machine does can
/// only add to it.
const REPEATS: usize = 3;

/// The seven requests that suffice, each on a connection of its own, as scripts do.
const SCRIPT: &str = r#"
import concurrent.futures, json, ssl, sys, urllib.request
address, token, ca, paths = sys.argv[1], sys.stdin.readline().strip(), sys.argv[2], sys.argv[3:]
context = ssl.create_default_context(cafile=ca) if ca else None
def call(method, path, body=None, token=token):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{address}/v1/{path}", data, {"X-Vault-Token": token}, method=method)
    try:
        with urllib.request.urlopen(request, context=context) as reply: return json.loads(reply.read() or "{}")
    except urllib.error.HTTPError as error: return {"status": error.code}
def rotate(path):
    secret = call("GET", f"secret/data/{path}")["data"]
    old = call("POST", "auth/token/lookup", {"token": secret["data"]["token"]})["data"]["accessor"]
    new = call("POST", "auth/token/create/fleet", {"policies": ["fleet"], "ttl": "1h"})["auth"]["client_token"]
    assert "data" in call("GET", "auth/token/lookup-self", token=new)
    data = {"data": {**secret["data"], "token": new}, "options": {"cas": secret["metadata"]["version"]}}
    assert "data" in call("POST", f"secret/data/{path}", data)
    call("POST", "auth/token/revoke-accessor", {"accessor": old})
    assert call("GET", "auth/token/lookup-self", token=secret["data"]["token"])["status"] == 403
with concurrent.futures.ThreadPoolExecutor(16) as pool: list(pool.map(rotate, paths))
"#;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count = args.iter().position(|a| a == "--tokens").and_then(|at| args.get(at + 1));
    let count = count.map_or(Ok(TOKENS), |n| n.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{count} tokens, {} cores, best of {REPEATS}", std::thread::available_parallelism()?);
    for tls in [false, true] {
        let Some(server) = Server::start(tls)? else { continue };
        runtime.block_on(table(&server, count))?;
    }
    Ok(())
}

async fn table(server: &Server, count: usize) -> Result<(), Error> {
    let program = server.program.as_deref().and_then(Path::file_name).unwrap_or_default();
    println!("\n{} {}", program.display(), if server.ca.is_some() { "over TLS" } else { "without TLS" });
    let fleet = Fleet::new(server, count)?;
    fleet.set_up().await?;
    let mut sent = None;
    if server.ca.is_none() {
        let counter = Counter::start(server.address.trim_start_matches("http://")).await?;
        fleet.fill().await?;
        fleet.stanch(&counter.address)?;
        let seen = counter.seen.lock().expect("the counter").clone();
        let all: usize = seen.values().sum();
        for (request, times) in &seen {
            println!("  {request:<40} {:>8.2} a token", *times as f64 / count as f64);
        }
        row("requests a token", &format!("{:.1}", all as f64 / count as f64), "<= 12");
        println!(
            "  connections, all told                    {:>8}",
            *counter.opened.lock().expect("the counter")
        );
        sent = Some(seen);
    }
    let sent = sent.unwrap_or_else(|| SENT.lock().expect("the counts").clone());
    SENT.lock().expect("the counts").clone_from(&sent);
    let (mut own, mut bare, mut script) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        fleet.fill().await?;
        let start = Instant::now();
        fleet.stanch(&server.address)?;
        own.push(start.elapsed());
        fleet.fill().await?;
        let start = Instant::now();
        fleet.bare(&sent).await?;
        bare.push(start.elapsed());
        fleet.fill().await?;
        let start = Instant::now();
        fleet.script()?;
        script.push(start.elapsed());
    }
    let best = |times: &[Duration]| times.iter().min().map_or(f64::NAN, Duration::as_secs_f64);
    let (own, bare, script) = (best(&own), best(&bare), best(&script));
    let rate = |seconds: f64| format!("{:.0} tokens/s", count as f64 / seconds);
    row("stanch run", &rate(own), "");
    row("a bare client, the same requests", &rate(bare), "");
    row("a script of 16 threads, 7 requests", &rate(script), "");
    row("stanch beside the bare client", &format!("{:.2}", bare / own), ">= 0.9");
    row("stanch beside the script", &format!("{:.2}", script / own), ">= 2.5");
    Ok(())
}

/// What stanch sent without TLS: over TLS it cannot be read on the way.
static SENT: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn row(figure: &str, measured: &str, goal: &str) {
    println!("{figure:<40} {measured:>16}   {goal}");
}

/// The tokens, and what rotates them.
struct Fleet<'a> {
    server: &'a Server,
    http: reqwest::Client,
    paths: Vec<String>,
}

impl<'a> Fleet<'a> {
    fn new(server: &'a Server, count: usize) -> Result<Self, Error> {
        let mut http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
        let roots = match &server.ca {
            Some(ca) => reqwest::Certificate::from_pem_bundle(&fs::read(ca)?)?,
            None => Vec::new(),
        };
        http = http.tls_certs_only(roots);
        let paths = (0..count).map(|n| format!("fleet/{n}")).collect();
        Ok(Self { server, http: http.build()?, paths })
    }

    /// One request as root, or with another token. `None` where it is refused.
    async fn call(&self, method: &str, path: &str, body: Value, token: &str) -> Result<Option<Value>, Error> {
        let request = self
            .http
            .request(method.parse()?, format!("{}/v1/{path}", self.server.address))
            .header("x-vault-token", token)
            .body(if body.is_null() { String::new() } else { body.to_string() });
        let reply = request.send().await?;
        if !reply.status().is_success() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&reply.bytes().await?).unwrap_or_default()))
    }

    async fn root(&self, method: &str, path: &str, body: Value) -> Result<Value, Error> {
        let reply = self.call(method, path, body, &self.server.token).await?;
        reply.ok_or_else(|| format!("{method} {path} was refused").into())
    }

    async fn set_up(&self) -> Result<(), Error> {
        let rules = json!({ "policy": "path \"secret/data/fleet/*\" { capabilities = [\"read\"] }" });
        self.root("PUT", "sys/policies/acl/fleet", rules).await?;
        let role = json!({ "allowed_policies": "fleet", "orphan": true, "token_explicit_max_ttl": "1h" });
        self.root("POST", "auth/token/roles/fleet", role).await?;
        Ok(())
    }

    /// New tokens in new secrets.
    async fn fill(&self) -> Result<(), Error> {
        for path in &self.paths {
            let body = json!({ "policies": ["fleet"], "ttl": "1h" });
            let made = self.root("POST", "auth/token/create/fleet", body).await?;
            // Without its history every part finds the same.
            self.call("DELETE", &format!("secret/metadata/{path}"), Value::Null, &self.server.token).await?;
            let data = json!({ "data": { "token": made["auth"]["client_token"], "kept": 1 } });
            self.root("POST", &format!("secret/data/{path}"), data).await?;
        }
        Ok(())
    }

    /// The tool, as it is typed.
    fn stanch(&self, address: &str) -> Result<(), Error> {
        let mut book = String::from(
            "version: 1\nname: fleet\nsummary: Rotates a fleet.\nseverity: low\nenvironments: {bench: {}}\n\
             connections:\n  vault: {type: vault}\n\
             phases:\n  verify: {times: 1, every: 0s}\n  proof: {times: 1, every: 0s}\n  overlap: {at_least: 0s}\n  \
             sunset: {at_least: 0s}\ncredentials:\n",
        );
        for (n, path) in self.paths.iter().enumerate() {
            write!(
                book,
                "  t{n}:\n    issuer: {{type: vault-token, connection: vault, role: fleet, policies: [fleet], ttl: 1h}}\n    \
                 scope: {{max_ttl: 1h, policies: [fleet]}}\n    \
                 stores: [{{type: kv2, connection: vault, mount: secret, path: {path}, field: token}}]\n",
            )?;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fleet");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("fleet.yaml"), book)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanch"));
        command
            .args(["run", "fleet.yaml", "--env", "bench", "--yes", "--reason", "bench"])
            .current_dir(&folder);
        command.env("STANCH_STATE", folder.join("state")).env("VAULT_ADDR", address);
        command.env("VAULT_TOKEN", &self.server.token).env("HOME", self.server.folder.path());
        if let Some(ca) = &self.server.ca {
            command.env("VAULT_CACERT", ca);
        }
        vault::run(&mut command)
    }

    /// The same requests, of each sort as many, without a plan, a journal, or a wait.
    async fn bare(&self, sent: &BTreeMap<String, usize>) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut work = JoinSet::new();
        let times = |request: &str| {
            let all: usize = sent.iter().filter(|(name, _)| name.starts_with(request)).map(|(_, n)| n).sum();
            // A part of a request is one, so that nothing is left out.
            all.div_ceil(self.paths.len())
        };
        let counts = [
            times("GET secret/data"),
            times("GET secret/metadata"),
            times("POST auth/token/lookup "),
            times("POST auth/token/lookup-accessor"),
            times("GET auth/token/lookup-self"),
        ];
        for path in self.paths.clone() {
            let (places, this) = (
                Arc::clone(&places),
                Fleet { server: self.server, http: self.http.clone(), paths: Vec::new() },
            );
            let (address, token, http) = (this.server.address.clone(), this.server.token.clone(), this.http);
            work.spawn(async move {
                let _place = places.acquire_owned().await;
                rotate(&http, &address, &token, &path, counts).await
            });
        }
        while let Some(done) = work.join_next().await {
            done??;
        }
        Ok(())
    }

    fn script(&self) -> Result<(), Error> {
        let ca = self.server.ca.as_deref().unwrap_or(Path::new("")).display().to_string();
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT, &self.server.address, &ca])
            .args(&self.paths)
            .stdin(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        std::io::Write::write_all(&mut &stdin, format!("{}\n", self.server.token).as_bytes())?;
        drop(stdin);
        if child.wait()?.success() { Ok(()) } else { Err("the script failed".into()) }
    }
}

async fn rotate(
    http: &reqwest::Client,
    address: &str,
    root: &str,
    path: &str,
    [reads, metas, lookups, accessors, selves]: [usize; 5],
) -> Result<(), Error> {
    let call = |method: &'static str, path: String, body: Value, token: String| async move {
        let request =
            http.request(method.parse()?, format!("{address}/v1/{path}")).header("x-vault-token", token);
        let reply =
            request.body(if body.is_null() { String::new() } else { body.to_string() }).send().await?;
        Ok::<Value, Error>(serde_json::from_slice(&reply.bytes().await?).unwrap_or_default())
    };
    let (data, meta) = (format!("secret/data/{path}"), format!("secret/metadata/{path}"));
    let root = || root.to_owned();
    let mut secret = Value::Null;
    for _ in 0..reads.max(1) {
        secret = call("GET", data.clone(), Value::Null, root()).await?;
    }
    for _ in 0..metas {
        call("GET", meta.clone(), Value::Null, root()).await?;
    }
    let old = secret["data"]["data"]["token"].as_str().ok_or("no token")?.to_owned();
    let mut known = Value::Null;
    for _ in 0..lookups.max(1) {
        known = call("POST", "auth/token/lookup".into(), json!({ "token": old }), root()).await?;
    }
    let accessor = known["data"]["accessor"].clone();
    let body = json!({ "policies": ["fleet"], "ttl": "1h" });
    let made = call("POST", "auth/token/create/fleet".into(), body, root()).await?;
    let new = made["auth"]["client_token"].as_str().ok_or("no new token")?.to_owned();
    for _ in 0..accessors {
        let body = json!({ "accessor": made["auth"]["accessor"] });
        call("POST", "auth/token/lookup-accessor".into(), body, root()).await?;
    }
    let body = json!({ "data": { "token": new, "kept": 1 }, "options": { "cas": secret["data"]["metadata"]["version"] } });
    call("POST", data, body, root()).await?;
    call("POST", "auth/token/revoke-accessor".into(), json!({ "accessor": accessor }), root()).await?;
    for n in 0..selves {
        call(
            "GET",
            "auth/token/lookup-self".into(),
            Value::Null,
            if n == 0 { old.clone() } else { new.clone() },
        )
        .await?;
    }
    Ok(())
}

/// Stands before the server and counts what passes, by its sort.
struct Counter {
    address: String,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    opened: Arc<Mutex<usize>>,
}

impl Counter {
    async fn start(server: &str) -> Result<Self, Error> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let (seen, opened) =
            (Arc::<Mutex<BTreeMap<String, usize>>>::default(), Arc::<Mutex<usize>>::default());
        let (counts, connections, server) = (Arc::clone(&seen), Arc::clone(&opened), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *connections.lock().expect("the counter") += 1;
                let (counts, server) = (Arc::clone(&counts), server.clone());
                tokio::spawn(async move {
                    let Ok(upstream) = TcpStream::connect(server).await else { return };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = upstream.into_split();
                    let back =
                        tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                    let mut bytes = vec![0; 0x10000];
                    while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                        note(&bytes[..read], &counts);
                        if to_server.write_all(&bytes[..read]).await.is_err() {
                            break;
                        }
                    }
                    let _ = to_server.shutdown().await;
                    let _ = back.await;
                });
            }
        });
        Ok(Self { address, seen, opened })
    }
}

/// A request begins with its line, and one write of a client's holds one request's head.
fn note(bytes: &[u8], counts: &Mutex<BTreeMap<String, usize>>) {
    let text = String::from_utf8_lossy(bytes);
    let Some((line, _)) = text.split_once(" HTTP/1.1\r\n") else { return };
    let Some((method, path)) = line.split_once(" /v1/") else { return };
    let path = path.split('?').next().unwrap_or_default();
    let sort =
        path.split_once("/fleet/").filter(|(_, rest)| !rest.is_empty()).map_or(path, |(start, _)| start);
    *counts.lock().expect("the counter").entry(format!("{method} {sort} ")).or_default() += 1;
}
