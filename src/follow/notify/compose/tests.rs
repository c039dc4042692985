//! What is said when, and what customers never read.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use strum::IntoEnumIterator as _;

use super::*;
use crate::domain::Strategy as Order;
use crate::follow::notify::templates::Templates;
use crate::plan::tests::planned;
use crate::runbook::notify::{Channel, FileSink, Via};

fn configured(audience: Audience, language: &str, own: Option<&Path>) -> Configured {
    Configured {
        name: "channel".into(),
        channel: Channel {
            audience,
            via: Via::File(FileSink { path: "x".into() }),
            on: Vec::new(),
            language: None,
            drills: false,
            service: Some("Payments".into()),
        },
        base: ".".into(),
        templates: Arc::new(Templates::load(language, own).expect("templates")),
    }
}

fn record(seq: u64, actor: &str, event: Event) -> Record {
    let wall = "2026-11-27T10:00:00Z".parse().expect("a time");
    let wall = crate::clock::add(wall, Duration::from_secs(seq));
    let envelope = Envelope {
        v: 2,
        run: "run-1".into(),
        seq,
        prev: "0".repeat(64),
        wall,
        mono_ms: 0,
        actor: actor.to_owned(),
        host: format!("{actor}-host"),
        plan: "0".repeat(64),
    };
    Record { envelope, event }
}

fn opened(plan: Plan, reason: &str) -> Event {
    Event::Opened { plan: Box::new(plan), reason: Some(reason.to_owned()) }
}

fn kinds(events: Vec<Event>) -> Vec<MessageKind> {
    let mut composer = Composer::default();
    let take = |(seq, event): (usize, Event)| {
        composer
            .take(record(seq as u64, "ann", event), &|_, _| true)
            .expect("a record")
            .map(|moment| moment.kind)
    };
    events.into_iter().enumerate().filter_map(take).collect()
}

fn plan() -> Plan {
    planned("tests/plans/every-kind.yaml", "test", Order::Overlap)
}

#[test]
fn what_is_said_follows_from_the_record() {
    let stop = |reason| Event::Stopped { reason };
    let after = |event| kinds(vec![opened(plan(), "x"), event]);
    assert_eq!(after(Event::Heartbeat {}), [MessageKind::Opened]);
    let mut sandbox = plan();
    sandbox.sandbox = true;
    assert_eq!(kinds(vec![opened(sandbox, "x")]), [MessageKind::Drill]);
    let halted = Event::Halted { by: "ann".into(), reason: "wait".into() };
    assert_eq!(after(halted)[1..], [MessageKind::Halted]);
    for (reason, said) in [
        (Stop::Unanswered { step: "x".into() }, Some(MessageKind::ApprovalWanted)),
        (Stop::Stuck { step: "x".into() }, Some(MessageKind::Stuck)),
        (Stop::Unknown { steps: vec!["x".into()] }, Some(MessageKind::Stuck)),
        (Stop::Interrupted, None),
        (Stop::Until { phase: Phase::Cutover }, None),
    ] {
        assert_eq!(after(stop(reason)).get(1), said.as_ref());
    }
}

/// The same records give the same messages: one that a crash took is made again as it was.
#[test]
fn the_same_records_give_the_same_messages() {
    let said = || {
        let mut composer = Composer::default();
        let moment = composer.take(record(0, "ann", opened(plan(), "why")), &|_, _| true).expect("a record");
        let moment = moment.expect("a moment");
        Audience::iter()
            .map(|to| moment.message(&configured(to, "en", None)).expect("fine"))
            .collect::<Vec<_>>()
    };
    assert_eq!(said(), said());
    let technicians = said()[0].clone().expect("a message");
    assert!(technicians.text.contains("why") && technicians.text.contains("ann@ann-host"), "{technicians:?}");
}

