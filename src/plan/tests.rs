//! Approved plans, and what a plan refuses.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::domain::{ADOPTED, Life, Standing};
use crate::runbook::model::Store;
use crate::runbook::{Source, check};

/// The runbooks whose plans are approved, each with an environment of its own.
const RUNBOOKS: [(&str, &str); 24] = [
    ("runbooks/quickstart.yaml", "sandbox"),
    ("runbooks/payments-api-key.yaml", "staging"),
    ("runbooks/iam-access-key-in-secrets-manager.yaml", "production"),
    ("runbooks/iam-access-key-in-parameter-store.yaml", "production"),
    ("runbooks/random-secret-in-file.yaml", "production"),
    ("runbooks/random-secret-in-pass-through.yaml", "production"),
    ("runbooks/vault-token-in-kv2.yaml", "production"),
    ("runbooks/approle-secret-id-in-kv2.yaml", "production"),
    ("runbooks/vault-userpass-in-kv2.yaml", "production"),
    ("runbooks/vault-pki-in-kv2.yaml", "production"),
    ("runbooks/vault-database-in-kv2.yaml", "production"),
    ("runbooks/postgres-role-in-kv2.yaml", "production"),
    ("runbooks/mysql-user-in-kv2.yaml", "production"),
    ("runbooks/jwt-signing-key-in-jwks.yaml", "production"),
    ("runbooks/redis-acl-user-in-kv2.yaml", "production"),
    ("runbooks/ssh-key-in-authorized-keys.yaml", "production"),
    ("runbooks/token-api-in-kv2.yaml", "production"),
    ("runbooks/token-api-in-kubernetes-secret.yaml", "production"),
    ("runbooks/token-api-in-gitlab-ci-variable.yaml", "production"),
    ("runbooks/token-api-in-github-actions-secret.yaml", "production"),
    ("runbooks/vault-dev-server.yaml", "dev"),
    ("runbooks/aws-dev-server.yaml", "dev"),
    ("runbooks/postgres-dev-server.yaml", "dev"),
    ("tests/plans/every-kind.yaml", "test"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str, environment: &str) -> Runbook {
    let source = Source::read(&root().join(path)).expect("a file");
    let checked = check(&source);
    let template = checked.runbook.unwrap_or_else(|| panic!("{path}: {:?}", checked.findings));
    template.instantiate(environment).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Where nobody says what `overlap` waits for, it waits for the consumers that can say what they use.
#[test]
fn overlap_waits_for_adoption_where_it_can_be_seen() {
    let mut runbook = read("runbooks/quickstart.yaml", "sandbox");
    if let Some(overlap) = &mut runbook.phases.overlap {
        overlap.until = None;
    }
    assert_eq!(compile::waits(Phase::Overlap, &runbook).until, [ADOPTED]);
    assert!(compile::waits(Phase::Cutover, &runbook).until.is_empty());
    for consumer in runbook.credentials.values_mut().flat_map(|c| &mut c.consumers) {
        consumer.attest = None;
    }
    assert!(compile::waits(Phase::Overlap, &runbook).until.is_empty());
}

/// What the adapters would say of themselves and of targets in order.
pub(crate) fn observe(runbook: &Runbook) -> Observed {
    let observed = |credential: &Credential| ObservedCredential {
        issuer: credential.issuer.traits(),
        outgoing: Outgoing::Known(standing()),
        existing: vec![],
        shares: None,
        stores: credential.stores.iter().map(observed_store).collect(),
        disagree: vec![],
    };
    Observed {
        credentials: runbook.credentials.values().map(observed).collect(),
        checks: vec![],
        signers: None,
    }
}

fn standing() -> Standing {
    let identity = Identity { handle: "old".into(), principal: "somebody".into() };
    Standing { identity, life: Life::Active, uses_left: None }
}

fn observed_store(store: &Store) -> ObservedStore {
    let versions = Versions { current: Some("7".into()), previous: None, pending: None };
    ObservedStore { traits: store.traits(), versions, place: store.target() }
}

fn request() -> Request {
    Request {
        environment: "test".into(),
        sandbox: false,
        runbook_sha256: "0".repeat(64),
        tool: "stanch 0".into(),
        directory: None,
    }
}

pub(crate) fn planned(path: &str, environment: &str, strategy: Strategy) -> Plan {
    let runbook = Runbook { strategy, ..read(path, environment) };
    let observed = observe(&runbook);
    compile(runbook, &request(), observed).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn every_kind(strategy: Strategy) -> Plan {
    planned("tests/plans/every-kind.yaml", "test", strategy)
}

/// The plan as a person reads it, and below that each step with what it waits for.
fn written(plan: &Plan) -> String {
    // The digest covers the order of fields in the runbook's model, too: it has a test of its own.
    let mut text = preview(plan).replace(&plan.digest()[..12], "DIGEST");
    let phase = |at: usize| plan.steps[at].id.clone();
    for waits in &plan.phases {
        let _ = writeln!(text, "\n{waits:?}");
        for step in plan.steps.iter().filter(|s| s.phase == waits.phase) {
            let names = |steps: &[usize]| steps.iter().map(|s| phase(*s)).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "{}", step.id);
            let class = step.class.map_or("a look".to_owned(), |c| format!("{c:?}"));
            let _ = writeln!(text, "  {class}{}", if step.irreversible { ", for good" } else { "" });
            if !step.after.is_empty() {
                let _ = writeln!(text, "  after {}", names(&step.after));
            }
            if let Some(undo) = &step.undo {
                let after = if undo.after.is_empty() {
                    String::new()
                } else {
                    format!(" after {}", names(&undo.after))
                };
                let _ = writeln!(text, "  undone{after}");
            }
        }
    }
    let _ = writeln!(text, "\nholds {:#?}", plan.holds());
    text
}

/// Plans are a function of runbook and observations: whoever changes the function reads here what
/// else changed. `STANCH_APPROVE=1 cargo test --lib` writes the files anew.
#[test]
fn plans_are_as_they_were_approved() {
    let mut differing = Vec::new();
    for (path, environment) in RUNBOOKS {
        for strategy in [Strategy::Overlap, Strategy::Contain] {
            let plan = planned(path, environment, strategy);
            let stem = Path::new(path).file_stem().expect("a name").to_string_lossy();
            let name = format!("tests/plans/{stem}-{}.txt", strategy.name());
            let text = written(&plan);
            let file = root().join(&name);
            if std::env::var_os("STANCH_APPROVE").is_some() {
                #[expect(clippy::disallowed_methods, reason = "approved by hand")]
                std::fs::write(&file, &text).expect("write");
            }
            if std::fs::read_to_string(&file).unwrap_or_default() != text {
                differing.push(name);
            }
        }
    }
    assert_eq!(
        differing,
        Vec::<String>::new(),
        "STANCH_APPROVE=1 writes them anew: then look at the difference"
    );
}

/// Steps of every kind, with every field: a new one out of order would make another digest.
#[test]
fn the_digest_is_that_of_the_canonical_json() {
    let actions = [
        Action::Connection { connection: "a\u{7f}\"\\\u{1}é😀\u{ff21}".into() },
        Action::Permission { credential: 1 },
        Action::Capture { credential: 0, store: 1 },
        Action::Issue { credential: 0 },
        Action::Inspect { credential: 0 },
        Action::Stage { credential: 0, store: 1 },
        Action::Accept { credential: 0, probe: None },
        Action::Promote { credential: 0, store: 1 },
        Action::Reload { consumer: 3, credential: 2 },
        Action::Disable { credential: 0 },
        Action::Revoke { credential: 0 },
        Action::Destroy { credential: 0, store: 1_000_000 },
        Action::Reject { credential: 0, probe: Some(1) },
        Action::Own { name: "own".into() },
    ];
    let steps = actions.into_iter().map(|action| Step {
        action,
        after: vec![1, 20],
        class: Some(crate::domain::Observation::Token),
        id: "verify/é/\u{2028}".into(),
        irreversible: true,
        phase: Phase::Verify,
        undo: Some(Undo { after: vec![0] }),
    });
    let runbook: Runbook = serde_json::from_value(serde_json::json!({
        "version": 1,
        "name": "digest",
        "environments": { "\u{10000}": {}, "\u{ff21}": { "b": "1", "a": "2" } },
        "credentials": {},
        "gates": { "errors": { "sandbox": { "at_most": 0.000_000_1 } } },
    }))
    .expect("runbook");
    let plan = Plan {
        format: FORMAT,
        tool: "test".into(),
        environment: "e".into(),
        sandbox: true,
        strategy: Strategy::Overlap,
        runbook_sha256: "0".into(),
        runbook,
        credentials: vec![],
        phases: vec![],
        steps: steps.collect(),
        checks: vec![Check::pass("a", "b")],
        unchecked: vec!["nothing".into()],
        approvals: None,
        directory: Some("/somewhere".into()),
        policy: Some(Governed {
            revision: 3,
            file: "/somewhere/policy.yaml".into(),
            sha256: "1".into(),
            windows: vec![],
            freezes: vec![],
            waived: vec![],
        }),
        drill: Some("practice".into()),
    };
    let canonical = serde_json_canonicalizer::to_vec(&plan).expect("JSON");
    assert_eq!(plan.digest(), hex::encode(Sha256::digest(canonical)));
}

fn refusal(value: &Value) -> String {
    match Plan::from_json(&value.to_string()) {
        Ok(_) => "it is taken".into(),
        Err(error) => error.to_string(),
    }
}

/// A plan as JSON.
fn saved(strategy: Strategy) -> Value {
    serde_json::to_value(every_kind(strategy)).expect("JSON")
}

#[test]
fn a_saved_plan_is_the_same_plan() {
    for strategy in [Strategy::Overlap, Strategy::Contain] {
        let plan = every_kind(strategy);
        let again = Plan::from_json(&saved(strategy).to_string()).expect("a plan");
        assert_eq!(again.digest(), plan.digest());
        assert_eq!(again.validate(), Ok(()));
    }
}

#[test]
fn a_plan_that_a_hand_changed_is_refused() {
    let good = saved(Strategy::Overlap);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut plan = good.clone();
        change(&mut plan);
        refusal(&plan)
    };
    /// What is changed, how, and what is said of it.
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let cases: [Case<'_>; 18] = [
        ("nothing", &|_| (), "it is taken"),
        ("the format", &|p| p["format"] = json!(FORMAT + 1), "has format 3"),
        ("an unknown field", &|p| p["x"] = json!(1), "unknown field"),
        (
            "a step less",
            &|p| drop(p["steps"].as_array_mut().expect("steps").pop()),
            "its steps do not follow",
        ),
        (
            "a step twice",
            &|p| {
                let steps = p["steps"].as_array_mut().expect("steps");
                steps.push(steps[0].clone());
            },
            "its steps do not follow",
        ),
        (
            "an order",
            &|p| {
                let mut steps = p["steps"].as_array_mut().expect("list").iter_mut();
                let waits =
                    steps.find(|step| step["after"].as_array().is_some_and(|after| !after.is_empty()));
                waits.expect("a step that waits")["after"] = json!([]);
            },
            "its steps do not follow",
        ),
        ("the strategy", &|p| p["strategy"] = json!("contain"), "its phases do not follow"),
        ("a wait", &|p| p["phases"][5]["at_least"] = json!("0s"), "its phases do not follow"),
        (
            "both strategies",
            &|p| {
                p["strategy"] = json!("contain");
                p["runbook"]["strategy"] = json!("contain");
            },
            "its phases do not follow",
        ),
        (
            "a credential less",
            &|p| drop(p["credentials"].as_array_mut().expect("list").pop()),
            "its credentials are not",
        ),
        (
            "a credential twice",
            &|p| {
                let list = p["credentials"].as_array_mut().expect("list");
                list.push(list[0].clone());
            },
            "its credentials are not",
        ),
        (
            "another credential's name",
            &|p| p["credentials"][0]["name"] = json!("nobody"),
            "its credentials are not",
        ),
        (
            "a store less",
            &|p| drop(p["credentials"][0]["stores"].as_array_mut().expect("list").pop()),
            "a different number of stores",
        ),
        (
            "a reason not to revoke what it revokes",
            &|p| p["credentials"][0]["waived"] = json!("it is dead, they say"),
            "says why there is nothing to revoke",
        ),
        (
            "the runbook's name",
            &|p| p["runbook"]["name"] = json!("../../evil"),
            "its runbook is not valid: `../../evil` is not in the required form",
        ),
        ("a limit", &|p| p["runbook"]["limits"]["concurrency"] = json!(0), "its runbook is not valid"),
        (
            "every credential",
            &|p| {
                p["credentials"] = json!([]);
                p["runbook"]["credentials"] = json!({});
            },
            "its runbook is not valid",
        ),
        (
            "a gate less",
            &|p| drop(p["runbook"]["gates"].as_object_mut().expect("map").remove("errors")),
            "it does not have the gate `errors`",
        ),
    ];
    for (what, change, words) in cases {
        let said = changed(change);
        assert!(said.contains(words), "{what} was changed: {said}");
    }
    assert!(Plan::from_json("[]").is_err() && Plan::from_json("").is_err());
}

/// A plan comes out of a journal without a comparison with what this version would compile; it must
/// still lead nowhere that is not there.
#[test]
fn a_plan_whose_indexes_lead_nowhere_is_not_whole() {
    let plan = every_kind(Strategy::Overlap);
    let end = plan.steps.len();
    let spoil = |at: usize, spoil: &dyn Fn(&mut Step)| {
        let mut plan = plan.clone();
        spoil(&mut plan.steps[at]);
        plan.validate()
    };
    assert_eq!(spoil(0, &|_| ()), Ok(()));
    for (at, step) in plan.steps.iter().enumerate() {
        assert!(spoil(at, &|s| s.after = (0..at).collect()).is_ok());
        assert!(spoil(at, &|s| s.after = vec![end]).is_err());
        assert!(spoil(at, &|s| s.after = vec![end + 1]).is_err());
        assert!(spoil(at, &|s| s.undo = Some(Undo { after: vec![end] })).is_err());
        let other = if at == 0 { 1 } else { 0 };
        assert!(spoil(at, &|s| s.id.clone_from(&plan.steps[other].id)).is_err(), "two of one name");
        // Every index of the action, one behind its end.
        let credentials = plan.credentials.len();
        for (index, last) in indexes(&plan, &step.action) {
            for (value, good) in [(last, true), (last + 1, false)] {
                let mut action = serde_json::to_value(&step.action).expect("JSON");
                let fields =
                    action.as_object_mut().expect("an action").values_mut().next().expect("its fields");
                fields[index] = json!(value);
                let action: Action = serde_json::from_value(action).expect("an action");
                assert_eq!(
                    spoil(at, &|s| s.action = action.clone()).is_ok(),
                    good,
                    "{} {index} {value}",
                    step.id
                );
            }
        }
        if let Some(credential) = step.action.credential() {
            assert!(credential < credentials);
        }
    }
    for action in [Action::Connection { connection: "no".into() }, Action::Own { name: "no".into() }] {
        assert!(spoil(0, &|s| s.action = action.clone()).is_err());
    }
    let mut fewer = plan.clone();
    fewer.credentials.pop();
    assert!(fewer.validate().is_err());
}

/// Steps that wait for each other would stop a run for ever, in the middle of it.
#[test]
fn a_plan_whose_steps_wait_for_ever_is_not_whole() {
    let plan = every_kind(Strategy::Overlap);
    let end = plan.steps.len();
    let undo = |after: &[usize]| Some(Undo { after: after.to_vec() });
    for (at, step) in plan.steps.iter().enumerate() {
        let spoil = |spoil: &dyn Fn(&mut Vec<Step>)| {
            let mut plan = plan.clone();
            spoil(&mut plan.steps);
            plan.validate()
        };
        let id = &step.id;
        let refused = Err(format!("its step `{id}` can never be done or undone"));
        assert_eq!(spoil(&|s| s[at].after = vec![at]), refused, "behind itself");
        assert_eq!(spoil(&|s| s[at].after = vec![end - 1]), refused, "behind the last one");
        // Those that are taken back behind it would wait as well.
        assert!(spoil(&|s| s[at].undo = undo(&[at])).is_err(), "`{id}` taken back behind itself");
        let first = plan.steps.iter().position(|s| s.phase == step.phase).expect("itself at least");
        if first > 0 {
            let earlier = spoil(&|s| s[at].undo = undo(&[first - 1]));
            assert_eq!(earlier, refused, "taken back behind an earlier phase");
        }
        if first < at {
            let both = spoil(&|s| (s[first].undo, s[at].undo) = (undo(&[at]), undo(&[first])));
            assert!(both.is_err(), "`{id}` and the first of its phase taken back behind each other");
            let one = spoil(&|s| (s[first].undo, s[at].undo) = (undo(&[at]), undo(&[])));
            assert_eq!(one, Ok(()), "the first of its phase taken back behind `{id}`");
        }
        if plan.steps.get(at + 1).is_some_and(|next| next.phase != Phase::Proof) {
            assert!(spoil(&|s| s[at].phase = Phase::Proof).is_err(), "`{id}` in a later phase than the next");
        }
    }
    let mut contain = every_kind(Strategy::Contain);
    assert_eq!(contain.validate(), Ok(()));
    contain.steps[0].phase = Phase::Overlap;
    assert!(contain.validate().is_err(), "a phase that the strategy does not have");
}

/// The indexes of an action that are bounded by its credential, with the last good value of each.
fn indexes(plan: &Plan, action: &Action) -> Vec<(&'static str, usize)> {
    let of = |credential: usize| plan.credential(credential).1;
    match action {
        Action::Connection { .. } | Action::Own { .. } => vec![],
        Action::Permission { .. }
        | Action::Issue { .. }
        | Action::Inspect { .. }
        | Action::Disable { .. }
        | Action::Sweep { .. }
        | Action::Baseline { probe: None, .. }
        | Action::Revoke { .. } => vec![("credential", plan.credentials.len() - 1)],
        Action::Capture { credential, .. }
        | Action::Stage { credential, .. }
        | Action::Promote { credential, .. }
        | Action::Destroy { credential, .. } => vec![("store", of(*credential).stores.len() - 1)],
        Action::Reload { credential, .. } => vec![("consumer", of(*credential).consumers.len() - 1)],
        Action::Accept { probe: None, .. } | Action::Reject { probe: None, .. } => {
            vec![("credential", plan.credentials.len() - 1)]
        }
        Action::Accept { credential, .. } | Action::Baseline { credential, rejects: false, .. } => {
            vec![("probe", of(*credential).accepts.len() - 1)]
        }
        Action::Reject { credential, .. } | Action::Baseline { credential, rejects: true, .. } => {
            vec![("probe", step::rejects(of(*credential)).len() - 1)]
        }
    }
}

#[test]
fn what_makes_no_sense_is_not_compiled() {
    let runbook = read("tests/plans/every-kind.yaml", "test");
    let with = |change: &dyn Fn(&mut Observed)| {
        let mut observed = observe(&runbook);
        change(&mut observed);
        compile(runbook.clone(), &request(), observed)
    };
    assert!(with(&|_| ()).is_ok());
    let empty = with(&|o| o.credentials[0].stores[3].versions.current = None).expect_err("nothing there");
    assert!(
        matches!(&empty, CompileError::Empty { credential, store }
        if credential == "api-key" && store == "file /etc/api/env#API_KEY"),
        "{empty}"
    );
    let disagree = with(&|o| o.credentials[0].disagree = vec![1, 2]).expect_err("two values");
    assert!(
        matches!(&disagree, CompileError::Disagree { first, second, .. }
        if first == "kv2 secret/api#key" && second == "kv2 secret/api-copy"),
        "{disagree}"
    );
    let alone = with(&|o| o.credentials[1].issuer.coexists = false).expect_err("no overlap");
    assert!(matches!(&alone, CompileError::NoOverlap { credential } if credential == "bot-token"));
    for (error, words) in
        [(&empty, "check the path"), (&disagree, "find out which"), (&alone, "`strategy: contain`")]
    {
        assert!(error.hint().contains(words), "{}", error.hint());
    }
    // Under contain there is no overlap to ask for.
    let contained = Runbook { strategy: Strategy::Contain, ..runbook.clone() };
    let mut observed = observe(&contained);
    observed.credentials[1].issuer.coexists = false;
    assert!(compile(contained, &request(), observed).is_ok());
}

/// Nothing is done to a credential that is not there, and nothing is proved of one that nobody can kill.
#[test]
fn a_plan_has_no_step_for_what_cannot_be() {
    let runbook = read("runbooks/quickstart.yaml", "sandbox");
    let has = |change: &dyn Fn(&mut ObservedCredential), id: &str| {
        let mut observed = observe(&runbook);
        change(&mut observed.credentials[0]);
        let plan = compile(runbook.clone(), &request(), observed).expect("a plan");
        plan.steps.iter().any(|step| step.id == id)
    };
    for id in ["sunset/demo-key/disable", "revoke/demo-key/revoke"] {
        assert!(has(&|_| (), id) && !has(&|c| c.outgoing = Outgoing::Waived("dead".into()), id), "{id}");
    }
    let kills = |disables, revokes| {
        move |c: &mut ObservedCredential| {
            (c.issuer.tries, c.issuer.disables, c.issuer.revokes) = (true, disables, revokes);
        }
    };
    assert!(has(&kills(true, false), "proof/demo-key/reject/issuer"));
    assert!(has(&kills(false, true), "proof/demo-key/reject/issuer"));
    assert!(!has(&kills(false, false), "proof/demo-key/reject/issuer"));
    assert!(has(&kills(false, false), "verify/demo-key/accept/issuer"));
}

#[test]
fn what_nobody_checks_is_named() {
    let runbook = read("tests/plans/every-kind.yaml", "test");
    let said = |change: &dyn Fn(&mut Observed)| {
        let mut observed = observe(&runbook);
        change(&mut observed);
        compile(runbook.clone(), &request(), observed).expect("a plan").unchecked.join("\n")
    };
    let usual = said(&|_| ());
    let dead = "its consumers must stop accepting it";
    for words in [
        "api-key: consumer `told` has no `attest`",
        "api-key: consumer `silent` has no `attest`",
        "exporter: the runbook names no consumers",
        "exporter: sessions created",
        "exporter: `scope.policies` is not set",
        "shared: stanch cannot tell its issuer",
        "shared: no check uses the old value",
    ] {
        assert!(usual.contains(words), "{words}\nin\n{usual}");
    }
    for words in [
        "bot: consumer `bot`",
        "bot-token: stanch cannot tell its issuer",
        "bot-token: no check",
        "exporter: no check",
    ] {
        assert!(!usual.contains(words), "{words}\nin\n{usual}");
    }
    let outgoing = |outgoing: Outgoing| said(&|o| o.credentials[0].outgoing = outgoing.clone());
    let disabled = Outgoing::Known(Standing { life: Life::Disabled, ..standing() });
    assert!(outgoing(disabled).contains("api-key: the old credential old is already disabled"));
    let few = Outgoing::Known(Standing { uses_left: Some(3), ..standing() });
    assert!(outgoing(few).contains("has 3 uses left"));
    assert!(outgoing(Outgoing::Named(standing())).contains("api-key: you named old"));
    assert!(
        outgoing(Outgoing::Waived("it died".into())).contains("api-key: stanch revokes nothing (it died)")
    );
    let api_key = |disables, revokes| {
        said(&|o| (o.credentials[0].issuer.disables, o.credentials[0].issuer.revokes) = (disables, revokes))
            .contains(&format!("api-key: stanch cannot tell its issuer to refuse the old value; {dead}"))
    };
    assert!(api_key(false, false) && !api_key(true, false) && !api_key(false, true));
    let warned = said(&|o| {
        o.checks = vec![Check::pass("fine", "this"), Check::warn("odd", "that")];
    });
    assert!(warned.contains("odd: that") && !warned.contains("fine"), "{warned}");
}

#[test]
fn a_preview_shows_what_would_be_refused_and_bounds_long_lists() {
    let mut plan = every_kind(Strategy::Overlap);
    assert!(!preview(&plan).contains("would refuse") && !preview(&plan).contains("sandbox:"));
    plan.sandbox = true;
    plan.checks = vec![
        Check::fail("account", crate::domain::ErrorKind::Invalid, "it is another", "look again"),
        Check::pass("region", "it is right"),
    ];
    plan.unchecked = (0..24).map(|n| format!("gap {n}")).collect();
    let shown = preview(&plan);
    for words in [
        "stanch would refuse this run:",
        "✗ account: it is another",
        "    look again",
        "gap 23",
        "sandbox replaces every connection",
    ] {
        assert!(shown.contains(words), "{words}\nin\n{shown}");
    }
    assert!(!shown.contains("region") && !shown.contains("  - …"), "{shown}");
    plan.unchecked.push("gap 24".into());
    assert!(preview(&plan).contains("  - … and 1 more\n") && !preview(&plan).contains("gap 24"));
    plan.unchecked.clear();
    assert!(!preview(&plan).contains("Not checked"));
    // Twelve steps of a phase are shown one by one.
    let preflight: Vec<Step> = plan.steps.iter().filter(|s| s.phase == Phase::Preflight).cloned().collect();
    plan.phases.retain(|p| p.phase == Phase::Preflight);
    plan.steps = preflight.iter().cycle().take(12).cloned().collect();
    assert!(!preview(&plan).contains('…'), "{}", preview(&plan));
    plan.steps.push(preflight[0].clone());
    assert!(preview(&plan).contains("  … and 1 more\n"), "{}", preview(&plan));
}

#[test]
fn nothing_in_a_plan_steers_the_terminal() {
    let mut plan = every_kind(Strategy::Overlap);
    plan.runbook.summary = Some("\u{1b}[2J\u{7}over\u{9b}31m".into());
    plan.unchecked = vec!["\u{1b}]0;title".into()];
    let shown = preview(&plan);
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(shown.contains("over"));
}

#[test]
fn the_phases_have_their_names_and_their_order() {
    for &phase in Phase::ALL {
        assert_eq!(phase.name().parse::<Phase>().expect("its name"), phase);
        assert_eq!(json!(phase), json!(phase.to_string()));
        assert_eq!(format!("{phase:>12}").len(), 12);
    }
    assert!("nowhere".parse::<Phase>().is_err());
    let plan = every_kind(Strategy::Contain);
    let walked: Vec<Phase> =
        std::iter::successors(Some(Phase::Preflight), |phase| plan.after(*phase)).collect();
    assert_eq!(walked, Phase::order(Strategy::Contain));
    assert_eq!(plan.phase(Phase::Overlap).map(|p| p.phase), None);
    assert_eq!(plan.phase(Phase::Proof).map(|p| p.times), Some(2));
}

#[test]
fn the_point_of_no_return_is_the_first_step_for_good() {
    let first =
        |strategy| every_kind(strategy).point_of_no_return().map(|s| s.id.clone()).expect("there is one");
    assert_eq!(first(Strategy::Overlap), "revoke/api-key/revoke");
    assert_eq!(first(Strategy::Contain), "sunset/api-key/revoke");
    let mut plan = every_kind(Strategy::Overlap);
    plan.steps.retain(|s| !s.irreversible);
    assert!(plan.point_of_no_return().is_none());
}

#[test]
fn a_phase_waits_for_time_or_for_gates() {
    let waits = |at_least: u64, until: &[&str]| {
        let (at_least, until) = (Period::seconds(at_least), until.iter().map(|g| (*g).to_owned()).collect());
        let rest = (Period::seconds(9), 1, Period::seconds(1));
        PlannedPhase { phase: Phase::Overlap, at_least, at_most: rest.0, until, times: rest.1, every: rest.2 }
            .waits()
    };
    assert!(waits(1, &[]) && waits(0, &["errors"]) && waits(1, &["errors"]) && !waits(0, &[]));
}

/// A chain of credentials as long as the file allows is a matter of memory, not of the stack.
#[test]
fn a_long_chain_of_credentials_is_compiled() {
    const LINKS: usize = 4_000;
    let link = |n: usize| {
        let after: Vec<String> = (n < LINKS - 1).then(|| format!("c{:05}", n + 1)).into_iter().collect();
        let store = json!({ "type": "file", "path": format!("/{n}"), "format": "text" });
        (format!("c{n:05}"), json!({ "issuer": { "type": "random" }, "stores": [store], "after": after }))
    };
    let credentials: serde_json::Map<String, Value> = (0..LINKS).map(link).collect();
    let runbook = json!({ "version": 1, "name": "chain", "environments": {}, "credentials": credentials });
    let runbook: Runbook = serde_json::from_value(runbook).expect("a runbook");
    let observed = observe(&runbook);
    let plan = std::thread::Builder::new()
        .stack_size(1 << 18)
        .spawn(move || compile(runbook, &request(), observed).expect("a plan"))
        .expect("a thread")
        .join()
        .expect("no overflow");
    let first = plan.steps.iter().find(|s| s.phase == Phase::Prepare).expect("a step");
    assert_eq!(first.id, format!("prepare/c{:05}/issue", LINKS - 1), "the last link comes first");
}

/// A credential that no store holds, and what its issuer said of the old one.
fn without_stores(issuer: IssuerTraits, outgoing: Outgoing) -> Plan {
    let mut runbook = read("runbooks/quickstart.yaml", "sandbox");
    runbook.credentials.values_mut().for_each(|credential| credential.stores.clear());
    let name = runbook.credentials.keys().next().expect("one").clone();
    let step = json!({ "name": "deliver", "exec": ["deliver"], "credential": name, "undo": "none" });
    runbook.phases.cutover = serde_json::from_value(json!({ "before": [step] })).expect("a phase");
    let mut observed = observe(&runbook);
    for seen in &mut observed.credentials {
        (seen.issuer, seen.outgoing) = (issuer, outgoing.clone());
    }
    compile(runbook, &request(), observed).expect("a plan")
}

#[test]
fn without_stores_only_the_issuers_word_proves_the_old_one_dead() {
    let told = IssuerTraits { disables: true, ..IssuerTraits::MINTING };
    let plan = without_stores(told, Outgoing::Named(standing()));
    let asks = |plan: &Plan| {
        let asked = plan.steps.iter().filter(|step| step.phase == Phase::Proof);
        asked.map(|step| step.id.rsplit('/').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(asks(&plan), ["issuer", "sweep"]);
    assert!(!plan.steps.iter().any(|step| {
        matches!(step.action, Action::Baseline { .. } | Action::Capture { .. } | Action::Promote { .. })
    }));
    assert!(preview(&plan).contains("only its issuer can say that it is dead"), "{}", preview(&plan));
    // Two runs must not have it at once, though they write in no common place.
    let held: Vec<String> = plan.holds().into_keys().collect();
    assert_eq!(held, [format!("credential {}", standing().identity.handle)]);
    let again = Plan::from_json(&serde_json::to_string(&plan).expect("JSON")).expect("the same plan");
    assert_eq!(again.digest(), plan.digest());
    // Where it cannot be asked, or there is nothing to revoke, nothing is asked in the end.
    let untold = IssuerTraits { revokes: false, ..told };
    let plan = without_stores(untold, Outgoing::Named(standing()));
    assert_eq!(asks(&plan), ["sweep"]);
    assert!(preview(&plan).contains("can only end as CLOSED, NOT PROVED"), "{}", preview(&plan));
    assert_eq!(asks(&without_stores(told, Outgoing::Waived("it never was".into()))), ["sweep"]);
}
