//! The ways through a run that people type, and the hints that lead there, on the sandbox and on files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stanch::journal::StateDir;
use stanch::provider::Provider as _;
use stanch::provider::sandbox::Sandbox;
use stanch::runbook::model::Credential;
use stanch::runbook::{Source, check};
use stanch::secret::{Material, Secret};

use crate::record::{Book, WHO, copy};
use crate::tool::{NOT_PROVED, Ran, Tool};
use crate::unknown;

/// One store that stages and one that cannot, and a consumer.
const SANDBOX: &str = "version: 1\nname: ways\nenvironments: { sandbox: {} }\nconnections: { world: { type: sandbox } }\n\
    credentials:\n  key:\n    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }\n    \
    scope: { max_ttl: 1h, policies: [read] }\n    stores:\n      - { type: sandbox, connection: world, path: labelled, labels: true }\n      \
    - { type: sandbox, connection: world, path: numbered, labels: false }\n    \
    consumers: [{ name: web, reload: { sandbox: {} }, attest: { sandbox: { instances: 2 } } }]\n    \
    accepts: [{ sandbox: { policy: read } }]\n\
    phases:\n  verify: { times: 1, every: 0s }\n  proof: { times: 1, every: 0s }\n";

fn begin(tool: &Tool, path: &Path, environment: &str, more: &[&str]) -> Ran {
    let mut arguments = vec!["run", path.to_str().expect("path"), "--env", environment, "--yes"];
    arguments.extend(more);
    tool.run(&arguments)
}

fn sandbox(more: &[&str], code: i32) -> Tool {
    let tool = Tool::new();
    let path = tool.runbook(SANDBOX);
    begin(&tool, &path, "sandbox", more).expect(code);
    tool
}

/// A rotation of a file with this own step at the beginning of a phase.
fn files(tool: &Tool, phase: &str, step: &str) -> PathBuf {
    let path = unknown::runbook(tool, step);
    let text = std::fs::read_to_string(path).expect("runbook");
    tool.runbook(&text.replace("  prepare:\n", &format!("  {phase}:\n")))
}

/// The same with a value that programs put in force and take out of it.
fn revoked(tool: &Tool) -> PathBuf {
    let path = files(tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(path).expect("runbook");
    let ends = "{ type: random, apply: { exec: [\"true\"] }, revoke: { exec: [\"true\"] } }";
    tool.runbook(&text.replace("{ type: random }", ends))
}

/// The commands in what the program printed, each of a line with `&&` as the parts of it.
fn commands(text: &str) -> Vec<Vec<String>> {
    let rest = text.lines().filter_map(|line| line.find("stanch ").map(|at| &line[at..]));
    let each = rest.flat_map(|line| line.split("   "));
    each.filter_map(|part| part.find("stanch ").map(|at| &part[at..]))
        .map(|command| command.split(" && ").map(|c| c.trim_end_matches(['.', ')']).to_owned()).collect())
        .collect()
}

/// Runs a command on a copy of the state folder.
fn on_copy(tool: &Tool, command: &[String]) -> Vec<Ran> {
    let folder = tempfile::tempdir().expect("folder");
    let state = folder.path().join("state");
    copy(&tool.state(), &state);
    let run = |part: &String| {
        let mut arguments: Vec<&str> =
            part.split_whitespace().skip(1).map(|word| word.trim_matches('"')).collect();
        if matches!(arguments[0], "rollback" | "abandon") {
            arguments.push("--yes");
        }
        Ran::of(tool.command(&arguments).env("STANCH_STATE", &state).output().expect("it starts"))
    };
    command.iter().map(run).collect()
}

fn is_refused(ran: &Ran) -> bool {
    matches!(ran.code, Some(2 | 21..=23)) || ran.stderr.lines().any(|line| line.starts_with("error:"))
}

/// Follows every hint of the newest run's `status`, and of the errors of the commands that it does not name.
fn walk(tool: &Tool, what: &str) -> String {
    let run = tool.newest();
    let text = tool.run(&["status", &run]).expect(0).stdout;
    let mut hints = commands(&text);
    assert!(!hints.is_empty(), "{what}: no command in:\n{text}");
    for typed in [format!("stanch resume {run}"), format!("stanch rollback {run}")] {
        for ran in on_copy(tool, &[typed]).iter().filter(|ran| is_refused(ran)) {
            let hint: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("hint: ")).collect();
            hints.extend(commands(&hint.join("\n")));
        }
    }
    hints.sort();
    hints.dedup();
    for hint in hints {
        for ran in on_copy(tool, &hint) {
            assert!(!is_refused(&ran), "{what}: `{}` is refused: {ran:?}\n{text}", hint.join(" && "));
        }
    }
    text
}

/// The same under each latch.
fn walk_halted(tool: &Tool, what: &str) {
    let run = tool.newest();
    tool.run(&["halt", &run]).expect(0);
    let text = walk(tool, &format!("{what}, halted"));
    assert!(text.contains(&format!("halt --clear {run} && ")), "{text}");
    tool.run(&["halt", "--all"]).expect(0);
    walk(tool, &format!("{what}, all and this one halted"));
    tool.run(&["halt", "--clear", &run]).expect(0);
    let text = walk(tool, &format!("{what}, all halted"));
    assert!(text.contains("stanch halt --all --clear && "), "{text}");
}

