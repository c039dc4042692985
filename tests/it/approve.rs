//! Approvals, with the real `ssh-keygen`: which count, which are refused, and what a run does with them.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::ssh::{Keys, dummy};
use crate::tool::{Ran, Tool};

/// Everyone's keys, and a tool with a runbook that needs approvals.
struct Desk {
    keys: Keys,
    tool: Tool,
    runbook: String,
}

/// alice asks; bob, carol and dave may approve; eve has a key that nobody lists.
const ROLES: &str =
    "{ security: [bob@example.com, carol@example.com, alice@example.com, alice-admin@example.com] }";

impl Desk {
    /// `rule` is what `revoke` needs, `lines` are more lines of the file of signers, with keys as `KEY(name)`.
    fn new(rule: &str, lines: &str) -> Self {
        let keys = Keys::new();
        for name in ["alice", "bob", "carol", "eve"] {
            keys.make(name, &["ed25519"]);
        }
        let tool = Tool::new().with("SSH_SK_PROVIDER", &dummy());
        let mut desk = Self { keys, tool, runbook: String::new() };
        let file = desk.signers(&format!(
            "alice@example.com,alice-admin@example.com KEY(alice)\nbob@example.com namespaces=\"stanch-*\" KEY(bob)\ncarol@example.com KEY(carol)\n{lines}"
        ));
        let text = RUNBOOK
            .replace("SIGNERS", &file.display().to_string())
            .replace("ROLES", ROLES)
            .replace("RULE", rule);
        desk.runbook = desk.tool.runbook(&text).display().to_string();
        desk
    }

    fn signers(&self, text: &str) -> PathBuf {
        let mut text = text.to_owned();
        while let Some(at) = text.find("KEY(") {
            let end = text[at..].find(')').expect("a bracket") + at;
            let public = self.keys.public(&text[at + 4..end]);
            text.replace_range(at..=end, &public);
        }
        self.keys.file("allowed_signers", &text)
    }

    fn key(&self, name: &str) -> String {
        self.keys.path(name).display().to_string()
    }

    fn run(&self, more: &[&str], code: i32) -> Ran {
        let key = self.key("alice");
        let mut arguments = vec![
            "run",
            &self.runbook,
            "--env",
            "sandbox",
            "--yes",
            "--reason",
            "it leaked",
            "--ticket",
            "INC-7",
            "--key",
            &key,
            "--principal",
            "alice@example.com",
        ];
        arguments.extend(more);
        self.tool.run(&arguments).expect(code)
    }

    fn approve(&self, name: &str, more: &[&str], code: i32) -> Ran {
        let key = self.key(name);
        let mut arguments =
            vec!["approve", "--yes", "--reason", "reviewed", "--ticket", "INC-7", "--key", &key];
        arguments.extend(more);
        self.tool.run(&arguments).expect(code)
    }

    /// Saves a plan, and returns its path.
    fn plan(&self) -> String {
        let path = self.keys.path("plan.json").display().to_string();
        self.tool.run(&["plan", &self.runbook, "--env", "sandbox", "-o", &path]).expect(0);
        path
    }

    fn run_plan(&self, plan: &str, more: &[&str], code: i32) -> Ran {
        let key = self.key("alice");
        let mut arguments = vec![
            "run",
            plan,
            "--yes",
            "--reason",
            "it leaked",
            "--ticket",
            "INC-7",
            "--key",
            &key,
            "--principal",
            "alice@example.com",
        ];
        arguments.extend(more);
        self.tool.run(&arguments).expect(code)
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.tool.journal().expect("a run")).expect("a journal")
    }
}

const RUNBOOK: &str = "
version: 1
name: approved
environments: { sandbox: {} }
connections: { world: { type: sandbox } }
credentials:
  key:
    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }
    scope: { max_ttl: 1h, policies: [read] }
    stores: [{ type: sandbox, connection: world, path: a, labels: true }]
    accepts: [{ sandbox: { policy: read } }]
