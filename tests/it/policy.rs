//! `policy.yaml`: what it refuses, and who may waive it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test looks at the clock of this machine, and writes what it likes"
)]

use std::fs;

use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

use crate::report::at;
use crate::ssh::Keys;
use crate::tool::{Ran, Tool};

const POLICY: &str = "version: 1
revision: 2
owner: security
changelog:
  - {revision: 2, date: 2026-11-27, change: credentials live for a day at the most}
  - {revision: 1, date: 2026-10-01, change: first version}
rules:
  max-ttl: {most: 12h, reason: INC-3 was found after a day, owner: iam-team}
  owners: {reason: somebody is asked at night}
";

const WAIVERS: &str =
    "waivers: {signers: allowed_signers, from: [alice@example.com, bob@example.com], within: 30d}\n";

/// A repository with the quickstart, whose key lives for a day, and a policy.
struct Repository {
    tool: Tool,
    keys: Keys,
    runbook: String,
}

impl Repository {
    fn new(policy: &str) -> Self {
        let tool = Tool::new();
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
        let text = fs::read_to_string(shipped).expect("the quickstart");
        let quick = |line: &str| match line.split_once("at_least:") {
            Some((before, _)) => format!("{before}at_least: 10ms"),
            None => line.to_owned(),
        };
        let lines: Vec<String> = text.lines().map(quick).collect();
        let folder = at(&tool, "runbooks");
        fs::create_dir_all(at(&tool, ".git")).and_then(|()| fs::create_dir_all(&folder)).expect("made");
        fs::write(at(&tool, ".git/HEAD"), "ref: refs/heads/main\n").expect("written");
        let runbook = folder.join("quickstart.yaml");
        fs::write(&runbook, format!("owner: platform\n{}\n", lines.join("\n"))).expect("written");
        let keys = Keys::new();
        for name in ["alice", "bob", "carol", "eve"] {
            keys.make(name, &["ed25519"]);
        }
        let line = |name: &str| format!("{name}@example.com {}\n", keys.public(name).trim());
        let signers = ["alice", "bob", "carol"].map(line).concat();
        fs::write(at(&tool, "allowed_signers"), signers).expect("written");
        let repository = Self { tool, keys, runbook: runbook.display().to_string() };
        repository.policy(policy);
        repository
    }

    fn policy(&self, text: &str) {
        fs::write(at(&self.tool, "policy.yaml"), text).expect("written");
    }

    /// A command on the runbook, in the sandbox.
    fn on(&self, command: &str, more: &[&str]) -> Ran {
        let env: &[&str] = if command == "validate" { &[] } else { &["--env", "sandbox"] };
        self.tool.run(&[&[command, &self.runbook], env, more].concat())
    }

    fn waive(&self, name: &str, more: &[&str]) -> Ran {
        let key = self.keys.path(name).display().to_string();
        let waive =
            ["policy", "waive", &self.runbook, "--rule", "max-ttl", "--reason", "the vendor needs a day"];
        self.tool.run(&[&waive[..], &["--key", &key, "--yes"], more].concat())
    }

    /// A waiver that a key signed elsewhere: the file.
    fn signed(&self, name: &str, namespace: &str, text: &str) -> String {
        let path = at(&self.tool, "elsewhere");
        fs::write(&path, text).expect("written");
        fs::write(at(&self.tool, "elsewhere.sig"), self.keys.sign(name, namespace, text)).expect("written");
        path.display().to_string()
    }
}

const NAMESPACE: &str = "stanch-waiver@v1";

/// The text of a waiver, signed so many days ago and for so many days from now.
fn waiver(by: &str, ago: i64, days: i64) -> String {
    let now = Timestamp::from_second(Timestamp::now().as_second()).expect("now");
    let (signed, expires) = (now - (24 * ago).hours(), now + (24 * days).hours());
    format!(
        "{NAMESPACE}\nrule: max-ttl\nrunbook: quickstart\nby: {by}@example.com\nreason: the vendor needs a day\nsigned: {signed}\nexpires: {expires}\n"
    )
}

