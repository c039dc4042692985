//! Many leaked Vault tokens at once, by `stanch revoke vault-token --handles FILE`, beside a bare client that sends the same
//! requests at its best concurrency; and how many round trips pass from the command to the revocation of one token.
//!
//! `cargo bench --bench bulk` starts `vault` or `bao` from the path; with `STANCH_TEST_VAULT_ADDR` and
//! `STANCH_TEST_VAULT_TOKEN` (root's) it uses that server instead. `-- --tokens N` takes another number than 10,000.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures this machine's real time, and writes scratch files"
)]

#[path = "measure/link.rs"]
mod link;
#[expect(dead_code, reason = "others of the benchmarks type its commands, over TLS as well")]
#[path = "measure/vault.rs"]
mod vault;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use vault::{Error, Server};

const TOKENS: usize = 10_000;
/// In the run whose requests are counted: each token's are alike.
const COUNTED: usize = 500;
/// How often each part is repeated; the best time counts, since whatever else the machine does can only add to it.
const REPEATS: usize = 3;
/// What the bare client tries, to find its best.
const AT_ONCE: [usize; 4] = [8, 16, 32, 64];
/// How many calls stanch makes at once.
const OWN_AT_ONCE: &str = "16";
/// How long the slow link takes there and back.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const LOOKUP: &str = "auth/token/lookup-accessor";
const REVOKE: &str = "auth/token/revoke-accessor";

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let count = option("--tokens").map_or(Ok(TOKENS), |n| n.parse())?;
    let Some(server) = Server::start(false)? else { return Ok(()) };
    let http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(60)).build()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bulk");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Bulk { server, http, folder }.table(count))
}

fn row(figure: &str, measured: &str, goal: &str) {
    println!("{figure:<48} {measured:>16}   {goal}");
}

struct Bulk {
    server: Server,
    http: reqwest::Client,
    folder: PathBuf,
}

impl Bulk {
    async fn table(&self, count: usize) -> Result<(), Error> {
        println!("{count} tokens, {} cores, best of {REPEATS}", std::thread::available_parallelism()?);
        let counts = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let sees = Arc::clone(&counts);
        let link = link::start(&self.server.address, Duration::ZERO, move |line| {
            *sees.lock().expect("the counts").entry(line.replace("/v1/", "")).or_default() += 1;
        })?;
        let accessors = self.fill(COUNTED.min(count)).await?;
        self.stanch(&link, &accessors)?;
        let sent = counts.lock().expect("the counts").clone();
        for (request, times) in sent.iter().filter(|(_, times)| **times >= accessors.len()) {
            println!("  {request:<44} {:>8.2} a token", *times as f64 / accessors.len() as f64);
        }
        let all: usize = sent.values().sum();
        row("requests a token", &format!("{:.1}", all as f64 / accessors.len() as f64), "");
        let lookups = of(&sent, LOOKUP).div_ceil(accessors.len());

        let (mut own, mut bare) = (Vec::new(), BTreeMap::<usize, Vec<Duration>>::new());
        for _ in 0..REPEATS {
            let accessors = self.fill(count).await?;
            let start = Instant::now();
            self.stanch(&self.server.address, &accessors)?;
            own.push(start.elapsed());
            for at_once in AT_ONCE {
                let accessors = self.fill(count).await?;
                let start = Instant::now();
                self.bare(&accessors, lookups, at_once).await?;
                bare.entry(at_once).or_default().push(start.elapsed());
            }
        }
        let best = |times: &Vec<Duration>| times.iter().min().map_or(f64::NAN, Duration::as_secs_f64);
        let own = best(&own);
        let rate = |seconds: f64| format!("{:.0} tokens/s", count as f64 / seconds);
        row(&format!("stanch revoke, {OWN_AT_ONCE} at once"), &rate(own), "");
        let mut fastest = f64::INFINITY;
        for (at_once, times) in &bare {
            row(&format!("a bare client, the same requests, {at_once} at once"), &rate(best(times)), "");
            fastest = fastest.min(best(times));
        }
        row("stanch beside the bare client at its best", &format!("{:.2}", fastest / own), ">= 0.9");

        println!("\none token, behind a link of {} ms a round trip", ROUND_TRIP.as_millis());
        let mut trips = f64::INFINITY;
        for _ in 0..REPEATS {
            let killed = Arc::<Mutex<Option<Instant>>>::default();
            let sees = Arc::clone(&killed);
            let link = link::start(&self.server.address, ROUND_TRIP, move |line| {
                if line.ends_with(REVOKE) {
                    sees.lock().expect("the link").get_or_insert_with(Instant::now);
                }
            })?;
            let accessors = self.fill(1).await?;
            let start = Instant::now();
            self.stanch(&link, &accessors)?;
            let killed = killed.lock().expect("the link").ok_or("nothing was revoked")?;
            trips = trips.min((killed - start).as_secs_f64() / ROUND_TRIP.as_secs_f64());
        }
        row("round trips from the command to the revocation", &format!("{trips:.1}"), "<= 2.15");
        Ok(())
    }

