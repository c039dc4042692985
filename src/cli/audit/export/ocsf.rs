//! Events of the Open Cybersecurity Schema Framework, version 1.3.0.
//!
//! The class is *Entity Management* (3004) of *Identity & Access Management*: the entity is the
//! credential, and its activities are those that rotation consists of: create, update, disable, enable,
//! delete. *Account Change* (3001) would need a user account in every event, which a generated value, a
//! token or a version in a store does not have, and *API Activity* (6003) says which call was made and not
//! what it means.
//!
//! Each outcome of an effect is one event, and so is each finding on an outcome that was unknown. Steps
//! that only look change nothing and are left out.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::audit::words;
use crate::journal::{Envelope, Record};
use crate::plan::{Action, Plan, Step};
use crate::rotation::{Ended, Event, Failure, Found, Op, State, Status};
use crate::text::printable;

/// The version of the schema.
const SCHEMA: &str = "1.3.0";
const CLASS: u32 = 3004;
const CATEGORY: u32 = 3;

/// An activity of the class: its id and its name.
type Activity = (u32, &'static str);
const CREATE: Activity = (1, "Create");
const UPDATE: Activity = (3, "Update");
const DELETE: Activity = (4, "Delete");
const ENABLE: Activity = (8, "Enable");
const DISABLE: Activity = (9, "Disable");
/// For what the class has no word for: the id says *other*, the name says what.
const RELOAD: Activity = (99, "Reload");
const OWN: Activity = (99, "Own step");

/// How it ended: the status, the severity, and what the source calls it.
struct Ending<'a> {
    status: (u32, &'static str),
    severity: (u32, &'static str),
    code: &'static str,
    detail: Option<&'a str>,
}

const SUCCESS: (u32, &str) = (1, "Success");
const FAILURE: (u32, &str) = (2, "Failure");
const UNKNOWN: (u32, &str) = (0, "Unknown");
const INFORMATIONAL: (u32, &str) = (1, "Informational");
const LOW: (u32, &str) = (2, "Low");
const MEDIUM: (u32, &str) = (3, "Medium");

/// Writes a record's event, where it has one. `state` is that before the record.
pub(super) fn event(out: &mut impl Write, record: &Record, state: Option<&State>) -> std::io::Result<()> {
    let Some(event) = state.and_then(|state| of(record, state)) else { return Ok(()) };
    serde_json::to_writer(&mut *out, &event)?;
    out.write_all(b"\n")
}

fn of(record: &Record, state: &State) -> Option<Value> {
    let (envelope, event) = (&record.envelope, &record.event);
    let at = state.step(event.step()?)?;
    let step = &state.plan().steps[at];
    let ending = ending(event)?;
    if !step.is_effect() {
        return None;
    }
    let (op, attempt) = match event {
        Event::Outcome { op, attempt, .. } | Event::Settled { op, attempt, .. } => (*op, *attempt),
        _ => match state.status(at) {
            Status::Unknown { op, attempt, .. } => (*op, *attempt),
            _ => return None,
        },
    };
    let activity = activity(&step.action, op);
    let error = match event {
        Event::Outcome { error, .. } => error.as_ref(),
        _ => None,
    };
    let message: String = words(event, state).chars().map(printable).collect();
    let mut value = json!({
        "activity_id": activity.0,
        "activity_name": activity.1,
        "category_uid": CATEGORY,
        "category_name": "Identity & Access Management",
        "class_uid": CLASS,
        "class_name": "Entity Management",
        "type_uid": CLASS * 100 + activity.0,
        "type_name": format!("Entity Management: {}", activity.1),
        "time": envelope.wall.as_millisecond(),
        "severity_id": ending.severity.0,
        "severity": ending.severity.1,
        "status_id": ending.status.0,
        "status": ending.status.1,
        "status_code": ending.code,
        "message": message,
        "metadata": metadata(envelope, event),
        "actor": { "user": { "name": envelope.actor }, "app_name": "stanch" },
        "src_endpoint": { "hostname": envelope.host },
        "entity": entity(state, step, op, event),
        "unmapped": unmapped(envelope, state.plan(), step, op, attempt, error),
    });
    if let Some(detail) = ending.detail {
        value["status_detail"] = json!(detail);
    }
    if let Event::Outcome { latency_ms, .. } = event {
        value["duration"] = json!(latency_ms);
    }
    if let Event::Resolved { evidence, .. } = event {
        value["comment"] = json!(evidence);
    }
    Some(value)
}

fn ending(event: &Event) -> Option<Ending<'_>> {
    let of = |status, severity, code, detail| Some(Ending { status, severity, code, detail });
    match event {
        Event::Outcome { result, error, .. } => {
            let detail = error.as_ref().map(|e| e.message.as_str());
            match result {
                Ended::Succeeded => of(SUCCESS, INFORMATIONAL, "succeeded", detail),
                Ended::Rejected => of(FAILURE, LOW, "rejected", detail),
                Ended::Unknown => of(UNKNOWN, MEDIUM, "unknown", detail),
            }
        }
        Event::Settled { found, detail, .. } => match found {
            Found::Applied => of(SUCCESS, INFORMATIONAL, "settled: applied", Some(detail)),
            Found::Absent => of(FAILURE, LOW, "settled: absent", Some(detail)),
            Found::Orphans(_) => of(FAILURE, MEDIUM, "settled: orphans", Some(detail)),
            Found::Repeatable => of(UNKNOWN, LOW, "settled: repeatable", Some(detail)),
            Found::Undecided => of(UNKNOWN, MEDIUM, "settled: undecided", Some(detail)),
        },
        Event::Resolved { applied: true, evidence, .. } => {
            of(SUCCESS, INFORMATIONAL, "resolved: applied", Some(evidence))
        }
        Event::Resolved { applied: false, evidence, .. } => {
            of(FAILURE, LOW, "resolved: not applied", Some(evidence))
        }
        _ => None,
    }
}

fn activity(action: &Action, op: Op) -> Activity {
    match (action, op) {
        (Action::Issue { .. }, Op::Do) => CREATE,
        (Action::Issue { .. } | Action::Revoke { .. } | Action::Destroy { .. }, _) => DELETE,
        (Action::Disable { .. }, Op::Undo) => ENABLE,
        (Action::Disable { .. }, _) => DISABLE,
        (Action::Reload { .. }, _) => RELOAD,
        (Action::Own { .. }, _) => OWN,
        // The versions of a store; the others only look.
        _ => UPDATE,
    }
}

/// What was changed: the credential, or what the runbook's own step is called.
fn entity(state: &State, step: &Step, op: Op, event: &Event) -> Value {
    let plan = state.plan();
    let Some(c) = step.action.credential() else {
        let Action::Own { name } = &step.action else { return json!({ "name": step.id }) };
        return json!({ "name": name, "type_id": 99, "type": "Own step" });
    };
    let planned = &plan.credentials[c];
    let outgoing =
        matches!(step.action, Action::Disable { .. } | Action::Revoke { .. } | Action::Destroy { .. })
            || matches!((&step.action, op), (Action::Promote { .. } | Action::Reload { .. }, Op::Undo));
    let facts = match event {
        Event::Outcome { facts, .. } | Event::Settled { facts, .. } => Some(facts),
        _ => None,
    };
    let fact = |name: &str| facts.and_then(|f| f.get(name)).map(String::as_str);
    let handle = if outgoing {
        planned.outgoing.as_ref().map(|o| o.handle.as_str())
    } else {
        let issue = |s: &Step| matches!(s.action, Action::Issue { credential } if credential == c);
        let issued = plan.steps.iter().position(issue).and_then(|at| state.fact(at, "handle"));
        fact("handle").or(issued)
    };
    let mut entity = json!({
        "name": planned.name,
        "type_id": 99,
        "type": "Credential",
        "data": { "which": if outgoing { "outgoing" } else { "incoming" }, "target": crate::plan::describe(plan, step) },
    });
    if let Some(handle) = handle {
        entity["uid"] = json!(handle);
    }
    if let Some(version) = fact("version") {
        entity["version"] = json!(version);
    }
    entity
}

fn metadata(envelope: &Envelope, event: &Event) -> Value {
    json!({
        "version": SCHEMA,
        "product": { "name": "stanch", "vendor_name": "stanch", "version": env!("CARGO_PKG_VERSION") },
        "log_name": "journal",
        "log_version": envelope.v.to_string(),
        "event_code": event.name(),
        "uid": format!("{}/{}", envelope.run, envelope.seq),
        "correlation_uid": envelope.run,
        "sequence": envelope.seq,
        "original_time": envelope.wall,
    })
}

/// What the class has no attribute for.
fn unmapped(
    envelope: &Envelope,
    plan: &Plan,
    step: &Step,
    op: Op,
    attempt: u32,
    error: Option<&Failure>,
) -> Value {
    json!({
        "run": envelope.run,
        "plan": envelope.plan,
        "runbook": plan.runbook.name,
        "environment": plan.environment,
        "phase": step.phase,
        "step": step.id,
        "op": op,
        "attempt": attempt,
        "error_kind": error.map(|e| e.kind),
        "request_id": error.and_then(|e| e.request_id.as_deref()),
    })
}