#[test]
fn validate_plan_and_run_refuse_with_rule_reason_owner_and_place() {
    let repository = Repository::new(POLICY);
    for (command, more) in [("validate", &[][..]), ("plan", &[]), ("run", &["--yes"])] {
        let refused = repository.on(command, more).expect(65);
        for words in [
            "error[policy-max-ttl]: `ttl` is 1d, and the policy allows at most 12h (rule `max-ttl`)",
            "reason: INC-3 was found after a day. Correct it, or ask iam-team for a waiver",
            "quickstart.yaml:25:12",
        ] {
            assert!(refused.stderr.contains(words), "{command}: {words}: {}", refused.stderr);
        }
    }
    assert!(repository.tool.journal().is_none(), "nothing was begun");
    let json: Value =
        serde_json::from_str(&repository.on("validate", &["--json"]).expect(65).stdout).expect("JSON");
    assert_eq!(json[0]["code"], "policy-max-ttl");
    // In the sandbox of a drill nothing is refused: practice is not a rotation.
    let drill = at(&repository.tool, "drill.yaml").display().to_string();
    repository.tool.run(&["drill", "init", &drill]).expect(0);
    let text = fs::read_to_string(&drill)
        .expect("a scenario")
        .replace("../quickstart.yaml", "runbooks/quickstart.yaml");
    fs::write(&drill, text).expect("written");
    repository.tool.run(&["drill", "run", &drill, "--instant", "--yes"]).expect(0);
    // A runbook that keeps it is run, and the record says under which policy.
    repository.policy(&POLICY.replace("12h", "24h"));
    repository.on("validate", &[]).expect(0);
    let plan = repository.on("plan", &[]).expect(0).stdout;
    assert!(plan.contains("policy revision 2, SHA-256 "), "{plan}");
    repository.on("run", &["--yes"]).expect(0);
    let journal = fs::read_to_string(repository.tool.journal().expect("a run")).expect("journal");
    assert!(journal.contains("\"policy\":{\"revision\":2,"), "{journal}");
}

#[test]
fn the_policy_is_that_of_the_repository_and_no_other() {
    let repository = Repository::new(POLICY);
    // Whoever writes a runbook could put a lax one beside it.
    let lax = POLICY.replace("12h", "900d");
    let beside = at(&repository.tool, "runbooks/policy.yaml");
    fs::write(&beside, &lax).expect("written");
    repository.on("validate", &[]).expect(65);
    let named = beside.display().to_string();
    repository.on("validate", &["--policy", &named]).expect(0);
    // Outside of a repository, the one beside the runbook counts.
    fs::remove_dir_all(at(&repository.tool, ".git")).expect("removed");
    repository.on("validate", &[]).expect(0);
    fs::remove_file(&beside).expect("removed");
    repository.on("validate", &[]).expect(0);
    let root = at(&repository.tool, "policy.yaml").display().to_string();
    repository.on("validate", &["--policy", &root]).expect(65);
    let strict = Tool::new().with("STANCH_POLICY", &root);
    strict.run(&["validate", &repository.runbook]).expect(65);
    let gone = repository.on("plan", &["--policy", "nowhere.yaml"]).expect(65);
    assert!(gone.stderr.contains("nowhere.yaml"), "{gone:?}");
    // One with mistakes refuses everything, and says where.
    repository.policy(&POLICY.replace("revision: 2\n", "revision: 3\n"));
    for command in ["validate", "plan"] {
        let bad = repository.on(command, &["--policy", &root]).expect(65);
        assert!(
            bad.stderr.contains("error[contradiction]") && bad.stderr.contains("policy.yaml:2:11"),
            "{bad:?}"
        );
    }
}

#[test]
fn a_plan_without_a_policy_has_the_digest_that_it_had() {
    let repository = Repository::new(POLICY);
    fs::remove_file(at(&repository.tool, "policy.yaml")).expect("removed");
    let digest = |ran: Ran| {
        let first = ran.stdout.lines().next().unwrap_or_default().to_owned();
        first.split_whitespace().nth(1).map(str::to_owned).expect("a digest")
    };
    let without = repository.on("plan", &["--json"]).expect(0).stdout;
    assert!(!without.contains("\"policy\":{\"revision") && !without.contains("\"windows\""), "{without}");
    let before = digest(repository.on("plan", &[]).expect(0));
    repository.policy(&POLICY.replace("12h", "24h"));
    assert_ne!(digest(repository.on("plan", &[]).expect(0)), before);
    fs::remove_file(at(&repository.tool, "policy.yaml")).expect("removed");
    assert_eq!(digest(repository.on("plan", &[]).expect(0)), before);
}

