//! One leaked Vault token: how many round trips `--strategy contain` takes until the old one is revoked, and
//! how long a whole run takes beside the commands that a person would type.
//!
//! `cargo bench --bench emergency` starts `vault` or `bao` from the path.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures this machine's real time, and writes scratch files"
)]

#[path = "measure/link.rs"]
mod link;
#[path = "measure/vault.rs"]
mod vault;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vault::{Error, Server};

/// How long the slow link takes there and back.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// How often each part is repeated; the best time counts.
const REPEATS: usize = 7;

fn main() -> Result<(), Error> {
    let Some(server) = Server::start(false)? else { return Ok(()) };
    let Some(program) = server.program.clone() else {
        return Err("this benchmark types commands: it starts its own server".into());
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emergency");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let bench = Bench { server, program, folder };
    bench.set_up()?;
    println!("one token, best of {REPEATS}");
    println!("\n--strategy contain, behind a link of {} ms a round trip", ROUND_TRIP.as_millis());
    for (what, goal, saved) in [("from a runbook", "<= 8", false), ("from a saved plan", "<= 6", true)] {
        let trips = best((0..3).map(|_| bench.contain(saved)))?;
        row(&format!("round trips to the kill, {what}"), &format!("{:.1}", trips.as_secs_f64()), goal);
    }
    println!("\na whole run without waits, on the machine itself");
    let own = best((0..REPEATS).map(|_| bench.run()))?;
    let by_hand = best((0..REPEATS).map(|_| bench.by_hand()))?;
    row("stanch run", &format!("{:.0} ms", own.as_secs_f64() * 1e3), "");
    row("eight commands by hand", &format!("{:.0} ms", by_hand.as_secs_f64() * 1e3), "");
    row("stanch beside the commands", &format!("{:.2}", own.as_secs_f64() / by_hand.as_secs_f64()), "<= 1.4");
    Ok(())
}

fn row(figure: &str, measured: &str, goal: &str) {
    println!("{figure:<44} {measured:>10}   {goal}");
}

fn best(times: impl Iterator<Item = Result<Duration, Error>>) -> Result<Duration, Error> {
    let times = times.collect::<Result<Vec<_>, _>>()?;
    times.into_iter().min().ok_or_else(|| "nothing was measured".into())
}

struct Bench {
    server: Server,
    program: PathBuf,
    folder: PathBuf,
}

impl Bench {
    /// A command of the server's own client, as root; what it prints, as JSON.
    fn client(&self, arguments: &[&str], input: Option<&str>) -> Result<Value, Error> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("VAULT_ADDR", &self.server.address)
            .env("VAULT_TOKEN", &self.server.token);
        command.env("BAO_ADDR", &self.server.address).env("BAO_TOKEN", &self.server.token);
        command.env("HOME", self.server.folder.path()).stderr(Stdio::piped());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{arguments:?}: {said}").into());
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn set_up(&self) -> Result<(), Error> {
        let rules = "path \"secret/data/fleet/*\" { capabilities = [\"read\"] }";
        self.client(&["policy", "write", "fleet", "-"], Some(rules))?;
        let role = json!({ "allowed_policies": "fleet", "orphan": true, "token_explicit_max_ttl": "1h" });
        self.client(&["write", "auth/token/roles/fleet", "-"], Some(&role.to_string()))?;
        fs::write(
            self.folder.join("one.yaml"),
            "version: 1\nname: one\nsummary: Rotates one token.\nseverity: low\nenvironments: {bench: {}}\n\
             connections:\n  vault: {type: vault}\n\
             phases:\n  verify: {times: 1, every: 0s}\n  proof: {times: 1, every: 0s}\n  overlap: {at_least: 0s}\n  \
             sunset: {at_least: 0s}\ncredentials:\n  \
             token:\n    issuer: {type: vault-token, connection: vault, role: fleet, policies: [fleet], ttl: 1h}\n    \
             scope: {max_ttl: 1h, policies: [fleet]}\n    \
             stores: [{type: kv2, connection: vault, mount: secret, path: fleet/one, field: token}]\n",
        )?;
        Ok(())
    }

    /// A new token in a new secret.
    fn fill(&self) -> Result<(), Error> {
        let made = self
            .client(&["token", "create", "-role=fleet", "-policy=fleet", "-ttl=1h", "-format=json"], None)?;
        let token = made["auth"]["client_token"].as_str().ok_or("no token")?;
        self.client(&["kv", "metadata", "delete", "-mount=secret", "fleet/one"], None)?;
        let data = json!({ "token": token, "kept": 1 });
        self.client(&["kv", "put", "-mount=secret", "fleet/one", "-"], Some(&data.to_string()))?;
        let _ = fs::remove_dir_all(self.folder.join("state"));
        Ok(())
    }

    fn stanch(&self, address: &str, arguments: &[&str]) -> Result<(), Error> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanch"));
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.env("STANCH_STATE", self.folder.join("state")).env("VAULT_ADDR", address);
        command.env("VAULT_TOKEN", &self.server.token).env("HOME", self.server.folder.path());
        if let Some(ca) = &self.server.ca {
            command.env("VAULT_CACERT", ca);
        }
        vault::run(&mut command)
    }

    fn run(&self) -> Result<Duration, Error> {
        self.fill()?;
        let start = Instant::now();
        self.stanch(
            &self.server.address,
            &["run", "one.yaml", "--env", "bench", "--yes", "--reason", "bench"],
        )?;
        Ok(start.elapsed())
    }

    /// What a careful person types for the same: what is it, make another, write it, read it, use it, revoke the
    /// old one, and see that it is dead.
    fn by_hand(&self) -> Result<Duration, Error> {
        self.fill()?;
        let start = Instant::now();
        let secret = self.client(&["kv", "get", "-mount=secret", "-format=json", "fleet/one"], None)?;
        let old = secret["data"]["data"]["token"].as_str().ok_or("no token")?.to_owned();
        let known = self.client(&["token", "lookup", "-format=json", &old], None)?;
        let accessor = known["data"]["accessor"].as_str().ok_or("no accessor")?;
        let made = self
            .client(&["token", "create", "-role=fleet", "-policy=fleet", "-ttl=1h", "-format=json"], None)?;
        let new = made["auth"]["client_token"].as_str().ok_or("no new token")?;
        self.client(&["token", "lookup", "-format=json", new], None)?;
        self.client(&["kv", "patch", "-mount=secret", "fleet/one", "token=-"], Some(new))?;
        self.client(&["kv", "get", "-mount=secret", "-format=json", "fleet/one"], None)?;
        self.client(&["token", "revoke", "-accessor", accessor], None)?;
        match self.client(&["token", "lookup", "-format=json", &old], None) {
            Err(_) => Ok(start.elapsed()),
            Ok(_) => Err("the old token lives".into()),
        }
    }

    /// How many round trips pass until the request that revokes arrives, as so many seconds.
    fn contain(&self, saved: bool) -> Result<Duration, Error> {
        self.fill()?;
        let killed = Arc::<Mutex<Option<Instant>>>::default();
        let sees = Arc::clone(&killed);
        let link = link::start(&self.server.address, ROUND_TRIP, move |line| {
            if line.contains("/auth/token/revoke-accessor") {
                sees.lock().expect("the link").get_or_insert_with(Instant::now);
            }
        })?;
        let run = if saved {
            self.stanch(
                &link,
                &["plan", "one.yaml", "--env", "bench", "--strategy", "contain", "-o", "saved"],
            )?;
            &["run", "saved", "--yes", "--reason", "bench"][..]
        } else {
            &["run", "one.yaml", "--env", "bench", "--strategy", "contain", "--yes", "--reason", "bench"][..]
        };
        let start = Instant::now();
        self.stanch(&link, run)?;
        let killed = killed.lock().expect("the link").ok_or("nothing was revoked")?;
        Ok(Duration::from_secs_f64((killed - start).as_secs_f64() / ROUND_TRIP.as_secs_f64()))
    }
}
