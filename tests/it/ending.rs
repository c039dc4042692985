//! What a run says and does when an authority, a consumer or a store is not as its steps left it: on files, with an
//! authority made of programs.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::path::PathBuf;

use crate::tool::{Ran, Tool};

pub(crate) const OLD: &str = "old-value-0123456789";

/// A generated value in a file, an authority that knows values by their digest, and a consumer that attests what the
/// file `web` says.
pub(crate) struct World {
    pub(crate) tool: Tool,
}

impl World {
    /// The authority accepts the old value. `format` is the store's, with its key.
    fn new(format: &str) -> Self {
        let world = Self { tool: Tool::new() };
        world.script("apply", "echo $h >> live\n");
        world.script("revoke", "grep -v $h live > left; mv left live\n");
        world.script("check", "grep -q $h live\n");
        world.put("live", "");
        world.put("digest", "printf %s \"$1\" | sha256sum | cut -d' ' -f1\n");
        let digest = world.digest(OLD);
        world.put("live", &format!("{digest}\n"));
        world.put("web", &format!("{digest}\n"));
        let folder = world.tool.folder.path().display().to_string();
        world.tool.runbook(&format!(
            "version: 1\nname: t\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    \
             issuer: {{ type: random, apply: {{ exec: [sh, {folder}/apply] }}, revoke: {{ exec: [sh, {folder}/revoke] }} }}\n    \
             stores: [{{ type: file, path: {folder}/store, format: {format} }}]\n    \
             consumers: [{{ name: web, reload: {{ exec: [sh, {folder}/reload] }}, attest: {{ exec: {{ argv: [cat, {folder}/web] }} }} }}]\n    \
             accepts: [{{ exec: [sh, {folder}/check] }}]\n\
             phases:\n  verify: {{ times: 1, every: 10ms, at_most: 1s }}\n  proof: {{ times: 1, every: 10ms, at_most: 10s }}\n"
        ));
        world
    }

    /// A dotenv file; what `reload` does is that the consumer uses what is there.
    pub(crate) fn dotenv() -> Self {
        let world = Self::new("dotenv, key: PW");
        world.put("store", &format!("A=1\nPW={OLD}\nB=2\n"));
        world.script("reload", ". ./store; h=$(sh digest \"$PW\"); echo $h > web\n");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.tool.folder.path().join(name)
    }

    pub(crate) fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("read")
    }

    /// A program that finds the digest of the value that it gets in `h`.
    pub(crate) fn script(&self, name: &str, act: &str) {
        let folder = self.tool.folder.path().display();
        self.put(name, &format!("cd {folder}; h=$(sh digest \"$(cat)\")\n{act}"));
    }

    pub(crate) fn digest(&self, value: &str) -> String {
        let ran = std::process::Command::new("sh").arg(self.path("digest")).arg(value).output().expect("sh");
        String::from_utf8(ran.stdout).expect("text").trim().to_owned()
    }

    /// Changes the runbook.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = self.text("runbook.yaml");
        assert!(text.contains(from), "{text}");
        self.put("runbook.yaml", &text.replace(from, to));
    }

    pub(crate) fn run(&self) -> Ran {
        let path = self.path("runbook.yaml").display().to_string();
        self.tool.run(&["run", &path, "--env", "test", "--yes", "--reason", "a test"])
    }

    fn live(&self) -> usize {
        self.text("live").lines().count()
    }
}

#[test]
fn a_quiet_world_ends_done() {
    let world = World::dotenv();
    let ran = world.run().expect(0);
    assert!(ran.stdout.contains("used by 1 of 1"), "{ran:?}");
    assert_eq!(world.live(), 1);
}