#[test]
fn a_saved_plan_is_held_against_the_policy_of_now() {
    let repository = Repository::new(&POLICY.replace("12h", "24h"));
    let plan = at(&repository.tool, "plan.json").display().to_string();
    repository.on("plan", &["-o", &plan]).expect(0);
    repository.policy(POLICY);
    let stale = repository.tool.run(&["run", &plan, "--yes"]).expect(22);
    assert!(stale.stderr.contains("it was not made under the policy in "), "{stale:?}");
    // A hand that takes the policy out of the plan does not help.
    let text = fs::read_to_string(&plan).expect("the plan");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    json.as_object_mut().expect("a plan").remove("policy");
    let directory = repository.tool.folder.path().display().to_string();
    json["directory"] = directory.into();
    fs::write(&plan, json.to_string()).expect("written");
    repository.tool.run(&["run", &plan, "--yes"]).expect(22);
    // Nor one that names the new policy in a plan that does not keep it.
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    let policy = fs::read(at(&repository.tool, "policy.yaml")).expect("the policy");
    json["policy"]["sha256"] = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(policy)).into();
    fs::write(&plan, json.to_string()).expect("written");
    let refused = repository.tool.run(&["run", &plan, "--yes"]).expect(65);
    let words = "rule `max-ttl`: `ttl` is 1d, and the policy allows at most 12h. Reason: INC-3 was found after a day. Owner: iam-team";
    assert!(refused.stderr.contains(words), "{refused:?}");
    assert!(repository.tool.journal().is_none());
}

#[test]
fn a_waiver_lets_one_runbook_break_one_rule_and_is_on_the_record() {
    let repository = Repository::new(&format!("{POLICY}{WAIVERS}"));
    let waived = repository.waive("alice", &["--for", "7d"]).expect(0);
    assert!(waived.stdout.contains("Waived `max-ttl` for quickstart as alice@example.com"), "{waived:?}");
    assert!(waived.stderr.contains("stanch-waiver@v1\nrule: max-ttl\nrunbook: quickstart\n"), "{waived:?}");
    let file = at(&repository.tool, "waivers/quickstart-max-ttl.waiver");
    // A stranger checks it with ssh-keygen alone.
    let text = fs::read_to_string(&file).expect("the waiver");
    let signature = fs::read_to_string(format!("{}.sig", file.display())).expect("the signature");
    let signers = fs::read_to_string(at(&repository.tool, "allowed_signers")).expect("signers");
    let alice = ("alice@example.com", NAMESPACE);
    assert!(repository.keys.verify(&signers, alice, &signature, &text, None));
    assert!(!repository.keys.verify(&signers, alice, &signature, &text.replace("vendor", "seller"), None));
    let valid = repository.on("validate", &[]).expect(0);
    let words = "rule `max-ttl` by alice@example.com, until ";
    assert!(valid.stderr.contains(&format!("waived: {words}")), "{valid:?}");
    let plan = repository.on("plan", &[]).expect(0).stdout;
    assert!(plan.contains(&format!("WAIVED {words}")) && plan.contains("the vendor needs a day"), "{plan}");
    let done = repository.on("run", &["--yes"]).expect(0);
    assert!(done.stdout.contains(&format!("waived: {words}")), "{done:?}");
    for form in ["report.md", "report.html"] {
        assert!(crate::report::write(&repository.tool, form).contains("Waived: rule"), "{form}");
        crate::report::check(&repository.tool, form).expect(0);
    }
    // It is for this rule only.
    let runbook = fs::read_to_string(&repository.runbook).expect("the runbook");
    fs::write(&repository.runbook, runbook.replace("owner: platform\n", "")).expect("written");
    let other = repository.on("validate", &[]).expect(65);
    assert!(other.stderr.contains("policy-owners") && !other.stderr.contains("policy-max-ttl"), "{other:?}");
    // And for this runbook only; nothing is said of it to others.
    fs::write(&repository.runbook, runbook.replace("name: quickstart", "name: other")).expect("written");
    let foreign = repository.on("validate", &[]).expect(65);
    assert!(foreign.stderr.contains("policy-max-ttl") && !foreign.stderr.contains("not used"), "{foreign:?}");
}