phases:
  verify: { times: 1, every: 0s }
  proof: { times: 1, every: 0s }
approvals:
  signers: SIGNERS
  sandbox: true
  roles: ROLES
  phases:
    revoke: RULE
";

#[test]
fn a_run_waits_for_its_approvals_and_goes_on_with_them() {
    let desk = Desk::new("{ count: 2, from: [security], within: 4h }", "");
    let ran = desk.run(&[], 20);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        said.contains("revoke needs 2 approvals from security, at most 4h old; given by: none"),
        "{said}"
    );
    assert!(said.contains("may approve: bob@example.com, carol@example.com"), "{said}");
    // Whoever asked is not among those who may, under neither name.
    assert!(!said.contains("may approve: alice") && said.contains("stanch approve"), "{said}");
    desk.tool.run(&["resume"]).expect(20);
    let first = desk.approve("bob", &[], 0);
    assert!(
        first.stdout.contains("given by: bob@example.com; may approve: carol@example.com"),
        "{}",
        first.stdout
    );
    assert!(
        first.stderr.contains("cannot be undone: revoke the old key"),
        "what is signed is shown: {}",
        first.stderr
    );
    desk.tool.run(&["resume"]).expect(20);
    let second = desk.approve("carol", &["--json"], 0);
    let json: Value = serde_json::from_str(&second.stdout).expect("JSON");
    assert_eq!(
        (json["approvals"].as_array().map(Vec::len), json["missing"].as_array().map(Vec::len)),
        (Some(2), Some(0))
    );
    let status = desk.tool.run(&["status"]).expect(0).stdout;
    assert!(status.contains("bob@example.com approved revoke, until "), "{status}");
    assert!(status.contains("requested by alice@example.com, signed with SHA256:"), "{status}");
    let done = desk.tool.run(&["resume"]).expect(0);
    assert!(done.stdout.contains("DONE"), "{}", done.stdout);
    desk.tool.run(&["audit", "verify"]).expect(0);
    let report = desk.tool.run(&["report"]).expect(0).stdout;
    for words in ["requested by alice@example.com", "bob@example.com approved revoke", "reviewed (INC-7)"] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

#[test]
fn an_approval_reaches_a_run_that_waits() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let key = desk.key("alice");
    let running = desk.tool.start(&[
        "run",
        &desk.runbook,
        "--env",
        "sandbox",
        "--yes",
        "--reason",
        "r",
        "--ticket",
        "t",
        "--key",
        &key,
        "--wait",
        "--principal",
        "alice@example.com",
    ]);
    desk.tool.wait_for("\"phase\":\"sunset\"");
    let said = desk.approve("bob", &[], 0);
    assert!(said.stdout.contains("every approval is there"), "{}", said.stdout);
    running.wait().expect(0);
    assert!(desk.journal().contains("\"type\":\"approved\",\"by\":\"bob@example.com\""));
}

#[test]
fn a_plan_is_approved_before_its_run_and_a_stranger_checks_it_with_ssh_keygen_alone() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let plan = desk.plan();
    let preview = desk.tool.run(&["plan", &plan]).expect(0).stdout;
    assert!(preview.contains("needs 1 approval from security, at most 8h old"), "{preview}");
    desk.approve("bob", &[&plan], 0);
    let statement = fs::read_to_string(format!("{plan}.approval-1")).expect("the statement");
    let signature = fs::read_to_string(format!("{plan}.approval-1.sig")).expect("the signature");
    let signers = fs::read_to_string(desk.keys.path("allowed_signers")).expect("the signers");
    let check = |text: &str| {
        desk.keys.verify(&signers, ("bob@example.com", "stanch-approval@v1"), &signature, text, None)
    };
    assert!(check(&statement) && !check(&statement.replace("revoke", "cutover")), "{statement}");
    // Half a copy beside the plan is passed over.
    fs::write(format!("{plan}.approval-2"), "").expect("written");
    desk.run_plan(&plan, &[], 0);
    // The same from the journal.
    let record = desk.journal();
    let line = record.lines().find(|line| line.contains("\"type\":\"approved\"")).expect("the approval");
    let event: Value = serde_json::from_str(line).expect("JSON");
    let opened: Value = serde_json::from_str(record.lines().next().expect("a line")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let kept = text(&opened["plan_body"]["approvals"]["signers"]);
    let (statement, signature) = (text(&event["signed"]["statement"]), text(&event["signed"]["signature"]));
    assert!(desk.keys.verify(&kept, ("bob@example.com", "stanch-approval@v1"), &signature, &statement, None));
    assert!(statement.contains(&text(&opened["plan"])), "it names the plan's digest: {statement}");
}