/// A script whose last line fails has done the lines before it.
#[test]
fn a_program_that_did_its_work_and_failed_is_not_taken_for_one_that_did_nothing() {
    let world = World::dotenv();
    world.script("apply", "echo $h >> live; exit 1\n");
    let ran = world.run().expect(11);
    assert!(!ran.stdout.contains("nothing changed") && ran.stdout.contains("stanch resolve"), "{ran:?}");
    assert_eq!(world.live(), 2);
    let run = world.tool.newest();
    let step = "prepare/pw/issue";
    world.tool.run(&["resolve", &run, step, "--as", "applied", "--evidence", "it is in the list"]).expect(0);
    world.tool.run(&["resume"]).expect(0);
    assert_eq!(world.live(), 1);

    // What a person found to be in force goes with the rollback.
    let world = World::dotenv();
    world.script("apply", "echo $h >> live; exit 1\n");
    world.run().expect(11);
    world
        .tool
        .run(&["resolve", &world.tool.newest(), step, "--as", "applied", "--evidence", "seen"])
        .expect(0);
    world.tool.run(&["rollback", "--yes"]).expect(0);
    assert_eq!(world.live(), 1);

    // The statuses that say so changed nothing.
    let world = World::dotenv();
    world.script("apply", "exit 77\n");
    world.run().expect(1);
    assert_eq!(world.live(), 1);
}

/// A custom step that has something to take back may have done it before it failed; one that has not only says no.
#[test]
fn a_custom_step_that_failed_is_taken_back() {
    let told = |undo: &str| {
        let world = World::dotenv();
        let folder = world.tool.folder.path().display().to_string();
        let undo = undo.replace("FOLDER", &folder);
        let exec = format!("[sh, -c, \"touch {folder}/told; exit 1\"]");
        let phase =
            format!("phases:\n  cutover: {{ before: [{{ name: tell, exec: {exec}, undo: {undo} }}] }}");
        world.edit("phases:", &phase);
        world
    };
    let world = told("{ exec: [rm, FOLDER/told] }");
    world.run().expect(11);
    let run = world.tool.newest();
    world.tool.run(&["resolve", &run, "cutover/own/tell", "--as", "applied", "--evidence", "seen"]).expect(0);
    world.tool.run(&["rollback", "--yes"]).expect(0);
    assert!(!world.path("told").exists(), "it was taken back");
    let world = told("none");
    world.run().expect(10);
}

#[test]
fn nothing_to_revoke_is_not_said_of_what_its_issuer_knows() {
    let world = World::dotenv();
    let path = world.path("runbook.yaml").display().to_string();
    let ran = world
        .tool
        .run(&["plan", &path, "--env", "test", "--nothing-to-revoke", "--reason", "dead"])
        .expect(2);
    assert!(ran.stderr.contains("the issuer knows the old pw"), "{ran:?}");
}

#[test]
fn a_run_is_not_done_while_a_consumer_fell_back() {
    let world = World::dotenv();
    let old = world.text("web");
    world.script("revoke", &format!("grep -v $h live > left; mv left live; echo {} > web\n", old.trim()));
    let ran = world.run().expect(10);
    assert!(ran.stdout.contains("use another value than the new credential: pw/web"), "{ran:?}");
    assert!(ran.stdout.contains("used by 0 of 1"), "{ran:?}");
    let check = world.tool.run(&["status", "--check"]);
    assert!(check.stdout.contains("used by 0 of 1"), "{check:?}");
    // The consumer is restarted.
    let new = world.text("store").lines().find_map(|l| l.strip_prefix("PW=").map(str::to_owned)).expect("PW");
    let digest = world.digest(new.trim_matches('\''));
    world.put("web", &format!("{digest}\n"));
    let ran = world.tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("used by 1 of 1"), "{ran:?}");
}

#[test]
fn a_run_is_not_done_while_a_check_lets_the_old_one_in_again() {
    let world = World::dotenv();
    let (folder, old) = (world.tool.folder.path().display().to_string(), world.text("live"));
    let step = format!(
        "proof: {{ after: [{{ name: open, exec: [sh, -c, \"echo {} >> {folder}/live\"], undo: none }}], times: 1,",
        old.trim()
    );
    world.edit("proof: { times: 1,", &step);
    let ran = world.run().expect(10);
    assert!(ran.stdout.contains("the old credential is not dead: pw"), "{ran:?}");
    assert!(ran.stdout.contains("old still accepted"), "{ran:?}");
    let check = world.tool.run(&["status", "--check"]);
    assert!(
        check.stdout.contains("old still accepted") && !check.stdout.contains("stayed usable"),
        "{check:?}"
    );
    world.tool.run(&["resume"]).expect(10);
    let left: Vec<String> =
        world.text("live").lines().filter(|l| *l != old.trim()).map(str::to_owned).collect();
    world.put("live", &format!("{}\n", left.join("\n")));
    let ran = world.tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
}

