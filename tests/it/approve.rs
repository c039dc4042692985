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
const ROLES: &str = "{ security: [bob@example.com, carol@example.com, alice@example.com, alice-admin@example.com] }";

impl Desk {
    /// `rule` is what `revoke` needs, `lines` are more lines of the file of signers, with keys as `KEY(name)`.
    fn new(rule: &str, lines: &str) -> Self {
        let keys = Keys::new();
        for name in ["alice", "bob", "carol", "eve"] {
            keys.make(name, &["ed25519"]);
        }
        let tool = Tool::new().with("SSH_SK_PROVIDER", dummy());
        let mut desk = Self { keys, tool, runbook: String::new() };
        let file = desk.signers(&format!(
            "alice@example.com,alice-admin@example.com KEY(alice)\nbob@example.com namespaces=\"stanch-*\" KEY(bob)\ncarol@example.com KEY(carol)\n{lines}"
        ));
        let text = RUNBOOK.replace("SIGNERS", &file.display().to_string()).replace("ROLES", ROLES).replace("RULE", rule);
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
            "run", &self.runbook, "--env", "sandbox", "--yes", "--reason", "it leaked", "--ticket", "INC-7", "--key", &key,
            "--principal", "alice@example.com",
        ];
        arguments.extend(more);
        self.tool.run(&arguments).expect(code)
    }

    fn approve(&self, name: &str, more: &[&str], code: i32) -> Ran {
        let key = self.key(name);
        let mut arguments = vec!["approve", "--yes", "--reason", "reviewed", "--ticket", "INC-7", "--key", &key];
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
        let mut arguments =
            vec!["run", plan, "--yes", "--reason", "it leaked", "--ticket", "INC-7", "--key", &key, "--principal", "alice@example.com"];
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
    assert!(said.contains("revoke needs 2 approvals from security, at most 4h old; given by: none"), "{said}");
    assert!(said.contains("may approve: bob@example.com, carol@example.com"), "{said}");
    // Whoever asked is not among those who may, under neither name.
    assert!(!said.contains("may approve: alice") && said.contains("stanch approve"), "{said}");
    desk.tool.run(&["resume"]).expect(20);
    let first = desk.approve("bob", &[], 0);
    assert!(first.stdout.contains("given by: bob@example.com; may approve: carol@example.com"), "{}", first.stdout);
    assert!(first.stderr.contains("cannot be undone: revoke the old key"), "what is signed is shown: {}", first.stderr);
    desk.tool.run(&["resume"]).expect(20);
    let second = desk.approve("carol", &["--json"], 0);
    let json: Value = serde_json::from_str(&second.stdout).expect("JSON");
    assert_eq!((json["approvals"].as_array().map(Vec::len), json["missing"].as_array().map(Vec::len)), (Some(2), Some(0)));
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
        "run", &desk.runbook, "--env", "sandbox", "--yes", "--reason", "r", "--ticket", "t", "--key", &key, "--wait",
        "--principal", "alice@example.com",
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
    let digest = |text: &str| text.lines().find_map(|line| line.strip_prefix("plan: ")).expect("a digest").to_owned();
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
    for (statement, signature, words) in [
        (mine.clone(), armor.clone(), "forged"),
        (mine.replace("reviewed", "changed"), sign("bob", &mine), "forged"),
        (other.clone(), sign("bob", &other), "it approves plan 000000000000, and this is plan"),
        (run.clone(), sign("bob", &run), "it approves run approved-19700101-000000-00000000 only"),
        (expired.clone(), sign("bob", &expired), "expired at 2020-01-01T00:00:00Z"),
        (mine.clone(), sign("eve", &mine), "is not listed for bob@example.com"),
        (by("carol@example.com"), sign("bob", &by("carol@example.com")), "is not listed for carol@example.com"),
        (by("alice@example.com"), sign("alice", &by("alice@example.com")), "asked for this run and cannot approve it"),
        (
            by("alice-admin@example.com"),
            sign("alice", &by("alice-admin@example.com")),
            "alice-admin@example.com is alice@example.com with the same key",
        ),
        (mine.clone(), desk.keys.sign("bob", "git", &mine), "namespace `git`"),
        (mine.clone(), keys.sign("old", "stanch-approval@v1", &mine), "let bob@example.com sign until 2020-01-01"),
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
    let refused = desk.approve("alice", &[], 1);
    // Its own key has two names, so one is named.
    assert!(refused.stderr.contains("several principals") || refused.stderr.contains("cannot approve"), "{}", refused.stderr);
    let refused = desk.approve("alice", &["--principal", "alice-admin@example.com"], 1);
    assert!(refused.stderr.contains("alice@example.com") || refused.stderr.contains("cannot approve"), "{}", refused.stderr);
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