/// Hands in a statement with a signature, and returns what is said of it.
fn handed_in(desk: &Desk, statement: &str, signature: &str) -> String {
    let file = desk.keys.file("handed", statement).display().to_string();
    desk.keys.file("handed.sig", signature);
    let before = desk.journal();
    let ran = desk.tool.run(&["approve", "--file", &file]).expect(1);
    assert_eq!(desk.journal(), before, "a refusal records nothing");
    ran.stderr
}

#[test]
fn an_approval_that_has_expired_is_shown_as_missing() {
    let desk = Desk::new("{ count: 1, from: [security], within: 3s }", "");
    desk.run(&[], 20);
    desk.approve("bob", &[], 0);
    std::thread::sleep(std::time::Duration::from_secs(4));
    let status = desk.tool.run(&["status"]).expect(0);
    let said = format!("{status:?}");
    assert!(!status.stdout.contains("bob@example.com approved revoke, until"), "{said}");
    assert!(status.stdout.contains("which expired at"), "{said}");
    assert!(status.stdout.contains("given by: none") && status.stdout.contains("stanch approve"), "{said}");
}

#[test]
fn what_does_not_count_is_refused_each_with_its_own_sentence() {
    // The key must be there before the file names it.
    let keys = Keys::new();
    keys.make("old", &["ed25519"]).make("git", &["ed25519"]);
    let desk = Desk::new(
        "{ count: 1, from: [security] }",
        &format!(
            "carol@example.com namespaces=\"git\" {}\nbob@example.com valid-before=\"20200101Z\" {}\n",
            keys.public("git"),
            keys.public("old")
        ),
    );
    let plan = desk.plan();
    desk.approve("bob", &[&plan], 0);
    let good = fs::read_to_string(format!("{plan}.approval-1")).expect("the statement");
    let armor = fs::read_to_string(format!("{plan}.approval-1.sig")).expect("the signature");
    desk.run(&[], 20);
    let digest =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("plan: ")).expect("a digest").to_owned();
    let opened: Value = serde_json::from_str(desk.journal().lines().next().expect("a line")).expect("JSON");
    let ours = opened["plan"].as_str().expect("a digest").to_owned();
    // Of another plan: the runbook was planned again, so the digest is another one where the world moved.
    let other = good.replace(&digest(&good), &"0".repeat(64));
    let mine = good.replace(&digest(&good), &ours);
    let sign = |name: &str, text: &str| desk.keys.sign(name, "stanch-approval@v1", text);
    let by = |who: &str| mine.replace("by: bob@example.com", &format!("by: {who}"));
    let expired = {
        let line = mine.lines().find(|line| line.starts_with("expires: ")).expect("a line");
        mine.replace(line, "expires: 2020-01-01T00:00:00Z")
    };
    let run = mine.replace("run: any run of this plan", "run: approved-19700101-000000-00000000");
    let elsewhere = mine.replace("environment: sandbox", "environment: development");
    let harmless: String = mine
        .lines()
        .filter(|line| !line.contains("cannot be undone: "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(elsewhere != mine && harmless != mine);
    for (statement, signature, words) in [
        (elsewhere.clone(), sign("bob", &elsewhere), "the statement says `development` of `environment`"),
        (harmless.clone(), sign("bob", &harmless), "the statement says nothing of `cannot be undone`"),
        (mine.replace("any run", "each run"), armor.clone(), "forged"),
        (mine.replace("reviewed", "changed"), sign("bob", &mine), "forged"),
        (other.clone(), sign("bob", &other), "it approves plan 000000000000, and this is plan"),
        (run.clone(), sign("bob", &run), "it approves run approved-19700101-000000-00000000 only"),
        (expired.clone(), sign("bob", &expired), "expired at 2020-01-01T00:00:00Z"),
        (mine.clone(), sign("eve", &mine), "is not listed for bob@example.com"),
        (
            by("carol@example.com"),
            sign("bob", &by("carol@example.com")),
            "is not listed for carol@example.com",
        ),
        (
            by("alice@example.com"),
            sign("alice", &by("alice@example.com")),
            "asked for this run and cannot approve it",
        ),
        (
            by("alice-admin@example.com"),
            sign("alice", &by("alice-admin@example.com")),
            "alice-admin@example.com is alice@example.com with the same key",
        ),
        (mine.clone(), desk.keys.sign("bob", "git", &mine), "namespace `git`"),
        (
            mine.clone(),
            keys.sign("old", "stanch-approval@v1", &mine),
            "let bob@example.com sign until 2020-01-01",
        ),
        (
            by("carol@example.com"),
            keys.sign("git", "stanch-approval@v1", &by("carol@example.com")),
            "does not let carol@example.com sign in `stanch-approval@v1`",
        ),
        (
            mine.replace("phases: revoke", "phases: cutover"),
            sign("bob", &mine.replace("phases: revoke", "phases: cutover")),
            "asks for no approval before cutover",
        ),
        (
            mine.replace("ticket: INC-7\n", ""),
            sign("bob", &mine.replace("ticket: INC-7\n", "")),
            "needs a reason and a ticket",
        ),
        ("nothing".to_owned(), sign("bob", "nothing"), "not a statement of stanch"),
        (mine.clone(), "nothing".to_owned(), "not an SSH signature"),
    ] {
        let said = handed_in(&desk, &statement, &signature);
        assert!(said.contains("the approval is refused") && said.contains(words), "{words}: {said}");
    }
    let refused = desk.approve("alice", &[], 2);
    assert!(refused.stderr.contains("several principals"), "{}", refused.stderr);
    let refused = desk.approve("alice", &["--principal", "alice@example.com"], 1);
    assert!(refused.stderr.contains("alice@example.com asked for this run"), "{}", refused.stderr);
    let refused = desk.approve("alice", &["--principal", "alice-admin@example.com"], 1);
    assert!(refused.stderr.contains("cannot approve a phase ahead"), "{}", refused.stderr);
    let refused = desk.approve("eve", &[], 1);
    assert!(refused.stderr.contains("does not list the key SHA256:"), "{}", refused.stderr);
    // And the good one is taken.
    desk.keys.file("good", &mine);
    desk.keys.file("good.sig", &sign("bob", &mine));
    desk.tool.run(&["approve", "--file", &desk.key("good")]).expect(0);
    let twice = handed_in(&desk, &mine, &sign("bob", &mine));
    assert!(twice.contains("has approved revoke already"), "{twice}");
    desk.tool.run(&["resume"]).expect(0);
}

#[test]
fn security_keys_count_by_what_they_saw_and_an_agent_signs() {
    let lines = |keys: &Keys, names: &[&str]| -> String {
        names.iter().map(|name| format!("bob@example.com {}\n", keys.public(name))).collect()
    };
    let keys = Keys::new();
    keys.make("touched", &["ed25519-sk"]).make("silent", &["ecdsa-sk", "-O", "no-touch-required"]);
    keys.make("pin", &["ed25519-sk", "-O", "verify-required"]).make("agent", &["ed25519"]);
    let all = lines(&keys, &["touched", "silent", "pin", "agent"]);
    let with = |name: &str| keys.path(name).display().to_string();
    for (rule, name, words) in [
        (
            "presence: true",
            "bob",
            "takes a security key that was touched, and bob@example.com signed without one",
        ),
        (
            "presence: true",
            "silent",
            "takes a security key that was touched, and bob@example.com signed without touching it",
        ),
        ("presence: true", "touched", ""),
        ("pin: true", "touched", "takes a security key with a PIN, and bob@example.com signed without a PIN"),
        ("pin: true, presence: true", "pin", ""),
    ] {
        let desk = Desk::new(&format!("{{ count: 1, from: [security], {rule} }}"), &all);
        desk.run(&[], 20);
        let key = if name == "bob" { desk.key("bob") } else { with(name) };
        let arguments = [
            "approve",
            "--yes",
            "--reason",
            "r",
            "--ticket",
            "t",
            "--key",
            &key,
            "--principal",
            "bob@example.com",
        ];
        let ran = desk.tool.run(&arguments);
        assert_eq!(ran.code, Some(i32::from(!words.is_empty())), "{rule} {name}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{rule} {name}: {}", ran.stderr);
        desk.tool.run(&["resume"]).expect(if words.is_empty() { 0 } else { 20 });
    }
    // A key that only the agent holds: the public half is enough.
    let socket = keys.path("socket").display().to_string();
    let mut agent = std::process::Command::new("ssh-agent")
        .args(["-D", "-a", &socket])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("ssh-agent, of the package openssh-client");
    let add = || {
        let mut command = std::process::Command::new("ssh-add");
        command.arg("-q").arg(keys.path("agent")).env("SSH_AUTH_SOCK", &socket);
        command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let begun = std::time::Instant::now();
    while !add() {
        assert!(begun.elapsed().as_secs() < 10, "the agent does not take the key");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    fs::remove_file(keys.path("agent")).expect("the private half is gone");
    let mut desk = Desk::new("{ count: 1, from: [security] }", &all);
    desk.tool = desk.tool.with("SSH_AUTH_SOCK", &socket);
    desk.run(&[], 20);
    let public = with("agent.pub");
    let ran = desk.tool.run(&["approve", "--yes", "--reason", "r", "--ticket", "t", "--key", &public]);
    agent.kill().expect("the agent ends");
    agent.wait().expect("its end");
    ran.expect(0);
    desk.tool.run(&["resume"]).expect(0);
}

#[test]
fn an_approval_holds_no_longer_than_it_says_and_than_the_runbook_lets_it() {
    let desk = Desk::new("{ count: 1, from: [security], within: 6s }", "");
    desk.run(&[], 20);
    desk.approve("bob", &[], 0);
    std::thread::sleep(std::time::Duration::from_millis(7200));
    desk.tool.run(&["resume"]).expect(20);
    let status = desk.tool.run(&["status"]).expect(0).stdout;
    assert!(status.contains("given by: none; may approve: bob@example.com"), "{status}");
    // Expired, the same person may approve again.
    desk.approve("bob", &["--for", "5s"], 0);
    desk.tool.run(&["resume"]).expect(0);
}

#[test]
fn glass_is_broken_only_where_the_runbook_allows_it_and_everything_says_so() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    desk.run(&[], 20);
    let broken = ["resume", "--break-glass", "--reason", "the pager is silent", "--ticket", "INC-8"];
    let refused = desk.tool.run(&broken).expect(2);
    assert!(refused.stderr.contains("the runbook does not allow it"), "{}", refused.stderr);
    let text = fs::read_to_string(&desk.runbook)
        .expect("the runbook")
        .replace("  sandbox: true", "  sandbox: true\n  break_glass: true");
    desk.tool.run(&["rollback", "--yes"]).expect(0);
    desk.tool.runbook(&text);
    desk.run(&[], 20);
    let without = desk.tool.run(&["resume", "--break-glass", "--ticket", "INC-8"]).expect(2);
    assert!(without.stderr.contains("requires a reason and a ticket"), "{}", without.stderr);
    let done = desk.tool.run(&broken).expect(0);
    let words = "BREAK-GLASS";
    for text in [
        done.stdout,
        desk.tool.run(&["status"]).expect(0).stdout,
        desk.tool.run(&["status", "--json"]).expect(0).stdout,
        desk.tool.run(&["report"]).expect(0).stdout,
        desk.tool.run(&["audit", "show"]).expect(0).stdout,
    ] {
        assert!(text.contains(words) || text.contains("\"break_glass\": \""), "{text}");
        assert!(text.contains("the pager is silent") && text.contains("INC-8"), "{text}");
    }
}

#[test]
fn a_plan_that_was_edited_or_whose_signers_changed_does_not_run() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let plan = desk.plan();
    desk.approve("bob", &[&plan], 0);
    let text = fs::read_to_string(&plan).expect("the plan");
    let mut edited: Value = serde_json::from_str(&text).expect("JSON");
    for (path, value) in [
        ("/approvals/required/0/count", serde_json::json!(0)),
        ("/approvals", Value::Null),
        ("/approvals/break_glass", serde_json::json!(true)),
    ] {
        let before = edited.clone();
        if path == "/approvals/break_glass" {
            edited["approvals"]["break_glass"] = value;
        } else {
            *edited.pointer_mut(path).expect("a field") = value;
        }
        fs::write(&plan, edited.to_string()).expect("written");
        let refused = desk.run_plan(&plan, &[], 65);
        assert!(refused.stderr.contains("contradicts itself"), "{path}: {}", refused.stderr);
        edited = before;
    }
    // Whoever adds a key to the copy in the plan has another plan, which bob did not approve.
    edited["approvals"]["signers"] =
        format!("{}# changed\n", edited["approvals"]["signers"].as_str().expect("a text")).into();
    fs::write(&plan, edited.to_string()).expect("written");
    let refused = desk.run_plan(&plan, &[], 22);
    assert!(refused.stderr.contains("the file of signers has changed"), "{}", refused.stderr);
    fs::write(&plan, &text).expect("written");
    desk.signers("bob@example.com KEY(bob)\nalice@example.com,alice-admin@example.com KEY(alice)\ncarol@example.com KEY(carol)\n");
    desk.run_plan(&plan, &[], 22);
    assert!(desk.tool.journal().is_none(), "nothing began");
}

#[test]
fn a_file_of_signers_that_is_not_right_is_refused_with_its_place() {
    for (lines, words) in [
        ("dave@example.com KEY(bob)\r\n", ":4:"),
        ("*@example.com KEY(eve)\n", "is a pattern"),
        ("dave@example.com valid-after=\"tomorrow\" KEY(eve)\n", "not a time"),
    ] {
        let desk = Desk::new("{ count: 1, from: [security] }", lines);
        let refused = desk.run(&[], 65);
        assert!(
            refused.stderr.contains("allowed_signers:4:") && refused.stderr.contains(words),
            "{}",
            refused.stderr
        );
        assert!(desk.tool.journal().is_none(), "nothing began");
    }
    let desk =
        Desk::new("{ count: 1, from: [security] }", "bob@example.com valid-before=\"20200101Z\" KEY(eve)\n");
    let warned = desk.run(&[], 20);
    assert!(
        warned.stderr.contains("allowed_signers:4: this line expired at 2020-01-01"),
        "{}",
        warned.stderr
    );
}

#[test]
fn who_asks_says_so_and_why() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let key = desk.key("alice");
    let begin = ["run", &desk.runbook, "--env", "sandbox", "--yes"];
    for (more, words) in [
        (&["--reason", "r", "--key", &key][..], "needs a reason and a ticket"),
        (&["--reason", "r", "--ticket", "t"], "who asks for it"),
        (&["--reason", "r", "--ticket", "t", "--key", "/nowhere/key"], "cannot read the public half"),
    ] {
        let ran = desk.tool.run(&[&begin[..], more].concat()).expect(2);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("nothing was"), "{words}: {}", ran.stderr);
    }
    assert!(desk.tool.journal().is_none(), "nothing began");
}

