//! Approvals and requests on the record, with real signatures.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use jiff::Timestamp;
use sha2::{Digest as _, Sha512};

use super::Run;
use crate::approve::{Approvals, Kind, Refused, Requirement, Signature, Signed, Statement};
use crate::domain::{Period, Phase, Strategy};
use crate::plan::Plan;
use crate::plan::tests::planned;
use crate::rotation::{End, Event, State, Stop};

/// A person with a key of SSH.
struct Person(&'static str, SigningKey);

/// A length and the bytes: a `string` of RFC 4251.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [&length[..], bytes].concat()
}

impl Person {
    fn new(name: &'static str) -> Self {
        let mut seed = [7; 32];
        seed[..name.len()].copy_from_slice(name.as_bytes());
        Self(name, SigningKey::from_bytes(&seed))
    }

    fn key(&self) -> Vec<u8> {
        [string(b"ssh-ed25519"), string(self.1.verifying_key().as_bytes())].concat()
    }

    /// A line of `allowed_signers`.
    fn line(&self) -> String {
        format!("{} ssh-ed25519 {}\n", self.0, BASE64_STANDARD.encode(self.key()))
    }

    /// As `ssh-keygen -Y sign` does: PROTOCOL.sshsig of OpenSSH.
    fn sign(&self, statement: &Statement) -> Signed {
        let (namespace, text) = (string(statement.kind.namespace().as_bytes()), statement.text());
        let (reserved, hash) = (string(b""), string(b"sha512"));
        let digest = string(&Sha512::digest(&text));
        let data = [b"SSHSIG", &namespace[..], &reserved, &hash, &digest].concat();
        let blob = [string(b"ssh-ed25519"), string(&self.1.sign(&data).to_bytes())].concat();
        let version = 1_u32.to_be_bytes();
        let whole =
            [b"SSHSIG", &version[..], &string(&self.key()), &namespace, &reserved, &hash, &string(&blob)];
        let armor = BASE64_STANDARD.encode(whole.concat());
        let signature = format!("-----BEGIN SSH SIGNATURE-----\n{armor}\n-----END SSH SIGNATURE-----\n");
        Signed { statement: text, signature }
    }
}

/// The people of these tests: who asks, and who approves.
fn people() -> (Person, Person) {
    (Person::new("ann"), Person::new("bob"))
}

/// A run that needs an approval for `sunset`.
fn run() -> Run {
    let (ann, bob) = people();
    let mut plan = planned("runbooks/quickstart.yaml", "sandbox", Strategy::Overlap);
    plan.approvals = Some(Approvals {
        signers: ann.line() + &bob.line(),
        required: vec![Requirement {
            phase: Phase::Sunset,
            count: 1,
            from: vec!["ann".into(), "bob".into()],
            roles: Vec::new(),
            within: "1h".parse::<Period>().expect("a period"),
            presence: false,
            pin: false,
        }],
        break_glass: false,
    });
    Run { state: State::new(Arc::new(plan), Timestamp::UNIX_EPOCH), ..Run::overlap() }
}

fn statement(plan: &Plan, kind: Kind, by: &str) -> Statement {
    let shown = [
        ("runbook", plan.runbook.name.clone()),
        ("environment", plan.environment.clone()),
        ("strategy", plan.strategy.name().into()),
    ];
    let irreversible = crate::plan::irreversible(plan).into_iter().map(|step| ("cannot be undone", step));
    Statement {
        kind,
        plan: plan.digest(),
        run: None,
        by: by.to_owned(),
        phases: if kind == Kind::Approval { vec![Phase::Sunset] } else { Vec::new() },
        shown: shown.into_iter().chain(irreversible).map(|(name, value)| (name.to_owned(), value)).collect(),
        reason: "it leaked".into(),
        ticket: None,
        expires: Timestamp::from_second(36_000).expect("a moment"),
    }
}

fn fingerprint(signed: &Signed) -> String {
    Signature::read(&signed.signature).expect("a signature").signer.fingerprint()
}

fn requested(run: &Run) -> Event {
    let ann = people().0;
    let signed = ann.sign(&statement(run.state.plan(), Kind::Request, ann.0));
    Event::Requested { by: ann.0.into(), key: fingerprint(&signed), signed }
}

fn approved(run: &Run) -> Event {
    let bob = people().1;
    let signed = bob.sign(&statement(run.state.plan(), Kind::Approval, bob.0));
    let phases = vec![Phase::Sunset];
    Event::Approved { by: bob.0.into(), key: fingerprint(&signed), phases, signed }
}