    async fn call(&self, path: &str, body: Value) -> Result<Value, Error> {
        call(&self.http, &self.server.address, &self.server.token, path, body).await
    }

    /// New tokens; their accessors.
    async fn fill(&self, count: usize) -> Result<Vec<String>, Error> {
        let mut accessors = Vec::with_capacity(count);
        for _ in 0..count {
            let made = self
                .call("auth/token/create-orphan", json!({ "policies": ["default"], "ttl": "1h" }))
                .await?;
            accessors.push(made["auth"]["accessor"].as_str().ok_or("no accessor")?.to_owned());
        }
        Ok(accessors)
    }

    /// The tool, as it is typed.
    fn stanch(&self, address: &str, accessors: &[String]) -> Result<(), Error> {
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("leaked"), accessors.join("\n"))?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanch"));
        command
            .args(["revoke", "vault-token", "--handles", "leaked", "--yes", "--reason", "bench"])
            .args(["--concurrency", OWN_AT_ONCE])
            .current_dir(&self.folder);
        command.env("STANCH_STATE", self.folder.join("state")).env("VAULT_ADDR", address);
        command.env("VAULT_TOKEN", &self.server.token).env("HOME", self.server.folder.path());
        vault::run(&mut command)
    }

    /// The same requests of each token, without a plan, a journal, or a wait.
    async fn bare(&self, accessors: &[String], lookups: usize, at_once: usize) -> Result<(), Error> {
        let mut work = JoinSet::new();
        for part in 0..at_once {
            let mine: Vec<String> = accessors.iter().skip(part).step_by(at_once).cloned().collect();
            let (http, address, token) =
                (self.http.clone(), self.server.address.clone(), self.server.token.clone());
            work.spawn(async move {
                for accessor in mine {
                    let body = json!({ "accessor": accessor });
                    for nth in 0..lookups {
                        call(&http, &address, &token, LOOKUP, body.clone()).await?;
                        if nth == 0 {
                            call(&http, &address, &token, REVOKE, body.clone()).await?;
                        }
                    }
                }
                Ok::<(), Error>(())
            });
        }
        while let Some(done) = work.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// How often a request was sent.
fn of(sent: &BTreeMap<String, usize>, path: &str) -> usize {
    sent.iter().filter(|(request, _)| request.ends_with(path)).map(|(_, times)| times).sum()
}

async fn call(
    http: &reqwest::Client,
    address: &str,
    token: &str,
    path: &str,
    body: Value,
) -> Result<Value, Error> {
    let request =
        http.post(format!("{address}/v1/{path}")).header("x-vault-token", token).body(body.to_string());
    Ok(serde_json::from_slice(&request.send().await?.bytes().await?).unwrap_or_default())
}
