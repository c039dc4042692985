//! `stanch audit show`: the record, one line an event.

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print};
use crate::journal::Record;
use crate::output;
use crate::rotation::{Event, State};

pub(super) fn main(context: &Context, global: &Global, run: &str) -> Result<Exit, CliError> {
    let mut state: Option<State> = None;
    let report = context.state.audit(run, |record| {
        let Record { envelope, event } = record;
        if global.json {
            if let Ok(text) = serde_json::to_string(&json!({ "seq": envelope.seq, "at": envelope.wall, "actor": envelope.actor, "host": envelope.host, "event": event })) {
                print(&text);
            }
            return;
        }
        let who = format!("{:>5} {:.0} {}@{}", envelope.seq, envelope.wall, envelope.actor, envelope.host);
        match (&mut state, event) {
            (none, Event::Opened { plan, reason }) => {
                let reason = reason.map(|r| format!(": {r}")).unwrap_or_default();
                print(&format!("{who} opened with plan {}{reason}", &envelope.plan[..12]));
                *none = Some(State::new(std::sync::Arc::from(plan), envelope.wall));
            }
            (Some(state), event) => {
                let _ = state.apply(&event, envelope.wall);
                let words = output::line(&event, state).unwrap_or_else(|| quiet(&event));
                print(&format!("{who} {words}"));
            }
            (None, _) => {}
        }
    })?;
    match report.fault {
        None => Ok(Exit::Done),
        Some(fault) => {
            Err(CliError::new(Exit::JournalInvalid, format!("the record is not good from here on: {fault}")))
        }
    }
}

/// The events that the displays leave out.
fn quiet(event: &Event) -> String {
    match event {
        Event::Intent { step, op, attempt, .. } => {
            format!("intent: {op:?} {step}, try {attempt}").to_lowercase()
        }
        Event::Checkpoint { .. } => "checkpoint".into(),
        Event::Heartbeat {} => "still waiting".into(),
        _ => String::new(),
    }
}