#[test]
fn hints_of_open_runs_name_no_command_that_is_refused() {
    let tool = sandbox(&["--until", "cutover"], 0);
    assert!(walk(&tool, "until").contains("stanch rollback"));
    walk_halted(&tool, "until");

    let tool = sandbox(&["--until", "revoke"], 0);
    assert!(!walk(&tool, "past the point of no return").contains("stanch rollback"));

    let tool = Tool::new();
    let path = files(&tool, "cutover", "{ name: tell, exec: [\"false\"], undo: none }");
    begin(&tool, &path, "test", &[]).expect(10);
    assert!(walk(&tool, "failed").contains("stanch abandon"));
    walk_halted(&tool, "failed");

    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [sh, -c, \"kill -9 $$\"], undo: none }");
    begin(&tool, &path, "test", &[]).expect(11);
    let text = walk(&tool, "unknown");
    assert!(text.contains("--as applied") && text.contains("--as not-applied"), "{text}");
}

#[test]
fn hints_of_stuck_and_older_runs_name_no_command_that_is_refused() {
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: { exec: [\"false\"] } }");
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    tool.run(&["rollback", "--yes"]).expect(14);
    let text = walk(&tool, "stuck");
    assert!(text.contains("--forward") && text.contains("phase prepare, rolling back; no process"), "{text}");
    walk_halted(&tool, "stuck");

    let book = Book::new();
    let mut plan = Arc::unwrap_or_clone(book.plan());
    plan.format = 1;
    drop(book.state().create(&Arc::new(plan), None, WHO, stanch::clock::Clock::now(&book.clock)));
    let text = walk(&book.tool, "older");
    assert!(!text.contains("stanch resume") && !text.contains("stanch rollback"), "{text}");
    assert!(text.contains("stanch abandon"), "{text}");
}

/// A run without its sealed secrets: what is offered is what still works.
#[test]
fn hints_of_runs_without_their_secrets_name_no_command_that_is_refused() {
    let begun = || {
        let tool = Tool::new();
        let path = revoked(&tool);
        begin(&tool, &path, "test", &["--until", "overlap"]).expect(0);
        let run = tool.newest();
        (tool, run)
    };
    let offers_to_close = |text: &str| {
        assert!(text.contains("stanch abandon") && text.contains("from a backup"), "{text}");
        assert!(!text.contains("stanch resume") && !text.contains("stanch rollback"), "{text}");
    };
    let (tool, run) = begun();
    std::fs::remove_file(tool.state().join(format!("runs/{run}/sealed.jsonl"))).expect("seals");
    offers_to_close(&walk(&tool, "seals gone"));
    let ran = tool.run(&["resume"]).expect(10);
    assert!(ran.stdout.contains("not among the sealed secrets"), "{ran:?}");
    // It holds the new value, which nobody can compare any more.
    assert!(
        ran.stdout.contains("current in 0 of 1 store, NOT CHECKED in 1")
            && !ran.stdout.contains("ANOTHER VALUE"),
        "{ran:?}"
    );
    offers_to_close(&walk(&tool, "seals gone, resumed"));
    let ran = tool.run(&["status", "--check"]).expect(69);
    assert!(!ran.stdout.contains("ANOTHER VALUE"), "{ran:?}");
    let left = tool.run(&["abandon", "--yes", "--reason", "lost"]).expect(0).stdout;
    assert!(left.contains("not be compared with the sealed values of this run"), "{left}");

    let (tool, _) = begun();
    std::fs::remove_file(tool.state().join("keys/seal.key")).expect("key");
    offers_to_close(&walk(&tool, "key gone"));
    for command in ["resume", "rollback"] {
        let ran = tool.run(&[command, "--yes"][..if command == "resume" { 1 } else { 2 }]).expect(30);
        assert!(ran.stderr.contains("stanch abandon") && !ran.stderr.contains("stanch resume"), "{ran:?}");
    }
    offers_to_close(&walk(&tool, "key gone, resumed"));

    // Where nothing is written yet, what was issued can still be revoked by its name.
    let tool = sandbox(&["--until", "verify"], 0);
    std::fs::remove_file(tool.state().join(format!("runs/{}/sealed.jsonl", tool.newest()))).expect("seals");
    assert!(walk(&tool, "seals gone early").contains("stanch rollback"));
    tool.run(&["rollback", "--yes"]).expect(0);
}

/// Past the point of no return nothing speaks of the way back, and what was undone by others is done by hand.
#[tokio::test(flavor = "multi_thread")]
async fn hints_of_looks_before_the_end_can_be_followed() {
    let tool = Tool::new();
    let path = revoked(&tool);
    let text = std::fs::read_to_string(path).expect("runbook");
    let (head, rest) = text.split_once("  key:\n").expect("credential");
    let (body, phases) = rest.split_once("phases:\n").expect("phases");
    let second = tool.folder.path().join("mail.env");
    let write = |value: &str| {
        let mut file = std::fs::File::create(&second).expect("file");
        std::io::Write::write_all(&mut file, format!("KEY={value}\n").as_bytes()).expect("file");
    };
    write("the-old-mail-value");
    let mail = body.replace("app.env", "mail.env");
    let path = tool.runbook(&format!("{head}  key:\n{body}  mail:\n{mail}phases:\n{phases}"));
    begin(&tool, &path, "test", &["--until", "sunset"]).expect(0);
    write("a-value-of-a-stranger");
    tool.run(&["resume"]).expect(10);
    let text = walk(&tool, "a stranger's value past the point of no return");
    assert!(text.contains("--rewrite mail") && !text.contains("roll back"), "{text}");
    assert!(!text.contains("stanch rollback"), "{text}");

    let tool = sandbox(&["--until", "sunset"], 0);
    enable_by_hand(&tool).await;
    let ran = tool.run(&["resume"]).expect(10);
    assert!(ran.stdout.contains("disable the old one again by hand, then resume"), "{ran:?}");
    walk(&tool, "enabled again");
}

/// What a store does not hold at all is an answer, and no reason to believe the steps.
#[test]
fn a_secret_that_is_gone_is_told() {
    let tool = Tool::new();
    let path = revoked(&tool);
    begin(&tool, &path, "test", &["--until", "overlap"]).expect(0);
    let write = |text: &str| {
        let mut file = std::fs::File::create(tool.folder.path().join("app.env")).expect("file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
    };
    write("OTHER=1\n");
    let told = "current in 0 of 1 store, NO VALUE in 1";
    let ran = tool.run(&["status", "--check"]).expect(0);
    assert!(ran.stdout.contains(told) && !ran.stdout.contains("ANOTHER VALUE"), "{ran:?}");
    let ran = tool.run(&["resume"]).expect(10);
    assert!(ran.stdout.contains(told), "{ran:?}");
    let status = tool.status();
    let credential = &status["credentials"][0];
    assert_eq!(
        (&credential["nothing_in"], &credential["held_by_others"]),
        (&1.into(), &0.into()),
        "{status}"
    );
    walk(&tool, "gone");
    let left = tool.run(&["abandon", "--yes", "--reason", "tried"]).expect(0).stdout;
    assert!(left.contains("holds no value"), "{left}");
}

#[test]
fn hints_of_closed_runs_name_no_command_that_is_refused() {
    let tool = sandbox(&[], 0);
    walk(&tool, "done");
    let tool = sandbox(&["--until", "verify"], 0);
    tool.run(&["rollback", "--yes"]).expect(0);
    walk(&tool, "rolled back");
    let tool = sandbox(&["--until", "verify"], 0);
    tool.run(&["abandon", &tool.newest(), "--reason", "tried", "--yes"]).expect(0);
    walk(&tool, "abandoned");
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    begin(&tool, &path, "test", &[]).expect(NOT_PROVED);
    walk(&tool, "not proved");
}

/// A refusal says that nothing was changed: what was seen, and why the run stopped, is still there.
#[test]
fn a_refused_resume_forgets_nothing() {
    let tool = Tool::new();
    let path = revoked(&tool);
    begin(&tool, &path, "test", &["--until", "overlap"]).expect(0);
    std::fs::File::create(tool.folder.path().join("app.env"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"KEY=a-value-of-a-stranger\n"))
        .expect("file");
    tool.run(&["resume"]).expect(10);
    let journal = || std::fs::read(tool.journal().expect("journal")).expect("journal");
    let told = |text: String| -> Vec<String> {
        text.lines()
            // What tells how long something has lasted differs by the second.
            .filter(|line| ![" ago", "run ", " so far"].iter().any(|words| line.contains(words)))
            .map(str::to_owned)
            .collect()
    };
    let (before, status) = (journal(), told(tool.run(&["status"]).expect(0).stdout));
    assert!(status.iter().any(|line| line.contains("ANOTHER VALUE in 1")), "{status:?}");
    for refused in
        [&["--forward"][..], &["--reissue", "key"], &["--rewrite", "no-such"], &["--until", "prepare"]]
    {
        let ran = tool.run(&[&["resume"][..], refused].concat()).expect(2);
        assert!(ran.stderr.contains("error: "), "{ran:?}");
        assert!(journal() == before, "{refused:?} is on the record");
        let now = told(tool.run(&["status"]).expect(0).stdout);
        assert_eq!(now, status, "{refused:?}");
    }
}

#[test]
fn abandon_lists_each_store_by_version_and_each_consumer() {
    let tool = sandbox(&["--until", "verify"], 0);
    let run = tool.newest();
    let abandon = |tool: &Tool| {
        let run = tool.newest();
        tool.run(&["abandon", &run, "--reason", "a new start", "--yes"])
    };
    let refused = tool.run(&["abandon", &run, "--reason", "a new start"]).expect(2);
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    let left = abandon(&tool).expect(0).stdout;
    for words in [
        "the new key (handle sbx-",
        "the old key (handle sbx-",
        "sandbox labelled: holds the old key (version ",
        "; the new one is staged as version ",
        "sandbox numbered: holds the old key (version ",
        "consumer web: ",
    ] {
        assert!(left.contains(words), "no `{words}` in:\n{left}");
    }
    assert!(tool.run(&["status", &run]).expect(0).stdout.starts_with("ABANDONED"));
    // Its targets are free.
    let tool = sandbox(&["--until", "overlap"], 0);
    let left = abandon(&tool).expect(0).stdout;
    for store in ["labelled", "numbered"] {
        let line = format!("sandbox {store}: holds the new key (version ");
        assert!(left.contains(&line) && left.contains("; the old one was version "), "{left}");
    }
    assert!(left.contains("consumer web: "), "{left}");
    begin(&tool, &tool.folder.path().join("runbook.yaml"), "sandbox", &[]).expect(0);
}

/// A process that was killed between the writing of a new file and its renaming leaves the new value there.
#[test]
fn abandon_removes_what_a_killed_process_left_beside_a_file() {
    let tool = Tool::new();
    let path = revoked(&tool);
    begin(&tool, &path, "test", &["--until", "verify"]).expect(0);
    let [left, other] = [".stanch-a1B2c3", ".stanch-of-another"].map(|name| tool.folder.path().join(name));
    for path in [&left, &other] {
        let mut file = std::fs::File::create(path).expect("file");
        std::io::Write::write_all(&mut file, b"KEY=the-new-value\n").expect("file");
    }
    tool.run(&["abandon", "--reason", "tried"]).expect(2);
    assert!(left.exists(), "nothing was changed");
    tool.run(&["abandon", "--reason", "tried", "--yes"]).expect(0);
    assert!(!left.exists() && other.exists());
    let held = std::fs::read_to_string(tool.folder.path().join("app.env")).expect("file");
    assert_eq!(held, "KEY=the-old-value\n");
}

#[test]
fn a_refusal_that_a_check_saw_is_not_contradicted() {
    // The authority of this value is a file: once it is there, the old one is refused.
    let tool = Tool::new();
    let mark = tool.folder.path().join("mark");
    let authority =
        format!("[sh, -c, \"if grep -q the-old-valu[e]; then test ! -e {}; fi\"]", mark.display());
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(path).expect("runbook");
    let honest =
        text.replace("accepts: [{ exec: [\"true\"] }]", &format!("accepts: [{{ exec: {authority} }}]"));
    let honest =
        honest.replace("rejects: [{ exec: [\"false\"] }]", &format!("rejects: [{{ exec: {authority} }}]"));
    let path = tool.runbook(&honest);
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    std::fs::File::create(&mark).expect("mark");
    let ran = tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");

    // The way back uses the old one first, and is told the same.
    let tool = Tool::new();
    let mark = tool.folder.path().join("mark");
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(path).expect("runbook");
    let authority =
        format!("[sh, -c, \"if grep -q the-old-valu[e]; then test ! -e {}; fi\"]", mark.display());
    let honest =
        text.replace("accepts: [{ exec: [\"true\"] }]", &format!("accepts: [{{ exec: {authority} }}]"));
    let path = tool.runbook(&honest);
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    std::fs::File::create(&mark).expect("mark");
    let ran = tool.run(&["rollback", "--yes"]).expect(14);
    assert!(ran.stdout.contains("is not accepted"), "{ran:?}");
    assert!(!ran.stdout.contains("still accepted"), "{ran:?}");
    assert!(ran.stdout.contains("refused by a check, not proved dead"), "{ran:?}");

    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let ran = begin(&tool, &path, "test", &[]).expect(NOT_PROVED);
    assert!(!ran.stdout.contains("still accepted"), "{ran:?}");
    assert!(ran.stdout.contains("refused by a check, not proved dead"), "{ran:?}");

    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(path).expect("runbook");
    let path =
        tool.runbook(&text.replace("accepts: [{ exec: [\"true\"] }]", "accepts: [{ exec: [\"false\"] }]"));
    let ran = begin(&tool, &path, "test", &[]).expect(1);
    assert!(ran.stdout.starts_with("FAILED"), "{ran:?}");
    assert!(!ran.stdout.contains("still accepted") && !ran.stdout.contains("still usable"), "{ran:?}");
}

/// The tool's sandbox, to be changed past stanch, and the one credential of its runbook.
fn world(tool: &Tool) -> (Sandbox, Credential) {
    let state = StateDir::open(&tool.state()).expect("state");
    let sandbox = Sandbox::open(&state.sandbox(), state.sealer().expect("sealer")).expect("sandbox");
    let checked = check(&Source { name: "ways".into(), text: SANDBOX.into() });
    let runbook = checked.runbook.expect("runbook").instantiate("sandbox").expect("sandbox");
    (sandbox, runbook.credentials["key"].clone())
}

/// Puts a value that its issuer does not know into every store, past stanch.
async fn write_by_hand(tool: &Tool) {
    let (sandbox, credential) = world(tool);
    for index in 0..credential.stores.len() {
        let store = sandbox.store("key", &credential, index).await.expect("store");
        let now = store.read(None).await.expect("value");
        let value = Material::single("value", Secret::new("a-value-from-nowhere"));
        store.promote(&crate::servers::context(), &value, &now, None).await.expect("write");
    }
}

/// Revokes the credential of this handle, past stanch.
async fn revoke_by_hand(tool: &Tool, handle: &str) {
    let (sandbox, credential) = world(tool);
    let issuer = sandbox.issuer("key", &credential).await.expect("issuer");
    issuer.revoke(&crate::servers::context(), handle, None).await.expect("revoke");
}

/// Enables the old credential again, past stanch.
async fn enable_by_hand(tool: &Tool) {
    let handle = old_handle(tool);
    let (sandbox, credential) = world(tool);
    let issuer = sandbox.issuer("key", &credential).await.expect("issuer");
    issuer.enable(&crate::servers::context(), &handle).await.expect("enable");
}

/// The old credential's handle, as the run's opening has it.
fn old_handle(tool: &Tool) -> String {
    let record = std::fs::read_to_string(tool.journal().expect("journal")).expect("journal");
    let opened: serde_json::Value = serde_json::from_str(record.lines().next().expect("line")).expect("JSON");
    let handle = opened["plan_body"]["credentials"][0]["outgoing"]["handle"].as_str();
    handle.unwrap_or_else(|| panic!("no handle in {opened}")).to_owned()
}

/// `status` tells what was last seen, `status --check` what is; neither writes a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_what_others_did_since() {
    let tool = sandbox(&["--until", "overlap"], 0);
    let run = tool.newest();
    let journal =
        || std::fs::read(StateDir::open(&tool.state()).expect("state").journal_path(&run)).expect("it");
    let before = journal();
    let ran = tool.run(&["status", "--check"]).expect(0);
    assert!(ran.stdout.contains("current in 2 of 2 stores"), "{ran:?}");
    write_by_hand(&tool).await;
    assert!(tool.run(&["status"]).expect(0).stdout.contains("current in 2 of 2 stores"));
    let ran = tool.run(&["status", "--check"]).expect(0);
    assert!(
        ran.stdout.contains("current in 0 of 2 stores") && !ran.stdout.contains("2 of 2 stores"),
        "{ran:?}"
    );
    assert!(journal() == before, "a look is no record");

    let tool = sandbox(&[], 0);
    let ran = tool.run(&["status", "--check"]).expect(0);
    assert!(ran.stdout.contains("DONE") && ran.stdout.contains("current in 2 of 2 stores"), "{ran:?}");
    let told = tool.run(&["status", "--json"]).expect(0);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    let handle = told["credentials"][0]["handle"].as_str().unwrap_or_else(|| panic!("{told}"));
    revoke_by_hand(&tool, handle).await;
    let ran = tool.run(&["status", "--check"]).expect(NOT_PROVED);
    assert!(ran.stdout.contains("NO LONGER ACCEPTED") && ran.stdout.contains("no longer true"), "{ran:?}");
    let ran = tool.run(&["status", "--check", "--json"]).expect(NOT_PROVED);
    assert!(!ran.stderr.contains("could not check"), "{ran:?}");
    write_by_hand(&tool).await;
    let ran = tool.run(&["status", "--check", "--json"]).expect(NOT_PROVED);
    assert!(!ran.stdout.contains("a-value-from-nowhere"), "{ran:?}");
}

/// A look that failed is no confirmation.
#[test]
fn a_check_that_cannot_look_says_so() {
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    tool.run(&["status", "--check"]).expect(0);
    let file = tool.folder.path().join("app.env");
    std::fs::rename(&file, tool.folder.path().join("away")).expect("moved");
    std::fs::create_dir(&file).expect("in its place");
    let ran = tool.run(&["status", "--check"]).expect(69);
    assert!(ran.stderr.contains("could not check key"), "{ran:?}");
}

/// The issuer's name for what the stores of a fresh sandbox hold, which then hold something else.
async fn strange() -> (Tool, PathBuf, String) {
    let tool = Tool::new();
    let path = tool.runbook(SANDBOX);
    let plan = tool.run(&["plan", path.to_str().expect("path"), "--env", "sandbox", "--json"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
    let handle = plan["credentials"][0]["outgoing"]["handle"].as_str().expect("handle").to_owned();
    write_by_hand(&tool).await;
    let refused = begin(&tool, &path, "sandbox", &[]).expect(1);
    assert!(
        refused.stderr.contains("--outgoing") || refused.stderr.contains("--nothing-to-revoke"),
        "{refused:?}"
    );
    (tool, path, handle)
}

#[tokio::test]
async fn a_credential_that_is_not_in_the_stores_is_revoked_by_name() {
    let (tool, path, handle) = strange().await;
    begin(&tool, &path, "sandbox", &["--outgoing", "no-such-handle"]).expect(1);
    let ran = begin(&tool, &path, "sandbox", &["--outgoing", &format!("key={handle}")]).expect(NOT_PROVED);
    assert!(ran.stdout.contains("not proved dead: no check uses the old credential"), "{ran:?}");
    let status = tool.status();
    assert_ne!(status["credentials"][0]["outgoing"], "accepted", "{status}");
    assert_eq!(status["credentials"][0]["current_in"], 2, "{status}");
}

#[tokio::test]
async fn a_dead_value_is_replaced_and_no_exposure_is_counted() {
    let (tool, path, _) = strange().await;
    let text = path.to_str().expect("path");
    let without = tool.run(&["run", text, "--env", "sandbox", "--yes", "--nothing-to-revoke"]).expect(2);
    assert!(without.stderr.contains("--reason"), "{without:?}");
    let flags = ["--nothing-to-revoke", "--reason", "it died last week"];
    let shown = tool.run(&[&["plan", text, "--env", "sandbox"], &flags[..]].concat()).expect(0).stdout;
    assert!(!shown.contains("unlimited") && shown.contains("not counted: the issuer"), "{shown}");
    let ran = begin(&tool, &path, "sandbox", &flags).expect(0);
    assert!(ran.stdout.contains("unknown to its issuer, not revoked"), "{ran:?}");
    assert!(ran.stdout.contains("exposure: not counted"), "{ran:?}");
    let shown = tool.run(&["audit", "show", &tool.newest()]).expect(0).stdout;
    assert!(shown.contains("it died last week"), "{shown}");
}

#[test]
fn a_rollback_that_cannot_be_finished_is_given_up() {
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: { exec: [\"false\"] } }");
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    let refused = tool.run(&["resume", "--forward"]).expect(2);
    assert!(refused.stderr.contains("not rolling back"), "{refused:?}");
    tool.run(&["rollback", "--yes"]).expect(14);
    let file = tool.folder.path().join("app.env");
    let held = || std::fs::read_to_string(&file).expect("file");
    assert!(held().contains("the-old-value"));
    tool.run(&["resume", "--forward"]).expect(NOT_PROVED);
    assert!(!held().contains("the-old-value"), "the new one is current again");
}

#[test]
fn a_new_credential_that_is_staged_already_is_replaced() {
    let tool = sandbox(&["--until", "verify"], 0);
    let first = tool.status()["credentials"][0]["handle"].clone();
    let refused = tool.run(&["resume", "--reissue", "kye"]).expect(2);
    assert!(refused.stderr.contains("nothing was changed"), "{refused:?}");
    tool.run(&["resume", "--reissue", "key"]).expect(0);
    let status = tool.status();
    assert_ne!(status["credentials"][0]["handle"], first, "{status}");
    assert_eq!(
        (&status["end"], &status["credentials"][0]["current_in"]),
        (&"done".into(), &2.into()),
        "{status}"
    );
}

/// Somebody writes over the new value when only stanch has it: a person has it written again.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_credential_is_written_again_over_what_others_wrote() {
    for (strategy, until) in [("overlap", "cutover"), ("contain", "verify")] {
        let tool = sandbox(&["--until", until, "--strategy", strategy], 0);
        let refused = tool.run(&["resume", "--rewrite", "kye"]).expect(2);
        assert!(refused.stderr.contains("nothing was changed"), "{refused:?}");
        write_by_hand(&tool).await;
        let ran = tool.run(&["resume"]).expect(10);
        assert!(ran.stdout.contains("resume --rewrite key"), "{ran:?}");
        tool.run(&["resume", "--rewrite", "key"]).expect(0);
        let status = tool.status();
        assert_eq!(
            (&status["end"], &status["credentials"][0]["current_in"]),
            (&"done".into(), &2.into()),
            "{strategy}: {status}"
        );
        let journal = std::fs::read_to_string(
            StateDir::open(&tool.state()).expect("state").journal_path(&tool.newest()),
        );
        assert!(!journal.expect("journal").contains("a-value-from-nowhere"));
    }
}

/// A file, and a check that a deploy overtakes: while it looks, the old value is written back.
fn overtaken(tool: &Tool, phase: &str, act: &str) -> PathBuf {
    let path = files(tool, phase, &format!("{{ name: deploy, exec: [sh, -c, \"{act}\"] }}"));
    let text = std::fs::read_to_string(&path).expect("runbook");
    let folder = tool.folder.path().display();
    let accepts =
        format!("[sh, -c, \"[ ! -e {folder}/armed ] || cp {folder}/before.env {folder}/app.env; true\"]");
    std::fs::copy(tool.folder.path().join("app.env"), tool.folder.path().join("before.env")).expect("copied");
    tool.runbook(
        &text.replace("accepts: [{ exec: [\"true\"] }]", &format!("accepts: [{{ exec: {accepts} }}]")),
    )
}

#[test]
fn stores_are_read_last_before_the_old_one_dies() {
    let tool = Tool::new();
    let arm = format!("touch {}/armed", tool.folder.path().display());
    let path = overtaken(&tool, "revoke", &arm);
    let path = {
        // Something that revokes: an own program.
        let text = std::fs::read_to_string(&path).expect("runbook");
        let issuer =
            "issuer: { type: random, apply: { exec: [\"true\"] }, revoke: { exec: [touch, \"killed\"] } }";
        tool.runbook(&text.replace("issuer: { type: random }", issuer))
    };
    let ran = begin(&tool, &path, "test", &[]).expect(10);
    assert!(ran.stdout.contains("holds the old key again"), "{ran:?}");
    assert!(!tool.folder.path().join("killed").exists(), "it was not revoked");
}

#[test]
fn a_run_is_not_done_while_a_store_hands_out_what_others_wrote() {
    let tool = Tool::new();
    let file = tool.folder.path().join("app.env");
    let act = format!("echo KEY=theirs > {}", file.display());
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let text = std::fs::read_to_string(&path).expect("runbook");
    let deploy =
        format!("proof: {{ before: [{{ name: deploy, exec: [sh, -c, \"{act}\"], undo: none }}], times: 1,");
    let path = tool.runbook(&text.replace("proof: { times: 1,", &deploy));
    let ran = begin(&tool, &path, "test", &[]).expect(10);
    assert!(ran.stdout.contains("others have since changed values that this run wrote: key"), "{ran:?}");
    assert!(ran.stdout.contains("--rewrite key"), "{ran:?}");
    tool.run(&["resume"]).expect(10);
    tool.run(&["resume", "--rewrite", "key"]).expect(NOT_PROVED);
    assert!(!std::fs::read_to_string(&file).expect("file").contains("theirs"));
}

/// Nothing was promoted, and the old one died meanwhile: the new one is all that is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_does_not_revoke_the_only_live_credential() {
    let tool = sandbox(&["--until", "verify"], 0);
    revoke_by_hand(&tool, &old_handle(&tool)).await;
    let ran = tool.run(&["rollback", "--yes"]).expect(14);
    assert!(ran.stdout.contains("the old key is gone"), "{ran:?}");
    assert!(ran.stdout.contains("resume --forward"), "{ran:?}");
    tool.run(&["resume", "--forward"]);
    let status = tool.run(&["status", "--check"]);
    assert!(!status.stdout.contains("NO LONGER ACCEPTED"), "{status:?}");
}

/// Two keys of one file hold one credential, and a consumer reads both: the way back waits for no circle.
#[test]
fn a_credential_that_is_twice_in_one_place_goes_back() {
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let file = tool.folder.path().join("app.env");
    let before = "KEY=the-old-value\nSAME=the-old-value\n";
    std::io::Write::write_all(&mut std::fs::File::create(&file).expect("file"), before.as_bytes())
        .expect("file");
    let store = format!("{{ type: file, path: \"{}\", format: dotenv, key: KEY }}", file.display());
    let both = format!("{store}, {}", store.replace("key: KEY", "key: SAME"));
    let text = std::fs::read_to_string(&path).expect("runbook").replace(&store, &both);
    let consumer = "    consumers: [{ name: app, reload: { exec: [\"true\"] } }]\n    accepts:";
    let path = tool.runbook(&text.replace("    accepts:", consumer));
    begin(&tool, &path, "test", &["--until", "cutover"]).expect(0);
    assert!(!std::fs::read_to_string(&file).expect("file").contains("the-old-value"));
    tool.run(&["rollback", "--yes"]).expect(0);
    assert_eq!(std::fs::read_to_string(&file).expect("file"), before);
}

/// `--yes` skips the plan, and not what it could not settle.
#[test]
fn who_does_not_see_the_plan_is_told_what_it_did_not_check() {
    let tool = Tool::new();
    let path = files(&tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    let plan = tool.run(&["plan", path.to_str().expect("path"), "--env", "test"]).expect(0);
    let (_, caveats) = plan.stdout.split_once("Not checked, or worth knowing:\n").expect("caveats");
    let ran = begin(&tool, &path, "test", &["--until", "preflight"]).expect(0);
    let first = caveats.lines().next().expect("one");
    assert!(first.starts_with("  - ") && ran.stderr.contains(first), "{first}: {ran:?}");
}

#[test]
fn a_person_overrules_a_failure() {
    let tool = Tool::new();
    let path = files(&tool, "cutover", "{ name: tell, exec: [\"false\"], undo: none }");
    begin(&tool, &path, "test", &[]).expect(10);
    let step = "cutover/own/tell";
    tool.run(&["resolve", step, "--as", "applied", "--evidence", "its page shows it"]).expect(0);
    tool.run(&["resume"]).expect(NOT_PROVED);
    let help = tool.run(&["resolve", "--help"]).expect(0).stdout;
    assert!(help.contains("failed") && help.contains("unknown"), "{help}");
}

#[test]
fn a_saved_plan_with_an_edited_trait_is_refused() {
    let tool = Tool::new();
    let path = tool.runbook(SANDBOX);
    let saved = tool.folder.path().join("plan.json");
    let saved = saved.to_str().expect("path");
    tool.run(&["plan", path.to_str().expect("path"), "--env", "sandbox", "-o", saved]).expect(0);
    let good = std::fs::read_to_string(saved).expect("plan");
    for name in ["tries", "mints", "disables", "revokes", "coexists"] {
        let edited = good.replace(&format!("\"{name}\":true"), &format!("\"{name}\":false"));
        assert_ne!(good, edited, "{name}");
        std::io::Write::write_all(&mut std::fs::File::create(saved).expect("file"), edited.as_bytes())
            .expect("write");
        let ran = tool.run(&["run", saved, "--yes"]);
        assert!(matches!(ran.code, Some(22 | 65)), "{name}: {ran:?}");
        assert!(tool.journal().is_none(), "{name}: no run was opened");
    }
}

/// What is said of halts, and what `runs` says to type, is what then happens.
#[test]
fn halts_and_the_list_of_runs_say_what_is_so() {
    let tool = sandbox(&["--until", "verify"], 0);
    let run = tool.newest();
    let said = |arguments: &[&str], code: i32| {
        let ran = tool.run(arguments).expect(code);
        format!("{}{}", ran.stdout, ran.stderr)
    };
    let next = format!("; next: stanch status {run}");
    let listed = said(&["runs"], 0);
    assert!(listed.contains(&next) && !listed.contains("halted"), "{listed}");

    let all = said(&["halt", "--all"], 0);
    assert!(all.contains("stanch halt --all --clear"), "{all}");
    let not_its_own = said(&["halt", "--clear", &run], 23);
    assert!(not_its_own.contains("no halt of its own") && !not_its_own.contains("cleared"), "{not_its_own}");
    said(&["halt", &run], 0);
    let status = said(&["status", &run], 0);
    assert!(status.contains("the halt of this run is set, by tester@"), "{status}");
    assert!(status.contains("the halt of all runs is set, by tester@"), "{status}");
    let listed = said(&["runs"], 0);
    assert!(listed.contains(&format!("; halted{next}")), "{listed}");

    let one_way = said(&["halt", "--clear", "--all"], 0);
    assert!(one_way.contains("the halt of all runs is cleared"), "{one_way}");
    assert!(one_way.contains(&format!("{run}: still halted by its own halt")), "{one_way}");
    said(&["halt", "--all"], 0);
    assert_eq!(said(&["halt", "--all", "--clear"], 0), one_way);
    let own = said(&["halt", "--clear", &run], 0);
    assert!(own.contains(&format!("no longer halted; resume it: stanch resume {run}")), "{own}");
    let again = said(&["halt", "--clear", &run], 0);
    assert!(again.contains("was not set") && !again.contains("cleared"), "{again}");

    let too_far = said(&["rollback", "--to", "cutover", "--yes"], 2);
    assert!(too_far.contains("a phase that it has passed: preflight, prepare, distribute\n"), "{too_far}");
    let back = said(&["rollback", "--yes"], 0);
    assert!(back.contains("undo: revoke the new key") && !back.contains("undo: issue"), "{back}");
    let over = said(&["halt", &run], 2);
    assert!(over.contains("has ended (rolled back)"), "{over}");
    assert!(!tool.state().join("runs").join(&run).join("halt").exists(), "nothing was set");
}

#[test]
fn a_version_that_an_abandoned_run_staged_is_found_before_anything_is_issued() {
    let tool = sandbox(&["--until", "distribute"], 0);
    tool.run(&["abandon", "--reason", "tried", "--yes"]).expect(0);
    let path = tool.folder.path().join("runbook.yaml");
    let refused = begin(&tool, &path, "sandbox", &[]).expect(22);
    let hint = format!("rm -r {}", tool.state().join("sandbox").display());
    assert!(refused.stderr.contains("is staged and was not staged by this run"), "{refused:?}");
    assert!(refused.stderr.contains(&hint), "{refused:?}");
    let runs = tool.run(&["runs"]).expect(0).stdout;
    assert_eq!(runs.lines().count(), 1, "a run began: {runs}");
    std::fs::remove_dir_all(tool.state().join("sandbox")).expect("removed");
    begin(&tool, &path, "sandbox", &[]).expect(0);
}

#[test]
fn every_line_of_the_record_has_words() {
    let tool = sandbox(&["--until", "prepare"], 0);
    let shown = tool.run(&["audit", "show"]).expect(0).stdout;
    for line in shown.lines() {
        let words =
            line.split_once("tester@").and_then(|(_, rest)| rest.split_once(' ')).map(|(_, words)| words);
        assert!(words.is_some_and(|words| !words.trim().is_empty()), "{line}");
    }
    let looked = "looked at key: stores hold the old value, the old value; old valid, new valid";
    assert!(shown.contains(looked), "{shown}");
}

/// A copy on a disk that cannot be written can be read.
#[test]
fn commands_that_read_make_nothing() {
    let tool = Tool::new();
    let path = tool.folder.path().join("copy");
    std::fs::create_dir(&path).expect("folder");
    let state = path.to_str().expect("path");
    tool.run(&["runs", "--state", state]).expect(0);
    tool.run(&["status", "--state", state]).expect(2);
    assert_eq!(std::fs::read_dir(&path).expect("folder").count(), 0, "something was made");
}

#[test]
fn a_runbook_is_read_from_standard_input() {
    let tool = Tool::new();
    let path = tool.runbook(&SANDBOX.replace("path: numbered", "paht: numbered"));
    let file = std::fs::File::open(path).expect("runbook");
    let ran = Ran::of(tool.command(&["validate", "-"]).stdin(file).output().expect("it starts"));
    assert!(ran.code == Some(65) && ran.stderr.contains("standard input"), "{ran:?}");
}

#[test]
fn a_run_is_not_done_while_a_store_cannot_be_read() {
    let tool = Tool::new();
    let file = tool.folder.path().join("app.env");
    let (file, kept) = (file.display(), tool.folder.path().join("kept.env"));
    let act = format!("mv {file} {}; mkdir {file}", kept.display());
    let path = files(&tool, "proof", &format!("{{ name: hide, exec: [sh, -c, \"{act}\"], undo: none }}"));
    let text = std::fs::read_to_string(&path).expect("runbook");
    let path = tool.runbook(&text.replace("  proof: { times: 1, every: 0s }\n", ""));
    let ran = begin(&tool, &path, "test", &[]).expect(10);
    assert!(ran.stdout.contains("could not read at the end what the stores hold: key"), "{ran:?}");
    assert!(ran.stdout.contains("current in 0 of 1 store, NOT CHECKED in 1"), "{ran:?}");
    std::fs::remove_dir(tool.folder.path().join("app.env")).expect("removed");
    std::fs::rename(kept, tool.folder.path().join("app.env")).expect("renamed");
    tool.run(&["resume"]).expect(NOT_PROVED);
}

/// A value that programs put in force and take out of it, with checks that accept whatever is in force, and a
/// first revocation that says it did its work and did nothing.
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
fn lied(tool: &Tool) -> PathBuf {
    let folder = tool.folder.path().display().to_string();
    let path = files(tool, "prepare", "{ name: tell, exec: [\"true\"], undo: none }");
    std::fs::write(
        tool.folder.path().join("check"),
        format!("grep -q the-old-value && [ -e {folder}/dead ] && exit 1; exit 0\n"),
    )
    .expect("check");
    std::fs::write(
        tool.folder.path().join("revoke"),
        format!("[ ! -e {folder}/once ] || touch {folder}/dead; touch {folder}/once\n"),
    )
    .expect("revoke");
    let ends = format!(
        "{{ type: random, apply: {{ exec: [\"true\"] }}, revoke: {{ exec: [sh, {folder}/revoke] }} }}"
    );
    let check = format!("accepts: [{{ exec: [sh, {folder}/check] }}]");
    let text = std::fs::read_to_string(&path).expect("runbook");
    tool.runbook(
        &text
            .replace("{ type: random }", &ends)
            .replace("accepts: [{ exec: [\"true\"] }]", &check)
            .replace("    rejects: [{ exec: [\"false\"] }]\n", "")
            .replace("proof: { times: 1, every: 0s }", "proof: { times: 2, every: 10ms, at_most: 1s }"),
    )
}

#[test]
fn what_a_server_says_that_it_revoked_and_did_not_is_revoked_again() {
    let tool = Tool::new();
    let path = lied(&tool);
    let ran = begin(&tool, &path, "test", &[]).expect(10);
    assert!(ran.stdout.contains("old still accepted"), "{ran:?}");
    let again = ran.stdout.lines().find_map(|line| line.split_once("kill again").map(|(_, c)| c.trim()));
    let again = again.expect("a command").replace("\"…\"", "seen");
    let words: Vec<&str> = again.split_whitespace().skip(1).collect();
    tool.run(&words.iter().map(|w| if *w == "not-applied" { "applied" } else { w }).collect::<Vec<_>>())
        .expect(2);
    tool.run(&words).expect(0);
    // There is no way back from it, whatever a person said of it.
    tool.run(&["rollback", "--yes"]).expect(1);
    let ran = tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
    assert!(tool.folder.path().join("dead").exists());
    tool.run(&words).expect(2);
}

/// Two backends behind a front that takes them in turn: one refuses everybody, the other nobody.
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
#[test]
fn backends_in_turn_prove_nothing() {
    for first in ["", "x"] {
        let tool = Tool::new();
        let path = lied(&tool);
        let folder = tool.folder.path().display().to_string();
        let turns = format!(
            "[ -e {folder}/once ] || exit 0; printf x >> {folder}/turn; [ $(( $(wc -c < {folder}/turn) % 2 )) = 0 ]\n"
        );
        std::fs::write(tool.folder.path().join("turn"), first).expect("turn");
        std::fs::write(tool.folder.path().join("check"), turns).expect("check");
        let ran = begin(&tool, &path, "test", &[]).expect(10);
        assert!(!ran.stdout.contains("proved by use"), "{ran:?}");
    }
}