#[test]
fn the_surroundings_are_on_the_record_and_not_trusted() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let tool = Tool::new()
        .with("GITHUB_ACTIONS", "true")
        .with("GITHUB_TRIGGERING_ACTOR", "mallory")
        .with("GITHUB_REPOSITORY", "octo/repo")
        .with("GITHUB_SERVER_URL", "https://github.com")
        .with("GITHUB_RUN_ID", "42")
        .with("SUDO_USER", "bob");
    let text = RUNBOOK.split("approvals:").next().expect("a part");
    let runbook = tool.runbook(text).display().to_string();
    tool.run(&["run", &runbook, "--env", "sandbox", "--yes"]).expect(0);
    let words = "GitHub job of octo/repo by mallory: https://github.com/octo/repo/actions/runs/42";
    for command in [&["status"][..], &["report"], &["audit", "show"]] {
        let text = tool.run(command).expect(0).stdout;
        let text = text.replace('\\', "");
        assert!(text.contains(words) && text.contains("sudo by bob"), "{command:?}: {text}");
    }
    drop(desk);
}

#[test]
fn the_kill_waits_for_its_approval_however_long_that_takes() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let text = fs::read_to_string(&desk.runbook).expect("the runbook");
    let text = text
        .replace("    revoke: {", "    sunset: {")
        .replace("name: approved\n", "name: approved\nstrategy: contain\n");
    desk.tool.runbook(&text);
    desk.run(&[], 20);
    let journal = desk.journal();
    assert!(
        journal.contains("\"phase\":\"prepare\"") && !journal.contains("\"phase\":\"sunset\",\"type\""),
        "{journal}"
    );
    assert!(
        !journal.contains("\"type\":\"deferred\"")
            && !journal.contains("\"type\":\"intent\",\"step\":\"sunset"),
        "nothing is killed"
    );
    // Longer than the kill waits for the new credential.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    desk.tool.run(&["resume"]).expect(20);
    desk.approve("bob", &[], 0);
    desk.tool.run(&["resume"]).expect(0);
}