/// Every string in a plan that can be another one, but for those that other parts of the plan refer to.
fn places(plan: &serde_json::Value) -> Vec<String> {
    fn walk(value: &serde_json::Value, at: String, into: &mut Vec<String>) {
        match value {
            serde_json::Value::String(_) => into.push(at),
            serde_json::Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| walk(item, format!("{at}/{i}"), into));
            }
            serde_json::Value::Object(fields) => fields.iter().for_each(|(key, inner)| {
                walk(inner, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), into);
            }),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for part in ["runbook", "environment"] {
        walk(&plan[part], format!("/{part}"), &mut found);
    }
    for c in 0..plan["credentials"].as_array().map_or(0, Vec::len) {
        found.push(format!("/credentials/{c}/outgoing/handle"));
        let stores = plan["credentials"][c]["stores"].as_array().map_or(0, Vec::len);
        found.extend((0..stores).map(|s| format!("/credentials/{c}/stores/{s}/place")));
    }
    found.retain(|place| {
        let mut changed = plan.clone();
        let Some(value) = changed.pointer_mut(place) else { return false };
        *value = "planted-name".into();
        serde_json::from_value::<Plan>(changed).is_ok()
    });
    found
}

/// Names as they are inside: of hosts, paths, persons, credentials.
fn internal_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{3,8}[0-9]{2}(\\.[a-z]{3,8}){1,2}",
        "/[a-z]{3,8}(/[a-z]{3,8}){1,3}",
        "[a-z]{4,9}\\.[a-z]{4,9}@[a-z]{4,9}\\.com",
        "[a-z]{4,9}-[a-z]{4,9}-(key|token)",
        "AKIA[A-Z0-9]{16}",
        "[A-Z][a-z]{7,11}q[a-z]{2,5}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    /// A thousand names are planted in every place of the plan and the record. No message to customers has one, in
    /// no language, for no kind, and in no form that a channel sends.
    #[test]
    fn customers_read_no_internal_name(names in proptest::collection::btree_set(internal_name(), 1000..1001)) {
        let names: Vec<String> = names.into_iter().collect();
        let mut json = serde_json::to_value(plan()).expect("JSON");
        let places = places(&json);
        prop_assert!(places.len() > 80, "{}", places.len());
        for (place, name) in places.iter().zip(&names) {
            *json.pointer_mut(place).expect("a place") = name.as_str().into();
        }
        let planted: Plan = serde_json::from_value(json).expect("a plan");
        // The rest are people, machines and reasons.
        let rest = &names[places.len().min(names.len())..];
        let mut composer = Composer::default();
        let event = opened(planted, &names.join(" "));
        let mut moment = composer.take(record(0, &names[0], event), &|_, _| true).expect("a record").expect("a moment");
        for (seq, name) in rest.iter().enumerate() {
            let event = Event::Noted { text: name.clone() };
            composer.take(record(1 + seq as u64, name, event), &|_, _| true).expect("a record");
        }
        moment.people.extend(composer.people.clone());
        moment.why = names.join(" ");
        // A language of the operator's own that tries: its literal name is found when the message is made.
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("fr")).expect("made");
        let word = names.iter().find(|name| templates::internal(name).is_empty() && !name.starts_with("AKIA")).expect("a plain name");
        let own = format!("== opened\n{{{{ service }}}}: {word}\nx\n== cutover\n{{{{ service }}}}\ndepuis {{{{ began }}}}\n");
        std::fs::write(folder.path().join("fr/customers.txt"), own).expect("written");
        let mut made = 0;
        for language in ["en", "de", "fr"] {
            let to = configured(Audience::Customers, language, Some(folder.path()));
            for kind in MessageKind::iter() {
                moment.kind = kind;
                let message = match moment.message(&to) {
                    Ok(Some(message)) => message,
                    Ok(None) => continue,
                    Err(withheld) => {
                        prop_assert_eq!((language, kind), ("fr", MessageKind::Opened));
                        prop_assert!(matches!(withheld, Withheld::Names(name) if name == *word));
                        continue;
                    }
                };
                made += 1;
                let sent = [message.title.clone(), message.text.clone(), message.to_json().to_string()];
                let sent = sent.into_iter().chain(crate::follow::notify::channel::every_body(&message));
                for text in sent {
                    for name in &names {
                        prop_assert!(!text.contains(name.as_str()), "{name} in {text}");
                    }
                    prop_assert!(!text.contains("run-1"), "{text}");
                }
            }
        }
        prop_assert!(made >= 13, "{made}");
        let unknown: BTreeSet<&String> = names.iter().collect();
        prop_assert_eq!(unknown.len(), 1000);
    }
}