/// The place of the new value is removed after the revocation: stanch has the only copy of it.
#[test]
fn what_only_stanch_has_is_written_where_the_place_is_gone() {
    let cases = [
        ("dotenv, key: PW", "A=1\nPW=OLD\nB=2\n", "A=1\nB=2", "A=1\nB=2\nPW='"),
        (
            "json, key: /db/pw",
            "{\"db\":{\"pw\":\"OLD\",\"n\":1.10}}",
            "{\"db\":{\"n\":1.10}}",
            "{\"db\":{\"pw\": \"",
        ),
        ("yaml, key: pw", "a: 1\npw: OLD\n", "a: 1\n", "a: 1\n\"pw\": '"),
    ];
    for (format, before, gone, wanted) in cases {
        let world = World::new(format);
        world.put("store", &before.replace("OLD", OLD));
        world.edit("consumers: ", "# ");
        let gone = gone.replace('\n', "\\n").replace('"', "\\\"");
        world.script("revoke", &format!("grep -v $h live > left; mv left live; printf \"{gone}\" > store\n"));
        let ran = world.run().expect(10);
        assert!(ran.stdout.contains("--rewrite pw"), "{format}: {ran:?}");
        world.tool.run(&["resume", "--rewrite", "pw"]).expect(0);
        assert!(world.text("store").starts_with(wanted), "{format}: {}", world.text("store"));
    }
}

#[test]
fn a_file_that_is_gone_is_made_again_by_a_person_first() {
    let world = World::dotenv();
    world.edit("consumers: ", "# ");
    world.script("revoke", "grep -v $h live > left; mv left live; rm store\n");
    world.run().expect(10);
    let ran = world.tool.run(&["resume", "--rewrite", "pw"]).expect(10);
    let hint = "make the file again, with its owner and mode";
    assert!(ran.stdout.contains(hint) || ran.stderr.contains(hint), "{ran:?}");
    world.put("store", "");
    world.tool.run(&["resume", "--rewrite", "pw"]).expect(0);
    assert!(world.text("store").starts_with("PW='"));
}

/// Others write the old value back, and writing the new one again fails: the consumers, which still use the new one, are told
/// to leave it before the rollback revokes it.
#[test]
fn a_rollback_after_a_failed_rewrite_leaves_no_consumer_with_a_dead_credential() {
    let world = World::dotenv();
    let path = world.path("runbook.yaml").display().to_string();
    let run = ["run", &path, "--env", "test", "--yes", "--reason", "a test", "--until", "overlap"];
    world.tool.run(&run).expect(0);
    assert_ne!(world.text("web").trim(), world.digest(OLD), "the consumer moved");
    world.put("store", "PW=one\nPW=two\n");
    world.tool.run(&["resume", "--rewrite", "pw"]).expect(10);
    world.put("store", &format!("A=1\nPW={OLD}\nB=2\n"));
    world.tool.run(&["rollback", "--yes"]).expect(0);
    assert_eq!(world.text("web").trim(), world.digest(OLD), "the consumer is back");
    assert_eq!(world.text("live").trim(), world.digest(OLD), "and the new one is dead");
}

/// `at_most` bounds the phase, however long an answer takes.
#[test]
fn a_check_that_hangs_does_not_outlast_its_phase() {
    let world = World::dotenv();
    let old = world.text("live");
    world.script("check", &format!("[ $h = {} ] || sleep 60; grep -q $h live\n", old.trim()));
    let ran = world.run().expect(10);
    assert!(ran.stdout.contains("no answer in time"), "{ran:?}");
    let events = world.tool.run(&["audit", "show", "--json"]).expect(0).stdout;
    let longest = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let longest = longest.filter_map(|event| find(&event, "latency_ms")).max();
    assert!(longest.is_some_and(|ms| ms < 15_000), "{longest:?} ms, where an answer may take 30 s");
}

fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get(name)
            .and_then(serde_json::Value::as_u64)
            .or_else(|| fields.values().find_map(|v| find(v, name))),
        _ => None,
    }
}

/// Under `contain` no gate waits for consumers: one that is down after its reload keeps the run open.
#[test]
fn a_run_is_not_done_while_a_consumer_is_silent() {
    let world = World::dotenv();
    world.script("reload", "mv web gone\n");
    let path = world.path("runbook.yaml").display().to_string();
    let contain = ["run", &path, "--env", "test", "--yes", "--reason", "a test", "--strategy", "contain"];
    let ran = world.tool.run(&[&contain[..], &["--no-wait"]].concat()).expect(10);
    assert!(ran.stdout.contains("did not say which value they use: pw/web"), "{ran:?}");
    assert_eq!(world.live(), 1, "the old value is dead all the same");
    let new = world.text("store").lines().find_map(|l| l.strip_prefix("PW=").map(str::to_owned)).expect("PW");
    world.put("web", &format!("{}\n", world.digest(new.trim_matches('\''))));
    let ran = world.tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("used by 1 of 1"), "{ran:?}");
}

/// A gate that cannot answer does not lock a run for good; one that says no does.
#[test]
fn a_person_may_vouch_for_a_gate_that_gives_no_verdict() {
    let world = World::dotenv();
    // It answers before the run begins, and never again.
    world.put(
        "gate",
        &format!("cd {}; [ -e asked ] && exit 3; touch asked\n", world.tool.folder.path().display()),
    );
    let gate = world.path("gate").display().to_string();
    world.edit(
        "phases:",
        &format!(
            "gates: {{ healthy: {{ exec: {{ argv: [sh, {gate}], every: 100ms }} }} }}\nphases:\n  \
             sunset: {{ until: [healthy], at_most: 1s, at_least: 0s }}"
        ),
    );
    let ran = world.run().expect(13);
    let run = world.tool.newest();
    let vouch = ["resolve", &run, "healthy", "--as", "passed", "--evidence", "the dashboard is green"];
    assert!(ran.stdout.contains(&format!("stanch resolve {run} healthy --as passed")), "{ran:?}");
    let refused =
        world.tool.run(&["resolve", &run, "other", "--as", "passed", "--evidence", "seen"]).expect(2);
    assert!(refused.stderr.contains("does not wait for a gate `other`"), "{refused:?}");
    world.tool.run(&vouch).expect(0);
    let status = world.tool.run(&["status"]);
    assert!(status.stdout.contains("gate healthy: passed on a person's word"), "{status:?}");
    let ran = world.tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
    assert!(ran.stdout.contains("gate healthy passed in sunset on a person's word"), "{ran:?}");
    world.tool.run(&vouch).expect(2);
    let shown = world.tool.run(&["audit", "show"]).expect(0);
    assert!(shown.stdout.contains("the dashboard is green"), "{shown:?}");
}

/// A person's word does not stand for a gate that says no: it is asked once more first.
#[test]
fn a_gate_that_fails_after_all_is_not_vouched_away() {
    let world = World::dotenv();
    world.put(
        "gate",
        &format!(
            "cd {}; [ -e no ] && exit 1; [ -e asked ] && exit 3; touch asked\n",
            world.tool.folder.path().display()
        ),
    );
    let gate = world.path("gate").display().to_string();
    world.edit(
        "phases:",
        &format!(
            "gates: {{ healthy: {{ exec: {{ argv: [sh, {gate}], every: 100ms }} }} }}\nphases:\n  \
             sunset: {{ until: [healthy], at_most: 1s, at_least: 0s }}"
        ),
    );
    world.run().expect(13);
    let run = world.tool.newest();
    world.put("no", "");
    world
        .tool
        .run(&["resolve", &run, "healthy", "--as", "passed", "--evidence", "monitoring is down"])
        .expect(0);
    let ran = world.tool.run(&["resume"]).expect(12);
    assert!(ran.stdout.contains("ROLLED BACK"), "{ran:?}");
    assert!(world.text("live").contains(&world.digest(OLD)), "the old value lives");
}