#[test]
fn a_waiver_that_does_not_count_is_refused_with_its_own_sentence() {
    let repository = Repository::new(&format!("{POLICY}{WAIVERS}"));
    let good = waiver("alice", 1, 20);
    let sign = |name: &str, text: &str| repository.signed(name, NAMESPACE, text);
    let use_it = |path: &str| repository.on("plan", &["--waiver", path]);
    use_it(&sign("alice", &good)).expect(0);
    let mut wrong = Vec::new();
    let mut refused = |path: String, says: &str| {
        let ran = use_it(&path);
        if ran.code == Some(0) || !ran.stderr.contains(says) {
            wrong.push(format!("wanted `{says}`, got {ran:?}"));
        }
    };
    refused(sign("alice", &waiver("alice", 20, -1)), "the waiver of alice@example.com expired at ");
    refused(
        sign("alice", &waiver("alice", 1, 30)),
        "would hold for longer than the 30d that the policy allows",
    );
    refused(sign("alice", &waiver("alice", -2, 20)), "which is in the future");
    refused(
        sign("alice", &good.replace("runbook: quickstart", "runbook: other")),
        "it waives a rule for the runbook `other`, and this is `quickstart`",
    );
    refused(sign("eve", &good), "is not listed for that principal");
    refused(sign("bob", &good), "is not listed for that principal");
    refused(
        sign("carol", &waiver("carol", 1, 20)),
        "carol@example.com may not waive rules of this policy; those who may: alice@example.com, bob@example.com",
    );
    refused(
        repository.signed("alice", "stanch-approval@v1", &good),
        "the signature is of namespace `stanch-approval@v1`",
    );
    refused(sign("alice", &good.replace("max-ttl", "everything")), "there is no rule `everything`");
    refused(
        sign(
            "alice",
            &good.replace("a day", "AKIAIOSFODNN7EXAMPLX ghp_0123456789abcdefghijABCDEFGHIJ0123456"),
        ),
        "looks like a secret",
    );
    refused(sign("alice", &good.replace("reason: ", "why: ")), "`reason` is missing, or out of order");
    let forged = sign("alice", &good);
    fs::write(&forged, waiver("alice", 1, 25)).expect("written");
    refused(forged.clone(), "the signature is forged, or the waiver was changed after it was signed");
    fs::write(format!("{forged}.sig"), "nonsense").expect("written");
    refused(forged, "this is not an SSH signature");
    refused("nowhere".into(), "cannot read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // One that is found beside the policy and does not count is told of, and counts for nothing.
    let old = sign("alice", &waiver("alice", 20, -1));
    fs::create_dir(at(&repository.tool, "waivers")).expect("made");
    for ending in ["", ".sig"] {
        let to = at(&repository.tool, &format!("waivers/old.waiver{ending}"));
        fs::rename(format!("{old}{ending}"), to).expect("moved");
    }
    let found = repository.on("validate", &[]).expect(65);
    assert!(
        found.stderr.contains("old.waiver: not used: the waiver of alice@example.com expired at"),
        "{found:?}"
    );
    // Where the policy lets no one waive, none counts.
    repository.policy(POLICY);
    let none = use_it(&sign("alice", &good)).expect(2);
    assert!(none.stderr.contains("lets no one waive a rule"), "{none:?}");
    fs::remove_file(at(&repository.tool, "policy.yaml")).expect("removed");
    let nothing = use_it(&sign("alice", &good)).expect(2);
    assert!(nothing.stderr.contains("there is no policy for this runbook"), "{nothing:?}");
}

/// A plan that was made under a waiver is not run when that has expired.
#[test]
fn a_waiver_is_looked_at_again_when_the_plan_is_run() {
    let repository = Repository::new(&format!("{POLICY}{WAIVERS}"));
    repository.waive("alice", &[]).expect(0);
    let plan = at(&repository.tool, "plan.json").display().to_string();
    repository.on("plan", &["-o", &plan]).expect(0);
    fs::remove_dir_all(at(&repository.tool, "waivers")).expect("removed");
    let text = fs::read_to_string(&plan).expect("the plan");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    let late = waiver("alice", 20, -1);
    let signature = repository.keys.sign("alice", NAMESPACE, &late);
    json["policy"]["waived"][0]["signed"] = serde_json::json!({ "statement": late, "signature": signature });
    fs::write(at(&repository.tool, "late.json"), json.to_string()).expect("written");
    let late = at(&repository.tool, "late.json").display().to_string();
    let refused = repository.tool.run(&["run", &late, "--yes"]).expect(65);
    assert!(refused.stderr.contains("the plan does not keep the policy: rule `max-ttl`"), "{refused:?}");
    // The waiver in the plan is enough while it holds.
    repository.tool.run(&["run", &plan, "--yes"]).expect(0);
}

#[test]
fn who_may_not_waive_signs_nothing() {
    let repository = Repository::new(&format!("{POLICY}{WAIVERS}"));
    let carol = repository.waive("carol", &[]).expect(1);
    assert!(carol.stderr.contains("carol@example.com may not waive rules of this policy"), "{carol:?}");
    let long = repository.waive("alice", &["--for", "31d"]).expect(2);
    assert!(long.stderr.contains("a waiver may hold for at most 30d"), "{long:?}");
    let eve = repository.waive("eve", &[]).expect(1);
    assert!(eve.stderr.contains("does not list the key"), "{eve:?}");
    let empty = repository.waive("alice", &["--reason", " "]);
    assert_eq!(empty.code, Some(2), "{empty:?}");
    repository.policy(POLICY);
    let none = repository.waive("alice", &[]).expect(2);
    assert!(none.stderr.contains("lets no one waive a rule"), "{none:?}");
    assert!(!at(&repository.tool, "waivers").exists());
}

/// A window that is open now in the runbook, and a freeze that holds today in the policy.
#[test]
fn windows_and_freezes_of_the_policy_hold_for_every_runbook() {
    let today = Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let last = today + 2.days();
    let freeze = format!("freezes: [{{first: {today}, last: {last}, zone: UTC, reason: year end}}]\n");
    let repository = Repository::new(&format!("{}{freeze}", POLICY.replace("12h", "24h")));
    let runbook = fs::read_to_string(&repository.runbook).expect("the runbook");
    let open = format!("windows: [{{from: 00:00, to: 24:00, zone: UTC}}]\n{runbook}");
    fs::write(&repository.runbook, open).expect("written");
    let plan = repository.on("plan", &[]).expect(0).stdout;
    assert!(plan.contains(&format!("not in the freeze {today} to {last} UTC (year end)")), "{plan}");
    let waits = repository.on("run", &["--yes", "--no-wait"]).expect(10);
    let opens = last.tomorrow().expect("a day");
    assert!(waits.stdout.contains(&format!("which opens at {opens}T00:00:00Z")), "{waits:?}");
    // The plan of the run knows them: what the policy says by now changes nothing.
    repository.policy(&POLICY.replace("12h", "24h"));
    repository.tool.run(&["resume", "--no-wait"]).expect(10);
    repository.tool.run(&["resume", "--now", "--reason", "INC-7"]).expect(0);
    // Windows of the policy and of the runbook: one of both must be open. These never are together.
    let closed = "windows: [{days: [mon], from: 00:00, to: 24:00, zone: UTC}]\n";
    repository.policy(&format!("{}{closed}", POLICY.replace("12h", "24h")));
    let tuesdays = format!("windows: [{{days: [tue], from: 00:00, to: 24:00, zone: UTC}}]\n{runbook}");
    fs::write(&repository.runbook, tuesdays).expect("written");
    let never = repository.on("run", &["--yes"]).expect(65);
    assert!(never.stderr.contains("no deployment window opens any more"), "{never:?}");
    // Who contains a leak waits for none of it.
    repository.on("run", &["--yes", "--strategy", "contain", "--no-wait"]).expect(0);
}

#[test]
fn a_scaffold_a_schema_and_the_policies_of_the_documents() {
    let tool = Tool::new();
    let path = at(&tool, "policy.yaml").display().to_string();
    tool.run(&["policy", "init", &path]).expect(0);
    tool.run(&["policy", "init", &path]).expect(2);
    let right = tool.run(&["policy", "check", &path]).expect(0);
    assert!(right.stderr.contains("no findings"), "{right:?}");
    let schema: Value =
        serde_json::from_str(&tool.run(&["policy", "schema"]).expect(0).stdout).expect("JSON");
    let valid = jsonschema::validator_for(&schema).expect("a schema");
    let text = fs::read_to_string(&path).expect("the policy");
    assert!(valid.is_valid(&serde_yaml::from_str(&text).expect("YAML")));
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let page = fs::read_to_string(page).expect("the page");
    let blocks: Vec<&str> =
        page.split("```yaml policy\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        fs::write(&path, block).expect("written");
        tool.run(&["policy", "check", &path]).expect(0);
    }
    let bad = tool
        .run(&["policy", "check", &tool.runbook("version: 1\n").display().to_string(), "--json"])
        .expect(65);
    assert_eq!(serde_json::from_str::<Value>(&bad.stdout).expect("JSON")[0]["code"], "missing-field");
    tool.run(&["policy", "check", "nowhere.yaml"]).expect(65);
}

/// Ways around the policy that a person tried.
#[test]
fn there_is_no_way_around_the_policy() {
    let repository = Repository::new(POLICY);
    // A plan that was made under a weaker one, and is run where the repository has its own.
    let (weak, plan) = (at(&repository.tool, "weak.yaml"), at(&repository.tool, "weak.plan"));
    fs::write(&weak, POLICY.replace("most: 12h", "most: 30d")).expect("written");
    let (weak, plan) = (weak.display().to_string(), plan.display().to_string());
    let made = ["plan", &repository.runbook, "--env", "sandbox", "--policy", &weak, "-o", &plan];
    for (command, code) in [(&made[..], 0), (&["run", &plan, "--yes"], 22)] {
        let mut command = repository.tool.command(command);
        let ran = command.current_dir(repository.tool.folder.path()).output().expect("it starts");
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
    }
    // A link to a runbook elsewhere, and a directory that only looks like a repository.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let real = elsewhere.path().join("real.yaml");
    fs::copy(&repository.runbook, &real).expect("copied");
    let link = at(&repository.tool, "runbooks/link.yaml");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    repository.tool.run(&["validate", &link.display().to_string()]).expect(65);
    let sub = at(&repository.tool, "runbooks/sub");
    fs::create_dir_all(sub.join(".git")).expect("made");
    fs::copy(&repository.runbook, sub.join("r.yaml")).expect("copied");
    repository.tool.run(&["validate", &sub.join("r.yaml").display().to_string()]).expect(65);
    // A policy that cannot be read is not none.
    let policy = at(&repository.tool, "policy.yaml");
    fs::remove_file(&policy).expect("removed");
    std::os::unix::fs::symlink("nowhere", &policy).expect("a link");
    assert_ne!(repository.on("validate", &[]).code, Some(0));
    fs::remove_file(&policy).and_then(|()| fs::create_dir(&policy)).expect("made");
    assert_ne!(repository.on("validate", &[]).code, Some(0));
}

/// Vault takes a policy's name in any case, and without the spaces around it.
#[test]
fn a_forbidden_name_is_forbidden_however_it_is_spelt() {
    let policy =
        POLICY.replace("rules:\n", "rules:\n  scopes: {forbidden: [root, demo-read], reason: INC-4}\n");
    let repository = Repository::new(&policy.replace("most: 12h", "most: 30d"));
    for name in ["demo-read", "DEMO-READ", "\" Demo-Read \""] {
        let text = fs::read_to_string(&repository.runbook).expect("read");
        let text = text.replace("policies: [demo-read]", &format!("policies: [{name}]"));
        let other = at(&repository.tool, "runbooks/other.yaml");
        fs::write(&other, text).expect("written");
        let refused = repository.tool.run(&["validate", &other.display().to_string()]).expect(65);
        assert!(refused.stderr.contains("is forbidden (rule `scopes`)"), "{name}: {}", refused.stderr);
    }
}

/// What a policy and a runbook need beside them is missed when they are checked, and not at night.
#[test]
fn a_missing_file_of_signers_and_a_rule_without_reason_are_found() {
    let tool = Tool::new();
    let policy = at(&tool, "policy.yaml");
    let missing = tool.run(&["policy", "check", policy.to_str().expect("a path")]).expect(65);
    assert!(missing.stderr.contains("stanch policy init FILE"), "{missing:?}");
    fs::write(&policy, [POLICY, WAIVERS].concat()).expect("written");
    let policy = policy.display().to_string();
    let checked = tool.run(&["policy", "check", &policy]).expect(0);
    assert!(checked.stderr.contains("warning[no-signers]"), "{checked:?}");
    fs::write(at(&tool, "allowed_signers"), "").expect("written");
    let checked = tool.run(&["policy", "check", &policy]).expect(0);
    assert!(checked.stderr.contains("no findings"), "{checked:?}");
    let empty = POLICY.replace("INC-3 was found after a day", "' '");
    fs::write(&policy, empty).expect("written");
    let refused = tool.run(&["policy", "check", &policy]).expect(65);
    assert!(refused.stderr.contains("error[no-reason]"), "{refused:?}");
    fs::remove_file(&policy).expect("removed");

    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    let text = fs::read_to_string(shipped).expect("the quickstart");
    let approvals = "approvals:
  signers: nowhere/signers
  roles: {security: [a@example.com, b@example.com]}
  phases: {revoke: {count: 1, from: [security], within: 4h}}
";
    let runbook = tool.runbook(&[&text, approvals].concat()).display().to_string();
    let validated = tool.run(&["validate", &runbook]).expect(0);
    assert_eq!(validated.stderr.matches("warning[no-signers]").count(), 1, "{validated:?}");
}