#[test]
fn a_chosen_strategy_takes_no_approval_away() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    let text =
        fs::read_to_string(&desk.runbook).expect("the runbook").replace("    revoke: {", "    overlap: {");
    desk.tool.runbook(&text);
    let ran = desk.run(&["--strategy", "contain"], 20);
    assert!(ran.stdout.contains("revoke needs 1 approval from security"), "{}", ran.stdout);
}

/// Whoever can write to the state directory, and has its signing key, can append a record. It counts for nothing.
#[test]
fn a_record_of_an_approval_is_verified_each_time_it_is_read() {
    let desk = Desk::new("{ count: 1, from: [security] }", "");
    desk.run(&[], 20);
    desk.approve("bob", &[], 0);
    let path = desk.tool.journal().expect("a run");
    let text = fs::read_to_string(&path).expect("the journal");
    let (head, _) = text.split_once("\"type\":\"approved\"").expect("the approval");
    let line = text[head.rfind('\n').expect("a line") + 1..].lines().next().expect("a line");
    // The last line is not covered by a checkpoint yet, or this would be found out by the chain.
    for (from, to) in [("bob@example.com", "carol@example.com"), ("phases: revoke", "phases: cutover")] {
        let forged = line.replacen(from, to, 1);
        assert_ne!(forged, line);
        fs::write(&path, text.replace(line, &forged)).expect("written");
        let refused = desk.tool.run(&["resume"]).expect(30);
        assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    }
}