/// A run waits before the phase that nobody let begin, says which that is, and goes on once it is approved. What is over,
/// or goes back, waits for nothing.
#[test]
fn a_phase_begins_once_it_is_approved() {
    let begun = run();
    let begun = begun.wishing(|w| w.unattended = true).then(&requested(&run())).go();
    assert!(matches!(begun.state.stopped(), Some(Stop::Unapproved { .. })), "{}", begun.trace);
    assert_eq!(begun.state.phase(), Some(Phase::Overlap));
    assert_eq!(begun.state.unapproved(None), Some(Phase::Sunset));
    assert_eq!(begun.state.lacks(Phase::Sunset, None).len(), 1);
    assert!(begun.state.lacks(Phase::Revoke, None).is_empty());
    // No record can say that it began all the same.
    let entered = Event::Entered { phase: Phase::Sunset };
    assert!(begun.state.clone().apply(&entered, begun.now).is_err());
    let mut back = begun.state.clone();
    let turned = Event::Turned { to: None, why: String::new(), by_gate: false, from: back.undone_first() };
    back.apply(&turned, begun.now).expect("a way back");
    assert_eq!(back.unapproved(None), None);
    let mut given_up = begun.state.clone();
    given_up.apply(&Event::Closed { end: End::Abandoned }, begun.now).expect("an end");
    assert_eq!(given_up.unapproved(None), None);
    let done = begun.resume().then(&approved(&run())).go();
    assert_eq!(done.state.end(), Some(End::Done), "{}", done.trace);
}

/// What the record says of an approval is what was signed, word by word; and it is taken in once.
#[test]
fn an_approval_is_what_its_record_says() {
    let asked = run();
    let asked = asked.then(&requested(&run()));
    let now = asked.now;
    let takes = |event: &Event| asked.state.clone().apply(event, now).is_ok();
    assert!(takes(&approved(&asked)));
    assert!(!takes(&requested(&asked)), "it was asked for once");
    let Event::Approved { by, key, phases, signed } = approved(&asked) else { unreachable!() };
    for (by, key, phases) in [
        ("ann".to_owned(), key.clone(), phases.clone()),
        (by.clone(), "SHA256:other".into(), phases),
        (by, key, vec![Phase::Sunset, Phase::Revoke]),
    ] {
        let event = Event::Approved { by, key, phases, signed: signed.clone() };
        assert!(!takes(&event), "{event:?}");
    }
    // Who asked cannot ask as another one.
    let Event::Requested { key, signed, .. } = requested(&asked) else { unreachable!() };
    for (by, key) in [("bob".to_owned(), key), ("ann".into(), "SHA256:other".into())] {
        let event = Event::Requested { by, key, signed: signed.clone() };
        assert!(run().state.apply(&event, now).is_err(), "{event:?}");
    }
    let late = run().go();
    assert!(
        late.state.clone().apply(&requested(&late), late.now).is_err(),
        "it comes before the first phase"
    );
}

/// A statement shows what the plan does: each line of it, and the steps that cannot be undone while it is fresh.
#[test]
fn a_statement_shows_what_the_plan_does() {
    let asked = run();
    let asked = asked.then(&requested(&run()));
    let bob = people().1;
    let right = statement(asked.state.plan(), Kind::Approval, "bob");
    let admit = |statement: &Statement, at| asked.state.admit(&bob.sign(statement), None, at);
    assert!(admit(&right, Some(asked.now)).is_ok());
    for name in ["runbook", "environment", "strategy", "cannot be undone"] {
        for other in [Some("another"), None] {
            let mut wrong = right.clone();
            wrong.shown.retain(|(shown, _)| shown != name);
            wrong.shown.extend(other.map(|other| (name.to_owned(), other.to_owned())));
            let refused = admit(&wrong, Some(asked.now));
            assert!(matches!(&refused, Err(Refused::Misleads { name: n, .. }) if n == name), "{refused:?}");
            // On the record already, the words for steps may be those of another version.
            assert_eq!(admit(&wrong, None).is_ok(), name == "cannot be undone", "{name}");
        }
    }
    // Another plan's statement is refused as that.
    let other = Statement { plan: "0".repeat(64), shown: Vec::new(), ..right };
    assert!(matches!(admit(&other, None), Err(Refused::OtherPlan { .. })));
}
